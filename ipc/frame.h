/* Frames: how messages follow one another in a byte stream (TCP peer links, mailboxes).
 *
 *   0        4        8
 *   | length | check  | payload ...        length: bytes of payload, u32 little-endian
 *                                          check: low 32 bits of hash64(payload), little-endian
 *
 * Nothing here blocks or touches a descriptor. */
#ifndef CLOCKWISE_IPC_FRAME_H
#define CLOCKWISE_IPC_FRAME_H

#include "base/buf.h"
#include "core/msg.h"
#include "core/repair.h"

#define FRAME_HEADER 8

/* Append a frame around an encoded message to out; the message is encoded in place, so that its
 * bytes are copied once. -ERR_LIMIT (out's limit, or longer than LIMIT_FRAME) or -ERR_NOMEM leave
 * out as it was. */
int frame_append_msg(struct buf *out, const struct msg *m);

/* Likewise for a message of anti-entropy. */
int frame_append_repair(struct buf *out, const struct repair *m);

/* The same around bytes that are encoded already. */
int frame_append(struct buf *out, struct slice payload);

/* Reassembly of one stream. Memory grows with what has arrived, not with what is declared. */
struct frame_reader {
    struct buf in;
    uint32_t max; /* largest payload accepted */
};

/* max: at most LIMIT_FRAME. */
void frame_reader_init(struct frame_reader *r, uint32_t max);
void frame_reader_free(struct frame_reader *r);

/* Where the next bytes of the stream go: *room is set to at least 1. NULL without memory. Read into
 * it, then say how many came with frame_reader_filled(). Invalidates payloads handed out before. */
uint8_t *frame_reader_space(struct frame_reader *r, size_t *room);
void frame_reader_filled(struct frame_reader *r, size_t len);

/* Take the next whole frame: 1 and *payload (valid until the next frame_reader_space()), 0 if more
 * bytes are needed, -ERR_FORMAT for a frame too long, empty, or failing its checksum (the stream is
 * useless from there on). */
int frame_reader_next(struct frame_reader *r, struct slice *payload);

/* Give memory back after a large frame; call when idle. */
void frame_reader_shrink(struct frame_reader *r);

#endif
