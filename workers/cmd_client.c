/* CLIENT, as far as it is about the own connection. Runs in workers. */
#include "workers/cmd.h"

#include <stdio.h>

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
                conn->closing                             ? "c"
                : monitor_is_watcher(conn->clients, conn) ? "O"
                : conn->no_evict                          ? "e"
                                                          : "N",
                conn->unread > 0 ? conn->unread : buf_len(&conn->in),
                conn->in.capacity - buf_len(&conn->in), resp_parse_memory(&conn->parser),
                conn->out.buf.capacity, conn->out.buf.capacity, buf_len(&conn->out.buf),
                conn->owed - (conn->gather != NULL), /* this command itself does not wait */
                conn->held, sizeof *conn + conn->counted_in + conn->counted_out,
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

/* --- what Redis's clients ask about and is not there --- */

enum call_result cmd_client_getredir(struct call *call)
{
    resp_integer(call_out(call), -1);
    return CALL_DONE;
}

enum call_result cmd_client_trackinginfo(struct call *call)
{
    struct resp_out *out = call_out(call);

    resp_map(out, 3);
    resp_text(out, "flags");
    resp_set(out, 1);
    resp_text(out, "off");
    resp_text(out, "redirect");
    resp_integer(out, -1);
    resp_text(out, "prefixes");
    resp_array(out, 0);
    return CALL_DONE;
}

enum call_result cmd_client_tracking(struct call *call)
{
    if (call_is(call, 2, "off"))
        return cmd_ok(call);
    if (!call_is(call, 2, "on"))
        return call_syntax_error(call);
    return call_error(call,
                      "ERR CLIENT TRACKING is not supported: a key may be written through any "
                      "node, so no node could promise to tell of every change");
}

enum call_result cmd_client_caching(struct call *call)
{
    return call_error(call, "ERR CLIENT CACHING can be called only when the client is in tracking "
                            "mode with OPTIN or OPTOUT mode enabled");
}

enum call_result cmd_client_unblock(struct call *call)
{
    int64_t id;

    if (!call_int64(call, 2, &id))
        return call_not_integer(call);
    if (call->argc > 4 ||
        (call->argc == 4 && !call_is(call, 3, "timeout") && !call_is(call, 3, "error")))
        return call_error(call, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    resp_integer(call_out(call), 0); /* no command blocks */
    return CALL_DONE;
}
