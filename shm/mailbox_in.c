/* The consumer's end of the mailboxes: worker C empties its siblings' rings. Runs in workers, in
 * their loop's thread; writes the inbox rows and the sleeping flag of worker-C.seg and nothing else.
 * The state machine is in mailbox.h. */
#include "shm/mailbox_layout.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct in_ring {
    struct segment segment; /* the sibling's mail segment, or not there yet */
    const struct mailbox_ring *shared;
    const uint8_t *bytes;
    uint64_t size;
    uint64_t producer; /* incarnation that is mapped; 0: none was yet */
    uint64_t base, head, tail;
    bool reading;  /* the epoch names this worker and has been begun */
    bool consumed; /* since the last mailbox_in_should_wake() */
    bool closed;   /* -ERR_CLOSED is still to be told */
    bool broken;
};

struct mailbox_in {
    struct worker_seg *mine;
    char dir[SEGMENT_PATH_MAX];
    uint32_t self, workers;
    uint64_t incarnation;
    struct in_ring rings[];
};

int mailbox_in_open(struct mailbox_in **out, const char *dir, uint32_t self, uint32_t workers,
                    struct worker_seg *mine)
{
    ASSERT(workers >= 1 && workers <= LIMIT_WORKERS && self < workers);
    ASSERT(mine->segment.writer && strlen(dir) < SEGMENT_PATH_MAX);
    struct mailbox_in *in = calloc(1, sizeof *in + workers * sizeof in->rings[0]);
    if (in == NULL)
        return -ERR_NOMEM;
    in->mine = mine;
    in->self = self;
    in->workers = workers;
    in->incarnation = segment_incarnation(&mine->segment);
    snprintf(in->dir, sizeof in->dir, "%s", dir);
    for (uint32_t from = 0; from < workers; from++) {
        if (from != self)
            mailbox_in_refresh(in, from);
    }
    *out = in;
    return 0;
}

void mailbox_in_close(struct mailbox_in *in)
{
    if (in == NULL)
        return;
    for (uint32_t from = 0; from < in->workers; from++)
        segment_close(&in->rings[from].segment);
    free(in);
}

/* A mail segment was mapped: forget the one before and wait for an epoch that names this worker. */
static int take_over(struct mailbox_in *in, struct in_ring *r, uint32_t from)
{
    const struct mailbox_body *body = segment_body(&r->segment);
    int err = mailbox_check(&r->segment);

    r->shared = NULL;
    r->reading = false;
    if (r->head != r->base)
        r->closed = true;
    r->base = r->head = r->tail = 0;
    r->broken = false;
    if (err == 0 && in->self >= body->workers)
        err = -ERR_INVAL;
    if (err < 0) {
        segment_close(&r->segment);
        return err;
    }
    r->shared = &body->rings[in->self];
    r->bytes = mailbox_ring_bytes(&r->segment, from, in->self);
    r->size = (uint64_t)1 << body->ring_bits;
    r->producer = segment_incarnation(&r->segment);
    return 1;
}

int mailbox_in_refresh(struct mailbox_in *in, uint32_t from)
{
    ASSERT(from < in->workers && from != in->self);
    struct in_ring *r = &in->rings[from];
    int changed;

    if (segment_mapped(&r->segment)) {
        changed = segment_reattach_if_replaced(&r->segment);
    } else {
        struct segment_spec spec = mailbox_spec(from, 1, 0);
        char name[32];

        mailbox_name(from, name);
        changed = segment_attach(&r->segment, in->dir, name, &spec);
        if (changed == 0)
            changed = 1;
    }
    return changed == 1 ? take_over(in, r, from) : changed;
}

static bool named(const struct mailbox_in *in, const struct in_ring *r)
{
    return atomic_load_explicit(&r->shared->consumer, memory_order_seq_cst) == in->incarnation;
}

/* The epoch names this worker: begin to read it where it begins. The producer believes head only
 * when its own incarnation stands beside it, so the order of the three stores matters. */
static void begin_reading(struct mailbox_in *in, struct in_ring *r, uint32_t from)
{
    struct worker_inbox *inbox = &in->mine->body->inbox[from];

    r->base = r->head = r->tail = atomic_load_explicit(&r->shared->base, memory_order_relaxed);
    atomic_store_explicit(&inbox->producer_incarnation, 0, memory_order_seq_cst);
    atomic_store_explicit(&inbox->head, r->head, memory_order_release);
    atomic_fetch_add_explicit(&inbox->resets, 1, memory_order_relaxed);
    atomic_store_explicit(&inbox->producer_incarnation, r->producer, memory_order_release);
    r->reading = true;
}

int64_t mailbox_peek(struct mailbox_in *in, uint32_t from, struct slice two[2])
{
    ASSERT(from < in->workers && from != in->self);
    struct in_ring *r = &in->rings[from];

    two[0] = two[1] = slice_of(NULL, 0);
    if (r->closed) {
        r->closed = false;
        return -ERR_CLOSED;
    }
    if (r->broken)
        return -ERR_CORRUPT;
    if (r->shared == NULL || !named(in, r))
        return 0;
    if (!r->reading)
        begin_reading(in, r, from);
    r->tail = atomic_load_explicit(&r->shared->tail, memory_order_acquire);
    uint64_t n = r->tail - r->head;
    if (n > r->size) {
        r->broken = true;
        return -ERR_CORRUPT;
    }
    uint64_t at = r->head & (r->size - 1);
    size_t first = n < r->size - at ? (size_t)n : (size_t)(r->size - at);
    two[0] = slice_of(r->bytes + at, first);
    two[1] = slice_of(r->bytes, (size_t)n - first);
    return (int64_t)n;
}

void mailbox_consume(struct mailbox_in *in, uint32_t from, size_t n)
{
    ASSERT(from < in->workers && from != in->self);
    struct in_ring *r = &in->rings[from];
    struct worker_inbox *inbox = &in->mine->body->inbox[from];

    if (n == 0)
        return;
    ASSERT(r->reading && n <= r->tail - r->head);
    r->head += n;
    r->consumed = true;
    hist_bump(&inbox->bytes, n);
    atomic_store_explicit(&inbox->head, r->head, memory_order_seq_cst);
}

bool mailbox_in_should_wake(struct mailbox_in *in, uint32_t from)
{
    ASSERT(from < in->workers && from != in->self);
    struct in_ring *r = &in->rings[from];

    if (!r->consumed || r->shared == NULL)
        return false;
    r->consumed = false;
    return atomic_load_explicit(&r->shared->waiting, memory_order_seq_cst) != 0;
}

static bool has_news(const struct mailbox_in *in, const struct in_ring *r)
{
    if (r->closed)
        return true;
    if (r->broken || r->shared == NULL || !named(in, r))
        return false;
    uint64_t tail = atomic_load_explicit(&r->shared->tail, memory_order_seq_cst);
    return tail !=
           (r->reading ? r->head : atomic_load_explicit(&r->shared->base, memory_order_relaxed));
}

bool mailbox_sleep_begin(struct mailbox_in *in)
{
    atomic_store_explicit(&in->mine->body->sleeping, 1, memory_order_seq_cst);
    for (uint32_t from = 0; from < in->workers; from++) {
        if (from != in->self && has_news(in, &in->rings[from])) {
            mailbox_sleep_end(in);
            return false;
        }
    }
    return true;
}

void mailbox_sleep_end(struct mailbox_in *in)
{
    atomic_store_explicit(&in->mine->body->sleeping, 0, memory_order_relaxed);
}
