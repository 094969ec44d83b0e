/* One run: a cluster by the seed, chaos, healing, final checks. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/hash.h"
#include "core/claim.h"

#include <stdlib.h>

static void make_members(struct sim *s, struct ring_view *v)
{
    v->epoch = 1;
    v->q_bits = (uint8_t)s->q_bits;
    v->member_count = (uint16_t)s->nodes;
    for (unsigned n = 0; n < s->nodes; n++) {
        struct member *m = &v->members[n];

        for (int i = 0; i < NODE_ID_BYTES; i++)
            m->id.b[i] = (uint8_t)rand_next(&s->rand);
        m->id.b[0] = (uint8_t)n;
        snprintf(m->name, sizeof m->name, "node%u", n);
        m->workers = (uint16_t)s->workers;
        m->weight = n < s->nodes - s->spares ? 100 : 0;
        m->state = MEMBER_ALIVE;
    }
}

static void make_ring(struct sim *s, unsigned n)
{
    struct ring_view *v = &s->node[0].view;

    make_members(s, v);
    v->n = (uint8_t)n;
    ASSERT(claim_found(v) == 0);
    memcpy(v->next, v->owner, sizeof v->next);
    for (unsigned i = 0; i < s->nodes; i++) {
        s->node[i].view = *v;
        s->node[i].view.self = (uint16_t)i;
        ring_index_build(&s->node[i].view, n, &s->node[i].index);
    }
}

static void make_quorums(struct sim *s, unsigned n)
{
    struct quorum_rule *loose = &s->rule[0], *strict = &s->rule[1];

    *loose = (struct quorum_rule){.prefix = slice_str(""), .n = (uint8_t)n, .sloppy = true};
    loose->w = (uint8_t)(sim_percent(s, 60) ? n / 2 + 1 : sim_range(s, 1, n));
    if (s->amnesia && loose->w < 2 && n > 1)
        loose->w = 2;
    loose->r = (uint8_t)(sim_percent(s, 60) ? n / 2 + 1 : sim_range(s, 1, n));
    loose->blocking_repair = sim_percent(s, 20);
    *strict = (struct quorum_rule){.prefix = slice_str("strict"), .n = (uint8_t)n};
    strict->w = (uint8_t)sim_range(s, 1, n);
    strict->r = (uint8_t)sim_range(s, n + 1 - strict->w, n);
    strict->blocking_repair = sim_percent(s, 20);
    s->rule[2] = *loose;
    s->rule[2].prefix = slice_str("cart");
    s->conf = (struct coord_conf){.requests = (uint32_t)sim_range(s, 32, 128),
                                  .timeout_ms = 1000,
                                  .replica_ms = (uint32_t)sim_range(s, 20, 200),
                                  .patience_ms = 5 * (uint32_t)sim_range(s, 0, 100),
                                  .hedge_min_ms = (uint32_t)sim_range(s, 2, 20),
                                  .sibling_limit = (uint32_t)sim_range(s, 8, LIMIT_SIBLINGS),
                                  .rule_count = 2,
                                  .rules = s->rule};
}

/* In some runs carts have a larger N than other keys; all replicas of a partition are then as many. Drawn
 * apart, so that the other runs do what they did. */
static unsigned widen(struct sim *s, unsigned n)
{
    uint64_t drawn = hash64_seed(&s->options.seed, sizeof s->options.seed, 1);
    unsigned wide = n + 1 + (unsigned)(drawn >> 8) % 2, most = s->nodes - s->spares;

    if (drawn % 4 != 0 || most <= n)
        return n;
    s->conf.rule_count = 3;
    s->rule[2].n = (uint8_t)(wide < most ? wide : most);
    if (s->rule[2].n > LIMIT_REPLICAS)
        s->rule[2].n = LIMIT_REPLICAS;
    return s->rule[2].n;
}

static void make_keys(struct sim *s, unsigned n)
{
    bool strict = !s->amnesia && sim_percent(s, 80) && !s->rivals;

    s->keys = (unsigned)sim_range(s, 4, SIM_KEYS);
    for (unsigned k = 0; k < s->keys; k++) {
        struct key *key = &s->key[k];

        key->cart = k % 4 == 1;
        key->strict = strict && (k % 4 == 2 || (s->ring != NULL && k % 4 == 3));
        key->n = key->cart && s->conf.rule_count > 2 ? s->rule[2].n : n;
        snprintf(key->name, sizeof key->name, "%s%u",
                 key->strict ? "strict"
                 : key->cart ? "cart"
                             : "key",
                 k);
        key->slice = slice_str(key->name);
        key->position = position_of(key->slice);
        key->partition = position_partition(&key->position, s->q_bits);
    }
}

/* Nodes that may lose what they have: fewer than the copies that each acknowledged write has, and
 * none where strict reads are to see every acknowledged write. */
static void pick_amnesiacs(struct sim *s)
{
    for (unsigned i = 1; s->amnesia && i < s->rule[0].w; i++)
        s->amnesiacs |= 1u << rand_below(&s->rand, s->nodes);
}

/* Every other seed runs anti-entropy; the others show what holds without it. Drawn apart, so that those
 * do what they did. */
static void set_up_repair(struct sim *s)
{
    if (!s->options.repair && hash64(&s->options.seed, sizeof s->options.seed) % 2 == 0)
        return;
    s->repair = true;
    s->repair_interval_us = sim_range(s, SEC(1), SEC(4));
    s->hint_age_ms = sim_range(s, 2500, 5000);
    s->surplus_us = sim_range(s, SEC(4), SEC(8));
}

static void set_up(struct sim *s)
{
    s->nodes = s->options.nodes != 0 ? s->options.nodes
               : sim_percent(s, 50)  ? 5
                                     : (unsigned)sim_range(s, 3, SIM_NODES);
    s->workers = (unsigned)sim_range(s, 1, SIM_WORKERS);
    s->q_bits = (unsigned)sim_range(s, 3, 4);
    unsigned n = sim_percent(s, 75) ? 3 : (unsigned)sim_range(s, 1, s->nodes < 5 ? s->nodes : 5);

    s->net.latency_us = sim_range(s, 30, 2000);
    s->net.jitter_us = sim_range(s, 10, 2000);
    s->sync_us = sim_range(s, 200, 20000);
    s->think_us = sim_range(s, MS(2), MS(60));
    s->calm = sim_percent(s, 8);
    s->amnesia = !s->calm && sim_percent(s, 40);
    /* Few: so that a vnode restored from a backup soon has dots to issue twice. */
    s->block = (unsigned)(s->amnesia ? sim_range(s, 2, 4) : sim_range(s, 4, 32));
    s->handoff_always = sim_percent(s, 70);
    set_up_repair(s);
    make_quorums(s, n);
    ring_set_up(s, n);
    unsigned wide = widen(s, n);

    make_ring(s, COORD_BUG(PREFIX_N_IGNORED) ? n : wide);
    make_keys(s, n);
    pick_amnesiacs(s);
    s->conf.late_after_ms = s->repair ? horizon_late_after(s->hint_age_ms) : 0;
    for (unsigned i = 0; i < s->nodes; i++) {
        node_init(s, i);
        s->node[i].wall_offset_ms = (int64_t)sim_range(s, 0, 2000) - 1000;
        node_start(s, i);
    }
    ring_start(s);
    sim_run_until(s, SEC(1)); /* links come up */
    s->clients = (unsigned)sim_range(s, 3, SIM_CLIENTS);
    s->ops_left = s->options.ops != 0 ? s->options.ops : (unsigned)sim_range(s, 300, 2000);
    for (unsigned i = 0; i < s->clients; i++) {
        s->client[i].kind = (uint8_t)(i % CLIENT_KINDS);
        s->client[i].home = (uint16_t)rand_below(&s->rand, s->nodes);
        client_start(s, i);
    }
}

static void check_quiet(struct sim *s)
{
    for (unsigned n = 0; n < s->nodes; n++)
        for (unsigned w = 0; w < s->workers; w++)
            if (s->node[n].up && coord_in_flight(s->node[n].worker[w].coord) != 0)
                sim_fail(s, "node %u worker %u has %u requests in flight although all is quiet", n,
                         w, coord_in_flight(s->node[n].worker[w].coord));
    for (uint32_t i = 0; i < s->request_count; i++) {
        const struct request *r = s->request[i];

        if (r->accepted && !r->replied && s->node[r->node].up &&
            r->incarnation == s->node[r->node].worker[r->worker].incarnation)
            sim_fail(s, "request %u was never answered", i);
    }
}

static void list_hints(struct sim *s)
{
    for (unsigned n = 0; n < s->nodes; n++)
        for (unsigned target = 0; target < s->nodes; target++)
            for (unsigned k = 0; k < s->keys; k++)
                if (n != target && s->node[n].disk.live.hint[target][k])
                    printf("node %u worker %u owes node %u %s, partition %u\n", n,
                           worker_of_key(s, n, k), target, s->key[k].name, s->key[k].partition);
}

static void drain_hints(struct sim *s)
{
    for (int second = 0;; second++) {
        unsigned left = 0;

        for (unsigned n = 0; n < s->nodes; n++)
            left += s->node[n].up ? disk_hints(s, n) : 0;
        if (left == 0)
            return;
        if (second == 60 && s->options.log)
            list_hints(s);
        if (second == 60)
            sim_fail(s, "%u hints are not delivered although all nodes are back", left);
        sim_run_until(s, s->now + SEC(1));
    }
}

/* Read every key from all replicas, until it has worked. */
static void read_all(struct sim *s)
{
    for (unsigned k = 0; k < s->keys; k++) {
        for (int tries = 0;; tries++) {
            s->checks_failed = 0;
            client_check_read(s, k);
            while (s->checks_waiting > 0)
                sim_run_until(s, s->now + MS(5));
            if (s->checks_failed == 0)
                break;
            if (tries == 5)
                sim_fail(s, "%s cannot be read from all replicas after healing", s->key[k].name);
        }
    }
    sim_run_until(s, s->now + SEC(2));
}

/* A replica has lost a key and is slow to say so: a read does not wait for it, and repairs it all the
 * same when its answer comes. */
static void check_late_repair(struct sim *s)
{
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];

    if (s->key[k].n < 3)
        return;
    disk_forget(s, walk->member[1], k);
    /* Long enough to count as silent, too short for its links to be given up. */
    node_freeze(s, walk->member[1], MS(s->conf.replica_ms + 30));
    client_check_pair(s, k, walk->member[0]);
    while (s->checks_waiting > 0)
        sim_run_until(s, s->now + MS(5));
    sim_run_until(s, s->now + SEC(2));
    oracle_converged(s, false);
}

/* The end of the world: all primaries of a key go down but one. Together with a fallback it still
 * makes a quorum of two, unless the quorum is a strict one. */
static void check_fallbacks(struct sim *s)
{
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];

    if (s->key[k].n < 2 || walk->count <= s->key[k].n)
        return;
    for (unsigned i = 0; i < walk->count; i++)
        if (s->node[walk->member[i]].disk.live.damaged[k] != SOUND)
            return; /* which is no answer, and need not be mended at a fallback */
    s->calm = false;
    for (unsigned i = 1; i < s->key[k].n; i++)
        node_crash(s, walk->member[i]);
    sim_run_until(s, s->now + SEC(2));
    s->checks_failed = 0;
    client_check_pair(s, k, walk->member[0]);
    while (s->checks_waiting > 0)
        sim_run_until(s, s->now + MS(5));
    if ((s->checks_failed != 0) != s->key[k].strict)
        sim_fail(s, "%s: a read of two with one primary and a fallback alive %s", s->key[k].name,
                 s->checks_failed != 0 ? "fails" : "succeeds");
}

uint64_t sim_run(const struct sim_options *options)
{
    struct sim *s = calloc(1, sizeof *s);

    ASSERT(s != NULL);
    s->options = *options;
    rand_seed(&s->rand, options->seed);
    s->chaos = true;
    s->current_write = UINT64_MAX;
    set_up(s);
    fault_start(s);
    while (s->ops_left > 0 && s->now < SEC(25))
        sim_run_until(s, s->now + MS(100));
    s->clients_stopped = true;
    sim_run_until(s, s->now + sim_range(s, 1, SEC(2)));
    fault_stop(s);
    sim_run_until(s, s->now + SEC(20));
    ring_settle(s);
    check_quiet(s);
    drain_hints(s);
    check_repaired_by_itself(s);
    if (s->ring == NULL)
        oracle_converged(s, !s->repair);
    read_all(s);
    oracle_converged(s, false);
    uint64_t repairs = s->net.repairs;

    read_all(s);
    if (s->net.repairs != repairs)
        sim_fail(s, "%llu repairs were sent although replicas were equal",
                 (unsigned long long)(s->net.repairs - repairs));
    oracle_converged(s, false);
    oracle_final(s);
    check_quiet(s);
    check_wiped(s);
    check_away(s);
    check_late(s);
    check_late_repair(s);
    check_fallbacks(s);
    sim_trace(s, "end", s->writes_ok, s->reads_ok, s->net.messages);
    if (options->log)
        printf("nodes %u workers %u keys %u writes %llu ok %llu failed, reads %llu ok %llu failed, "
               "%llu refused, %llu messages, %.1f s\n",
               s->nodes, s->workers, s->keys, (unsigned long long)s->writes_ok,
               (unsigned long long)s->writes_failed, (unsigned long long)s->reads_ok,
               (unsigned long long)s->reads_failed, (unsigned long long)s->refused,
               (unsigned long long)s->net.messages, (double)s->now / 1e6);
    return s->trace;
}
