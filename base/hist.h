/* A latency histogram: log-linear buckets from 1 microsecond to 71 minutes, fixed size, mergeable.
 *
 * Values below 32 have a bucket each; above, every power of two is cut into 32 equal buckets, so a
 * bucket is at most 1/32 of its value wide and its middle at most 1.6 % off. Values of 2^32 us and
 * more count in the last bucket.
 *
 * One thread writes with relaxed loads and stores (no locked instruction); any number of readers,
 * other processes included, look on. A reader may miss the newest values and nothing worse. */
#ifndef CLOCKWISE_BASE_HIST_H
#define CLOCKWISE_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB_BITS 5
#define HIST_SUB      (1u << HIST_SUB_BITS)
#define HIST_BUCKETS  (HIST_SUB * (32 - HIST_SUB_BITS + 1))

/* All zero bytes is an empty histogram. */
struct hist {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_us;
    _Atomic uint64_t max_us;
    uint64_t zero[5];
    _Atomic uint64_t buckets[HIST_BUCKETS];
};

static inline uint32_t hist_bucket(uint64_t us)
{
    if (us < HIST_SUB)
        return (uint32_t)us;
    if (us >> 32)
        return HIST_BUCKETS - 1;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(us) - HIST_SUB_BITS;
    return HIST_SUB * (shift + 1) + (uint32_t)(us >> shift) - HIST_SUB;
}

static inline void hist_bump(_Atomic uint64_t *p, uint64_t n)
{
    atomic_store_explicit(p, atomic_load_explicit(p, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Count one value. */
static inline void hist_add(struct hist *h, uint64_t us)
{
    hist_bump(&h->buckets[hist_bucket(us)], 1);
    hist_bump(&h->count, 1);
    hist_bump(&h->sum_us, us);
    if (us > atomic_load_explicit(&h->max_us, memory_order_relaxed))
        atomic_store_explicit(&h->max_us, us, memory_order_relaxed);
}

/* Add everything in from to into. Only the writer of into may call it. */
void hist_merge(struct hist *into, const struct hist *from);

/* into becomes what has been added to newer since older was copied from it (max_us: of newer). */
void hist_difference(struct hist *into, const struct hist *newer, const struct hist *older);

/* The value that `share` of all values (0.0 to 1.0) are not above: the middle of its bucket, never
 * above the largest value seen; 0 for an empty histogram. */
uint64_t hist_percentile_us(const struct hist *h, double share);

/* The mean, 0 for an empty histogram. */
uint64_t hist_mean_us(const struct hist *h);

/* Smallest value of a bucket, for people who want to print the whole thing. */
uint64_t hist_bucket_low_us(uint32_t bucket);

#endif
