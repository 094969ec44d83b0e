/* What command handlers share. Runs in workers. */
#include "workers/cmd.h"

#include "base/check.h"
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

struct resp_out *call_out(struct call *call)
{
    return conn_out(call->conn);
}

enum call_result call_error(struct call *call, const char *text)
{
    clients_count_error(call->clients, text);
    resp_error(conn_out(call->conn), text);
    return CALL_DONE;
}

enum call_result call_errorf(struct call *call, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return call_error(call, text);
}

enum call_result call_syntax_error(struct call *call)
{
    return call_error(call, "ERR syntax error");
}

enum call_result call_not_integer(struct call *call)
{
    return call_error(call, "ERR value is not an integer or out of range");
}

/* --- requests --- */

/* The engine did not take a request: undo its entry. CALL_AGAIN if it may be tried again, else the
 * refusal is handled like an answer. */
static enum call_result refused(struct call *call, uint64_t token, int status)
{
    struct coord_reply reply = {.status = status};

    if (status != -ERR_BUSY) {
        clients_reply(call->clients, token, &reply);
        return CALL_DONE;
    }
    uint32_t part;
    struct pending *p = pending_answered(&call->clients->pending, token, &part);
    ASSERT(p != NULL);
    conn_answered(call->conn, p);
    conn_stall(call->conn, CONN_BUSY);
    return CALL_AGAIN;
}

/* A reply of one answer, in its place in the connection's list. */
static struct pending *owe_one(struct call *call, bool write, pending_answer_fn *answer,
                               int64_t arg0, int64_t arg1)
{
    struct pending *p = pending_take(&call->clients->pending);

    p->answer = answer;
    p->write = write;
    p->arg[0] = arg0;
    p->arg[1] = arg1;
    command_begun(call, p);
    conn_owe(call->conn, p);
    return p;
}

enum call_result call_get(struct call *call, const struct msg_GET *get, pending_answer_fn *answer,
                          int64_t arg0, int64_t arg1)
{
    struct pending *p = owe_one(call, false, answer, arg0, arg1);
    uint64_t token = pending_request(&call->clients->pending, p, 0);

    p->read = true;
    conn_ask(call->conn, p);
    int status = call->engine->get(call->engine->arg, token, get);
    if (status == 0 || refused(call, token, status) == CALL_DONE)
        return CALL_DONE;
    conn_disown(call->conn, p);
    return CALL_AGAIN;
}

enum call_result call_put(struct call *call, const struct msg_PUT *put, pending_answer_fn *answer,
                          int64_t arg0, int64_t arg1)
{
    struct pending *p = owe_one(call, true, answer, arg0, arg1);
    uint64_t token = pending_request(&call->clients->pending, p, 0);

    p->read = put->flags & PUT_RETURN_OLD;
    conn_ask(call->conn, p);
    int status = call->engine->put(call->engine->arg, token, put);
    if (status == 0 || refused(call, token, status) == CALL_DONE)
        return CALL_DONE;
    conn_disown(call->conn, p);
    return CALL_AGAIN;
}

void call_note_refusal(struct call *call, enum acl_refusal reason, struct slice object,
                       struct slice user)
{
    struct resp_out text;

    call->clients->acl_log.most = call->engine->conf.acl_log;
    resp_init(&text);
    cmd_client_describe(call->conn, &text);
    size_t len = buf_len(&text.buf);
    acl_log_note(&call->clients->acl_log, call->engine->wall_ms, reason, object, user,
                 slice_of(buf_head(&text.buf), len > 0 ? len - 1 : 0));
    resp_free(&text);
}

uint64_t call_wait(struct call *call, pending_answer_fn *answer)
{
    struct pending *p = owe_one(call, true, answer, 0, 0);

    conn_ask(call->conn, p);
    return pending_request(&call->clients->pending, p, 0);
}

/* --- commands of many keys --- */

struct pending *call_many(struct call *call, uint32_t count, bool write, pending_answer_fn *answer,
                          pending_finish_fn *finish)
{
    struct pending *p = call->conn->gather;

    if (p != NULL) {
        p->answer = answer;
        p->finish = finish;
        return p;
    }
    p = owe_one(call, write, answer, 0, 0);
    p->finish = finish;
    p->count = count;
    p->waiting = 1;
    p->parts.protocol = call->conn->out.protocol;
    call->conn->gather = p;
    return p;
}

/* Room for one more request of this command? Stalls the connection if not. */
static bool part_room(struct call *call, struct pending *p)
{
    if (p->read && conn_output_full(call->conn)) {
        conn_stall(call->conn, CONN_OUTPUT);
        return false;
    }
    if (call->conn->in_flight >= conn_queue_limit(call->conn)) {
        conn_stall(call->conn, CONN_PIPELINE);
        return false;
    }
    if (!pending_room(&call->clients->pending)) {
        conn_stall(call->conn, CONN_BUSY);
        return false;
    }
    conn_ask(call->conn, p);
    return true;
}

enum call_result call_part_get(struct call *call, struct pending *p, const struct msg_GET *get)
{
    p->read = true;
    if (!part_room(call, p))
        return CALL_AGAIN;
    uint64_t token = pending_request(&call->clients->pending, p, p->issued);
    int status = call->engine->get(call->engine->arg, token, get);
    if (status != 0 && refused(call, token, status) == CALL_AGAIN)
        return CALL_AGAIN;
    p->issued++;
    return CALL_DONE;
}

enum call_result call_part_put(struct call *call, struct pending *p, const struct msg_PUT *put)
{
    if (!part_room(call, p))
        return CALL_AGAIN;
    uint64_t token = pending_request(&call->clients->pending, p, p->issued);
    int status = call->engine->put(call->engine->arg, token, put);
    if (status != 0 && refused(call, token, status) == CALL_AGAIN)
        return CALL_AGAIN;
    p->issued++;
    return CALL_DONE;
}

enum call_result call_many_issued(struct call *call, struct pending *p)
{
    struct conn *conn = call->conn;

    ASSERT(conn->gather == p && p->issued == p->count && p->waiting > 0);
    conn->gather = NULL;
    if (--p->waiting == 0) {
        uint64_t errors = call->clients->stats.command_errors;

        p->finish(p, conn_answer_out(conn, p));
        command_ended(conn, p, call->clients->stats.command_errors != errors);
        conn_ready(conn, p);
    }
    return CALL_DONE;
}

void call_finish_error(struct pending *p, struct resp_out *out)
{
    call_status(p, &p->error, out);
}

bool call_part_failed(struct pending *p, const struct coord_reply *answer)
{
    if (answer->status == 0)
        return false;
    if (!p->failed) {
        p->failed = true;
        p->error = (struct coord_reply){
            .status = answer->status, .need = answer->need, .got = answer->got};
    }
    return true;
}

/* --- answers --- */

void call_fail(struct pending *p, struct resp_out *out, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    clients_count_error(p->conn->clients, text);
    resp_error(out, text);
}

void call_status(struct pending *p, const struct coord_reply *answer, struct resp_out *out)
{
    switch (-answer->status) {
    case ERR_NOQUORUM:
        call_fail(p, out, "NOQUORUM need %c=%u got %u%s", p->write ? 'W' : 'R', answer->need,
                  answer->got, p->write ? ", the write may still take effect" : "");
        return;
    case ERR_TIMEOUT:
    case ERR_UNKNOWN:
        call_fail(p, out, "%s",
                  p->write ? "UNKNOWN outcome unknown: the write may have taken effect"
                           : "TIMEOUT not enough replicas answered in time");
        return;
    case ERR_DISKFULL:
        call_fail(p, out,
                  "DISKFULL no space left on the disk: reads and deletes go on, this write "
                  "was refused");
        return;
    case ERR_BADCTX:
        call_fail(p, out, "BADCTX the context is damaged, or is of another key");
        return;
    case ERR_SIBLINGS:
        call_fail(p, out,
                  "SIBLINGS the key has too many concurrent versions: read it and write with "
                  "its context");
        return;
    case ERR_UNAVAILABLE:
        call_fail(p, out, "CLUSTERDOWN no replica of the key can be reached, nothing was written");
        return;
    case ERR_LIMIT:
        call_fail(p, out, "ERR string exceeds maximum allowed size (all versions of the key)");
        return;
    case ERR_BUSY:
        call_fail(p, out, "BUSY too many requests in flight, try again");
        return;
    case ERR_CORRUPT:
        call_fail(p, out, "CORRUPT the stored data is damaged and is being repaired, try again");
        return;
    default:
        call_fail(p, out, "ERR %s", err_text(answer->status));
        return;
    }
}

bool call_winner(struct pending *p, const struct coord_reply *answer, struct sibling *winner,
                 int *status)
{
    struct clients *c = p->conn->clients;

    *status = answer->status;
    if (*status != 0 || answer->object.len == 0)
        return false;
    *status = object_open(&c->object, answer->object);
    return *status == 0 && object_winner(&c->object, c->engine->wall_ms, winner, NULL);
}

void call_value(struct pending *p, uint32_t part, const struct coord_reply *answer,
                struct resp_out *out)
{
    struct sibling winner;
    int status;

    (void)part;
    if (call_winner(p, answer, &winner, &status)) {
        p->conn->clients->stats.hits++;
        resp_bulk(out, winner.value);
    } else if (status != 0) {
        struct coord_reply error = *answer;
        error.status = status;
        call_status(p, &error, out);
    } else {
        p->conn->clients->stats.misses++;
        resp_null(out);
    }
}

/* --- arguments --- */

bool call_is(const struct call *call, uint32_t i, const char *option)
{
    size_t len = strlen(option);

    return i < call->argc && call->argv[i].len == len &&
           strncasecmp((const char *)call->argv[i].data, option, len) == 0;
}

bool call_number(struct slice s, int64_t *out)
{
    bool negative = s.len > 0 && s.data[0] == '-';
    size_t at = negative ? 1 : 0;
    uint64_t n = 0, most = negative ? (uint64_t)1 << 63 : INT64_MAX;

    if (s.len - at == 0 || s.len - at > 19 || (s.data[at] == '0' && s.len > 1))
        return false;
    for (; at < s.len; at++) {
        if (s.data[at] < '0' || s.data[at] > '9')
            return false;
        n = n * 10 + (s.data[at] - '0');
    }
    if (n > most)
        return false;
    *out = negative ? (int64_t)-n : (int64_t)n;
    return true;
}

bool call_int64(const struct call *call, uint32_t i, int64_t *out)
{
    return call_number(call->argv[i], out);
}

bool call_key_ok(struct call *call, struct slice key)
{
    if (key.len <= LIMIT_KEY)
        return true;
    call_errorf(call, "ERR key exceeds maximum allowed size (%u bytes)", LIMIT_KEY);
    return false;
}

bool call_value_ok(struct call *call, struct slice value)
{
    if (value.len <= LIMIT_VALUE)
        return true;
    call_errorf(call, "ERR string exceeds maximum allowed size (%u bytes)", LIMIT_VALUE);
    return false;
}
