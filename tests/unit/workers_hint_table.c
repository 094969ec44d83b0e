/* Tests of workers/hint_table. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"
#include "workers/hint_table.h"

#include <stdlib.h>

#define PARTITIONS 64

static struct hint_table table;

static int open_table(void **state)
{
    (void)state;
    hint_table_init(&table, PARTITIONS);
    return 0;
}

static int close_table(void **state)
{
    (void)state;
    hint_table_free(&table);
    return 0;
}

static void an_empty_table_has_no_pairs(void **state)
{
    (void)state;
    for (uint16_t m = 0; m < LIMIT_MEMBERS; m++)
        assert_null(hint_table_pair(&table, m, m % PARTITIONS));
}

static void the_last_hint_takes_all_bytes_with_it(void **state)
{
    (void)state;
    assert_int_equal(hint_table_add(&table, 3, 7, 1, 100, 50), 0);
    assert_int_equal(hint_table_add(&table, 3, 7, 2, 31, 40), 0);
    assert_int_equal(hint_table_pair(&table, 3, 7)->count, 3);
    assert_int_equal(hint_table_pair(&table, 3, 7)->oldest_ms, 40);
    for (int i = 0; i < 3; i++)
        hint_table_remove(&table, 3, 7);
    assert_null(hint_table_pair(&table, 3, 7));
    assert_int_equal(table.targets[3].bytes, 0);
    assert_int_equal(table.bytes, 0);
    /* What comes next does not inherit the age of what has gone. */
    assert_int_equal(hint_table_add(&table, 3, 7, 1, 1, 90), 0);
    assert_int_equal(hint_table_pair(&table, 3, 7)->oldest_ms, 90);
}

static void sums_agree_over_random_changes(void **state)
{
    struct rand rand;

    (void)state;
    rand_seed(&rand, 1);
    for (int i = 0; i < 20000; i++) {
        uint16_t m = (uint16_t)(rand_next(&rand) % 5);
        uint32_t p = (uint32_t)(rand_next(&rand) % PARTITIONS);

        if (rand_next(&rand) % 2 != 0)
            assert_int_equal(hint_table_add(&table, m, p, 1, rand_next(&rand) % 1000, i), 0);
        else if (hint_table_pair(&table, m, p) != NULL)
            hint_table_remove(&table, m, p);
    }
    uint64_t count = 0, bytes = 0, held = 0;

    for (uint16_t m = 0; m < 5; m++) {
        count += table.targets[m].count;
        bytes += table.targets[m].bytes;
    }
    for (uint32_t p = 0; p < PARTITIONS; p++)
        held += table.held[p];
    assert_true(count > 0);
    assert_int_equal(count, table.count);
    assert_int_equal(held, table.count);
    assert_int_equal(bytes, table.bytes);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_table, close_table)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_table_has_no_pairs),
        TEST(the_last_hint_takes_all_bytes_with_it),
        TEST(sums_agree_over_random_changes),
    };

    return cmocka_run_group_tests_name("counts of hints", tests, NULL, NULL);
}
