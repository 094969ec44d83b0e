/* The producer's end of the mailboxes: worker P fills its rings. Runs in workers, in their loop's
 * thread; writes mail-P.seg and nothing else. The state machine is in mailbox.h. */
#include "shm/mailbox_layout.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct out_ring {
    struct worker_seg sibling; /* what the consumer says; mapped read-only, or not there yet */
    struct mailbox_ring *shared;
    uint8_t *bytes;
    uint64_t consumer; /* incarnation that the epoch is for; 0: none began yet */
    uint64_t base, tail;
    uint64_t head; /* newest known; the real one may be further on */
    bool waiting;
    bool touched; /* since the last mailbox_should_wake() */
    bool closed;  /* -ERR_CLOSED is still to be told */
    bool broken;
};

struct mailbox_out {
    struct segment segment;
    struct mailbox_body *body;
    char dir[SEGMENT_PATH_MAX];
    uint32_t self, workers;
    uint64_t incarnation;
    uint64_t size; /* of each ring */
    struct out_ring rings[];
};

static uint32_t bits_of(size_t n)
{
    return (uint32_t)__builtin_ctzll(n);
}

static int make_segment(struct mailbox_out *o, size_t ring_bytes)
{
    struct segment_spec spec = mailbox_spec(o->self, o->workers, bits_of(ring_bytes));
    char name[32];

    mailbox_name(o->self, name);
    int err = segment_create(&o->segment, o->dir, name, &spec, o->incarnation);
    if (err < 0)
        return err;
    o->body = segment_body(&o->segment);
    o->body->workers = o->workers;
    o->body->ring_bits = bits_of(ring_bytes);
    o->body->rings_at = MAILBOX_RINGS_AT;
    return segment_publish(&o->segment);
}

int mailbox_out_open(struct mailbox_out **out, const char *dir, uint32_t self, uint32_t workers,
                     size_t ring_bytes, const struct worker_seg *mine, char *why)
{
    ASSERT(workers >= 1 && workers <= LIMIT_WORKERS && self < workers);
    ASSERT(mine->segment.writer);
    if (why != NULL)
        why[0] = 0;
    if (ring_bytes < MAILBOX_RING_MIN || ring_bytes > MAILBOX_RING_MAX ||
        (ring_bytes & (ring_bytes - 1)) != 0 || strlen(dir) >= SEGMENT_PATH_MAX)
        return -ERR_INVAL;
    struct mailbox_out *o = calloc(1, sizeof *o + workers * sizeof o->rings[0]);
    if (o == NULL)
        return -ERR_NOMEM;
    snprintf(o->dir, sizeof o->dir, "%s", dir);
    o->self = self;
    o->workers = workers;
    o->size = ring_bytes;
    o->incarnation = segment_incarnation(&mine->segment);
    int err = make_segment(o, ring_bytes);
    if (err < 0) {
        if (why != NULL)
            snprintf(why, SEGMENT_WHY_MAX, "%s", o->segment.why);
        mailbox_out_close(o);
        return err;
    }
    for (uint32_t to = 0; to < workers; to++) {
        if (to == self)
            continue;
        o->rings[to].shared = &o->body->rings[to];
        o->rings[to].bytes = mailbox_ring_bytes(&o->segment, self, to);
        mailbox_out_refresh(o, to);
    }
    *out = o;
    return 0;
}

void mailbox_out_close(struct mailbox_out *o)
{
    if (o == NULL)
        return;
    for (uint32_t to = 0; to < o->workers; to++)
        worker_seg_close(&o->rings[to].sibling);
    segment_close(&o->segment);
    free(o);
}

/* From here on the ring is for another consumer: what the last one did not take is skipped. */
static void begin_epoch(struct out_ring *r, uint64_t consumer)
{
    if (r->tail != r->base)
        r->closed = true;
    r->base = r->head = r->tail;
    r->consumer = consumer;
    r->broken = false;
    r->waiting = false;
    r->touched = true;
    atomic_store_explicit(&r->shared->waiting, 0, memory_order_relaxed);
    atomic_store_explicit(&r->shared->base, r->base, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->shared->epochs, 1, memory_order_relaxed);
    atomic_store_explicit(&r->shared->consumer, consumer, memory_order_seq_cst);
}

int mailbox_out_refresh(struct mailbox_out *o, uint32_t to)
{
    ASSERT(to < o->workers && to != o->self);
    struct out_ring *r = &o->rings[to];
    int err = r->sibling.body == NULL ? worker_seg_attach(&r->sibling, o->dir, to)
                                      : worker_seg_refresh(&r->sibling);

    if (err < 0)
        return err;
    uint64_t consumer = segment_incarnation(&r->sibling.segment);
    if (consumer == r->consumer)
        return 0;
    begin_epoch(r, consumer);
    return 1;
}

/* Learn how far the consumer is. Its head counts only once it has begun this epoch. */
static void learn_head(const struct mailbox_out *o, struct out_ring *r)
{
    const struct worker_inbox *inbox = &r->sibling.body->inbox[o->self];

    if (atomic_load_explicit(&inbox->producer_incarnation, memory_order_acquire) != o->incarnation)
        return;
    uint64_t head = atomic_load_explicit(&inbox->head, memory_order_seq_cst);
    if (head - r->head > r->tail - r->head)
        r->broken = true;
    else
        r->head = head;
}

static bool usable(const struct out_ring *r)
{
    return r->sibling.body != NULL && !r->broken && !r->closed;
}

size_t mailbox_write_room(struct mailbox_out *o, uint32_t to)
{
    ASSERT(to < o->workers && to != o->self);
    struct out_ring *r = &o->rings[to];

    if (!usable(r))
        return 0;
    learn_head(o, r);
    return r->broken ? 0 : o->size - (r->tail - r->head);
}

static void set_waiting(struct out_ring *r, bool waiting)
{
    if (r->waiting != waiting)
        atomic_store_explicit(&r->shared->waiting, waiting, memory_order_seq_cst);
    r->waiting = waiting;
}

/* Room for len bytes, or as much as there is after having said that more is wanted. */
static size_t find_room(struct mailbox_out *o, struct out_ring *r, size_t len)
{
    if (o->size - (r->tail - r->head) < len)
        learn_head(o, r);
    if (o->size - (r->tail - r->head) < len) {
        set_waiting(r, true);
        learn_head(o, r);
    }
    uint64_t room = o->size - (r->tail - r->head);
    if (room >= len)
        set_waiting(r, false);
    return room < len ? (size_t)room : len;
}

int64_t mailbox_write(struct mailbox_out *o, uint32_t to, const void *data, size_t len)
{
    ASSERT(to < o->workers && to != o->self);
    struct out_ring *r = &o->rings[to];

    if (r->closed) {
        r->closed = false;
        return -ERR_CLOSED;
    }
    if (r->broken)
        return -ERR_CORRUPT;
    if (r->sibling.body == NULL || len == 0)
        return 0;
    size_t n = find_room(o, r, len);
    if (r->broken)
        return -ERR_CORRUPT;
    if (n == 0)
        return 0;
    uint64_t at = r->tail & (o->size - 1);
    size_t first = n < o->size - at ? n : (size_t)(o->size - at);
    memcpy(r->bytes + at, data, first);
    memcpy(r->bytes, (const uint8_t *)data + first, n - first);
    r->tail += n;
    r->touched = true;
    atomic_store_explicit(&r->shared->bytes, r->tail, memory_order_relaxed);
    atomic_store_explicit(&r->shared->tail, r->tail, memory_order_seq_cst);
    return (int64_t)n;
}

bool mailbox_should_wake(struct mailbox_out *o, uint32_t to)
{
    ASSERT(to < o->workers && to != o->self);
    struct out_ring *r = &o->rings[to];

    if (!r->touched || r->sibling.body == NULL)
        return false;
    r->touched = false;
    return atomic_load_explicit(&r->sibling.body->sleeping, memory_order_seq_cst) != 0;
}
