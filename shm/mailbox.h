/* Mailboxes: worker -> sibling worker byte streams through shared memory. mail-P.seg holds worker P's
 * outgoing rings, one for each other worker of the node; P alone writes it. What consumer C has taken
 * is said by C in worker-C.seg (struct worker_inbox), which C alone writes.
 *
 * Body of mail-P.seg:
 *   offset  field           who changes it, when; why a stale read is harmless
 *   0       workers         P at creation; constant
 *   4       ring_bits       P at creation; constant (every ring has 1 << ring_bits bytes)
 *   8       rings_at        P at creation; constant (offset of the bytes of ring 0 from the body)
 *   64+128c consumer        P, with release, when it begins an epoch, after `base`: the incarnation
 *                           of the consumer that the epoch is for, 0 before the first. A stale one
 *                           makes C wait
 *      +8   base            P, before `consumer`: where the epoch begins in the stream. Constant
 *                           within an epoch
 *      +16  epochs          P, with `consumer`; for people
 *      +64  tail            P, with sequential consistency, after the bytes before it are in place.
 *                           A stale one shows fewer bytes than there are
 *      +72  waiting         P, 1 when it had more to write than there was room, 0 when not. A stale
 *                           1 costs one wake-up too many
 *      +80  bytes           P; taken in all, for people
 *   rings_at + (k << ring_bits)   the bytes of the ring to the k-th sibling (P itself is left out);
 *                           position x of the stream is at x mod size. From head to tail they are
 *                           C's to read, all others are P's to fill
 *
 * Positions (base, tail, head) count bytes of the stream from 0 and never go back within one run of
 * P. A message may be longer than the ring: it goes through in pieces.
 *
 * Incarnations. Each run of a worker has a number of its own, which is in the headers of the two files
 * that it makes. A ring's epoch is a pair (incarnation of P, incarnation of C):
 *
 *   P: NOBODY --sees worker-C.seg of incarnation c--> EPOCH(c) : base := tail, then consumer := c
 *   P: EPOCH(c) --sees worker-C.seg of c'-----------> EPOCH(c'), and if c was sent anything, the next
 *                                                     mailbox_write() says -ERR_CLOSED once and takes
 *                                                     nothing
 *   P: in EPOCH(c), head is inbox[P].head if inbox[P].producer_incarnation is P's own incarnation,
 *      else base: C has not begun this epoch yet.
 *
 *   C: NOBODY --attaches mail-P.seg of incarnation p--> WAIT(p)
 *   C: WAIT(p) --sees consumer = C's own incarnation--> READ(p): producer_incarnation := 0,
 *                                                     head := base, producer_incarnation := p
 *   C: READ(p) --sees mail-P.seg of p'----------------> WAIT(p'), and if anything of p was taken, the
 *                                                     next mailbox_peek() says -ERR_CLOSED once and
 *                                                     shows nothing
 *
 * Why no piece of a frame is ever delivered, twice or at all, across a restart: base moves only when
 * an epoch begins, the writer is told so by -ERR_CLOSED before it can add a byte to that epoch, and
 * it must then begin with a new frame; the reader takes bytes of an epoch only if the epoch names
 * its own incarnation, from base on, each once, and is told by -ERR_CLOSED to drop a half-collected
 * frame before the first byte of another producer. Bytes of a pair (p, c) that were not taken when
 * either died are never looked at again. Whatever was in flight then is "outcome unknown".
 *
 * The two directions between two workers are streams of their own and begin anew independently:
 * -ERR_CLOSED of mailbox_write() says nothing of a frame that is half read, and -ERR_CLOSED of
 * mailbox_peek() nothing of one that is half written (it may be for the sibling's successor).
 * mailbox_write() with no bytes after a 1 of mailbox_out_refresh() tells at once whether what was sent
 * is lost.
 *
 * Wake-up. C stores sleeping = 1, looks at all tails once more and then blocks; P stores tail and
 * then loads sleeping. All four are sequentially consistent, so at least one of the two sees the
 * other's store, and no wake-up is lost. The other direction is alike: P stores waiting = 1, looks at
 * head once more and then leaves it; C stores head and then loads waiting.
 *
 * Nothing here makes a system call except open, refresh and close; the caller owns the eventfds. */
#ifndef CLOCKWISE_SHM_MAILBOX_H
#define CLOCKWISE_SHM_MAILBOX_H

#include "base/slice.h"
#include "core/limits.h"
#include "shm/worker_seg.h"

#define MAILBOX_RING_DEFAULT (1u << 20)
#define MAILBOX_RING_MIN     (1u << 12)
#define MAILBOX_RING_MAX     (1u << 26)

struct mailbox_out; /* worker P's outgoing rings */
struct mailbox_in;  /* worker C's incoming ends */

/* Make and publish mail-SELF.seg with `workers` rings of ring_bytes (a power of two between the two
 * bounds above) and try to attach the siblings' worker segments; those that are not there yet are
 * found by mailbox_out_refresh(). `mine` is this worker's own segment, open for writing: it names
 * the incarnation, and must outlive the mailbox. -ERR_INVAL, -ERR_NOMEM, and errors of
 * segment_create(). why (of SEGMENT_WHY_MAX bytes, may be NULL) gets the reason. */
int mailbox_out_open(struct mailbox_out **out, const char *dir, uint32_t self, uint32_t workers,
                     size_t ring_bytes, const struct worker_seg *mine, char *why);
void mailbox_out_close(struct mailbox_out *o);

/* Look whether sibling `to` has been started anew (one stat call if not). Call for each sibling once
 * a second, and at once when the supervisor says WORKER_UP. 1: a new epoch has begun; 0: nothing
 * new; a negative error: not there, or refused (the old state goes on). */
int mailbox_out_refresh(struct mailbox_out *o, uint32_t to);

/* Append up to len bytes to the stream for sibling `to`. Returns the number taken, 0 if the ring is
 * full or the sibling was never up; the rest is to be offered again when the eventfd of this worker
 * fires (the sibling wakes a producer that waits for room). -ERR_CLOSED once after each new
 * incarnation of a sibling that was sent anything before: drop what is queued and in flight, begin
 * with a new frame. -ERR_CORRUPT if the sibling's head is impossible; stays so until it is restarted.
 * Never blocks. */
int64_t mailbox_write(struct mailbox_out *o, uint32_t to, const void *data, size_t len);

/* Bytes that mailbox_write() would take now (0 also where it would say an error). */
size_t mailbox_write_room(struct mailbox_out *o, uint32_t to);

/* After the writes of one turn of the loop: must the eventfd of sibling `to` be written? True only
 * if bytes were added (or an epoch begun) since the last call and the sibling sleeps. */
bool mailbox_should_wake(struct mailbox_out *o, uint32_t to);

/* Get ready to read from `workers` siblings' rings, attaching those that are there. `mine` is this
 * worker's own segment, open for writing; it must outlive the mailbox. -ERR_NOMEM. */
int mailbox_in_open(struct mailbox_in **in, const char *dir, uint32_t self, uint32_t workers,
                    struct worker_seg *mine);
void mailbox_in_close(struct mailbox_in *in);

/* Look whether sibling `from` has been started anew. Call it as mailbox_out_refresh(), and also for
 * all siblings when woken up with nothing to read: a restarted producer may be knocking. */
int mailbox_in_refresh(struct mailbox_in *in, uint32_t from);

/* The bytes that can be read from sibling `from` now: two slices (the second is not empty only where
 * the ring wraps), valid until mailbox_consume() or mailbox_in_refresh(). Returns their total, 0 if
 * there is nothing. -ERR_CLOSED once after each new incarnation of a sibling of which anything was
 * taken before: drop a half-read frame and fail what waits for it. -ERR_CORRUPT if the tail is impossible; stays so until the
 * sibling is restarted. Never blocks, makes no system call. */
int64_t mailbox_peek(struct mailbox_in *in, uint32_t from, struct slice two[2]);

/* Free the first n bytes of what mailbox_peek() showed. */
void mailbox_consume(struct mailbox_in *in, uint32_t from, size_t n);

/* After the reads of one turn: must the eventfd of sibling `from` be written because it waits for
 * room? True only if something was consumed since the last call. */
bool mailbox_in_should_wake(struct mailbox_in *in, uint32_t from);

/* Before blocking: announce sleep and look once more. true: block (siblings will write the eventfd).
 * false: there is mail that was not consumed, or an error not yet told; do not block, and
 * mailbox_sleep_end() is not needed. */
bool mailbox_sleep_begin(struct mailbox_in *in);

/* After blocking. */
void mailbox_sleep_end(struct mailbox_in *in);

/* One ring as a tool sees it. */
struct mailbox_row {
    uint64_t consumer; /* incarnation named by the epoch, 0: none */
    uint64_t base, tail, epochs, bytes;
    uint32_t waiting;
};

/* A reader of mail-INDEX.seg that takes part in nothing (tools). Attach with an all-zero segment;
 * errors as of segment_attach(). */
int mailbox_view_attach(struct segment *s, const char *dir, uint32_t index);
/* Number of rings and bytes of each. */
void mailbox_view_shape(const struct segment *s, uint32_t *workers, size_t *ring_bytes);
/* Ring to worker `to`. */
void mailbox_view_row(const struct segment *s, uint32_t to, struct mailbox_row *out);

#endif
