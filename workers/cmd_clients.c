/* CLIENT LIST, KILL, PAUSE and UNPAUSE: all connections of the node. Each worker does its share. Runs in
 * workers. */
#include "workers/cmd.h"

#include "base/err.h"
#include "workers/packed.h"
#include "workers/spread.h"

#include <stdio.h>
#include <strings.h>

static bool is_word(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.data, word, s.len) == 0;
}

static bool known_type(struct slice type)
{
    static const char *const names[] = {"normal", "master", "replica", "slave", "pubsub"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_word(type, names[i]))
            return true;
    return false;
}

static enum call_result unknown_type(struct call *call, uint32_t i)
{
    return call_errorf(call, "ERR Unknown client type '%.*s'",
                       (int)(call->argv[i].len < 64 ? call->argv[i].len : 64), call->argv[i].data);
}

static bool read_id(struct slice s, uint64_t *out)
{
    int64_t id;

    if (!call_number(s, &id) || id < 1)
        return false;
    *out = (uint64_t)id;
    return true;
}

/* --- LIST --- */

/* Without words all; otherwise "id" and ids. */
void spread_client_list(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    struct conn_list *lists[] = {&c->idle, &c->active};
    struct slice word;
    uint64_t id;

    (void)asker;
    if (packed_take(&words, &word)) {
        while (packed_take(&words, &word)) {
            struct conn *found = read_id(word, &id) ? clients_find(c, id) : NULL;

            if (found != NULL)
                cmd_client_describe(found, text);
        }
        return;
    }
    for (int l = 0; l < 2; l++)
        for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next)
            cmd_client_describe(conn, text);
}

enum call_result cmd_client_list(struct call *call)
{
    int64_t id;

    if (call->argc >= 4 && call_is(call, 2, "id")) {
        for (uint32_t i = 3; i < call->argc; i++)
            if (!call_int64(call, i, &id))
                return call_error(call, "ERR Invalid client ID");
        return spread_begin(call, SPREAD_client_list, call->argv + 2, call->argc - 2, 0, 0,
                            spread_finish_text);
    }
    if (call->argc == 2)
        return spread_begin(call, SPREAD_client_list, NULL, 0, 0, 0, spread_finish_text);
    if (call->argc != 4 || !call_is(call, 2, "type"))
        return call_syntax_error(call);
    if (!known_type(call->argv[3]))
        return unknown_type(call, 3);
    /* There are no others than normal ones: a list of no ids is empty. */
    return spread_begin(call, SPREAD_client_list, call->argv + 3, !call_is(call, 3, "normal"), 0, 0,
                        spread_finish_text);
}

/* --- KILL --- */

struct kill_filter {
    uint64_t id;
    struct slice addr, laddr, user;
    bool skip_me;
    bool nobody; /* a type that no connection here has */
};

static bool matches(const struct kill_filter *f, uint64_t asker, const struct conn *conn)
{
    char text[80];

    if (f->nobody || (f->skip_me && conn->id == asker) || (f->id != 0 && conn->id != f->id))
        return false;
    if (f->user.data != NULL && !slice_equal(f->user, slice_str(conn->user->name)))
        return false;
    if (f->addr.data != NULL) {
        conn_address(conn, false, text, sizeof text);
        if (!slice_equal(f->addr, slice_str(text)))
            return false;
    }
    if (f->laddr.data != NULL) {
        conn_address(conn, true, text, sizeof text);
        if (!slice_equal(f->laddr, slice_str(text)))
            return false;
    }
    return true;
}

/* One option and its value. Returns the error, or NULL. */
static const char *kill_option(struct kill_filter *f, struct slice option, struct slice value)
{
    if (is_word(option, "id")) {
        if (!read_id(value, &f->id))
            return "ERR client-id should be greater than 0";
    } else if (is_word(option, "addr")) {
        f->addr = value;
    } else if (is_word(option, "laddr")) {
        f->laddr = value;
    } else if (is_word(option, "skipme") && (is_word(value, "no") || is_word(value, "yes"))) {
        f->skip_me = is_word(value, "yes");
    } else if (is_word(option, "user")) {
        f->user = value;
    } else if (is_word(option, "type")) {
        f->nobody |= !is_word(value, "normal");
    } else {
        return "ERR syntax error";
    }
    return NULL;
}

void spread_client_kill(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    struct kill_filter f = {.skip_me = true};
    struct conn_list *lists[] = {&c->idle, &c->active};
    struct slice option, value;
    int64_t killed = 0;

    while (packed_take(&words, &option) && packed_take(&words, &value))
        if (kill_option(&f, option, value) != NULL)
            return;
    for (int l = 0; l < 2; l++) {
        for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next) {
            if (conn->doomed || !matches(&f, asker, conn))
                continue;
            if (conn->id == asker)
                conn_finish(conn);
            else
                conn_doom(conn);
            killed++;
        }
    }
    resp_printf(text, "%lld\n", (long long)killed);
}

static void finish_kill_one(struct pending *p, struct resp_out *out)
{
    if (p->failed) {
        call_status(p, &p->error, out);
    } else if (spread_sum(p) == 0) {
        call_fail(p, out, "ERR No such client");
    } else {
        resp_ok(out);
    }
}

/* Options in pairs from argument 2 on. Replies the error and returns false. */
static bool kill_options(struct call *call)
{
    struct kill_filter f = {0};

    for (uint32_t i = 2; i < call->argc; i += 2) {
        const char *error = "ERR syntax error";

        if (i + 1 < call->argc)
            error = kill_option(&f, call->argv[i], call->argv[i + 1]);
        if (error != NULL) {
            call_error(call, error);
            return false;
        }
        if (call_is(call, i, "type") && !known_type(call->argv[i + 1])) {
            unknown_type(call, i + 1);
            return false;
        }
        if (call_is(call, i, "user") && acl_find(&call->clients->acl, f.user) == NULL) {
            call_errorf(call, "ERR No such user '%.*s'", (int)(f.user.len < 64 ? f.user.len : 64),
                        f.user.data);
            return false;
        }
    }
    return true;
}

enum call_result cmd_client_kill(struct call *call)
{
    if (call->argc == 3) {
        struct slice words[] = {slice_str("addr"), call->argv[2], slice_str("skipme"),
                                slice_str("no")};

        return spread_begin(call, SPREAD_client_kill, words, 4, 0, 0, finish_kill_one);
    }
    if (!kill_options(call))
        return CALL_DONE;
    return spread_begin(call, SPREAD_client_kill, call->argv + 2, call->argc - 2, 0, 0,
                        spread_finish_sum);
}

/* --- PAUSE --- */

/* Milliseconds and "write" or "all". */
void spread_client_pause(struct clients *c, uint64_t asker, struct slice words,
                         struct resp_out *text)
{
    struct slice ms, mode;
    int64_t n;

    (void)asker;
    (void)text;
    if (packed_take(&words, &ms) && call_number(ms, &n) && n >= 0 && packed_take(&words, &mode))
        clients_pause(c, (uint64_t)n, is_word(mode, "write"));
}

void spread_client_unpause(struct clients *c, uint64_t asker, struct slice words,
                           struct resp_out *text)
{
    (void)asker;
    (void)words;
    (void)text;
    clients_unpause(c);
}

enum call_result cmd_client_pause(struct call *call)
{
    struct slice words[2] = {call->argv[2], slice_str("all")};
    int64_t ms;

    if (call->argc > 4 ||
        (call->argc == 4 && !call_is(call, 3, "write") && !call_is(call, 3, "all")))
        return call_error(call, "ERR CLIENT PAUSE mode must be WRITE or ALL");
    if (!call_int64(call, 2, &ms))
        return call_error(call, "ERR timeout is not an integer or out of range");
    if (ms < 0)
        return call_error(call, "ERR timeout is negative");
    if (call->argc == 4)
        words[1] = call->argv[3];
    return spread_begin(call, SPREAD_client_pause, words, 2, 0, 0, spread_finish_ok);
}

enum call_result cmd_client_unpause(struct call *call)
{
    return spread_begin(call, SPREAD_client_unpause, NULL, 0, 0, 0, spread_finish_ok);
}
