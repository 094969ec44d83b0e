/* Without memory a client gets right replies, fewer of them, or a closed connection: never wrong ones.
 * Every allocation of a busy session fails once. */
#include "fake_engine.h"

#include "ipc/loop.h"
#include "workers/conn.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers bring their own allocator, which cannot be replaced. */
#if defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL 0
#else
#define CAN_FAIL 1
#endif

static bool armed;
static long left; /* allocations until the one that fails; below 0: none */

#if CAN_FAIL
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);

void *malloc(size_t size)
{
    return armed && left-- == 0 ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return armed && left-- == 0 ? NULL : __libc_calloc(count, size);
}
#endif

static int paused_put(void *arg, uint64_t token, const struct msg_PUT *put)
{
    bool was = armed;

    armed = false;
    int rc = fake_put(arg, token, put);
    armed = was;
    return rc;
}

static int paused_get(void *arg, uint64_t token, const struct msg_GET *get)
{
    bool was = armed;

    armed = false;
    int rc = fake_get(arg, token, get);
    armed = was;
    return rc;
}

static size_t build_session(char *text)
{
    size_t len = (size_t)sprintf(text,
                                 "SET a 1\r\nGET a\r\nPING\r\nMGET a b a\r\n*3\r\n$3\r\nSET\r\n"
                                 "$1\r\nb\r\n$3000\r\n%03000d\r\n",
                                 7);

    len += (size_t)sprintf(text + len, "GET b\r\nMGET b b b\r\nECHO x\r\nEXISTS a b c\r\n*21\r\n"
                                       "$3\r\nDEL\r\n");
    for (int i = 0; i < 20; i++)
        len += (size_t)sprintf(text + len, "$4\r\nk%03d\r\n", i);
    len += (size_t)sprintf(text + len,
                           "CONFIG GET *\r\nCLUSTER SLOTS\r\nCOMMAND LIST\r\nCW.GET a\r\n");
    return len;
}

/* Run the session with the n-th allocation failing; returns the bytes that came back. */
static size_t run_session(long n, char *out, size_t size, bool *failed)
{
    static char text[16384];
    struct loop *loop = loop_new();
    struct fake *fake = fake_new(loop);
    size_t len = build_session(text), got = 0;
    int pair[2];
    ssize_t r;

    fake->engine.put = paused_put;
    fake->engine.get = paused_get;
    fake->defer = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    left = n;
    armed = true;
    struct conn *conn = clients_adopt(fake->clients, pair[1], CLIENTS_FRONT);
    for (size_t at = 0; conn != NULL && at < len;) {
        size_t step = len - at < 700 ? len - at : 700;
        if (send(pair[0], text + at, step, MSG_NOSIGNAL) != (ssize_t)step)
            break; /* closed */
        at += step;
        loop_turn(loop, 0);
        if (fake->queued > 3)
            fake_deliver(fake, 1);
    }
    /* What has been held back meanwhile is asked for as answers come. */
    for (int quiet = 0; quiet<3; quiet = fake->queued> 0 ? 0 : quiet + 1) {
        while (fake->queued > 0)
            fake_deliver(fake, fake->queued - 1);
        loop_turn(loop, 0);
    }
    armed = false;
    *failed = left < 0;
    while ((r = read(pair[0], out + got, size - got)) > 0)
        got += (size_t)r;
    /* Nothing is left behind. */
    assert_int_equal(fake->clients->pending.taken_requests, 0);
    assert_int_equal(fake->clients->pending.taken_slots, 0);
    close(pair[0]);
    loop_turn(loop, 0);
    assert_int_equal(fake->clients->stats.connected, 0);
    assert_int_equal(fake->clients->stats.buffer_bytes, 0);
    fake_free(fake);
    loop_free(loop);
    return got;
}

static void each_failing_allocation_shortens_the_replies_at_most(void **state)
{
    static char want[65536], got[65536];
    bool failed;
    long n = 0;

    (void)state;
    if (!CAN_FAIL)
        skip();
    size_t full = run_session(LONG_MAX, want, sizeof want, &failed);
    assert_true(full > 4000 && !failed);
    do {
        size_t len = run_session(n++, got, sizeof got, &failed);
        assert_true(len <= full);
        assert_memory_equal(got, want, len);
        if (!failed)
            assert_int_equal(len, full);
    } while (failed);
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failing_allocation_shortens_the_replies_at_most),
    };
    return cmocka_run_group_tests_name("a worker without memory says nothing wrong", tests, NULL,
                                       NULL);
}
