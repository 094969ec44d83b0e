/* Changes of the ring between members: staged, planned, committed, carried out, lost. */
#include "base/err.h"
#include "member_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- a cluster that copies ---- */

static bool copies[KIT_NODES]; /* by node: its replicas get what they lack */

/* Once a second each node does what gossipd does: it lets its workers act by the view, and hears from
 * antientropyd. */
static void carry_on(struct kit *k, unsigned seconds)
{
    static struct ring_view taken;
    static uint8_t copied[LIMIT_PARTITIONS];

    for (unsigned s = 0; s < seconds; s++) {
        kit_run(k, SECOND, NULL, NULL);
        for (unsigned i = 0; i < k->count; i++) {
            if (!k->node[i].up)
                continue;
            member_view(&k->node[i].m, &taken);
            for (uint32_t p = 0; p < LIMIT_PARTITIONS; p++)
                copied[p] = copies[i] ? (taken.phase[p] >= RING_FENCED ? STEP_SURE : STEP_WHOLE)
                                      : STEP_NONE;
            if (member_change_step(&k->node[i].m, &taken, copied))
                member_change_tell(&k->node[i].m);
        }
    }
}

static bool all_meet(struct kit *k, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < k->count; i++)
        if (k->node[i].up && (k->node[i].m.count < k->count || k->node[i].m.ring.epoch == 0))
            return false;
    return true;
}

static void begin(struct kit *k, unsigned founders, unsigned count, uint64_t seed)
{
    kit_init(k, founders, seed);
    k->changes = true;
    k->conf.quorum = (struct ring_quorum){2, 2};
    kit_start_all(k, count);
    assert_true(kit_run(k, 60 * SECOND, all_meet, NULL));
    for (unsigned i = 0; i < KIT_NODES; i++)
        copies[i] = true;
}

static struct ring_change change_of(struct kit *k, uint8_t kind, unsigned i)
{
    return (struct ring_change){.kind = kind, .node = k->node[i].self.id};
}

static void stage(struct kit *k, unsigned at, uint8_t kind, unsigned who)
{
    struct ring_change c = change_of(k, kind, who);
    uint32_t fault;

    assert_int_equal(member_stage(&k->node[at].m, &c, &fault), 0);
}

static struct member_plan plan_at(struct kit *k, unsigned at)
{
    const struct member_staged *s = &k->node[at].change->staged;
    struct member_plan plan;

    assert_int_equal(member_plan_changes(&k->node[at].m, s->list, s->count, &plan), 0);
    return plan;
}

static struct member_plan commit_at(struct kit *k, unsigned at)
{
    struct member_plan plan = plan_at(k, at);

    assert_int_equal(member_commit(&k->node[at].m, plan.id, &plan), 0);
    return plan;
}

static bool same_ring(struct kit *k)
{
    const struct member_ring *a = NULL;

    for (unsigned i = 0; i < k->count; i++) {
        const struct member_ring *b = &k->node[i].m.ring;

        if (!k->node[i].up)
            continue;
        if (a != NULL &&
            (a->epoch != b->epoch || !node_id_equal(&a->proposer, &b->proposer) ||
             a->count != b->count || memcmp(a->owner, b->owner, 128) != 0 ||
             memcmp(a->next, b->next, 128) != 0 || memcmp(a->left, b->left, a->count) != 0))
            return false;
        a = b;
    }
    return true;
}

static bool settled(struct kit *k)
{
    for (unsigned i = 0; i < k->count; i++)
        if (k->node[i].up && memcmp(k->node[i].m.ring.owner, k->node[i].m.ring.next, 128) != 0)
            return false;
    return same_ring(k);
}

static unsigned owned(struct kit *k, unsigned at, unsigned who)
{
    const struct member_ring *r = &k->node[at].m.ring;
    unsigned count = 0;

    for (unsigned p = 0; p < 64; p++)
        count += node_id_equal(&r->id[r->owner[p]], &k->node[who].self.id);
    return count;
}

/* ---- tests ---- */

static void test_join(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 3, 4, 1);
    stage(&k, 1, RING_JOIN, 3);
    carry_on(&k, 5);
    struct member_plan here = plan_at(&k, 1), there = plan_at(&k, 2);
    assert_true(here.sound);
    assert_true(here.id == there.id); /* whoever looks sees the same plan */
    assert_int_equal(here.moves.after[3], 16);
    assert_int_equal(member_commit(&k.node[2].m, here.id, &there), 0);
    assert_int_equal(k.node[2].change->staged.count, 0);
    assert_false(settled(&k));
    carry_on(&k, 60);
    assert_true(settled(&k));
    assert_int_equal(k.node[0].m.ring.epoch, 4); /* two for the commit, one for its completion */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(owned(&k, i, 3), 16);
        assert_int_equal(k.node[i].change->staged.count, 0);
        assert_int_equal(k.node[i].change->lost, 0);
    }
    kit_free(&k);
}

static void test_waits(void **state)
{
    static struct ring_view v;
    struct kit k;

    (void)state;
    begin(&k, 3, 4, 2);
    copies[3] = false;
    stage(&k, 0, RING_JOIN, 3);
    commit_at(&k, 0);
    carry_on(&k, 60);
    assert_true(same_ring(&k));
    assert_false(settled(&k));
    member_view(&k.node[1].m, &v);
    for (uint32_t p = 0; p < 64; p++)
        assert_in_range(v.phase[p], RING_SETTLED, RING_MOVING);
    copies[3] = true;
    carry_on(&k, 60);
    assert_true(settled(&k));
    kit_free(&k);
}

static void test_leave(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 4, 4, 3);
    stage(&k, 0, RING_LEAVE, 1);
    commit_at(&k, 0);
    carry_on(&k, 60);
    assert_true(settled(&k));
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(owned(&k, i, 1), 0);
        assert_int_equal(k.node[i].m.ring.left[1], 1);
        assert_int_equal(k.node[i].m.ring.going[1], MEMBER_LEAVES); /* how it went */
    }
    /* Its id is spent. */
    struct ring_change back = change_of(&k, RING_JOIN, 1);
    uint32_t at;
    assert_int_equal(member_stage(&k.node[2].m, &back, &at), -ERR_DENIED);
    assert_int_equal(k.node[2].change->staged.count, 0);
    kit_free(&k);
}

static void test_remove_dead(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 4, 4, 4);
    k.node[2].up = false;
    carry_on(&k, 20);
    stage(&k, 0, RING_REMOVE, 2);
    commit_at(&k, 0);
    carry_on(&k, 60);
    assert_true(settled(&k));
    assert_int_equal(owned(&k, 3, 2), 0);
    assert_int_equal(k.node[3].m.ring.left[2], 1);
    assert_int_equal(k.node[3].m.ring.going[2], MEMBER_GONE);
    kit_free(&k);
}

static void test_outdated(void **state)
{
    struct kit k;
    struct member_plan plan;

    (void)state;
    begin(&k, 3, 5, 5);
    stage(&k, 0, RING_JOIN, 3);
    plan = plan_at(&k, 0);
    stage(&k, 0, RING_JOIN, 4); /* somebody adds to the list after we have looked */
    assert_int_equal(member_commit(&k.node[0].m, plan.id, &plan), -ERR_STALE);
    plan = plan_at(&k, 0);
    uint64_t id = plan.id;
    struct ring_change other = change_of(&k, RING_WEIGHT, 2);
    other.weight = 200;
    assert_int_equal(member_commit_list(&k.node[0].m, &other, 1, &plan), 0);
    assert_int_equal(member_commit(&k.node[0].m, id, &plan), -ERR_STALE);
    assert_int_equal(k.node[0].change->staged.count, 2); /* can be planned again */
    carry_on(&k, 60);
    commit_at(&k, 1);
    carry_on(&k, 60);
    assert_true(settled(&k));
    assert_true(owned(&k, 3, 3) > 0 && owned(&k, 3, 4) > 0);
    kit_free(&k);
}

static void test_two_administrators(void **state)
{
    struct kit k;
    unsigned lost = 0;

    (void)state;
    begin(&k, 4, 6, 6);
    for (unsigned i = 0; i < 6; i++)
        k.node[i].side = i == 0 || i == 1 || i == 4;
    stage(&k, 0, RING_JOIN, 4);
    stage(&k, 2, RING_JOIN, 5);
    commit_at(&k, 0);
    commit_at(&k, 2);
    carry_on(&k, 30);
    assert_false(same_ring(&k));
    for (unsigned i = 0; i < 6; i++)
        k.node[i].side = 0;
    carry_on(&k, 90);
    assert_true(settled(&k));
    bool first = owned(&k, 0, 4) > 0, second = owned(&k, 0, 5) > 0;
    assert_true(first != second);
    for (unsigned i = 0; i < 6; i++) {
        const struct member_lost *l = &k.node[i].change->last_lost[0];
        bool loser = k.node[i].change->lost > 0;

        lost += loser;
        if (!loser)
            continue;
        assert_int_equal(k.node[i].change->lost, 1);
        assert_int_equal(l->count, 1);
        assert_true(node_id_equal(&l->list[0].node, &k.node[first ? 5 : 4].self.id));
    }
    assert_int_equal(lost, 3);
    stage(&k, 3, RING_JOIN, first ? 5 : 4); /* once more */
    commit_at(&k, 3);
    carry_on(&k, 60);
    assert_true(settled(&k));
    assert_true(owned(&k, 0, 4) > 0 && owned(&k, 0, 5) > 0);
    kit_free(&k);
}

/* Node `at` hears of `who`, which has come back under a new id, from `who` itself. */
static void hear_of_new_id(struct kit *k, unsigned at, unsigned who)
{
    const struct member *m = &k->node[who].self;
    struct member_endpoint from = {.port = m->gossip_port};
    struct gossip g = {.kind = GOSSIP_NEWS,
                       .u.NEWS = {.id = slice_of(m->id.b, NODE_ID_BYTES),
                                  .name = slice_of(m->name, strlen(m->name)),
                                  .zone = slice_of(m->zone, strlen(m->zone)),
                                  .address = slice_of(m->address, strlen(m->address)),
                                  .port = m->port,
                                  .worker_port = m->worker_port,
                                  .peer_port = m->peer_port,
                                  .gossip_port = m->gossip_port,
                                  .workers = m->workers,
                                  .weight = m->weight,
                                  .protocol = PROTOCOL_NEWEST,
                                  .incarnation = k->node[who].m.row[0].m.incarnation}};

    memcpy(from.address, m->address, sizeof from.address);
    assert_int_equal(member_receive(&k->node[at].m, &m->id, &from, &g, k->now_us), 0);
}

/* Both sides of a partition have another ring of the same epoch when they hear of the same wiped node:
 * the documents that follow must not be taken for one. */
static void test_wiped_in_two_rings(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 4, 4, 14);
    for (unsigned i = 0; i < 4; i++)
        k.node[i].side = i >= 2;
    for (unsigned i = 0; i < 4; i += 2) {
        struct ring_change c = change_of(&k, RING_WEIGHT, i);
        struct member_plan plan;

        c.weight = 300;
        assert_int_equal(member_commit_list(&k.node[i].m, &c, 1, &plan), 0);
    }
    assert_int_equal(k.node[0].m.ring.epoch, k.node[2].m.ring.epoch);
    k.node[1].side = 2;
    kit_new_id(&k, 1);
    kit_boot(&k, 1);
    hear_of_new_id(&k, 0, 1);
    hear_of_new_id(&k, 2, 1);
    const struct member_ring *a = &k.node[0].m.ring, *b = &k.node[2].m.ring;
    assert_true(node_id_equal(&a->id[1], &k.node[1].self.id));
    assert_true(node_id_equal(&b->id[1], &k.node[1].self.id));
    assert_int_equal(a->epoch, b->epoch);
    assert_memory_not_equal(a->next, b->next, 128);
    assert_false(node_id_equal(&a->proposer, &b->proposer));
    for (unsigned i = 0; i < 4; i++)
        k.node[i].side = 0;
    carry_on(&k, 90);
    assert_true(settled(&k));
    assert_int_equal(k.node[0].change->lost + k.node[2].change->lost, 1);
    kit_free(&k);
}

static void test_staged_by_two(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 3, 5, 7);
    for (unsigned i = 0; i < 5; i++)
        k.node[i].side = (uint8_t)i;
    stage(&k, 0, RING_JOIN, 3);
    stage(&k, 1, RING_JOIN, 4);
    for (unsigned i = 0; i < 5; i++)
        k.node[i].side = 0;
    carry_on(&k, 30);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(k.node[i].change->staged.count, 1);
        assert_memory_equal(&k.node[i].change->staged.list[0], &k.node[0].change->staged.list[0],
                            sizeof(struct ring_change));
    }
    member_unstage(&k.node[4].m);
    carry_on(&k, 10);
    assert_int_equal(k.node[0].change->staged.count, 0);
    kit_free(&k);
}

static void keep(void *arg, const struct gossip *g)
{
    msg_codec_encode_gossip(g, arg);
}

static void test_restart(void **state)
{
    static const struct node_id nobody;
    static const struct member_endpoint nowhere = {.address = "saved"};
    struct ring_progress before;
    struct buf saved = {0};
    struct gossip g;
    struct kit k;

    (void)state;
    begin(&k, 3, 4, 8);
    stage(&k, 0, RING_JOIN, 3);
    commit_at(&k, 0);
    carry_on(&k, 4);
    assert_false(settled(&k));
    before = k.node[1].change->progress[1];
    member_tell_all(&k.node[1].m, keep, &saved);
    kit_boot(&k, 1);
    assert_int_equal(k.node[1].m.ring.epoch, 0);
    struct slice in = slice_of(buf_head(&saved), buf_len(&saved));
    while (in.len > 0) {
        assert_int_equal(msg_codec_next_gossip(k.codec, &in, &g), 0);
        assert_int_equal(member_receive(&k.node[1].m, &nobody, &nowhere, &g, k.now_us), 0);
    }
    /* What it has announced still holds. */
    assert_memory_equal(&k.node[1].change->progress[1], &before, sizeof before);
    carry_on(&k, 60);
    assert_true(settled(&k));
    buf_free(&saved);
    kit_free(&k);
}

static void test_protocol(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 3, 4, 9);
    member_find(&k.node[0].m, &k.node[2].self.id)->m.protocol = 1;
    assert_int_equal(member_common_protocol(&k.node[0].m), 1);
    stage(&k, 0, RING_JOIN, 3);
    struct member_plan plan = plan_at(&k, 0);
    assert_int_equal(member_commit(&k.node[0].m, plan.id, &plan), -ERR_VERSION);
    assert_int_equal(k.node[0].m.ring.epoch, 1);
    kit_free(&k);
}

/* Whoever does not know a message drops the packet that it is in. */
static void test_old_is_not_told(void **state)
{
    struct kit k;

    (void)state;
    begin(&k, 3, 4, 9);
    k.node[2].self.protocol = k.node[2].self.protocol_oldest = 1;
    kit_boot(&k, 2);
    kit_run(&k, 5 * SECOND, NULL, NULL);
    stage(&k, 0, RING_JOIN, 3);
    uint64_t version = k.node[0].change->staged.version;
    kit_run(&k, 10 * SECOND, NULL, NULL);
    assert_int_equal(k.node[1].change->staged.version, version);
    assert_int_equal(k.node[2].change->staged.version, 0);
    k.node[2].self.protocol = 2;
    kit_boot(&k, 2);
    kit_run(&k, 10 * SECOND, NULL, NULL);
    assert_int_equal(k.node[2].change->staged.version, version);
    kit_free(&k);
}

static void test_no_n_distinct(void **state)
{
    struct kit k;
    struct member_plan plan;

    (void)state;
    begin(&k, 3, 3, 10);
    stage(&k, 0, RING_LEAVE, 1);
    plan = plan_at(&k, 0);
    assert_true(plan.proof.fewer_than_before);
    assert_int_equal(member_commit(&k.node[0].m, plan.id, &plan), -ERR_DENIED);
    assert_int_equal(k.node[0].m.ring.epoch, 1);
    kit_free(&k);
}

static int hear(struct kit *k, const struct gossip *g)
{
    static const struct member_endpoint from = {.address = "10.0.0.9", .port = 9};
    static const struct node_id who = {{1}};

    return member_receive(&k->node[0].m, &who, &from, g, k->now_us);
}

static void test_bad_input(void **state)
{
    struct kit k;
    uint8_t steps[32], changes[LIMIT_STAGED * 35 + 35] = {RING_JOIN};
    struct node_id id = {{7}};

    (void)state;
    begin(&k, 3, 3, 11);
    struct membership *m = &k.node[0].m;
    struct gossip_STEPS good = {.node = slice_of(k.node[1].self.id.b, 16),
                                .epoch = m->ring.epoch,
                                .proposer = slice_of(m->ring.proposer.b, 16),
                                .steps = slice_of(steps, sizeof steps)};
    memset(steps, 0x22, sizeof steps);
    struct gossip g = {.kind = GOSSIP_STEPS, .u.STEPS = good};
    g.u.STEPS.steps.len = 31;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STEPS = good;
    g.u.STEPS.node.len = 15;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STEPS = good;
    steps[3] = 0x72; /* there is no such step */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    steps[3] = 0x22;
    g.u.STEPS.epoch++; /* of another ring */
    assert_int_equal(hear(&k, &g), 0);
    assert_int_equal(k.node[0].change->progress[1].step[0], STEP_NONE);
    g.u.STEPS = good;
    assert_int_equal(hear(&k, &g), 0);
    assert_int_equal(k.node[0].change->progress[1].step[0], STEP_JOINT);

    g = (struct gossip){
        .kind = GOSSIP_STAGED,
        .u.STAGED = {.version = 1, .by = slice_of(id.b, 16), .changes = slice_of(changes, 34)}};
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STAGED.changes.len = sizeof changes;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STAGED.changes.len = 70; /* the second one is of kind 0 */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STAGED.changes.len = 35;
    g.u.STAGED.version = UINT64_MAX; /* nobody could ever say more */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g.u.STAGED.version = 1;
    assert_int_equal(hear(&k, &g), 0);
    assert_int_equal(k.node[0].change->staged.count, 1);
    kit_free(&k);
}

/* A document that a node would take, to be spoilt. */
struct document {
    uint8_t ids[48], states[3], owner[128], next[128], going[3], weights[6];
    uint8_t history[24 * 17];
};

static struct gossip document(struct kit *k, struct document *d)
{
    memset(d, 0, sizeof *d);
    memcpy(d->ids, k->node[0].m.ring.id, sizeof d->ids);
    for (unsigned p = 0; p < 64; p++) {
        d->owner[2 * p] = (uint8_t)(p % 3);
        d->next[2 * p] = (uint8_t)(p % 2);
    }
    return (struct gossip){
        .kind = GOSSIP_RING,
        .u.RING = {.epoch = 9,
                   .proposer = slice_of(d->ids, 16),
                   .q_bits = 6,
                   .n = 3,
                   .members = slice_of(d->ids, 48),
                   .states = slice_of(d->states, 3),
                   .owner = slice_of(d->owner, 128),
                   .next = slice_of(d->next, 128),
                   .going = slice_of(d->going, 3),
                   .weights = slice_of(d->weights, 6),
                   .history = slice_of(d->history, 24)},
    };
}

static void test_bad_documents(void **state)
{
    struct document d;
    struct kit k;

    (void)state;
    begin(&k, 3, 3, 12);
    struct gossip g = document(&k, &d);
    d.next[0] = 3; /* nobody */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    d.going[1] = MEMBER_LEAVES; /* but is given something */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    d.states[2] = 1; /* has left, but owns something */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    d.going[0] = MEMBER_GONE + 1;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    memcpy(d.ids, d.ids + 16, 16); /* twice */
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    g.u.RING.next.len = 126;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    g.u.RING.weights.len = 4;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    g.u.RING.history.len = sizeof d.history;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    g.u.RING.changes = slice_of(d.history, 7);
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    g = document(&k, &d);
    g.u.RING.epoch = UINT64_MAX;
    assert_int_equal(hear(&k, &g), -ERR_FORMAT);
    assert_int_equal(k.node[0].m.ring.epoch, 1);
    g = document(&k, &d);
    assert_int_equal(hear(&k, &g), 0);
    assert_int_equal(k.node[0].m.ring.epoch, 9);
    kit_free(&k);
}

static void test_lossy(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 120; seed++) {
        struct kit k;

        begin(&k, 5, 7, seed);
        k.loss = 100000;
        stage(&k, 0, RING_JOIN, 5);
        stage(&k, 0, RING_LEAVE, 1);
        commit_at(&k, 0);
        carry_on(&k, 3);
        stage(&k, 2, RING_JOIN, 6); /* on top of a change under way */
        commit_at(&k, 2);
        carry_on(&k, 120);
        assert_true(settled(&k));
        assert_int_equal(owned(&k, 6, 1), 0);
        assert_true(owned(&k, 6, 5) > 0 && owned(&k, 6, 6) > 0);
        kit_free(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(function, text) {text, function, NULL, NULL, NULL}
        CASE(test_join,
             "a join planned at one node is committed at another and carried out by all"),
        CASE(test_waits, "nothing is switched over before the new member has copied it"),
        CASE(test_leave, "a member that leaves owns nothing in the end, and its id is spent"),
        CASE(test_remove_dead, "a dead member can be removed"),
        CASE(test_outdated, "a plan that is outdated cannot be committed, but made again"),
        CASE(test_two_administrators,
             "of two changes on two sides of a partition one wins, and the other is reported"),
        CASE(test_staged_by_two, "staged lists become one list"),
        CASE(test_restart, "what a node has announced survives its restart"),
        CASE(test_wiped_in_two_rings, "a wiped node met by two rings does not make one of them"),
        CASE(test_protocol, "no ring is changed while a member does not know how"),
        CASE(test_old_is_not_told, "an older member is not told what it does not know"),
        CASE(test_no_n_distinct, "a plan that leaves fewer replicas than before is refused"),
        CASE(test_bad_input, "malformed steps and staged changes are refused"),
        CASE(test_bad_documents, "a document that contradicts itself is refused"),
        CASE(test_lossy, "changes on top of one another arrive with a tenth of all packets lost"),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
