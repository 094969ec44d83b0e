/* Merkle leaves of a vnode: what one object contributes and which leaf covers a position. A leaf is
 * the sum modulo 2^64 of its objects' contributions, so that replacing an object is one subtraction
 * and one addition, in any order. Pure. */
#ifndef CLOCKWISE_STORE_MERKLE_LEAF_H
#define CLOCKWISE_STORE_MERKLE_LEAF_H

#include "core/position.h"

#define MERKLE_LEAF_BITS_MIN 6
#define MERKLE_LEAF_BITS_MAX 20
#define MERKLE_LEAF_KEYS     100 /* keys of a leaf after a split; splits happen at twice as many */

/* The contribution of an object with this digest (object_digest) at this position. Never the same
 * for two versions of a key except by chance of 2^-64. */
uint64_t merkle_leaf_mix(const struct position *pos, uint64_t digest);

/* The leaf that covers a position: the leaf_bits bits below the top q_bits. */
uint32_t merkle_leaf_index(const struct position *pos, unsigned q_bits, unsigned leaf_bits);

/* Leaf bits for so many keys, given what they are now: only ever more. */
unsigned merkle_leaf_bits(uint64_t keys, unsigned now);

/* The number that guards a stored leaf against flipped bits. */
uint64_t merkle_leaf_check(uint32_t index, uint64_t hash);

/* First position of a leaf of a partition. */
struct position merkle_leaf_start(uint32_t partition, unsigned q_bits, uint32_t index,
                                  unsigned leaf_bits);

#endif
