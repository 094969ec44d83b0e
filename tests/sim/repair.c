/* antientropyd of each node: it has partitions compared, keeps agreements, moves horizons on, purges,
 * refills, and lets surplus vnodes go. The protocol is the real one (core/exchange.h, core/horizon.h,
 * core/coord_repair.h). */
#include "tests/sim/repair.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

enum { HELD = 32 };
#define TICK    MS(100)
#define STALLED SEC(4) /* an exchange without news for so long is given up */

/* Answers of a worker to its antientropyd, until what they tell is durable. */
struct held_answer {
    bool used;
    uint64_t lsn, serial;
    struct letter *answer, *asked;
};

struct held {
    struct held_answer answer[HELD];
};

/* --- runs --- */

static struct run *run_of_serial(struct repairer *r, uint64_t serial)
{
    for (int i = 0; i < REPAIR_RUNS; i++)
        if (r->run[i].used && r->run[i].serial == serial)
            return &r->run[i];
    return NULL;
}

static void settle(struct run *run)
{
    struct repairer *r = run->owner;
    struct sim *s = r->sim;
    enum exchange_outcome outcome = exchange_outcome(run->x);
    struct exchange_stats stats;

    if (outcome == EXCHANGE_RUNNING)
        return;
    exchange_stats(run->x, &stats);
    s->exchanges++;
    s->moved += stats.pushed + stats.news_here;
    sim_trace(s, "exchange", r->node * 10u + run->peer, run->partition, outcome);
    if (outcome == EXCHANGE_AGREEMENT &&
        s->node[r->node].disk.vnode[run->partition].id == run->side.vnode) {
        struct horizon *h = &r->agreed[run->partition];

        s->agreements++;
        check_agreed(run);
        if (h->vnode != run->side.vnode)
            horizon_reset(h, run->side.vnode);
        horizon_agreed(h, run->side.vnode, &s->node[r->node].view.members[run->peer].id,
                       exchange_as_of(run->x));
    }
    check_forget(run);
    run->used = false;
}

static int host_send(void *arg, const struct repair *m)
{
    return repair_send(arg, m);
}

struct asking {
    struct repairer *owner;
    uint64_t serial, incarnation;
    struct letter *letter;
};

static void tell_answer(struct sim *s, const struct event *e)
{
    struct asking *a = e->p;
    struct run *run;

    if (node_defer(s, a->owner->node, e))
        return;
    run = a->owner->up ? run_of_serial(a->owner, a->serial) : NULL;
    if (run != NULL) {
        run->active_at = s->now;
        if (a->letter == NULL)
            exchange_abort(run->x, -ERR_UNAVAILABLE);
        else
            exchange_answer(run->x, &a->letter->m);
        settle(run);
    }
    free(a->letter);
    free(a);
}

/* `letter` NULL: there will be no answer. */
static void answer_later(struct repairer *r, uint64_t serial, struct letter *letter)
{
    struct asking *a = malloc(sizeof *a);

    ASSERT(a != NULL);
    *a = (struct asking){.owner = r, .serial = serial, .letter = letter};
    sim_after(r->sim, sim_range(r->sim, 10, 300), tell_answer, a, 0, 0);
}

static void set_vnode(struct repair *answer, uint64_t vnode)
{
    switch (answer->kind) {
    case REPAIR_LOOKED:
        answer->u.LOOKED.vnode = vnode;
        break;
    case REPAIR_FETCHED:
        answer->u.FETCHED.vnode = vnode;
        break;
    case REPAIR_MERGED:
        answer->u.MERGED.vnode = vnode;
        break;
    default:
        answer->u.DROPPED.vnode = vnode;
    }
}

static void hold(struct worker *w, uint64_t serial, uint64_t lsn, const struct repair *answer,
                 struct letter *asked)
{
    if (w->held == NULL)
        w->held = calloc(1, sizeof *w->held);
    ASSERT(w->held != NULL);
    for (int i = 0; i < HELD; i++) {
        struct held_answer *h = &w->held->answer[i];

        if (h->used)
            continue;
        *h = (struct held_answer){true, lsn, serial, letter_make(answer), asked};
        return;
    }
    sim_fail(w->sim, "more answers to anti-entropy are waited for than there can be");
}

/* A request reaches the worker. */
static void ask_arrives(struct sim *s, const struct event *e)
{
    static struct buf out;
    struct asking *a = e->p;
    struct repairer *r = a->owner;
    struct run *run;
    struct repair answer;
    uint64_t lsn;

    if (node_defer(s, r->node, e))
        return;
    run = r->up && r->incarnation == a->incarnation ? run_of_serial(r, a->serial) : NULL;
    struct worker *w = NULL;

    if (run != NULL)
        w = &s->node[r->node].worker[ring_worker_of(run->partition, (uint16_t)s->workers)];
    if (run == NULL || !w->up) {
        if (run != NULL)
            answer_later(r, a->serial, NULL);
        free(a->letter);
        free(a);
        return;
    }
    s->merging = a->letter->m.kind == REPAIR_MERGE;
    coord_repair(w->coord, &a->letter->m, &out, &answer, &lsn, s->now, node_wall_ms(s, r->node));
    s->merging = false;
    if (COORD_BUG(NO_SECOND_LOOK) && answer.kind == REPAIR_LOOKED)
        repair_look_at_tree(s, r->node, &a->letter->m.u.LOOK, &answer.u.LOOKED, &out);
    set_vnode(&answer, s->node[r->node].disk.vnode[run->partition].id);
    hold(w, a->serial, lsn, &answer, a->letter);
    free(a);
    worker_turn(w);
}

static int host_ask(void *arg, const struct repair *m)
{
    struct run *run = arg;
    struct repairer *r = run->owner;
    struct asking *a = malloc(sizeof *a);

    ASSERT(a != NULL);
    *a = (struct asking){r, run->serial, r->incarnation, letter_make(m)};
    sim_after(r->sim, sim_range(r->sim, 10, 300), ask_arrives, a, 0, 0);
    return 0;
}

void repair_turn(struct worker *w)
{
    struct repairer *r = w->sim->node[w->node].repairer;

    for (int i = 0; w->held != NULL && i < HELD; i++) {
        struct held_answer *h = &w->held->answer[i];

        if (!h->used || h->lsn > w->durable)
            continue;
        h->used = false;
        if (h->answer->m.kind == REPAIR_MERGED && h->answer->m.u.MERGED.status == 0)
            check_merged(w->sim, w->node, r->up ? run_of_serial(r, h->serial) : NULL,
                         h->asked->m.u.MERGE.objects, h->answer->m.u.MERGED.took);
        free(h->asked);
        answer_later(r, h->serial, h->answer);
    }
}

void repair_worker_gone(struct worker *w)
{
    struct repairer *r = w->sim->node[w->node].repairer;

    for (int i = 0; w->held != NULL && i < HELD; i++) {
        struct held_answer *h = &w->held->answer[i];

        if (!h->used)
            continue;
        h->used = false;
        free(h->answer);
        free(h->asked);
        answer_later(r, h->serial, NULL);
    }
}

static struct run *take_run(struct repairer *r, bool leads)
{
    static uint64_t serials;
    struct exchange_host host = {.send = host_send,
                                 .ask = host_ask,
                                 .leaves = repair_leaves,
                                 .rows = repair_rows,
                                 .objects = repair_objects};
    unsigned led = 0;

    for (int i = 0; i < REPAIR_RUNS; i++)
        led += r->run[i].used && r->run[i].leads;
    for (int i = 0; i < REPAIR_RUNS && (!leads || led < REPAIR_LED); i++) {
        struct run *run = &r->run[i];

        if (run->used)
            continue;
        if (run->x == NULL) {
            host.arg = run;
            run->x = exchange_init(aligned_alloc(16, (exchange_size() + 15) & ~(size_t)15), &host);
        }
        run->used = true;
        run->leads = leads;
        run->owner = r;
        run->serial = ++serials;
        run->active_at = r->sim->now;
        return run;
    }
    return NULL;
}

/* --- messages --- */

static void serve_open(struct repairer *r, const struct letter *l)
{
    struct sim *s = r->sim;
    const struct repair_OPEN *open = &l->m.u.OPEN;
    struct run *run = take_run(r, false);

    if (run == NULL)
        return; /* the other end gives up after a while */
    run->peer = l->from;
    run->partition = open->partition;
    run->number = open->exchange;
    run->generation = l->generation;
    if (s->node[r->node].disk.vnode[open->partition].id == 0) {
        if (!repair_is_primary(s, r->node, open->partition)) {
            repair_send(run, &(struct repair){
                                 .kind = REPAIR_OPENED,
                                 .u.OPENED = {.exchange = open->exchange, .status = ERR_NOTFOUND}});
            run->used = false;
            return;
        }
        disk_vnode_create(s, r->node, open->partition);
    }
    run->side = repair_side(s, r->node, open->partition);
    check_begin(run);
    exchange_serve(run->x, &run->side, open);
    settle(run);
}

void repair_deliver(struct sim *s, const struct letter *l)
{
    struct repairer *r = s->node[l->to].repairer;

    if (!r->up)
        return;
    if (l->m.kind == REPAIR_OPEN) {
        serve_open(r, l);
        return;
    }
    for (int i = 0; i < REPAIR_RUNS; i++) {
        struct run *run = &r->run[i];

        if (!run->used || run->leads == l->by_leader || run->peer != l->from ||
            run->number != exchange_of(&l->m) || run->generation != l->generation)
            continue;
        run->active_at = s->now;
        if (exchange_receive(run->x, &l->m) != 0)
            sim_fail(s, "node %u finds fault with %s of node %u", l->to,
                     repair_name((int)l->m.kind), l->from);
        settle(run);
        return;
    }
}

void repair_broken(struct sim *s, unsigned node, unsigned leader, unsigned follower)
{
    struct repairer *r = s->node[node].repairer;

    for (int i = 0; r->up && i < REPAIR_RUNS; i++) {
        struct run *run = &r->run[i];

        if (!run->used || run->leads != (leader == node) ||
            run->peer != (leader == node ? follower : leader) ||
            run->generation == repair_generation(s, leader, follower))
            continue;
        exchange_abort(run->x, -ERR_CLOSED);
        settle(run);
    }
}

/* --- the rounds --- */

static void begin(struct repairer *r, unsigned partition, unsigned peer)
{
    struct sim *s = r->sim;
    struct run *run = take_run(r, true);

    if (run == NULL)
        return;
    r->next_us[partition][peer] =
        s->now + sim_range(s, s->repair_interval_us / 2, s->repair_interval_us);
    run->peer = peer;
    run->partition = partition;
    run->number = ++r->numbers;
    run->generation = repair_generation(s, r->node, peer);
    run->side = repair_side(s, r->node, partition);
    check_begin(run);
    exchange_begin(run->x, run->number, &run->side);
    settle(run);
}

/* Agreements that are older than the newest write say nothing about it. Clocks jump. */
static uint64_t written_ms(struct repairer *r, const struct vnode *v)
{
    return node_wall_ms(r->sim, r->node) - (r->sim->now - v->written_us) / 1000 + 1;
}

/* A surplus vnode is given away when it is not written to any more, once to each. */
static bool has_nothing_to_give(struct repairer *r, unsigned partition, unsigned peer)
{
    const struct sim *s = r->sim;
    const struct node *node = &s->node[r->node];
    const struct vnode *v = &node->disk.vnode[partition];
    const struct horizon *h = &r->agreed[partition];

    return !repair_is_primary(s, r->node, partition) &&
           (s->now < v->written_us + s->surplus_us ||
            (h->vnode == v->id &&
             horizon_agreement(h, &node->view.members[peer].id) > written_ms(r, v)));
}

static void compare_with(struct repairer *r, unsigned partition, const struct ring_walk *walk)
{
    struct sim *s = r->sim;

    for (unsigned i = 0; i < walk->primaries && !s->repair_paused; i++) {
        unsigned peer = walk->member[i];

        if (has_nothing_to_give(r, partition, peer))
            continue;
        if (peer != r->node && s->now >= r->next_us[partition][peer] &&
            s->node[r->node].view.members[peer].state != MEMBER_FAULTY)
            begin(r, partition, peer);
    }
}

static void compare_with_others(struct repairer *r, unsigned partition)
{
    const struct ring_index *index = &r->sim->node[r->node].index;

    compare_with(r, partition, &index->walk[partition]);
    if (index->other[partition].count > 0 && ring_keeps(index, partition, (uint16_t)r->node))
        compare_with(r, partition, &index->other[partition]);
}

static struct horizon *agreements(struct repairer *r, unsigned partition)
{
    struct horizon *h = &r->agreed[partition];
    uint64_t id = r->sim->node[r->node].disk.vnode[partition].id;

    if (h->vnode != id)
        horizon_reset(h, id);
    return h;
}

static void purge(struct repairer *r, unsigned partition)
{
    static struct object o;
    struct sim *s = r->sim;
    struct disk *d = &s->node[r->node].disk;
    struct worker *w = &s->node[r->node].worker[ring_worker_of(partition, (uint16_t)s->workers)];
    uint64_t lsn;

    for (unsigned k = 0; k < s->keys; k++) {
        const struct blob *b = d->live.object[k];

        if (s->key[k].partition != partition || b == NULL || b != d->flushed[k] ||
            d->live.damaged[k] != SOUND)
            continue;
        ASSERT(object_open(&o, slice_of(b->bytes, b->len)) == 0);
        if (!horizon_purges(&o, node_wall_ms(s, r->node), d->vnode[partition].horizon_ms))
            continue;
        check_purge(s, r->node, k);
        disk_drop(w, k, &lsn);
        worker_turn(w);
    }
}

static void care_for_primary(struct repairer *r, unsigned partition)
{
    struct sim *s = r->sim;
    struct node *node = &s->node[r->node];
    struct vnode *v = &node->disk.vnode[partition];
    const struct ring_walk *walk = &node->index.walk[partition];
    struct horizon *h = agreements(r, partition);
    v->stamp_ms = node_wall_ms(s, r->node);
    if (v->standing != STANDING_WHOLE && horizon_complete(h, &node->view, walk, 0, false)) {
        v->standing = STANDING_WHOLE;
        v->whole_us = s->now;
        sim_trace(s, "whole", r->node, partition, v->id);
    }
    if (v->standing != STANDING_WHOLE || node->index.other[partition].count > 0)
        return;
    if (horizon_move(h, &node->view, walk, s->hint_age_ms, node_wall_ms(s, r->node), v->late_ms,
                     &v->horizon_ms))
        v->purges = true;
    if (v->purges || COORD_BUG(LATE_IS_PURGED))
        purge(r, partition);
}

static bool has_hints(const struct sim *s, unsigned node, unsigned partition)
{
    for (unsigned k = 0; k < s->keys; k++)
        for (unsigned n = 0; s->key[k].partition == partition && n < s->nodes; n++)
            if (s->node[node].disk.live.hint[n][k])
                return true;
    return false;
}

static bool is_clean(const struct sim *s, unsigned node, unsigned partition)
{
    const struct journal *j =
        &s->node[node].worker[ring_worker_of(partition, (uint16_t)s->workers)].journal;

    for (uint32_t i = 0; i < j->count; i++)
        if (s->key[j->ops[i].key].partition == partition)
            return false;
    for (unsigned k = 0; k < s->keys; k++)
        if (s->key[k].partition == partition && s->node[node].disk.dirty_ms[k] != 0)
            return false;
    return true;
}

static void care_for_surplus(struct repairer *r, unsigned partition)
{
    struct sim *s = r->sim;
    struct node *node = &s->node[r->node];
    struct vnode *v = &node->disk.vnode[partition];
    const struct ring_walk *walk = &node->index.walk[partition];
    struct horizon *h = agreements(r, partition);
    uint64_t wall_ms = node_wall_ms(s, r->node);

    for (unsigned i = 0; i < walk->primaries; i++) {
        uint64_t agreed = horizon_agreement(h, &node->view.members[walk->member[i]].id);

        if (agreed > v->stamp_ms)
            v->stamp_ms = agreed;
    }
    if (v->standing == STANDING_AWAY && horizon_complete(h, &node->view, walk, 0, false)) {
        v->standing = STANDING_WHOLE;
        v->whole_us = s->now;
        v->stamp_ms = wall_ms;
    } else if (v->standing != STANDING_AWAY && wall_ms > v->stamp_ms + s->hint_age_ms) {
        v->standing = STANDING_AWAY;
        horizon_reset(h, v->id);
    }
    if (s->now < v->written_us + s->surplus_us || has_hints(s, r->node, partition) ||
        !is_clean(s, r->node, partition) ||
        !horizon_complete(h, &node->view, walk, written_ms(r, v), true))
        return;
    check_surplus(s, r->node, partition);
    disk_vnode_drop(s, r->node, partition);
}

/* A record is read for no other reason than to see whether it can be. */
static void verify(struct repairer *r)
{
    struct sim *s = r->sim;
    unsigned k = (unsigned)rand_below(&s->rand, s->keys);
    struct worker *w = &s->node[r->node].worker[worker_of_key(s, r->node, k)];
    struct slice object;

    if (w->up && s->node[r->node].disk.live.object[k] != NULL)
        disk_load(w, k, &object);
}

static void expire_hints(struct repairer *r)
{
    struct sim *s = r->sim;
    uint64_t lsn;

    for (unsigned k = 0; k < s->keys; k++)
        for (unsigned n = 0; n < s->nodes; n++) {
            struct worker *w = &s->node[r->node].worker[worker_of_key(s, r->node, k)];

            if (!w->up || !s->node[r->node].disk.live.hint[n][k] ||
                !repair_hint_expired(s, r->node, n, k))
                continue;
            disk_hint(w, OP_HINT_REMOVE, k, n, &lsn);
            worker_turn(w);
        }
}

static void give_up_stalled(struct repairer *r)
{
    for (int i = 0; i < REPAIR_RUNS; i++) {
        struct run *run = &r->run[i];

        if (!run->used || r->sim->now - run->active_at < STALLED)
            continue;
        exchange_abort(run->x, -ERR_TIMEOUT);
        settle(run);
    }
}

static void tick(struct sim *s, const struct event *e)
{
    struct repairer *r = e->p;
    unsigned first;

    if (node_defer(s, r->node, e) || !r->up || r->incarnation != e->a)
        return;
    give_up_stalled(r);
    verify(r);
    expire_hints(r);
    first = (unsigned)rand_below(&s->rand, 1u << s->q_bits);
    for (unsigned i = 0; i < 1u << s->q_bits; i++) {
        unsigned p = (first + i) % (1u << s->q_bits);
        struct vnode *v = &s->node[r->node].disk.vnode[p];
        bool primary = repair_is_primary(s, r->node, p);

        if (sim_percent(s, 20))
            disk_flush(s, r->node, p);
        if (!s->node[r->node].worker[ring_worker_of(p, (uint16_t)s->workers)].up)
            continue;
        if (v->id == 0 && primary)
            disk_vnode_create(s, r->node, p);
        if (v->id == 0)
            continue;
        compare_with_others(r, p);
        if (primary)
            care_for_primary(r, p);
        else
            care_for_surplus(r, p);
    }
    sim_after(s, TICK, tick, r, e->a, 0);
}

/* --- the outside --- */

void repair_start(struct sim *s, unsigned node)
{
    struct repairer *r = s->node[node].repairer;
    uint64_t wall_ms = node_wall_ms(s, node);

    if (!s->repair)
        return;
    if (s->repair_net == NULL)
        repair_net_init(s);
    if (r == NULL) {
        r = calloc(1, sizeof *r);
        ASSERT(r != NULL);
        r->sim = s;
        r->node = node;
        s->node[node].repairer = r;
    }
    r->up = true;
    r->incarnation++;
    memset(r->agreed, 0, sizeof r->agreed);
    memset(r->next_us, 0, sizeof r->next_us);
    for (unsigned p = 0; p < SIM_PARTITIONS; p++) {
        struct vnode *v = &s->node[node].disk.vnode[p];

        if (v->id != 0 && wall_ms > v->stamp_ms + s->hint_age_ms)
            v->standing = STANDING_AWAY;
    }
    sim_after(s, sim_range(s, 1, TICK), tick, r, r->incarnation, 0);
}

void repair_stop(struct sim *s, unsigned node)
{
    struct repairer *r = s->node[node].repairer;

    if (r == NULL || !r->up)
        return;
    r->up = false;
    for (int i = 0; i < REPAIR_RUNS; i++) {
        if (!r->run[i].used)
            continue;
        exchange_abort(r->run[i].x, -ERR_CLOSED);
        check_forget(&r->run[i]);
        r->run[i].used = false;
    }
    repair_node_gone(s, node);
}

int repair_standing(const struct worker *w, uint32_t partition, uint64_t *horizon_ms)
{
    const struct vnode *v = &w->sim->node[w->node].disk.vnode[partition];

    *horizon_ms = 0;
    if (!w->sim->repair || v->id == 0)
        return w->sim->repair && !disk_is_fresh(w->sim, w->node, partition) ? STANDING_MISSING
                                                                            : STANDING_WHOLE;
    *horizon_ms = v->horizon_ms;
    return v->standing;
}

bool repair_serves(const struct sim *s, unsigned node, unsigned key, bool write, uint64_t since)
{
    unsigned p = s->key[key].partition;
    const struct vnode *v = &s->node[node].disk.vnode[p];
    uint64_t horizon_ms;
    int standing =
        repair_standing(&s->node[node].worker[worker_of_key(s, node, key)], p, &horizon_ms);

    if (!s->repair || (standing == STANDING_WHOLE && v->whole_us < since))
        return true;
    return standing == STANDING_MISSING && (write || !repair_is_primary(s, node, p));
}

/* What this node is no replica of is not written to with the others any more. */
void repair_view(struct sim *s, unsigned node)
{
    for (unsigned p = 0; s->repair && p < 1u << s->q_bits; p++) {
        struct vnode *v = &s->node[node].disk.vnode[p];

        if (v->id != 0 && v->standing == STANDING_WHOLE && !repair_is_primary(s, node, p))
            v->standing = STANDING_MISSING;
    }
}

bool repair_hint_expired(const struct sim *s, unsigned node, unsigned target, unsigned key)
{
    return s->repair &&
           node_wall_ms(s, node) > s->node[node].disk.hint_ms[target][key] + s->hint_age_ms;
}
