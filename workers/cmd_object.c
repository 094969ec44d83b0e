/* Commands about how a value is kept, and its copies outside: OBJECT, MEMORY, DUMP, RESTORE. Runs in
 * workers. */
#include "workers/cmd.h"

#include "base/err.h"
#include "workers/expiry.h"
#include "workers/rdb_string.h"

#include <malloc.h>
#include <stdio.h>

/* Of one key, beside its encoded object: rows, index of expiry, leaves. */
#define ROW_BYTES 96

/* The winner, or a null reply or an error; false: replied. */
static bool found(struct pending *p, const struct coord_reply *answer, struct resp_out *out,
                  struct sibling *winner)
{
    struct coord_reply error = *answer;
    bool there = call_winner(p, answer, winner, &error.status);

    if (error.status != 0)
        call_status(p, &error, out);
    else if (!there)
        resp_null(out);
    return there;
}

/* --- OBJECT --- */

/* As Redis would keep it: as a number, in one piece with its header, or by itself. */
static const char *encoding_of(struct slice value)
{
    char text[24];
    long long n;
    int end = 0;

    if (value.len > 0 && value.len <= 20) {
        snprintf(text, sizeof text, "%.*s", (int)value.len, value.data);
        if (sscanf(text, "%lld%n", &n, &end) == 1 && (size_t)end == value.len) {
            char again[24];
            snprintf(again, sizeof again, "%lld", n);
            if (strcmp(text, again) == 0)
                return "int";
        }
    }
    return value.len <= 44 ? "embstr" : "raw";
}

static void answer_encoding(struct pending *p, uint32_t part, const struct coord_reply *answer,
                            struct resp_out *out)
{
    struct sibling winner;

    (void)part;
    if (found(p, answer, out, &winner))
        resp_text(out, encoding_of(winner.value));
}

/* p->arg[0]: what to reply if the key is there; negative: the text of an error. */
static void answer_known(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    struct sibling winner;

    (void)part;
    if (!found(p, answer, out, &winner))
        return;
    if (p->arg[0] >= 0) {
        resp_integer(out, p->arg[0]);
        return;
    }
    call_fail(p, out, "%s",
              p->arg[0] == -1
                  ? "ERR An LFU maxmemory policy is not selected, access frequency not "
                    "tracked. Please note that when switching between policies at runtime LRU "
                    "and LFU data will take some time to adjust."
                  : "ERR idle times are not tracked: reads change nothing");
}

static enum call_result ask_key(struct call *call, uint32_t i, pending_answer_fn *answer,
                                int64_t arg)
{
    struct msg_GET get = {.key = call->argv[i]};

    return call_key_ok(call, get.key) ? call_get(call, &get, answer, arg, 0) : CALL_DONE;
}

enum call_result cmd_object_encoding(struct call *call)
{
    return ask_key(call, 2, answer_encoding, 0);
}

enum call_result cmd_object_freq(struct call *call)
{
    return ask_key(call, 2, answer_known, -1);
}

enum call_result cmd_object_idletime(struct call *call)
{
    return ask_key(call, 2, answer_known, -2);
}

enum call_result cmd_object_refcount(struct call *call)
{
    return ask_key(call, 2, answer_known, 1);
}

/* --- MEMORY --- */

static void answer_usage(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    struct sibling winner;

    (void)part;
    if (found(p, answer, out, &winner))
        resp_integer(out, (int64_t)(answer->object.len + ROW_BYTES));
}

enum call_result cmd_memory_usage(struct call *call)
{
    int64_t samples;

    if (call->argc != 3 && call->argc != 5)
        return call_syntax_error(call);
    if (call->argc == 5 && !call_is(call, 3, "samples"))
        return call_syntax_error(call);
    if (call->argc == 5 && !call_int64(call, 4, &samples))
        return call_not_integer(call);
    if (call->argc == 5 && samples < 0)
        return call_syntax_error(call);
    return ask_key(call, 2, answer_usage, 0);
}

static void pair(struct resp_out *out, const char *name, uint64_t n)
{
    resp_text(out, name);
    resp_integer(out, (int64_t)n);
}

enum call_result cmd_memory_stats(struct call *call)
{
    struct worker_info info;
    struct resp_out *out = call_out(call);

    cmd_get_info(call, &info);
    resp_map(out, 10);
    pair(out, "peak.allocated", info.memory_peak_bytes);
    pair(out, "total.allocated", info.memory_bytes);
    pair(out, "startup.allocated", 0);
    pair(out, "replication.backlog", 0);
    pair(out, "clients.slaves", 0);
    pair(out, "clients.normal", info.clients.buffer_bytes);
    pair(out, "aof.buffer", info.store_buffer_bytes);
    pair(out, "keys.count", info.keys);
    pair(out, "keys.bytes-per-key", info.keys > 0 ? info.memory_bytes / info.keys : 0);
    pair(out, "dataset.bytes", info.store_buffer_bytes);
    return CALL_DONE;
}

enum call_result cmd_memory_malloc_stats(struct call *call)
{
    struct resp_out text;

    resp_init(&text);
    resp_printf(&text, "Stats not supported for the current allocator");
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

enum call_result cmd_memory_doctor(struct call *call)
{
    struct worker_info info;
    struct resp_out text;

    cmd_get_info(call, &info);
    resp_init(&text);
    if (info.store_buffer_limit > 0 && info.store_buffer_bytes > info.store_buffer_limit / 4 * 3)
        resp_printf(&text,
                    "Write buffers are nearly full (%llu of %llu bytes): the disk takes "
                    "writes more slowly than clients send them, and clients are slowed "
                    "down.\n",
                    (unsigned long long)info.store_buffer_bytes,
                    (unsigned long long)info.store_buffer_limit);
    if (info.clients.buffer_bytes > 256u << 20)
        resp_printf(&text,
                    "Clients hold %llu bytes of buffers: they send or read in large pieces, "
                    "or do not read their replies.\n",
                    (unsigned long long)info.clients.buffer_bytes);
    if (buf_len(&text.buf) == 0)
        resp_printf(&text, "Nothing is wrong: values are on disk, memory is write buffers and "
                           "clients.\n");
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

enum call_result cmd_memory_purge(struct call *call)
{
    malloc_trim(0);
    return cmd_ok(call);
}

/* --- DUMP and RESTORE --- */

static void answer_dump(struct pending *p, uint32_t part, const struct coord_reply *answer,
                        struct resp_out *out)
{
    struct sibling winner;
    struct buf payload;

    (void)part;
    if (!found(p, answer, out, &winner))
        return;
    buf_init(&payload, LIMIT_OBJECT);
    if (rdb_string_write(&payload, winner.value) == 0)
        resp_bulk(out, slice_of(buf_head(&payload), buf_len(&payload)));
    else
        out->failed = true;
    buf_free(&payload);
}

enum call_result cmd_dump(struct call *call)
{
    return ask_key(call, 1, answer_dump, 0);
}

/* Options from argument 4 on. Replies the error and returns false. */
static bool restore_options(struct call *call, bool *replace, bool *absolute)
{
    int64_t n;

    for (uint32_t i = 4; i < call->argc; i++) {
        bool more = i + 1 < call->argc;

        if (call_is(call, i, "replace")) {
            *replace = true;
        } else if (call_is(call, i, "absttl")) {
            *absolute = true;
        } else if (more && (call_is(call, i, "idletime") || call_is(call, i, "freq"))) {
            bool freq = call_is(call, i, "freq");

            if (!call_int64(call, ++i, &n)) {
                call_not_integer(call);
                return false;
            }
            if (n < 0 || (freq && n > 255)) {
                call_error(call, freq ? "ERR Invalid FREQ value, must be >= 0 and <= 255"
                                      : "ERR Invalid IDLETIME value, must be >= 0");
                return false;
            }
        } else {
            call_syntax_error(call);
            return false;
        }
    }
    return true;
}

static void answer_restored(struct pending *p, uint32_t part, const struct coord_reply *answer,
                            struct resp_out *out)
{
    (void)part;
    if (answer->status != 0)
        call_status(p, answer, out);
    else
        resp_ok(out);
}

enum call_result cmd_restore(struct call *call)
{
    struct msg_PUT put = {.key = call->argv[1], .op = PUT_SET};
    bool replace = false, absolute = false;
    struct buf value;
    int64_t ttl;

    if (!restore_options(call, &replace, &absolute))
        return CALL_DONE;
    if (!replace)
        return call_error(call,
                          "ERR RESTORE without REPLACE is not supported: replicas that cannot "
                          "reach each other could both find that there is no such key");
    if (!call_int64(call, 2, &ttl))
        return call_not_integer(call);
    if (ttl < 0)
        return call_error(call, "ERR Invalid TTL value, must be >= 0");
    if (!rdb_string_intact(call->argv[3]))
        return call_error(call, "ERR DUMP payload version or checksum are wrong");
    if (ttl > 0 && !expiry_read(call, 2, absolute ? EXPIRY_PXAT : EXPIRY_PX, &put.expiry))
        return CALL_DONE;
    if (!call_key_ok(call, put.key))
        return CALL_DONE;
    buf_init(&value, LIMIT_VALUE + 1);
    int rc = rdb_string_read(call->argv[3], &value);
    put.value = slice_of(buf_head(&value), buf_len(&value));
    enum call_result result;
    if (rc == -ERR_VERSION)
        result = call_error(call, "ERR RESTORE takes strings only: values are opaque strings here");
    else if (rc != 0)
        result = call_error(call, "ERR Bad data format");
    else
        result = call_put(call, &put, answer_restored, 0, 0);
    buf_free(&value);
    return result;
}
