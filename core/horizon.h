/* When may a tombstone go, and when may a replica be believed? Pure bookkeeping for one vnode; kept by
 * antientropyd (agreements) and by the worker (standing and horizon, durable with the vnode).
 *
 * Agreement with a peer as of T: all that this vnode had accepted before T (wall clock of this node) the
 * peer has, durably, and the other way round (core/exchange.h).
 *
 * Horizon H of a vnode (ms): everything deleted up to H is known to all N replicas, and no hint from
 * before it can arrive any more. H = min over the other primaries of the newest agreement
 * - hint_age - slack, slack = min(60 s, hint_age) for clocks that differ; it never decreases, except to
 * 0 when the vnode takes a new id. A row in which nothing is alive is purged when horizon_time() <= H.
 * What arrives late, that is older than hint_age + slack when it comes, may be unknown to peers with whom
 * this vnode agreed before it came: from the moment of its coming (`late_ms`) the horizon stands still and
 * nothing is purged until all N have agreed again as of later.
 * Replicas purge at different times. So what a replica does not have although it is older than the
 * replica's horizon has been deleted and purged there: it is dead, wherever it turns up.
 *
 * Standing. Whole: can be believed. Missing: it has lost something, or is new: what it has is good,
 * "nothing" is no answer; it takes part in everything else. Away: it was out of touch for longer than
 * hints are kept, or is a copy that came back from a backup: what it has may have been deleted and purged
 * meanwhile; it neither answers nor takes writes (ERR_NOTWHOLE), and delivers no hints, until
 * anti-entropy has gone over it. Out of touch is a primary while it is down (while it is up but cut off
 * it holds back the horizons of all others); any other vnode while it agrees with no primary. Whole again after an agreement with every
 * other primary that is not faulty, at least one (with N = 1: at once). */
#ifndef CLOCKWISE_CORE_HORIZON_H
#define CLOCKWISE_CORE_HORIZON_H

#include "core/object.h"
#include "core/ring.h"

#define HORIZON_SLACK_MS 60000u

enum standing { STANDING_WHOLE = 0, STANDING_MISSING = 1, STANDING_AWAY = 2 };

/* Agreements of one vnode with the other primaries of its partition (and with those it is owed to). */
struct horizon {
    uint64_t vnode; /* the id that all of it is about */
    uint8_t count;
    struct horizon_peer {
        struct node_id id;
        uint64_t agreed_ms; /* as_of of the newest agreement; 0: none */
    } peer[2 * LIMIT_REPLICAS];
};

/* Forget all agreements: the vnode has this id now. */
void horizon_reset(struct horizon *h, uint64_t vnode);

/* An exchange of the vnode with this id has ended in agreement. Ignored if the id is not the one that
 * agreements are kept of. Of more peers than there is room for the one agreed with longest ago goes. */
void horizon_agreed(struct horizon *h, uint64_t vnode, const struct node_id *peer,
                    uint64_t as_of_ms);

/* The newest agreement with a peer; 0: none. */
uint64_t horizon_agreement(const struct horizon *h, const struct node_id *peer);

/* hint_age + slack: what is older than this when it comes is late. */
static inline uint64_t horizon_late_after(uint64_t hint_age_ms)
{
    return hint_age_ms + (hint_age_ms < HORIZON_SLACK_MS ? hint_age_ms : HORIZON_SLACK_MS);
}

/* Have all other primaries agreed as of later than since_ms (a member that is not in touch has not), so
 * that the horizon may move on and things may be purged? *horizon_ms is then the new horizon, never less
 * than what it was before. Without other primaries it follows now_ms. */
bool horizon_move(const struct horizon *h, const struct ring_view *view,
                  const struct ring_walk *walk, uint64_t hint_age_ms, uint64_t now_ms,
                  uint64_t late_ms, uint64_t *horizon_ms);

/* Has the vnode agreed, later than since_ms, with every other primary that is not faulty, and with at
 * least one (or are there none)? Then it is whole. For a surplus vnode: do all primaries, faulty ones
 * included, have what it has? (`all` set.) */
bool horizon_complete(const struct horizon *h, const struct ring_view *view,
                      const struct ring_walk *walk, uint64_t since_ms, bool all);

/* In a change of the ring: has the vnode of a member of the next list agreed, later than since_ms, with
 * every other primary of the old list that is not faulty, and with all but `tolerance` of them
 * (core/ring_change.h)? Those that never come back do not count. At least one agreement, or being an old
 * primary itself, is needed. */
bool horizon_filled(const struct horizon *h, const struct ring_view *view,
                    const struct ring_walk *old, uint64_t since_ms, unsigned tolerance);

/* How old an object is in the eyes of a horizon: the newest of its siblings, in ms; of an expired value
 * its expiry. *tombstone: nothing in it is alive at now_ms. Without siblings: 0 and a tombstone. */
uint64_t horizon_time(const struct object *o, uint64_t now_ms, bool *tombstone);

/* May a whole vnode with this horizon purge the object? */
static inline bool horizon_purges(const struct object *o, uint64_t now_ms, uint64_t horizon_ms)
{
    bool tombstone;
    uint64_t time_ms = horizon_time(o, now_ms, &tombstone);

    return tombstone && horizon_ms != 0 && time_ms <= horizon_ms;
}

/* `theirs` comes by way of repair to a whole vnode with this horizon that holds `mine` (perhaps empty).
 * What of it is dead? A sibling that is not newer than the horizon, that mine neither has nor covers,
 * unless theirs supersedes something that lives in mine (then it cannot have been purged here). Returns
 *   0   nothing: merge it as it is
 *   1   some: out gets theirs without the dead siblings but with all of its context; merge that
 *   2   mine has nothing, and everything in theirs is dead: do not store it, tell the sender
 * or -ERR_LIMIT, -ERR_NOMEM. */
int horizon_bury(const struct object *mine, const struct object *theirs, uint64_t horizon_ms,
                 struct buf *out);

#endif
