/* Commands that look for keys in the whole cluster: SCAN, KEYS, RANDOMKEY, DBSIZE, FLUSHALL, and those of a
 * slot. Runs in workers. */
#include "workers/cmd.h"

#include "base/err.h"
#include "workers/key_walk.h"
#include "workers/route.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SCAN_MOST_ROWS 10000
#define KEYS_MOST      1000000u
#define DBSIZE_COUNTED 100000u /* with more records on this node they are not counted one by one */

static bool keep_key(struct pending *p, struct key_walk *walk, struct slice key)
{
    (void)walk;
    resp_bulk(&p->parts, key);
    p->sum++;
    return true;
}

static bool keep_up_to_most(struct pending *p, struct key_walk *walk, struct slice key)
{
    if ((uint64_t)p->sum >= key_walk_most(walk))
        return false;
    return keep_key(p, walk, key);
}

/* Write the error, if there is one. */
static bool ended_badly(struct pending *p, struct resp_out *out)
{
    if (!p->failed && !key_walk_stopped(p) && !key_walk_complete(p)) {
        p->failed = true;
        p->error = (struct coord_reply){.status = -ERR_BUSY};
    }
    if (p->failed)
        call_status(p, &p->error, out);
    return p->failed;
}

static void write_keys(struct pending *p, struct resp_out *out)
{
    resp_array(out, (size_t)p->sum);
    resp_raw(out, buf_head(&p->parts.buf), buf_len(&p->parts.buf));
    out->failed |= p->parts.failed;
}

static void finish_keys(struct pending *p, struct resp_out *out)
{
    if (!ended_badly(p, out))
        write_keys(p, out);
}

/* --- SCAN --- */

static void finish_scan(struct pending *p, struct resp_out *out)
{
    char cursor[24];

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    snprintf(cursor, sizeof cursor, "%llu", (unsigned long long)key_walk_cursor(p));
    resp_array(out, 2);
    resp_text(out, cursor);
    write_keys(p, out);
}

/* A cursor as Redis reads one, with strtoul(). */
static bool read_cursor(struct slice s, uint64_t *out)
{
    char text[32], *end;

    if (s.len >= sizeof text || (s.len > 0 && isspace(s.data[0])))
        return false;
    snprintf(text, sizeof text, "%.*s", (int)s.len, s.data);
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

/* Replies the error and returns false. *nothing: no key can be of the type asked for. */
static bool scan_options(struct call *call, struct key_walk_setup *setup, bool *nothing)
{
    int64_t count;

    for (uint32_t i = 2; i < call->argc; i += 2) {
        bool more = i + 1 < call->argc;

        if (more && call_is(call, i, "count")) {
            if (!call_int64(call, i + 1, &count)) {
                call_not_integer(call);
                return false;
            }
            if (count < 1)
                break;
            setup->rows = count < SCAN_MOST_ROWS ? (uint32_t)count : SCAN_MOST_ROWS;
        } else if (more && call_is(call, i, "match")) {
            setup->pattern = call->argv[i + 1];
        } else if (more && call_is(call, i, "type")) {
            *nothing = !call_is(call, i + 1, "string");
        } else {
            break;
        }
        if (i + 2 >= call->argc)
            return true;
    }
    if (call->argc == 2)
        return true;
    call_syntax_error(call);
    return false;
}

static bool drop_key(struct pending *p, struct key_walk *walk, struct slice key)
{
    (void)p;
    (void)walk;
    (void)key;
    return true;
}

enum call_result cmd_scan(struct call *call)
{
    struct key_walk_setup setup = {.each = keep_key,
                                   .finish = finish_scan,
                                   .lanes = 1,
                                   .resumable = true,
                                   .rows = 10,
                                   .slot = -1};
    bool nothing = false;

    if (!read_cursor(call->argv[1], &setup.cursor))
        return call_error(call, "ERR invalid cursor");
    if (!scan_options(call, &setup, &nothing))
        return CALL_DONE;
    if (setup.cursor >> KEY_WALK_CURSOR_BITS != 0) { /* never given out: the end, as in Redis */
        struct resp_out *out = call_out(call);
        resp_array(out, 2);
        resp_text(out, "0");
        resp_array(out, 0);
        return CALL_DONE;
    }
    if (nothing)
        setup.each = drop_key;
    return key_walk_begin(call, &setup);
}

/* --- all keys --- */

static void finish_all_keys(struct pending *p, struct resp_out *out)
{
    if (!p->failed && key_walk_stopped(p)) {
        call_fail(p, out, "ERR KEYS has found more than %u keys or too many bytes: use SCAN",
                  KEYS_MOST);
        return;
    }
    finish_keys(p, out);
}

static bool keep_key_if_room(struct pending *p, struct key_walk *walk, struct slice key)
{
    if (buf_len(&p->parts.buf) > LIMIT_CLIENT_OUTPUT / 4)
        return false;
    return keep_up_to_most(p, walk, key);
}

enum call_result cmd_keys(struct call *call)
{
    struct key_walk_setup setup = {.each = keep_key_if_room,
                                   .finish = finish_all_keys,
                                   .lanes = 4,
                                   .slot = -1,
                                   .most = KEYS_MOST,
                                   .pattern = call->argv[1]};

    return key_walk_begin(call, &setup);
}

static bool take_one(struct pending *p, struct key_walk *walk, struct slice key)
{
    keep_key(p, walk, key);
    return false;
}

static void finish_random(struct pending *p, struct resp_out *out)
{
    if (ended_badly(p, out))
        return;
    if (p->sum == 0)
        resp_null(out);
    else
        resp_raw(out, buf_head(&p->parts.buf), buf_len(&p->parts.buf));
    out->failed |= p->parts.failed;
}

enum call_result cmd_randomkey(struct call *call)
{
    struct key_walk_setup setup = {
        .each = take_one, .finish = finish_random, .lanes = 1, .round = true, .slot = -1};

    return key_walk_begin(call, &setup);
}

/* --- one slot --- */

static bool read_slot(struct call *call, int32_t *out)
{
    int64_t slot;

    if (!call_int64(call, 2, &slot) || slot < INT32_MIN || slot > INT32_MAX) {
        call_not_integer(call);
        return false;
    }
    if (slot < 0 || slot >= LIMIT_SLOTS) {
        call_error(call, "ERR Invalid slot");
        return false;
    }
    *out = (int32_t)slot;
    return true;
}

static bool count_key(struct pending *p, struct key_walk *walk, struct slice key)
{
    (void)walk;
    (void)key;
    p->sum++;
    return true;
}

static void finish_count(struct pending *p, struct resp_out *out)
{
    if (!ended_badly(p, out))
        resp_integer(out, p->sum);
}

enum call_result cmd_cluster_countkeysinslot(struct call *call)
{
    struct key_walk_setup setup = {.each = count_key, .finish = finish_count, .lanes = 1};

    return read_slot(call, &setup.slot) ? key_walk_begin(call, &setup) : CALL_DONE;
}

enum call_result cmd_cluster_getkeysinslot(struct call *call)
{
    struct key_walk_setup setup = {.each = keep_up_to_most, .finish = finish_keys, .lanes = 1};
    int64_t most;

    if (!read_slot(call, &setup.slot))
        return CALL_DONE;
    if (!call_int64(call, 3, &most))
        return call_not_integer(call);
    if (most < 0)
        return call_error(call, "ERR Invalid number of keys");
    setup.most = (uint64_t)most < KEYS_MOST ? (uint64_t)most : KEYS_MOST;
    return key_walk_begin(call, &setup);
}

/* --- DBSIZE --- */

/* Who has looked at the nodes of the cluster, as redis-cli --cluster does, asks each of them and adds up:
 * the front port then speaks for the worker that CLUSTER NODES calls `myself`. */
static bool counts_own(const struct call *call)
{
    return call->conn->port == CLIENTS_WORKER || call->conn->knows_nodes;
}

/* From this node's count of records and the share of the ring that it holds. */
static uint64_t estimate(const struct call *call, uint64_t held_keys)
{
    const struct engine *e = call->engine;
    uint32_t held = 0, wanted = 0;

    for (uint32_t p = 0; p < e->index->partitions; p++) {
        const struct ring_walk *walk = &e->index->walk[p];
        uint16_t slot = (uint16_t)(p << (14 - e->view->q_bits)), member, worker;

        for (unsigned i = 0; i < walk->primaries; i++)
            held += walk->member[i] == e->view->self;
        wanted += !counts_own(call) || (route_slot(e, slot, &member, &worker) &&
                                        member == e->view->self && worker == e->worker);
    }
    return held == 0 ? 0 : held_keys * wanted / held;
}

enum call_result cmd_dbsize(struct call *call)
{
    struct key_walk_setup setup = {.each = count_key,
                                   .finish = finish_count,
                                   .lanes = 4,
                                   .slot = -1,
                                   .mine = counts_own(call)};
    struct worker_info info;

    cmd_get_info(call, &info);
    if (info.keys <= DBSIZE_COUNTED || call->engine->index == NULL)
        return key_walk_begin(call, &setup);
    resp_integer(call_out(call), (int64_t)estimate(call, info.keys));
    return CALL_DONE;
}

/* --- FLUSHALL --- */

static void finish_flush(struct pending *p, struct resp_out *out)
{
    if (!ended_badly(p, out))
        resp_ok(out);
}

enum call_result cmd_flush(struct call *call)
{
    struct key_walk_setup setup = {
        .each = key_walk_delete, .finish = finish_flush, .write = true, .lanes = 4, .slot = -1};

    if (call->argc > 2 ||
        (call->argc == 2 && !call_is(call, 1, "async") && !call_is(call, 1, "sync")))
        return call_syntax_error(call);
    if (!call->engine->conf.allow_flush)
        return call_error(call,
                          "ERR FLUSHALL and FLUSHDB delete every key of the cluster, on all "
                          "nodes: they are refused unless the configuration has allow_flush = "
                          "yes in section security");
    return key_walk_begin(call, &setup);
}
