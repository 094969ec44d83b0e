/* Hinted handoff (Dynamo §4.6): objects that a worker keeps for nodes that could not be reached are
 * delivered when those are back. Pure; the worker and the simulator are its hosts. No allocation
 * after handoff_init().
 *
 * It walks round and round over the hints of this worker's vnodes, target by target and partition by
 * partition, and sends each object as MERGE with MERGE_HANDOFF. A hint goes only when the target has said
 * that the object is durable there, and only if the object has not changed in the meantime: a later
 * write for the same target shares the hint. What fails or times out stays and is met again in the
 * next round. Nothing needs to be remembered across a restart, because hints are durable. A vnode that was
 * away for too long (core/horizon.h) delivers nothing: what it owes may have been deleted and purged.
 *
 * A node that has left the ring cannot wait for a target that is faulty: it sends what it owes to another
 * primary, with the hint, and is rid of its own when both are durable there.
 *
 * Request numbers have their top bit set, so that the host can tell answers to handoff from answers
 * to the coordinator: see handoff_owns(). */
#ifndef CLOCKWISE_CORE_HANDOFF_H
#define CLOCKWISE_CORE_HANDOFF_H

#include "core/msg.h"
#include "core/position.h"
#include "core/ring.h"

#define HANDOFF_IN_FLIGHT   1024 /* at most */
#define HANDOFF_REQUEST_BIT (1ull << 63)

struct handoff;

struct handoff_conf {
    uint16_t worker;     /* own index */
    uint16_t workers;    /* of this node */
    uint32_t in_flight;  /* objects not yet acknowledged, 1 to HANDOFF_IN_FLIGHT */
    uint32_t per_second; /* objects sent, on average; bursts of a tenth of it, 64 in one call */
    uint32_t timeout_ms; /* an acknowledgement that has not come by then will not come */
    uint32_t idle_ms;    /* pause after a round that found nothing to do */
    uint32_t seed;       /* random: answers to an earlier life of this worker do not fit requests of
                            this one */
};

/* What handoff asks of its host. None may call back, and none blocks. */
struct handoff_host {
    void *arg;
    /* As in core/coord.h. */
    int (*send)(void *arg, uint16_t member, uint16_t worker, const struct msg *m);
    bool (*reachable)(void *arg, uint16_t member, uint16_t worker);
    /* Is the own vnode STANDING_AWAY? Cheap. */
    bool (*away)(void *arg, uint32_t partition);
    /* May this vnode hold hints for the target that are not too old? Cheap; true without need only costs
     * time. */
    bool (*owes)(void *arg, uint32_t partition, const struct node_id *target);
    /* Put up to `max` positions of hints for the target into `out`, from *cursor on, which moves
     * behind them; returns their number (fewer than max: the end was reached) or an error. */
    int (*scan)(void *arg, uint32_t partition, const struct node_id *target,
                struct position *cursor, uint32_t max, struct position *out);
    /* The object at a position and its digest; valid until the next call. -ERR_NOTFOUND, or an
     * error: the hint stays. */
    int (*load)(void *arg, uint32_t partition, const struct position *pos, struct slice *object,
                uint64_t *digest);
    /* Remove a hint; may become durable later. */
    void (*remove)(void *arg, uint32_t partition, const struct node_id *target,
                   const struct position *pos);
};

struct handoff_stats {
    uint64_t sent;      /* objects */
    uint64_t delivered; /* hints removed after an acknowledgement */
    uint64_t changed;   /* acknowledged, but the object had changed: sent again */
    uint64_t failed;    /* refused, timed out, link broken */
    uint64_t orphaned;  /* hints removed because the target has no part in it any more, or the
                           object is gone for good */
    uint32_t in_flight;
};

size_t handoff_size(const struct handoff_conf *conf);

/* memory: handoff_size() bytes, 16-byte aligned, owned by the caller. conf and host are copied. */
struct handoff *handoff_init(void *memory, const struct handoff_conf *conf,
                             const struct handoff_host *host);

/* Another rate from now on. */
void handoff_set_rate(struct handoff *h, uint32_t per_second);

/* A new ring view, borrowed until the next call, with its index. Until the first one nothing is done. A
 * hint for a member that has no part in its partition any more goes without delivery: the object is
 * owed to others now, to whom anti-entropy brings it. */
void handoff_set_view(struct handoff *h, const struct ring_view *view,
                      const struct ring_index *index);

/* Is this the number of a request of handoff? */
static inline bool handoff_owns(uint64_t request)
{
    return (request & HANDOFF_REQUEST_BIT) != 0;
}

/* A MERGED with such a number. Unknown and late ones are ignored. */
void handoff_receive(struct handoff *h, const struct msg_MERGED *m, uint64_t now_us);

/* The link to a worker broke: what is in flight there will not be answered. */
void handoff_link_down(struct handoff *h, uint16_t member, uint16_t worker, uint64_t now_us);

/* Do a bounded amount of work. Returns when to call again at the latest; never UINT64_MAX. */
uint64_t handoff_tick(struct handoff *h, uint64_t now_us);

/* There is a new hint: end the pause after a round that found nothing. */
void handoff_wake(struct handoff *h);

void handoff_stats(const struct handoff *h, struct handoff_stats *out);

#endif
