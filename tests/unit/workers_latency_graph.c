/* The picture of LATENCY GRAPH: as redis-server 7.0 draws the same spikes. */
#include "workers/latency_graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define LINE "--------------------------------------------------------------------------------\n"

static void expect(const struct latency_sample *samples, size_t count, const char *want)
{
    struct resp_out text;

    resp_init(&text);
    latency_graph_write(&text, "command", samples, count, 1000000);
    resp_raw(&text, "", 1);
    assert_string_equal((const char *)buf_head(&text.buf), want);
    resp_free(&text);
}

static void spikes_are_columns_with_their_age_below(void **state)
{
    static const uint32_t ms[] = {10, 20, 30, 50, 100, 200, 10}, age[] = {8, 7, 6, 5, 4, 3, 1};
    struct latency_sample s[7];

    (void)state;
    for (int i = 0; i < 7; i++)
        s[i] = (struct latency_sample){0, 1000000 - age[i], ms[i], 200};
    expect(s, 7,
           "command - high 200 ms, low 10 ms (all time high 200 ms)\n" LINE "     # \n"
           "     | \n"
           "    #| \n"
           "__o#||_\n"
           "       \n"
           "8765431\n"
           "sssssss\n");
}

static void ages_have_the_largest_unit_that_fits_and_clocks_may_go_back(void **state)
{
    struct latency_sample s[] = {{0, 1000000 - 86400 * 11, 7, 9},
                                 {0, 1000000 - 86399, 7, 9},
                                 {0, 1000000 - 60, 7, 9},
                                 {0, 1000005, 7, 9}};

    (void)state;
    expect(s, 4,
           "command - high 7 ms, low 7 ms (all time high 9 ms)\n" LINE "    \n"
           "    \n"
           "    \n"
           "____\n"
           "    \n"
           "1210\n"
           "13ms\n"
           "dh  \n");
}

static void more_than_a_line_of_spikes_takes_several_pictures(void **state)
{
    struct latency_sample s[81];
    struct resp_out text;
    int lines = 0;

    (void)state;
    for (int i = 0; i < 81; i++)
        s[i] = (struct latency_sample){0, 1000000, UINT32_MAX - (uint32_t)i, UINT32_MAX};
    resp_init(&text);
    latency_graph_write(&text, "command", s, 81, 1000000);
    for (size_t i = 0; i < buf_len(&text.buf); i++)
        lines += buf_head(&text.buf)[i] == '\n';
    assert_int_equal(lines, 2 + 2 * (4 + 1 + 2));
    resp_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spikes_are_columns_with_their_age_below),
        cmocka_unit_test(ages_have_the_largest_unit_that_fits_and_clocks_may_go_back),
        cmocka_unit_test(more_than_a_line_of_spikes_takes_several_pictures),
    };
    return cmocka_run_group_tests_name("spikes are drawn", tests, NULL, NULL);
}
