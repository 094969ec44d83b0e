/* Tests of base/hist. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/hist.h"
#include "base/rand.h"

#include <stdlib.h>
#include <string.h>

static struct hist a, b, c;

static int clear(void **state)
{
    (void)state;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    memset(&c, 0, sizeof c);
    return 0;
}

static void buckets_are_ordered_and_narrow(void **state)
{
    (void)state;
    for (uint32_t i = 0; i + 1 < HIST_BUCKETS; i++) {
        uint64_t low = hist_bucket_low_us(i), next = hist_bucket_low_us(i + 1);

        assert_true(next > low);
        assert_int_equal(hist_bucket(low), i);
        assert_int_equal(hist_bucket(next - 1), i);
        assert_true(next - low == 1 || (double)(next - low) / (double)low <= 1.0 / 31);
    }
    assert_int_equal(hist_bucket(0), 0);
    assert_int_equal(hist_bucket(UINT32_MAX), HIST_BUCKETS - 1);
    assert_int_equal(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static void an_empty_histogram_answers_zero(void **state)
{
    (void)state;
    assert_int_equal(hist_percentile_us(&a, 0.99), 0);
    assert_int_equal(hist_mean_us(&a), 0);
}

static int compare(const void *x, const void *y)
{
    uint64_t m = *(const uint64_t *)x, n = *(const uint64_t *)y;

    return m < n ? -1 : m > n;
}

static void percentiles_are_within_three_percent(void **state)
{
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static const double shares[] = {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0};
    struct rand r;

    (void)state;
    rand_seed(&r, 7);
    for (int i = 0; i < COUNT; i++) {
        values[i] = 1 + (rand_next(&r) >> (32 + rand_below(&r, 32)));
        hist_add(&a, values[i]);
    }
    qsort(values, COUNT, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        size_t rank = (size_t)(shares[i] * COUNT);
        double exact = (double)values[rank == 0 ? 0 : rank - 1];
        double got = (double)hist_percentile_us(&a, shares[i]);

        assert_true(got >= exact * 0.97 - 1 && got <= exact * 1.03 + 1);
    }
    assert_true(hist_percentile_us(&a, 1.0) <= values[COUNT - 1]);
    assert_int_equal(a.count, COUNT);
    assert_int_equal(a.max_us, values[COUNT - 1]);
}

static void merging_is_adding_all_values(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 8);
    for (int i = 0; i < 5000; i++) {
        uint64_t us = rand_below(&r, 1000000);
        hist_add(i % 3 == 0 ? &a : &b, us);
        hist_add(&c, us);
    }
    hist_merge(&a, &b);
    assert_memory_equal(&a, &c, sizeof a);
}

static void a_difference_is_what_came_since(void **state)
{
    (void)state;
    for (uint64_t us = 0; us < 100; us++)
        hist_add(&a, us);
    memcpy(&b, &a, sizeof a);
    for (int i = 0; i < 10; i++)
        hist_add(&a, 5000);
    hist_difference(&c, &a, &b);
    assert_int_equal(c.count, 10);
    assert_int_equal(c.sum_us, 50000);
    assert_int_equal(c.max_us, 5000);
    assert_int_equal(hist_percentile_us(&c, 0.5), hist_percentile_us(&c, 1.0));
}

int main(void)
{
    const struct CMUnitTest histograms[] = {
        cmocka_unit_test_setup(buckets_are_ordered_and_narrow, clear),
        cmocka_unit_test_setup(an_empty_histogram_answers_zero, clear),
        cmocka_unit_test_setup(percentiles_are_within_three_percent, clear),
        cmocka_unit_test_setup(merging_is_adding_all_values, clear),
        cmocka_unit_test_setup(a_difference_is_what_came_since, clear),
    };
    return cmocka_run_group_tests_name("a histogram keeps latencies within three percent",
                                       histograms, NULL, NULL);
}
