/* Numeric addresses and sockets. */
#include "base/err.h"
#include "ipc/sockaddr.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_both_ways(void **state)
{
    static const char *const text[] = {"127.0.0.1", "10.20.30.255", "::1", "2001:db8::7"};

    (void)state;
    for (unsigned i = 0; i < sizeof text / sizeof text[0]; i++) {
        struct sockaddr_storage a;
        char back[LIMIT_ADDR];
        uint16_t port;

        assert_true(sockaddr_make(text[i], (uint16_t)(40000 + i), &a) > 0);
        sockaddr_read(&a, back, &port);
        assert_string_equal(back, text[i]);
        assert_int_equal(port, 40000 + i);
    }
}

static void test_no_address(void **state)
{
    static const char *const text[] = {"", "localhost", "1.2.3", "1.2.3.4.5", "::g", "[::1]"};
    struct sockaddr_storage a;
    char back[LIMIT_ADDR] = "left over";
    uint16_t port = 1;

    (void)state;
    for (unsigned i = 0; i < sizeof text / sizeof text[0]; i++) {
        assert_int_equal(sockaddr_make(text[i], 1, &a), 0);
        assert_int_equal(sockaddr_connect(text[i], 1), -ERR_INVAL);
    }
    memset(&a, 0, sizeof a);
    a.ss_family = AF_UNIX;
    sockaddr_read(&a, back, &port);
    assert_string_equal(back, "");
    assert_int_equal(port, 0);
}

static void test_connect(void **state)
{
    struct sockaddr_storage a;
    socklen_t len = sockaddr_make("127.0.0.1", 0, &a);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char back[LIMIT_ADDR];
    uint16_t port;

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    sockaddr_read(&a, back, &port);
    int fd = sockaddr_connect("127.0.0.1", port);
    assert_true(fd >= 0);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&p, 1, -1), 1);
    int error = -1;
    socklen_t size = sizeof error;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    assert_int_equal(error, 0);
    close(fd);
    close(listener);
}

#define TEST(text, function)                                                                       \
    {                                                                                              \
        text, function, NULL, NULL, NULL                                                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("an address of either family goes there and back", test_both_ways),
        TEST("what is no numeric address is refused", test_no_address),
        TEST("a connection is begun without waiting for it", test_connect),
    };

    return cmocka_run_group_tests_name("sockaddr", tests, NULL, NULL);
}
