/* Commands on keys whatever their value: DEL, EXISTS, TYPE and the expiry family. Runs in workers. */
#include "base/err.h"
#include "workers/call.h"
#include "workers/expiry.h"

/* --- counting over many keys --- */

static bool keys_ok(struct call *call)
{
    for (uint32_t i = 1; call->conn->gather == NULL && i < call->argc; i++)
        if (!call_key_ok(call, call->argv[i]))
            return false;
    return true;
}

static void part_existed(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    (void)part;
    (void)out;
    if (!call_part_failed(p, answer))
        p->sum += (answer->flags & PUT_EXISTED) != 0;
}

static void part_exists(struct pending *p, uint32_t part, const struct coord_reply *answer,
                        struct resp_out *out)
{
    struct coord_reply error = *answer;
    struct sibling winner;
    struct client_stats *stats = &p->conn->clients->stats;

    (void)part;
    (void)out;
    bool found = call_winner(p, answer, &winner, &error.status);
    if (call_part_failed(p, &error))
        return;
    p->sum += found;
    stats->hits += found;
    stats->misses += !found;
}

static void finish_sum(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_integer(out, p->sum);
}

enum call_result cmd_del(struct call *call)
{
    uint32_t count = call->argc - 1;

    if (!keys_ok(call))
        return CALL_DONE;
    struct pending *p = call_many(call, count, true, part_existed, finish_sum);
    while (p->issued < count) {
        struct msg_PUT put = {
            .key = call->argv[1 + p->issued], .op = PUT_DELETE, .flags = PUT_IF_EXISTS};
        if (call_part_put(call, p, &put) == CALL_AGAIN)
            return CALL_AGAIN;
    }
    return call_many_issued(call, p);
}

enum call_result cmd_exists(struct call *call)
{
    uint32_t count = call->argc - 1;

    if (!keys_ok(call))
        return CALL_DONE;
    struct pending *p = call_many(call, count, false, part_exists, finish_sum);
    while (p->issued < count) {
        struct msg_GET get = {.key = call->argv[1 + p->issued]};
        if (call_part_get(call, p, &get) == CALL_AGAIN)
            return CALL_AGAIN;
    }
    return call_many_issued(call, p);
}

/* --- one key --- */

static void answer_type(struct pending *p, uint32_t part, const struct coord_reply *answer,
                        struct resp_out *out)
{
    struct coord_reply error = *answer;
    struct sibling winner;

    (void)part;
    bool found = call_winner(p, answer, &winner, &error.status);
    if (error.status != 0)
        call_status(p, &error, out);
    else
        resp_simple(out, found ? "string" : "none");
}

enum call_result cmd_type(struct call *call)
{
    struct msg_GET get = {.key = call->argv[1]};

    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, answer_type, 0, 0);
}

/* 1 if something was changed. */
static void answer_applied(struct pending *p, uint32_t part, const struct coord_reply *answer,
                           struct resp_out *out)
{
    (void)part;
    if (answer->status != 0)
        call_status(p, answer, out);
    else
        resp_integer(out, (answer->flags & PUT_APPLIED) != 0);
}

/* NX, XX, GT, LT behind argument 2. Replies the error and returns false. */
static bool expire_conditions(struct call *call, uint32_t *flags)
{
    for (uint32_t i = 3; i < call->argc; i++) {
        if (call_is(call, i, "nx")) {
            *flags |= PUT_IF_NO_TTL;
        } else if (call_is(call, i, "xx")) {
            *flags |= PUT_IF_TTL;
        } else if (call_is(call, i, "gt")) {
            *flags |= PUT_IF_LATER;
        } else if (call_is(call, i, "lt")) {
            *flags |= PUT_IF_EARLIER;
        } else {
            size_t len = call->argv[i].len < 64 ? call->argv[i].len : 64;
            call_errorf(call, "ERR Unsupported option %.*s", (int)len, call->argv[i].data);
            return false;
        }
    }
    if ((*flags & PUT_IF_NO_TTL) && (*flags & (PUT_IF_TTL | PUT_IF_LATER | PUT_IF_EARLIER))) {
        call_error(call, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((*flags & PUT_IF_LATER) && (*flags & PUT_IF_EARLIER)) {
        call_error(call, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

enum call_result cmd_expire(struct call *call)
{
    const char *name = call->command->name;
    bool at = name[strlen(name) - 1] == 't';
    enum expiry_unit unit =
        name[0] == 'p' ? (at ? EXPIRY_PXAT : EXPIRY_PX) : (at ? EXPIRY_EXAT : EXPIRY_EX);
    struct msg_PUT put = {.key = call->argv[1], .op = PUT_EXPIRE, .flags = PUT_IF_EXISTS};

    if (!expire_conditions(call, &put.flags) || !expiry_read_any(call, 2, unit, &put.expiry) ||
        !call_key_ok(call, put.key))
        return CALL_DONE;
    return call_put(call, &put, answer_applied, 0, 0);
}

enum call_result cmd_persist(struct call *call)
{
    struct msg_PUT put = {
        .key = call->argv[1], .op = PUT_EXPIRE, .flags = PUT_IF_EXISTS | PUT_IF_TTL};

    if (!call_key_ok(call, put.key))
        return CALL_DONE;
    return call_put(call, &put, answer_applied, 0, 0);
}

/* arg[0]: absolute time wanted; arg[1]: in milliseconds. -2: no such key; -1: it does not expire. */
static void answer_ttl(struct pending *p, uint32_t part, const struct coord_reply *answer,
                       struct resp_out *out)
{
    struct coord_reply error = *answer;
    struct sibling winner;
    int64_t ms;

    (void)part;
    bool found = call_winner(p, answer, &winner, &error.status);
    if (error.status != 0) {
        call_status(p, &error, out);
        return;
    }
    if (!found || winner.expiry_ms == 0) {
        resp_integer(out, found ? -1 : -2);
        return;
    }
    ms = (int64_t)winner.expiry_ms;
    if (!p->arg[0])
        ms -= (int64_t)p->conn->clients->engine->wall_ms;
    if (ms < 0)
        ms = 0;
    /* Redis rounds to the nearest second, a time left as well as an absolute one. */
    if (!p->arg[1])
        ms = (int64_t)(((uint64_t)ms + 500) / 1000);
    resp_integer(out, ms);
}

enum call_result cmd_ttl(struct call *call)
{
    const char *name = call->command->name;
    struct msg_GET get = {.key = call->argv[1]};

    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, answer_ttl, strstr(name, "time") != NULL, name[0] == 'p');
}
