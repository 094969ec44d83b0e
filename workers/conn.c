/* Client connections: their life and their turns. Runs in workers; never blocks and never runs a command
 * out of order. */
#include "workers/conn_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/sockaddr.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONN_MAGIC 0xc0221ec7u

/* Failed handshakes are named in the log at most so often. */
#define TLS_LOG_US 1000000u

uint32_t conn_queue_limit(const struct conn *conn)
{
    uint32_t limit = conn->clients->engine->conf.queue_limit;

    return limit != 0 ? limit : LIMIT_PIPELINE;
}

bool conn_is_stranger(const struct conn *conn)
{
    return !conn->authenticated && acl_closed(&conn->clients->acl);
}

void conn_login(struct conn *conn, struct acl_user *user)
{
    struct acl_user *before = conn->user;

    conn->user = acl_user_ref(user);
    conn->authenticated = true;
    acl_user_unref(before);
}

void conn_logout(struct conn *conn)
{
    const struct acl *a = &conn->clients->acl;

    conn_login(conn, a->standard);
    conn->authenticated = !acl_closed(a);
}

void conn_account(struct conn *conn)
{
    struct clients *c = conn->clients;
    size_t in = conn->in.capacity + resp_parse_memory(&conn->parser);
    size_t out = conn->out.buf.capacity + conn->held;

    c->input_bytes += in - conn->counted_in;
    c->output_bytes += out - conn->counted_out;
    c->stats.buffer_bytes = c->input_bytes + c->output_bytes;
    conn->counted_in = in;
    conn->counted_out = out;
    if (c->favoured == conn && buf_len(&conn->in) == 0)
        c->favoured = NULL;
}

static void watch(struct conn *conn, uint32_t event, bool on)
{
    uint32_t events = conn->watch.events & (EPOLLIN | EPOLLOUT) & ~event;

    if (on)
        events |= event;
    /* Of a socket that is neither read nor written, an error is reported once. */
    loop_modify(conn->clients->loop, &conn->watch, events != 0 ? events : (uint32_t)EPOLLET);
}

void conn_watch_input(struct conn *conn, bool on)
{
    watch(conn, EPOLLIN, on && !conn->ended);
}

void conn_watch_output(struct conn *conn, bool on)
{
    watch(conn, EPOLLOUT, on);
}

/* --- the handshake, under TLS --- */

static void shake_due(void *arg)
{
    struct conn *conn = arg;

    conn->clients->stats.tls_failures++;
    conn_doom(conn);
}

/* Returns true when it is done. */
static bool conn_shake(struct conn *conn)
{
    struct clients *c = conn->clients;
    char why[TLS_WHY] = "", peer[80];
    uint32_t wanted = EPOLLIN;
    int rc = wire_handshake(&conn->wire, &wanted, why);

    if (rc == -ERR_AGAIN) {
        loop_modify(c->loop, &conn->watch, wanted);
        return false;
    }
    loop_disarm(c->loop, &conn->stuck);
    if (rc == 0) {
        c->stats.tls_handshakes++;
        conn_watch_output(conn, false);
        conn_watch_input(conn, !conn->closing);
        return true;
    }
    c->stats.tls_failures++;
    /* Whoever only looks whether somebody listens is not worth a line. */
    if (rc != -ERR_CLOSED && c->engine->now_us >= c->tls_logged_us + TLS_LOG_US) {
        c->tls_logged_us = c->engine->now_us;
        conn_address(conn, false, peer, sizeof peer);
        log_info("TLS handshake with %s failed: %s", peer, why);
    }
    conn_doom(conn);
    return false;
}

/* --- a turn --- */

static void conn_event(void *arg, uint32_t events)
{
    struct conn *conn = arg;

    CHECK_MAGIC(conn, CONN_MAGIC);
    if (!wire_ready(&conn->wire) && !conn_shake(conn))
        return;
    if (events & EPOLLOUT) {
        conn->blocked = false;
        clients_dirty(conn->clients, conn);
    }
    if (events & EPOLLIN && !conn->closing && conn->stall == CONN_RUNS)
        conn_read(conn);
    else if (events & EPOLLIN)
        conn_watch_input(conn, false);
    if (events & (EPOLLERR | EPOLLHUP) &&
        (conn->stall != CONN_RUNS || conn->closing || conn->ended))
        conn_doom(conn);
}

bool conn_flush(struct conn *conn)
{
    CHECK_MAGIC(conn, CONN_MAGIC);
    bool alive = !conn->doomed && !conn->out.failed && conn_send(conn);

    if (alive && conn_stall_is_over(conn)) {
        conn_resume(conn);
        alive = !conn->doomed && !conn->out.failed && conn_send(conn);
    }
    if (alive && conn_reads_too_slowly(conn)) {
        conn->clients->stats.slow_readers++;
        log_info("client %llu reads too slowly; it is disconnected", (unsigned long long)conn->id);
        alive = false;
    }
    if (alive && conn->closing && conn->head == NULL && buf_len(&conn->out.buf) == 0)
        alive = false;
    if (!alive) {
        conn_close(conn);
        return false;
    }
    conn_account(conn);
    return true;
}

/* --- beginning and end --- */

struct conn *conn_open(struct clients *c, int fd, enum clients_port port, uint64_t id)
{
    struct conn *conn = calloc(1, sizeof *conn);

    if (conn == NULL) {
        close(fd);
        return NULL;
    }
    conn->magic = CONN_MAGIC;
    wire_init(&conn->wire, fd);
    conn->clients = c;
    conn->port = port;
    conn->id = id;
    resp_parse_init(&conn->parser);
    resp_init(&conn->out);
    conn_logout(conn);
    conn->created_us = conn->active_us = conn->sent_us = c->engine->now_us;
    const struct engine_conf *conf = &c->engine->conf;
    if ((conf->tls != NULL && wire_secure(&conn->wire, conf->tls, true) != 0) ||
        loop_add(c->loop, &conn->watch, fd, EPOLLIN, conn_event, conn) != 0) {
        wire_close(&conn->wire);
        acl_user_unref(conn->user);
        free(conn);
        return NULL;
    }
    if (!wire_ready(&conn->wire)) {
        uint32_t most_ms = conf->handshake_ms != 0 ? conf->handshake_ms : CLIENTS_HANDSHAKE_MS;
        loop_arm(c->loop, &conn->stuck, loop_now_us(c->loop) + most_ms * 1000ull, shake_due, conn);
    }
    return conn;
}

void conn_finish(struct conn *conn)
{
    conn->closing = true;
    conn_watch_input(conn, false);
    clients_dirty(conn->clients, conn);
}

void conn_doom(struct conn *conn)
{
    conn->doomed = true;
    clients_dirty(conn->clients, conn);
}

void conn_close(struct conn *conn)
{
    struct clients *c = conn->clients;

    CHECK_MAGIC(conn, CONN_MAGIC);
    loop_remove(c->loop, &conn->watch);
    loop_disarm(c->loop, &conn->stuck);
    wire_close(&conn->wire);
    if (conn->stall != CONN_RUNS)
        c->stats.paused--;
    if (conn->gather != NULL)
        conn->gather->waiting--;
    for (struct pending *p = conn->head, *next; p != NULL; p = next) {
        next = p->next;
        p->conn = NULL;
        if (p->waiting == 0)
            pending_release(&c->pending, p);
    }
    clients_forget(c, conn);
    acl_user_unref(conn->user);
    buf_free(&conn->in);
    resp_free(&conn->out);
    resp_parse_free(&conn->parser);
    conn->held = 0;
    conn_account(conn);
    conn->magic = 0;
    free(conn);
}

void conn_trim(struct conn *conn)
{
    buf_shrink(&conn->in, 0);
    buf_shrink(&conn->out.buf, 0);
    conn_account(conn);
}

void conn_address(const struct conn *conn, bool local, char *out, size_t size)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char text[LIMIT_ADDR];
    uint16_t port;
    int rc = local ? getsockname(conn->wire.fd, (struct sockaddr *)&address, &len)
                   : getpeername(conn->wire.fd, (struct sockaddr *)&address, &len);

    if (rc != 0)
        address.ss_family = AF_UNSPEC;
    sockaddr_read(&address, text, &port);
    bool v6 = address.ss_family == AF_INET6;
    snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", text[0] != 0 ? text : "?", port);
}
