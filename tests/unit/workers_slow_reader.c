/* Clients that read slowly or not at all. */
#include "cmd_kit.h"

static void unread_replies_may_be_as_many_bytes_as_the_limit_says(void **state)
{
    static char text[101];
    struct conn *conn = fake->clients->active.first;

    (void)state;
    memset(text, 'x', 100);
    fake->engine.conf.output_limit = 100;
    conn->blocked = true; /* the socket takes nothing */
    resp_raw(&conn->out, text, 99);
    assert_true(conn_flush(conn));
    resp_raw(&conn->out, text, 1);
    assert_true(conn_flush(conn));
    resp_raw(&conn->out, text, 1);
    assert_false(conn_flush(conn));
    assert_int_equal(fake->clients->stats.slow_readers, 1);
    assert_string_equal(got(fd), "closed");
}

static void one_value_comes_however_small_the_limit_and_slow_the_reader(void **state)
{
    char request[1100], value[1001];
    struct conn *conn = fake->clients->active.first;

    (void)state;
    memset(value, 'x', 1000);
    value[1000] = '\0';
    snprintf(request, sizeof request, "SET k %s\r\n", value);
    put_text(fd, request);
    assert_string_equal(got(fd), "+OK\r\n");
    fake->engine.conf.output_limit = 100;
    for (int round = 0; round < 2; round++) {
        ssize_t junk = 0, n;

        while ((n = write(conn->wire.fd, value, 1000)) > 0 ||
               (n = write(conn->wire.fd, value, 1)) > 0)
            junk += n; /* until the socket takes nothing more */
        put_text(fd, "GET k\r\n");
        turn();
        assert_int_equal(buf_len(&conn->out.buf), 7 + 1000 + 2);
        if (round == 1) { /* what comes on top of it counts */
            resp_raw(&conn->out, value, 101);
            assert_false(conn_flush(conn));
            return;
        }
        junk += 7 + 1000 + 2;
        for (int tries = 0; junk > 0 && tries < 100; tries++)
            junk -= (ssize_t)strlen(got(fd));
        assert_int_equal(junk, 0);
        assert_int_equal(fake->clients->stats.slow_readers, 0);
    }
}

static void all_unread_replies_together_may_be_as_many_bytes_as_the_limit_says(void **state)
{
    static char text[60000];
    int other = client();
    struct conn *conn = fake->clients->active.first, *larger = fake->clients->active.last;

    (void)state;
    memset(text, 'x', sizeof text);
    while (write(conn->wire.fd, text, sizeof text) > 0 || write(larger->wire.fd, text, 9999) > 0)
        ; /* until the sockets take nothing more */
    resp_raw(&conn->out, text, 10000);
    resp_raw(&larger->out, text, sizeof text);
    assert_true(conn_flush(conn) && conn_flush(larger));
    size_t sum = fake->clients->output_bytes;
    for (int less = -1; less <= 1; less++) {
        fake->engine.conf.output_total = sum - (uint64_t)(int64_t)less;
        clients_dirty(fake->clients, conn);
        turn();
        assert_int_equal(fake->clients->stats.connected, less == 1 ? 1 : 2);
    }
    assert_ptr_equal(fake->clients->active.first, conn);
    close(other);
}

static void a_client_that_does_not_read_is_stopped_and_then_dropped(void **state)
{
    static char value[100001];
    char request[64];

    (void)state;
    memset(value, 'x', 100000);
    sprintf(request, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n");
    int other = client();
    put_text(other, request);
    for (size_t at = 0; at < 100000;) {
        ssize_t n = write(other, value + at, 100000 - at);
        at += n > 0 ? (size_t)n : 0;
        turn();
    }
    put_text(other, "\r\n");
    assert_string_equal(got(other), "+OK\r\n");
    fake->engine.conf.output_limit = 4u << 20;
    for (int i = 0; i < 200; i++)
        put_text(other, "GET k\r\n");
    turn();
    assert_int_equal(fake->clients->stats.paused, 1);
    assert_true(fake->gets < 50);
    assert_true(fake->clients->stats.buffer_bytes < 8u << 20);
    size_t received = 0;
    for (int i = 0; i < 100000 && fake->gets < 200; i++) {
        char sink[65536];
        ssize_t n = read(other, sink, sizeof sink);
        received += n > 0 ? (size_t)n : 0;
        loop_turn(loop, 0);
    }
    assert_int_equal(fake->gets, 200);
    fake->engine.conf.output_limit = 1000;
    put_text(other, "PING\r\n");
    turn();
    close(other);
    turn();
    assert_true(received > 0);
}

/* After many small replies a burst of large ones must not be more than the client may leave unread. */
static void a_client_that_reads_is_not_dropped_however_sizes_vary(void **state)
{
    enum { LARGE = 1 << 20, READS = 64 };
    struct conn *conn = fake->clients->active.first;
    char *request = malloc(LARGE + 100), *sink = malloc(LARGE);
    size_t received = 0, want = (size_t)READS * (LARGE + 12);
    int len = sprintf(request, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n", LARGE);

    (void)state;
    memset(request + len, 'x', LARGE);
    memcpy(request + len + LARGE, "\r\n", 3);
    for (size_t at = 0, all = (size_t)len + LARGE + 2; at < all; turn()) {
        ssize_t n = write(fd, request + at, all - at);
        at += n > 0 ? (size_t)n : 0;
    }
    assert_string_equal(got(fd), "+OK\r\n");
    for (int i = 0; i < 100; i++)
        EXPECT("GET none", "$-1\r\n");

    fake->engine.conf.output_limit = 20u << 20;
    fake->defer = true;
    for (int way = 0; way < 2; way++) { /* by itself, and many by one command */
        for (int i = 0; i < (way == 0 ? READS : READS / 16); i++)
            put_text(fd, way == 0 ? "GET large\r\n"
                                  : "MGET large large large large large large large large large "
                                    "large large large large large large large\r\n");
        received = 0;
        want = (size_t)READS * (LARGE + 12) + (way == 0 ? 0 : READS / 16 * 5);
        for (int i = 0; i < 100000 && received < want; i++) {
            while (fake->queued > 0)
                fake_deliver(fake, 0);
            loop_turn(loop, 0);
            assert_int_equal(fake->clients->stats.slow_readers, 0);
            assert_true(buf_len(&conn->out.buf) + conn->held <= (20u << 20) + LARGE + 12);
            ssize_t n = read(fd, sink, LARGE);
            received += n > 0 ? (size_t)n : 0;
        }
        assert_int_equal(received, want);
        assert_int_equal(conn->reads, 0);
    }
    free(request);
    free(sink);
}

static void reads_under_way_could_fill_the_limit_and_not_more(void **state)
{
    const uint64_t each = LIMIT_VALUE + 32; /* with what is around a value in a reply */

    (void)state;
    EXPECT("GET none", "$-1\r\n");
    fake->defer = true;
    for (int more = -1; more <= 1; more++) {
        fake->engine.conf.output_limit = 3 * each + (uint64_t)more;
        for (int i = 0; i < 10; i++)
            put_text(fd, "GET none\r\n");
        turn();
        /* One more than fits: the largest reply does not count. */
        assert_int_equal(fake->queued, more < 0 ? 3 : 4);
        while (fake->queued > 0) {
            fake_deliver(fake, 0);
            turn();
        }
        assert_int_equal(strlen(got(fd)), 10 * 5);
    }
    /* The share of the total counts for as much as a quarter less. */
    fake->engine.conf.output_total = 4 * each;
    for (int i = 0; i < 10; i++)
        put_text(fd, "SET a b GET\r\n");
    turn();
    assert_int_equal(fake->queued, 4);
    while (fake->queued > 0) {
        fake_deliver(fake, 0);
        turn();
    }
    got(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(unread_replies_may_be_as_many_bytes_as_the_limit_says),
        T(one_value_comes_however_small_the_limit_and_slow_the_reader),
        T(all_unread_replies_together_may_be_as_many_bytes_as_the_limit_says),
        T(a_client_that_does_not_read_is_stopped_and_then_dropped),
        T(a_client_that_reads_is_not_dropped_however_sizes_vary),
        T(reads_under_way_could_fill_the_limit_and_not_more),
    };

    return cmocka_run_group_tests_name("a client that reads slowly", tests, NULL, NULL);
}
