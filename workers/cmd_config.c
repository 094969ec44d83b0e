/* CONFIG GET and SET: the node's own keys, and those of Redis's that mean the same. Runs in workers. */
#include "workers/cmd.h"

#include "base/err.h"
#include "workers/glob.h"
#include "workers/packed.h"
#include "workers/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define MOST_PAIRS 32
#define MOST_VALUE 512
#define MOST_NAME  64

/* --- GET --- */

/* Keys of Redis's configuration that clients ask for and that cannot be anything else here. */
static const struct fixed {
    const char *name, *value;
} fixed_keys[] = {
    {"appendonly", "yes"},
    {"cluster-enabled", "yes"},
    {"cluster-require-full-coverage", "yes"},
    {"databases", "1"},
    {"hz", "10"},
    {"maxmemory", "0"},
    {"maxmemory-policy", "noeviction"},
    {"notify-keyspace-events", ""},
    {"proto-max-bulk-len", "8388608"},
    {"replica-read-only", "no"},
    {"save", ""},
    {"slave-read-only", "no"},
};

struct config_reply {
    struct call *call;
    struct resp_out list; /* the pairs that match */
    size_t pairs;
};

static void offer(struct config_reply *r, const char *name, const char *value)
{
    for (uint32_t i = 2; i < r->call->argc; i++) {
        if (glob_match(r->call->argv[i], slice_str(name), true)) {
            resp_text(&r->list, name);
            resp_text(&r->list, value);
            r->pairs++;
            return;
        }
    }
}

static void offer_number(struct config_reply *r, const char *name, long long n)
{
    char value[24];

    snprintf(value, sizeof value, "%lld", n);
    offer(r, name, value);
}

/* Keys of ours that Redis has under another name. */
static void offer_alias(struct config_reply *r, const char *name, const char *value)
{
    if (strcmp(name, "durability") == 0)
        offer(r, "appendfsync", strcmp(value, "never") == 0 ? "no" : value);
    else if (strcmp(name, "data_dir") == 0)
        offer(r, "dir", value);
    else if (strcmp(name, "max_clients") == 0)
        offer(r, "maxclients", value);
    else if (strcmp(name, "acllog_max_len") == 0)
        offer(r, "acllog-max-len", value);
    else if (strcmp(name, "log_level") == 0)
        offer(r, "loglevel",
              strcmp(value, "info") == 0                                  ? "verbose"
              : strcmp(value, "warn") == 0 || strcmp(value, "error") == 0 ? "warning"
                                                                          : value);
}

enum call_result cmd_config_get(struct call *call)
{
    struct config_reply r = {.call = call};
    const struct engine *e = call->engine;
    const struct activity *a = &call->clients->activity;
    const char *name;
    char value[4096];

    resp_init(&r.list);
    for (size_t i = 0; i < sizeof fixed_keys / sizeof *fixed_keys; i++)
        offer(&r, fixed_keys[i].name, fixed_keys[i].value);
    offer_number(&r, "timeout", e->conf.timeout_s);
    offer_number(&r, "tcp-keepalive", e->conf.keepalive_s);
    offer_number(&r, "slowlog-log-slower-than", a->slow_us);
    offer_number(&r, "slowlog-max-len", a->slow_max);
    offer_number(&r, "latency-monitor-threshold", a->spike_ms);
    for (unsigned i = 0; e->config != NULL && e->config(e->arg, i, &name, value, sizeof value);
         i++) {
        if (strcmp(name, "secret") != 0)
            offer(&r, name, value);
        offer_alias(&r, name, value);
    }
    struct resp_out *out = call_out(call);
    resp_map(out, r.pairs);
    resp_take(out, &r.list);
    return CALL_DONE;
}

/* --- SET --- */

/* One pair: what it means for the log of slow commands, or for a key of ours. */
struct setting {
    char name[MOST_NAME], value[MOST_VALUE];
};

static bool is_name(const struct setting *s, const char *name)
{
    return strcasecmp(s->name, name) == 0;
}

static void rename_to(struct setting *s, const char *name, const char *suffix)
{
    size_t len = strlen(s->value);

    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(s->value + len, sizeof s->value - len, "%s", suffix);
}

/* A name of Redis's becomes ours, and its value too. */
static void translate(struct setting *s)
{
    if (is_name(s, "maxclients")) {
        rename_to(s, "max_clients", "");
    } else if (is_name(s, "acllog-max-len")) {
        rename_to(s, "acllog_max_len", "");
    } else if (is_name(s, "timeout")) {
        rename_to(s, "client_idle", "s");
    } else if (is_name(s, "tcp-keepalive")) {
        rename_to(s, "tcp_keepalive", "s");
    } else if (is_name(s, "loglevel")) {
        snprintf(s->name, sizeof s->name, "log_level");
        if (strcasecmp(s->value, "verbose") == 0)
            snprintf(s->value, sizeof s->value, "info");
        else if (strcasecmp(s->value, "warning") == 0)
            snprintf(s->value, sizeof s->value, "warn");
    }
}

static bool number(const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end;

    *out = strtoll(text, &end, 10);
    return *text != '\0' && *end == '\0' && *out >= low && *out <= high;
}

/* Settings of what a worker remembers. Returns false if it is none of these; *good: the value is. */
static bool set_activity(struct activity *a, const struct setting *s, bool dry, bool *good)
{
    int64_t n = 0;

    if (is_name(s, "slowlog-log-slower-than")) {
        *good = number(s->value, -1, INT64_MAX, &n);
        if (*good && !dry)
            a->slow_us = n;
    } else if (is_name(s, "slowlog-max-len")) {
        *good = number(s->value, 0, INT64_MAX, &n);
        if (*good && !dry)
            activity_slow_keep(a, n < ACTIVITY_SLOW ? (uint32_t)n : ACTIVITY_SLOW);
    } else if (is_name(s, "latency-monitor-threshold")) {
        *good = number(s->value, 0, UINT32_MAX, &n);
        if (*good && !dry)
            a->spike_ms = (uint32_t)n;
    } else {
        return false;
    }
    return true;
}

/* The value that a key always has, or NULL. */
static const char *fixed_value(const struct setting *s)
{
    for (size_t f = 0; f < sizeof fixed_keys / sizeof *fixed_keys; f++)
        if (is_name(s, fixed_keys[f].name))
            return fixed_keys[f].value;
    return NULL;
}

/* Apply to this worker. Returns 0 or an error, with the pair at fault and a reason. */
static int apply(struct clients *c, struct setting *pairs, uint32_t count, bool dry, uint32_t *bad,
                 char why[ENGINE_WHY])
{
    struct engine_setting ours[MOST_PAIRS];
    uint32_t origin[MOST_PAIRS], used = 0, at = 0;
    bool good = true;

    why[0] = '\0';
    for (*bad = 0; *bad < count; ++*bad) {
        const char *fixed = fixed_value(&pairs[*bad]);

        if (fixed != NULL && strcasecmp(fixed, pairs[*bad].value) != 0)
            return -ERR_DENIED;
        if (fixed != NULL)
            continue; /* it is so already, which is all that a client that asks for it wants */
        if (set_activity(&c->activity, &pairs[*bad], dry, &good)) {
            if (!good) {
                snprintf(why, ENGINE_WHY, "argument couldn't be parsed into an integer");
                return -ERR_INVAL;
            }
            continue;
        }
        origin[used] = *bad;
        ours[used++] = (struct engine_setting){pairs[*bad].name, pairs[*bad].value};
    }
    if (used == 0)
        return 0;
    *bad = origin[0];
    if (c->engine->config_set == NULL)
        return -ERR_NOTFOUND;
    int rc = c->engine->config_set(c->engine->arg, ours, used, dry, &at, why);
    *bad = origin[at < used ? at : used - 1];
    return rc;
}

/* A zero byte would end the value early: a password would be shorter than its owner thinks. */
static bool read_pair(struct setting *s, struct slice name, struct slice value)
{
    if (name.len >= sizeof s->name || value.len >= sizeof s->value - 2 ||
        memchr(value.data, '\0', value.len) != NULL || memchr(name.data, '\0', name.len) != NULL)
        return false;
    snprintf(s->name, sizeof s->name, "%.*s", (int)name.len, name.data);
    snprintf(s->value, sizeof s->value, "%.*s", (int)value.len, value.data);
    translate(s);
    return true;
}

void spread_config_set(struct clients *c, uint64_t asker, struct slice words, struct resp_out *text)
{
    static struct setting pairs[MOST_PAIRS];
    char why[ENGINE_WHY];
    struct slice name, value;
    uint32_t count = 0, bad;

    (void)asker;
    while (count < MOST_PAIRS && packed_take(&words, &name) && packed_take(&words, &value))
        if (read_pair(&pairs[count], name, value))
            count++;
    int rc = apply(c, pairs, count, false, &bad, why);
    if (rc != 0) /* the asker has tried it before: only a worker that is of another build refuses */
        resp_printf(text, "%s: %s\n", pairs[bad].name, why);
}

enum call_result cmd_config_set(struct call *call)
{
    static struct setting pairs[MOST_PAIRS];
    char why[ENGINE_WHY];
    uint32_t count = (call->argc - 2) / 2, bad;

    if (call->argc % 2 != 0)
        return call_error(call, "ERR wrong number of arguments for 'config|set' command");
    if (count > MOST_PAIRS)
        return call_errorf(call, "ERR at most %d parameters in one CONFIG SET", MOST_PAIRS);
    for (uint32_t i = 0; i < count; i++) {
        const struct slice *pair = &call->argv[2 + 2 * i];
        int shown = (int)(pair->len < 64 ? pair->len : 64);

        for (uint32_t j = 0; j < i; j++)
            if (pair->len == call->argv[2 + 2 * j].len &&
                strncasecmp((const char *)pair->data, (const char *)call->argv[2 + 2 * j].data,
                            pair->len) == 0)
                return call_errorf(call,
                                   "ERR CONFIG SET failed (possibly related to argument '%.*s') - "
                                   "duplicate parameter",
                                   shown, pair->data);
        if (memchr(pair[1].data, '\0', pair[1].len) != NULL)
            return call_errorf(call,
                               "ERR CONFIG SET failed (possibly related to argument '%.*s') - "
                               "the value has a zero byte in it",
                               shown, pair->data);
        if (!read_pair(&pairs[i], pair[0], pair[1]))
            return call_errorf(call,
                               "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                               shown, pair->data);
    }
    int rc = apply(call->clients, pairs, count, true, &bad, why);
    const struct slice *at = &call->argv[2 + 2 * bad];
    int shown = (int)(at->len < 64 ? at->len : 64);
    if (rc == -ERR_NOTFOUND)
        return call_errorf(call,
                           "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                           shown, at->data);
    if (rc != 0)
        return call_errorf(call, "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s",
                           shown, at->data, rc == -ERR_DENIED ? "can't set immutable config" : why);
    return spread_begin(call, SPREAD_config_set, call->argv + 2, 2 * count, 0, 0, spread_finish_ok);
}

enum call_result cmd_config_rewrite(struct call *call)
{
    return call_error(call,
                      "ERR CONFIG REWRITE is not supported: the configuration file belongs to "
                      "whoever wrote it; CONFIG SET holds until the next reload or restart");
}
