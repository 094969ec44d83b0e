/* The hybrid logical clock under clocks that jump. */
#include "core/hlc.h"

#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void stamps_follow_the_wall_clock(void **state)
{
    struct hlc h = {0};

    (void)state;
    assert_int_equal(hlc_now(&h, 1000), 1000u << 16);
    assert_int_equal(hlc_now(&h, 1000), (1000u << 16) + 1);
    assert_int_equal(hlc_now(&h, 1001), 1001u << 16);
    assert_int_equal(hlc_ms(h.last), 1001);
}

static void stamps_never_run_backwards(void **state)
{
    struct hlc h = {0};
    struct rand r;
    uint64_t last = 0, wall = 1000000000;

    (void)state;
    rand_seed(&r, 7);
    for (int i = 0; i < 100000; i++) {
        if (rand_chance(&r, 10000))
            wall += rand_below(&r, 100000) - 50000; /* a jump, as likely back as forth */
        if (rand_chance(&r, 100000))
            hlc_observe(&h, rand_below(&r, (wall + 200000) << 16), wall);
        uint64_t now = hlc_now(&h, wall);

        assert_true(now > last);
        last = now;
    }
}

static void a_remote_stamp_is_passed(void **state)
{
    struct hlc h = {0};

    (void)state;
    hlc_now(&h, 5000);
    assert_true(hlc_observe(&h, (uint64_t)9000 << 16 | 3, 5000));
    assert_int_equal(hlc_now(&h, 5001), (uint64_t)9000 << 16 | 4);
    assert_true(hlc_observe(&h, (uint64_t)100 << 16, 5001));
    assert_int_equal(hlc_now(&h, 5001), (uint64_t)9000 << 16 | 5);
}

static void a_stamp_too_far_ahead_is_not_adopted(void **state)
{
    struct hlc h = {0};
    uint64_t border = (uint64_t)(5000 + HLC_MAX_AHEAD_MS) << 16;

    (void)state;
    hlc_now(&h, 5000);
    assert_false(hlc_observe(&h, border + (1 << 16), 5000));
    assert_false(hlc_observe(&h, UINT64_MAX, 5000));
    assert_int_equal(h.last, 5000u << 16);
    assert_true(hlc_observe(&h, border, 5000));
    assert_int_equal(h.last, border);
}

static void the_logical_part_carries_into_the_milliseconds(void **state)
{
    struct hlc h = {(uint64_t)7 << 16 | 0xffff};

    (void)state;
    assert_int_equal(hlc_now(&h, 7), (uint64_t)8 << 16);
    assert_int_equal(hlc_now(&h, 8), ((uint64_t)8 << 16) + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamps_follow_the_wall_clock),
        cmocka_unit_test(stamps_never_run_backwards),
        cmocka_unit_test(a_remote_stamp_is_passed),
        cmocka_unit_test(a_stamp_too_far_ahead_is_not_adopted),
        cmocka_unit_test(the_logical_part_carries_into_the_milliseconds),
    };

    return cmocka_run_group_tests_name("a clock that only goes forward", tests, NULL, NULL);
}
