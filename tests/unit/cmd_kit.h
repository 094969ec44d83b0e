/* A client of the commands over an engine that is a map: say something, see what comes back. For unit
 * tests of the client side; include first. */
#ifndef CLOCKWISE_TESTS_CMD_KIT_H
#define CLOCKWISE_TESTS_CMD_KIT_H

#include "fake_engine.h"

#include "ipc/loop.h"
#include "workers/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static struct fake *fake;
static int fd;

static inline int client(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_non_null(clients_adopt(fake->clients, pair[1], CLIENTS_FRONT));
    return pair[0];
}

static inline int setup(void **state)
{
    (void)state;
    loop = loop_new();
    fake = fake_new(loop);
    fd = client();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    close(fd);
    fake_free(fake);
    loop_free(loop);
    return 0;
}

static inline void turn(void)
{
    for (int i = 0; i < 4; i++)
        loop_turn(loop, 0);
}

static inline void put_text(int to, const char *text)
{
    assert_int_equal(write(to, text, strlen(text)), strlen(text));
}

/* What has been replied, up to 64 KiB; "closed" is appended if the connection has ended. */
static inline const char *got(int from)
{
    static char text[65536];
    size_t len = 0;
    ssize_t n = -1;

    turn();
    while (len < sizeof text - 8 && (n = read(from, text + len, sizeof text - 8 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    if (n == 0)
        strcat(text, "closed");
    return text;
}

#define EXPECT(request, reply)                                                                     \
    do {                                                                                           \
        put_text(fd, request "\r\n");                                                              \
        assert_string_equal(got(fd), reply);                                                       \
    } while (0)

#endif
