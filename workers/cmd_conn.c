/* Commands about the connection itself: PING, HELLO, AUTH and the like. Runs in workers. */
#include "workers/cmd.h"

#include <stdio.h>

enum call_result cmd_ok(struct call *call)
{
    resp_ok(call_out(call));
    return CALL_DONE;
}

/* Whoever wants to begin with an empty server says FUNCTION FLUSH beside FLUSHALL. */
enum call_result cmd_function(struct call *call)
{
    if (call_is(call, 1, "flush"))
        return cmd_ok(call);
    return call_error(call,
                      "ERR FUNCTION is not supported: scripts assume one copy of the data and "
                      "one order of commands");
}

enum call_result cmd_ping(struct call *call)
{
    if (call->argc > 2)
        return call_error(call, "ERR wrong number of arguments for 'ping' command");
    if (call->argc == 2)
        resp_bulk(call_out(call), call->argv[1]);
    else
        resp_raw(call_out(call), "+PONG\r\n", 7);
    return CALL_DONE;
}

enum call_result cmd_echo(struct call *call)
{
    resp_bulk(call_out(call), call->argv[1]);
    return CALL_DONE;
}

enum call_result cmd_quit(struct call *call)
{
    resp_ok(call_out(call));
    conn_finish(call->conn);
    return CALL_DONE;
}

enum call_result cmd_select(struct call *call)
{
    int64_t n;

    if (!call_int64(call, 1, &n))
        return call_not_integer(call);
    if (n < INT32_MIN || n > INT32_MAX)
        return call_errorf(call, "ERR value is out of range, value must between %d and %d",
                           INT32_MIN, INT32_MAX);
    if (n != 0)
        return call_error(call, "ERR DB index is out of range");
    return cmd_ok(call);
}

/* Check a user name and password; replies the error and returns false if they are wrong. */
static bool authenticate(struct call *call, struct slice user, struct slice password)
{
    struct acl_user *found = acl_login(&call->clients->acl, user, password);

    if (found != NULL) {
        conn_login(call->conn, found);
        return true;
    }
    call->clients->stats.auth_failures++;
    call_note_refusal(call, ACL_REFUSED_AUTH, call->argv[0], user);
    call_error(call, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

enum call_result cmd_auth(struct call *call)
{
    if (call->argc > 3)
        return call_syntax_error(call);
    if (call->argc == 2 && call->clients->acl.standard->nopass)
        return call_error(call,
                          "ERR AUTH <password> called without any password configured for the "
                          "default user. Are you sure your configuration is correct?");
    struct slice user = call->argc == 3 ? call->argv[1] : slice_str("default");
    if (authenticate(call, user, call->argv[call->argc - 1]))
        resp_ok(call_out(call));
    return CALL_DONE;
}

bool cmd_name_ok(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] < '!' || name.data[i] > '~')
            return false;
    return true;
}

bool cmd_set_name(struct call *call, struct slice name)
{
    struct conn *conn = call->conn;

    if (!cmd_name_ok(name)) {
        call_error(call, "ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    if (name.len >= sizeof conn->name) {
        call_errorf(call, "ERR Client names cannot be longer than %zu bytes",
                    sizeof conn->name - 1);
        return false;
    }
    snprintf(conn->name, sizeof conn->name, "%.*s", (int)name.len, name.data);
    return true;
}

static void introduce(struct call *call)
{
    struct resp_out *out = call_out(call);

    resp_map(out, 7);
    resp_text(out, "server");
    resp_text(out, "redis");
    resp_text(out, "version");
    resp_text(out, CMD_REDIS_VERSION);
    resp_text(out, "proto");
    resp_integer(out, out->protocol);
    resp_text(out, "id");
    resp_integer(out, (int64_t)call->conn->id);
    resp_text(out, "mode");
    resp_text(out, "cluster");
    resp_text(out, "role");
    resp_text(out, "master");
    resp_text(out, "modules");
    resp_array(out, 0);
}

enum call_result cmd_hello(struct call *call)
{
    struct slice user = {NULL, 0}, password = {NULL, 0}, name = {NULL, 0};
    int64_t version = 0;

    if (call->argc > 1 &&
        (!call_int64(call, 1, &version) || version < INT32_MIN || version > INT32_MAX))
        return call_error(call, "ERR Protocol version is not an integer or out of range");
    if (call->argc > 1 && version != 2 && version != 3)
        return call_error(call, "NOPROTO unsupported protocol version");
    for (uint32_t i = 2; i < call->argc; i++) {
        if (call_is(call, i, "auth") && i + 2 < call->argc) {
            user = call->argv[++i];
            password = call->argv[++i];
        } else if (call_is(call, i, "setname") && i + 1 < call->argc) {
            name = call->argv[++i];
            if (!cmd_name_ok(name))
                return call_error(call, "ERR Client names cannot contain spaces, newlines or "
                                        "special characters.");
        } else {
            size_t len = call->argv[i].len < 64 ? call->argv[i].len : 64;
            return call_errorf(call, "ERR Syntax error in HELLO option '%.*s'", (int)len,
                               call->argv[i].data);
        }
    }
    if (user.data != NULL && !authenticate(call, user, password))
        return CALL_DONE;
    if (conn_is_stranger(call->conn))
        return call_error(call,
                          "NOAUTH HELLO must be called with the client already authenticated, "
                          "otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "
                          "authenticate the client and select the RESP protocol version at the "
                          "same time");
    if (name.data != NULL && !cmd_set_name(call, name))
        return CALL_DONE;
    if (version != 0)
        call->conn->out.protocol = (uint8_t)version;
    introduce(call);
    return CALL_DONE;
}

enum call_result cmd_reset(struct call *call)
{
    struct conn *conn = call->conn;

    conn->reply_off = conn->skip_next = conn->silent = false;
    conn->out.protocol = 2;
    conn->name[0] = '\0';
    conn->no_evict = conn->no_touch = conn->knows_nodes = false;
    monitor_leave(call->clients, conn);
    conn_logout(conn);
    resp_simple(call_out(call), "RESET");
    return CALL_DONE;
}
