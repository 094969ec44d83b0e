/* The shape of mail-P.seg, and how tools look at it. Runs in workers and tools; changes nothing. */
#include "shm/mailbox_layout.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct mailbox_body, workers),  SEGMENT_FIELD(struct mailbox_body, ring_bits),
    SEGMENT_FIELD(struct mailbox_body, rings_at), SEGMENT_FIELD(struct mailbox_body, rings),
    SEGMENT_FIELD(struct mailbox_ring, consumer), SEGMENT_FIELD(struct mailbox_ring, base),
    SEGMENT_FIELD(struct mailbox_ring, epochs),   SEGMENT_FIELD(struct mailbox_ring, tail),
    SEGMENT_FIELD(struct mailbox_ring, waiting),  SEGMENT_FIELD(struct mailbox_ring, bytes),
};

_Static_assert(sizeof(struct mailbox_ring) == 128, "as documented");
_Static_assert(offsetof(struct mailbox_body, rings) == 64, "as documented");
_Static_assert(offsetof(struct mailbox_ring, tail) == 64, "as documented");
_Static_assert(sizeof(struct mailbox_body) <= MAILBOX_RINGS_AT, "the rings' bytes come behind");

struct segment_spec mailbox_spec(uint32_t index, uint32_t workers, uint32_t ring_bits)
{
    ASSERT(workers >= 1 && workers <= LIMIT_WORKERS);
    return (struct segment_spec){
        .kind = SEGMENT_MAIL,
        .index = index,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct mailbox_body), MAILBOX_RINGS_AT),
        .length =
            sizeof(struct segment_header) + MAILBOX_RINGS_AT + ((size_t)(workers - 1) << ring_bits),
    };
}

int mailbox_check(struct segment *s)
{
    const struct mailbox_body *body = segment_body(s);

    if (body->workers >= 1 && body->workers <= LIMIT_WORKERS && s->spec.index < body->workers &&
        body->rings_at == MAILBOX_RINGS_AT && body->ring_bits < 32 &&
        1u << body->ring_bits >= MAILBOX_RING_MIN && 1u << body->ring_bits <= MAILBOX_RING_MAX &&
        s->length == mailbox_spec(s->spec.index, body->workers, body->ring_bits).length)
        return 0;
    snprintf(s->why, sizeof s->why, "%u rings of 2^%u bytes do not fit", body->workers,
             body->ring_bits);
    return -ERR_CORRUPT;
}

void mailbox_name(uint32_t index, char out[32])
{
    snprintf(out, 32, "mail-%u.seg", index);
}

int mailbox_view_attach(struct segment *s, const char *dir, uint32_t index)
{
    struct segment_spec spec = mailbox_spec(index, 1, 0);
    char name[32];

    mailbox_name(index, name);
    int err = segment_attach(s, dir, name, &spec);
    if (err == 0)
        err = mailbox_check(s);
    if (err < 0)
        segment_close(s);
    return err;
}

void mailbox_view_shape(const struct segment *s, uint32_t *workers, size_t *ring_bytes)
{
    const struct mailbox_body *body = segment_body(s);

    *workers = body->workers;
    *ring_bytes = (size_t)1 << body->ring_bits;
}

void mailbox_view_row(const struct segment *s, uint32_t to, struct mailbox_row *out)
{
    const struct mailbox_body *body = segment_body(s);

    ASSERT(to < LIMIT_WORKERS);
    const struct mailbox_ring *ring = &body->rings[to];
    out->consumer = atomic_load_explicit(&ring->consumer, memory_order_acquire);
    out->base = atomic_load_explicit(&ring->base, memory_order_relaxed);
    out->tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    out->epochs = atomic_load_explicit(&ring->epochs, memory_order_relaxed);
    out->bytes = atomic_load_explicit(&ring->bytes, memory_order_relaxed);
    out->waiting = (uint32_t)atomic_load_explicit(&ring->waiting, memory_order_relaxed);
}
