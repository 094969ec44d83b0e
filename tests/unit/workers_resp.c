/* The protocol: commands in any pieces, garbage, replies of both versions. */
#include "core/limits.h"
#include "workers/resp_parse.h"
#include "workers/resp_reply.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct resp_limits limits = {
    .max_args = LIMIT_ARGS, .max_bulk = LIMIT_VALUE, .max_command = LIMIT_CLIENT_INPUT};

/* Parse all of text in pieces of `step` bytes; commands are written to out as "[a|b]", an error as
 * "!text". */
static void parse_all(const char *text, size_t len, size_t step, const struct resp_limits *l,
                      char *out)
{
    struct resp_parser p;
    uint8_t *run = malloc(len + 1);
    size_t held = 0, taken = 0;

    resp_parse_init(&p);
    *out = '\0';
    for (;;) {
        /* The run moves between calls. */
        uint8_t *moved = malloc(len + 1);
        memcpy(moved, run, held);
        free(run);
        run = moved;
        enum resp_status status = resp_parse(&p, run, held, l);
        if (status == RESP_INVALID) {
            out += sprintf(out, "!%s", p.error);
            break;
        }
        if (status == RESP_COMMAND) {
            out += sprintf(out, "[");
            for (uint32_t i = 0; i < p.argc; i++)
                out += sprintf(out, "%s%.*s", i > 0 ? "|" : "", (int)p.argv[i].len,
                               (const char *)p.argv[i].data);
            out += sprintf(out, "]");
        } else if (status == RESP_TOO_BIG) {
            out += sprintf(out, "[too big]");
        } else if (taken == len) {
            break;
        } else {
            size_t n = step < len - taken ? step : len - taken;
            memcpy(run + held, text + taken, n);
            held += n;
            taken += n;
        }
        memmove(run, run + p.consumed, held - p.consumed);
        held -= p.consumed;
    }
    free(run);
    resp_parse_free(&p);
}

static void expect_with(const struct resp_limits *l, const char *text, const char *want)
{
    static char out[1 << 20];

    for (size_t step = 1; step <= 12; step++) {
        parse_all(text, strlen(text), step, l, out);
        assert_string_equal(out, want);
    }
    parse_all(text, strlen(text), strlen(text), l, out);
    assert_string_equal(out, want);
}

static void expect(const char *text, const char *want)
{
    expect_with(&limits, text, want);
}

static void commands_are_found_whatever_the_pieces(void **state)
{
    (void)state;
    expect("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", "[GET|k][PING]");
    expect("PING\r\nGET k\nSET  a\tb \r\n", "[PING][GET|k][SET|a|b]");
    expect("*0\r\n*-10\r\n\r\nPING\r\n", "[][][][PING]");
    expect("*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", "[|\r\n]");
    expect("*9\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1"
           "\r\nh\r\n$1\r\ni\r\n",
           "[a|b|c|d|e|f|g|h|i]");
}

static void inline_quotes_are_those_of_redis(void **state)
{
    (void)state;
    expect("echo \"\\x41\\n\\q\\\"\"\r\n", "[echo|A\nq\"]");
    expect("echo 'a\\'b\\n'\r\n", "[echo|a'b\\n]");
    expect("echo a\"b c\" \"\"\r\n", "[echo|ab c|]");
    expect("echo \"\\x4\" \"\\xzz\"\r\n", "[echo|x4|xzz]");
    expect("set \"\"\"test-key\"\"\" v\r\n", "!unbalanced quotes in request");
    expect("get 'a\r\n", "!unbalanced quotes in request");
    expect("get \"a\"b\r\n", "!unbalanced quotes in request");
    expect("get \"a\\\r\n", "!unbalanced quotes in request");
}

static void garbage_gets_the_errors_of_redis(void **state)
{
    (void)state;
    expect("*3000000000\r\n", "!invalid multibulk length");
    expect("*1048577\r\n", "!invalid multibulk length");
    expect("*\r\n", "!invalid multibulk length");
    expect("*+1\r\n", "!invalid multibulk length");
    expect("*01\r\n", "!invalid multibulk length");
    expect("*1\n$4\r\nPING\r\n", "!invalid multibulk length");
    expect("*99999999999999999999999999\r\n", "!invalid multibulk length");
    expect("*1\r\n$-10\r\n", "!invalid bulk length");
    expect("*1\r\n$2000000000\r\n", "!invalid bulk length");
    expect("*1\r\n$536870913\r\n", "!invalid bulk length");
    expect("*1\r\n$blabla\r\n", "!invalid bulk length");
    expect("*1\r\n$\r\n", "!invalid bulk length");
    expect("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "!expected '$', got 'f'");
    expect("*1\r\n\r\n", "!expected '$', got ' '");
}

static void endless_lines_are_cut_off(void **state)
{
    char *text = malloc(70001), out[256];

    (void)state;
    memset(text, 'x', 70000);
    parse_all(text, 65536, 1000, &limits, out);
    assert_string_equal(out, "");
    parse_all(text, 65537, 1000, &limits, out);
    assert_string_equal(out, "!too big inline request");
    memset(text, '1', 70000);
    text[0] = '*';
    parse_all(text, 65536, 1000, &limits, out);
    assert_string_equal(out, "");
    parse_all(text, 65537, 1000, &limits, out);
    assert_string_equal(out, "!too big mbulk count string");
    memcpy(text, "*1\r\n$", 5);
    parse_all(text, 65536 + 4, 1000, &limits, out);
    assert_string_equal(out, "");
    parse_all(text, 65537 + 4, 1000, &limits, out);
    assert_string_equal(out, "!too big bulk count string");
    free(text);
}

static void strangers_have_small_limits(void **state)
{
    struct resp_limits strict = limits;

    (void)state;
    strict.unauthenticated = true;
    expect_with(&strict, "*10\r\n", "");
    expect_with(&strict, "*11\r\n", "!unauthenticated multibulk length");
    expect_with(&strict, "*1\r\n$16384\r\n", "");
    expect_with(&strict, "*1\r\n$16385\r\n", "!unauthenticated bulk length");
}

static void what_is_too_big_is_skipped(void **state)
{
    struct resp_limits small = {.max_args = 100, .max_bulk = 5, .max_command = 40};

    (void)state;
    expect_with(&small, "*2\r\n$5\r\nabcde\r\n$1\r\nx\r\nPING\r\n", "[abcde|x][PING]");
    expect_with(&small, "*2\r\n$6\r\nabcdef\r\n$1\r\nx\r\nPING\r\n", "[too big][PING]");
    expect_with(&small, "*3\r\n$1\r\nx\r\n$6\r\nabc\r\nf\r\n$0\r\n\r\nPING\r\n", "[too big][PING]");
    expect_with(&small,
                "*4\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n$5\r\nabcde\r\nPING\r\n",
                "[too big][PING]");
    expect_with(&small, "*2\r\n$6\r\nabcdef\r\n$x\r\n", "!invalid bulk length");
}

static void memory_is_given_back_after_a_large_command(void **state)
{
    static char text[200000];
    struct resp_parser p;
    size_t len = (size_t)sprintf(text, "*10000\r\n");

    (void)state;
    for (int i = 0; i < 10000; i++)
        len += (size_t)sprintf(text + len, "$1\r\nx\r\n");
    len += (size_t)sprintf(text + len, "PING\r\n");
    resp_parse_init(&p);
    assert_int_equal(resp_parse(&p, (uint8_t *)text, 5000, &limits), RESP_MORE);
    assert_true(resp_parse_memory(&p) < 50000);
    assert_int_equal(resp_parse(&p, (uint8_t *)text, len, &limits), RESP_COMMAND);
    assert_int_equal(p.argc, 10000);
    size_t at = p.consumed;
    assert_int_equal(resp_parse(&p, (uint8_t *)text + at, len - at, &limits), RESP_COMMAND);
    assert_int_equal(p.argc, 1);
    assert_int_equal(resp_parse_memory(&p), 0);
    resp_parse_free(&p);
}

static void want_says_how_much_of_a_value_is_missing(void **state)
{
    struct resp_parser p;
    uint8_t text[] = "*1\r\n$1000\r\nabc";

    (void)state;
    resp_parse_init(&p);
    assert_int_equal(resp_parse(&p, text, sizeof text - 1, &limits), RESP_MORE);
    assert_int_equal(p.want, 1000 + 2 - 3);
    resp_parse_free(&p);
}

static void write_one_of_each(struct resp_out *out)
{
    resp_simple(out, "s");
    resp_error(out, "E a\r\nb");
    resp_integer(out, INT64_MIN);
    resp_integer(out, 0);
    resp_bulk(out, slice_of("a\0b", 3));
    resp_null(out);
    resp_null_array(out);
    resp_bool(out, true);
    resp_double(out, 1.5);
    resp_double(out, -INFINITY);
    resp_verbatim(out, "txt", slice_str("v"));
    resp_array(out, 1);
    resp_map(out, 2);
    resp_set(out, 3);
}

static void replies_of_both_protocols_are_right(void **state)
{
    static const char two[] = "+s\r\n-E a  b\r\n:-9223372036854775808\r\n:0\r\n$3\r\na\0b\r\n"
                              "$-1\r\n*-1\r\n:1\r\n$3\r\n1.5\r\n$4\r\n-inf\r\n$1\r\nv\r\n*1\r\n"
                              "*4\r\n*3\r\n";
    static const char three[] = "+s\r\n-E a  b\r\n:-9223372036854775808\r\n:0\r\n$3\r\na\0b\r\n"
                                "_\r\n_\r\n#t\r\n,1.5\r\n,-inf\r\n=5\r\ntxt:v\r\n*1\r\n"
                                "%2\r\n~3\r\n";
    struct resp_out out;

    (void)state;
    resp_init(&out);
    write_one_of_each(&out);
    assert_int_equal(buf_len(&out.buf), sizeof two - 1);
    assert_memory_equal(buf_head(&out.buf), two, sizeof two - 1);
    buf_clear(&out.buf);
    out.protocol = 3;
    write_one_of_each(&out);
    assert_int_equal(buf_len(&out.buf), sizeof three - 1);
    assert_memory_equal(buf_head(&out.buf), three, sizeof three - 1);
    assert_false(out.failed);
    resp_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_found_whatever_the_pieces),
        cmocka_unit_test(inline_quotes_are_those_of_redis),
        cmocka_unit_test(garbage_gets_the_errors_of_redis),
        cmocka_unit_test(endless_lines_are_cut_off),
        cmocka_unit_test(strangers_have_small_limits),
        cmocka_unit_test(what_is_too_big_is_skipped),
        cmocka_unit_test(memory_is_given_back_after_a_large_command),
        cmocka_unit_test(want_says_how_much_of_a_value_is_missing),
        cmocka_unit_test(replies_of_both_protocols_are_right),
    };
    return cmocka_run_group_tests_name("the protocol is parsed and written as Redis does it", tests,
                                       NULL, NULL);
}
