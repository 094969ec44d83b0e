/* TLS streams over socket pairs: handshakes, bytes both ways, wrong certificates, garbage. */
#include "base/err.h"
#include "base/rand.h"
#include "ipc/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/clockwise-tls-XXXXXX";

static int make_certificates(void **state)
{
    char command[256];

    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(command, sizeof command, "tests/certificates %s", dir);
    return system(command);
}

static int remove_certificates(void **state)
{
    char command[256];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static int context(struct tls_context **out, const char *name, const char *key, const char *ca,
                   enum tls_verify verify, char why[TLS_WHY])
{
    char paths[3][128];

    snprintf(paths[0], sizeof paths[0], "%s/%s.crt", dir, name);
    snprintf(paths[1], sizeof paths[1], "%s/%s.key", dir, key);
    snprintf(paths[2], sizeof paths[2], "%s/%s.crt", dir, ca);
    return tls_context_new(
        out,
        &(struct tls_conf){.cert = paths[0], .key = paths[1], .ca = paths[2], .verify = verify},
        why);
}

static struct tls_context *good(const char *name, const char *ca, enum tls_verify verify)
{
    struct tls_context *c;
    char why[TLS_WHY] = "";

    assert_int_equal(context(&c, name, name, ca, verify, why), 0);
    return c;
}

static void connect_pair(struct wire *a, struct wire *b, struct tls_context *caller,
                         struct tls_context *called)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    wire_init(a, fds[0]);
    wire_init(b, fds[1]);
    assert_int_equal(wire_secure(a, caller, false), 0);
    assert_int_equal(wire_secure(b, called, true), 0);
}

/* Both sides in turns. Returns the first error but -ERR_AGAIN, or 0. */
static int shake(struct wire *a, struct wire *b)
{
    for (int i = 0; i < 20 && (!wire_ready(a) || !wire_ready(b)); i++) {
        struct wire *w = i % 2 == 0 ? a : b;
        char why[TLS_WHY] = "";
        uint32_t events = 0;

        if (wire_ready(w))
            continue;
        int rc = wire_handshake(w, &events, why);
        if (rc != 0 && rc != -ERR_AGAIN) {
            assert_string_not_equal(why, "");
            return rc;
        }
        if (rc == -ERR_AGAIN)
            assert_int_equal(events, EPOLLIN);
    }
    return wire_ready(a) && wire_ready(b) ? 0 : -ERR_AGAIN;
}

static void nodes_that_trust_one_authority_shake_hands_and_talk(void **state)
{
    struct tls_context *c = good("node", "ca", TLS_VERIFY_REQUIRED);
    struct wire a, b;
    static char to[TLS_RECORD];

    (void)state;
    connect_pair(&a, &b, c, c);
    assert_int_equal(shake(&a, &b), 0);
    assert_int_equal(wire_send(&a, "question", 8), 8);
    assert_int_equal(wire_recv(&b, to, sizeof to), 8);
    assert_memory_equal(to, "question", 8);
    assert_int_equal(wire_recv(&b, to, sizeof to), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(wire_send(&b, "answer", 6), 6);
    assert_int_equal(wire_recv(&a, to, sizeof to), 6);
    wire_close(&b);
    assert_int_equal(wire_recv(&a, to, sizeof to), 0);
    wire_close(&a);
    assert_int_equal(a.fd, -1);
    tls_context_free(c);
}

static void a_megabyte_goes_through_a_full_socket_whole_and_in_order(void **state)
{
    struct tls_context *c = good("node", "ca", TLS_VERIFY_REQUIRED);
    size_t total = 1u << 20, sent = 0, got = 0;
    uint8_t *data = malloc(total), *back = malloc(total + TLS_RECORD);
    struct wire a, b;
    int full = 0;

    (void)state;
    for (size_t i = 0; i < total; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    connect_pair(&a, &b, c, c);
    assert_int_equal(shake(&a, &b), 0);
    while (got < total) {
        ssize_t n = sent < total ? wire_send(&a, data + sent, total - sent) : 0;
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            full++;
        } else {
            sent += (size_t)n;
        }
        n = wire_recv(&b, back + got, TLS_RECORD);
        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        else
            got += (size_t)n;
    }
    assert_true(full > 0);
    assert_memory_equal(data, back, total);
    wire_close(&a);
    wire_close(&b);
    free(data);
    free(back);
    tls_context_free(c);
}

static void a_certificate_of_another_authority_is_refused_by_either_side(void **state)
{
    struct tls_context *mine = good("node", "ca", TLS_VERIFY_REQUIRED);
    struct tls_context *theirs = good("stranger", "ca", TLS_VERIFY_REQUIRED);
    struct wire a, b;

    (void)state;
    connect_pair(&a, &b, theirs, mine);
    assert_int_equal(shake(&a, &b), -ERR_DENIED);
    wire_close(&a);
    wire_close(&b);
    connect_pair(&a, &b, mine, theirs);
    assert_int_equal(shake(&a, &b), -ERR_DENIED);
    wire_close(&a);
    wire_close(&b);
    tls_context_free(mine);
    tls_context_free(theirs);
}

static void an_optional_certificate_may_be_bad_only_by_being_absent(void **state)
{
    struct tls_context *server = good("node", "ca", TLS_VERIFY_OPTIONAL);
    struct tls_context *stranger = good("stranger", "ca", TLS_VERIFY_NONE);
    struct wire a, b;

    (void)state;
    connect_pair(&a, &b, stranger, server);
    assert_int_equal(shake(&a, &b), -ERR_DENIED);
    wire_close(&a);
    wire_close(&b);
    tls_context_free(server);
    tls_context_free(stranger);
}

static void files_that_cannot_be_used_are_refused_with_their_names(void **state)
{
    struct tls_context *c;
    char why[TLS_WHY];

    (void)state;
    assert_int_equal(context(&c, "nothing", "node", "ca", TLS_VERIFY_REQUIRED, why), -ERR_INVAL);
    assert_non_null(strstr(why, "nothing.crt"));
    assert_int_equal(context(&c, "node", "client", "ca", TLS_VERIFY_REQUIRED, why), -ERR_INVAL);
    assert_non_null(strstr(why, "client.key"));
    assert_int_equal(context(&c, "node", "locked", "ca", TLS_VERIFY_REQUIRED, why), -ERR_INVAL);
    assert_non_null(strstr(why, "locked.key"));
    assert_int_equal(context(&c, "node", "node", "absent", TLS_VERIFY_REQUIRED, why), -ERR_INVAL);
    assert_non_null(strstr(why, "absent.crt"));
    assert_int_equal(context(&c, "node", "node", "absent", TLS_VERIFY_NONE, why), 0);
    tls_context_free(c);
    tls_context_free(NULL);
}

/* What a client says first, taken off the wire. */
static size_t client_hello(struct tls_context *c, uint8_t *to, size_t room)
{
    int fds[2];
    struct wire w;
    uint32_t events;
    char why[TLS_WHY];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    wire_init(&w, fds[0]);
    assert_int_equal(wire_secure(&w, c, false), 0);
    assert_int_equal(wire_handshake(&w, &events, why), -ERR_AGAIN);
    ssize_t n = recv(fds[1], to, room, 0);
    assert_true(n > 100);
    wire_close(&w);
    close(fds[1]);
    return (size_t)n;
}

static void a_handshake_that_comes_byte_by_byte_gets_as_far_as_a_whole_one(void **state)
{
    struct tls_context *c = good("node", "ca", TLS_VERIFY_REQUIRED);
    uint8_t hello[2048], answer[TLS_RECORD];
    size_t len = client_hello(c, hello, sizeof hello);
    char why[TLS_WHY];
    uint32_t events;
    struct wire w;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    wire_init(&w, fds[0]);
    assert_int_equal(wire_secure(&w, c, true), 0);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(recv(fds[1], answer, sizeof answer, 0), -1);
        assert_int_equal(send(fds[1], hello + i, 1, 0), 1);
        assert_int_equal(wire_handshake(&w, &events, why), -ERR_AGAIN);
    }
    assert_true(recv(fds[1], answer, sizeof answer, 0) > 500);
    wire_close(&w);
    close(fds[1]);
    tls_context_free(c);
}

static void garbage_ends_the_handshake_with_an_error_and_nothing_worse(void **state)
{
    struct tls_context *c = good("node", "ca", TLS_VERIFY_REQUIRED);
    uint8_t hello[2048], bent[2048];
    size_t len = client_hello(c, hello, sizeof hello);
    struct rand r;

    (void)state;
    rand_seed(&r, 7);
    for (int round = 0; round < 2000; round++) {
        uint32_t events;
        char why[TLS_WHY];
        struct wire w;
        int fds[2];

        memcpy(bent, hello, len);
        if (round % 4 == 0)
            for (size_t i = 0; i < len; i++)
                bent[i] = (uint8_t)rand_next(&r);
        else
            for (uint64_t flips = 1 + rand_below(&r, 8); flips > 0; flips--)
                bent[rand_below(&r, len)] = (uint8_t)rand_next(&r);
        size_t part = round % 8 == 1 ? rand_below(&r, len) : len;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        wire_init(&w, fds[0]);
        assert_int_equal(wire_secure(&w, c, true), 0);
        assert_int_equal(send(fds[1], bent, part, 0), (ssize_t)part);
        shutdown(fds[1], SHUT_WR);
        int rc = -ERR_AGAIN;
        for (int i = 0; i < 4 && rc == -ERR_AGAIN; i++)
            rc = wire_handshake(&w, &events, why);
        assert_true(rc < 0);
        assert_false(wire_ready(&w));
        wire_close(&w);
        close(fds[1]);
    }
    tls_context_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_that_trust_one_authority_shake_hands_and_talk),
        cmocka_unit_test(a_megabyte_goes_through_a_full_socket_whole_and_in_order),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused_by_either_side),
        cmocka_unit_test(an_optional_certificate_may_be_bad_only_by_being_absent),
        cmocka_unit_test(files_that_cannot_be_used_are_refused_with_their_names),
        cmocka_unit_test(a_handshake_that_comes_byte_by_byte_gets_as_far_as_a_whole_one),
        cmocka_unit_test(garbage_ends_the_handshake_with_an_error_and_nothing_worse),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
