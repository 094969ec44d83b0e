/* Where a key lies on the ring. Pure.
 *
 * A position is 128 bits, stored big-endian so that memcmp() order is ring order:
 *
 *   bits 127..114  the Redis Cluster slot of the key: CRC16(hash tag) mod 16384
 *   bits 113..0    the low 114 bits of XXH3-128 of the whole key
 *
 * A partition is the top log2(Q) bits, so a slot lies in exactly one partition for every Q up to
 * 16384. Source: design of the ring; slots and hash tags: Redis Cluster specification. */
#ifndef CLOCKWISE_CORE_POSITION_H
#define CLOCKWISE_CORE_POSITION_H

#include "base/slice.h"

#define POSITION_BYTES 16

struct position {
    uint8_t b[POSITION_BYTES];
};

struct position position_of(struct slice key);

/* The slot of a key: only the part between the first '{' and the next '}' counts if not empty. */
uint16_t position_slot_of_key(struct slice key);

static inline uint16_t position_slot(const struct position *p)
{
    return (uint16_t)((p->b[0] << 6) | (p->b[1] >> 2));
}

/* The partition of a position among Q = 1 << q_bits; q_bits is 0 to 14. */
static inline uint32_t position_partition(const struct position *p, unsigned q_bits)
{
    return (uint32_t)position_slot(p) >> (14 - q_bits);
}

static inline int position_compare(const struct position *a, const struct position *b)
{
    return memcmp(a->b, b->b, POSITION_BYTES);
}

#endif
