/* Chaos: what goes wrong, when, and for how long. Each seed draws its own mixture. */
#include "tests/sim/sim.h"

#include "base/check.h"

enum fault_kind {
    FAULT_CRASH_WORKER,
    FAULT_CRASH_NODE,
    FAULT_FREEZE,
    FAULT_SLOW,
    FAULT_SPLIT,
    FAULT_ONE_WAY,
    FAULT_RESET,
    FAULT_CLOCK,
    FAULT_BACKUP,
    FAULT_RESTORE,
    FAULT_WIPE,
    FAULT_DAMAGE,
    FAULT_KINDS
};

static void strike(struct sim *s, const struct event *e);

static unsigned any_node(struct sim *s)
{
    return (unsigned)rand_below(&s->rand, s->nodes);
}

static void restart_worker(struct sim *s, const struct event *e)
{
    worker_start(s, (unsigned)e->a, (unsigned)e->b);
}

static void restart_node(struct sim *s, const struct event *e)
{
    node_start(s, (unsigned)e->a);
}

static void tell(struct sim *s, const struct event *e)
{
    if (s->node[e->a].up == (e->b == MEMBER_ALIVE))
        node_gossip(s, (unsigned)e->a, (enum member_state)e->b);
}

/* Crash a node; returns false if it is down already. */
static bool take_down(struct sim *s, unsigned node)
{
    uint64_t down = sim_range(s, MS(100), MS(5000));

    if (!s->node[node].up)
        return false;
    if (s->repair && sim_percent(s, 20)) /* longer than hints are kept */
        down = 1000 * s->hint_age_ms * sim_range(s, 1, 4);
    node_crash(s, node);
    sim_after(s, down, restart_node, NULL, node, 0);
    if (sim_percent(s, 60)) {
        sim_after(s, sim_range(s, MS(500), MS(3000)), tell, NULL, node, MEMBER_FAULTY);
        sim_after(s, down + sim_range(s, MS(100), MS(1500)), tell, NULL, node, MEMBER_ALIVE);
    }
    return true;
}

static void unblock(struct sim *s, const struct event *e)
{
    s->net.blocked[e->a][e->b] = false;
    s->net.unblocked_at[e->a][e->b] = s->now;
    sim_trace(s, "unblock", e->a, e->b, 0);
}

void fault_block(struct sim *s, unsigned from, unsigned to, uint64_t duration)
{
    if (s->net.blocked[from][to])
        return;
    s->net.blocked[from][to] = true;
    sim_trace(s, "block", from, to, duration);
    net_suspect(s, from, to);
    net_suspect(s, to, from);
    sim_after(s, duration, unblock, NULL, from, to);
}

static void split(struct sim *s, bool both_ways)
{
    uint32_t side = (uint32_t)sim_range(s, 1, (1u << s->nodes) - 2);
    uint64_t duration = sim_range(s, MS(20), MS(4000));

    for (unsigned a = 0; a < s->nodes; a++) {
        for (unsigned b = 0; b < s->nodes; b++) {
            if ((side >> a & 1) == 0 || (side >> b & 1) != 0)
                continue;
            fault_block(s, a, b, duration);
            if (both_ways)
                fault_block(s, b, a, duration);
        }
    }
}

static void fast_again(struct sim *s, const struct event *e)
{
    s->node[e->a].slow_us = 0;
    s->node[e->a].trouble_at = s->now;
}

static void slow_down(struct sim *s, unsigned node)
{
    if (s->node[node].slow_us != 0)
        return;
    s->node[node].slow_us = sim_range(s, MS(1), MS(300));
    sim_after(s, sim_range(s, MS(100), MS(4000)), fast_again, NULL, node, 0);
}

static bool amnesiac(const struct sim *s, unsigned node)
{
    return (s->amnesiacs >> node & 1) != 0;
}

static void strike_disk(struct sim *s, enum fault_kind kind, unsigned node)
{
    s->forgetful = true;
    sim_trace(s, "disk", kind, node, 0);
    if (kind == FAULT_BACKUP || (kind == FAULT_RESTORE && !s->node[node].disk.has_backup))
        disk_backup(s, node);
    else if (kind == FAULT_DAMAGE)
        for (uint64_t i = sim_range(s, 1, s->keys); i > 0; i--)
            disk_damage(s, node, (unsigned)rand_below(&s->rand, s->keys));
    else if (take_down(s, node) && kind == FAULT_WIPE)
        disk_wipe(s, node);
    else if (!s->node[node].up && kind == FAULT_RESTORE)
        disk_restore(s, node);
}

static void carry_out(struct sim *s, enum fault_kind kind)
{
    unsigned node = any_node(s);

    switch (kind) {
    case FAULT_CRASH_WORKER: {
        unsigned worker = (unsigned)rand_below(&s->rand, s->workers);

        worker_crash(s, node, worker);
        sim_after(s, sim_range(s, MS(5), MS(600)), restart_worker, NULL, node, worker);
        break;
    }
    case FAULT_CRASH_NODE:
        take_down(s, node);
        break;
    case FAULT_FREEZE:
        if (!node_frozen(s, node))
            node_freeze(s, node, sim_range(s, MS(20), MS(3000)));
        break;
    case FAULT_SLOW:
        slow_down(s, node);
        break;
    case FAULT_SPLIT:
    case FAULT_ONE_WAY:
        split(s, kind == FAULT_SPLIT);
        break;
    case FAULT_RESET:
        net_reset(s, node, any_node(s));
        break;
    case FAULT_CLOCK:
        s->node[node].wall_offset_ms = (int64_t)sim_range(s, 0, 7200000) - 3600000;
        /* Horizons are about wall clocks that differ by less than their slack. */
        if (s->repair)
            s->node[node].wall_offset_ms %= 1000;
        break;
    default:
        while (!amnesiac(s, node))
            node = any_node(s);
        strike_disk(s, kind, node);
    }
}

static void strike(struct sim *s, const struct event *e)
{
    if (!s->chaos || s->fault_total == 0)
        return;
    uint64_t pick = rand_below(&s->rand, s->fault_total);
    unsigned kind = 0;

    (void)e;
    while (pick >= s->fault_weight[kind])
        pick -= s->fault_weight[kind++];
    carry_out(s, (enum fault_kind)kind);
    sim_after(s, sim_range(s, MS(1), s->fault_gap_us), strike, NULL, 0, 0);
}

void fault_start(struct sim *s)
{
    _Static_assert((int)FAULT_KINDS <= (int)SIM_FAULTS, "a weight for each kind");
    if (s->calm)
        return;
    bool loss = sim_percent(s, 50);

    s->fault_gap_us = MS(sim_range(s, 100, 2000));
    for (unsigned k = 0; k < FAULT_KINDS; k++) {
        bool needs_amnesiac = k >= FAULT_BACKUP;

        s->fault_weight[k] = sim_percent(s, 60) ? (unsigned)sim_range(s, 1, 10) : 0;
        /* Backups, or lost and damaged disks: the ones hide the others. */
        if (needs_amnesiac)
            s->fault_weight[k] = s->amnesiacs == 0 || loss != (k > FAULT_RESTORE)
                                     ? 0
                                     : (unsigned)sim_range(s, 1, 10);
        s->fault_total += s->fault_weight[k];
    }
    if (sim_percent(s, 30)) {
        s->net.loss = (unsigned)sim_range(s, 0, 30);
        s->net.duplicate = (unsigned)sim_range(s, 0, 50);
        s->net.reorder = (unsigned)sim_range(s, 0, 200);
    }
    sim_after(s, sim_range(s, MS(1), s->fault_gap_us), strike, NULL, 0, 0);
}

void fault_stop(struct sim *s)
{
    s->chaos = false;
    ring_heal(s);
    net_heal(s);
    for (unsigned n = 0; n < s->nodes; n++) {
        s->node[n].slow_us = 0;
        if (!node_frozen(s, n)) /* the frozen ones thaw when they were to */
            s->node[n].trouble_at = s->now;
        if (!s->node[n].up)
            node_start(s, n);
        for (unsigned w = 0; w < s->workers; w++) {
            worker_start(s, n, w);
            if (s->node[n].up)
                worker_turn(
                    &s->node[n].worker[w]); /* hints are delivered from now on in any case */
        }
        if (s->node[n].up)
            node_gossip(s, n, MEMBER_ALIVE);
    }
}
