/* What follows from agreements: that a vnode is whole, that its horizon may rise, that a surplus one may
 * go. And the note of when this node was in touch with others. The rules are in core/horizon.h. Runs in
 * antientropyd. */
#include "antientropyd/antientropyd.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/touch.h"

#include <inttypes.h>

enum {
    LATE_HORIZON_MS = 3600000, /* a horizon without tombstones below it is raised when so old */
    TOUCH_FIRST_US = 10000000, /* after the start: what was noted before still counts until then */
    TOUCH_MS = 60000,
    TELL_US = 5000000,
    ALONE_US = 15000000 /* so long after the start everybody else would have been heard of */
};

static void on_done(void *arg, const struct repair *answer)
{
    (void)arg;
    (void)answer; /* what came of it shows in the next STATE */
}

static void ask_whole(struct antientropyd *a, uint32_t p, uint64_t vnode)
{
    struct repair m = {.kind = REPAIR_SET_WHOLE, .u.SET_WHOLE = {.partition = p, .vnode = vnode}};

    if (local_ask(a->local, p, &m, on_done, NULL) == 0)
        a->vnodes.info[p].standing = STANDING_WHOLE;
    counter_add(a->counters, CTR_repair_made_whole, 1);
}

static void ask_horizon(struct antientropyd *a, uint32_t p, const struct repair_STATE_DONE *vnode,
                        const struct ring_walk *walk)
{
    const struct vnode_info *v = &a->vnodes.info[p];
    uint64_t horizon = vnode->horizon;

    if (!horizon_move(&v->agreed, &a->view, walk, a->conf.limits.hint_age_ms, clock_wall_ms(),
                      vnode->late, &horizon))
        return;
    /* Each costs a commit: not where there is nothing to purge. */
    if (vnode->tombstones == 0 && horizon < vnode->horizon + LATE_HORIZON_MS)
        return;
    struct repair m = {
        .kind = REPAIR_SET_HORIZON,
        .u.SET_HORIZON = {
            .partition = p, .vnode = vnode->vnode, .horizon = horizon, .late = vnode->late}};

    local_ask(a->local, p, &m, on_done, NULL);
}

static void ask_drop(struct antientropyd *a, uint32_t p, const struct repair_STATE_DONE *vnode)
{
    struct repair m = {
        .kind = REPAIR_DROP_VNODE,
        .u.DROP_VNODE = {.partition = p, .vnode = vnode->vnode, .generation = vnode->generation}};

    if (vnode->hints != 0 || vnode->dirty_since != 0)
        return;
    vnodes_close(&a->vnodes, p);
    if (local_ask(a->local, p, &m, on_done, NULL) == 0)
        counter_add(a->counters, CTR_repair_vnodes_dropped, 1);
}

bool standing_has_left(const struct antientropyd *a)
{
    return a->view.self != RING_NO_OWNER && a->view.members[a->view.self].state == MEMBER_LEFT;
}

static void review(struct antientropyd *a, uint32_t p, const struct repair_STATE_DONE *vnode)
{
    struct vnode_info *v = &a->vnodes.info[p];
    const struct ring_walk *walk = &a->index.walk[p];

    if (v->surplus) {
        /* One that has left does not wait for the dead: those who live have it by now. */
        if (horizon_complete(&v->agreed, &a->view, walk, 0, !standing_has_left(a)))
            ask_drop(a, p, vnode);
        return;
    }
    if (a->view.self == RING_NO_OWNER || !ring_keeps(&a->index, p, a->view.self))
        return;
    if (vnode->standing != STANDING_WHOLE) {
        if (horizon_complete(&v->agreed, &a->view, walk, 0, false))
            ask_whole(a, p, vnode->vnode);
    } else if (a->index.other[p].count == 0) {
        ask_horizon(a, p, vnode, walk);
    }
}

void standing_given(struct antientropyd *a, uint32_t partition,
                    const struct repair_STATE_DONE *vnode)
{
    review(a, partition, vnode);
}

void standing_agreed(struct antientropyd *a, uint32_t partition, const struct node_id *peer,
                     const struct repair_STATE_DONE *vnode, uint64_t as_of_ms)
{
    struct vnode_info *v = &a->vnodes.info[partition];

    if (v->agreed.vnode != vnode->vnode)
        return;
    horizon_agreed(&v->agreed, vnode->vnode, peer, as_of_ms);
    change_agreed(a, partition);
    review(a, partition, vnode);
}

/* Nobody to compare with. Without other replicas there is nothing that it could lack; and one that was
 * out of touch is believed when nobody else is there, as long as the ring is the same: nothing can have
 * been purged without it. */
void standing_heard(struct antientropyd *a, uint32_t partition,
                    const struct repair_STATE_DONE *vnode)
{
    struct vnode_info *v = &a->vnodes.info[partition];

    if (v->agreed.vnode != vnode->vnode)
        horizon_reset(&v->agreed, vnode->vnode);
    v->standing = vnode->standing;
    if (v->peer_count == 0 || vnode->standing == STANDING_WHOLE) {
        review(a, partition, vnode);
    } else if (vnode->standing == STANDING_AWAY && a->touch_known &&
               a->seen_epoch == a->view.epoch && clock_mono_us() - a->started_us > ALONE_US) {
        log_notice("partition %u: no other replica can be reached; this one serves as it is",
                   partition);
        ask_whole(a, partition, vnode->vnode);
    }
}

/* ---- every second ---- */

static bool is_in_touch(const struct antientropyd *a)
{
    for (uint16_t i = 0; i < a->view.member_count; i++)
        if (i != a->view.self && a->view.members[i].state < MEMBER_FAULTY)
            return true;
    return false;
}

static void touch(struct antientropyd *a)
{
    uint64_t now = clock_mono_us(), every = a->conf.limits.hint_age_ms / 4;

    if (every > TOUCH_MS)
        every = TOUCH_MS;
    if (now - a->started_us < TOUCH_FIRST_US || now - a->touched_us < every * 1000 ||
        a->view.self == RING_NO_OWNER || !is_in_touch(a))
        return;
    a->touched_us = now;
    int rc = store_touch_save(a->conf.node.data_dir, a->view.epoch, clock_wall_ms());

    if (rc != 0)
        log_warn("%s/in-touch: %s", a->conf.node.data_dir, err_text(rc));
}

/* People hear of what was mended when there is something, but not of every partition. */
static void tell(struct antientropyd *a, uint64_t not_whole)
{
    uint64_t now = clock_mono_us();

    if (now - a->told.since_us >= TELL_US && a->told.here + a->told.there + a->told.dead > 0) {
        log_info("mended: %" PRIu64 " keys taken over, %" PRIu64 " given, %" PRIu64 " dropped",
                 a->told.here, a->told.there, a->told.dead);
        a->told.here = a->told.there = a->told.dead = 0;
        a->told.since_us = now;
    }
    if (not_whole == 0 && a->told.not_whole > 0)
        log_notice("all replicas of this node are whole");
    else if (not_whole > a->told.not_whole)
        log_notice("%" PRIu64 " replicas of this node lack something: being filled", not_whole);
    a->told.not_whole = not_whole;
}

/* How much is not whole, how long ago the two that have not agreed for longest did, and how old a read
 * of one replica may be by that. */
static void publish(struct antientropyd *a)
{
    uint64_t now = clock_wall_ms(), oldest = 0, not_whole = 0, surplus = 0;
    uint64_t start = now - (clock_mono_us() - a->started_us) / 1000;

    for (uint32_t p = 0; p < a->vnodes.partitions; p++) {
        const struct vnode_info *v = &a->vnodes.info[p];

        surplus += v->surplus;
        not_whole += v->peer_count > 0 && !v->surplus && v->standing != STANDING_WHOLE;
        for (uint8_t i = 0; i < v->peer_count && !v->surplus; i++) {
            uint64_t agreed = horizon_agreement(&v->agreed, &v->peer[i].id);

            if (agreed == 0)
                agreed = start;
            if (now > agreed && now - agreed > oldest)
                oldest = now - agreed;
        }
    }
    tell(a, not_whole);
    counter_set(a->counters, CTR_repair_not_whole, not_whole);
    counter_set(a->counters, CTR_repair_surplus, surplus);
    counter_set(a->counters, CTR_repair_staleness, oldest / 1000);
}

void standing_tick(struct antientropyd *a)
{
    touch(a);
    publish(a);
}
