/* Changes of the ring: every node runs the real core/ring_change.c on what simulated gossip tells it. New
 * members are filled by copies of partitions that take their time and can fail; in every other run the
 * real exchange of repair.c runs besides, gives away what is surplus, and refills who was excused.
 * Administrators
 * come and go. What must hold: writes acknowledged stay, strict reads see them, a list is read only when
 * it has them all, and in the end all nodes have one ring with nothing under way. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "core/horizon.h"
#include "core/ring_change.h"

#include <stdlib.h>

#define QUIET_US SEC(3) /* what is surplus goes when it has not been written for so long */
#define PATIENCE 80     /* seconds until a change is complete, after healing */
#define RINGS    256    /* documents that are remembered */

/* The part of a view that all nodes must agree on. */
struct doc {
    uint64_t epoch;
    struct node_id proposer;
    uint8_t going[SIM_NODES], state[SIM_NODES];
    uint16_t weight[SIM_NODES];
    uint16_t owner[SIM_PARTITIONS], next[SIM_PARTITIONS];
};

/* What one node tells another: its document, and what it has heard of everybody. */
struct word {
    unsigned from, to;
    struct doc doc;
    uint8_t step[SIM_NODES][SIM_PARTITIONS];
};

/* A partition on its way from one node to another. */
struct copy {
    unsigned from, to, partition;
    uint64_t epoch, as_of, give_up;
    struct blob *object[SIM_KEYS];
};

struct ring_node {
    struct ring_progress progress[SIM_NODES];
    uint64_t phase_since[SIM_PARTITIONS];  /* of the phase that agreements count in */
    struct horizon agreed[SIM_PARTITIONS]; /* of vnode 0: simulated copies are of no id */
    bool copying[SIM_PARTITIONS][SIM_NODES];
    /* As a holder of what is surplus. */
    uint32_t handed[SIM_PARTITIONS]; /* bits of nodes that have it as it is */
    uint64_t written_at[SIM_PARTITIONS];
    const struct blob *seen[SIM_KEYS]; /* when it was looked at last */
};

struct ring_sim {
    struct ring_node node[SIM_NODES];
    uint64_t gossip_us, copy_us,
        admin_us;                   /* between two words, looks at what is to be copied, changes */
    uint64_t deaf_until[SIM_NODES]; /* its gossip does not get through, though all else does */
    unsigned changes;               /* still to be committed */
    unsigned commits, superseded, completions, handed_over;
    struct {
        uint64_t epoch, hash;
        struct node_id proposer;
    } rings[RINGS];
    unsigned ring_count;
};

static struct ring_view *view_of(struct sim *s, unsigned n)
{
    return &s->node[n].view;
}

static uint32_t partitions(const struct sim *s)
{
    return 1u << s->q_bits;
}

static struct ring_quorum quorum(const struct sim *s)
{
    return (struct ring_quorum){s->rule[1].r, s->rule[1].w};
}

static bool is_removed(const struct sim *s, unsigned node)
{
    return (s->removed >> node & 1) != 0;
}

/* ---- Documents. */

static void doc_of(struct sim *s, unsigned n, struct doc *out)
{
    const struct ring_view *v = view_of(s, n);

    memset(out, 0, sizeof *out);
    out->epoch = v->epoch;
    out->proposer = v->proposer;
    for (unsigned m = 0; m < s->nodes; m++) {
        out->going[m] = v->members[m].going;
        out->state[m] = v->members[m].state == MEMBER_LEFT ? MEMBER_LEFT : MEMBER_ALIVE;
        out->weight[m] = v->members[m].weight;
    }
    memcpy(out->owner, v->owner, partitions(s) * sizeof out->owner[0]);
    memcpy(out->next, v->next, partitions(s) * sizeof out->next[0]);
}

static int compare(const struct doc *d, const struct ring_view *v)
{
    if (d->epoch != v->epoch)
        return d->epoch < v->epoch ? -1 : 1;
    return memcmp(d->proposer.b, v->proposer.b, NODE_ID_BYTES);
}

static void publish(struct sim *s, unsigned n)
{
    struct node *node = &s->node[n];

    node->view.version++;
    ring_index_build(&node->view, node->view.n, &node->index);
    repair_view(s, n);
    for (unsigned w = 0; w < s->workers; w++) {
        if (!node->worker[w].up)
            continue;
        coord_set_view(node->worker[w].coord, &node->view, &node->index);
        handoff_set_view(node->worker[w].handoff, &node->view, &node->index);
        worker_turn(&node->worker[w]);
    }
}

/* Documents of one version are one document. */
static void check_unique(struct sim *s, unsigned n)
{
    struct doc d;
    unsigned i = 0;

    doc_of(s, n, &d);
    uint64_t hash = hash64(&d, sizeof d);

    while (i < s->ring->ring_count && (s->ring->rings[i].epoch != d.epoch ||
                                       !node_id_equal(&s->ring->rings[i].proposer, &d.proposer)))
        i++;
    if (i == RINGS)
        return;
    if (i < s->ring->ring_count && s->ring->rings[i].hash != hash)
        sim_fail(s, "node %u has another ring of epoch %llu than others", n,
                 (unsigned long long)d.epoch);
    if (i == s->ring->ring_count)
        s->ring->ring_count++;
    s->ring->rings[i].epoch = d.epoch;
    s->ring->rings[i].proposer = d.proposer;
    s->ring->rings[i].hash = hash;
}

/* A new document is in force at a node: nobody has said anything about it yet. */
static void begin_document(struct sim *s, unsigned n)
{
    struct ring_node *r = &s->ring->node[n];

    check_unique(s, n);

    memset(r->progress, 0, sizeof r->progress);
    memset(r->agreed, 0, sizeof r->agreed);
    memset(r->handed, 0, sizeof r->handed);
    for (uint32_t p = 0; p < partitions(s); p++)
        r->phase_since[p] = s->now;
    sim_trace(s, "document", n, view_of(s, n)->epoch, view_of(s, n)->proposer.b[0]);
}

static void adopt(struct sim *s, unsigned n, const struct doc *d)
{
    struct ring_view *v = view_of(s, n);

    v->epoch = d->epoch;
    v->proposer = d->proposer;
    for (unsigned m = 0; m < s->nodes; m++) {
        v->members[m].going = d->going[m];
        v->members[m].weight = d->weight[m];
        if (d->state[m] == MEMBER_LEFT)
            v->members[m].state = MEMBER_LEFT;
        else if (v->members[m].state == MEMBER_LEFT) /* the document that said so has lost */
            v->members[m].state = is_removed(s, m) ? MEMBER_FAULTY : MEMBER_ALIVE;
    }
    memcpy(v->owner, d->owner, partitions(s) * sizeof d->owner[0]);
    memcpy(v->next, d->next, partitions(s) * sizeof d->next[0]);
    memset(v->phase, RING_SETTLED, sizeof v->phase);
    begin_document(s, n);
    ring_change_phases(v, s->ring->node[n].progress, quorum(s));
    publish(s, n);
}

/* ---- Phases. */

/* Has a write been purged, or something that superseded it? Then all replicas had it, which is checked at
 * the purge, and a new member need not. */
static bool is_buried(const struct sim *s, const struct key *key, uint32_t write)
{
    bool buried = false;

    for (unsigned e = 0; e < key->event_count; e++)
        buried |= bits_has(&s->write[write].events, e) && bits_has(&key->buried, e);
    return buried;
}

/* Why may this partition be read by its next list? Because each of its readers meets each write that has
 * been acknowledged. */
static void check_switched(struct sim *s, unsigned n, uint32_t p)
{
    struct ring_walker w;
    struct ring_walk next;

    ring_walker_init(&w, view_of(s, n), view_of(s, n)->next);
    ring_walker_walk(&w, p, view_of(s, n)->n, &next);
    for (unsigned k = 0; k < s->keys && !s->rivals; k++) {
        const struct key *key = &s->key[k];

        if (key->partition != p || !key->strict)
            continue;
        unsigned wanted = key->n < next.primaries ? key->n : next.primaries;
        unsigned r = s->rule[1].r < wanted ? s->rule[1].r : wanted;

        for (uint32_t i = 0; i < key->acked_count; i++) {
            unsigned copies = 0;

            if (is_buried(s, key, key->acked[i]))
                continue;
            for (unsigned m = 0; m < wanted; m++)
                copies += oracle_node_has(s, next.member[m], k, key->acked[i]);
            if (copies + r <= wanted)
                sim_fail(s,
                         "%s: node %u reads the next list, but only %u of %u in it have write %u",
                         key->name, n, copies, wanted, key->acked[i]);
        }
    }
}

static void note_phases(struct sim *s, unsigned n, const uint8_t *before)
{
    const struct ring_view *v = view_of(s, n);

    for (uint32_t p = 0; p < partitions(s); p++) {
        if (v->phase[p] == before[p])
            continue;
        sim_trace(s, "phase", n, p, v->phase[p]);
        s->ring->node[n].phase_since[p] = s->now;
        if (v->phase[p] == RING_SWITCHED)
            check_switched(s, n, p);
    }
}

/* What antientropyd says of a partition of whose next list this node is a member: by its own rule, of
 * agreements that are copies here. */
static uint8_t copied(struct sim *s, unsigned n, uint32_t p, const struct ring_walk *old)
{
    const struct ring_view *v = view_of(s, n);
    const struct ring_node *r = &s->ring->node[n];

    if (!horizon_filled(&r->agreed[p], v, old, r->phase_since[p], ring_change_tolerance(quorum(s))))
        return STEP_NONE;
    return v->phase[p] == RING_FENCED ? STEP_SURE : STEP_WHOLE;
}

static void complete(struct sim *s, unsigned n)
{
    static struct ring_view after;
    uint64_t version = view_of(s, n)->version;

    ring_change_complete(view_of(s, n), &after);
    *view_of(s, n) = after;
    view_of(s, n)->version = version;
    s->ring->completions++;
    begin_document(s, n);
    publish(s, n);
}

/* All that follows from what the node has heard. */
static void update(struct sim *s, unsigned n)
{
    struct ring_view *v = view_of(s, n);
    struct ring_node *r = &s->ring->node[n];
    uint8_t before[SIM_PARTITIONS], done[LIMIT_PARTITIONS] = {0};
    struct ring_walk old, next;
    bool again = true;

    while (again) {
        memcpy(before, v->phase, partitions(s));
        if (ring_change_phases(v, r->progress, quorum(s))) {
            note_phases(s, n, before);
            publish(s, n);
        }
        for (uint32_t p = 0; p < partitions(s); p++) {
            struct ring_walker w;

            if (v->phase[p] != RING_MOVING && v->phase[p] != RING_FENCED)
                continue;
            ring_walker_init(&w, v, v->owner);
            ring_walker_walk(&w, p, v->n, &old);
            ring_walker_init(&w, v, v->next);
            ring_walker_walk(&w, p, v->n, &next);
            if (ring_walk_primary(&next, (uint16_t)n) >= 0)
                done[p] = copied(s, n, p, &old);
        }
        again = ring_change_announce(v, done, &r->progress[n]);
    }
    if (ring_change_is_complete(v, r->progress, quorum(s)))
        complete(s, n);
}

/* ---- Gossip. */

static bool can_reach(const struct sim *s, unsigned from, unsigned to)
{
    return s->node[from].up && s->node[to].up && !s->net.blocked[from][to];
}

static bool can_talk(const struct sim *s, unsigned from, unsigned to)
{
    return can_reach(s, from, to) && s->ring->deaf_until[from] <= s->now &&
           s->ring->deaf_until[to] <= s->now;
}

static void hear(struct sim *s, const struct event *e)
{
    struct word *word = e->p;
    unsigned n = word->to;
    struct ring_node *r = &s->ring->node[n];

    if (node_defer(s, n, e))
        return;
    if (can_talk(s, word->from, n)) {
        int order = compare(&word->doc, view_of(s, n));

        if (order > 0 && !(COORD_BUG(LOSER_STAYS) && word->doc.epoch == view_of(s, n)->epoch)) {
            s->ring->superseded += ring_change_is_open(view_of(s, n));
            adopt(s, n, &word->doc);
        } else if (order != 0) {
            free(word);
            return;
        }
        for (unsigned m = 0; m < s->nodes; m++)
            if (m != n)
                ring_change_hear(&r->progress[m], word->step[m], (uint8_t)s->q_bits);
        update(s, n);
    }
    free(word);
}

static void talk(struct sim *s, const struct event *e)
{
    unsigned n = (unsigned)e->a, to = (unsigned)rand_below(&s->rand, s->nodes);

    sim_after(s, sim_range(s, s->ring->gossip_us / 2, s->ring->gossip_us * 3 / 2), talk, NULL, n,
              0);
    if (to == n || node_frozen(s, n) || !can_talk(s, n, to))
        return;
    struct word *word = malloc(sizeof *word);

    ASSERT(word != NULL);
    word->from = n;
    word->to = to;
    doc_of(s, n, &word->doc);
    for (unsigned m = 0; m < s->nodes; m++)
        memcpy(word->step[m], s->ring->node[n].progress[m].step, SIM_PARTITIONS);
    sim_after(s, s->net.latency_us + sim_range(s, 0, s->net.jitter_us) + s->node[n].slow_us, hear,
              word, 0, 0);
}

/* ---- Copies. */

static bool at_worker(const struct sim *s, unsigned node, uint32_t p)
{
    return s->node[node].worker[ring_worker_of(p, (uint16_t)s->workers)].up &&
           !node_frozen(s, node);
}

static void end_copy(struct sim *s, struct copy *c)
{
    s->ring->node[c->to].copying[c->partition][c->from] = false;
    for (unsigned k = 0; k < s->keys; k++)
        if (c->object[k] != NULL)
            disk_blob_drop(c->object[k]);
    free(c);
}

/* Has the receiver everything on disk? Then both have agreed as of when it was read. */
static void confirm(struct sim *s, const struct event *e)
{
    struct copy *c = e->p;
    bool all = true;

    for (unsigned k = 0; k < s->keys && all; k++)
        all = c->object[k] == NULL || (s->repair && check_buried(s, k, c->object[k])) ||
              oracle_covers(s, k, c->object[k], s->node[c->to].disk.durable.object[k]);
    if (!all && s->now < c->give_up) {
        sim_after(s, MS(20), confirm, c, 0, 0);
        return;
    }
    if (all && view_of(s, c->to)->epoch == c->epoch) {
        horizon_agreed(&s->ring->node[c->to].agreed[c->partition], 0,
                       &view_of(s, c->to)->members[c->from].id, c->as_of);
        update(s, c->to);
    }
    if (all) {
        struct ring_node *giver = &s->ring->node[c->from];
        bool same = true;

        for (unsigned k = 0; k < s->keys; k++)
            if (s->key[k].partition == c->partition)
                same &= s->node[c->from].disk.live.object[k] == c->object[k];
        if (same)
            giver->handed[c->partition] |= 1u << c->to;
    }
    end_copy(s, c);
}

/* What the giver has now goes to the receiver. */
static void transfer(struct sim *s, const struct event *e)
{
    struct copy *c = e->p;
    unsigned w = ring_worker_of(c->partition, (uint16_t)s->workers);

    c->as_of = s->now;
    c->epoch = view_of(s, c->to)->epoch;
    c->give_up = s->now + SEC(2);
    if (!can_reach(s, c->from, c->to) || !can_reach(s, c->to, c->from) ||
        !at_worker(s, c->from, c->partition) || !at_worker(s, c->to, c->partition) ||
        sim_percent(s, 5)) {
        end_copy(s, c);
        return;
    }
    for (unsigned k = 0; k < s->keys; k++) {
        struct blob *b = s->node[c->from].disk.live.object[k];
        struct msg m = {.kind = MSG_MERGE,
                        .u.MERGE = {.epoch = view_of(s, c->from)->epoch, .flags = MERGE_REPAIR}};

        if (s->key[k].partition != c->partition || b == NULL)
            continue;
        b->refs++;
        c->object[k] = b;
        m.u.MERGE.object = slice_of(b->bytes, b->len);
        worker_message(&s->node[c->to].worker[w], c->from, w, &m);
    }
    sim_after(s, MS(10), confirm, c, 0, 0);
}

static void begin_copy(struct sim *s, unsigned from, unsigned to, uint32_t p)
{
    bool *busy = &s->ring->node[to].copying[p][from];
    struct copy *c;

    if (*busy)
        return;
    *busy = true;
    c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->from = from;
    c->to = to;
    c->partition = p;
    sim_after(s, sim_range(s, MS(5), MS(100)), transfer, c, 0, 0);
}

/* A member of the next list asks every old primary that it has not agreed with in this phase. */
static void fill(struct sim *s, unsigned n, uint32_t p)
{
    const struct ring_view *v = view_of(s, n);
    const struct ring_index *index = &s->node[n].index;

    if ((v->phase[p] != RING_MOVING && v->phase[p] != RING_FENCED) ||
        ring_walk_primary(&index->other[p], (uint16_t)n) < 0)
        return;
    for (uint8_t i = 0; i < index->walk[p].primaries; i++) {
        unsigned from = index->walk[p].member[i];

        if (from != n && horizon_agreement(&s->ring->node[n].agreed[p], &v->members[from].id) <=
                             s->ring->node[n].phase_since[p])
            begin_copy(s, from, n, p);
    }
}

/* ---- What is surplus. */

static bool holds_any(const struct sim *s, unsigned n, uint32_t p)
{
    for (unsigned k = 0; k < s->keys; k++)
        if (s->key[k].partition == p && s->node[n].disk.live.object[k] != NULL)
            return true;
    return false;
}

static bool owes_any(const struct sim *s, unsigned n, uint32_t p)
{
    for (unsigned k = 0; k < s->keys; k++)
        for (unsigned t = 0; t < s->nodes; t++)
            if (s->key[k].partition == p && s->node[n].disk.live.hint[t][k])
                return true;
    return false;
}

static void look_for_writes(struct sim *s, unsigned n)
{
    struct ring_node *r = &s->ring->node[n];

    for (unsigned k = 0; k < s->keys; k++) {
        const struct blob *b = s->node[n].disk.live.object[k];

        if (r->seen[k] == b)
            continue;
        r->seen[k] = b;
        r->written_at[s->key[k].partition] = s->now;
        r->handed[s->key[k].partition] = 0;
    }
}

static void check_handed_over(struct sim *s, unsigned n, uint32_t p, const struct ring_walk *walk)
{
    for (unsigned k = 0; k < s->keys; k++) {
        const struct blob *b = s->node[n].disk.live.object[k];

        for (uint8_t i = 0; s->key[k].partition == p && b != NULL && i < walk->primaries; i++)
            if (!oracle_covers(s, k, b, s->node[walk->member[i]].disk.durable.object[k]))
                sim_fail(s, "%s: node %u drops what node %u does not have", s->key[k].name, n,
                         walk->member[i]);
    }
}

static void hand_over(struct sim *s, unsigned n, uint32_t p)
{
    struct ring_node *r = &s->ring->node[n];
    const struct ring_walk *walk = &s->node[n].index.walk[p];
    struct worker *w = &s->node[n].worker[ring_worker_of(p, (uint16_t)s->workers)];
    bool all = true, any = false;

    if (s->repair || ring_keeps(&s->node[n].index, p, (uint16_t)n) || !holds_any(s, n, p) ||
        owes_any(s, n, p) || s->now < r->written_at[p] + QUIET_US)
        return;
    for (uint8_t i = 0; i < walk->primaries; i++) {
        bool has = (r->handed[p] >> walk->member[i] & 1) != 0;

        all &= has;
        any |= has;
        if (!has)
            begin_copy(s, n, walk->member[i], p);
    }
    if (COORD_BUG(GIVEN_TO_ONE))
        all = any;
    if (!all || !w->up || w->durable != w->journal.first_lsn - 1 + w->journal.count)
        return;
    check_handed_over(s, n, p, walk);
    for (unsigned k = 0; k < s->keys; k++)
        if (s->key[k].partition == p && s->node[n].disk.live.object[k] != NULL)
            disk_forget(s, n, k);
    sim_trace(s, "surplus gone", n, p, 0);
    s->ring->handed_over++;
}

static void work(struct sim *s, const struct event *e)
{
    unsigned n = (unsigned)e->a;

    sim_after(s, sim_range(s, s->ring->copy_us / 2, s->ring->copy_us * 3 / 2), work, NULL, n, 0);
    look_for_writes(s, n);
    if (!s->node[n].up || node_frozen(s, n))
        return;
    update(s, n);
    for (uint32_t p = 0; p < partitions(s); p++) {
        fill(s, n, p);
        hand_over(s, n, p);
    }
}

/* ---- Administrators. */

static unsigned any_node(struct sim *s)
{
    return (unsigned)rand_below(&s->rand, s->nodes);
}

/* Is everything at rest, everywhere? */
static bool all_settled(struct sim *s)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        struct doc d;

        if (is_removed(s, n))
            continue;
        doc_of(s, n, &d);
        if (ring_change_is_open(view_of(s, n)) || compare(&d, view_of(s, s->reference)) != 0)
            return false;
    }
    return true;
}

static bool is_member(const struct ring_view *v, unsigned n)
{
    return v->members[n].state != MEMBER_LEFT && v->members[n].going == MEMBER_STAYS &&
           v->members[n].weight > 0;
}

static int find_spare(struct sim *s, const struct ring_view *v)
{
    for (unsigned n = 0; n < s->nodes; n++)
        if (v->members[n].weight == 0 && v->members[n].state != MEMBER_LEFT && !is_removed(s, n))
            return (int)n;
    return -1;
}

static unsigned members_of(const struct sim *s, const struct ring_view *v)
{
    unsigned count = 0;

    for (unsigned n = 0; n < s->nodes; n++)
        count += is_member(v, n);
    return count;
}

static struct ring_change change_of(const struct ring_view *v, enum ring_change_kind kind,
                                    unsigned n, uint16_t weight)
{
    return (struct ring_change){.kind = (uint8_t)kind, .node = v->members[n].id, .weight = weight};
}

/* What an administrator may come to want, given what this node knows. Returns the number of changes. */
static uint32_t think_of(struct sim *s, unsigned n, const struct ring_view *v,
                         struct ring_change *list)
{
    int spare = find_spare(s, v);
    unsigned victim = any_node(s), pick = (unsigned)sim_range(s, 0, 9);
    bool many = members_of(s, v) > v->n;
    uint32_t count = 0;

    if (!is_member(v, victim) || (s->removed != 0 && pick < 8))
        pick = spare >= 0 ? 0 : 9;
    if (pick < 4 && spare >= 0)
        list[count++] = change_of(v, RING_WEIGHT, (unsigned)spare, 100);
    if (pick >= 3 && pick < 6 && (many || count > 0))
        list[count++] = change_of(v, RING_LEAVE, victim, 0);
    if (pick >= 6 && pick < 8 && (many || spare >= 0) && s->removed == 0 && !s->rivals &&
        s->rule[0].w >= 2 && s->rule[1].w >= 2 && v->n >= 2 && victim != n) {
        list[count++] = change_of(v, RING_REMOVE, victim, 0);
        if (spare >= 0 && (!many || pick == 7))
            list[count++] = change_of(v, RING_WEIGHT, (unsigned)spare, 100);
    }
    if (pick == 9 && is_member(v, victim))
        list[count++] = change_of(v, RING_WEIGHT, victim, (uint16_t)sim_range(s, 50, 200));
    return count;
}

static void commit(struct sim *s, unsigned n)
{
    static struct ring_view planned;
    struct ring_view *v = view_of(s, n);
    struct ring_change list[2];
    struct ring_proof proof;
    uint32_t count = think_of(s, n, v, list), at;
    struct doc d;

    if (count == 0 || ring_change_plan(v, list, count, v->members, v->member_count,
                                       &v->members[n].id, &planned, &at) != 0)
        return;
    if (!ring_change_check(&planned, &proof))
        return;
    for (uint32_t i = 0; i < count; i++) {
        unsigned victim = ring_find(v, &list[i].node);

        sim_trace(s, "change", list[i].kind, victim, list[i].weight);
        if (list[i].kind != RING_REMOVE)
            continue;
        node_crash(s, victim); /* for good */
        s->removed |= 1u << victim;
        node_gossip(s, victim, MEMBER_FAULTY);
        planned.members[victim].state = MEMBER_FAULTY;
    }
    static struct ring_view mine;

    mine = *v;
    *v = planned;
    doc_of(s, n, &d);
    *v = mine;
    s->ring->commits++;
    adopt(s, n, &d);
    update(s, n);
}

static void administer(struct sim *s, const struct event *e)
{
    unsigned n = any_node(s);

    (void)e;
    if (!s->chaos || s->ring->changes == 0)
        return;
    sim_after(s, sim_range(s, MS(10), s->ring->admin_us), administer, NULL, 0, 0);
    if (!s->node[n].up || is_removed(s, n) || node_frozen(s, n) ||
        view_of(s, n)->members[n].state == MEMBER_LEFT || (!s->rivals && !all_settled(s)))
        return;
    s->ring->changes--;
    commit(s, n);
    if (!s->rivals || sim_percent(s, 30))
        return;
    /* Somebody else, at the same time. */
    n = any_node(s);
    if (s->node[n].up && !node_frozen(s, n))
        commit(s, n);
}

/* ---- A node that hears nothing of the others and is taken for dead, but serves and is served. */

static void hears_again(struct sim *s, const struct event *e)
{
    if (s->node[e->a].up && s->ring->deaf_until[e->a] <= s->now)
        node_gossip(s, (unsigned)e->a, MEMBER_ALIVE);
}

static void is_missed(struct sim *s, const struct event *e)
{
    if (s->ring->deaf_until[e->a] > s->now)
        node_gossip(s, (unsigned)e->a, MEMBER_FAULTY);
}

static void deafen(struct sim *s, const struct event *e)
{
    unsigned n = any_node(s);
    uint64_t duration = sim_range(s, MS(200), SEC(6));

    (void)e;
    if (!s->chaos)
        return;
    sim_after(s, sim_range(s, MS(10), 2 * s->ring->admin_us), deafen, NULL, 0, 0);
    if (!s->node[n].up || s->ring->deaf_until[n] > s->now)
        return;
    sim_trace(s, "deaf", n, duration, 0);
    s->ring->deaf_until[n] = s->now + duration;
    for (unsigned o = 0; o < s->nodes && duration % 2 == 0; o++) { /* and cut off from some */
        if (o == n || sim_percent(s, 50))
            continue;
        fault_block(s, n, o, duration);
        fault_block(s, o, n, duration);
    }
    sim_after(s, sim_range(s, MS(20), MS(400)), is_missed, NULL, n, 0);
    sim_after(s, duration + sim_range(s, MS(1), MS(200)), hears_again, NULL, n, 0);
}

/* ---- The run. */

void ring_set_up(struct sim *s, unsigned n)
{
    struct rand r;

    rand_seed(&r, s->options.seed * 0x9e3779b97f4a7c15ull + 1);
    if (s->options.repair ||
        (!s->options.ring && (s->amnesia || s->calm || rand_below(&r, 100) >= 45)))
        return;
    s->amnesia = s->calm = false;
    s->ring = calloc(1, sizeof *s->ring);
    ASSERT(s->ring != NULL);
    s->rivals = rand_below(&r, 100) < 30;
    if (s->nodes == 3)
        s->nodes = 4;
    s->spares = 1 + (unsigned)rand_below(&r, 2);
    while (s->nodes - s->spares < n)
        s->spares--;
    s->ring->changes = 1 + (unsigned)rand_below(&r, 12);
    s->ring->gossip_us = MS(5 + rand_below(&r, 80));
    s->ring->copy_us = MS(10 + rand_below(&r, 150));
    s->ring->admin_us = MS(100 + rand_below(&r, 1500));
}

void ring_start(struct sim *s)
{
    if (s->ring == NULL)
        return;
    for (unsigned n = 0; n < s->nodes; n++) {
        sim_after(s, sim_range(s, 0, s->ring->gossip_us), talk, NULL, n, 0);
        sim_after(s, sim_range(s, 0, s->ring->copy_us), work, NULL, n, 0);
    }
    sim_after(s, sim_range(s, MS(10), s->ring->admin_us), administer, NULL, 0, 0);
    sim_after(s, sim_range(s, MS(10), 2 * s->ring->admin_us), deafen, NULL, 0, 0);
}

/* After chaos everybody hears again. */
void ring_heal(struct sim *s)
{
    for (unsigned n = 0; s->ring != NULL && n < s->nodes; n++)
        s->ring->deaf_until[n] = 0;
}

void ring_node_gone(struct sim *s, unsigned n)
{
    if (s->ring == NULL)
        return;
    /* Its own word is durable, what it has heard is not; nor is what antientropyd remembers. */
    for (unsigned m = 0; m < s->nodes; m++)
        if (m != n)
            memset(&s->ring->node[n].progress[m], 0, sizeof s->ring->node[n].progress[m]);
    memset(s->ring->node[n].agreed, 0, sizeof s->ring->node[n].agreed);
}

static void check_lists(struct sim *s)
{
    const struct ring_view *v = view_of(s, s->reference);
    struct ring_proof proof;

    ring_change_check(v, &proof);
    if (proof.short_lists > 0 || proof.want < v->n)
        sim_fail(s, "preference lists have %u members instead of %u", proof.least, v->n);
}

static unsigned count_surplus(const struct sim *s)
{
    unsigned count = 0;

    for (unsigned n = 0; n < s->nodes; n++)
        for (uint32_t p = 0; p < partitions(s); p++)
            count += !is_removed(s, n) && holds_any(s, n, p) &&
                     !ring_keeps(&s->node[n].index, p, (uint16_t)n);
    return count;
}

static void say_where_it_stands(struct sim *s)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        const struct ring_view *v = view_of(s, n);

        printf("node %u%s: epoch %llu of %u, phases", n, is_removed(s, n) ? " (removed)" : "",
               (unsigned long long)v->epoch, v->proposer.b[0]);
        for (uint32_t p = 0; p < partitions(s); p++)
            printf(" %u", v->phase[p]);
        printf(", states");
        for (unsigned m = 0; m < s->nodes; m++)
            printf(" %u%s", v->members[m].state, v->members[m].going ? "*" : "");
        printf("\n");
    }
}

void ring_settle(struct sim *s)
{
    if (s->ring == NULL)
        return;
    for (unsigned n = 0; n < s->nodes; n++) /* one that is in every ring to come */
        if (!is_removed(s, n) && view_of(s, n)->members[n].state != MEMBER_LEFT)
            s->reference = n;
    for (int second = 0; !all_settled(s); second++) {
        if (second == PATIENCE) {
            say_where_it_stands(s);
            sim_fail(s, "nodes do not agree on one ring with no change under way");
        }
        sim_run_until(s, s->now + SEC(1));
    }
    for (unsigned n = 0; n < s->nodes; n++)
        if (view_of(s, s->reference)->members[n].state != MEMBER_LEFT && !is_removed(s, n))
            s->reference = n;
    check_lists(s);
    for (int second = 0; count_surplus(s) > 0; second++) {
        if (second == PATIENCE)
            sim_fail(s, "%u partitions are left where they do not belong", count_surplus(s));
        sim_run_until(s, s->now + SEC(1));
    }
    if (s->options.log)
        printf("ring: %u commits, %u superseded, %u completions seen, %u surplus partitions gone\n",
               s->ring->commits, s->ring->superseded, s->ring->completions, s->ring->handed_over);
}
