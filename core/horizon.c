/* Agreements, horizons, and what is dead by them. Runs in antientropyd, in workers and in the simulator. */
#include "core/horizon.h"

#include "base/check.h"
#include "base/err.h"
#include "core/hlc.h"
#include "core/object_codec.h"
#include "core/planted.h"

enum { PEERS = sizeof((struct horizon *)0)->peer / sizeof(struct horizon_peer) };

void horizon_reset(struct horizon *h, uint64_t vnode)
{
    memset(h, 0, sizeof *h);
    h->vnode = vnode;
}

static struct horizon_peer *find(const struct horizon *h, const struct node_id *peer)
{
    for (uint8_t i = 0; i < h->count; i++)
        if (node_id_equal(&h->peer[i].id, peer))
            return (struct horizon_peer *)&h->peer[i];
    return NULL;
}

void horizon_agreed(struct horizon *h, uint64_t vnode, const struct node_id *peer,
                    uint64_t as_of_ms)
{
    struct horizon_peer *p = find(h, peer);

    if (vnode != h->vnode)
        return;
    if (p == NULL && h->count < PEERS) {
        p = &h->peer[h->count++];
        *p = (struct horizon_peer){.id = *peer};
    } else if (p == NULL) {
        p = &h->peer[0];
        for (uint8_t i = 1; i < h->count; i++)
            if (h->peer[i].agreed_ms < p->agreed_ms)
                p = &h->peer[i];
        *p = (struct horizon_peer){.id = *peer};
    }
    if (as_of_ms > p->agreed_ms)
        p->agreed_ms = as_of_ms;
}

uint64_t horizon_agreement(const struct horizon *h, const struct node_id *peer)
{
    const struct horizon_peer *p = find(h, peer);

    return p == NULL ? 0 : p->agreed_ms;
}

bool horizon_move(const struct horizon *h, const struct ring_view *view,
                  const struct ring_walk *walk, uint64_t hint_age_ms, uint64_t now_ms,
                  uint64_t late_ms, uint64_t *horizon_ms)
{
    uint64_t back = horizon_late_after(hint_age_ms), oldest = now_ms;
    bool skip = COORD_BUG(HORIZON_SKIPS_PEER);

    for (uint8_t i = 0; i < walk->primaries; i++) {
        uint64_t agreed;

        if (walk->member[i] == view->self)
            continue;
        agreed = horizon_agreement(h, &view->members[walk->member[i]].id);
        if (skip && walk->primaries > 2) {
            skip = false;
            continue;
        }
        if (agreed < oldest)
            oldest = agreed;
    }
    if ((oldest <= late_ms && !COORD_BUG(LATE_IS_PURGED)) || oldest <= back)
        return false;
    if (oldest - back > *horizon_ms)
        *horizon_ms = oldest - back;
    return true;
}

bool horizon_complete(const struct horizon *h, const struct ring_view *view,
                      const struct ring_walk *walk, uint64_t since_ms, bool all)
{
    uint8_t others = 0, agreed = 0, missing = 0;

    for (uint8_t i = 0; i < walk->primaries; i++) {
        const struct member *m = &view->members[walk->member[i]];

        if (walk->member[i] == view->self)
            continue;
        others++;
        if (horizon_agreement(h, &m->id) > since_ms)
            agreed++;
        else
            missing += all || m->state != MEMBER_FAULTY;
    }
    if (all && agreed > 0 && COORD_BUG(SURPLUS_DROPPED_EARLY))
        return true;
    return missing == 0 && (agreed > 0 || others == 0);
}

bool horizon_filled(const struct horizon *h, const struct ring_view *view,
                    const struct ring_walk *old, uint64_t since_ms, unsigned tolerance)
{
    unsigned missing = 0, have = 0;

    for (uint8_t i = 0; i < old->primaries; i++) {
        const struct member *m = &view->members[old->member[i]];

        if (old->member[i] == view->self || horizon_agreement(h, &m->id) > since_ms)
            have++;
        else if (m->going == MEMBER_GONE || m->state == MEMBER_LEFT)
            continue;
        else if (m->state == MEMBER_FAULTY)
            missing++;
        else if (!COORD_BUG(FILLED_BY_ONE))
            return false;
    }
    return have > 0 && missing <= tolerance;
}

uint64_t horizon_time(const struct object *o, uint64_t now_ms, bool *tombstone)
{
    uint64_t newest = 0;
    struct sibling s;

    *tombstone = true;
    for (size_t cursor = 0; object_next(o, &cursor, &s);) {
        uint64_t ms = hlc_ms(s.time);

        if ((s.flags & SIBLING_TOMBSTONE) == 0) {
            if (s.expiry_ms == 0 || s.expiry_ms > now_ms)
                *tombstone = false;
            else if (s.expiry_ms > ms)
                ms = s.expiry_ms;
        }
        if (ms > newest)
            newest = ms;
    }
    return newest;
}

static bool has_dot(const struct object *o, struct dot d)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(o, &cursor, &s);)
        if (dot_equal(s.dot, d))
            return true;
    return false;
}

/* Would merging theirs take away something that mine has? */
static bool supersedes(const struct object *mine, const struct object *theirs)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(mine, &cursor, &s);)
        if (causal_covers(&theirs->causal, s.dot) && !has_dot(theirs, s.dot))
            return true;
    return false;
}

static bool is_dead(const struct object *mine, const struct sibling *s, uint64_t horizon_ms)
{
    return hlc_ms(s->time) <= horizon_ms && !causal_covers(&mine->causal, s->dot);
}

/* theirs without its dead siblings. */
static int without_dead(const struct object *mine, const struct object *theirs, uint64_t horizon_ms,
                        uint32_t left, struct buf *out)
{
    struct object_front front = {.key = theirs->key,
                                 .causal = &theirs->causal,
                                 .ids = theirs->ids,
                                 .id_count = theirs->id_count,
                                 .sibling_count = left};
    struct sibling s;
    uint8_t *base;
    int rc = object_reserve(out, object_bound(&front, theirs->encoded.len), &base);

    if (rc != 0)
        return rc;
    uint8_t *p = object_encode_front(base, &front);

    for (size_t cursor = 0; object_next(theirs, &cursor, &s);)
        if (!is_dead(mine, &s, horizon_ms))
            p = object_encode_sibling(p, &s);
    object_encode_finish(base, p);
    buf_filled(out, (size_t)(p - base));
    return 1;
}

int horizon_bury(const struct object *mine, const struct object *theirs, uint64_t horizon_ms,
                 struct buf *out)
{
    uint32_t left = 0, dead = 0;
    struct sibling s;

    if (horizon_ms == 0 || COORD_BUG(DEAD_COMES_BACK))
        return 0;
    for (size_t cursor = 0; object_next(theirs, &cursor, &s);)
        *(is_dead(mine, &s, horizon_ms) ? &dead : &left) += 1;
    if (dead == 0 || supersedes(mine, theirs))
        return 0;
    if (left == 0 && mine->encoded.len == 0)
        return 2;
    return without_dead(mine, theirs, horizon_ms, left, out);
}
