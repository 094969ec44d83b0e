/* Connections between antientropyds: one for each ordered pair of nodes, the first of which leads the
 * exchanges on it. They keep order and lose nothing while they live. What breaks them: the end of either
 * node, resets, and partitions that last. */
#include "tests/messages.h"
#include "tests/sim/repair.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

#define PATIENCE SEC(1) /* a message that cannot be delivered for so long breaks its connection */

struct connection {
    uint64_t generation, last_arrival[2];
};

struct repair_net {
    struct connection connection[SIM_NODES][SIM_NODES]; /* leader, follower */
};

void repair_net_init(struct sim *s)
{
    s->repair_net = calloc(1, sizeof *s->repair_net);
    ASSERT(s->repair_net != NULL);
}

uint64_t repair_generation(const struct sim *s, unsigned leader, unsigned follower)
{
    return s->repair_net->connection[leader][follower].generation;
}

struct letter *letter_make(const struct repair *m)
{
    struct slice *slices[MESSAGE_SLICES];
    struct repair copy = *m;
    struct letter *l = malloc(sizeof *l + slices_bytes(slices, repair_slices(&copy, slices)));

    ASSERT(l != NULL);
    *l = (struct letter){.m = *m};
    slices_move(slices, repair_slices(&l->m, slices), l->bytes);
    return l;
}

static void arrive(struct sim *s, const struct event *e)
{
    struct letter *l = e->p;
    unsigned leader = l->by_leader ? l->from : l->to, follower = l->by_leader ? l->to : l->from;

    if (node_defer(s, l->to, e))
        return;
    if (repair_generation(s, leader, follower) != l->generation || !s->node[l->to].up) {
        free(l);
    } else if (!s->net.blocked[l->from][l->to]) {
        sim_trace(s, repair_name((int)l->m.kind), l->from, l->to, exchange_of(&l->m));
        repair_deliver(s, l);
        free(l);
    } else if (s->now - e->a > PATIENCE) {
        repair_break(s, leader, follower);
        free(l);
    } else {
        sim_after(s, sim_range(s, MS(20), MS(200)), arrive, l, e->a, 0);
    }
}

int repair_send(struct run *r, const struct repair *m)
{
    struct sim *s = r->owner->sim;
    unsigned from = r->owner->node;
    struct connection *c = r->leads ? &s->repair_net->connection[from][r->peer]
                                    : &s->repair_net->connection[r->peer][from];
    uint64_t slow = s->node[from].slow_us + s->node[r->peer].slow_us;
    uint64_t at = s->now + s->net.latency_us + sim_range(s, 0, s->net.jitter_us) +
                  (slow > 0 ? sim_range(s, 0, slow) : 0);

    if (c->generation != r->generation)
        return -ERR_CLOSED;
    struct letter *l = letter_make(m);

    l->from = from;
    l->to = r->peer;
    l->by_leader = r->leads;
    l->generation = r->generation;
    if (at <= c->last_arrival[r->leads])
        at = c->last_arrival[r->leads] + 1;
    c->last_arrival[r->leads] = at;
    sim_after(s, at - s->now, arrive, l, s->now, 0);
    /* Some runs are rough. */
    if (s->net.loss > 0 && rand_below(&s->rand, 1000) < s->net.loss)
        repair_reset(s, from, r->peer);
    return 0;
}

static void notice(struct sim *s, const struct event *e)
{
    unsigned node = (unsigned)e->a >> 16, leader = e->a >> 8 & 255, follower = e->a & 255;

    if (!node_defer(s, node, e))
        repair_broken(s, node, leader, follower);
}

void repair_break(struct sim *s, unsigned leader, unsigned follower)
{
    s->repair_net->connection[leader][follower].generation++;
    for (int i = 0; i < 2; i++)
        sim_after(s, sim_range(s, 20, MS(300)), notice, NULL,
                  (uint64_t)(i == 0 ? leader : follower) << 16 | leader << 8 | follower, 0);
}

void repair_reset(struct sim *s, unsigned a, unsigned b)
{
    if (!s->repair)
        return;
    repair_break(s, a, b);
    repair_break(s, b, a);
}

void repair_node_gone(struct sim *s, unsigned node)
{
    for (unsigned n = 0; n < s->nodes; n++)
        if (n != node)
            repair_reset(s, n, node);
}
