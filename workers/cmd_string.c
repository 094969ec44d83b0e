/* Commands on values: GET, SET and their relatives. Runs in workers. */
#include "base/err.h"
#include "workers/call.h"
#include "workers/expiry.h"

#include <stdio.h>

enum call_result cmd_get(struct call *call)
{
    struct msg_GET get = {.key = call->argv[1]};

    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, call_value, 0, 0);
}

/* +OK for a write. */
static void answer_ok(struct pending *p, uint32_t part, const struct coord_reply *answer,
                      struct resp_out *out)
{
    (void)part;
    if (answer->status != 0)
        call_status(p, answer, out);
    else
        resp_ok(out);
}

/* A number of replicas for an option. */
static bool replicas_option(struct call *call, uint32_t i, uint8_t *out)
{
    int64_t n;

    if (i >= call->argc || !call_int64(call, i, &n) || n < 1 || n > LIMIT_REPLICAS)
        return false;
    *out = (uint8_t)n;
    return true;
}

/* SET's options from argument 3 on. Replies the error and returns false. */
static bool set_options(struct call *call, struct msg_PUT *put)
{
    struct expiry_choice choice = {0};

    for (uint32_t i = 3; i < call->argc; i++) {
        bool more = i + 1 < call->argc;

        if (more && expiry_choose(call, i, &choice)) {
            i++;
        } else if (call_is(call, i, "keepttl") && choice.at == 0) {
            put->flags |= PUT_KEEP_TTL;
            choice.other = true;
        } else if (call_is(call, i, "get")) {
            put->flags |= PUT_RETURN_OLD;
        } else if (more && call_is(call, i, "ctx")) {
            put->flags |= PUT_HAS_CONTEXT;
            put->context = call->argv[++i];
        } else if (more && call_is(call, i, "w")) {
            if (!replicas_option(call, ++i, &put->w)) {
                call_errorf(call, "ERR W must be a number from 1 to %d", LIMIT_REPLICAS);
                return false;
            }
        } else if (call_is(call, i, "nx") || call_is(call, i, "xx")) {
            call_error(call, "ERR SET with NX or XX is not supported: replicas that cannot reach "
                             "each other could both obey it");
            return false;
        } else {
            call_syntax_error(call);
            return false;
        }
    }
    /* As in Redis, the time is looked at when all options have been understood. */
    return choice.at == 0 || expiry_read(call, choice.at, choice.unit, &put->expiry);
}

enum call_result cmd_set(struct call *call)
{
    struct msg_PUT put = {.key = call->argv[1], .value = call->argv[2], .op = PUT_SET};

    if (call->argc > 3 && !set_options(call, &put))
        return CALL_DONE;
    if (!call_key_ok(call, put.key) || !call_value_ok(call, put.value))
        return CALL_DONE;
    return call_put(call, &put, put.flags & PUT_RETURN_OLD ? call_value : answer_ok, 0, 0);
}

enum call_result cmd_getset(struct call *call)
{
    struct msg_PUT put = {
        .key = call->argv[1], .value = call->argv[2], .op = PUT_SET, .flags = PUT_RETURN_OLD};

    if (!call_key_ok(call, put.key) || !call_value_ok(call, put.value))
        return CALL_DONE;
    return call_put(call, &put, call_value, 0, 0);
}

static enum call_result set_expiring(struct call *call, enum expiry_unit unit)
{
    struct msg_PUT put = {.key = call->argv[1], .value = call->argv[3], .op = PUT_SET};

    if (!expiry_read(call, 2, unit, &put.expiry) || !call_key_ok(call, put.key) ||
        !call_value_ok(call, put.value))
        return CALL_DONE;
    return call_put(call, &put, answer_ok, 0, 0);
}

enum call_result cmd_setex(struct call *call)
{
    return set_expiring(call, EXPIRY_EX);
}

enum call_result cmd_psetex(struct call *call)
{
    return set_expiring(call, EXPIRY_PX);
}

enum call_result cmd_getdel(struct call *call)
{
    struct msg_PUT put = {
        .key = call->argv[1], .op = PUT_DELETE, .flags = PUT_RETURN_OLD | PUT_IF_EXISTS};

    if (!call_key_ok(call, put.key))
        return CALL_DONE;
    return call_put(call, &put, call_value, 0, 0);
}

/* As in Redis, a bad time (p->arg[0]: how it is bad) matters only if there is such a key. */
static void answer_bad_time(struct pending *p, uint32_t part, const struct coord_reply *answer,
                            struct resp_out *out)
{
    struct coord_reply error = *answer;
    struct sibling winner;

    (void)part;
    bool found = call_winner(p, answer, &winner, &error.status);
    if (error.status != 0) {
        call_status(p, &error, out);
    } else if (!found) {
        resp_null(out);
    } else {
        call_fail(p, out, "%s",
                  p->arg[0] == -ERR_FORMAT ? "ERR value is not an integer or out of range"
                                           : "ERR invalid expire time in 'getex' command");
    }
}

enum call_result cmd_getex(struct call *call)
{
    struct msg_PUT put = {
        .key = call->argv[1], .op = PUT_EXPIRE, .flags = PUT_RETURN_OLD | PUT_IF_EXISTS};
    struct expiry_choice choice = {0};

    if (call->argc == 2)
        return cmd_get(call);
    for (uint32_t i = 2; i < call->argc; i++) {
        if (i + 1 < call->argc && expiry_choose(call, i, &choice))
            i++;
        else if (call_is(call, i, "persist") && choice.at == 0)
            choice.other = true;
        else
            return call_syntax_error(call);
    }
    if (!call_key_ok(call, put.key))
        return CALL_DONE;
    int rc = choice.at != 0 ? expiry_try(call, choice.at, choice.unit, &put.expiry) : 0;
    if (rc != 0) {
        struct msg_GET get = {.key = put.key};

        return call_get(call, &get, answer_bad_time, rc, 0);
    }
    return call_put(call, &put, call_value, 0, 0);
}

/* The winner for a command that answers something about it; false if an error was replied. */
static bool look(struct pending *p, const struct coord_reply *answer, struct resp_out *out,
                 struct sibling *winner)
{
    int status;

    if (!call_winner(p, answer, winner, &status))
        winner->value = slice_of(NULL, 0);
    if (status != 0) {
        struct coord_reply error = *answer;
        error.status = status;
        call_status(p, &error, out);
    }
    return status == 0;
}

static void answer_length(struct pending *p, uint32_t part, const struct coord_reply *answer,
                          struct resp_out *out)
{
    struct sibling winner;

    (void)part;
    if (look(p, answer, out, &winner))
        resp_integer(out, (int64_t)winner.value.len);
}

enum call_result cmd_strlen(struct call *call)
{
    struct msg_GET get = {.key = call->argv[1]};

    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, answer_length, 0, 0);
}

/* Both ends count, negative ones from the end of the value. */
static void answer_range(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    int64_t start = p->arg[0], end = p->arg[1];
    struct sibling winner;

    (void)part;
    if (!look(p, answer, out, &winner))
        return;
    int64_t len = (int64_t)winner.value.len;
    if (start < 0 && end < 0 && start > end) {
        resp_text(out, "");
        return;
    }
    if (start < 0)
        start = start < -len ? 0 : len + start;
    if (end < 0)
        end = end < -len ? 0 : len + end;
    if (end >= len)
        end = len - 1;
    if (start > end || len == 0)
        resp_text(out, "");
    else
        resp_bulk(out, slice_of(winner.value.data + start, (size_t)(end - start + 1)));
}

enum call_result cmd_getrange(struct call *call)
{
    struct msg_GET get = {.key = call->argv[1]};
    int64_t start, end;

    if (!call_int64(call, 2, &start) || !call_int64(call, 3, &end))
        return call_not_integer(call);
    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, answer_range, start, end);
}

/* --- many keys --- */

static void part_value(struct pending *p, uint32_t part, const struct coord_reply *answer,
                       struct resp_out *out)
{
    struct pending_part *parts = (struct pending_part *)(void *)buf_head(&p->index);
    size_t before = buf_len(&out->buf);
    struct sibling winner;
    struct coord_reply error = *answer;

    if (p->failed)
        return;
    if (before > LIMIT_CLIENT_OUTPUT) {
        error.status = -ERR_LIMIT;
    } else if (call_winner(p, answer, &winner, &error.status)) {
        p->conn->clients->stats.hits++;
        resp_bulk(out, winner.value);
    } else if (error.status == 0) {
        p->conn->clients->stats.misses++;
        resp_null(out);
    }
    if (!call_part_failed(p, &error))
        parts[part] = (struct pending_part){before, buf_len(&out->buf) - before};
}

static void finish_values(struct pending *p, struct resp_out *out)
{
    const struct pending_part *parts = (const struct pending_part *)(void *)buf_head(&p->index);

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    resp_array(out, p->count);
    for (uint32_t i = 0; i < p->count; i++)
        resp_raw(out, buf_head(&p->parts.buf) + parts[i].offset, parts[i].len);
    out->failed |= p->parts.failed;
}

enum call_result cmd_mget(struct call *call)
{
    uint32_t count = call->argc - 1;

    if (call->conn->gather == NULL)
        for (uint32_t i = 1; i < call->argc; i++)
            if (!call_key_ok(call, call->argv[i]))
                return CALL_DONE;
    struct pending *p = call_many(call, count, false, part_value, finish_values);
    if (buf_len(&p->index) == 0) {
        size_t size = count * sizeof(struct pending_part);
        if (buf_reserve(&p->index, size) == NULL) {
            conn_doom(call->conn);
            p->issued = p->count;
            p->failed = true;
            p->error.status = -ERR_NOMEM;
            return call_many_issued(call, p);
        }
        buf_filled(&p->index, size);
    }
    while (p->issued < count) {
        struct msg_GET get = {.key = call->argv[1 + p->issued]};
        if (call_part_get(call, p, &get) == CALL_AGAIN)
            return CALL_AGAIN;
    }
    return call_many_issued(call, p);
}

static void part_done(struct pending *p, uint32_t part, const struct coord_reply *answer,
                      struct resp_out *out)
{
    (void)part;
    (void)out;
    call_part_failed(p, answer);
}

static void finish_ok(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_ok(out);
}

enum call_result cmd_mset(struct call *call)
{
    uint32_t count = (call->argc - 1) / 2;

    if (call->argc % 2 == 0)
        return call_error(call, "ERR wrong number of arguments for 'mset' command");
    if (call->conn->gather == NULL)
        for (uint32_t i = 1; i < call->argc; i += 2)
            if (!call_key_ok(call, call->argv[i]) || !call_value_ok(call, call->argv[i + 1]))
                return CALL_DONE;
    struct pending *p = call_many(call, count, true, part_done, finish_ok);
    while (p->issued < count) {
        const struct slice *pair = &call->argv[1 + 2 * p->issued];
        struct msg_PUT put = {.key = pair[0], .value = pair[1], .op = PUT_SET};
        if (call_part_put(call, p, &put) == CALL_AGAIN)
            return CALL_AGAIN;
    }
    return call_many_issued(call, p);
}
