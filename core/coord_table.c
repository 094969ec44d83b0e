/* Slots of requests in flight: a free list whose last freed slot is used first (it is still in the
 * cache), ids that are never used twice, and a binary heap of deadlines. Runs in workers and in the
 * simulator. */
#include "core/coord_impl.h"

#include "base/check.h"

#define SLOT_BITS 16

void table_init(struct table *t, struct request *slots, uint32_t *heap, uint32_t count,
                uint64_t generation)
{
    *t = (struct table){.slots = slots, .heap = heap, .count = count};
    ASSERT(count > 0 && count <= 1u << SLOT_BITS);
    for (uint32_t i = 0; i < count; i++) {
        slots[i].kind = REQUEST_FREE;
        slots[i].id = generation << SLOT_BITS | i;
        slots[i].next_free = i + 1 < count ? i + 1 : COORD_NOWHERE;
        slots[i].heap_at = COORD_NOWHERE;
    }
}

static uint32_t slot_of(const struct request *r)
{
    return (uint32_t)(r->id & ((1u << SLOT_BITS) - 1));
}

struct request *table_take(struct table *t, enum request_kind kind)
{
    if (t->first_free == COORD_NOWHERE)
        return NULL;
    struct request *r = &t->slots[t->first_free];

    ASSERT(r->kind == REQUEST_FREE && r->heap_at == COORD_NOWHERE);
    t->first_free = r->next_free;
    t->used++;
    r->id += 1u << SLOT_BITS;
    if (r->id >> SLOT_BITS == 0) /* 0 means "no answer wanted" in messages */
        r->id += 1u << SLOT_BITS;
    r->kind = (uint8_t)kind;
    r->flags = 0;
    r->local_lsn = 0;
    r->due_us = UINT64_MAX;
    r->key = r->context = r->old = hold_nothing();
    return r;
}

struct request *table_find(struct table *t, uint64_t id)
{
    uint32_t slot = (uint32_t)(id & ((1u << SLOT_BITS) - 1));

    if (slot >= t->count || t->slots[slot].id != id || t->slots[slot].kind == REQUEST_FREE)
        return NULL;
    return &t->slots[slot];
}

static void place_at(struct table *t, uint32_t at, uint32_t slot)
{
    t->heap[at] = slot;
    t->slots[slot].heap_at = at;
}

static void sift_up(struct table *t, uint32_t at)
{
    uint32_t slot = t->heap[at];
    uint64_t due = t->slots[slot].due_us;

    while (at > 0) {
        uint32_t parent = (at - 1) / 2;

        if (t->slots[t->heap[parent]].due_us <= due)
            break;
        place_at(t, at, t->heap[parent]);
        at = parent;
    }
    place_at(t, at, slot);
}

static void sift_down(struct table *t, uint32_t at)
{
    uint32_t slot = t->heap[at];
    uint64_t due = t->slots[slot].due_us;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= t->heap_count)
            break;
        if (child + 1 < t->heap_count &&
            t->slots[t->heap[child + 1]].due_us < t->slots[t->heap[child]].due_us)
            child++;
        if (due <= t->slots[t->heap[child]].due_us)
            break;
        place_at(t, at, t->heap[child]);
        at = child;
    }
    place_at(t, at, slot);
}

static void unschedule(struct table *t, struct request *r)
{
    uint32_t at = r->heap_at;

    if (at == COORD_NOWHERE)
        return;
    r->heap_at = COORD_NOWHERE;
    if (at == --t->heap_count)
        return;
    place_at(t, at, t->heap[t->heap_count]);
    sift_up(t, at);
    sift_down(t, at);
}

void table_schedule(struct table *t, struct request *r, uint64_t due_us)
{
    uint64_t before = r->due_us;

    r->due_us = due_us;
    if (due_us == UINT64_MAX) {
        unschedule(t, r);
    } else if (r->heap_at == COORD_NOWHERE) {
        t->heap[t->heap_count] = slot_of(r);
        sift_up(t, t->heap_count++);
    } else if (due_us < before) {
        sift_up(t, r->heap_at);
    } else if (due_us > before) {
        sift_down(t, r->heap_at);
    }
}

struct request *table_first(const struct table *t)
{
    return t->heap_count > 0 ? &t->slots[t->heap[0]] : NULL;
}

void table_give(struct table *t, struct request *r)
{
    ASSERT(r->kind != REQUEST_FREE && t->used > 0);
    unschedule(t, r);
    r->kind = REQUEST_FREE;
    r->next_free = t->first_free;
    t->first_free = slot_of(r);
    t->used--;
}
