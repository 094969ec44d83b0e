/* Latency histograms: merging and percentiles. Used by every process. */
#include "base/hist.h"

#include "base/check.h"

static uint64_t get(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static void set(_Atomic uint64_t *p, uint64_t n)
{
    atomic_store_explicit(p, n, memory_order_relaxed);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    hist_bump(&into->count, get(&from->count));
    hist_bump(&into->sum_us, get(&from->sum_us));
    if (get(&from->max_us) > get(&into->max_us))
        set(&into->max_us, get(&from->max_us));
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        hist_bump(&into->buckets[i], get(&from->buckets[i]));
}

void hist_difference(struct hist *into, const struct hist *newer, const struct hist *older)
{
    set(&into->count, get(&newer->count) - get(&older->count));
    set(&into->sum_us, get(&newer->sum_us) - get(&older->sum_us));
    set(&into->max_us, get(&newer->max_us));
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        set(&into->buckets[i], get(&newer->buckets[i]) - get(&older->buckets[i]));
}

uint64_t hist_bucket_low_us(uint32_t bucket)
{
    ASSERT(bucket < HIST_BUCKETS);
    if (bucket < HIST_SUB)
        return bucket;
    uint32_t shift = bucket / HIST_SUB - 1;
    return (uint64_t)(HIST_SUB + bucket % HIST_SUB) << shift;
}

/* The middle of a bucket, as the one value that stands for all in it. */
static uint64_t middle(uint32_t bucket)
{
    uint64_t width = bucket < HIST_SUB ? 1 : 1ull << (bucket / HIST_SUB - 1);

    return hist_bucket_low_us(bucket) + width / 2;
}

uint64_t hist_percentile_us(const struct hist *h, double share)
{
    uint64_t total = 0, below = 0, max = get(&h->max_us);

    ASSERT(share >= 0.0 && share <= 1.0);
    /* The buckets are summed up here because `count` may be from another moment than they are. */
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        total += get(&h->buckets[i]);
    if (total == 0)
        return 0;
    double exact = share * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        below += get(&h->buckets[i]);
        if (below >= rank)
            return i == HIST_BUCKETS - 1 || middle(i) > max ? max : middle(i);
    }
    return max;
}

uint64_t hist_mean_us(const struct hist *h)
{
    uint64_t count = get(&h->count);

    return count == 0 ? 0 : get(&h->sum_us) / count;
}
