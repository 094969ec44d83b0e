/* Random numbers: from the kernel for identities, from a seed for everything that must replay. */
#ifndef CLOCKWISE_BASE_RAND_H
#define CLOCKWISE_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

/* Fill buf with len bytes from the kernel. Aborts if the kernel has none to give. */
void rand_bytes(void *buf, size_t len);

/* A non-zero 64-bit number from the kernel: vnode ids, incarnations. */
uint64_t rand_id(void);

/* A small, fast, seedable generator (xoshiro256**, Blackman and Vigna 2018). Pure: core may use it.
 * The caller owns the state. */
struct rand {
    uint64_t s[4];
};
void rand_seed(struct rand *r, uint64_t seed);
uint64_t rand_next(struct rand *r);
/* Uniform in [0, bound); bound must not be 0. */
uint64_t rand_below(struct rand *r, uint64_t bound);
/* True with probability per_million / 1,000,000. */
int rand_chance(struct rand *r, uint32_t per_million);

#endif
