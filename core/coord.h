/* Coordination: the request logic of one worker, whole. Pure: the host (a worker, or the simulator)
 * gives it client requests, messages, durability news and the time, and carries out what it asks for
 * through struct coord_host. No allocation after coord_init(); everything in flight lives in fixed
 * tables inside the memory given.
 *
 * The ways of a request (Dynamo §4.5, §4.6, §5):
 *   - this worker owns the key's vnode on a node of the preference list: it coordinates;
 *   - another worker of this node owns it: one forward (PUT/GET message) to that worker;
 *   - this node is not in the preference list: one forward to the first primary believed up; if none
 *     is reachable, this node coordinates as a fallback, with its own vnode of that partition.
 *   A request that came by a forward is never forwarded again: whoever gets it coordinates.
 *   A forwarded write whose answer is lost ends as -ERR_UNKNOWN and is never sent elsewhere; a
 *   forwarded read is retried at another replica. A write that this worker cannot take (its disk is
 *   full or damaged, its vnode was away for too long) has not happened, and is forwarded too; one that
 *   was refused so by the worker it was forwarded to goes on to the next.
 *
 * A worker that was silent once is not waited for again until something is heard of it.
 *
 * A write: put.h. A read: get.h. Both are state machines step(state, event, now) -> actions; coord.c
 * routes events to them and their actions to the host. */
#ifndef CLOCKWISE_CORE_COORD_H
#define CLOCKWISE_CORE_COORD_H

#include "core/hlc.h"
#include "core/horizon.h"
#include "core/msg.h"
#include "core/object.h"
#include "core/position.h"
#include "core/ring.h"

struct coord;

/* Quorums for keys that begin with `prefix` (longest match wins; the first rule has the empty
 * prefix and holds for all). */
struct quorum_rule {
    struct slice prefix; /* borrowed for the life of the coord */
    uint8_t n, r, w, pr, pw, dw;
    bool sloppy;
    bool blocking_repair;
};

struct coord_conf {
    uint32_t requests;     /* coordinated requests in flight, at most LIMIT_REQUESTS */
    uint32_t timeout_ms;   /* a request without a TIMEOUT of its own */
    uint32_t replica_ms;   /* a replica silent for so long is replaced by a fallback */
    uint32_t patience_ms;  /* too few reachable: those who failed are tried again for so long */
    uint32_t hedge_min_ms; /* a read is hedged after the observed p99, but not earlier */
    uint32_t sibling_limit;
    uint64_t late_after_ms;          /* horizon_late_after(); 0: nothing is late */
    uint16_t rule_count;             /* at least 1 */
    const struct quorum_rule *rules; /* borrowed */
};

/* A reply to a client request. Slices are valid during the call only. */
struct coord_reply {
    int status;           /* 0 or a negated enum err */
    uint8_t need, got;    /* with -ERR_NOQUORUM: what was needed and what came */
    uint32_t flags;       /* writes: enum put_result_flags */
    struct slice context; /* writes with PUT_WANT_CONTEXT: text */
    struct slice object;  /* reads: merged encoded object, empty if nothing is known;
                               writes with PUT_RETURN_OLD: the object before */
};

/* What the core asks of its host. None may call back into the coord, and none blocks. */
struct coord_host {
    void *arg;
    /* Send to a worker of a member; member == self member is this node (mailbox). The message and
     * its slices are encoded before the call returns. -ERR_UNAVAILABLE if the link is down (nothing
     * was sent), -ERR_BUSY if it is backed up. */
    int (*send)(void *arg, uint16_t member, uint16_t worker, const struct msg *m);
    /* Is a member worth sending to? false: skip it at once (local failure detection). */
    bool (*reachable)(void *arg, uint16_t member, uint16_t worker);
    /* As in store.h; slices from load stay valid until the next load, store or hint_add. -ERR_BUSY
     * from next_dot: there will be dots in a moment. */
    int (*load)(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                struct slice *object);
    int (*store)(void *arg, uint32_t partition, const struct position *pos, struct slice object,
                 bool shrinks, uint64_t *lsn);
    int (*next_dot)(void *arg, uint32_t partition, struct dot *out);
    int (*witness_dot)(void *arg, uint32_t partition, struct dot seen);
    /* -ERR_LIMIT: too many hints for this target; the write counts all the same. */
    int (*hint_add)(void *arg, uint32_t partition, const struct node_id *target,
                    const struct position *pos, uint64_t *lsn);
    /* As store_get_at() in store.h. May be NULL if coord_repair() is not used. */
    int (*load_at)(void *arg, uint32_t partition, const struct position *pos, struct slice *object);
    /* How far may this vnode be believed, and what is its horizon (core/horizon.h)? Returns enum
     * standing. May be NULL: whole, horizon 0. */
    int (*standing)(void *arg, uint32_t partition, uint64_t *horizon_ms);
    /* What was just stored came late (core/horizon.h). May be NULL. */
    void (*late)(void *arg, uint32_t partition);
    /* Remove the object of a key for good. `kept` is what people may want to look at (values that were
     * deleted elsewhere long ago), or empty. May be NULL if nothing is ever dropped. */
    int (*drop)(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                struct slice kept, uint64_t *lsn);
    /* Answer a client. Called exactly once for each accepted request, perhaps before coord_put() or
     * coord_get() returns. */
    void (*reply)(void *arg, uint64_t token, const struct coord_reply *reply);
    /* Count one of enum coord_event (see coord_event.def); optional, may be NULL. */
    void (*count)(void *arg, int event, uint64_t n);
    /* A replica has not answered for replica_ms; optional, may be NULL. The host may want to see
     * whether its link is still alive, and call it unreachable if not, so that no other request has
     * to wait for it. */
    void (*silent)(void *arg, uint16_t member, uint16_t worker);
};

/* Bytes of memory that coord_init() needs. */
size_t coord_size(const struct coord_conf *conf);

/* memory: coord_size() bytes, 16-byte aligned, owned by the caller and outliving the coord.
 * `scratch_*` buffers are the caller's too and may grow (they belong to slow paths and to encoding);
 * they keep their memory between requests, so that the hot path does not allocate. */
struct coord *coord_init(void *memory, const struct coord_conf *conf, const struct coord_host *host,
                         struct buf *scratch_a, struct buf *scratch_b, uint16_t worker,
                         uint64_t seed);

/* New settings (a reload): rules and times hold for requests from now on. `requests` must be what it
 * was; conf->rules are borrowed as before. */
void coord_set_conf(struct coord *c, const struct coord_conf *conf);

/* A new ring view: both are borrowed until the next call. Requests in flight go on with the replicas
 * they have. */
void coord_set_view(struct coord *c, const struct ring_view *view, const struct ring_index *index);

/* A client's request, as a PUT or GET message (request and epoch are ignored). `token` comes back in
 * reply. Returns 0, or -ERR_BUSY when tables are full or there are no dots just now (no reply will
 * come; the host slows its clients down). now_us: monotonic; wall_ms: wall clock. */
int coord_put(struct coord *c, uint64_t token, const struct msg_PUT *put, uint64_t now_us,
              uint64_t wall_ms);
int coord_get(struct coord *c, uint64_t token, const struct msg_GET *get, uint64_t now_us,
              uint64_t wall_ms);

/* A message from a worker of a member, whose link the host has checked: member and worker are what
 * they claim to be. Unknown or late answers are ignored. */
void coord_receive(struct coord *c, uint16_t member, uint16_t worker, const struct msg *m,
                   uint64_t now_us, uint64_t wall_ms);

/* Everything stored up to lsn is durable. */
void coord_durable(struct coord *c, uint64_t lsn, uint64_t now_us);

/* The link to a worker broke: whatever was in flight there will not be answered. Forwarded writes
 * become unknown, replicas count as failed. */
void coord_link_down(struct coord *c, uint16_t member, uint16_t worker, uint64_t now_us,
                     uint64_t wall_ms);

/* Act on what has timed out. Returns the time of the next deadline, or UINT64_MAX. Cheap when
 * nothing is due. */
uint64_t coord_tick(struct coord *c, uint64_t now_us, uint64_t wall_ms);

/* Requests in flight. */
uint32_t coord_in_flight(const struct coord *c);

#endif
