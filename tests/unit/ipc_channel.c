/* The control channel: every message in its direction, refusal of everything else. */
#include "ipc/channel.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int fds[2];

static int open_pair(void **state)
{
    (void)state;
    return channel_pair(fds);
}

static int close_pair(void **state)
{
    (void)state;
    close(fds[0]);
    close(fds[1]);
    return 0;
}

static void messages_arrive_as_they_were_sent(void **state)
{
    const struct channel_msg from_child[] = {
        {.kind = CONTROL_READY},
        {.kind = CONTROL_STATUS, .text = "replaying journal, 40 %"},
        {.kind = CONTROL_STATUS},
        {.kind = CONTROL_PONG, .token = UINT64_MAX}};
    const struct channel_msg from_supervisor[] = {
        {.kind = CONTROL_PING, .token = 1},
        {.kind = CONTROL_RELOAD},
        {.kind = CONTROL_DRAIN},
        {.kind = CONTROL_WORKER_UP, .index = 63, .incarnation = 1ull << 61}};
    struct channel_msg got;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(channel_send(fds[1], &from_child[i]), 0);
        assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), 1);
        assert_memory_equal(&got, &from_child[i], sizeof got);
        assert_int_equal(channel_send(fds[0], &from_supervisor[i]), 0);
        assert_int_equal(channel_receive(fds[1], FROM_SUPERVISOR, &got), 1);
        assert_memory_equal(&got, &from_supervisor[i], sizeof got);
    }
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), 0);
}

static void the_wrong_sender_is_refused(void **state)
{
    struct channel_msg drain = {.kind = CONTROL_DRAIN}, ready = {.kind = CONTROL_READY}, got;

    (void)state;
    assert_int_equal(channel_send(fds[1], &drain), 0);
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), -ERR_FORMAT);
    assert_int_equal(channel_send(fds[0], &ready), 0);
    assert_int_equal(channel_receive(fds[1], FROM_SUPERVISOR, &got), -ERR_FORMAT);
}

static void garbage_is_refused(void **state)
{
    static const char *const garbage[] = {"\xff", "\x91\x63", "\x91\xa1x", "\x92\x03", "\x90", "x"};
    /* a worker's verdict about a peer belongs on another socket */
    static const uint8_t verdict[] = {0x94, 20, 0xc4, 0, 0, 0};
    char large[5000];
    struct channel_msg got;

    (void)state;
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        assert_int_equal(send(fds[1], garbage[i], strlen(garbage[i]), 0), strlen(garbage[i]));
        assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), -ERR_FORMAT);
    }
    assert_int_equal(send(fds[1], verdict, sizeof verdict, 0), sizeof verdict);
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), -ERR_FORMAT);
    memset(large, 0x91, sizeof large);
    assert_int_equal(send(fds[1], large, sizeof large, 0), sizeof large);
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), -ERR_FORMAT);
}

static void texts_hold_no_control_characters(void **state)
{
    struct channel_msg status = {.kind = CONTROL_STATUS, .text = "a\nb\033c"}, got;

    (void)state;
    assert_int_equal(channel_send(fds[1], &status), 0);
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), 1);
    assert_string_equal(got.text, "a?b?c");
}

static void a_full_channel_and_a_lost_one_are_told_apart(void **state)
{
    struct channel_msg ping = {.kind = CONTROL_PING}, got;
    int rc = 0;

    (void)state;
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = channel_send(fds[0], &ping);
    assert_int_equal(rc, -ERR_AGAIN);
    close(fds[1]);
    assert_int_equal(channel_send(fds[0], &ping), -ERR_CLOSED);
    assert_int_equal(channel_receive(fds[0], FROM_CHILD, &got), -ERR_CLOSED);
    fds[1] = dup(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_as_they_were_sent, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(the_wrong_sender_is_refused, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(garbage_is_refused, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(texts_hold_no_control_characters, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_full_channel_and_a_lost_one_are_told_apart, open_pair,
                                        close_pair),
    };

    return cmocka_run_group_tests_name("the control channel", tests, NULL, NULL);
}
