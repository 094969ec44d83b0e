/* The body of mail-P.seg, shared by the two ends of a mailbox (mailbox_out.c, mailbox_in.c) and the
 * view for tools (mailbox_view.c). What each field means, who writes it and why a stale read is
 * harmless is said in mailbox.h. Nobody else includes this file. */
#ifndef CLOCKWISE_SHM_MAILBOX_LAYOUT_H
#define CLOCKWISE_SHM_MAILBOX_LAYOUT_H

#include "shm/mailbox.h"

struct mailbox_ring {
    _Atomic uint64_t consumer;
    _Atomic uint64_t base;
    _Atomic uint64_t epochs;
    uint64_t zero0[5];
    _Atomic uint64_t tail;
    _Atomic uint64_t waiting;
    _Atomic uint64_t bytes;
    uint64_t zero1[5];
};

struct mailbox_body {
    uint32_t workers;
    uint32_t ring_bits;
    uint64_t rings_at;
    uint64_t zero[6];
    struct mailbox_ring rings[LIMIT_WORKERS];
    /* the bytes of the rings follow at rings_at */
};

/* The rings' bytes begin on a page boundary of the file. */
#define MAILBOX_RINGS_AT (12288 - sizeof(struct segment_header))

/* What a segment of this shape looks like; with one worker, the least that a reader accepts. */
struct segment_spec mailbox_spec(uint32_t index, uint32_t workers, uint32_t ring_bits);

/* Does the body agree with itself and with the segment's length? Otherwise -ERR_CORRUPT with a
 * reason in s->why. */
int mailbox_check(struct segment *s);

/* "mail-I.seg" */
void mailbox_name(uint32_t index, char out[32]);

/* The bytes of the ring to worker `to`, in the segment of worker `self`: there is none to itself. */
static inline uint8_t *mailbox_ring_bytes(const struct segment *s, uint32_t self, uint32_t to)
{
    const struct mailbox_body *body = segment_body(s);
    size_t place = to < self ? to : to - 1;

    return (uint8_t *)segment_body(s) + body->rings_at + (place << body->ring_bits);
}

#endif
