/* core/coord while the ring changes: members 0, 1, 2 have every partition, members 0, 1, 3 will. Each
 * member may know of another phase. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/coord_kit.h"

enum { MEMBERS = 4, OLD = 2, NEW = 3 };

static struct ring_view views[KIT_MEMBERS];
static struct ring_index indexes[MEMBERS];

static const struct quorum_rule strict = {.n = 3, .r = 2, .w = 2};
static const struct quorum_rule sloppy = {.n = 3, .r = 2, .w = 2, .sloppy = true};

/* What a member knows: an epoch and a phase for all partitions. */
static void knows(struct kit *k, uint16_t member, uint64_t epoch, enum ring_phase phase)
{
    views[member].epoch = epoch;
    memset(views[member].phase, phase, sizeof views[member].phase);
    ring_index_build(&views[member], 3, &indexes[member]);
    coord_set_view(k->nodes[member][0].coord, &views[member], &indexes[member]);
}

static void all_know(struct kit *k, enum ring_phase phase)
{
    for (uint16_t m = 0; m < MEMBERS; m++)
        knows(k, m, 1, phase);
}

/* The change is complete, as far as a member knows. */
static void has_completed(struct kit *k, uint16_t member)
{
    memcpy(views[member].owner, views[member].next, sizeof views[member].owner);
    knows(k, member, 2, RING_SETTLED);
}

static struct kit *changing(struct quorum_rule rule)
{
    struct kit *k = kit_new(MEMBERS, 1, rule, views, 64);

    for (uint16_t m = 0; m < MEMBERS; m++) {
        for (uint32_t p = 0; p < 8; p++) {
            views[m].owner[p] = (uint16_t)(p % 3);
            views[m].next[p] = p % 3 == OLD ? NEW : (uint16_t)(p % 3);
        }
    }
    all_know(k, RING_MOVING);
    return k;
}

static int do_put(struct kit *k, uint16_t member, const char *value)
{
    static uint64_t token;
    struct msg_PUT m = {.key = slice_str(k->keys[0]), .value = slice_str(value)};
    uint64_t t = token++ % 32;

    k->replies[t].count = 0;
    assert_int_equal(kit_put(k, kit_node(k, member, 0), t, m), 0);
    kit_settle(k);
    for (int i = 0; i < 12 && k->replies[t].count == 0; i++) {
        kit_pass(k, 100000);
        kit_settle(k);
    }
    assert_int_equal(k->replies[t].count, 1);
    return k->replies[t].status;
}

/* Read at a member: does it see the value? Or an error. */
static int do_get(struct kit *k, uint16_t member, const char *value)
{
    static struct object o;
    static uint64_t token;
    struct msg_GET m = {.key = slice_str(k->keys[0])};
    uint64_t t = 32 + token++ % 32;
    struct sibling s;

    k->replies[t].count = 0;
    assert_int_equal(kit_get(k, kit_node(k, member, 0), t, m), 0);
    kit_settle(k);
    for (int i = 0; i < 12 && k->replies[t].count == 0; i++) {
        kit_pass(k, 100000);
        kit_settle(k);
    }
    assert_int_equal(k->replies[t].count, 1);
    if (k->replies[t].status != 0)
        return k->replies[t].status;
    struct slice bytes = kit_bytes(&k->replies[t].object);

    if (bytes.len == 0 || object_open(&o, bytes) != 0)
        return 0;
    for (size_t cursor = 0; object_next(&o, &cursor, &s);)
        if (slice_equal(s.value, slice_str(value)))
            return 1;
    return 0;
}

static bool has_it(struct kit *k, uint16_t member)
{
    return kit_node(k, member, 0)->records[0].bytes.len > 0;
}

static bool owes(struct kit *k, uint16_t member, uint16_t target)
{
    struct kit_node *n = kit_node(k, member, 0);

    for (uint32_t i = 0; i < n->hint_count; i++)
        if (n->hints[i].target.b[0] == target + 1)
            return true;
    return false;
}

static void end(struct kit *k)
{
    kit_pass(k, 3000000);
    kit_settle(k);
    kit_pass(k, 3000000);
    for (uint16_t m = 0; m < MEMBERS; m++)
        if (kit_node(k, m, 0)->up)
            assert_int_equal(coord_in_flight(kit_node(k, m, 0)->coord), 0);
    kit_free(k);
}

static void test_while_moving_new_members_are_written_to(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    assert_int_equal(do_put(k, 0, "a"), 0);
    for (uint16_t m = 0; m < MEMBERS; m++)
        assert_true(has_it(k, m));
    end(k);
}

static void test_while_moving_a_new_member_does_not_count(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    kit_down_member(k, 1);
    kit_down_member(k, OLD);
    assert_int_equal(do_put(k, 0, "a"), -ERR_NOQUORUM);
    assert_int_equal(do_get(k, 0, "a"), -ERR_NOQUORUM);
    end(k);
}

static void test_a_new_member_that_is_away_gets_a_hint_and_no_fallback(void **state)
{
    struct kit *k = changing(sloppy);

    (void)state;
    kit_down_member(k, NEW);
    assert_int_equal(do_put(k, 0, "a"), 0);
    kit_pass(k, 2000000);
    assert_true(owes(k, 0, NEW));
    assert_int_equal(k->events[COORD_FALLBACK_WRITE], 0);
    end(k);
}

static void test_joint_writes_need_both_lists(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    all_know(k, RING_JOINT);
    assert_int_equal(do_put(k, 0, "a"), 0);
    kit_down_member(k, 1);
    assert_int_equal(do_put(k, 0, "b"), 0); /* 0 and OLD; 0 and NEW */
    kit_down_member(k, NEW);
    assert_int_equal(do_put(k, 0, "c"), -ERR_NOQUORUM);
    end(k);
}

static void test_joint_reads_go_to_the_old_list_and_switched_ones_to_the_next(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    all_know(k, RING_FENCED);
    kit_down_member(k, 1);
    assert_int_equal(do_put(k, 0, "a"), 0);
    kit_down_member(k, NEW);
    assert_int_equal(do_get(k, 0, "a"), 1);
    all_know(k, RING_SWITCHED);
    assert_int_equal(do_get(k, 0, "a"), -ERR_NOQUORUM);
    end(k);
}

static void test_switched_writes_still_need_the_old_list(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    all_know(k, RING_SWITCHED);
    kit_down_member(k, OLD);
    assert_int_equal(do_put(k, 0, "a"), 0);
    assert_int_equal(do_get(k, 0, "a"), 1);
    kit_down_member(k, 1);
    assert_int_equal(do_put(k, 0, "b"), -ERR_NOQUORUM);
    end(k);
}

/* A coordinator that still counts in the old list alone. */
static void test_replicas_on_guard_do_not_let_an_old_write_count(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    knows(k, 1, 1, RING_JOINT);
    knows(k, OLD, 1, RING_JOINT);
    assert_int_equal(do_put(k, 0, "a"), 0); /* nobody insists on it before everybody does so */
    knows(k, 1, 1, RING_GUARDED);
    knows(k, OLD, 1, RING_GUARDED);
    assert_int_equal(do_put(k, 0, "a"), -ERR_NOQUORUM);
    assert_true(has_it(k, 1) && has_it(k, OLD)); /* it is stored all the same */
    assert_true(k->events[COORD_FENCED] >= 2);
    /* One that does not know either is enough for W, but then it is one of too many unheard. */
    knows(k, OLD, 1, RING_MOVING);
    assert_int_equal(do_put(k, 0, "b"), 0);
    end(k);
}

static void test_replicas_that_have_closed_do_not_let_an_old_read_count(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    all_know(k, RING_JOINT);
    assert_int_equal(do_put(k, 0, "a"), 0);
    knows(k, 1, 1, RING_SWITCHED);
    knows(k, OLD, 1, RING_SWITCHED);
    assert_int_equal(do_get(k, 0, "a"), 1);
    knows(k, 1, 1, RING_CLOSED);
    knows(k, OLD, 1, RING_CLOSED);
    assert_int_equal(do_get(k, 0, "a"), -ERR_NOQUORUM);
    /* The next list may be read as soon as anybody knows that. */
    knows(k, 0, 1, RING_SWITCHED);
    knows(k, NEW, 1, RING_JOINT);
    assert_int_equal(do_get(k, 0, "a"), 1);
    end(k);
}

static void test_a_complete_change_and_the_moment_before_understand_each_other(void **state)
{
    struct kit *k = changing(strict);

    (void)state;
    all_know(k, RING_SWITCHED);
    assert_int_equal(do_put(k, 0, "a"), 0);
    has_completed(k, 1);
    has_completed(k, NEW);
    assert_int_equal(do_put(k, 0, "b"), 0);
    assert_int_equal(do_get(k, 0, "b"), 1);
    assert_int_equal(do_put(k, 1, "c"), 0);
    assert_int_equal(do_get(k, 1, "c"), 1);
    assert_int_equal(do_get(k, 0, "c"), 1);
    assert_int_equal(k->events[COORD_FENCED], 0);
    end(k);
}

static void test_sloppy_quorums_are_not_fenced(void **state)
{
    struct kit *k = changing(sloppy);

    (void)state;
    knows(k, 1, 1, RING_CLOSED);
    knows(k, OLD, 1, RING_CLOSED);
    assert_int_equal(do_put(k, 0, "a"), 0);
    assert_int_equal(do_get(k, 0, "a"), 1);
    assert_int_equal(k->events[COORD_FENCED], 0);
    end(k);
}

static void test_a_node_that_is_no_replica_any_more_neither_keeps_nor_knows_nothing(void **state)
{
    struct kit *k = changing(sloppy);

    (void)state;
    for (uint16_t m = 0; m < MEMBERS; m++) /* as it was before the change was planned */
        memcpy(views[m].next, views[m].owner, sizeof views[m].next);
    all_know(k, RING_SETTLED);
    for (uint32_t p = 0; p < 8; p++)
        views[OLD].owner[p] = views[OLD].next[p] = p % 3 == OLD ? NEW : (uint16_t)(p % 3);
    knows(k, OLD, 2, RING_SETTLED);
    kit_down_member(k, 1);
    do_put(k, 0, "a");
    assert_false(has_it(k, OLD));
    struct msg m = {.kind = MSG_READ,
                    .u.READ = {.request = 7, .epoch = 1, .key = slice_str(k->keys[0])}};
    coord_receive(kit_node(k, OLD, 0)->coord, 0, 0, &m, k->now_us, k->wall_ms);
    assert_int_equal(k->messages[k->message_count - 1].m.kind, MSG_READ_DONE);
    assert_int_equal(k->messages[k->message_count - 1].m.u.READ_DONE.status, ERR_STALE);
    kit_settle(k);
    end(k);
}

static void test_in_a_sloppy_quorum_new_members_stand_in_for_old_ones(void **state)
{
    struct kit *k = changing(sloppy);

    (void)state;
    all_know(k, RING_JOINT);
    kit_down_member(k, 0);
    kit_down_member(k, OLD);
    /* Left are 1, in both lists, and NEW, which stands in for one of the old ones. */
    assert_int_equal(do_put(k, 1, "a"), 0);
    assert_true(has_it(k, 1) && has_it(k, NEW));
    kit_pass(k, 2000000);
    assert_true(owes(k, 1, 0) && owes(k, 1, OLD));
    all_know(k, RING_MOVING);
    assert_int_equal(do_put(k, 1, "b"), 0);
    kit_down_member(k, NEW);
    assert_int_equal(do_put(k, 1, "c"), -ERR_NOQUORUM);
    end(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_while_moving_new_members_are_written_to),
        cmocka_unit_test(test_while_moving_a_new_member_does_not_count),
        cmocka_unit_test(test_a_new_member_that_is_away_gets_a_hint_and_no_fallback),
        cmocka_unit_test(test_joint_writes_need_both_lists),
        cmocka_unit_test(test_joint_reads_go_to_the_old_list_and_switched_ones_to_the_next),
        cmocka_unit_test(test_switched_writes_still_need_the_old_list),
        cmocka_unit_test(test_replicas_on_guard_do_not_let_an_old_write_count),
        cmocka_unit_test(test_replicas_that_have_closed_do_not_let_an_old_read_count),
        cmocka_unit_test(test_a_complete_change_and_the_moment_before_understand_each_other),
        cmocka_unit_test(test_sloppy_quorums_are_not_fenced),
        cmocka_unit_test(test_a_node_that_is_no_replica_any_more_neither_keeps_nor_knows_nothing),
        cmocka_unit_test(test_in_a_sloppy_quorum_new_members_stand_in_for_old_ones),
    };

    return cmocka_run_group_tests_name("coordination while the ring changes", tests, NULL, NULL);
}
