/* How far the replicas that this node takes over or keeps in a ring change have come: whole, and sure. Said in
 * repair.seg, announced by gossipd. The steps are explained in core/ring_change.h. Runs in
 * antientropyd. */
#include "antientropyd/antientropyd.h"

#include "base/clock.h"
#include "base/log.h"
#include "core/ring_change.h"

/* The list that is being left, and the one that takes its place, whoever of the two reads go to by now. */
static const struct ring_walk *old_list(const struct antientropyd *a, uint32_t p)
{
    return a->view.phase[p] >= RING_SWITCHED ? &a->index.other[p] : &a->index.walk[p];
}

static const struct ring_walk *next_list(const struct antientropyd *a, uint32_t p)
{
    return a->view.phase[p] >= RING_SWITCHED ? &a->index.walk[p] : &a->index.other[p];
}

/* Does the partition move, with this node in its next list? */
static bool is_kept(const struct antientropyd *a, uint32_t p)
{
    return a->view.self != RING_NO_OWNER && a->index.other[p].count > 0 &&
           ring_walk_primary(next_list(a, p), a->view.self) >= 0;
}

/* Does the change wait for this replica? It does for all that are new; for the others where a new one is
 * faulty, for whom they have to make up. */
static bool is_waited_for(const struct antientropyd *a, uint32_t p)
{
    const struct ring_walk *old = old_list(a, p), *next = next_list(a, p);

    if (!is_kept(a, p))
        return false;
    if (ring_walk_primary(old, a->view.self) < 0)
        return true;
    for (uint8_t i = 0; i < next->primaries; i++)
        if (ring_walk_primary(old, next->member[i]) < 0 &&
            a->view.members[next->member[i]].state == MEMBER_FAULTY)
            return true;
    return false;
}

static bool is_filled(const struct antientropyd *a, uint32_t p, uint64_t since_ms)
{
    struct ring_quorum quorum = {(uint8_t)a->conf.cluster.r, (uint8_t)a->conf.cluster.w};

    return horizon_filled(&a->vnodes.info[p].agreed, &a->view, old_list(a, p), since_ms,
                          ring_change_tolerance(quorum));
}

/* From GUARDED on no write counts here that is counted in the old list alone. Those of before may still
 * lie in write buffers, where an exchange does not see them: they must be in the tree before a new
 * member's agreement with it can make that member sure. */
static void note_guard(struct antientropyd *a, uint32_t p, struct vnode_info *i)
{
    bool guarded = a->view.phase[p] >= RING_GUARDED && a->index.other[p].count > 0;

    if (guarded && !i->guarded)
        i->filled_ms = clock_wall_ms();
    i->guarded = guarded;
}

bool change_wants(const struct antientropyd *a, uint32_t partition)
{
    uint8_t step = a->copied.step[partition], phase = a->view.phase[partition];

    return ((phase == RING_MOVING && step < STEP_WHOLE) ||
            (phase == RING_FENCED && step < STEP_SURE)) &&
           is_waited_for(a, partition);
}

void change_view(struct antientropyd *a)
{
    const struct ring_view *v = &a->view;

    if (a->copied.epoch != v->epoch || !node_id_equal(&a->copied.proposer, &v->proposer)) {
        memset(&a->copied, 0, sizeof a->copied);
        a->copied.epoch = v->epoch;
        a->copied.proposer = v->proposer;
        a->change_since_ms = clock_wall_ms();
        for (uint32_t p = 0; p < a->vnodes.partitions; p++) {
            a->vnodes.info[p].fenced_ms = 0;
            a->vnodes.info[p].guarded = a->vnodes.info[p].hurried = false;
        }
        repair_seg_publish_copied(&a->repair, &a->copied);
    }
    for (uint32_t p = 0; p < a->vnodes.partitions; p++) {
        struct vnode_info *i = &a->vnodes.info[p];

        note_guard(a, p, i);
        if (v->phase[p] < RING_FENCED) {
            i->fenced_ms = 0;
            i->hurried = false;
        }
        if (v->phase[p] < RING_FENCED || !is_kept(a, p))
            continue;
        if (i->fenced_ms == 0)
            i->fenced_ms = clock_wall_ms();
        if (i->hurried || !is_waited_for(a, p))
            continue;
        i->hurried = true;
        for (uint8_t k = 0; k < i->peer_count; k++) /* look once more, now */
            i->peer[k].due_us = 0;
    }
}

void change_agreed(struct antientropyd *a, uint32_t partition)
{
    const struct vnode_info *i = &a->vnodes.info[partition];
    uint8_t step = a->copied.step[partition];

    if (!is_waited_for(a, partition))
        return;
    if (step < STEP_WHOLE && is_filled(a, partition, a->change_since_ms))
        step = STEP_WHOLE;
    if (step < STEP_SURE && i->fenced_ms != 0 && is_filled(a, partition, i->fenced_ms))
        step = STEP_SURE;
    if (step == a->copied.step[partition])
        return;
    a->copied.step[partition] = step;
    repair_seg_publish_copied(&a->repair, &a->copied);
    log_info("partition %u: %s", partition,
             step == STEP_WHOLE ? "filled" : "nothing was missed on the way");
}

void change_received(struct antientropyd *a, uint32_t partition, uint64_t keys, uint64_t bytes)
{
    if (a->index.other[partition].count == 0 || keys == 0)
        return;
    a->copied.keys += keys;
    a->copied.bytes += bytes;
    repair_seg_publish_copied(&a->repair, &a->copied);
}
