/* Merkle leaves of a vnode. See merkle_leaf.h. Pure. */
#include "store/merkle_leaf.h"

#include "base/check.h"
#include "base/hash.h"

static uint64_t high_bits(const struct position *pos)
{
    uint64_t high = 0;

    for (int i = 0; i < 8; i++)
        high = high << 8 | pos->b[i];
    return high;
}

uint64_t merkle_leaf_mix(const struct position *pos, uint64_t digest)
{
    return hash64_seed(pos->b, sizeof pos->b, digest);
}

uint32_t merkle_leaf_index(const struct position *pos, unsigned q_bits, unsigned leaf_bits)
{
    ASSERT(leaf_bits > 0 && q_bits + leaf_bits <= 64);
    return (uint32_t)(high_bits(pos) << q_bits >> (64 - leaf_bits));
}

unsigned merkle_leaf_bits(uint64_t keys, unsigned now)
{
    if (keys <= (uint64_t)MERKLE_LEAF_KEYS * 2 << now)
        return now;
    while (now < MERKLE_LEAF_BITS_MAX && keys > (uint64_t)MERKLE_LEAF_KEYS << now)
        now++;
    return now;
}

uint64_t merkle_leaf_check(uint32_t index, uint64_t hash)
{
    return hash64_seed(&hash, sizeof hash, index + 1);
}

struct position merkle_leaf_start(uint32_t partition, unsigned q_bits, uint32_t index,
                                  unsigned leaf_bits)
{
    struct position pos = {{0}};
    uint64_t high = (uint64_t)index << (64 - leaf_bits) >> q_bits;

    if (q_bits > 0)
        high |= (uint64_t)partition << (64 - q_bits);
    for (int i = 0; i < 8; i++)
        pos.b[i] = (uint8_t)(high >> (56 - 8 * i));
    return pos;
}
