/* Two-slot publication in shared memory. The writer's half runs in the process that owns the
 * segment, the reader's half in any. Neither ever waits for the other. */
#include "shm/slot.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"

#include <string.h>

static _Atomic uint64_t *words_of(const struct slot_pair *s, size_t capacity, uint64_t generation)
{
    uintptr_t start = (uintptr_t)(s + 1) + (generation & 1) * SLOT_ROUND(capacity);

    return (_Atomic uint64_t *)start;
}

/* The last word is filled up with zeros. */
static void copy_in(_Atomic uint64_t *words, const void *data, size_t len)
{
    const uint8_t *from = data;

    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, from + at, len - at < 8 ? len - at : 8);
        atomic_store_explicit(words + at / 8, word, memory_order_relaxed);
    }
}

static void copy_out(void *data, const _Atomic uint64_t *words, size_t len)
{
    uint8_t *to = data;

    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = atomic_load_explicit(words + at / 8, memory_order_relaxed);
        memcpy(to + at, &word, len - at < 8 ? len - at : 8);
    }
}

void slot_publish(struct slot_pair *s, size_t capacity, const void *data, size_t len)
{
    uint64_t generation = slot_generation(s) + 1;
    struct slot_head *head = &s->head[generation & 1];

    ASSERT(len <= capacity);
    ASSERT(((uintptr_t)s & 7) == 0);
    atomic_store_explicit(&head->generation, 0, memory_order_relaxed);
    copy_in(words_of(s, capacity, generation), data, len);
    atomic_store_explicit(&head->length, len, memory_order_relaxed);
    atomic_store_explicit(&head->checksum, hash64_seed(data, len, generation),
                          memory_order_relaxed);
    atomic_store_explicit(&head->generation, generation, memory_order_relaxed);
    atomic_store_explicit(&s->current, generation, memory_order_release);
}

static int try_read(const struct slot_pair *s, size_t capacity, uint64_t generation, void *out,
                    size_t *len)
{
    const struct slot_head *head = &s->head[generation & 1];

    if (atomic_load_explicit(&head->generation, memory_order_relaxed) != generation)
        return -ERR_CORRUPT;
    uint64_t length = atomic_load_explicit(&head->length, memory_order_relaxed);
    if (length > capacity)
        return -ERR_CORRUPT;
    copy_out(out, words_of(s, capacity, generation), length);
    if (hash64_seed(out, length, generation) !=
        atomic_load_explicit(&head->checksum, memory_order_relaxed))
        return -ERR_CORRUPT;
    *len = length;
    return 0;
}

int slot_read(const struct slot_pair *s, size_t capacity, void *out, size_t *len,
              uint64_t *generation)
{
    uint64_t failed = 0;

    for (int i = 0; i < SLOT_TRIES; i++) {
        uint64_t wanted = slot_generation(s);

        if (wanted == 0)
            return -ERR_NOTFOUND;
        /* The newest value failed and is still the newest: nobody overwrote it, it is damaged. The
         * one before may be whole. */
        if (wanted == failed && wanted > 1)
            wanted--;
        if (try_read(s, capacity, wanted, out, len) == 0) {
            *generation = wanted;
            return 0;
        }
        failed = wanted == failed - 1 ? 0 : wanted;
    }
    return -ERR_CORRUPT;
}
