/* The inside of a coordinator, shared by core/coord*.c and by nobody else.
 *
 *   coord.c          entry points, routing of requests, messages, time
 *   coord_put.c      writes coordinated here: actions of put.h carried out
 *   coord_get.c      reads coordinated here: actions of get.h carried out
 *   coord_forward.c  requests sent on to another coordinator
 *   coord_park.c     writes of other coordinators that have to wait a moment
 *   coord_change.c   both of them while the ring changes, and what replicas let count
 *   coord_replica.c  this worker as a replica: MERGE and READ of others, merging into the own vnode
 *   coord_table.c    slots of requests in flight, and the heap of their deadlines
 *   coord_ack.c      what waits for the disk
 *   coord_hold.c     keys and texts kept for requests in flight
 *   coord_latency.c  how fast replicas answer */
#ifndef CLOCKWISE_CORE_COORD_IMPL_H
#define CLOCKWISE_CORE_COORD_IMPL_H

#include "core/coord.h"
#include "core/get.h"
#include "core/planted.h"
#include "core/put.h"

#define COORD_MAGIC   0x636f6f72u
#define COORD_NOWHERE UINT32_MAX
#define AGAIN_US      10000u /* between tries of those who could not be reached */
#define COORD_NO_SELF UINT8_MAX

/* ---- coord_hold.c: bytes that outlive a call, in chains of fixed blocks. */

struct hold {
    uint32_t first; /* block; COORD_NOWHERE if empty */
    uint32_t len;
};

#define HOLD_BLOCK 124

struct hold_block {
    uint32_t next;
    uint8_t bytes[HOLD_BLOCK];
};

struct holds {
    struct hold_block *blocks;
    uint32_t count, free, first_free;
};

static inline uint32_t hold_blocks(size_t len)
{
    return (uint32_t)((len + HOLD_BLOCK - 1) / HOLD_BLOCK);
}

void hold_init(struct holds *h, struct hold_block *blocks, uint32_t count);
/* There must be hold_blocks(len) free blocks. */
struct hold hold_keep(struct holds *h, struct slice bytes);
void hold_drop(struct holds *h, struct hold *hold);
/* The bytes in one piece: those of the block itself, or copied to the end of `buf`. Valid until the
 * hold is dropped or buf changes. An empty slice if there is no memory to copy to. */
struct slice hold_bytes(const struct holds *h, const struct hold *hold, struct buf *buf);

static inline struct hold hold_nothing(void)
{
    return (struct hold){COORD_NOWHERE, 0};
}

/* ---- Who wants the outcome. */

struct asker {
    uint64_t id; /* a client's token, or the number of a message */
    uint16_t member, worker;
    bool remote; /* a message from (member, worker), not a client of this worker */
};

/* ---- coord_ack.c: a queue in the order of the journal. */

enum ack_kind {
    ACK_DONE,    /* answered already: its time ran out */
    ACK_WRITE,   /* a write that needs no other replica */
    ACK_REQUEST, /* a request in the table waits for the own copy */
    ACK_MERGE    /* an object merged for another coordinator */
};

struct ack {
    uint64_t lsn;
    uint64_t deadline_us; /* ACK_WRITE */
    struct asker asker;   /* ACK_WRITE, ACK_MERGE */
    uint64_t request;     /* ACK_REQUEST */
    struct hold context, old;
    uint32_t flags; /* enum put_result_flags */
    uint8_t kind;   /* enum ack_kind */
};

struct acks {
    struct ack *ring;
    uint32_t mask;
    uint32_t head, tail; /* of all that were ever pushed; tail - head are waiting */
    uint32_t timed;      /* ACK_WRITEs before it have been looked at for their deadline */
};

static inline bool acks_full(const struct acks *a)
{
    return a->tail - a->head > a->mask;
}

/* Queue behind what is there: ack->lsn is raised to the last one's if it is lower. */
void ack_push(struct coord *c, struct ack *ack);
/* Act on all that c->durable covers. */
void ack_run(struct coord *c);
/* Answer writes whose time ran out; returns the next such time or UINT64_MAX. */
uint64_t ack_expire(struct coord *c);

/* ---- coord_latency.c */

#define LATENCY_BUCKETS 128

/* Four buckets for every power of two of microseconds; halved now and then, so that it follows. */
struct latency {
    uint32_t bucket[LATENCY_BUCKETS];
    uint32_t total, fresh;
    uint64_t p99_us; /* 0: not enough values yet */
};

void latency_add(struct latency *l, uint64_t us);

/* ---- coord_table.c */

enum request_kind {
    REQUEST_FREE,
    REQUEST_PUT,
    REQUEST_GET,
    REQUEST_PUT_AWAY, /* sent on to another coordinator */
    REQUEST_GET_AWAY,
    REQUEST_PARKED /* a write that came from another and cannot be taken just now */
};

/* What is left of a PUT message besides key, context and (in `old`) value. */
struct kept {
    uint64_t expiry, request_id;
    uint32_t flags;
    uint8_t op, w, pw, dw;
};

/* A request sent on to another coordinator; `member` and `worker` of the request list those who
 * may coordinate it, in order. */
struct forward {
    uint8_t count, at; /* at: whom it was sent to last */
    uint8_t r, pr;     /* of a read, as its client put it */
    uint8_t need;      /* of a read: what r means here */
    bool again;        /* a write: `kept` holds it, so that it can be sent once more */
    bool not_here;     /* a write: this worker has tried, and cannot */
    uint32_t flags;    /* of a read */
    uint64_t hop_us;   /* a read goes on to the next one then */
    struct kept kept;
};

struct request {
    uint64_t id; /* generation << 16 | slot */
    uint64_t due_us;
    uint32_t heap_at;
    uint32_t next_free;
    uint8_t kind;   /* enum request_kind */
    uint32_t flags; /* enum put_result_flags */
    uint32_t partition;
    struct asker asker;
    struct position pos;
    struct dot dot; /* of a write; vnode 0: it was carried out before */
    struct hold key, context;
    struct hold
        old; /* a write: the object before it, if wanted, or the value if parked; a read: what was found, if the own
                        replica cannot take it in */
    uint64_t start_us, deadline_us;
    uint64_t epoch;      /* of the ring that the members are from */
    uint32_t list, also; /* prints of the lists that answers are counted in; 0: sloppy, or none */
    uint64_t local_lsn;  /* a read: what the own replica holds is durable from there on */
    uint16_t member[LIMIT_WALK];
    uint8_t worker[LIMIT_WALK];
    uint32_t sent_us[LIMIT_WALK]; /* a read: when target was asked, since start_us */
    union {
        struct put put;
        struct get get;
        struct forward forward;
        struct kept parked;
    } u;
};

struct table {
    struct request *slots;
    uint32_t *heap; /* slots by due_us */
    uint32_t count, used, heap_count, first_free;
};

void table_init(struct table *t, struct request *slots, uint32_t *heap, uint32_t count,
                uint64_t generation);
/* A slot with a fresh id, zeroed as far as its header goes, holding nothing; NULL if all are taken. */
struct request *table_take(struct table *t, enum request_kind kind);
void table_give(struct table *t, struct request *r);
/* The request of this id, NULL if it has ended. */
struct request *table_find(struct table *t, uint64_t id);
/* Due at this time; UINT64_MAX: never. */
void table_schedule(struct table *t, struct request *r, uint64_t due_us);
/* The one due first, NULL if none is scheduled. */
struct request *table_first(const struct table *t);

/* ---- The coordinator. */

/* Workers of a member that have been silent and have not been heard of since. Forgotten after a
 * while, so that they are tried again even if nothing is written to them. */
struct suspicion {
    uint64_t workers; /* bits */
    uint64_t until_us;
};

struct coord {
    uint32_t magic;
    uint16_t worker;
    struct coord_conf conf;
    struct coord_host host;
    const struct ring_view *view;
    const struct ring_index *index;
    struct buf *scratch_a; /* objects made here */
    struct buf *scratch_b; /* held bytes in one piece */
    struct hlc hlc;
    uint64_t now_us, wall_ms;   /* of the call that is being served */
    uint64_t durable, last_lsn; /* on disk; given out last */
    struct table table;
    struct acks acks;
    struct holds holds;
    struct latency latency;
    struct suspicion suspicions[LIMIT_MEMBERS];
    uint64_t object_of; /* request whose object is at hand in `object`; 0: none */
    bool object_loaded; /* it belongs to the host and goes with the next store */
    struct slice object;
    struct object mine, theirs;
    struct causal seen, reply;
    char text[LIMIT_CONTEXT_TEXT];
};

/* First of all in each call from outside. */
void coord_enter(struct coord *c, uint64_t now_us, uint64_t wall_ms);

/* Where a key lives, and what holds for it. */
struct place {
    struct position pos;
    uint32_t partition;
    const struct ring_walk *walk; /* the list in force */
    const struct ring_walk
        *other; /* the list of the other table while the partition moves, or NULL */
    const struct quorum_rule *rule;
    uint8_t phase; /* enum ring_phase */
    uint8_t n;     /* primaries: the first n of the walk */
    uint8_t self;  /* index of this node in the walk, or COORD_NO_SELF */
    bool mine;     /* on this node the partition belongs to this worker */
};

/* How many replicas to wait for. What a client asks for is taken literally; a configured number adapts
 * to a cluster that is smaller than that. */
static inline uint8_t coord_wanted(uint8_t asked, uint8_t configured, uint8_t n)
{
    return asked != 0 ? asked : configured < n ? configured : n;
}

/* May fallbacks stand in for primaries? */
static inline bool coord_is_sloppy(const struct place *place)
{
    return place->rule->sloppy || COORD_BUG(STRICT_COUNTS_FALLBACKS);
}

/* false: there is no ring yet, or the partition has no owner. */
bool coord_place(const struct coord *c, struct slice key, struct place *out);

/* The worker of a member that owns a partition there. */
uint16_t coord_worker_at(const struct coord *c, uint16_t member, uint32_t partition);

/* Fill members and workers of a request coordinated here. Returns how many of the walk are in use:
 * all of it, with this node as the last one if it is not in it. *self is this node's index. */
uint8_t coord_targets(const struct coord *c, const struct place *place, struct request *r,
                      uint8_t *self);

/* Index of a member among the first count of a request's, or count. */
uint8_t coord_target_of(const struct request *r, uint8_t count, uint16_t member);

/* Send if the member is believed to be reachable; 0 or a negated error. */
int coord_send(struct coord *c, uint16_t member, uint16_t worker, const struct msg *m);

/* Drop what the request holds and give its slot back. */
void coord_release(struct coord *c, struct request *r);

/* How long a request may outlive its answer, to hear from those who are late. */
uint64_t coord_linger(const struct coord *c);

/* Bits of the first count targets that are under suspicion. */
uint32_t coord_suspects(const struct coord *c, const struct request *r, uint8_t count);

/* A replica has been silent for too long. */
void coord_blame(struct coord *c, const struct request *r, uint8_t target);

uint64_t coord_deadline(const struct coord *c, uint32_t timeout_ms);

static inline void coord_count(struct coord *c, int event, uint64_t n)
{
    if (c->host.count != NULL)
        c->host.count(c->host.arg, event, n);
}

/* What an outcome looks like before it is sent or told. */
void coord_answer_put(struct coord *c, const struct asker *asker, const struct coord_reply *reply);
void coord_answer_get(struct coord *c, const struct asker *asker, const struct coord_reply *reply);
/* Likewise for a write whose context and old object are held; drops both. */
void coord_answer_held(struct coord *c, const struct asker *asker, struct coord_reply *reply,
                       struct hold *context, struct hold *old);

/* coord_put.c. An error means that this worker could not do it (it is busy, its disk is full or
 * damaged): nothing has happened and nobody was answered. */
int coord_put_here(struct coord *c, const struct asker *asker, const struct place *place,
                   const struct msg_PUT *put);
void coord_put_event(struct coord *c, struct request *r, struct put_event event);

/* coord_get.c. -ERR_BUSY likewise. */
int coord_get_here(struct coord *c, const struct asker *asker, const struct place *place,
                   const struct msg_GET *get, uint64_t deadline_us);
void coord_get_event(struct coord *c, struct request *r, struct get_event event);
void coord_get_object(struct coord *c, struct request *r, uint8_t target, struct slice object);

/* coord_forward.c. An error likewise. failed: why this worker cannot coordinate it, or 0 if that was
 * not tried; it is the answer if nobody else is there. */
int coord_forward_put(struct coord *c, const struct asker *asker, const struct place *place,
                      const struct msg_PUT *put, int failed);
int coord_forward_get(struct coord *c, const struct asker *asker, const struct place *place,
                      const struct msg_GET *get);
void coord_forward_done(struct coord *c, struct request *r, const struct msg *m);
/* The one it was sent to will not answer (or has not for too long). */
void coord_forward_lost(struct coord *c, struct request *r, bool timeout);
uint64_t coord_forward_due(const struct request *r);

/* coord_park.c. -ERR_BUSY: there is no room to park. */
int coord_park_put(struct coord *c, const struct asker *asker, const struct msg_PUT *put,
                   uint64_t deadline_us);
void coord_park_retry(struct coord *c, struct request *r);
/* Blocks of c->holds that a write takes. */
uint64_t coord_kept_blocks(const struct msg_PUT *put);
/* Have the request hold a write, for which there are blocks. */
void coord_keep_put(struct coord *c, struct request *r, struct kept *kept,
                    const struct msg_PUT *put);
/* The write again, in scratch_b; request, epoch and timeout are left 0. false: no memory. */
bool coord_kept_put(struct coord *c, const struct request *r, const struct kept *kept,
                    struct msg_PUT *out);

/* coord_replica.c */

/* How far may the own vnode be believed? *horizon_ms is 0 unless it is whole. */
enum standing coord_standing(const struct coord *c, uint32_t partition, uint64_t *horizon_ms);

struct merged {
    struct slice object; /* what the own replica should hold now; valid until the next load, store
                            or merge; empty with `dead` */
    bool news;           /* it differed from what it held before */
    bool dead;           /* it was deleted and purged here; nothing is stored */
    uint64_t lsn;        /* it is durable from there on */
    uint64_t digest;     /* of what came */
};
/* Merge an encoded object that came from elsewhere into the own vnode; c->theirs is its decoded view
 * and c->mine that of what was there before. With `repair` (whatever is no client's write) the horizon
 * judges it first, which takes scratch_b. expected: the key it must have, or NULL. -ERR_CORRUPT or
 * -ERR_INVAL: it is not usable; any other error: it could not be stored, and out->object is still
 * the merged object (empty only with -ERR_LIMIT or -ERR_NOMEM). */
int coord_merge_in(struct coord *c, uint32_t partition, const struct position *pos,
                   const struct slice *expected, struct slice incoming, bool repair,
                   struct merged *out);
/* Likewise, but with `own` instead of what the vnode holds, and without storing anything. */
int coord_merge_with(struct coord *c, struct slice own, const struct slice *expected,
                     struct slice incoming, struct merged *out);
void coord_serve_merge(struct coord *c, const struct asker *asker, const struct msg_MERGE *m);
void coord_serve_read(struct coord *c, const struct asker *asker, const struct msg_READ *m);

#endif
