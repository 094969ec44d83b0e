/* Commands in which every worker of the node takes part: each does its share among its own connections
 * and answers text, and the worker that was asked makes one reply of all. Used by workers; one thread;
 * nothing blocks. A sibling that does not run takes no part: it has no connections either. */
#ifndef CLOCKWISE_WORKERS_SPREAD_H
#define CLOCKWISE_WORKERS_SPREAD_H

#include "workers/call.h"

/* One worker's share. words: packed.h; asker: the id of the connection that wants it. */
typedef void spread_fn(struct clients *c, uint64_t asker, struct slice words,
                       struct resp_out *text);

/* What can be done so; the functions are in the files of their commands. */
#define SPREAD_OPS(X)                                                                              \
    X(client_list)                                                                                 \
    X(client_kill)                                                                                 \
    X(client_pause)                                                                                \
    X(client_unpause)                                                                              \
    X(config_set)                                                                                  \
    X(stats_reset)                                                                                 \
    X(slowlog_get)                                                                                 \
    X(slowlog_reset)                                                                               \
    X(latency_get)                                                                                 \
    X(latency_reset)                                                                               \
    X(acl_log_get)                                                                                 \
    X(acl_log_reset)                                                                               \
    X(commandstats)                                                                                \
    X(monitor_watch)                                                                               \
    X(monitor_lines)

enum spread_op {
#define X(name) SPREAD_##name,
    SPREAD_OPS(X)
#undef X
        SPREAD_OP_COUNT
};

#define X(name) spread_fn spread_##name;
SPREAD_OPS(X)
#undef X

/* Have every worker do it, with these words; finish finds all texts, one behind the other, in
 * p->parts. Beside them the caller may keep two numbers in p->arg. */
enum call_result spread_begin(struct call *call, enum spread_op op, const struct slice *words,
                              uint32_t count, int64_t arg0, int64_t arg1,
                              pending_finish_fn *finish);

/* In finish: the sum of the lines of all texts, each a decimal number. */
int64_t spread_sum(const struct pending *p);

/* Finishes: +OK; the sum; all texts as one text. */
pending_finish_fn spread_finish_ok, spread_finish_sum, spread_finish_text;

#endif
