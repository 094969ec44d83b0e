/* What a connection is asked: bytes become commands, which are run in order, or wait. */
#include "workers/conn_impl.h"

#include "base/check.h"
#include "base/log.h"
#include "workers/command.h"

#include <errno.h>
#include <stdio.h>

/* Bytes of one read into a buffer that already holds part of a command: at least READ_MIN; as much
 * as the argument lacks, but no more than has arrived (or READ_STEP), so that memory follows bytes. */
#define READ_MIN  ((size_t)16 << 10)
#define READ_STEP ((size_t)64 << 10)

/* A client that must read before it is served on, and reads nothing for so long, is disconnected. */
#define STUCK_US 30000000u

/* A connection that alone may grow beyond the limit of all loses this right when silent for so long. */
#define FAVOUR_US 1000000u

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
        else if (conn_output_high(conn))
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
    buf_shrink(&conn->in, CONN_BUFFER_KEEP);
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
    conn_watch_input(conn, false);
    if (conn->stall == CONN_RUNS)
        conn_finish(conn);
    return 0;
}

void conn_read(struct conn *conn)
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
            conn_watch_input(conn, false);
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
    conn_account(conn);
}

bool conn_stall_is_over(const struct conn *conn)
{
    if (conn->stall == CONN_PIPELINE)
        return conn->owed <= conn_queue_limit(conn) / 2 &&
               conn->in_flight <= conn_queue_limit(conn) / 2;
    if (conn->stall == CONN_ORDER)
        return conn->in_flight == 0;
    if (conn->stall == CONN_PAUSED)
        return !conn->clients->pausing;
    return conn->stall == CONN_OUTPUT &&
           (!conn_output_high(conn) || (conn->gather != NULL && !conn_output_full(conn)));
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
            conn_watch_input(conn, true);
    }
    conn_account(conn);
    return conn->stall != CONN_BUSY;
}
