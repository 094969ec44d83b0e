/* CW.EXPLAIN: where a key lives, what each node of its preference list holds of it, and which hints are
 * held for whom. Every worker that may know is asked, and whoever does not answer soon is said not to
 * have. Runs in workers. */
#include "workers/cmd.h"

#include "base/check.h"
#include "base/err.h"
#include "core/horizon.h"

#include <stdio.h>

/* One node of the preference list: p->parts holds p->count of them, and then the contexts. As the ring
 * was when they were asked. */
struct explained {
    struct node_id id;
    char name[LIMIT_NAME], address[LIMIT_ADDR + 8];
    uint16_t worker;
    uint8_t state;
    bool primary;
    int status; /* of the answer */
    struct engine_shown shown;
    size_t context, context_len; /* where in p->parts */
};

/* What the reply begins with: in p->arg. */
enum { ARG_PLACE, ARG_EPOCH };

static struct explained *entries(const struct pending *p)
{
    return (struct explained *)(void *)buf_head(&p->parts.buf);
}

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {"alive", "suspect", "faulty", "left"};

    return state < 4 ? names[state] : "?";
}

static const char *standing_name(uint8_t standing)
{
    return standing == STANDING_WHOLE ? "whole" : standing == STANDING_MISSING ? "missing" : "away";
}

static const char *answer_name(int status)
{
    switch (-status) {
    case 0:
        return "ok";
    case ERR_UNAVAILABLE:
        return "unreachable";
    case ERR_TIMEOUT:
        return "silent";
    default:
        return err_text(status);
    }
}

static void write_number(struct resp_out *out, const char *name, uint64_t n)
{
    char number[24];

    snprintf(number, sizeof number, "%016llx", (unsigned long long)n);
    resp_text(out, name);
    resp_text(out, number);
}

/* null if nobody has answered for it. */
static void write_version(const struct pending *p, const struct explained *e, struct resp_out *out)
{
    resp_text(out, "version");
    if (e->status != 0) {
        resp_null(out);
        return;
    }
    resp_map(out, 5);
    write_number(out, "vnode", e->shown.vnode_id);
    resp_text(out, "standing");
    resp_text(out, standing_name(e->shown.standing));
    resp_text(out, "context");
    resp_bulk(out, slice_of(buf_head(&p->parts.buf) + e->context, e->context_len));
    resp_text(out, "siblings");
    resp_integer(out, e->shown.siblings);
    write_number(out, "digest", e->shown.digest);
}

static bool owes(const struct explained *holder, const struct node_id *target)
{
    for (uint8_t i = 0; i < holder->shown.owed; i++)
        if (node_id_equal(&holder->shown.owed_to[i], target))
            return true;
    return false;
}

/* How many hints are held for it, and by whom. */
static void write_hints(const struct pending *p, const struct explained *e, struct resp_out *out)
{
    const struct explained *all = entries(p);
    uint32_t count = 0;

    for (uint32_t i = 0; i < p->count; i++)
        count += owes(&all[i], &e->id);
    resp_text(out, "hinted");
    resp_integer(out, count);
    resp_text(out, "hinted_at");
    resp_array(out, count);
    for (uint32_t i = 0; i < p->count; i++)
        if (owes(&all[i], &e->id))
            resp_text(out, all[i].name);
}

static void write_entry(const struct pending *p, const struct explained *e, struct resp_out *out)
{
    char id[2 * NODE_ID_BYTES + 1];

    node_id_format(&e->id, id);
    resp_map(out, 10);
    resp_text(out, "node");
    resp_text(out, id);
    resp_text(out, "name");
    resp_text(out, e->name);
    resp_text(out, "address");
    resp_text(out, e->address);
    resp_text(out, "worker");
    resp_integer(out, e->worker);
    resp_text(out, "state");
    resp_text(out, state_name(e->state));
    resp_text(out, "role");
    resp_text(out, e->primary ? "primary" : "fallback");
    resp_text(out, "answer");
    resp_text(out, answer_name(e->status));
    write_version(p, e, out);
    write_hints(p, e, out);
}

static void finish(struct pending *p, struct resp_out *out)
{
    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    resp_map(out, 4);
    resp_text(out, "slot");
    resp_integer(out, p->arg[ARG_PLACE] >> 32);
    resp_text(out, "partition");
    resp_integer(out, p->arg[ARG_PLACE] & UINT32_MAX);
    resp_text(out, "epoch");
    resp_integer(out, p->arg[ARG_EPOCH]);
    resp_text(out, "preference");
    resp_array(out, p->count);
    for (uint32_t i = 0; i < p->count; i++)
        write_entry(p, &entries(p)[i], out);
}

static void take(struct pending *p, uint32_t part, const struct coord_reply *answer,
                 struct resp_out *out)
{
    size_t at = buf_len(&p->parts.buf);

    (void)out;
    ASSERT(part < p->count);
    entries(p)[part].status = answer->status;
    if (answer->status != 0)
        return;
    ASSERT(answer->object.len == sizeof(struct engine_shown));
    if (buf_append(&p->parts.buf, answer->context.data, answer->context.len) != 0) {
        entries(p)[part].status = -ERR_NOMEM;
        return;
    }
    struct explained *e = &entries(p)[part];

    memcpy(&e->shown, answer->object.data, sizeof e->shown);
    e->context = at;
    e->context_len = answer->context.len;
}

static void fill(const struct engine *e, const struct ring_walk *walk, uint32_t partition,
                 uint32_t i, struct explained *out)
{
    const struct member *m = &e->view->members[walk->member[i]];

    memset(out, 0, sizeof *out);
    out->id = m->id;
    out->worker = ring_worker_of(partition, m->workers);
    out->state = m->state;
    out->primary = i < walk->primaries;
    out->status = -ERR_UNAVAILABLE;
    snprintf(out->name, sizeof out->name, "%s", m->name);
    snprintf(out->address, sizeof out->address, "%s:%u", m->address, m->worker_port + out->worker);
}

/* Have p->parts filled with what is known without asking. -ERR_NOMEM. */
static int begin(const struct engine *e, struct pending *p, const struct ring_walk *walk,
                 uint32_t partition)
{
    size_t size = p->count * sizeof(struct explained);

    if (buf_reserve(&p->parts.buf, size) == NULL)
        return -ERR_NOMEM;
    buf_filled(&p->parts.buf, size);
    for (uint32_t i = 0; i < p->count; i++)
        fill(e, walk, partition, i, &entries(p)[i]);
    return 0;
}

/* Ask one of them; who cannot be asked has an answer all the same. */
static void ask(struct call *call, struct pending *p, uint16_t member, struct slice key)
{
    const struct engine *e = call->engine;
    uint32_t part = p->issued++;
    int rc = e->show != NULL ? -ERR_BUSY : -ERR_UNAVAILABLE;

    if (e->show != NULL && pending_room(&call->clients->pending)) {
        uint64_t token = pending_request(&call->clients->pending, p, part);

        conn_ask(call->conn, p);
        rc = e->show(e->arg, token, member, key);
        if (rc == 0)
            return;
        conn_answered(call->conn, p);
        pending_answered(&call->clients->pending, token, &part);
    }
    entries(p)[part].status = rc;
}

enum call_result cmd_cw_explain(struct call *call)
{
    const struct engine *e = call->engine;
    const struct ring_view *v = e->view;
    struct slice key = call->argv[1];

    if (v == NULL || e->index == NULL || v->epoch == 0)
        return call_error(call, "CLUSTERDOWN there is no ring yet");
    if (!call_key_ok(call, key))
        return CALL_DONE;
    struct position pos = position_of(key);
    uint32_t partition = position_partition(&pos, v->q_bits);
    const struct ring_walk *walk = &e->index->walk[partition];
    struct pending *p = call_many(call, walk->count, false, take, finish);

    p->arg[ARG_PLACE] = (int64_t)position_slot(&pos) << 32 | partition;
    p->arg[ARG_EPOCH] = (int64_t)v->epoch;
    int rc = begin(e, p, walk, partition);

    if (rc != 0)
        call_part_failed(p, &(struct coord_reply){.status = rc});
    while (rc == 0 && p->issued < p->count)
        ask(call, p, walk->member[p->issued], key);
    p->issued = p->count;
    return call_many_issued(call, p);
}
