/* Commands in which every worker of the node takes part. Runs in workers. */
#include "workers/spread.h"

#include "base/check.h"
#include "base/err.h"
#include "workers/packed.h"

#include <stdio.h>
#include <stdlib.h>

static spread_fn *const ops[SPREAD_OP_COUNT] = {
#define X(name) [SPREAD_##name] = spread_##name,
    SPREAD_OPS(X)
#undef X
};

static const char *const names[SPREAD_OP_COUNT] = {
#define X(name) [SPREAD_##name] = #name,
    SPREAD_OPS(X)
#undef X
};

static bool read_id(struct slice s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' || i > 18)
            return false;
        *out = *out * 10 + (s.data[i] - '0');
    }
    return s.len > 0;
}

int clients_run(struct clients *c, struct slice words, struct buf *text)
{
    struct resp_out out = {.buf = *text};
    struct slice op, asker;
    uint64_t id;
    int rc = -ERR_INVAL;

    if (!packed_take(&words, &op) || !packed_take(&words, &asker) || !read_id(asker, &id))
        return rc;
    for (int i = 0; i < SPREAD_OP_COUNT && rc != 0; i++) {
        if (!slice_equal(op, slice_str(names[i])))
            continue;
        ops[i](c, id, words, &out);
        rc = 0;
    }
    *text = out.buf;
    return rc == 0 && out.failed ? -ERR_NOMEM : rc;
}

static void take_text(struct pending *p, uint32_t part, const struct coord_reply *answer,
                      struct resp_out *out)
{
    (void)part;
    if (answer->status != -ERR_UNAVAILABLE && !call_part_failed(p, answer))
        resp_raw(out, answer->object.data, answer->object.len);
}

/* Ask the siblings. One that cannot be asked takes no part. */
static void ask_siblings(struct call *call, struct pending *p, struct slice words)
{
    struct engine *e = call->engine;

    for (uint16_t i = 0; i < e->workers; i++) {
        uint32_t part = i;

        if (i == e->worker || e->run == NULL)
            continue;
        if (!pending_room(&call->clients->pending)) {
            call_part_failed(p, &(struct coord_reply){.status = -ERR_BUSY});
            return;
        }
        uint64_t token = pending_request(&call->clients->pending, p, part);
        int rc = e->run(e->arg, token, i, words);
        if (rc == 0) {
            conn_ask(call->conn, p);
            continue;
        }
        pending_answered(&call->clients->pending, token, &part);
        if (rc != -ERR_UNAVAILABLE)
            call_part_failed(p, &(struct coord_reply){.status = rc});
    }
}

enum call_result spread_begin(struct call *call, enum spread_op op, const struct slice *words,
                              uint32_t count, int64_t arg0, int64_t arg1, pending_finish_fn *finish)
{
    struct pending *p = call_many(call, 1, false, take_text, finish);
    char id[24];
    struct buf list;
    int rc;

    p->issued = p->count;
    p->arg[0] = arg0;
    p->arg[1] = arg1;
    buf_init(&list, LIMIT_CLIENT_INPUT * 2);
    snprintf(id, sizeof id, "%llu", (unsigned long long)call->conn->id);
    rc = packed_add(&list, slice_str(names[op]));
    rc = rc != 0 ? rc : packed_add(&list, slice_str(id));
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = packed_add(&list, words[i]);
    struct slice all = slice_of(buf_head(&list), buf_len(&list));
    if (rc == 0)
        rc = clients_run(call->clients, all, &p->parts.buf);
    if (rc == 0)
        ask_siblings(call, p, all);
    else
        call_part_failed(p, &(struct coord_reply){.status = rc});
    buf_free(&list);
    return call_many_issued(call, p);
}

int64_t spread_sum(const struct pending *p)
{
    const uint8_t *at = buf_head(&p->parts.buf);
    int64_t sum = 0, one = 0;

    for (size_t i = 0; i < buf_len(&p->parts.buf); i++) {
        if (at[i] >= '0' && at[i] <= '9') {
            one = one * 10 + (at[i] - '0');
            continue;
        }
        sum += one;
        one = 0;
    }
    return sum + one;
}

void spread_finish_ok(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_ok(out);
}

void spread_finish_sum(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_integer(out, spread_sum(p));
}

void spread_finish_text(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_verbatim(out, "txt", slice_of(buf_head(&p->parts.buf), buf_len(&p->parts.buf)));
    out->failed |= p->parts.failed;
}
