/* Hashes. xxhash.h is included here alone, so that one build of it serves everyone. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"

uint64_t hash64(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

uint64_t hash64_seed(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

struct hash128 hash128(const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits(data, len);

    return (struct hash128){.high = h.high64, .low = h.low64};
}

/* Four bits at a time: 16 table entries for polynomial 0x1021. */
static const uint16_t crc16_nibble[16] = {
    0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
    0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
};

uint16_t hash_crc16(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint16_t crc = 0;

    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc << 4) ^ crc16_nibble[(crc >> 12) ^ (p[i] >> 4)];
        crc = (uint16_t)(crc << 4) ^ crc16_nibble[(crc >> 12) ^ (p[i] & 15)];
    }
    return crc;
}
