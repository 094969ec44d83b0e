/* One exchange: two replicas of a partition compare what they have and mend every difference, both
 * ways. Pure; runs in antientropyd and in the simulator. (Dynamo §4.7.)
 *
 * The tree. Node (bits, index) stands for the positions whose `bits` bits below the partition's are
 * `index`; its sum is the sum modulo 2^64 of exchange_entry.sum over the rows in it, tombstones
 * included. So a node is the sum of its 16 children (EXCHANGE_FAN bits more), the root is the sum of
 * everything, and kept leaves (store/merkle_leaf.h) are the nodes of depth leaf_bits: both ends may
 * keep leaves of different depths, shallower nodes are sums of leaves, deeper ones sums of rows.
 * Below the root EXCHANGE_SUM_BYTES of a sum travel.
 *
 * The course. The initiator does all the driving: one request at a time, each answered once; the
 * responder keeps nothing but the answer that it is working on.
 *   OPEN -> OPENED      equal roots: both have agreed, nothing else is sent
 *   COMPARE -> COMPARED down from the root, a bounded number of nodes at once, depth first
 *   then for each node that differs:
 *     a few rows:       LIST -> LISTED (positions, digests); the responder leaves out what is the
 *                       same now. Both look at differences a second time through the worker that
 *                       owns the vnode and sees its write buffers: writes in flight are none. What
 *                       is left moves: PULL, PUSH, or a MERGE at home first; or dies: DEAD, DROP
 *     nothing there:    PUSH of the whole range, without lists
 *     nothing here:     PULL of the whole range, without lists
 *   CLOSE               tells the responder how it ended
 * Objects move as merges; a request is answered when its objects are durable. Messages of one
 * exchange hold at most EXCHANGE_BATCH bytes of objects (and one object more). An exchange that is cut
 * off leaves nothing behind: the next one finds equal what is equal.
 *
 * A row may be older than the tree it was found by (both grow while an exchange runs). That is
 * harmless: everything the side had at `as_of_ms` was compared, in that version or a newer one.
 *
 * Dead rows (core/horizon.h): what is missing at a whole replica although it is older than that
 * replica's horizon has been deleted and purged there. A position where one side has nothing is
 * judged from the list; the worker judges when it merges (REPAIR_TOOK_DEAD). The side that still has
 * it drops it.
 *
 * A surplus vnode (EXCHANGE_SURPLUS: its node is no replica of the partition) only gives: it takes
 * nothing, not even newer versions of what it has, for then it would never be done with keys that are
 * written to all the time. Its agreement means that the other side
 * has all that it has; the other side, which it has taken nothing from, has not agreed.
 *
 * Bad input from the peer (unknown or unexpected message, unsorted list, position outside the
 * partition or outside the nodes asked for, wrong depth or length, more than was allowed) is
 * -ERR_FORMAT: drop the connection and count it. */
#ifndef CLOCKWISE_CORE_EXCHANGE_H
#define CLOCKWISE_CORE_EXCHANGE_H

#include "base/buf.h"
#include "core/position.h"
#include "core/repair.h"
#include "core/ring.h"

enum {
    EXCHANGE_FAN = 4,          /* bits from one level of the tree to the next */
    EXCHANGE_CHILDREN = 16,    /* 1 << EXCHANGE_FAN */
    EXCHANGE_BITS = 28,        /* depth of the deepest nodes */
    EXCHANGE_NODES = 64,       /* nodes in one COMPARE or LIST */
    EXCHANGE_SUM_BYTES = 6,    /* of a sum in COMPARE */
    EXCHANGE_LIST_ROWS = 8,    /* a node with at most so many rows is listed */
    EXCHANGE_LISTED_ROWS = 32, /* a node with more rows at the responder is moved as a range */
    EXCHANGE_LIST = 2560,      /* entries in one LIST or LISTED */
    EXCHANGE_BATCH = 64 << 10, /* bytes of objects in one message; one object may pass it. A
                                   worker merges a message in one go: clients wait for that */
    REPAIR_ENTRY_BYTES = 33,   /* position 16, digest 8, time_ms 8, flags 1 */
    REPAIR_DROP_BYTES = 24     /* position 16, digest 8 */
};

enum exchange_flags {
    EXCHANGE_WHOLE = 1,   /* standing of the sender's vnode is STANDING_WHOLE */
    EXCHANGE_SURPLUS = 2, /* the sender's vnode only gives */
    EXCHANGE_AGREED = 4   /* OPENED: the roots are equal */
};

enum entry_flags {
    ENTRY_TOMBSTONE = 1 /* nothing in it is alive: deleted or expired */
};

/* One row, as lists tell it. */
struct exchange_entry {
    struct position pos;
    uint64_t digest;  /* object_digest(); the sum of several objects' at one position; 0: nothing */
    uint64_t sum;     /* what it contributes to the tree; does not travel */
    uint64_t time_ms; /* horizon_time() of the object */
    uint8_t flags;    /* enum entry_flags */
};

/* What one end knows of its vnode when the exchange begins. Taken in this order: `vnode`, `horizon`,
 * `as_of_ms`, then the tree. */
struct exchange_side {
    uint32_t partition;
    uint8_t q_bits;
    uint64_t epoch;
    uint64_t vnode; /* vnode id; an answer of the worker with another one ends the exchange */
    uint32_t flags; /* enum exchange_flags */
    uint64_t root;
    uint64_t horizon_ms; /* 0 unless whole */
    uint64_t now_ms;     /* wall time when all this was looked at */
    uint64_t as_of_ms;   /* wall time: everything accepted before it is in the tree */
};

/* What the exchange asks of its host. None may call back into the exchange. */
struct exchange_host {
    void *arg;
    /* To the other end. Encoded before it returns. An error: the connection is gone, and so is the
     * exchange. */
    int (*send)(void *arg, const struct repair *m);
    /* LOOK, FETCH, MERGE or DROP to the own worker that has the vnode. Encoded before it returns; the
     * answer comes through exchange_answer(), later. An error ends the exchange. `request` is left for
     * the host to set. */
    int (*ask)(void *arg, const struct repair *m);
    /* The newest tree. *leaves: 1 << *leaf_bits sums, valid until the next call of the host. 0 or an
     * error, which ends the exchange. */
    int (*leaves)(void *arg, uint32_t partition, const uint64_t **leaves, unsigned *leaf_bits);
    /* The rows from first to last, both inclusive: at most max of them into out, ascending. Returns
     * their number; fewer than max: these were all. Negative: an error, which ends the exchange. */
    int (*rows)(void *arg, uint32_t partition, const struct position *first,
                const struct position *last, uint32_t max, struct exchange_entry *out);
    /* The objects from *cursor to last, appended to out until it holds max_bytes or more; *cursor then
     * is where to go on. Returns 1 if the range is told, else 0, or an error. */
    int (*objects)(void *arg, uint32_t partition, struct position *cursor,
                   const struct position *last, uint32_t max_bytes, struct buf *out);
};

enum exchange_outcome {
    EXCHANGE_RUNNING,
    EXCHANGE_AGREEMENT, /* both have what either had */
    EXCHANGE_PARTIAL,   /* ended, but something could not be mended now: no agreement */
    EXCHANGE_FAILED     /* given up: see exchange_error() */
};

/* Of one exchange, as seen from this end. */
struct exchange_stats {
    uint64_t nodes;                 /* of the tree, compared */
    uint64_t listed;                /* positions that differed in lists */
    uint64_t in_flight;             /* of them those that did not when looked at again */
    uint64_t pushed, pulled;        /* objects sent, received */
    uint64_t news_here, news_there; /* of them those that brought something new */
    uint64_t dead;                  /* rows dropped on either side */
    uint64_t failed;                /* objects that could not be stored */
};

struct exchange;

size_t exchange_size(void);

/* memory: exchange_size() bytes, 16-byte aligned, owned by the caller, used for one exchange after the
 * other. host is copied. */
struct exchange *exchange_init(void *memory, const struct exchange_host *host);
/* Give back what its buffers hold. */
void exchange_fini(struct exchange *x);

/* Begin as the initiator, under a number that no other exchange of the connection has: sends OPEN. */
void exchange_begin(struct exchange *x, uint32_t number, const struct exchange_side *mine);

/* Begin as the responder: answers an OPEN for mine->partition. (Where there is no such vnode, or the
 * rings differ too much, the host answers OPENED with a status itself.) */
void exchange_serve(struct exchange *x, const struct exchange_side *mine,
                    const struct repair_OPEN *open);

/* A message of this exchange from the other end. 0, or -ERR_FORMAT: it broke the rules; the exchange has
 * failed. After the end messages are ignored. */
int exchange_receive(struct exchange *x, const struct repair *m);

/* The answer of the own worker to what was asked last. One that does not fit is a bug of ours. */
void exchange_answer(struct exchange *x, const struct repair *m);

/* Give it up (the connection broke, the worker died, the vnode was dropped). */
void exchange_abort(struct exchange *x, int error);

enum exchange_outcome exchange_outcome(const struct exchange *x);
/* Why it failed: a negated enum err, else 0. */
int exchange_error(const struct exchange *x);
/* The agreement holds as of this time: what either side had accepted before it was in its tree. By this
 * side's clock: of the other's only the age is told. */
uint64_t exchange_as_of(const struct exchange *x);
uint32_t exchange_number(const struct exchange *x);
void exchange_stats(const struct exchange *x, struct exchange_stats *out);
/* Does it wait for the own worker (else, while it runs, for the peer)? */
bool exchange_waits_for_worker(const struct exchange *x);

/* To which exchange does a message between antientropyds belong? 0 if to none (HELLO). */
uint32_t exchange_of(const struct repair *m);

/* Entries as they travel. Decoding sets sum to 0. */
void exchange_entry_encode(const struct exchange_entry *e, uint8_t out[REPAIR_ENTRY_BYTES]);
void exchange_entry_decode(const uint8_t in[REPAIR_ENTRY_BYTES], struct exchange_entry *e);

#endif
