/* Commands that show versions: CW.GET, CW.PUT, CW.DEL, CW.HELP. Runs in workers. */
#include "base/err.h"
#include "base/hash.h"
#include "workers/cmd.h"
#include "workers/expiry.h"

#include <stdio.h>

#define MOST_TIMEOUT_MS 600000

/* Options that are numbers: the argument behind option i, from low to high. */
static bool number_option(struct call *call, uint32_t i, int64_t low, int64_t high, int64_t *out)
{
    if (i + 1 < call->argc && call_int64(call, i + 1, out) && *out >= low && *out <= high)
        return true;
    call_errorf(call, "ERR %.*s must be a number from %lld to %lld", (int)call->argv[i].len,
                call->argv[i].data, (long long)low, (long long)high);
    return false;
}

/* --- reading --- */

static void write_object(struct pending *p, const struct coord_reply *answer, struct resp_out *out)
{
    struct clients *c = p->conn->clients;
    char context[LIMIT_CONTEXT_TEXT];
    struct sibling winner, s;
    uint32_t live = 0;
    size_t cursor = 0;
    int len = 0;

    if (answer->object.len > 0) {
        int status = object_open(&c->object, answer->object);
        if (status == 0)
            len = causal_to_text(&c->object.causal, c->object.key, context, sizeof context);
        if (status != 0 || len < 0) {
            struct coord_reply error = {.status = status != 0 ? status : len};
            call_status(p, &error, out);
            return;
        }
        object_winner(&c->object, c->engine->wall_ms, &winner, &live);
    }
    *(live > 0 ? &c->stats.hits : &c->stats.misses) += 1;
    resp_map(out, 2);
    resp_text(out, "context");
    resp_bulk(out, slice_of(context, (size_t)len));
    resp_text(out, "values");
    resp_array(out, live);
    while (live > 0 && object_next(&c->object, &cursor, &s))
        if (!(s.flags & SIBLING_TOMBSTONE) &&
            (s.expiry_ms == 0 || s.expiry_ms > c->engine->wall_ms))
            resp_bulk(out, s.value);
}

static void answer_object(struct pending *p, uint32_t part, const struct coord_reply *answer,
                          struct resp_out *out)
{
    (void)part;
    if (answer->status != 0)
        call_status(p, answer, out);
    else
        write_object(p, answer, out);
}

enum call_result cmd_cw_get(struct call *call)
{
    struct msg_GET get = {.key = call->argv[1], .flags = GET_ALL};

    for (uint32_t i = 2; i < call->argc; i += 2) {
        int64_t n;

        if (call_is(call, i, "r")) {
            if (!number_option(call, i, 1, LIMIT_REPLICAS, &n))
                return CALL_DONE;
            get.r = (uint8_t)n;
        } else if (call_is(call, i, "pr")) {
            if (!number_option(call, i, 1, LIMIT_REPLICAS, &n))
                return CALL_DONE;
            get.pr = (uint8_t)n;
        } else if (call_is(call, i, "timeout")) {
            if (!number_option(call, i, 1, MOST_TIMEOUT_MS, &n))
                return CALL_DONE;
            get.timeout_ms = (uint32_t)n;
        } else {
            return call_syntax_error(call);
        }
    }
    if (!call_key_ok(call, get.key))
        return CALL_DONE;
    return call_get(call, &get, answer_object, 0, 0);
}

/* --- writing --- */

static void answer_written(struct pending *p, uint32_t part, const struct coord_reply *answer,
                           struct resp_out *out)
{
    (void)part;
    if (answer->status != 0) {
        call_status(p, answer, out);
        return;
    }
    resp_map(out, 2);
    resp_text(out, "context");
    resp_bulk(out, answer->context);
    resp_text(out, "acks");
    resp_integer(out, answer->got);
}

/* A client's id of a request, made unique to the key. */
static uint64_t request_id(struct slice key, struct slice id)
{
    uint64_t h = hash64_seed(id.data, id.len, hash64(key.data, key.len));

    return h != 0 ? h : 1;
}

/* Option i of CW.PUT or CW.DEL; moves *i to its last argument. false: replied an error. */
static bool write_option(struct call *call, uint32_t *i, struct msg_PUT *put)
{
    uint32_t at = *i;
    enum expiry_unit unit;
    int64_t n = 0;

    if (at + 1 >= call->argc) {
        call_syntax_error(call);
        return false;
    }
    *i = at + 1;
    if (call_is(call, at, "ctx")) {
        put->flags |= PUT_HAS_CONTEXT;
        put->context = call->argv[at + 1];
        return true;
    }
    if (call_is(call, at, "id")) {
        put->request_id = request_id(put->key, call->argv[at + 1]);
        return true;
    }
    if (call_is(call, at, "timeout")) {
        bool good = number_option(call, at, 1, MOST_TIMEOUT_MS, &n);
        put->timeout_ms = (uint32_t)n;
        return good;
    }
    if (put->op == PUT_SET && put->expiry == 0 && expiry_option(call, at, &unit))
        return expiry_read(call, at + 1, unit, &put->expiry);
    uint8_t *replicas = call_is(call, at, "w")    ? &put->w
                        : call_is(call, at, "pw") ? &put->pw
                        : call_is(call, at, "dw") ? &put->dw
                                                  : NULL;
    if (replicas == NULL) {
        call_syntax_error(call);
        return false;
    }
    bool good = number_option(call, at, 1, LIMIT_REPLICAS, &n);
    *replicas = (uint8_t)n;
    return good;
}

enum call_result cmd_cw_put(struct call *call)
{
    /* Without a context the writer has seen nothing: an empty context, so that what is there stays
     * as a sibling. */
    struct msg_PUT put = {.key = call->argv[1],
                          .value = call->argv[2],
                          .op = PUT_SET,
                          .flags = PUT_WANT_CONTEXT | PUT_HAS_CONTEXT};

    for (uint32_t i = 3; i < call->argc; i++)
        if (!write_option(call, &i, &put))
            return CALL_DONE;
    if (!call_key_ok(call, put.key) || !call_value_ok(call, put.value))
        return CALL_DONE;
    return call_put(call, &put, answer_written, 0, 0);
}

enum call_result cmd_cw_del(struct call *call)
{
    /* Without a context: what the coordinator sees, as DEL. To delete nothing would be no use. */
    struct msg_PUT put = {.key = call->argv[1], .op = PUT_DELETE, .flags = PUT_WANT_CONTEXT};

    for (uint32_t i = 2; i < call->argc; i++)
        if (!write_option(call, &i, &put))
            return CALL_DONE;
    if (!call_key_ok(call, put.key))
        return CALL_DONE;
    return call_put(call, &put, answer_written, 0, 0);
}

enum call_result cmd_cw_help(struct call *call)
{
    struct resp_out *out = call_out(call);
    size_t count = 0;

    for (size_t i = 0; i < command_count(); i++)
        count += strncmp(command_at(i)->name, "cw.", 3) == 0;
    resp_array(out, 2 * count);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        char line[256];

        if (strncmp(c->name, "cw.", 3) != 0)
            continue;
        size_t len = 0;
        for (; c->name[len] != '\0'; len++)
            line[len] = (char)(c->name[len] == '.' ? '.' : c->name[len] & ~0x20);
        line[len] = '\0';
        resp_simple(out, line);
        snprintf(line, sizeof line, "    %s", c->summary);
        resp_simple(out, line);
    }
    return CALL_DONE;
}
