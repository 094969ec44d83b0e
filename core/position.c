/* Where a key lies on the ring. */
#include "core/position.h"

#include "base/hash.h"
#include "core/limits.h"

uint16_t position_slot_of_key(struct slice key)
{
    const uint8_t *open = key.len == 0 ? NULL : memchr(key.data, '{', key.len);

    if (open != NULL) {
        const uint8_t *tag = open + 1;
        const uint8_t *close = memchr(tag, '}', (size_t)(key.data + key.len - tag));

        if (close != NULL && close > tag)
            return hash_crc16(tag, (size_t)(close - tag)) % LIMIT_SLOTS;
    }
    return hash_crc16(key.data, key.len) % LIMIT_SLOTS;
}

struct position position_of(struct slice key)
{
    struct hash128 h = hash128(key.data, key.len);
    uint64_t high = ((uint64_t)position_slot_of_key(key) << 50) | (h.high & ((1ull << 50) - 1));
    struct position p;

    for (int i = 0; i < 8; i++) {
        p.b[i] = (uint8_t)(high >> (56 - 8 * i));
        p.b[8 + i] = (uint8_t)(h.low >> (56 - 8 * i));
    }
    return p;
}
