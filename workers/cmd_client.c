/* CLIENT: names, lists and ends connections of this worker. Runs in workers. */
#include "workers/cmd.h"

#include <stdio.h>
#include <strings.h>

enum call_result cmd_client_id(struct call *call)
{
    resp_integer(call_out(call), (int64_t)call->conn->id);
    return CALL_DONE;
}

enum call_result cmd_client_getname(struct call *call)
{
    if (call->conn->name[0] == '\0')
        resp_null(call_out(call));
    else
        resp_text(call_out(call), call->conn->name);
    return CALL_DONE;
}

enum call_result cmd_client_setname(struct call *call)
{
    if (cmd_set_name(call, call->argv[2]))
        resp_ok(call_out(call));
    return CALL_DONE;
}

enum call_result cmd_client_setinfo(struct call *call)
{
    struct conn *conn = call->conn;
    struct slice value = call->argv[3];
    bool name = call_is(call, 2, "lib-name");

    if (!name && !call_is(call, 2, "lib-ver"))
        return call_errorf(call, "ERR Unrecognized option '%.*s'",
                           (int)(call->argv[2].len < 64 ? call->argv[2].len : 64),
                           call->argv[2].data);
    if (!cmd_name_ok(value) || value.len >= CONN_NAME)
        return call_errorf(call, "ERR %s cannot contain spaces, newlines or special characters.",
                           name ? "lib-name" : "lib-ver");
    snprintf(name ? conn->lib_name : conn->lib_version, CONN_NAME, "%.*s", (int)value.len,
             value.data);
    return cmd_ok(call);
}

enum call_result cmd_client_reply(struct call *call)
{
    struct conn *conn = call->conn;

    if (call_is(call, 2, "on")) {
        conn->reply_off = conn->silent = false;
        return cmd_ok(call);
    }
    if (call_is(call, 2, "off"))
        conn->reply_off = true;
    else if (call_is(call, 2, "skip"))
        conn->skip_next = !conn->reply_off;
    else
        return call_syntax_error(call);
    return CALL_DONE;
}

static enum call_result on_or_off(struct call *call, bool *flag)
{
    if (!call_is(call, 2, "on") && !call_is(call, 2, "off"))
        return call_syntax_error(call);
    *flag = call_is(call, 2, "on");
    return cmd_ok(call);
}

enum call_result cmd_client_no_evict(struct call *call)
{
    return on_or_off(call, &call->conn->no_evict);
}

enum call_result cmd_client_no_touch(struct call *call)
{
    return on_or_off(call, &call->conn->no_touch);
}

/* --- lists --- */

void cmd_client_describe(const struct conn *conn, struct resp_out *to)
{
    char peer[80], local[80];
    uint64_t now = conn->clients->engine->now_us;

    conn_address(conn, false, peer, sizeof peer);
    conn_address(conn, true, local, sizeof local);
    resp_printf(to,
                "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=0 sub=0 "
                "psub=0 ssub=0 multi=-1 qbuf=%zu qbuf-free=%zu argv-mem=%zu multi-mem=0 rbs=%zu "
                "rbp=%zu obl=%zu oll=%u omem=%zu tot-mem=%zu events=%s%s cmd=%s user=%s "
                "redir=-1 resp=%u lib-name=%s lib-ver=%s\n",
                (unsigned long long)conn->id, peer, local, conn->wire.fd, conn->name,
                (unsigned long long)((now - conn->created_us) / 1000000u),
                (unsigned long long)((now - conn->active_us) / 1000000u),
                conn->closing    ? "c"
                : conn->no_evict ? "e"
                                 : "N",
                buf_len(&conn->in), conn->in.capacity - buf_len(&conn->in),
                resp_parse_memory(&conn->parser), conn->out.buf.capacity, conn->out.buf.capacity,
                buf_len(&conn->out.buf), conn->owed, conn->held,
                sizeof *conn + conn->counted_in + conn->counted_out,
                conn->stall == CONN_RUNS ? "r" : "", conn->blocked ? "w" : "",
                conn->last_command != NULL ? conn->last_command->name : "NULL", conn->user->name,
                conn->out.protocol, conn->lib_name, conn->lib_version);
}

enum call_result cmd_client_info(struct call *call)
{
    struct resp_out text;

    resp_init(&text);
    cmd_client_describe(call->conn, &text);
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

static bool known_type(struct slice type)
{
    static const char *const names[] = {"normal", "master", "replica", "slave", "pubsub"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (type.len == strlen(names[i]) &&
            strncasecmp((const char *)type.data, names[i], type.len) == 0)
            return true;
    return false;
}

static enum call_result unknown_type(struct call *call, uint32_t i)
{
    return call_errorf(call, "ERR Unknown client type '%.*s'",
                       (int)(call->argv[i].len < 64 ? call->argv[i].len : 64), call->argv[i].data);
}

enum call_result cmd_client_list(struct call *call)
{
    struct clients *c = call->clients;
    struct conn_list *lists[] = {&c->idle, &c->active};
    struct resp_out text;
    int64_t id;

    resp_init(&text);
    if (call->argc >= 4 && call_is(call, 2, "id")) {
        for (uint32_t i = 3; i < call->argc; i++) {
            if (!call_int64(call, i, &id) || id < 1) {
                resp_free(&text);
                return call_error(call, "ERR Invalid client ID");
            }
            struct conn *found = clients_find(c, (uint64_t)id);
            if (found != NULL)
                cmd_client_describe(found, &text);
        }
    } else if (call->argc == 2 || (call->argc == 4 && call_is(call, 2, "type"))) {
        if (call->argc == 4 && !known_type(call->argv[3]))
            return unknown_type(call, 3);
        for (int l = 0; l < 2 && (call->argc == 2 || call_is(call, 3, "normal")); l++)
            for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next)
                cmd_client_describe(conn, &text);
    } else {
        return call_syntax_error(call);
    }
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

/* --- ends --- */

struct kill_filter {
    uint64_t id;
    struct slice addr, laddr, user;
    bool skip_me;
    bool nobody; /* a type or user that no connection here has */
};

static void kill_one(struct call *call, struct conn *conn)
{
    if (conn == call->conn)
        conn_finish(conn);
    else
        conn_doom(conn);
}

static bool matches(const struct kill_filter *f, const struct call *call, const struct conn *conn)
{
    char text[80];

    if (f->nobody || (f->skip_me && conn == call->conn) || (f->id != 0 && conn->id != f->id))
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

static int64_t kill_matching(struct call *call, const struct kill_filter *f)
{
    struct clients *c = call->clients;
    struct conn_list *lists[] = {&c->idle, &c->active};
    int64_t killed = 0;

    if (f->id != 0) {
        struct conn *conn = clients_find(c, f->id);
        if (conn == NULL || !matches(f, call, conn))
            return 0;
        kill_one(call, conn);
        return 1;
    }
    for (int l = 0; l < 2; l++) {
        for (struct conn *conn = lists[l]->first; conn != NULL; conn = conn->next) {
            if (matches(f, call, conn)) {
                kill_one(call, conn);
                killed++;
            }
        }
    }
    return killed;
}

/* Options in pairs from argument 2 on. Replies the error and returns false. */
static bool kill_options(struct call *call, struct kill_filter *f)
{
    for (uint32_t i = 2; i < call->argc; i += 2) {
        int64_t id;

        if (i + 1 >= call->argc) {
            call_syntax_error(call);
            return false;
        }
        if (call_is(call, i, "id")) {
            if (!call_int64(call, i + 1, &id) || id < 1) {
                call_error(call, "ERR client-id should be greater than 0");
                return false;
            }
            f->id = (uint64_t)id;
        } else if (call_is(call, i, "addr")) {
            f->addr = call->argv[i + 1];
        } else if (call_is(call, i, "laddr")) {
            f->laddr = call->argv[i + 1];
        } else if (call_is(call, i, "skipme") && call_is(call, i + 1, "no")) {
            f->skip_me = false;
        } else if (call_is(call, i, "skipme") && call_is(call, i + 1, "yes")) {
            f->skip_me = true;
        } else if (call_is(call, i, "user")) {
            if (acl_find(&call->clients->acl, call->argv[i + 1]) == NULL) {
                call_errorf(call, "ERR No such user '%.*s'",
                            (int)(call->argv[i + 1].len < 64 ? call->argv[i + 1].len : 64),
                            call->argv[i + 1].data);
                return false;
            }
            f->user = call->argv[i + 1];
        } else if (call_is(call, i, "type")) {
            if (!known_type(call->argv[i + 1])) {
                unknown_type(call, i + 1);
                return false;
            }
            f->nobody |= !call_is(call, i + 1, "normal");
        } else {
            call_syntax_error(call);
            return false;
        }
    }
    return true;
}

enum call_result cmd_client_kill(struct call *call)
{
    struct kill_filter f = {.skip_me = call->argc > 3};

    if (call->argc == 3) {
        f.addr = call->argv[2];
        if (kill_matching(call, &f) == 0)
            return call_error(call, "ERR No such client");
        return cmd_ok(call);
    }
    if (!kill_options(call, &f))
        return CALL_DONE;
    int64_t killed = kill_matching(call, &f);
    resp_integer(call_out(call), killed);
    return CALL_DONE;
}
