/* MONITOR: what a watcher is shown of what others run, and what it is not; INFO errorstats. */
#include "cmd_kit.h"

static int watch(void)
{
    int watcher = client();

    put_text(watcher, "MONITOR\r\n");
    assert_string_equal(got(watcher), "+OK\r\n");
    return watcher;
}

/* What a watcher is shown comes a little later. */
static const char *shown_to(int watcher)
{
    turn();
    usleep(11000);
    return got(watcher);
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

static void run_many(int times)
{
    for (int i = 0; i < times; i++)
        put_text(fd, "ECHO x\r\n");
    got(fd);
}

static void a_watcher_is_shown_the_commands_of_others_in_redis_words(void **state)
{
    (void)state;
    int watcher = watch();
    EXPECT("SET k \"a\\\"\\x00\\n\\xff\"", "+OK\r\n");
    EXPECT("get k", "$5\r\na\"");
    assert_string_equal(shown_to(watcher),
                        "+1700000000.000000 [0 ?:0] \"SET\" \"k\" \"a\\\"\\x00\\n\\xff\"\r\n"
                        "+1700000000.000000 [0 ?:0] \"get\" \"k\"\r\n");
    close(watcher);
    turn();
    EXPECT("PING", "+PONG\r\n");
}

static void what_may_hold_a_password_is_not_shown(void **state)
{
    (void)state;
    int watcher = watch();
    put_text(
        fd,
        "ACL SETUSER u >secret on\r\nAUTH u secret\r\nHELLO 2 AUTH u secret\r\n"
        "CONFIG SET requirepass secret\r\nAUTT secret\r\nCLIENT FOO secret\r\nNOSUCH secret\r\n");
    got(fd);
    const char *shown = shown_to(watcher);
    assert_null(strstr(shown, "secret"));
    assert_non_null(strstr(shown, "\"HELLO\" \"2\" \"... (3 more arguments)\""));
    assert_int_equal(count(shown, "\r\n"), 1);
    close(watcher);
}

static void long_commands_are_shown_in_part(void **state)
{
    char key[101] = "";

    (void)state;
    int watcher = watch();
    memset(key, 'k', 100);
    for (int args = 15; args <= 17; args++) {
        put_text(fd, "DEL");
        for (int i = 1; i < args; i++)
            put_text(fd, " a");
        put_text(fd, "\r\n");
        got(fd);
        assert_int_equal(count(shown_to(watcher), "(1 more arguments)"), args == 17);
    }
    for (int len = 63; len <= 65; len++) {
        put_text(fd, "GET ");
        assert_int_equal(write(fd, key, (size_t)len), len);
        put_text(fd, "\r\n");
        got(fd);
        assert_int_equal(count(shown_to(watcher), "... (1 more bytes)"), len == 65);
    }
    close(watcher);
}

static void no_more_is_shown_than_the_rate_allows_and_the_rest_is_counted(void **state)
{
    (void)state;
    int watcher = watch();
    fake->engine.now_us += 1000000;
    run_many(99);
    assert_int_equal(count(shown_to(watcher), "\"ECHO\""), 99);
    run_many(2);
    const char *shown = shown_to(watcher);
    assert_int_equal(count(shown, "\"ECHO\""), 1);
    assert_non_null(strstr(shown, "[0 clockwise:0] \"missed\" \"1\""));
    run_many(41);
    shown = shown_to(watcher);
    assert_int_equal(count(shown, "\r\n"), 1);
    assert_non_null(strstr(shown, "[0 clockwise:0] \"missed\" \"41\""));
    fake->engine.now_us += 1000000 / LIMIT_MONITOR_RATE * 2;
    run_many(3);
    shown = shown_to(watcher);
    assert_int_equal(count(shown, "\"ECHO\""), 2);
    assert_non_null(strstr(shown, "\"missed\" \"1\""));
    close(watcher);
}

static void a_watcher_that_does_not_read_misses_lines_and_holds_little(void **state)
{
    static char all[8u << 20];
    size_t len = 0, seen = 0;
    int rounds = 1000, quiet = 0;

    (void)state;
    int watcher = watch();
    for (int i = 0; i < rounds; i++) {
        fake->engine.now_us += 1000000;
        run_many(100);
        if (i % 2 == 0)
            usleep(2000);
    }
    assert_true(fake->clients->output_bytes < 2u << 20);
    assert_int_equal(fake->clients->stats.connected, 2);
    while (quiet < 120) { /* a second and more: then the rest is said */
        const char *text = shown_to(watcher);
        size_t part = strlen(text);

        assert_true(len + part < sizeof all);
        memcpy(all + len, text, part + 1);
        len += part;
        quiet = part == 0 ? quiet + 1 : 0;
    }
    seen = count(all, "\"ECHO\"");
    assert_true(seen < 100u * (size_t)rounds);
    for (const char *at = all; (at = strstr(at, "\"missed\" \"")) != NULL; at += 10)
        seen += strtoul(at + 10, NULL, 10);
    assert_int_equal(seen, 100 * rounds);
    close(watcher);
}

static void so_many_may_watch_and_no_more(void **state)
{
    int watchers[LIMIT_MONITORS];

    (void)state;
    for (int i = 0; i < LIMIT_MONITORS; i++)
        watchers[i] = watch();
    EXPECT("MONITOR", "-ERR 4 connections of this worker monitor it already\r\n");
    put_text(watchers[0], "RESET\r\n");
    got(watchers[0]);
    EXPECT("MONITOR", "+OK\r\n");
    put_text(fd, "CLIENT INFO\r\n");
    assert_non_null(strstr(got(fd), " flags=O "));
    for (int i = 0; i < LIMIT_MONITORS; i++)
        close(watchers[i]);
}

static void errors_are_counted_by_their_first_word(void **state)
{
    (void)state;
    EXPECT("INFO errorstats", "$14\r\n# Errorstats\r\n\r\n");
    put_text(fd, "NOSUCH\r\nGET\r\nAUTH a b\r\nHELLO 9\r\nCLIENT FOO\r\n");
    got(fd);
    EXPECT("INFO errorstats", "$93\r\n# Errorstats\r\nerrorstat_ERR:count=3\r\n"
                              "errorstat_NOPROTO:count=1\r\nerrorstat_WRONGPASS:count=1\r\n\r\n");
    put_text(fd, "INFO\r\n");
    assert_non_null(strstr(got(fd), "errorstat_ERR:count=3\r\n"));
    EXPECT("CONFIG RESETSTAT", "+OK\r\n");
    EXPECT("INFO errorstats", "$14\r\n# Errorstats\r\n\r\n");
}

static void kinds_of_errors_are_bounded(void **state)
{
    struct activity_error list[ACTIVITY_ERRORS] = {0};
    char text[64];

    (void)state;
    for (int i = 0; i < ACTIVITY_ERRORS; i++) {
        snprintf(text, sizeof text, i == 0 ? "ERR what" : "KIND%d what", i);
        activity_errors(list, text, 1);
        assert_int_equal(list[0].count, 1);
    }
    activity_errors(list, "ONEMORE what", 2);
    assert_int_equal(list[0].count, 3);
    activity_errors(list, "KIND31", 1);
    assert_int_equal(list[31].count, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_watcher_is_shown_the_commands_of_others_in_redis_words),
        T(what_may_hold_a_password_is_not_shown),
        T(long_commands_are_shown_in_part),
        T(no_more_is_shown_than_the_rate_allows_and_the_rest_is_counted),
        T(a_watcher_that_does_not_read_misses_lines_and_holds_little),
        T(so_many_may_watch_and_no_more),
        T(errors_are_counted_by_their_first_word),
        T(kinds_of_errors_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
