/* Counters: declared once in counter.def, kept in shared memory by the one process that writes them,
 * summed by whoever reads. A block describes itself, so that a dump tool of another build can print
 * it.
 *
 *   offset size field         who changes it; why a stale read is harmless
 *   0      8    magic         the writer at creation; constant
 *   8      4    count         the writer at creation; constant (values and descriptions)
 *   12     4    desc_at       the writer at creation; constant (offset of the descriptions from here)
 *   16     4    desc_bytes    the writer at creation; constant (bytes of one description)
 *   20     44   (zero)
 *   64     8    values[0]...  the writer, relaxed, at any time; an old value was right a moment ago
 *   ...    96   descs[0]...   the writer at creation; constant: name[40], unit[16], owner[16],
 *                             kind[16] as text with final zeros, zero[8]
 *
 * One thread of one process writes; a store does not need to be a locked instruction then. */
#ifndef CLOCKWISE_SHM_COUNTER_H
#define CLOCKWISE_SHM_COUNTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum counter {
#define X(name, owner, kind, unit, description) CTR_##name,
#include "shm/counter.def"
#undef X
    COUNTER_COUNT
};

#define COUNTER_MAGIC 0x315254435743ull /* "CWCTR1", little-endian */

struct counter_desc {
    char name[40];
    char unit[16];
    char owner[16];
    char kind[16];
    uint64_t zero;
};

struct counter_block {
    uint64_t magic;
    uint32_t count;
    uint32_t desc_at;
    uint32_t desc_bytes;
    uint32_t zero[11];
    _Atomic uint64_t values[COUNTER_COUNT];
    struct counter_desc descs[COUNTER_COUNT];
};

/* Writer: fill in the descriptions; the block must be zero before. */
void counter_init(struct counter_block *b);

/* Writer. */
static inline void counter_add(struct counter_block *b, enum counter c, uint64_t n)
{
    uint64_t old = atomic_load_explicit(&b->values[c], memory_order_relaxed);
    atomic_store_explicit(&b->values[c], old + n, memory_order_relaxed);
}

/* Writer: for gauges, and for counters kept elsewhere. */
static inline void counter_set(struct counter_block *b, enum counter c, uint64_t n)
{
    atomic_store_explicit(&b->values[c], n, memory_order_relaxed);
}

/* Writer: a gauge goes down. */
static inline void counter_sub(struct counter_block *b, enum counter c, uint64_t n)
{
    counter_add(b, c, 0 - n);
}

/* Anybody. */
static inline uint64_t counter_get(const struct counter_block *b, enum counter c)
{
    return atomic_load_explicit(&b->values[c], memory_order_relaxed);
}

/* Static texts of a counter of this build; never NULL. */
const char *counter_name(enum counter c);
const char *counter_unit(enum counter c);
const char *counter_owner(enum counter c); /* "WORKER", ... */
const char *counter_description(enum counter c);
bool counter_is_gauge(enum counter c);

/* Add one process's values to sums (COUNTER_COUNT entries): counters and gauges are added, gauges
 * whose unit begins with "max" take the maximum. */
void counter_sum(const struct counter_block *b, uint64_t *sums);

/* Hash of all names, for the fingerprint of the segments that contain a block. */
uint64_t counter_fingerprint(void);

/* Check that `space` bytes hold a sound block of any build (tools). NULL if so, else the reason. */
const char *counter_check(const struct counter_block *b, size_t space);

/* Value i and description i of a checked block of any build (tools). */
uint64_t counter_value_at(const struct counter_block *b, uint32_t i);
const struct counter_desc *counter_desc_at(const struct counter_block *b, uint32_t i);

#endif
