/* Agreements, horizons, and what is dead by them. */
#include "core/horizon.h"

#include "base/err.h"
#include "core/position.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct ring_view view;
static struct ring_walk walk;

/* Self is member 0; the first n of `count` members are the primaries. */
static void make_ring(unsigned count, unsigned n)
{
    memset(&view, 0, sizeof view);
    memset(&walk, 0, sizeof walk);
    view.member_count = (uint16_t)count;
    for (unsigned i = 0; i < count; i++) {
        view.members[i].id.b[0] = (uint8_t)(i + 1);
        if (i < LIMIT_WALK)
            walk.member[i] = (uint16_t)i;
    }
    walk.count = (uint8_t)(count < LIMIT_WALK ? count : LIMIT_WALK);
    walk.primaries = (uint8_t)n;
}

static void agree(struct horizon *h, unsigned member, uint64_t as_of_ms)
{
    horizon_agreed(h, 7, &view.members[member].id, as_of_ms);
}

static void a_horizon_takes_all_primaries(void **state)
{
    struct horizon h;
    uint64_t horizon = 0;

    (void)state;
    make_ring(5, 3);
    horizon_reset(&h, 7);
    assert_false(horizon_move(&h, &view, &walk, 1000, 100000, 0, &horizon));
    agree(&h, 1, 50000);
    agree(&h, 3, 60000); /* a fallback is nobody who matters */
    assert_false(horizon_move(&h, &view, &walk, 1000, 100000, 0, &horizon));
    agree(&h, 2, 40000);
    assert_true(horizon_move(&h, &view, &walk, 1000, 100000, 0, &horizon));
    assert_int_equal(horizon, 40000 - 1000 - 1000);
    /* An older agreement takes nothing back, nor does a longer age of hints. */
    agree(&h, 2, 30000);
    assert_true(horizon_move(&h, &view, &walk, 5000, 100000, 0, &horizon));
    assert_int_equal(horizon, 38000);
    /* The slack for clocks is a minute at most. */
    agree(&h, 1, 9000000);
    agree(&h, 2, 9000000);
    assert_true(horizon_move(&h, &view, &walk, 1000000, 9000000, 0, &horizon));
    assert_int_equal(horizon, 9000000 - 1000000 - 60000);
}

static void a_late_arrival_holds_the_horizon_until_all_agree_again(void **state)
{
    struct horizon h;
    uint64_t horizon = 5;

    (void)state;
    make_ring(3, 3);
    horizon_reset(&h, 7);
    agree(&h, 1, 50000);
    agree(&h, 2, 40000);
    assert_false(horizon_move(&h, &view, &walk, 1000, 100000, 40000, &horizon));
    assert_int_equal(horizon, 5);
    agree(&h, 2, 40001);
    assert_true(horizon_move(&h, &view, &walk, 1000, 100000, 40000, &horizon));
}

static void agreements_of_another_identity_do_not_count(void **state)
{
    struct horizon h;

    (void)state;
    make_ring(2, 2);
    horizon_reset(&h, 8);
    agree(&h, 1, 50000);
    assert_int_equal(horizon_agreement(&h, &view.members[1].id), 0);
    horizon_reset(&h, 7);
    agree(&h, 1, 50000);
    assert_int_equal(horizon_agreement(&h, &view.members[1].id), 50000);
}

static void the_agreement_of_longest_ago_makes_room(void **state)
{
    struct horizon h;

    (void)state;
    make_ring(40, 3);
    horizon_reset(&h, 7);
    for (unsigned i = 1; i < 40; i++)
        agree(&h, i, 1000 + i);
    assert_int_equal(horizon_agreement(&h, &view.members[39].id), 1039);
    assert_int_equal(horizon_agreement(&h, &view.members[1].id), 0);
}

static void a_vnode_is_whole_after_all_who_can_be_reached(void **state)
{
    struct horizon h;

    (void)state;
    make_ring(3, 3);
    horizon_reset(&h, 7);
    assert_false(horizon_complete(&h, &view, &walk, 0, false));
    agree(&h, 1, 100);
    assert_false(horizon_complete(&h, &view, &walk, 0, false));
    view.members[2].state = MEMBER_FAULTY;
    assert_true(horizon_complete(&h, &view, &walk, 0, false));
    assert_false(horizon_complete(&h, &view, &walk, 100, false)); /* not since then */
    assert_false(horizon_complete(&h, &view, &walk, 0, true)); /* a surplus vnode waits for all */
    view.members[1].state = MEMBER_FAULTY;
    horizon_reset(&h, 7);
    assert_false(horizon_complete(&h, &view, &walk, 0, false)); /* one at least */
    make_ring(1, 1);
    assert_true(horizon_complete(&h, &view, &walk, 0, false));
}

static void a_moved_vnode_is_filled_by_all_old_owners_but_those_that_make_no_quorum(void **state)
{
    struct horizon h;

    (void)state;
    make_ring(4, 3);
    view.self = 3; /* not one of them */
    horizon_reset(&h, 7);
    agree(&h, 0, 100);
    agree(&h, 1, 100);
    assert_false(horizon_filled(&h, &view, &walk, 50, 1));
    view.members[2].state = MEMBER_FAULTY;
    assert_true(horizon_filled(&h, &view, &walk, 50, 1));
    assert_false(horizon_filled(&h, &view, &walk, 50, 0));
    assert_false(horizon_filled(&h, &view, &walk, 100, 1));
    /* Two that are faulty may be all that have a write, unless one is itself of the old list. */
    view.members[1].state = MEMBER_FAULTY;
    horizon_reset(&h, 7);
    agree(&h, 0, 100);
    assert_false(horizon_filled(&h, &view, &walk, 50, 1));
    view.self = 1;
    assert_true(horizon_filled(&h, &view, &walk, 50, 1));
    /* What never comes back is not waited for, but somebody must have it. */
    view.self = 3;
    view.members[1].going = MEMBER_GONE;
    assert_true(horizon_filled(&h, &view, &walk, 50, 1));
    view.members[0].going = view.members[2].going = MEMBER_GONE;
    horizon_reset(&h, 7);
    assert_false(horizon_filled(&h, &view, &walk, 50, 1));
}

/* --- objects --- */

static void write_to(struct object *o, struct buf *out, struct dot dot, uint64_t ms, bool tombstone,
                     uint64_t expiry_ms, const struct causal *seen)
{
    struct object_write w = {.dot = dot,
                             .time = ms << 16,
                             .tombstone = tombstone,
                             .expiry_ms = expiry_ms,
                             .seen = seen,
                             .sibling_limit = 64};
    struct buf next = {0};

    if (!tombstone)
        w.value = slice_str("value");
    assert_int_equal(object_put(o, &w, &next, NULL), 0);
    buf_free(out);
    *out = next;
    assert_int_equal(object_open(o, slice_of(buf_head(out), buf_len(out))), 0);
}

static void the_age_of_an_object_is_that_of_its_newest_sibling(void **state)
{
    static struct object o;
    struct buf b = {0};
    struct causal nothing;
    bool tombstone;

    (void)state;
    causal_clear(&nothing);
    object_empty(&o, slice_str("k"));
    assert_int_equal(horizon_time(&o, 1000, &tombstone), 0);
    assert_true(tombstone);
    write_to(&o, &b, (struct dot){1, 1}, 500, true, 0, NULL);
    assert_int_equal(horizon_time(&o, 1000, &tombstone), 500);
    assert_true(tombstone && horizon_purges(&o, 1000, 500) && !horizon_purges(&o, 1000, 499));
    assert_false(horizon_purges(&o, 1000, 0));
    write_to(&o, &b, (struct dot){2, 1}, 600, false, 900, &nothing);
    assert_int_equal(horizon_time(&o, 800, &tombstone), 600);
    assert_false(tombstone || horizon_purges(&o, 800, 700));
    /* From its expiry on it is a delete of that time. */
    assert_int_equal(horizon_time(&o, 901, &tombstone), 900);
    assert_true(tombstone && horizon_purges(&o, 901, 900) && !horizon_purges(&o, 901, 899));
    buf_free(&b);
}

static void what_was_purged_here_is_dead(void **state)
{
    static struct object mine, theirs, left;
    struct buf b = {0}, out = {0};

    (void)state;
    object_empty(&mine, slice_str("k"));
    object_empty(&theirs, slice_str("k"));
    write_to(&theirs, &b, (struct dot){1, 1}, 500, false, 0, NULL);
    assert_int_equal(horizon_bury(&mine, &theirs, 500, &out), 2);
    assert_int_equal(horizon_bury(&mine, &theirs, 499, &out), 0);
    assert_int_equal(horizon_bury(&mine, &theirs, 0, &out), 0);
    /* Beside something newer it goes alone, and its dot counts as seen: so a merge takes it away. */
    struct causal nothing;

    causal_clear(&nothing);
    write_to(&theirs, &b, (struct dot){2, 1}, 800, false, 0, &nothing);
    assert_int_equal(theirs.sibling_count, 2);
    assert_int_equal(horizon_bury(&mine, &theirs, 500, &out), 1);
    assert_int_equal(object_open(&left, slice_of(buf_head(&out), buf_len(&out))), 0);
    assert_int_equal(left.sibling_count, 1);
    assert_true(causal_covers(&left.causal, (struct dot){1, 1}));
    struct buf merged = {0};

    assert_int_equal(object_merge(&left, &theirs, &merged), 0);
    assert_int_equal(object_open(&mine, slice_of(buf_head(&merged), buf_len(&merged))), 0);
    assert_int_equal(mine.sibling_count, 1);
    buf_free(&merged);
    buf_free(&b);
    buf_free(&out);
}

static void what_supersedes_something_here_is_not_dead(void **state)
{
    static struct object mine, theirs;
    struct buf a = {0}, b = {0}, out = {0};

    (void)state;
    object_empty(&mine, slice_str("k"));
    object_empty(&theirs, slice_str("k"));
    write_to(&mine, &a, (struct dot){1, 1}, 400, false, 0, NULL);
    write_to(&theirs, &b, (struct dot){1, 1}, 400, false, 0, NULL);
    /* A delete that never came here: what it deletes still lives. */
    write_to(&theirs, &b, (struct dot){2, 1}, 500, true, 0, NULL);
    assert_int_equal(horizon_bury(&mine, &theirs, 10000, &out), 0);
    /* What both have is not dead either, however old. */
    assert_int_equal(horizon_bury(&mine, &mine, 10000, &out), 0);
    buf_free(&a);
    buf_free(&b);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_horizon_takes_all_primaries),
        cmocka_unit_test(a_late_arrival_holds_the_horizon_until_all_agree_again),
        cmocka_unit_test(agreements_of_another_identity_do_not_count),
        cmocka_unit_test(the_agreement_of_longest_ago_makes_room),
        cmocka_unit_test(a_vnode_is_whole_after_all_who_can_be_reached),
        cmocka_unit_test(a_moved_vnode_is_filled_by_all_old_owners_but_those_that_make_no_quorum),
        cmocka_unit_test(the_age_of_an_object_is_that_of_its_newest_sibling),
        cmocka_unit_test(what_was_purged_here_is_dead),
        cmocka_unit_test(what_supersedes_something_here_is_not_dead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
