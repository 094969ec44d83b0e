/* worker-I.seg: what worker I tells the rest of its node. Written by worker I alone.
 *
 * Offsets are from the start of the body (behind the segment header); fields with an arrow carry
 * protocol, all others are statistics that people and INFO read.
 *
 *   offset field          who changes it, when; why a stale read is harmless
 *   0      heartbeat_us   the worker's loop, at most every 100 ms; readers judge by seconds
 *   8      state          the worker, at start, serving, draining; for people
 *   12     partitions     the worker at creation; constant (rows of the vnode table)
 *   16     cpu, workers   the worker at creation; constant
 *   24     ring_version   the worker, after it has taken a new ring view; gossipd announces a step of
 *                         a ring change when all workers act by it: a stale one delays that
 *   64     sleeping    -> the worker, around every wait; see mailbox.h (a line of its own)
 *   128    inbox[64]   -> the worker, as it takes mail from producer j: one line per producer
 *                         {head, producer_incarnation, bytes, resets}; see mailbox.h. A stale head
 *                         shows less room than there is
 *          counters       the worker's loop; see counter.h
 *          hists[]        the worker's loop; see base/hist.h. name, then the histogram
 *          vnodes[]       the worker's loop, row p is partition p. `state` is stored last with
 *                         release; a reader may see numbers of different moments in one row
 *
 * Every run of a worker makes a new file with a new incarnation. Merkle leaves get a segment of
 * their own (they change size with the number of vnodes); a vnode's row has the generation and the
 * root, which is all that a first comparison needs. */
#ifndef CLOCKWISE_SHM_WORKER_SEG_H
#define CLOCKWISE_SHM_WORKER_SEG_H

/* The CPU is short where cpu_wait_percent is at least this. */
#define WORKER_CPU_SHORT_PERCENT 50u

#include "base/hist.h"
#include "core/limits.h"
#include "shm/counter.h"
#include "shm/segment.h"

/* The latencies that a worker keeps: X(NAME, "name"). local: answered from this worker's own vnode
 * alone; coordinated: other replicas took part; forwarded: another worker coordinated. */
#define WORKER_HISTS(X)                                                                            \
    X(GET_LOCAL, "get_local")                                                                      \
    X(GET_COORDINATED, "get_coordinated")                                                          \
    X(GET_FORWARDED, "get_forwarded")                                                              \
    X(PUT_LOCAL, "put_local")                                                                      \
    X(PUT_COORDINATED, "put_coordinated")                                                          \
    X(PUT_FORWARDED, "put_forwarded")                                                              \
    X(JOURNAL_SYNC, "journal_sync")                                                                \
    X(LOOP_TURN, "loop_turn")                                                                      \
    X(REPLICA, "replica_answer")

enum worker_hist {
#define X(name, text) WORKER_HIST_##name,
    WORKER_HISTS(X)
#undef X
        WORKER_HIST_COUNT
};

enum worker_state { WORKER_STARTING = 0, WORKER_SERVING = 1, WORKER_DRAINING = 2 };

enum worker_vnode_state {
    WORKER_VNODE_NONE = 0,
    WORKER_VNODE_OPEN = 1,
    WORKER_VNODE_QUARANTINED = 2,
    WORKER_VNODE_RECOVERING = 3
};

/* What this worker has taken out of producer j's ring. One cache line. */
struct worker_inbox {
    _Atomic uint64_t head;
    _Atomic uint64_t producer_incarnation; /* whose ring head counts in; 0: nobody's */
    _Atomic uint64_t bytes;                /* taken in all, for people */
    _Atomic uint64_t resets;               /* rings begun, for people */
    uint64_t zero[4];
};

struct worker_vnode {
    _Atomic uint64_t id; /* vnode id */
    _Atomic uint64_t keys;
    _Atomic uint64_t hints;
    _Atomic uint64_t dot;               /* newest dot issued */
    _Atomic uint64_t merkle_generation; /* of the newest flush */
    _Atomic uint64_t merkle_root;
    _Atomic uint32_t state; /* enum worker_vnode_state; stored last */
    _Atomic uint32_t buffered_keys;
    _Atomic uint64_t buffered_bytes; /* of write buffers: what a flush has not seen yet */
};

struct worker_named_hist {
    char name[64];
    struct hist hist;
};

struct worker_body {
    _Atomic uint64_t heartbeat_us; /* clock_mono_us() of a recent turn of the loop */
    _Atomic uint32_t state;        /* enum worker_state */
    uint32_t partitions;
    uint32_t cpu;
    uint32_t workers;              /* of this node */
    _Atomic uint64_t ring_version; /* of the ring view that this worker acts by, 0: none yet */
    uint64_t zero0[4];
    _Atomic uint32_t sleeping;
    uint32_t zero1[15];
    struct worker_inbox inbox[LIMIT_WORKERS];
    struct counter_block counters __attribute__((aligned(64)));
    struct worker_named_hist hists[WORKER_HIST_COUNT];
    struct worker_vnode vnodes[]; /* partitions of them */
};

/* One mapped worker segment, for its writer or for a reader. Zero bytes: not open. Do not copy. */
struct worker_seg {
    struct segment segment;
    struct worker_body *body; /* changes with every reattachment; read-only for readers */
};

/* Writer: make and publish worker-INDEX.seg in dir. Errors as of segment_create(). cpu is what the
 * worker is pinned to. */
int worker_seg_create(struct worker_seg *w, const char *dir, uint32_t index, uint32_t workers,
                      uint32_t partitions, uint32_t cpu, uint64_t incarnation);

/* Reader: errors as of segment_attach(). */
int worker_seg_attach(struct worker_seg *w, const char *dir, uint32_t index);

/* Reader: as segment_reattach_if_replaced(): 1 if now another map. */
int worker_seg_refresh(struct worker_seg *w);

void worker_seg_close(struct worker_seg *w);

/* Writer: say that the loop is alive. Stores at most every 100 ms, so call it every turn. */
void worker_seg_heartbeat(struct worker_seg *w, uint64_t now_mono_us);

/* Writer. */
void worker_seg_set_state(struct worker_seg *w, enum worker_state state);

static inline void worker_seg_latency(struct worker_seg *w, enum worker_hist h, uint64_t us)
{
    hist_add(&w->body->hists[h].hist, us);
}

static inline void worker_seg_count(struct worker_seg *w, enum counter c, uint64_t n)
{
    counter_add(&w->body->counters, c, n);
}

/* Writer: fill one row of the vnode table. */
void worker_seg_vnode(struct worker_seg *w, uint32_t partition, enum worker_vnode_state state,
                      uint64_t id, uint64_t keys, uint64_t hints);

/* Writer: what waits for the next flush. */
void worker_seg_buffered(struct worker_seg *w, uint32_t partition, uint64_t keys, uint64_t bytes);

/* Writer: what the newest flush left, for people. */
void worker_seg_tree(struct worker_seg *w, uint32_t partition, uint64_t generation, uint64_t root);

/* Static texts; never NULL. */
const char *worker_seg_hist_name(enum worker_hist h);
const char *worker_seg_state_name(uint32_t state);
const char *worker_seg_vnode_state_name(uint32_t state);

#endif
