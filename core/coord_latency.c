/* How fast replicas answer, as far as hedging wants to know. Runs in workers and in the
 * simulator. */
#include "core/coord_impl.h"

#define FRESH  64   /* values after which the percentile is computed anew */
#define ENOUGH 4096 /* values after which the old ones count half */

static uint32_t bucket_of(uint64_t us)
{
    if (us < 4)
        return (uint32_t)us;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(us);
    uint32_t b = (top - 1) * 4 + (uint32_t)(us >> (top - 2) & 3);

    return b < LATENCY_BUCKETS ? b : LATENCY_BUCKETS - 1;
}

/* One past the largest value of a bucket. */
static uint64_t bucket_end(uint32_t b)
{
    if (b < 4)
        return b + 1;
    return (uint64_t)(4 + (b & 3) + 1) << (b / 4 - 1);
}

static void refresh(struct latency *l)
{
    uint32_t above = l->total / 100, seen = 0, b = LATENCY_BUCKETS;

    while (b > 0 && seen + l->bucket[b - 1] <= above)
        seen += l->bucket[--b];
    l->p99_us = b > 0 ? bucket_end(b - 1) : 0;
    l->fresh = 0;
    if (l->total < ENOUGH)
        return;
    l->total = 0;
    for (b = 0; b < LATENCY_BUCKETS; b++)
        l->total += l->bucket[b] /= 2;
}

void latency_add(struct latency *l, uint64_t us)
{
    l->bucket[bucket_of(us)]++;
    l->total++;
    if (++l->fresh >= FRESH)
        refresh(l);
}
