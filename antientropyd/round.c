/* Whom to compare with when. Every partition is compared with every other replica once in
 * limits.repair_interval; of two replicas one begins, the other when it has not been heard of. What is
 * not whole, what moves and what is surplus begins by itself and at once. Runs in antientropyd. */
#include "antientropyd/antientropyd.h"

#include "base/clock.h"
#include "base/err.h"

enum {
    LOOK_US = 50000,    /* between looks at what is due */
    BUSY_US = 100000,   /* before looking again at what is busy; and as much again by chance */
    BUSY_DOUBLINGS = 3, /* when it is the peer that says so: each time costs a message both ways */
    AGAIN_US = 1000000, /* before looking again at what is not to be compared yet */
    RETRY_US = 500000,  /* after a failure; doubles */
    RETRY_DOUBLINGS = 6,
    FIRST_US = 500000, /* over which first looks are spread */
};

static uint64_t interval_us(struct antientropyd *a)
{
    uint64_t us = a->conf.limits.repair_interval_ms * 1000ull;

    return us - us / 10 + rand_below(&a->rand, us / 5 + 1);
}

/* ---- the peers of each partition ---- */

static void add_peer(struct antientropyd *a, struct vnode_info *v, const struct vnode_info *old,
                     uint16_t member)
{
    const struct member *m = &a->view.members[member];

    if (member == a->view.self || m->state == MEMBER_LEFT ||
        v->peer_count == sizeof v->peer / sizeof v->peer[0])
        return;
    for (uint8_t i = 0; i < v->peer_count; i++)
        if (node_id_equal(&v->peer[i].id, &m->id))
            return;
    struct vnode_peer *p = &v->peer[v->peer_count++];

    *p = (struct vnode_peer){.id = m->id,
                             .due_us = clock_mono_us() + rand_below(&a->rand, FIRST_US)};
    for (uint8_t i = 0; i < old->peer_count; i++) {
        if (!node_id_equal(&old->peer[i].id, &m->id))
            continue;
        uint64_t soon_us = p->due_us;

        *p = old->peer[i];
        /* There is news of members: one that failed may be back. */
        if (p->failures > 0 && m->state == MEMBER_ALIVE) {
            p->failures = 0;
            p->due_us = p->due_us < soon_us ? p->due_us : soon_us;
        }
    }
}

/* Does a worker have a vnode of it, whatever for? */
static bool exists(const struct antientropyd *a, uint32_t p)
{
    const struct worker_seg *w = &a->workers[ring_worker_of(p, (uint16_t)a->conf.node.workers)];

    return segment_mapped(&w->segment) && p < w->body->partitions &&
           atomic_load(&w->body->vnodes[p].state) == WORKER_VNODE_OPEN;
}

static void find_peers(struct antientropyd *a, uint32_t p)
{
    struct vnode_info *v = &a->vnodes.info[p], old = *v;
    bool keeps = a->view.self != RING_NO_OWNER && ring_keeps(&a->index, p, a->view.self);

    v->peer_count = 0;
    v->surplus = !keeps && a->view.self != RING_NO_OWNER && exists(a, p);
    if (!keeps && !v->surplus)
        return;
    for (uint8_t i = 0; i < a->index.walk[p].primaries; i++)
        add_peer(a, v, &old, a->index.walk[p].member[i]);
    for (uint8_t i = 0; keeps && a->index.other[p].count > 0 && i < a->index.other[p].primaries;
         i++)
        add_peer(a, v, &old, a->index.other[p].member[i]);
    if (old.surplus != v->surplus)
        v->agreed.count = 0;
}

void round_view(struct antientropyd *a)
{
    for (uint32_t p = 0; p < a->vnodes.partitions; p++)
        find_peers(a, p);
}

/* Vnodes that this node keeps for others come and go without a new view. */
static void find_surplus(struct antientropyd *a)
{
    for (uint32_t p = 0; p < a->vnodes.partitions; p++)
        if (a->view.self != RING_NO_OWNER && !ring_keeps(&a->index, p, a->view.self) &&
            a->vnodes.info[p].surplus != exists(a, p))
            find_peers(a, p);
}

/* ---- what is due ---- */

/* Is it this node's turn to begin with this peer? */
static bool begins_here(const struct antientropyd *a, uint32_t p, const struct vnode_info *v,
                        const struct vnode_peer *peer)
{
    bool lower = memcmp(a->self.b, peer->id.b, NODE_ID_BYTES) < 0;
    uint64_t agreed = horizon_agreement(&v->agreed, &peer->id), now = clock_wall_ms();
    uint64_t up_ms = (clock_mono_us() - a->started_us) / 1000;
    uint64_t patience = 2ull * a->conf.limits.repair_interval_ms + a->conf.storage.flush_age_ms;

    if (v->surplus || v->standing != STANDING_WHOLE || a->index.other[p].count > 0)
        return true;
    if (lower == ((p & 1) == 0))
        return true;
    return up_ms > patience && agreed + patience < now;
}

static void look_alone(struct antientropyd *a, uint32_t p, struct vnode_info *v, uint64_t now);

/* Begin what is due of one partition. false: no more can be begun now. */
static bool begin_due(struct antientropyd *a, uint32_t p, uint64_t now)
{
    struct vnode_info *v = &a->vnodes.info[p];
    bool alone = true;

    for (uint8_t i = 0; i < v->peer_count; i++) {
        struct vnode_peer *peer = &v->peer[i];
        uint16_t member = ring_find(&a->view, &peer->id);

        if (member == RING_NO_OWNER || a->view.members[member].state >= MEMBER_FAULTY)
            continue;
        alone = false;
        if (peer->busy || peer->due_us > now || a->view.members[member].repair_port == 0)
            continue;
        if (!begins_here(a, p, v, peer)) {
            peer->due_us = now + AGAIN_US;
            continue;
        }
        int rc = session_begin(a, p, member);

        if (rc == -ERR_BUSY)
            return false;
        if (rc == -ERR_AGAIN)
            continue; /* the partition is at work with another */
        peer->busy = rc == 0;
        if (rc != 0)
            peer->due_us = now + AGAIN_US;
    }
    if (alone && (a->view.self != RING_NO_OWNER && ring_keeps(&a->index, p, a->view.self)))
        look_alone(a, p, v, now);
    return true;
}

/* ---- partitions without another replica that could be asked ---- */

static void on_alone(void *arg, const struct repair *answer)
{
    struct antientropyd *a = arg;

    if (answer == NULL || answer->kind != REPAIR_STATE_DONE || answer->u.STATE_DONE.status != 0)
        return;
    /* The request's number tells the partition: see look_alone(). */
    for (uint32_t p = 0; p < a->vnodes.partitions; p++)
        if (a->vnodes.info[p].alone_request == answer->u.STATE_DONE.request)
            standing_heard(a, p, &answer->u.STATE_DONE);
}

static void look_alone(struct antientropyd *a, uint32_t p, struct vnode_info *v, uint64_t now)
{
    struct repair m = {.kind = REPAIR_STATE, .u.STATE = {.partition = p}};

    if (v->alone_us > now)
        return;
    v->alone_us =
        now + (v->standing == STANDING_WHOLE && v->alone_request != 0 ? interval_us(a)
                                                                      : (uint64_t)AGAIN_US);
    if (local_ask(a->local, p, &m, on_alone, a) == 0)
        v->alone_request = m.u.STATE.request;
}

/* ---- the clockwork ---- */

static void look(struct antientropyd *a)
{
    uint64_t now = clock_mono_us();

    if (a->view.epoch == 0)
        return;
    for (uint32_t i = 0; i < a->vnodes.partitions; i++) {
        uint32_t p = (a->round_at + i) & (a->vnodes.partitions - 1);

        if (!begin_due(a, p, now)) {
            a->round_at = p;
            return;
        }
    }
}

static void on_round(void *arg)
{
    struct antientropyd *a = arg;

    look(a);
    loop_arm(a->loop, &a->round, loop_now_us(a->loop) + LOOK_US, on_round, a);
}

static void on_soon(void *arg)
{
    look(arg);
}

void round_soon(struct antientropyd *a)
{
    loop_defer(a->loop, &a->round_task, on_soon, a);
}

void round_start(struct antientropyd *a)
{
    find_surplus(a);
    if (!a->round.armed)
        on_round(a);
}

void round_ended(struct antientropyd *a, uint32_t partition, const struct node_id *peer, bool asked,
                 bool agreed, int error)
{
    struct vnode_info *v = &a->vnodes.info[partition];
    uint64_t now = clock_mono_us();

    for (uint8_t i = 0; i < v->peer_count; i++) {
        struct vnode_peer *p = &v->peer[i];
        uint32_t doublings = p->failures < RETRY_DOUBLINGS ? p->failures : RETRY_DOUBLINGS;

        if (!node_id_equal(&p->id, peer))
            continue;
        p->busy = false;
        if (agreed) {
            p->failures = p->refusals = 0;
            p->due_us = now + (change_wants(a, partition) ? AGAIN_US : interval_us(a));
        } else if (error == -ERR_BUSY) {
            uint64_t wait_us = (uint64_t)BUSY_US << (asked ? p->refusals : 0);

            p->refusals += asked && p->refusals < BUSY_DOUBLINGS;
            p->due_us = now + wait_us + rand_below(&a->rand, wait_us);
        } else if (error == -ERR_AGAIN) {
            p->due_us = now + AGAIN_US;
        } else {
            p->failures++;
            p->due_us = now + ((uint64_t)RETRY_US << doublings) / 2 +
                        rand_below(&a->rand, (uint64_t)RETRY_US << doublings);
        }
    }
}
