/* Changes of the ring: plans and their proof, phases from what members announce, completion. */
#include "core/ring_change.h"

#include "base/err.h"
#include "base/rand.h"
#include "core/claim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct ring_view now, then, other;
static struct ring_progress progress[LIMIT_MEMBERS];
static struct member known[LIMIT_MEMBERS];

static struct node_id id_of(unsigned m)
{
    return (struct node_id){.b = {1, (uint8_t)(m >> 8), (uint8_t)m}};
}

static struct member make_member(unsigned m, unsigned zones)
{
    struct member out = {.id = id_of(m), .workers = 1, .weight = 100, .protocol = 1};

    if (zones > 0)
        snprintf(out.zone, sizeof out.zone, "zone-%u", m % zones);
    return out;
}

/* A founded ring of so many members in `now`; `known` has all there could be. */
static void found(unsigned members, uint8_t q_bits, uint8_t n, unsigned zones)
{
    for (unsigned m = 0; m < LIMIT_MEMBERS; m++)
        known[m] = make_member(m, zones);
    memset(&now, 0, sizeof now);
    memset(progress, 0, sizeof progress);
    now.epoch = 1;
    now.proposer = id_of(0);
    now.q_bits = q_bits;
    now.n = n;
    now.self = 0;
    now.member_count = (uint16_t)members;
    memcpy(now.members, known, members * sizeof known[0]);
    assert_int_equal(claim_found(&now), 0);
    memcpy(now.next, now.owner, sizeof now.next);
}

static struct ring_change change(enum ring_change_kind kind, unsigned node)
{
    return (struct ring_change){.kind = (uint8_t)kind, .node = id_of(node)};
}

static int plan(const struct ring_change *list, uint32_t count)
{
    struct node_id me = id_of(0);
    uint32_t at;

    return ring_change_plan(&now, list, count, known, LIMIT_MEMBERS, &me, &then, &at);
}

static void plan_one(struct ring_change c)
{
    assert_int_equal(plan(&c, 1), 0);
    assert_true(ring_view_valid(&then));
    assert_int_equal(then.epoch, now.epoch + 2);
}

/* Take what was planned for the ring in force, as if the change were over. */
static void carry_out(void)
{
    ring_change_complete(&then, &now);
    assert_true(ring_view_valid(&now));
    assert_false(ring_change_is_open(&now));
}

/* ---- Plans. */

static void prove(unsigned members, unsigned n)
{
    struct ring_proof proof;

    assert_true(ring_change_check(&then, &proof));
    assert_int_equal(proof.members, members);
    assert_int_equal(proof.least, n < members ? n : members);
    assert_int_equal(proof.least_zones, proof.want_zones);
    assert_int_equal(proof.short_lists, 0);
    assert_int_equal(proof.short_zones, 0);
}

static void grow(unsigned from, unsigned to, unsigned step, uint8_t q_bits, unsigned zones)
{
    found(from, q_bits, 3, zones);
    for (unsigned m = from; m < to; m += step) {
        struct ring_change list[64];
        uint32_t count = 0;

        for (unsigned k = m; k < m + step && k < to; k++)
            list[count++] = change(RING_JOIN, k);
        assert_int_equal(plan(list, count), 0);
        assert_true(ring_view_valid(&then));
        prove(m + count, 3);
        carry_out();
    }
}

static void test_rings_grow_from_1_to_200_members(void **state)
{
    (void)state;
    grow(1, 64, 1, 6, 0);
    grow(1, 100, 7, 8, 3);
    grow(1, 200, 40, 10, 4);
    grow(3, 200, 60, 12, 0);
}

static void test_a_member_that_joins_is_the_one_that_gains(void **state)
{
    (void)state;
    struct ring_moves moves;

    found(6, 7, 3, 0);
    plan_one(change(RING_JOIN, 6));
    ring_change_moves(&then, &moves);
    assert_int_equal(moves.before[6], 0);
    assert_in_range(moves.after[6], 18, 19);
    /* It is in the lists of as many partitions as its share times N. */
    assert_in_range(moves.gains[6], 40, 57);
    assert_int_equal(moves.replicas[6], 0);
    assert_int_equal(moves.losses[6], 0);
    uint32_t losses = 0, gains = 0;

    for (int m = 0; m < 7; m++) {
        losses += moves.losses[m];
        gains += moves.gains[m];
    }
    assert_int_equal(losses, gains);
}

static void test_a_member_that_leaves_owns_nothing_and_has_left_at_the_end(void **state)
{
    (void)state;
    struct ring_moves moves;

    found(5, 7, 3, 0);
    plan_one(change(RING_LEAVE, 2));
    prove(4, 3);
    ring_change_moves(&then, &moves);
    assert_int_equal(moves.after[2], 0);
    assert_int_equal(moves.gains[2], 0);
    assert_int_equal(moves.losses[2], moves.replicas[2]);
    assert_int_equal(then.members[2].going, MEMBER_LEAVES);
    carry_out();
    assert_int_equal(now.members[2].state, MEMBER_LEFT);
    /* What has left does not come back under the same id. */
    struct ring_change again = change(RING_JOIN, 2);
    assert_int_equal(plan(&again, 1), -ERR_DENIED);
}

static void test_a_replacement_takes_over_exactly_what_the_old_one_had(void **state)
{
    (void)state;
    struct ring_change c = change(RING_REPLACE, 1);

    found(5, 8, 3, 0);
    c.with = id_of(9);
    plan_one(c);
    assert_int_equal(then.members[1].going, MEMBER_GONE);
    assert_int_equal(then.member_count, 6);
    for (uint32_t p = 0; p < 256; p++)
        assert_int_equal(then.next[p], now.owner[p] == 1 ? 5 : now.owner[p]);
    carry_out();
    assert_int_equal(now.members[1].state, MEMBER_LEFT);
    assert_int_equal(now.members[5].state, MEMBER_ALIVE);
}

static void test_weights_move_partitions(void **state)
{
    (void)state;
    struct ring_change c = change(RING_WEIGHT, 0);
    struct ring_moves moves;

    found(5, 8, 3, 0);
    c.weight = 50;
    plan_one(c);
    ring_change_moves(&then, &moves);
    assert_in_range(moves.after[0], 28, 29);
    assert_int_equal(then.members[0].weight, 50);
    c.weight = 0;
    assert_int_equal(plan(&c, 1), -ERR_INVAL);
}

static void test_impossible_changes_are_refused(void **state)
{
    (void)state;
    struct node_id me = id_of(0);
    struct ring_proof proof;
    uint32_t at;

    found(3, 7, 3, 0);
    struct ring_change list[] = {change(RING_JOIN, 5), change(RING_JOIN, 1)};
    assert_int_equal(ring_change_plan(&now, list, 2, known, 3, &me, &then, &at), -ERR_NOTFOUND);
    assert_int_equal(at, 0);
    assert_int_equal(ring_change_plan(&now, list, 2, known, 9, &me, &then, &at), -ERR_EXISTS);
    assert_int_equal(at, 1);
    list[0] = change(RING_LEAVE, 7);
    assert_int_equal(plan(list, 1), -ERR_NOTFOUND);
    list[0] = change((enum ring_change_kind)77, 1);
    assert_int_equal(plan(list, 1), -ERR_INVAL);
    list[0] = list[1] = change(RING_LEAVE, 1);
    assert_int_equal(plan(list, 2), -ERR_INVAL);
    /* One that is leaving can still be given up. */
    list[1] = change(RING_REMOVE, 1);
    assert_int_equal(plan(list, 2), 0);
    assert_int_equal(then.members[1].going, MEMBER_GONE);
    /* Two members for three replicas: possible, but the proof says what is lost. */
    assert_false(ring_change_check(&then, &proof));
    assert_true(proof.fewer_than_n && proof.fewer_than_before);
    assert_int_equal(proof.least, 2);
    struct ring_change all[] = {change(RING_LEAVE, 0), change(RING_LEAVE, 1),
                                change(RING_LEAVE, 2)};
    assert_int_equal(plan(all, 3), -ERR_UNAVAILABLE);
    now.epoch = 0;
    assert_int_equal(plan(all, 1), -ERR_UNAVAILABLE);
}

static void test_the_place_of_one_that_left_is_used_again_when_there_is_no_other(void **state)
{
    (void)state;
    found(LIMIT_MEMBERS - 1, 9, 3, 0);
    plan_one(change(RING_LEAVE, 17));
    carry_out();
    plan_one(change(RING_JOIN, 255));
    carry_out();
    assert_int_equal(now.member_count, LIMIT_MEMBERS);
    struct member last = make_member(300, 0);
    struct ring_change c = change(RING_JOIN, 300);
    struct node_id me = id_of(0);
    uint32_t at;

    assert_int_equal(ring_change_plan(&now, &c, 1, &last, 1, &me, &then, &at), 0);
    assert_true(node_id_equal(&then.members[17].id, &c.node));
    carry_out();
    last = make_member(301, 0);
    c.node = last.id;
    assert_int_equal(ring_change_plan(&now, &c, 1, &last, 1, &me, &then, &at), -ERR_LIMIT);
}

static void test_a_second_change_starts_from_what_the_first_one_moves_to(void **state)
{
    (void)state;
    uint32_t q = 256, same = 0;

    found(5, 8, 3, 0);
    plan_one(change(RING_JOIN, 5));
    other = then;
    now = then;
    plan_one(change(RING_JOIN, 6));
    for (uint32_t p = 0; p < q; p++) {
        assert_int_equal(then.owner[p], other.owner[p]);
        same += then.next[p] == other.next[p];
    }
    /* All stays planned but what the second one gets. */
    assert_true(same >= q - q / 7 - 1 - q / 16);
    prove(7, 3);
}

static void test_two_plans_of_the_same_are_the_same(void **state)
{
    (void)state;
    struct ring_change list[] = {change(RING_JOIN, 7), change(RING_LEAVE, 1)};

    found(6, 9, 3, 2);
    assert_int_equal(plan(list, 2), 0);
    other = then;
    assert_int_equal(plan(list, 2), 0);
    assert_memory_equal(&other, &then, sizeof then);
    ring_change_complete(&then, &other);
    ring_change_complete(&then, &now);
    assert_memory_equal(&other, &now, sizeof now);
}

/* ---- Phases. */

/* A partition of `then` that moves, and one of its new members. */
static uint32_t moving_partition(uint16_t *member)
{
    uint16_t list[LIMIT_REPLICAS];

    for (uint32_t p = 0; p < (1u << then.q_bits); p++) {
        if (ring_change_new_members(&then, p, list) == 0)
            continue;
        *member = list[0];
        return p;
    }
    fail();
    return 0;
}

static void all_say(uint32_t p, uint8_t step)
{
    for (uint16_t m = 0; m < then.member_count; m++)
        progress[m].step[p] = step;
}

static uint8_t phase_now(uint32_t p)
{
    ring_change_phases(&then, progress, (struct ring_quorum){2, 2});
    return then.phase[p];
}

static uint16_t an_old_member(uint32_t p, unsigned which)
{
    struct ring_walk walk;

    ring_walk_partition(&then, p, then.n, &walk);
    return walk.member[which];
}

static void begin_join(uint32_t *p, uint16_t *joiner)
{
    found(4, 6, 3, 0);
    plan_one(change(RING_JOIN, 4));
    *p = moving_partition(joiner);
    /* Seen from a member whose own word decides nothing else. */
    then.self = RING_NO_OWNER;
}

static void test_a_partition_goes_through_its_phases_in_order(void **state)
{
    (void)state;
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    assert_int_equal(joiner, 4);
    assert_int_equal(phase_now(p), RING_MOVING);
    progress[joiner].step[p] = STEP_WHOLE;
    assert_int_equal(phase_now(p), RING_JOINT);
    for (uint16_t m = 0; m < then.member_count; m++) {
        assert_int_equal(phase_now(p), RING_JOINT);
        progress[m].step[p] = STEP_JOINT;
    }
    for (uint16_t m = 0; m < then.member_count; m++) {
        assert_int_equal(phase_now(p), RING_GUARDED);
        progress[m].step[p] = STEP_GUARDED;
    }
    assert_int_equal(phase_now(p), RING_FENCED);
    progress[joiner].step[p] = STEP_SURE;
    for (uint16_t m = 0; m < then.member_count; m++) {
        assert_int_equal(phase_now(p), RING_SWITCHED);
        progress[m].step[p] = STEP_SWITCHED;
    }
    assert_int_equal(phase_now(p), RING_CLOSED);
    assert_false(ring_change_is_complete(&then, progress, (struct ring_quorum){2, 2}));
}

static void test_partitions_whose_lists_stay_are_settled(void **state)
{
    (void)state;
    uint16_t list[LIMIT_REPLICAS];
    unsigned settled = 0;

    found(12, 6, 3, 0);
    plan_one(change(RING_JOIN, 12));
    for (uint32_t p = 0; p < 64; p++) {
        bool stays = ring_change_new_members(&then, p, list) == 0;

        assert_int_equal(stays, ring_change_old_members(&then, p, list) == 0);
        assert_int_equal(then.phase[p], stays ? RING_SETTLED : RING_MOVING);
        settled += stays;
    }
    assert_in_range(settled, 30, 55);
}

static void test_faulty_members_are_not_waited_for_unless_they_could_make_a_quorum(void **state)
{
    (void)state;
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    all_say(p, STEP_GUARDED);
    uint16_t a = an_old_member(p, 0), b = an_old_member(p, 1);
    progress[a].step[p] = STEP_NONE;
    assert_int_equal(phase_now(p), RING_JOINT);
    then.members[a].state = MEMBER_FAULTY;
    assert_int_equal(phase_now(p), RING_FENCED);
    progress[b].step[p] = STEP_NONE;
    then.members[b].state = MEMBER_FAULTY;
    assert_int_equal(phase_now(p), RING_JOINT);
    /* One that never comes back is no danger. */
    then.members[b].going = MEMBER_GONE;
    assert_int_equal(phase_now(p), RING_FENCED);
    /* Nor is one that keeps none of it, if nobody reaches it. */
    for (uint16_t m = 0; m < then.member_count; m++) {
        struct ring_walk walk;

        ring_walk_partition(&then, p, 3, &walk);
        if (ring_walk_primary(&walk, m) < 0 && m != joiner) {
            then.members[m].state = MEMBER_FAULTY;
            progress[m].step[p] = STEP_NONE;
        }
    }
    assert_int_equal(phase_now(p), RING_FENCED);
}

/* Who is waited for because of a faulty new member, told by ring_change_excused(). */
static bool waits_for(uint32_t p, struct ring_quorum quorum, uint16_t member)
{
    uint16_t faulty[LIMIT_REPLICAS];
    struct ring_walker w;
    struct ring_walk old, next;
    bool waits;

    ring_walker_init(&w, &then, then.owner);
    ring_walker_walk(&w, p, then.n, &old);
    ring_walker_init(&w, &then, then.next);
    ring_walker_walk(&w, p, then.n, &next);
    assert_int_equal(ring_change_excused(&then, &old, &next, progress, p, quorum, faulty, &waits),
                     1);
    assert_int_equal(faulty[0], member);
    return waits;
}

static void test_a_new_member_that_is_faulty_is_excused_when_all_others_are_sure(void **state)
{
    (void)state;
    struct ring_walk next;
    struct ring_walker w;
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    assert_int_equal(phase_now(p), RING_MOVING);
    then.members[joiner].state = MEMBER_FAULTY;
    assert_int_equal(phase_now(p), RING_JOINT);
    all_say(p, STEP_GUARDED);
    progress[joiner].step[p] = STEP_NONE;
    assert_int_equal(phase_now(p), RING_FENCED);
    assert_true(waits_for(p, (struct ring_quorum){2, 2}, joiner));
    /* Those that are kept have to make up for it. */
    ring_walker_init(&w, &then, then.next);
    ring_walker_walk(&w, p, then.n, &next);
    for (uint8_t i = 0; i < next.primaries; i++) {
        if (next.member[i] == joiner)
            continue;
        assert_int_equal(phase_now(p), RING_FENCED);
        progress[next.member[i]].step[p] = STEP_SURE;
    }
    assert_int_equal(phase_now(p), RING_SWITCHED);
    assert_false(waits_for(p, (struct ring_quorum){2, 2}, joiner));
    /* Back again, it is waited for. */
    then.members[joiner].state = MEMBER_ALIVE;
    assert_int_equal(phase_now(p), RING_MOVING);
    progress[joiner].step[p] = STEP_SURE;
    assert_int_equal(phase_now(p), RING_SWITCHED);
}

static void test_no_more_are_excused_than_every_quorum_can_do_without(void **state)
{
    (void)state;
    struct ring_walk next;
    struct ring_walker w;
    uint32_t p;
    uint16_t joiner;

    assert_int_equal(ring_change_excusable((struct ring_quorum){2, 2}, 3), 1);
    assert_int_equal(ring_change_excusable((struct ring_quorum){3, 3}, 5), 2);
    assert_int_equal(ring_change_excusable((struct ring_quorum){2, 4}, 5), 1);
    /* A read of one would meet it; W copies are promised; two members have no third. */
    assert_int_equal(ring_change_excusable((struct ring_quorum){1, 3}, 3), 0);
    assert_int_equal(ring_change_excusable((struct ring_quorum){3, 1}, 3), 0);
    assert_int_equal(ring_change_excusable((struct ring_quorum){3, 3}, 3), 0);
    assert_int_equal(ring_change_excusable((struct ring_quorum){2, 2}, 2), 0);

    begin_join(&p, &joiner);
    then.members[joiner].state = MEMBER_FAULTY;
    ring_change_phases(&then, progress, (struct ring_quorum){3, 3});
    assert_int_equal(then.phase[p], RING_MOVING);
    assert_true(waits_for(p, (struct ring_quorum){3, 3}, joiner));
    /* One that is kept and faulty counts as well. */
    all_say(p, STEP_GUARDED);
    progress[joiner].step[p] = STEP_NONE;
    ring_walker_init(&w, &then, then.next);
    ring_walker_walk(&w, p, then.n, &next);
    uint16_t kept = next.member[0] == joiner ? next.member[1] : next.member[0];
    for (uint8_t i = 0; i < next.primaries; i++)
        if (next.member[i] != joiner && next.member[i] != kept)
            progress[next.member[i]].step[p] = STEP_SURE;
    then.members[kept].state = MEMBER_FAULTY;
    assert_int_equal(phase_now(p), RING_FENCED);
    progress[kept].step[p] = STEP_SURE;
    assert_int_equal(phase_now(p), RING_SWITCHED);
}

static void test_what_a_member_has_announced_it_does_not_take_back(void **state)
{
    (void)state;
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    then.self = an_old_member(p, 0);
    progress[then.self].step[p] = STEP_JOINT;
    assert_int_equal(phase_now(p), RING_JOINT);
    progress[then.self].step[p] = STEP_SWITCHED;
    assert_int_equal(phase_now(p), RING_SWITCHED);
}

static void test_members_announce_what_their_phase_allows(void **state)
{
    (void)state;
    uint8_t copied[LIMIT_PARTITIONS] = {0};
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    then.self = joiner;
    struct ring_progress *own = &progress[joiner];
    assert_false(ring_change_announce(&then, copied, own));
    copied[p] = STEP_WHOLE;
    assert_true(ring_change_announce(&then, copied, own));
    assert_int_equal(own->step[p], STEP_WHOLE);
    assert_false(ring_change_announce(&then, copied, own));
    assert_int_equal(phase_now(p), RING_JOINT);
    /* Too early to be sure: not everybody is fenced. */
    copied[p] = STEP_SURE;
    assert_true(ring_change_announce(&then, copied, own));
    assert_int_equal(own->step[p], STEP_JOINT);
    all_say(p, STEP_JOINT);
    assert_int_equal(phase_now(p), RING_GUARDED);
    assert_true(ring_change_announce(&then, copied, own));
    assert_int_equal(own->step[p], STEP_GUARDED);
    all_say(p, STEP_GUARDED);
    assert_int_equal(phase_now(p), RING_FENCED);
    assert_true(ring_change_announce(&then, copied, own));
    assert_int_equal(own->step[p], STEP_SURE);
    assert_int_equal(phase_now(p), RING_SWITCHED);
    assert_true(ring_change_announce(&then, NULL, own));
    assert_int_equal(own->step[p], STEP_SWITCHED);
}

static void test_steps_heard_only_rise(void **state)
{
    (void)state;
    static struct ring_progress heard;
    uint8_t steps[64] = {STEP_JOINT, STEP_WHOLE, 77};

    memset(&heard, 0, sizeof heard);
    assert_true(ring_change_hear(&heard, steps, 6));
    assert_int_equal(heard.step[0], STEP_JOINT);
    assert_int_equal(heard.step[2], STEP_NONE);
    steps[0] = STEP_NONE;
    assert_false(ring_change_hear(&heard, steps, 6));
    assert_int_equal(heard.step[0], STEP_JOINT);
    steps[1] = STEP_SWITCHED;
    assert_true(ring_change_hear(&heard, steps, 6));
}

/* Every member runs the whole protocol on what it has heard so far, in any order: all complete, and
 * nobody reads the next list before all new members are sure. */
static struct ring_view views[8];
static struct ring_progress heard[8][LIMIT_MEMBERS];

static void step_member(unsigned me, unsigned from)
{
    struct ring_view *v = &views[me];
    uint8_t copied[LIMIT_PARTITIONS] = {0};

    ring_change_hear(&heard[me][from], heard[from][from].step, v->q_bits);
    ring_change_phases(v, heard[me], (struct ring_quorum){2, 2});
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        copied[p] = v->phase[p] == RING_FENCED ? STEP_SURE : STEP_WHOLE;
    ring_change_announce(v, copied, &heard[me][me]);
}

static void check_order(unsigned members)
{
    uint16_t fresh[LIMIT_REPLICAS];

    for (uint32_t p = 0; p < (1u << views[0].q_bits); p++) {
        uint8_t least = RING_CLOSED, most = RING_SETTLED;
        unsigned count = ring_change_new_members(&views[0], p, fresh);

        for (unsigned m = 0; m < members; m++) {
            least = views[m].phase[p] < least ? views[m].phase[p] : least;
            most = views[m].phase[p] > most ? views[m].phase[p] : most;
        }
        if (most >= RING_GUARDED)
            assert_true(least >= RING_JOINT);
        if (most >= RING_FENCED)
            assert_true(least >= RING_GUARDED);
        if (most == RING_CLOSED)
            assert_true(least >= RING_SWITCHED);
        for (unsigned i = 0; most >= RING_SWITCHED && i < count; i++)
            assert_true(heard[fresh[i]][fresh[i]].step[p] >= STEP_SURE);
    }
}

static void test_everybody_completes_in_any_order_of_hearing(void **state)
{
    (void)state;
    struct ring_change list[] = {change(RING_JOIN, 4), change(RING_JOIN, 5), change(RING_LEAVE, 1)};
    struct rand r;

    for (uint64_t seed = 1; seed <= 30; seed++) {
        unsigned members = 6;
        bool complete = false;

        rand_seed(&r, seed);
        found(4, 5, 3, 0);
        assert_int_equal(plan(list, 3), 0);
        memset(heard, 0, sizeof heard);
        for (unsigned m = 0; m < members; m++) {
            views[m] = then;
            views[m].self = (uint16_t)m;
        }
        for (unsigned round = 0; round < 2000 && !complete; round++) {
            step_member((unsigned)rand_below(&r, members), (unsigned)rand_below(&r, members));
            check_order(members);
            complete = true;
            for (unsigned m = 0; m < members; m++)
                complete &=
                    ring_change_is_complete(&views[m], heard[m], (struct ring_quorum){2, 2});
        }
        assert_true(complete);
        for (unsigned m = 0; m < members; m++) {
            ring_change_complete(&views[m], &other);
            other.self = 0;
            if (m == 0)
                now = other;
            assert_memory_equal(&now, &other, sizeof now);
        }
        assert_int_equal(now.members[1].state, MEMBER_LEFT);
    }
}

static void test_a_change_that_moves_nothing_completes_at_once(void **state)
{
    (void)state;
    found(4, 6, 3, 0);
    plan_one(change(RING_JOIN, 4));
    carry_out();
    /* The joiner owns nothing yet if its weight leaves it none: there is nothing to wait for. */
    now.members[4].weight = 100;
    for (uint32_t p = 0; p < 64; p++)
        now.owner[p] = now.next[p] = now.owner[p] == 4 ? 0 : now.owner[p];
    then = now;
    then.members[4].going = MEMBER_LEAVES;
    assert_true(ring_change_is_open(&then));
    assert_true(ring_change_is_complete(&then, progress, (struct ring_quorum){2, 2}));
    carry_out();
    assert_int_equal(now.members[4].state, MEMBER_LEFT);
}

/* ---- The index. */

static void test_the_index_has_both_lists_of_what_moves(void **state)
{
    (void)state;
    static struct ring_index index;
    struct ring_walk old, next;
    struct ring_walker w;
    uint32_t p;
    uint16_t joiner;

    begin_join(&p, &joiner);
    ring_walk_partition(&then, p, 3, &old);
    ring_walker_init(&w, &then, then.next);
    ring_walker_walk(&w, p, 3, &next);
    assert_int_equal(phase_now(p), RING_MOVING);
    ring_index_build(&then, 3, &index);
    assert_memory_equal(index.walk[p].member, old.member, 3 * sizeof old.member[0]);
    assert_memory_equal(index.other[p].member, next.member, 3 * sizeof next.member[0]);
    assert_true(ring_keeps(&index, p, joiner));
    all_say(p, STEP_SURE);
    assert_int_equal(phase_now(p), RING_SWITCHED);
    ring_index_build(&then, 3, &index);
    assert_memory_equal(index.walk[p].member, next.member, 3 * sizeof next.member[0]);
    assert_int_equal(index.walk[p].print, next.print);
    assert_memory_equal(index.other[p].member, old.member, 3 * sizeof old.member[0]);
    assert_true(old.print != next.print);
    for (uint32_t k = 0; k < 64; k++)
        if (then.phase[k] == RING_SETTLED)
            assert_int_equal(index.other[k].count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rings_grow_from_1_to_200_members),
        cmocka_unit_test(test_a_member_that_joins_is_the_one_that_gains),
        cmocka_unit_test(test_a_member_that_leaves_owns_nothing_and_has_left_at_the_end),
        cmocka_unit_test(test_a_replacement_takes_over_exactly_what_the_old_one_had),
        cmocka_unit_test(test_weights_move_partitions),
        cmocka_unit_test(test_impossible_changes_are_refused),
        cmocka_unit_test(test_the_place_of_one_that_left_is_used_again_when_there_is_no_other),
        cmocka_unit_test(test_a_second_change_starts_from_what_the_first_one_moves_to),
        cmocka_unit_test(test_two_plans_of_the_same_are_the_same),
        cmocka_unit_test(test_a_partition_goes_through_its_phases_in_order),
        cmocka_unit_test(test_partitions_whose_lists_stay_are_settled),
        cmocka_unit_test(test_faulty_members_are_not_waited_for_unless_they_could_make_a_quorum),
        cmocka_unit_test(test_a_new_member_that_is_faulty_is_excused_when_all_others_are_sure),
        cmocka_unit_test(test_no_more_are_excused_than_every_quorum_can_do_without),
        cmocka_unit_test(test_what_a_member_has_announced_it_does_not_take_back),
        cmocka_unit_test(test_members_announce_what_their_phase_allows),
        cmocka_unit_test(test_steps_heard_only_rise),
        cmocka_unit_test(test_everybody_completes_in_any_order_of_hearing),
        cmocka_unit_test(test_a_change_that_moves_nothing_completes_at_once),
        cmocka_unit_test(test_the_index_has_both_lists_of_what_moves),
    };

    return cmocka_run_group_tests_name("changes of the ring", tests, NULL, NULL);
}
