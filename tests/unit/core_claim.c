/* The owner table: balance, distance, zones and little movement, over all sizes that matter. */
#include "core/claim.h"

#include "base/err.h"
#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct ring_view *view(uint16_t members, uint8_t q_bits, uint8_t n)
{
    static struct ring_view v;

    memset(&v, 0, sizeof v);
    v.epoch = 1;
    v.q_bits = q_bits;
    v.n = n;
    v.self = 0;
    v.member_count = members;
    for (uint16_t m = 0; m < members; m++) {
        v.members[m].id.b[0] = (uint8_t)(m >> 8);
        v.members[m].id.b[1] = (uint8_t)(m + 1);
        v.members[m].workers = 1;
        v.members[m].weight = 100;
    }
    return &v;
}

/* Repeats of every table must be at least so many: a member with more than Q / n partitions comes
 * too close to itself at least once. */
static uint32_t repeats_bound(const struct ring_view *v)
{
    uint32_t counts[LIMIT_MEMBERS], q = 1u << v->q_bits, owning = 0, bound = 0;

    ring_count_owned(v, counts);
    for (uint16_t m = 0; m < v->member_count; m++)
        owning += v->members[m].state != MEMBER_LEFT && v->members[m].weight > 0;
    uint32_t n = v->n < owning ? v->n : owning;

    for (uint16_t m = 0; m < v->member_count; m++)
        bound += counts[m] > q / n;
    return bound;
}

static void test_equal_weights(void **state)
{
    (void)state;
    for (uint16_t members = 1; members <= 50; members++) {
        for (uint8_t q_bits = 3; q_bits <= 10; q_bits++) {
            for (uint8_t n = 1; n <= 5; n++) {
                struct ring_view *v = view(members, q_bits, n);
                uint32_t counts[LIMIT_MEMBERS], q = 1u << q_bits;
                struct claim_quality quality;

                assert_int_equal(claim_found(v), 0);
                assert_true(ring_view_valid(v));
                ring_count_owned(v, counts);
                for (uint16_t m = 0; m < members; m++) {
                    assert_true(counts[m] >= q / members);
                    assert_true(counts[m] <= (q + members - 1) / members);
                }
                claim_judge(v, v->owner, &quality);
                assert_int_equal(quality.repeats, repeats_bound(v));
                if (members > n && q_bits >= 5)
                    assert_int_equal(quality.repeats, 0);
            }
        }
    }
}

static void test_preference_lists_are_whole(void **state)
{
    (void)state;
    for (uint16_t members = 1; members <= 8; members++) {
        for (uint8_t n = 1; n <= 5; n++) {
            struct ring_view *v = view(members, 7, n);
            struct ring_walk walk;

            assert_int_equal(claim_found(v), 0);
            for (uint32_t p = 0; p < 128; p++) {
                ring_walk_partition(v, p, n, &walk);
                assert_int_equal(walk.primaries, members < n ? members : n);
                assert_int_equal(walk.member[0], v->owner[p]);
            }
        }
    }
}

static void test_same_input_same_table(void **state)
{
    uint16_t first[LIMIT_PARTITIONS];

    (void)state;
    struct ring_view *v = view(7, 7, 3);

    assert_int_equal(claim_found(v), 0);
    memcpy(first, v->owner, sizeof first);
    v = view(7, 7, 3);
    v->self = 5; /* who computes makes no difference */
    assert_int_equal(claim_found(v), 0);
    assert_memory_equal(first, v->owner, 128 * sizeof first[0]);
}

static void test_weights(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 7);
    for (int round = 0; round < 300; round++) {
        uint16_t members = (uint16_t)(1 + rand_below(&r, 20));
        struct ring_view *v =
            view(members, (uint8_t)(5 + rand_below(&r, 6)), (uint8_t)(1 + rand_below(&r, 4)));
        uint32_t counts[LIMIT_MEMBERS], q = 1u << v->q_bits, total = 0, able = 0;
        struct claim_quality quality;

        for (uint16_t m = 0; m < members; m++) {
            v->members[m].weight = (uint16_t)rand_below(&r, 6);
            total += v->members[m].weight;
            able += v->members[m].weight > 0;
        }
        if (total == 0) {
            assert_int_equal(claim_found(v), -ERR_INVAL);
            continue;
        }
        assert_int_equal(claim_found(v), 0);
        ring_count_owned(v, counts);
        claim_judge(v, v->owner, &quality);
        assert_int_equal(quality.repeats, repeats_bound(v));
        uint32_t n = v->n < able ? v->n : able;
        bool capped = false;

        for (uint16_t m = 0; m < members; m++)
            capped |= (double)q * v->members[m].weight / total > q / n;
        for (uint16_t m = 0; m < members; m++) {
            double share = (double)q * v->members[m].weight / total;

            if (v->members[m].weight == 0)
                assert_int_equal(counts[m], 0);
            if (!capped)
                assert_true(counts[m] > share - 1 && counts[m] < share + 1);
        }
    }
}

static void test_a_giant_is_capped(void **state)
{
    (void)state;
    struct ring_view *v = view(6, 7, 3);
    uint32_t counts[LIMIT_MEMBERS];
    struct claim_quality quality;

    v->members[2].weight = 10000;
    assert_int_equal(claim_found(v), 0);
    ring_count_owned(v, counts);
    claim_judge(v, v->owner, &quality);
    assert_int_equal(counts[2], 128 / 3);
    assert_int_equal(quality.repeats, 0);
    for (uint16_t m = 0; m < 6; m++)
        if (m != 2)
            assert_in_range(counts[m], 17, 18);
}

/* Windows of n consecutive partitions that meet fewer zones than they could. */
static uint32_t windows_lacking_zones(const struct ring_view *v, unsigned zones)
{
    uint32_t q = 1u << v->q_bits, lacking = 0;

    for (uint32_t p = 0; p < q; p++) {
        uint32_t met = 0;

        for (uint32_t d = 0; d < v->n; d++)
            met |= 1u << v->owner[(p + d) & (q - 1)] % zones;
        lacking += (unsigned)__builtin_popcount(met) < (zones < v->n ? zones : v->n);
    }
    return lacking;
}

static void test_zones(void **state)
{
    (void)state;
    for (unsigned zones = 2; zones <= 5; zones++) {
        for (uint16_t members = (uint16_t)(2 * zones); members <= 24;
             members = (uint16_t)(members + zones)) {
            struct ring_view *v = view(members, 8, 3);
            struct claim_quality quality;

            for (uint16_t m = 0; m < members; m++)
                snprintf(v->members[m].zone, LIMIT_NAME, "zone%u", m % zones);
            assert_int_equal(claim_found(v), 0);
            claim_judge(v, v->owner, &quality);
            assert_int_equal(quality.repeats, 0);
            /* 256 partitions do not divide by three zones: a seam remains. */
            assert_in_range(windows_lacking_zones(v, zones), 0, zones == 3 ? 4 : 0);
        }
    }
}

static void test_neighbours_are_many(void **state)
{
    (void)state;
    struct ring_view *v = view(20, 10, 3);
    bool met[LIMIT_MEMBERS] = {false};
    unsigned distinct = 0;

    assert_int_equal(claim_found(v), 0);
    for (uint32_t p = 0; p < 1024; p++)
        if (v->owner[p] == 4)
            met[v->owner[(p + 1) & 1023]] = true;
    for (int m = 0; m < 20; m++)
        distinct += met[m];
    assert_true(distinct >= 14);
}

static void check_plan(struct ring_view *v, uint32_t allowed_moves)
{
    uint16_t owner[LIMIT_PARTITIONS];
    uint32_t target[LIMIT_MEMBERS], counts[LIMIT_MEMBERS];
    struct claim_quality quality;

    assert_int_equal(claim_plan(v, owner), 0);
    assert_int_equal(claim_targets(v, target), 0);
    claim_judge(v, owner, &quality);
    memcpy(v->owner, owner, sizeof owner);
    ring_count_owned(v, counts);
    for (uint16_t m = 0; m < v->member_count; m++) /* rounding may favour others */
        assert_in_range(counts[m] + 1, target[m], target[m] + 2);
    if (quality.repeats != repeats_bound(v))
        printf("members %u q %u n %u: %u repeats\n", v->member_count, 1u << v->q_bits, v->n,
               quality.repeats);
    assert_int_equal(quality.repeats, repeats_bound(v));
    if (quality.moved > allowed_moves)
        printf("members %u q %u n %u: %u moved, %u allowed\n", v->member_count, 1u << v->q_bits,
               v->n, quality.moved, allowed_moves);
    assert_true(quality.moved <= allowed_moves);
}

/* Members join one by one and leave again: little more moves than the joiner's share. Rings with a
 * seam (as many members as replicas) are rebuilt more thoroughly when they lose it. */
static void test_join_and_leave_move_little(void **state)
{
    (void)state;
    for (uint8_t n = 2; n <= 4; n++) {
        uint16_t most = 24, first = (uint16_t)(n + 3);
        struct ring_view *v = view(most, 8, n);

        v->member_count = first;
        assert_int_equal(claim_found(v), 0);
        for (uint16_t members = (uint16_t)(first + 1); members <= most; members++) {
            v->member_count = members;
            check_plan(v, 256u / members + 1 + 256 / 16);
        }
        for (uint16_t gone = 0; gone < most - n - 3; gone++) {
            v->members[gone].state = MEMBER_LEFT;
            check_plan(v, 256u / (uint32_t)(most - gone) + 1 + 256 / 16);
        }
    }
}

static void test_nothing_changed_nothing_moves(void **state)
{
    (void)state;
    for (uint16_t members = 1; members <= 30; members++) {
        struct ring_view *v = view(members, 7, 3);
        uint16_t owner[LIMIT_PARTITIONS];
        struct claim_quality quality;

        assert_int_equal(claim_found(v), 0);
        assert_int_equal(claim_plan(v, owner), 0);
        claim_judge(v, owner, &quality);
        assert_int_equal(quality.moved, 0);
    }
}

static void test_bad_views_are_refused(void **state)
{
    (void)state;
    struct ring_view *v = view(3, 7, 3);

    v->q_bits = 13;
    assert_int_equal(claim_found(v), -ERR_INVAL);
    v = view(3, 7, 0);
    assert_int_equal(claim_found(v), -ERR_INVAL);
    v = view(0, 7, 3);
    assert_int_equal(claim_found(v), -ERR_INVAL);
    v = view(2, 7, 3);
    v->members[0].state = v->members[1].state = MEMBER_LEFT;
    assert_int_equal(claim_found(v), -ERR_INVAL);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        cmocka_unit_test(test_equal_weights),
        cmocka_unit_test(test_preference_lists_are_whole),
        cmocka_unit_test(test_same_input_same_table),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_a_giant_is_capped),
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_neighbours_are_many),
        cmocka_unit_test(test_join_and_leave_move_little),
        cmocka_unit_test(test_nothing_changed_nothing_moves),
        cmocka_unit_test(test_bad_views_are_refused),
    };

    return cmocka_run_group_tests_name("a claim shares the ring out fairly and keeps owners apart",
                                       claims, NULL, NULL);
}
