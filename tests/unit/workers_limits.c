/* The bounds of one worker's clients: at one less, equal and one more. */
#include "cmd_kit.h"

static void a_queue_of_the_configured_length_is_filled_and_not_passed(void **state)
{
    (void)state;
    EXPECT("GET first", "$-1\r\n");
    fake->engine.conf.queue_limit = 3;
    fake->defer = true;
    put_text(fd, "GET a\r\nGET b\r\n");
    turn();
    assert_int_equal(fake->queued, 2);
    assert_int_equal(fake->clients->stats.paused, 0);
    put_text(fd, "GET c\r\n");
    turn();
    assert_int_equal(fake->queued, 3);
    put_text(fd, "GET d\r\n");
    turn();
    assert_int_equal(fake->queued, 3);
    assert_int_equal(fake->clients->stats.paused, 1);
    while (fake->queued > 0) {
        fake_deliver(fake, 0);
        turn();
    }
    assert_string_equal(got(fd), "$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
    assert_int_equal(fake->gets, 5);
}

static void clients_over_the_limit_are_refused(void **state)
{
    int pair[2];

    (void)state;
    fake->engine.conf.max_clients = 1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_null(clients_adopt(fake->clients, pair[1], CLIENTS_FRONT));
    assert_string_equal(got(pair[0]), "-ERR max number of clients reached\r\nclosed");
    close(pair[0]);
}

static void idle_clients_are_closed_and_hold_no_memory(void **state)
{
    (void)state;
    EXPECT("PING", "+PONG\r\n");
    fake->engine.now_us += 3000000;
    usleep(1010000);
    turn();
    assert_int_equal(fake->clients->stats.buffer_bytes, 0);
    fake->engine.conf.timeout_s = 5;
    fake->engine.now_us += 2000000;
    usleep(1010000);
    assert_string_equal(got(fd), "");
    fake->engine.now_us += 1;
    usleep(1010000);
    assert_string_equal(got(fd), "closed");
}

static void a_value_that_is_too_big_is_refused_and_the_connection_lives(void **state)
{
    static char chunk[65536];
    size_t left = LIMIT_VALUE + 1;

    (void)state;
    put_text(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388609\r\n");
    while (left > 0) {
        ssize_t n = write(fd, chunk, left < sizeof chunk ? left : sizeof chunk);
        left -= n > 0 ? (size_t)n : 0;
        loop_turn(loop, 0);
        assert_true(fake->clients->stats.buffer_bytes < 1u << 20);
    }
    put_text(fd, "\r\nPING\r\n");
    assert_string_equal(got(fd),
                        "-ERR string exceeds maximum allowed size (8388608 bytes)\r\n+PONG\r\n");
}

static void unfinished_commands_share_a_limit(void **state)
{
    static const char head[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000\r\n";
    static char part[300002];
    int many[8];

    (void)state;
    fake->engine.conf.input_total = 500000;
    for (int i = 0; i < 8; i++) {
        many[i] = client();
        put_text(many[i], head);
    }
    turn();
    size_t sent[8] = {0};
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 8; i++) {
            ssize_t n = write(many[i], part, sizeof part - 2 - sent[i]);
            sent[i] += n > 0 ? (size_t)n : 0;
            if (sent[i] == sizeof part - 2 && write(many[i], "\r\n", 2) == 2)
                sent[i] += 2;
        }
        loop_turn(loop, 1000);
        assert_true(fake->clients->stats.buffer_bytes < 2500000);
        if (fake->puts == 8)
            break;
    }
    assert_int_equal(fake->puts, 8);
    for (int i = 0; i < 8; i++) {
        assert_string_equal(got(many[i]), "+OK\r\n");
        close(many[i]);
    }
}

static void unread_replies_to_strangers_may_be_few_bytes(void **state)
{
    static char text[LIMIT_STRANGER_OUTPUT];

    (void)state;
    int rc;
    assert_true(acl_require(&fake->clients->acl, "secret", &rc));
    int other = client();
    struct conn *conn = fake->clients->active.last;
    conn->blocked = true; /* the socket takes nothing */
    resp_raw(&conn->out, text, LIMIT_STRANGER_OUTPUT - 1);
    assert_true(conn_flush(conn));
    resp_raw(&conn->out, text, 1);
    assert_true(conn_flush(conn));
    resp_raw(&conn->out, text, 1);
    assert_false(conn_flush(conn));
    assert_string_equal(got(other), "closed");
    close(other);
}

static void a_key_or_a_value_may_be_as_long_as_the_limit_says(void **state)
{
    static char text[LIMIT_VALUE + 2];
    char head[64];

    (void)state;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 6; i++) {
        size_t len = (i < 3 ? LIMIT_KEY : LIMIT_VALUE) - 1 + (size_t)i % 3, sent = 0;

        snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$%zu\r\n", i < 3 ? len : 1);
        put_text(fd, head);
        if (i >= 3) {
            snprintf(head, sizeof head, "k\r\n$%zu\r\n", len);
            put_text(fd, head);
        }
        while (sent < len) {
            ssize_t n = write(fd, text, len - sent);
            sent += n > 0 ? (size_t)n : 0;
            loop_turn(loop, 0);
        }
        put_text(fd, i < 3 ? "\r\n$1\r\nv\r\n" : "\r\n");
        const char *beyond = i == 2
                                 ? "-ERR key exceeds maximum allowed size (65536 bytes)\r\n"
                                 : "-ERR string exceeds maximum allowed size (8388608 bytes)\r\n";
        assert_string_equal(got(fd), i % 3 == 2 ? beyond : "+OK\r\n");
    }
}

static void unfinished_commands_together_may_be_as_many_bytes_as_the_limit_says(void **state)
{
    (void)state;
    for (int less = -1; less <= 1; less++) {
        int first = client(), other = client();
        struct clients *c = fake->clients;

        put_text(first, "*2\r\n$3\r\nGET\r\n$100\r\nk");
        put_text(other, "*2\r\n$3\r\nGET\r\n$100\r\nk");
        turn();
        c->favoured = c->active.last->previous; /* one may pass the limit; it is not the other */
        fake->engine.conf.input_total = c->input_bytes - (uint64_t)(int64_t)less;
        put_text(other, "k");
        turn();
        assert_int_equal(c->stats.paused, less == 1);
        close(first);
        close(other);
        fake->engine.conf.input_total = 0;
        fake->engine.now_us += 10000000;
        turn();
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_queue_of_the_configured_length_is_filled_and_not_passed),
        T(clients_over_the_limit_are_refused),
        T(idle_clients_are_closed_and_hold_no_memory),
        T(a_value_that_is_too_big_is_refused_and_the_connection_lives),
        T(unfinished_commands_share_a_limit),
        T(unread_replies_to_strangers_may_be_few_bytes),
        T(a_key_or_a_value_may_be_as_long_as_the_limit_says),
        T(unfinished_commands_together_may_be_as_many_bytes_as_the_limit_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
