/* A blocking client of the Redis protocol. Runs in tools. */
#include "tools/lib_resp.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGEST_REPLY ((size_t)16 << 20)

static int fail(struct resp_client *c, int rc, const char *why)
{
    snprintf(c->why, sizeof c->why, "%s", why);
    return rc;
}

/* Wait until the descriptor is ready, as long as one step may take. */
static int wait_for(struct resp_client *c, short events)
{
    struct pollfd p = {.fd = c->wire.fd, .events = events};
    int n;

    do
        n = poll(&p, 1, (int)c->timeout_ms);
    while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : fail(c, -ERR_TIMEOUT, "no answer in time");
}

static int connect_one(struct resp_client *c, const struct addrinfo *a)
{
    int error = 0;
    socklen_t len = sizeof error;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);

    if (fd < 0)
        return fail(c, -ERR_IO, strerror(errno));
    wire_init(&c->wire, fd);
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        if (errno != EINPROGRESS)
            error = errno;
        else if (wait_for(c, POLLOUT) != 0)
            error = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    if (error == 0)
        return 0;
    wire_close(&c->wire);
    c->wire.fd = -1;
    return fail(c, -ERR_UNAVAILABLE, strerror(error));
}

static int shake(struct resp_client *c, const struct resp_client_conf *conf)
{
    struct tls_conf files = {.cert = conf->cert,
                             .key = conf->key,
                             .ca = conf->ca,
                             .verify = conf->ca[0] != 0 ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE};
    int rc = tls_context_new(&c->tls, &files, c->why);

    if (rc == 0)
        rc = wire_secure(&c->wire, c->tls, false);
    while (rc == 0 && !wire_ready(&c->wire)) {
        uint32_t events = EPOLLIN;

        rc = wire_handshake(&c->wire, &events, c->why);
        if (rc == -ERR_AGAIN)
            rc = wait_for(c, events == EPOLLOUT ? POLLOUT : POLLIN);
    }
    return rc;
}

int resp_client_open(struct resp_client *c, const struct resp_client_conf *conf)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    memset(c, 0, sizeof *c);
    c->wire.fd = -1;
    c->timeout_ms = conf->timeout_ms;
    signal(SIGPIPE, SIG_IGN);
    int rc = getaddrinfo(conf->host, conf->port, &hints, &list);
    if (rc != 0)
        return fail(c, -ERR_NOTFOUND, gai_strerror(rc));
    rc = -ERR_UNAVAILABLE;
    for (const struct addrinfo *a = list; a != NULL && rc != 0; a = a->ai_next)
        rc = connect_one(c, a);
    freeaddrinfo(list);
    return rc == 0 && conf->tls ? shake(c, conf) : rc;
}

void resp_client_close(struct resp_client *c)
{
    wire_close(&c->wire);
    tls_context_free(c->tls);
    buf_free(&c->in);
}

static int send_all(struct resp_client *c, struct buf *out)
{
    while (buf_len(out) > 0) {
        ssize_t n = wire_send(&c->wire, buf_head(out), buf_len(out));

        if (n < 0 && errno == EAGAIN && wait_for(c, POLLOUT) != 0)
            return -ERR_TIMEOUT;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return fail(c, -ERR_CLOSED, strerror(errno));
        if (n > 0)
            buf_consume(out, (size_t)n);
    }
    return 0;
}

static int receive_more(struct resp_client *c)
{
    uint8_t *at = buf_len(&c->in) > LARGEST_REPLY ? NULL : buf_reserve(&c->in, TLS_RECORD);

    if (at == NULL)
        return fail(c, -ERR_LIMIT, "the reply is too long");
    for (;;) {
        ssize_t n = wire_recv(&c->wire, at, TLS_RECORD);

        if (n > 0) {
            buf_filled(&c->in, (size_t)n);
            return 0;
        }
        if (n == 0)
            return fail(c, -ERR_CLOSED, "the node has closed the connection");
        if (errno == EAGAIN && wait_for(c, POLLIN) != 0)
            return -ERR_TIMEOUT;
        if (errno != EAGAIN && errno != EINTR)
            return fail(c, -ERR_CLOSED, strerror(errno));
    }
}

/* Is a reply complete? 1 and *text and *error, 0 if not yet, -ERR_FORMAT. */
static int parse(const struct buf *in, struct slice *text, bool *error)
{
    const char *at = (const char *)buf_head(in);
    const char *line = memchr(at, '\n', buf_len(in));

    if (line == NULL)
        return 0;
    if (line == at || line[-1] != '\r')
        return -ERR_FORMAT;
    *error = at[0] == '-';
    if (at[0] == '+' || at[0] == '-' || at[0] == ':') {
        *text = slice_of(at + 1, (size_t)(line - 1 - at - 1));
        return 1;
    }
    char *end;
    long long len = strtoll(at + 1, &end, 10);
    if (at[0] != '$' || end != line - 1 || len < 0 || (size_t)len > LARGEST_REPLY)
        return -ERR_FORMAT;
    if (buf_len(in) < (size_t)(line + 1 - at) + (size_t)len + 2)
        return 0;
    *text = slice_of(line + 1, (size_t)len);
    return 1;
}

int resp_client_call(struct resp_client *c, const char *const *words, unsigned count,
                     struct slice *text)
{
    struct buf out = {0};
    char head[32];
    bool error = false;
    int rc = 0, n = snprintf(head, sizeof head, "*%u\r\n", count);

    buf_clear(&c->in);
    rc = buf_append(&out, head, (size_t)n);
    for (unsigned i = 0; i < count && rc == 0; i++) {
        n = snprintf(head, sizeof head, "$%zu\r\n", strlen(words[i]));
        rc = buf_append(&out, head, (size_t)n);
        if (rc == 0)
            rc = buf_append(&out, words[i], strlen(words[i]));
        if (rc == 0)
            rc = buf_append(&out, "\r\n", 2);
    }
    if (rc != 0)
        fail(c, rc, err_text(rc));
    else
        rc = send_all(c, &out);
    buf_free(&out);
    while (rc == 0 && (n = buf_len(&c->in) == 0 ? 0 : parse(&c->in, text, &error)) == 0)
        rc = receive_more(c);
    if (rc == 0 && n < 0)
        rc = fail(c, -ERR_FORMAT, "that is no reply in the Redis protocol");
    return rc == 0 && error ? -ERR_DENIED : rc;
}
