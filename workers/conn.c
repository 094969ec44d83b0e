/* Client connections. Runs in workers; never blocks and never runs a command out of order. */
#include "workers/conn.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/sockaddr.h"
#include "workers/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONN_MAGIC 0xc0221ec7u

/* Bytes of one read into a buffer that already holds part of a command: at least READ_MIN; as much
 * as the argument lacks, but no more than has arrived (or READ_STEP), so that memory follows bytes. */
#define READ_MIN  ((size_t)16 << 10)
#define READ_STEP ((size_t)64 << 10)

/* A buffer larger than this is given back as soon as it is empty. */
#define BUFFER_KEEP ((size_t)64 << 10)

/* A client that must read before it is served on, and reads nothing for so long, is disconnected. */
#define STUCK_US 30000000u

/* A connection that alone may grow beyond the limit of all loses this right when silent for so long. */
#define FAVOUR_US 1000000u

/* Failed handshakes are named in the log at most so often. */
#define TLS_LOG_US 1000000u

/* Requests in flight of a connection whose replies have no known size yet. */
#define CONN_FIRST_REQUESTS 16

static void conn_event(void *arg, uint32_t events);
static void shake_due(void *arg);

static uint64_t output_limit(const struct conn *conn)
{
    if (conn_is_stranger(conn))
        return LIMIT_STRANGER_OUTPUT;
    uint64_t limit = conn->clients->engine->conf.output_limit;

    return limit != 0 ? limit : LIMIT_CLIENT_OUTPUT;
}

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

static void account(struct conn *conn)
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

/* May this connection, in the middle of a command, not take more memory now? Beyond the limit one at
 * a time may, until its command is complete or it falls silent: otherwise all could wait for ever. */
static bool memory_is_full(struct conn *conn)
{
    struct clients *c = conn->clients;
    uint64_t most = c->engine->conf.input_total;

    if (most == 0 || c->input_bytes <= most || c->favoured == conn)
        return false;
    if (c->favoured != NULL && c->engine->now_us < c->favoured->active_us + FAVOUR_US)
        return true;
    c->favoured = conn;
    return false;
}

/* What is unsent and what is still to come together: a pipeline of large reads is slowed down before
 * its replies pass the limit at which a slow reader is disconnected. Of a client that has not had a
 * reply yet a few requests are let through, to see how large replies are. */
static bool output_high(const struct conn *conn)
{
    uint64_t most = output_limit(conn) / 4;

    /* Strangers are not worth waiting for: what they do not read soon passes their limit. */
    if (conn_is_stranger(conn))
        return false;

    uint64_t expected = conn->expected != 0 ? conn->expected : most / CONN_FIRST_REQUESTS;

    return buf_len(&conn->out.buf) + conn->held + conn->in_flight * expected > most;
}

void conn_learn_size(struct conn *conn, size_t len)
{
    conn->expected = len > conn->expected ? len : (conn->expected + len + 1) / 2;
    if (len > conn->largest)
        conn->largest = len < LIMIT_VALUE ? len : LIMIT_VALUE;
}

static void watch(struct conn *conn, uint32_t event, bool on)
{
    uint32_t events = conn->watch.events & (EPOLLIN | EPOLLOUT) & ~event;

    if (on)
        events |= event;
    /* Of a socket that is neither read nor written, an error is reported once. */
    loop_modify(conn->clients->loop, &conn->watch, events != 0 ? events : (uint32_t)EPOLLET);
}

static void watch_input(struct conn *conn, bool on)
{
    watch(conn, EPOLLIN, on && !conn->ended);
}

static void watch_output(struct conn *conn, bool on)
{
    watch(conn, EPOLLOUT, on);
}

/* --- replies, in order --- */

static void append_owed(struct conn *conn, struct pending *p)
{
    p->conn = conn;
    p->next = NULL;
    if (conn->tail != NULL)
        conn->tail->next = p;
    else
        conn->head = p;
    conn->tail = p;
    conn->owed += p->commands;
}

struct resp_out *conn_out(struct conn *conn)
{
    struct clients *c = conn->clients;
    struct pending *p = conn->tail;

    if (conn->silent) {
        buf_clear(&c->discard.buf);
        c->discard.protocol = conn->out.protocol;
        return &c->discard;
    }
    clients_dirty(c, conn);
    if (p == NULL)
        return &conn->out;
    if (p->ready) {
        p->commands++;
        conn->owed++;
        p->out.protocol = conn->out.protocol;
        return &p->out;
    }
    p = pending_take(&c->pending);
    p->ready = true;
    p->out.protocol = conn->out.protocol;
    append_owed(conn, p);
    return &p->out;
}

void conn_owe(struct conn *conn, struct pending *p)
{
    p->silent = conn->silent;
    p->out.protocol = conn->out.protocol;
    append_owed(conn, p);
}

void conn_disown(struct conn *conn, struct pending *p)
{
    struct pending *before = conn->head;

    ASSERT(p == conn->tail && p->waiting == 0);
    if (before == p) {
        conn->head = conn->tail = NULL;
    } else {
        while (before->next != p)
            before = before->next;
        before->next = NULL;
        conn->tail = before;
    }
    conn->owed -= p->commands;
    pending_release(&conn->clients->pending, p);
}

struct resp_out *conn_answer_out(struct conn *conn, struct pending *p)
{
    struct resp_out *out = p == conn->head ? &conn->out : &p->out;

    if (p->silent) {
        out = &conn->clients->discard;
        buf_clear(&out->buf);
    }
    return out;
}

void conn_hold(struct conn *conn, struct pending *p)
{
    size_t len = buf_len(&p->out.buf) + buf_len(&p->parts.buf);

    conn->held += len - p->held;
    p->held = len;
    if (conn->held > output_limit(conn))
        clients_dirty(conn->clients, conn);
}

static void send_ready(struct conn *conn)
{
    struct pending *p;

    while ((p = conn->head) != NULL && p->ready) {
        conn->head = p->next;
        if (conn->head == NULL)
            conn->tail = NULL;
        conn->owed -= p->commands;
        conn->held -= p->held;
        if (buf_len(&conn->out.buf) == 0 && buf_len(&p->out.buf) > BUFFER_KEEP) {
            struct buf swap = conn->out.buf;
            conn->out.buf = p->out.buf;
            p->out.buf = swap;
        } else {
            resp_raw(&conn->out, buf_head(&p->out.buf), buf_len(&p->out.buf));
        }
        conn->out.failed |= p->out.failed;
        pending_release(&conn->clients->pending, p);
    }
}

void conn_ready(struct conn *conn, struct pending *p)
{
    ASSERT(p->conn == conn && p->waiting == 0 && !p->ready);
    p->ready = true;
    resp_free(&p->parts);
    if (p == conn->head) {
        /* Its bytes, if any, are in conn->out already, unless it became the head only after they
         * were written. */
        send_ready(conn);
    } else {
        conn_hold(conn, p);
    }
    clients_dirty(conn->clients, conn);
}

/* --- requests, in order --- */

static void stuck_due(void *arg)
{
    struct conn *conn = arg;
    struct clients *c = conn->clients;

    if (conn->stall == CONN_OUTPUT && c->engine->now_us < conn->sent_us + STUCK_US) {
        loop_arm(c->loop, &conn->stuck, loop_now_us(c->loop) + STUCK_US, stuck_due, conn);
        return;
    }
    c->stats.slow_readers++;
    conn_doom(conn);
}

void conn_stall(struct conn *conn, enum conn_stall why)
{
    struct loop *loop = conn->clients->loop;

    if (conn->stall == CONN_RUNS && why != CONN_RUNS)
        conn->clients->stats.paused++, conn->clients->stats.pauses++;
    conn->stall = why;
    if (why == CONN_BUSY || why == CONN_MEMORY)
        clients_stall(conn->clients, conn);
    if (why == CONN_OUTPUT || why == CONN_MEMORY)
        loop_arm(loop, &conn->stuck, loop_now_us(loop) + STUCK_US, stuck_due, conn);
}

static void refuse(struct conn *conn, enum resp_status status)
{
    struct clients *c = conn->clients;
    char text[256];

    switch (status) {
    case RESP_TOO_BIG:
        if (conn->parser.too_long)
            snprintf(text, sizeof text,
                     "ERR command exceeds maximum allowed size (%u bytes, limits.client_input): "
                     "send its keys in several commands",
                     c->limits.max_command);
        else
            snprintf(text, sizeof text, "ERR string exceeds maximum allowed size (%u bytes)",
                     LIMIT_VALUE);
        break;
    case RESP_INVALID:
        c->stats.protocol_errors++;
        conn->silent = false;
        snprintf(text, sizeof text, "ERR Protocol error: %s", conn->parser.error);
        break;
    default:
        log_warn("no memory for the arguments of a client; it is disconnected");
        conn_doom(conn);
        return;
    }
    clients_count_error(c, text);
    resp_error(conn_out(conn), text);
    if (status == RESP_INVALID)
        conn_finish(conn);
}

/* Run the commands in data as far as they are complete and may run. Returns the bytes done with. */
static size_t run_commands(struct conn *conn, uint8_t *data, size_t len)
{
    struct clients *c = conn->clients;
    struct resp_parser *parser = &conn->parser;
    size_t at = 0;

    while (conn->stall == CONN_RUNS && !conn->closing && !conn->doomed) {
        if (c->pressure || !pending_room(&c->pending)) {
            conn_stall(conn, CONN_BUSY);
            break;
        }
        if (!conn->redo) {
            if (at == len)
                break;
            c->limits.unauthenticated = conn_is_stranger(conn);
            enum resp_status status = resp_parse(parser, data + at, len - at, &c->limits);
            if (status == RESP_MORE) {
                at += parser->consumed;
                break;
            }
            if (status != RESP_COMMAND) {
                refuse(conn, status);
                at += parser->consumed;
                continue;
            }
        }
        if (parser->argc > 0) {
            conn->unread = len - at;
            conn->redo = command_run(conn, parser->argc, parser->argv) == CALL_AGAIN;
            conn->unread = 0;
            if (conn->redo) {
                ASSERT(conn->stall != CONN_RUNS);
                break;
            }
        }
        at += parser->consumed;
        if (conn->tail != NULL && conn->tail->ready)
            conn_hold(conn, conn->tail);
        if (conn->owed >= conn_queue_limit(conn))
            conn_stall(conn, CONN_PIPELINE);
        else if (output_high(conn))
            conn_stall(conn, CONN_OUTPUT);
    }
    return at;
}

/* Keep what is left of bytes that lie in the shared scratch buffer. */
static void keep_rest(struct conn *conn, const uint8_t *rest, size_t len)
{
    if (conn->closing || conn->doomed || len == 0)
        return;
    if (buf_append(&conn->in, rest, len) != 0) {
        conn_doom(conn);
        return;
    }
    if (conn->redo) {
        const uint8_t *moved = buf_head(&conn->in);
        for (uint32_t i = 0; i < conn->parser.argc; i++)
            conn->parser.argv[i].data = moved + (conn->parser.argv[i].data - rest);
    }
}

static void run_input(struct conn *conn)
{
    size_t done = run_commands(conn, buf_head(&conn->in), buf_len(&conn->in));

    if (conn->closing || conn->doomed)
        buf_clear(&conn->in);
    else
        buf_consume(&conn->in, done);
    buf_shrink(&conn->in, BUFFER_KEEP);
}

static ssize_t receive(struct conn *conn, void *to, size_t room)
{
    struct clients *c = conn->clients;
    ssize_t n = wire_recv(&conn->wire, to, room);

    c->stats.reads++;
    if (n > 0) {
        c->stats.input_bytes += (uint64_t)n;
        conn->active_us = c->engine->now_us;
        clients_touch(c, conn);
        return n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0) {
        conn_doom(conn);
        return 0;
    }
    /* The client has closed its side; it may still want its replies. */
    conn->ended = true;
    watch_input(conn, false);
    if (conn->stall == CONN_RUNS)
        conn_finish(conn);
    return 0;
}

static void conn_read(struct conn *conn)
{
    struct clients *c = conn->clients;

    if (buf_len(&conn->in) == 0) {
        ssize_t n = receive(conn, c->scratch, sizeof c->scratch);
        if (n > 0) {
            size_t done = run_commands(conn, c->scratch, (size_t)n);
            keep_rest(conn, c->scratch + done, (size_t)n - done);
        }
    } else {
        size_t arrived = buf_len(&conn->in), room = conn->parser.want;

        if (memory_is_full(conn)) {
            conn_stall(conn, CONN_MEMORY);
            watch_input(conn, false);
            return;
        }

        if (room > arrived && room > READ_STEP)
            room = arrived > READ_STEP ? arrived : READ_STEP;
        if (room < READ_MIN)
            room = READ_MIN;
        uint8_t *to = buf_reserve(&conn->in, room);
        if (to == NULL) {
            conn_doom(conn);
            return;
        }
        ssize_t n = receive(conn, to, room);
        if (n > 0) {
            buf_filled(&conn->in, (size_t)n);
            run_input(conn);
        }
    }
    account(conn);
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
        watch_output(conn, false);
        watch_input(conn, !conn->closing);
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
        watch_input(conn, false);
    if (events & (EPOLLERR | EPOLLHUP) &&
        (conn->stall != CONN_RUNS || conn->closing || conn->ended))
        conn_doom(conn);
}

bool conn_resume(struct conn *conn)
{
    if (conn->stall == CONN_MEMORY && memory_is_full(conn)) {
        clients_stall(conn->clients, conn);
        return false;
    }
    conn->clients->stats.paused--;
    conn->stall = CONN_RUNS;
    loop_disarm(conn->clients->loop, &conn->stuck);
    run_input(conn);
    if (conn->stall == CONN_RUNS) {
        if (conn->ended)
            conn_finish(conn);
        else if (!conn->closing)
            watch_input(conn, true);
    }
    account(conn);
    return conn->stall != CONN_BUSY;
}

/* --- the end of a turn --- */

static bool stall_is_over(const struct conn *conn)
{
    if (conn->stall == CONN_PIPELINE)
        return conn->owed <= conn_queue_limit(conn) / 2 &&
               conn->in_flight <= conn_queue_limit(conn) / 2;
    if (conn->stall == CONN_ORDER)
        return conn->in_flight == 0;
    if (conn->stall == CONN_PAUSED)
        return !conn->clients->pausing;
    return conn->stall == CONN_OUTPUT && !output_high(conn);
}

/* Does the client read too slowly? Whoever asks for one value gets it, however small the limit and however
 * slow the client: the largest of the replies does not count. */
static bool reads_too_slowly(struct conn *conn)
{
    size_t unsent = buf_len(&conn->out.buf) + conn->held;

    if (unsent == 0)
        conn->largest = 0;
    return unsent > output_limit(conn) + (conn_is_stranger(conn) ? 0 : conn->largest);
}

/* Returns false if the connection is broken. */
static bool send_out(struct conn *conn)
{
    struct clients *c = conn->clients;
    struct buf *b = &conn->out.buf;

    if (!wire_ready(&conn->wire))
        return true; /* nothing can have been said yet */
    if (buf_len(b) > 0 && !conn->blocked) {
        ssize_t n = wire_send(&conn->wire, buf_head(b), buf_len(b));

        c->stats.writes++;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0) {
            buf_consume(b, (size_t)n);
            c->stats.output_bytes += (uint64_t)n;
            conn->sent_us = c->engine->now_us;
        }
    }
    conn->blocked = buf_len(b) > 0;
    watch_output(conn, conn->blocked);
    buf_shrink(b, BUFFER_KEEP);
    return true;
}

bool conn_flush(struct conn *conn)
{
    CHECK_MAGIC(conn, CONN_MAGIC);
    bool alive = !conn->doomed && !conn->out.failed && send_out(conn);

    if (alive && stall_is_over(conn)) {
        conn_resume(conn);
        alive = !conn->doomed && !conn->out.failed && send_out(conn);
    }
    if (alive && reads_too_slowly(conn)) {
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
    account(conn);
    return true;
}

void conn_finish(struct conn *conn)
{
    conn->closing = true;
    watch_input(conn, false);
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
    account(conn);
    conn->magic = 0;
    free(conn);
}

void conn_trim(struct conn *conn)
{
    buf_shrink(&conn->in, 0);
    buf_shrink(&conn->out.buf, 0);
    account(conn);
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
