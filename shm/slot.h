/* Publication of a value by one writer to any number of readers, without locks: two slots.
 *
 *   offset size field                 who changes it; why a stale read is harmless
 *   0      8    current               the writer, with release, after the slot is complete: the
 *                                     generation of the newest value, 0 before the first. A stale
 *                                     one names the value before, which is whole as well
 *   8      56   (zero)                keeps `current` on a cache line of its own
 *   64     64   slot 0: u64 generation, u64 length, u64 checksum, zero
 *   128    64   slot 1: likewise
 *   192    cap  bytes of slot 0       cap is the capacity rounded up to 64
 *   192+cap cap bytes of slot 1
 *
 * Generation g lives in slot g & 1. The writer fills the idle slot and then stores `current`, so a
 * writer that dies anywhere in between leaves the newest complete value untouched. A reader copies
 * the value out and believes it only if its generation and checksum (hash64 of the value, seeded
 * with the generation) agree; otherwise the writer has been round twice meanwhile and the reader
 * tries again, at most SLOT_TRIES times, the other slot included. All shared words are read and
 * written as relaxed atomics; the checksum, not a fence, is what proves a copy whole. */
#ifndef CLOCKWISE_SHM_SLOT_H
#define CLOCKWISE_SHM_SLOT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT_TRIES 64

struct slot_head {
    _Atomic uint64_t generation;
    _Atomic uint64_t length;
    _Atomic uint64_t checksum;
    uint64_t zero[5];
};

struct slot_pair {
    _Atomic uint64_t current;
    uint64_t zero[7];
    struct slot_head head[2];
    /* two payloads follow */
};

/* Bytes that a pair for values of at most `capacity` bytes takes in a segment: the space must be
 * aligned to 64 and zero at the start. */
#define SLOT_ROUND(capacity) (((size_t)(capacity) + 63) & ~(size_t)63)
#define SLOT_BYTES(capacity) (sizeof(struct slot_pair) + 2 * SLOT_ROUND(capacity))

/* Writer: publish a copy of len <= capacity bytes. Never blocks. One thread of one process only. */
void slot_publish(struct slot_pair *s, size_t capacity, const void *data, size_t len);

/* Generation of the newest value, 0 if there is none: one acquire load. */
static inline uint64_t slot_generation(const struct slot_pair *s)
{
    return atomic_load_explicit(&s->current, memory_order_acquire);
}

/* Reader: copy the newest whole value into out, which must have room for capacity bytes. *len and
 * *generation are set. 0; -ERR_NOTFOUND if nothing was published yet; -ERR_CORRUPT if no try found
 * a whole value (damage, or a writer that publishes faster than memory can be copied). Never waits
 * for the writer. */
int slot_read(const struct slot_pair *s, size_t capacity, void *out, size_t *len,
              uint64_t *generation);

#endif
