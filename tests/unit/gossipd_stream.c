/* Exchanges of gossip: a question, an answer, what the other lacks, and nothing else. */
#include "base/clock.h"
#include "base/err.h"
#include "gossipd/stream.h"
#include "ipc/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US 5000000u

struct side {
    struct stream_ops ops;
    struct stream_set *set;
    size_t tell_len; /* of the packet that it tells */
    size_t adds_len; /* of what it adds to an answer */
    int verdict;     /* what take() answers */
    unsigned told, answered, taken, malformed, done, failed;
    size_t taken_len;
};

struct world {
    struct loop *loop;
    struct side a, b;
    int listen_fd;
    uint16_t port;
};

static int tell(void *arg, enum member_turn turn, struct buf *out)
{
    struct side *s = arg;
    size_t len = turn == MEMBER_ADDS ? s->adds_len : s->tell_len;

    if (len > 0) {
        memset(buf_reserve(out, len), "QA+"[turn], len);
        buf_filled(out, len);
    }
    s->told += turn == MEMBER_ASKS;
    s->answered += turn == MEMBER_ANSWERS;
    return 0;
}

static int take(void *arg, const struct member_endpoint *from, struct slice packet)
{
    struct side *s = arg;

    assert_string_equal(from->address, "127.0.0.1");
    if (packet.len == 0) {
        s->malformed++;
        return -ERR_FORMAT;
    }
    s->taken++;
    s->taken_len = packet.len;
    return s->verdict;
}

static void done(void *arg, bool ok)
{
    struct side *s = arg;

    s->done += ok;
    s->failed += !ok;
}

static void open_side(struct world *w, struct side *s, int listen_fd)
{
    s->ops = (struct stream_ops){.arg = s, .tell = tell, .take = take, .done = done};
    s->tell_len = 100;
    assert_int_equal(stream_open(&s->set, w->loop, listen_fd, &s->ops), 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->loop = loop_new();
    w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->listen_fd, 64), 0);
    assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&a, &len), 0);
    w->port = ntohs(a.sin_port);
    open_side(w, &w->a, -1);
    open_side(w, &w->b, w->listen_fd);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    stream_close(w->a.set);
    stream_close(w->b.set);
    loop_free(w->loop);
    close(w->listen_fd);
    free(w);
    return 0;
}

#define UNTIL(w, condition)                                                                        \
    do {                                                                                           \
        uint64_t end = clock_mono_us() + PATIENCE_US;                                              \
        while (!(condition) && clock_mono_us() < end)                                              \
            loop_turn((w)->loop, 1000);                                                            \
        assert_true(condition);                                                                    \
    } while (0)

static void test_exchange(void **state)
{
    struct world *w = *state;

    for (unsigned i = 1; i <= 50; i++) {
        w->a.tell_len = i * 977;
        w->b.tell_len = i * 1311;
        stream_exchange(w->a.set, "127.0.0.1", w->port);
        stream_exchange(w->a.set, "127.0.0.1", w->port); /* is under way: does nothing */
        UNTIL(w, w->a.done == i);
        assert_int_equal(w->b.taken, i);
        assert_int_equal(w->a.taken, i);
        assert_int_equal(w->b.taken_len, w->a.tell_len);
        assert_int_equal(w->a.taken_len, w->b.tell_len);
    }
    assert_int_equal(w->a.failed + w->b.failed, 0);
}

static void test_adds(void **state)
{
    struct world *w = *state;

    for (unsigned i = 1; i <= 50; i++) {
        w->a.adds_len = i * 1711;
        stream_exchange(w->a.set, "127.0.0.1", w->port);
        UNTIL(w, w->a.done == i && w->b.taken == 2 * i);
        assert_int_equal(w->b.taken_len, w->a.adds_len);
        assert_int_equal(w->a.taken, i);
        assert_int_equal(w->b.answered, i);
    }
    assert_int_equal(w->a.failed + w->b.failed, 0);
}

static void test_callers_packet(void **state)
{
    struct world *w = *state;

    stream_send(w->a.set, "127.0.0.1", w->port, slice_str("a probe"));
    stream_send(w->a.set, "127.0.0.1", w->port, slice_str("another"));
    stream_exchange(w->a.set, "127.0.0.1", w->port); /* probes do not stand in its way */
    UNTIL(w, w->a.done == 3);
    assert_int_equal(w->b.taken, 3);
    assert_int_equal(w->a.taken, 3);
    assert_int_equal(w->a.told, 1);
    for (unsigned i = 0; i < 40; i++) /* more than there may be */
        stream_send(w->a.set, "127.0.0.1", w->port, slice_str("too many"));
    assert_true(w->a.failed > 0);
    UNTIL(w, w->a.done + w->a.failed == 43);
}

static void test_large(void **state)
{
    struct world *w = *state;

    w->a.tell_len = w->b.tell_len = 900000;
    stream_exchange(w->a.set, "127.0.0.1", w->port);
    UNTIL(w, w->a.done == 1);
    assert_int_equal(w->b.taken_len, 900000);
    w->a.tell_len = 2000000; /* more than anybody has to say */
    stream_exchange(w->a.set, "127.0.0.1", w->port);
    UNTIL(w, w->a.failed == 1);
    assert_int_equal(w->b.taken, 1);
    assert_int_equal(w->b.malformed, 1);
}

static void test_refused(void **state)
{
    struct world *w = *state;

    w->b.verdict = -ERR_DENIED;
    stream_exchange(w->a.set, "127.0.0.1", w->port);
    UNTIL(w, w->a.failed == 1);
    assert_int_equal(w->b.answered, 0);
    stream_exchange(w->a.set, "no address", w->port);
    assert_int_equal(w->a.failed, 2);
    stream_exchange(w->a.set, "127.0.0.1", 1); /* nobody listens there */
    UNTIL(w, w->a.failed == 3);
}

static void say_until_closed(struct world *w, const void *data, size_t len)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t end = clock_mono_us() + PATIENCE_US;
    uint8_t sink[512];
    ssize_t n = -1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    send(fd, data, len, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (n != 0 && clock_mono_us() < end) {
        loop_turn(w->loop, 1000);
        n = recv(fd, sink, sizeof sink, 0);
        if (n < 0 && errno == ECONNRESET)
            n = 0;
    }
    assert_int_equal(n, 0);
    close(fd);
}

static void test_garbage(void **state)
{
    struct world *w = *state;
    struct buf frame = {0};

    assert_int_equal(frame_append(&frame, slice_str("a packet")), 0);
    for (size_t bit = 0; bit < buf_len(&frame) * 8; bit++) {
        buf_head(&frame)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        say_until_closed(w, buf_head(&frame), buf_len(&frame));
        buf_head(&frame)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < buf_len(&frame); cut++)
        say_until_closed(w, buf_head(&frame), cut);
    assert_int_equal(w->b.taken, 0);
    assert_true(w->b.malformed > 0);
    stream_exchange(w->a.set, "127.0.0.1", w->port);
    UNTIL(w, w->a.done == 1);
    buf_free(&frame);
}

#define TEST(text, function)                                                                       \
    {                                                                                              \
        text, function, setup, teardown, NULL                                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("both sides learn what the other knows", test_exchange),
        TEST("the caller may add what the other lacks", test_adds),
        TEST("a packet of the caller's own gets an answer", test_callers_packet),
        TEST("packets are bounded", test_large),
        TEST("who is not believed gets no answer", test_refused),
        TEST("damaged and cut exchanges end, others do not notice", test_garbage),
    };

    return cmocka_run_group_tests_name("full exchanges of gossip", tests, NULL, NULL);
}
