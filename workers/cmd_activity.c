/* SLOWLOG, LATENCY and INFO commandstats: what the workers of the node remember of their commands, put
 * together. Runs in workers. */
#include "workers/cmd.h"
#include "workers/latency_graph.h"

#include "workers/packed.h"
#include "workers/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

typedef unsigned long long ull;

static bool is_word(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.data, word, s.len) == 0;
}

/* --- SLOWLOG --- */

/* The entries as they lie in memory: workers of a node are of one build. */
void spread_slowlog_get(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    (void)asker;
    (void)words;
    for (uint32_t i = 0; i < c->activity.slow_count; i++)
        resp_raw(text, activity_slow_at(&c->activity, i), sizeof(struct activity_slow));
}

void spread_slowlog_reset(struct clients *c, uint64_t asker, struct slice words,
                          struct resp_out *text)
{
    (void)asker;
    (void)words;
    (void)text;
    activity_reset_slow(&c->activity);
}

static int newest_first(const void *a, const void *b)
{
    const struct activity_slow *x = a, *y = b;

    if (x->wall_s != y->wall_s)
        return x->wall_s < y->wall_s ? 1 : -1;
    return x->id < y->id ? 1 : x->id > y->id ? -1 : 0;
}

static void write_slow(struct resp_out *out, const struct activity_slow *s)
{
    const struct command *command = command_at(s->command);
    char rest[64];

    resp_array(out, 6);
    resp_integer(out, (int64_t)s->id);
    resp_integer(out, (int64_t)s->wall_s);
    resp_integer(out, (int64_t)s->usec);
    resp_array(out, s->argc > 2 ? 3 : s->argc);
    resp_text(out, command->name);
    if (s->argc > 1 && s->cut > 0) {
        char cut[ACTIVITY_TEXT + 40];
        int n = snprintf(cut, sizeof cut, "%.*s... (%u more bytes)", s->text_size, s->text, s->cut);
        resp_bulk(out, slice_of(cut, (size_t)n));
    } else if (s->argc > 1) {
        resp_bulk(out, slice_of(s->text, s->text_size));
    }
    if (s->argc > 2) {
        snprintf(rest, sizeof rest, "... (%u more arguments)", s->argc - 2);
        resp_text(out, rest);
    }
    resp_text(out, s->address);
    resp_text(out, s->name);
}

/* p->arg[0]: how many are wanted; negative: all. */
static void finish_slowlog(struct pending *p, struct resp_out *out)
{
    struct activity_slow *all = (struct activity_slow *)(void *)buf_head(&p->parts.buf);
    size_t count = buf_len(&p->parts.buf) / sizeof *all;

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    if (count > 1)
        qsort(all, count, sizeof *all, newest_first);
    if (p->arg[0] >= 0 && (uint64_t)p->arg[0] < count)
        count = (size_t)p->arg[0];
    resp_array(out, count);
    for (size_t i = 0; i < count; i++)
        write_slow(out, &all[i]);
}

enum call_result cmd_slowlog_get(struct call *call)
{
    int64_t count = 10;

    if (call->argc > 3)
        return call_error(call, "ERR wrong number of arguments for 'slowlog|get' command");
    if (call->argc == 3 && (!call_int64(call, 2, &count) || count < -1))
        return call_error(call, "ERR count should be greater than or equal to -1");
    return spread_begin(call, SPREAD_slowlog_get, NULL, 0, count, 0, finish_slowlog);
}

static void finish_slowlog_len(struct pending *p, struct resp_out *out)
{
    if (p->failed)
        call_status(p, &p->error, out);
    else
        resp_integer(out, (int64_t)(buf_len(&p->parts.buf) / sizeof(struct activity_slow)));
}

enum call_result cmd_slowlog_len(struct call *call)
{
    return spread_begin(call, SPREAD_slowlog_get, NULL, 0, 0, 0, finish_slowlog_len);
}

enum call_result cmd_slowlog_reset(struct call *call)
{
    return spread_begin(call, SPREAD_slowlog_reset, NULL, 0, 0, 0, spread_finish_ok);
}

/* --- LATENCY --- */

/* One line for each sample: event, second, ms, worst of the event. */
void spread_latency_get(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    (void)asker;
    (void)words;
    for (int e = 0; e < ACTIVITY_EVENTS; e++) {
        const struct activity_spikes *s = &c->activity.spikes[e];

        for (uint32_t i = 0; i < s->count; i++) {
            uint32_t at = (s->at + ACTIVITY_SPIKES - s->count + i) % ACTIVITY_SPIKES;

            resp_printf(text, "%d %llu %u %u\n", e, (ull)s->sample[at].wall_s, s->sample[at].ms,
                        s->max_ms);
        }
    }
}

/* The events that are named; without words all. Answers how many had samples. */
void spread_latency_reset(struct clients *c, uint64_t asker, struct slice words,
                          struct resp_out *text)
{
    struct slice name;
    bool all = words.len == 0, wanted[ACTIVITY_EVENTS] = {false};
    int count = 0;

    (void)asker;
    while (packed_take(&words, &name))
        for (int e = 0; e < ACTIVITY_EVENTS; e++)
            wanted[e] |= is_word(name, activity_event_name((enum activity_event)e));
    for (int e = 0; e < ACTIVITY_EVENTS; e++) {
        struct activity_spikes *s = &c->activity.spikes[e];

        if ((!all && !wanted[e]) || s->count == 0)
            continue;
        memset(s, 0, sizeof *s);
        count++;
    }
    resp_printf(text, "%d\n", count);
}

/* The next line of the texts of all workers. */
static bool next_sample(struct slice *text, struct latency_sample *out)
{
    const uint8_t *end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    ull wall_s;
    char line[96];

    if (end == NULL)
        return false;
    snprintf(line, sizeof line, "%.*s", (int)(end - text->data), (const char *)text->data);
    *text = slice_of(end + 1, text->len - (size_t)(end + 1 - text->data));
    if (sscanf(line, "%d %llu %u %u", &out->event, &wall_s, &out->ms, &out->max_ms) != 4)
        return false;
    out->wall_s = wall_s;
    return out->event >= 0 && out->event < ACTIVITY_EVENTS;
}

static struct slice all_text(const struct pending *p)
{
    return slice_of(buf_head(&p->parts.buf), buf_len(&p->parts.buf));
}

static int older_first(const void *a, const void *b)
{
    const struct latency_sample *x = a, *y = b;

    return x->wall_s < y->wall_s ? -1 : x->wall_s > y->wall_s;
}

/* The latest spikes of the event in p->arg[0], of all workers, oldest first; the caller frees them. *count
 * is 0 without memory, too. */
static struct latency_sample *spikes_of_event(struct pending *p, struct resp_out *out,
                                              size_t *count)
{
    struct slice text = all_text(p);
    struct latency_sample s, *list;
    size_t found = 0, room = ACTIVITY_SPIKES * LIMIT_WORKERS;

    *count = 0;
    list = calloc(room, sizeof *list);
    if (list == NULL) {
        out->failed = true;
        return NULL;
    }
    while (found < room && next_sample(&text, &s))
        if (s.event == p->arg[0])
            list[found++] = s;
    qsort(list, found, sizeof *list, older_first);
    *count = found < ACTIVITY_SPIKES ? found : ACTIVITY_SPIKES;
    memmove(list, list + found - *count, *count * sizeof *list);
    return list;
}

static void finish_history(struct pending *p, struct resp_out *out)
{
    size_t count;

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    struct latency_sample *list = spikes_of_event(p, out, &count);
    resp_array(out, count);
    for (size_t i = 0; i < count; i++) {
        resp_array(out, 2);
        resp_integer(out, (int64_t)list[i].wall_s);
        resp_integer(out, list[i].ms);
    }
    free(list);
}

static void finish_graph(struct pending *p, struct resp_out *out)
{
    const char *event = activity_event_name((enum activity_event)p->arg[0]);
    struct resp_out text;
    size_t count;

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    struct latency_sample *list = spikes_of_event(p, out, &count);
    if (count == 0) {
        call_fail(p, out, "ERR No samples available for event '%s'", event);
    } else {
        resp_init(&text);
        latency_graph_write(&text, event, list, count, p->conn->clients->engine->wall_ms / 1000);
        resp_take_text(out, &text);
    }
    free(list);
}

/* Ask all workers for the spikes of the event in argument 2. false: there is no such event. */
static bool ask_for_event(struct call *call, pending_finish_fn *finish, enum call_result *result)
{
    for (int e = 0; e < ACTIVITY_EVENTS; e++) {
        if (call_is(call, 2, activity_event_name((enum activity_event)e))) {
            *result = spread_begin(call, SPREAD_latency_get, NULL, 0, e, 0, finish);
            return true;
        }
    }
    return false;
}

enum call_result cmd_latency_history(struct call *call)
{
    enum call_result result;

    if (ask_for_event(call, finish_history, &result))
        return result;
    resp_array(call_out(call), 0);
    return CALL_DONE;
}

enum call_result cmd_latency_graph(struct call *call)
{
    enum call_result result;
    size_t len = call->argv[2].len < 128 ? call->argv[2].len : 128;

    if (ask_for_event(call, finish_graph, &result))
        return result;
    return call_errorf(call, "ERR No samples available for event '%.*s'", (int)len,
                       call->argv[2].data);
}

static size_t newest_of_each(struct slice text, struct latency_sample latest[ACTIVITY_EVENTS])
{
    struct latency_sample s;
    size_t count = 0;

    memset(latest, 0, ACTIVITY_EVENTS * sizeof latest[0]);
    while (next_sample(&text, &s)) {
        struct latency_sample *l = &latest[s.event];
        uint32_t max_ms = l->max_ms > s.max_ms ? l->max_ms : s.max_ms;

        count += l->wall_s == 0;
        if (s.wall_s >= l->wall_s)
            *l = s;
        l->max_ms = max_ms;
    }
    return count;
}

static void finish_latest(struct pending *p, struct resp_out *out)
{
    struct latency_sample latest[ACTIVITY_EVENTS];

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    resp_array(out, newest_of_each(all_text(p), latest));
    for (int e = 0; e < ACTIVITY_EVENTS; e++) {
        if (latest[e].wall_s == 0)
            continue;
        resp_array(out, 4);
        resp_text(out, activity_event_name((enum activity_event)e));
        resp_integer(out, (int64_t)latest[e].wall_s);
        resp_integer(out, latest[e].ms);
        resp_integer(out, latest[e].max_ms);
    }
}

enum call_result cmd_latency_latest(struct call *call)
{
    return spread_begin(call, SPREAD_latency_get, NULL, 0, 0, 0, finish_latest);
}

static void finish_doctor(struct pending *p, struct resp_out *out)
{
    struct latency_sample latest[ACTIVITY_EVENTS];
    struct resp_out text;

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    resp_init(&text);
    size_t count = newest_of_each(all_text(p), latest);
    if (p->conn->clients->activity.spike_ms == 0)
        resp_printf(&text, "Latency monitoring is off. CONFIG SET latency-monitor-threshold "
                           "<milliseconds> turns it on at this node.\n");
    else if (count == 0)
        resp_printf(&text, "No command and no turn of a worker's loop has taken %u ms or more.\n",
                    p->conn->clients->activity.spike_ms);
    for (int e = 0; e < ACTIVITY_EVENTS; e++)
        if (latest[e].wall_s != 0)
            resp_printf(&text, "%s: latest spike %u ms, worst %u ms.%s\n",
                        activity_event_name((enum activity_event)e), latest[e].ms, latest[e].max_ms,
                        e == ACTIVITY_EVENT_LOOP
                            ? " A worker was kept from its clients: look at the load of its CPU."
                            : " SLOWLOG GET names slow commands; a slow disk or node shows in INFO "
                              "persistence and CLUSTER INFO.");
    resp_take_text(out, &text);
}

enum call_result cmd_latency_doctor(struct call *call)
{
    return spread_begin(call, SPREAD_latency_get, NULL, 0, 0, 0, finish_doctor);
}

enum call_result cmd_latency_reset(struct call *call)
{
    return spread_begin(call, SPREAD_latency_reset, call->argv + 2, call->argc - 2, 0, 0,
                        spread_finish_sum);
}
