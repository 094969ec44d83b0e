/* What gossipd tells the rest of its node through shared memory. Runs in gossipd. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "gossipd/gossipd.h"

#include <stdlib.h>
#include <string.h>

static void count(struct gossipd *g)
{
    static const enum counter which[MEMBER_COUNT_MAX] = {
        [MEMBER_COUNT_probes] = CTR_gossip_probes,
        [MEMBER_COUNT_acks] = CTR_gossip_acks,
        [MEMBER_COUNT_indirect_probes] = CTR_gossip_indirect_probes,
        [MEMBER_COUNT_stream_probes] = CTR_gossip_stream_probes,
        [MEMBER_COUNT_ahead] = CTR_gossip_ahead,
        [MEMBER_COUNT_incompatible] = CTR_gossip_incompatible,
        [MEMBER_COUNT_foreign] = CTR_gossip_foreign_rings,
        [MEMBER_COUNT_lost] = CTR_ring_changes_lost,
        [MEMBER_COUNT_probes_failed] = CTR_gossip_probes_failed,
        [MEMBER_COUNT_suspicions] = CTR_gossip_suspicions,
        [MEMBER_COUNT_confirmations] = CTR_gossip_confirmations,
        [MEMBER_COUNT_faulty] = CTR_gossip_faulty,
        [MEMBER_COUNT_refutations] = CTR_gossip_refutations,
        [MEMBER_COUNT_own_pauses] = CTR_gossip_own_pauses,
        [MEMBER_COUNT_bad] = CTR_gossip_bad_messages,
    };
    uint64_t alive = 0;

    for (unsigned i = 0; i < MEMBER_COUNT_MAX; i++)
        counter_set(g->counters, which[i], g->members.counts[i]);
    for (uint16_t i = 0; i < g->members.count; i++)
        alive += g->members.row[i].m.state < MEMBER_FAULTY;
    counter_set(g->counters, CTR_gossip_members, g->members.count);
    counter_set(g->counters, CTR_gossip_members_alive, alive);
}

/* The core counts in monotonic microseconds, people read wall time. */
static uint64_t wall_of(uint64_t mono_us, uint64_t now_us, uint64_t wall_ms)
{
    return mono_us == 0 || mono_us > now_us ? 0 : wall_ms - (now_us - mono_us) / 1000;
}

static void fill_gossip_view(struct gossipd *g)
{
    struct gossip_view *v = &g->gossip_view;
    uint64_t now = clock_mono_us(), wall = clock_wall_ms();

    memset(v, 0, sizeof *v);
    v->member_count = g->members.count;
    v->health = g->members.health;
    v->updated_ms = wall;
    for (uint16_t i = 0; i < g->members.count; i++) {
        const struct member_row *row = &g->members.row[i];
        struct gossip_member *to = &v->members[i];

        to->id = row->m.id;
        memcpy(to->name, row->m.name, sizeof to->name);
        memcpy(to->address, row->m.address, sizeof to->address);
        to->gossip_port = row->m.gossip_port;
        to->state = row->m.state;
        to->incarnation = row->m.incarnation;
        to->since_ms = wall_of(row->since_us, now, wall);
        to->last_heard_ms = wall_of(row->heard_us, now, wall);
        to->rtt_us = row->rtt_us > UINT32_MAX ? UINT32_MAX : (uint32_t)row->rtt_us;
        to->suspicions = row->suspicions;
        to->verdicts_down = verdict_count(&g->verdicts, &row->m.id);
    }
}

static void say_status(struct gossipd *g)
{
    uint64_t alive = counter_get(g->counters, CTR_gossip_members_alive);

    if (g->members.ring.epoch == 0)
        child_status(&g->child, "waiting for founders: %u of %u met", g->members.count,
                     g->conf.cluster.seeds.count);
    else
        child_status(&g->child, "ring epoch %llu: %llu of %u members alive",
                     (unsigned long long)g->members.ring.epoch, (unsigned long long)alive,
                     g->members.count);
}

void gossipd_publish_ring(struct gossipd *g)
{
    uint64_t epoch = g->view.epoch;

    member_view(&g->members, &g->view);
    g->view.version++;
    ring_seg_publish(&g->ring_seg, &g->view);
    counter_add(g->counters, CTR_ring_publications, 1);
    if (g->view.epoch != epoch)
        log_notice("ring epoch %llu: %u members, %u partitions%s",
                   (unsigned long long)g->view.epoch, g->view.member_count, 1u << g->view.q_bits,
                   ring_change_is_open(&g->view) ? ", being changed" : "");
}

/* Once per turn at most, however many messages changed something in it. */
static void publish(void *arg)
{
    struct gossipd *g = arg;

    if (g->ring_changed)
        gossipd_save(g); /* a ring that workers act by must be known after a crash */
    gossipd_publish_ring(g);
    g->ring_changed = false;
    fill_gossip_view(g);
    gossip_seg_publish(&g->gossip_seg, &g->gossip_view);
    count(g);
    say_status(g);
    gossipd_change_step(g);
}

void gossipd_changed(struct gossipd *g, bool ring)
{
    g->ring_changed |= ring;
    loop_defer(g->loop, &g->publish_task, publish, g);
}

#define PUBLISH_US   1000000u
#define SAY_AGAIN_US 60000000u

/* Say that news was ignored, and why, but not too often. */
static void say_ignored(struct gossipd *g, enum member_count which, struct ignored *i,
                        const char *why)
{
    uint64_t count = g->members.counts[which], now = loop_now_us(g->loop);

    if (count == i->said || (i->said_us != 0 && now < i->said_us + SAY_AGAIN_US))
        return;
    log_warn("%llu times news of a member was ignored because %s",
             (unsigned long long)(count - i->said), why);
    *i = (struct ignored){.said = count, .said_us = now};
}

static void on_publish_timer(void *arg)
{
    struct gossipd *g = arg;

    member_set_wall(&g->members, clock_wall_ms());
    say_ignored(g, MEMBER_COUNT_ahead, &g->ahead,
                "its incarnation is more than a day ahead of this node's clock: one of the clocks "
                "is wrong");
    say_ignored(g, MEMBER_COUNT_incompatible, &g->incompatible,
                "it and the cluster have no protocol version in common");
    say_ignored(
        g, MEMBER_COUNT_foreign, &g->foreign,
        "it was the ring of another cluster of this name, founded apart: give each cluster a "
        "name and a secret of its own");
    count(g);
    fill_gossip_view(g);
    gossip_seg_publish(&g->gossip_seg, &g->gossip_view);
    loop_arm(g->loop, &g->publish_timer, loop_now_us(g->loop) + PUBLISH_US, on_publish_timer, g);
}

void gossipd_open_segments(struct gossipd *g)
{
    const char *dir = g->conf.node.runtime_dir;

    member_view(&g->members, &g->view);
    g->view.version = clock_wall_ms() << 12; /* above those of the run before */
    int rc = ring_seg_create(&g->ring_seg, dir, g->child.incarnation, &g->view);
    if (rc == 0)
        rc = gossip_seg_create(&g->gossip_seg, dir, g->child.incarnation);
    if (rc != 0) {
        log_error("shared memory in %s: %s", dir, err_text(rc));
        exit(1);
    }
    g->counters = gossip_seg_counters(&g->gossip_seg);
    on_publish_timer(g);
}
