/* What a connection is told: replies in the order of the commands, sent once a turn, and held back from
 * whoever does not read them. */
#include "workers/conn_impl.h"

#include "base/check.h"

#include <errno.h>

/* Requests in flight of a connection whose replies have no known size yet. */
#define CONN_FIRST_REQUESTS 16

/* Bytes around a value in a reply, at most. */
#define RESP_AROUND 32

static uint64_t output_limit(const struct conn *conn)
{
    if (conn_is_stranger(conn))
        return LIMIT_STRANGER_OUTPUT;
    uint64_t limit = conn->clients->engine->conf.output_limit;

    return limit != 0 ? limit : LIMIT_CLIENT_OUTPUT;
}

/* What a client that reads is kept below: its own limit, or three quarters of what all connections of
 * the worker may hold, since buffers take up to a quarter more than is in them. */
static uint64_t output_bound(const struct conn *conn)
{
    uint64_t limit = output_limit(conn), total = conn->clients->engine->conf.output_total;

    return total == 0 || limit < total / 4 * 3 ? limit : total / 4 * 3;
}

static uint64_t unsent(const struct conn *conn)
{
    return buf_len(&conn->out.buf) + conn->held;
}

/* With the answers that are under way, as large as they can be. */
static uint64_t most_unsent(const struct conn *conn)
{
    return unsent(conn) + conn->reads * (uint64_t)(LIMIT_VALUE + RESP_AROUND);
}

bool conn_output_high(const struct conn *conn)
{
    uint64_t most = output_limit(conn) / 4;

    /* Strangers are not worth waiting for: what they do not read soon passes their limit. */
    if (conn_is_stranger(conn))
        return false;

    uint64_t expected = conn->expected != 0 ? conn->expected : most / CONN_FIRST_REQUESTS;

    return unsent(conn) + conn->in_flight * expected > most ||
           most_unsent(conn) > output_bound(conn);
}

bool conn_output_full(const struct conn *conn)
{
    const struct pending *p = conn->gather;
    bool next = p != NULL && p == conn->head && buf_len(&conn->out.buf) == 0;

    return !next && most_unsent(conn) > output_bound(conn);
}

void conn_ask(struct conn *conn, const struct pending *p)
{
    conn->in_flight++;
    conn->reads += p->read;
}

void conn_answered(struct conn *conn, const struct pending *p)
{
    ASSERT(conn->reads >= p->read);
    conn->in_flight--;
    conn->reads -= p->read;
}

void conn_learn_size(struct conn *conn, size_t len)
{
    conn->expected = len > conn->expected ? len : (conn->expected + len + 1) / 2;
    if (len > conn->largest)
        conn->largest = len < LIMIT_VALUE ? len : LIMIT_VALUE;
}

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
        if (buf_len(&conn->out.buf) == 0 && buf_len(&p->out.buf) > CONN_BUFFER_KEEP) {
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

bool conn_reads_too_slowly(struct conn *conn)
{
    if (unsent(conn) == 0)
        conn->largest = 0;
    return unsent(conn) > output_limit(conn) + (conn_is_stranger(conn) ? 0 : conn->largest);
}

bool conn_send(struct conn *conn)
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
    conn_watch_output(conn, conn->blocked);
    buf_shrink(b, CONN_BUFFER_KEEP);
    return true;
}
