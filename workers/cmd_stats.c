/* How often and how long each command has run and what errors were replied, on all workers of the node:
 * INFO commandstats and errorstats, LATENCY HISTOGRAM, CONFIG RESETSTAT. Runs in workers. */
#include "workers/cmd.h"

#include "workers/spread.h"

#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

#define SHARE_ERROR UINT32_MAX

/* What one worker says of one command, or of the errors of one kind. */
struct share {
    uint32_t command; /* index into the command table, or SHARE_ERROR */
    uint32_t unused;
    union {
        struct activity_command counts;
        struct activity_error error;
    };
};

void spread_commandstats(struct clients *c, uint64_t asker, struct slice words,
                         struct resp_out *text)
{
    (void)asker;
    (void)words;
    for (uint32_t i = 0; i < command_count(); i++) {
        struct share s = {.command = i, .counts = c->activity.commands[i]};

        if (s.counts.calls + s.counts.failed + s.counts.rejected > 0)
            resp_raw(text, &s, sizeof s);
    }
    for (int i = 0; i < ACTIVITY_ERRORS && c->activity.errors[i].count > 0; i++) {
        struct share s = {.command = SHARE_ERROR, .error = c->activity.errors[i]};

        resp_raw(text, &s, sizeof s);
    }
}

void spread_stats_reset(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    struct client_stats fresh = {.connected = c->stats.connected,
                                 .paused = c->stats.paused,
                                 .buffer_bytes = c->stats.buffer_bytes};

    (void)asker;
    (void)words;
    (void)text;
    c->stats = fresh;
    activity_reset_commands(&c->activity);
}

enum call_result cmd_config_resetstat(struct call *call)
{
    return spread_begin(call, SPREAD_stats_reset, NULL, 0, 0, 0, spread_finish_ok);
}

/* Sums over all workers, one for each command; NULL without memory. The caller frees it. */
static struct activity_command *sum_up(const struct pending *p)
{
    struct activity_command *sums = calloc(command_count(), sizeof *sums);
    const struct share *s = (const struct share *)(const void *)buf_head(&p->parts.buf);
    size_t count = buf_len(&p->parts.buf) / sizeof *s;

    for (size_t i = 0; sums != NULL && i < count; i++) {
        if (s[i].command >= command_count())
            continue;
        struct activity_command *sum = &sums[s[i].command];
        sum->calls += s[i].counts.calls;
        sum->usec += s[i].counts.usec;
        sum->failed += s[i].counts.failed;
        sum->rejected += s[i].counts.rejected;
        for (int b = 0; b < ACTIVITY_BUCKETS; b++)
            sum->bucket[b] += s[i].counts.bucket[b];
    }
    return sums;
}

/* The upper bound, in us, below which the given share of the calls was. */
static double percentile(const struct activity_command *c, double share)
{
    uint64_t wanted = (uint64_t)((double)c->calls * share), seen = 0;

    for (int b = 0; b < ACTIVITY_BUCKETS; b++) {
        seen += c->bucket[b];
        if (seen > wanted || seen == c->calls)
            return (double)(1ull << b);
    }
    return 0;
}

void cmd_write_commandstats(const struct pending *p, struct resp_out *text)
{
    struct activity_command *sums = sum_up(p);

    for (size_t i = 0; sums != NULL && i < command_count(); i++)
        if (sums[i].calls + sums[i].rejected + sums[i].failed > 0)
            resp_printf(text,
                        "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,rejected_calls=%llu,"
                        "failed_calls=%llu\r\n",
                        command_at(i)->name, (ull)sums[i].calls, (ull)sums[i].usec,
                        sums[i].calls > 0 ? (double)sums[i].usec / (double)sums[i].calls : 0,
                        (ull)sums[i].rejected, (ull)sums[i].failed);
    free(sums);
}

void cmd_write_latencystats(const struct pending *p, struct resp_out *text)
{
    struct activity_command *sums = sum_up(p);

    for (size_t i = 0; sums != NULL && i < command_count(); i++)
        if (sums[i].calls > 0)
            resp_printf(text, "latency_percentiles_usec_%s:p50=%.3f,p99=%.3f,p99.9=%.3f\r\n",
                        command_at(i)->name, percentile(&sums[i], 0.5), percentile(&sums[i], 0.99),
                        percentile(&sums[i], 0.999));
    free(sums);
}

static int by_kind(const void *a, const void *b)
{
    const struct activity_error *x = a, *y = b;

    return strcmp(x->kind, y->kind);
}

void cmd_write_errorstats(const struct pending *p, struct resp_out *text)
{
    const struct share *s = (const struct share *)(const void *)buf_head(&p->parts.buf);
    size_t count = buf_len(&p->parts.buf) / sizeof *s, kinds = 0;
    struct activity_error sums[ACTIVITY_ERRORS] = {0};

    for (size_t i = 0; i < count; i++)
        if (s[i].command == SHARE_ERROR)
            activity_errors(sums, s[i].error.kind, s[i].error.count);
    while (kinds < ACTIVITY_ERRORS && sums[kinds].count > 0)
        kinds++;
    qsort(sums, kinds, sizeof sums[0], by_kind);
    for (size_t i = 0; i < kinds; i++)
        resp_printf(text, "errorstat_%s:count=%llu\r\n", sums[i].kind, (ull)sums[i].count);
}

static void write_histogram(struct resp_out *out, const char *name,
                            const struct activity_command *c)
{
    uint64_t seen = 0;
    size_t used = 0;

    for (int b = 0; b < ACTIVITY_BUCKETS; b++)
        used += c->bucket[b] > 0;
    resp_text(out, name);
    resp_map(out, 2);
    resp_text(out, "calls");
    resp_integer(out, (int64_t)c->calls);
    resp_text(out, "histogram_usec");
    resp_map(out, used);
    for (int b = 0; b < ACTIVITY_BUCKETS; b++) {
        if (c->bucket[b] == 0)
            continue;
        seen += c->bucket[b];
        resp_integer(out, (int64_t)(1ull << b));
        resp_integer(out, (int64_t)seen);
    }
}

/* Which commands are wanted lies in p->index: a byte for each. */
static void finish_histogram(struct pending *p, struct resp_out *out)
{
    const uint8_t *wanted = buf_head(&p->index);
    struct activity_command *sums;
    size_t count = 0;

    if (p->failed) {
        call_status(p, &p->error, out);
        return;
    }
    sums = sum_up(p);
    if (sums == NULL || buf_len(&p->index) < command_count()) {
        out->failed = true;
        free(sums);
        return;
    }
    for (size_t i = 0; i < command_count(); i++)
        count += wanted[i] && sums[i].calls > 0;
    resp_map(out, count);
    for (size_t i = 0; i < command_count(); i++)
        if (wanted[i] && sums[i].calls > 0)
            write_histogram(out, command_at(i)->name, &sums[i]);
    free(sums);
}

/* Is this command, or its container, named? */
static bool is_wanted(const struct call *call, const struct command *c)
{
    const char *bar = strchr(c->name, '|');
    char parent[40];

    if (call->argc == 2)
        return true;
    snprintf(parent, sizeof parent, "%.*s",
             (int)(bar != NULL ? (size_t)(bar - c->name) : strlen(c->name)), c->name);
    for (uint32_t i = 2; i < call->argc; i++)
        if (call_is(call, i, c->name) || call_is(call, i, parent))
            return true;
    return false;
}

enum call_result cmd_latency_histogram(struct call *call)
{
    struct pending *p = call_many(call, 1, false, NULL, NULL);

    for (size_t i = 0; i < command_count(); i++) {
        uint8_t wanted = is_wanted(call, command_at(i));

        if (buf_append(&p->index, &wanted, 1) != 0)
            p->failed = true;
    }
    return spread_begin(call, SPREAD_commandstats, NULL, 0, 0, 0, finish_histogram);
}
