/* ACL: the users of the node, shown and changed. Runs in workers. */
#include "base/err.h"
#include "base/rand.h"
#include "workers/acl_category.h"
#include "workers/acl_store.h"
#include "workers/cmd.h"
#include "workers/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define NO_FILE                                                                                    \
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users " \
    "via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis "      \
    "configuration file set) in order to store users in the Redis configuration."
#define SHOWN 128 /* bytes of an argument shown in an error */

static int shown(struct slice s)
{
    return (int)(s.len < SHOWN ? s.len : SHOWN);
}

static enum call_result too_many(struct call *call)
{
    return call_errorf(
        call, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try ACL HELP.",
        shown(call->argv[1]), call->argv[1].data);
}

/* ---- changes, which all workers of the node have to hear of ---- */

/* CALL_AGAIN: another worker is changing something. Otherwise *rc says whether the change may be
 * made; if not, the error has been replied. */
static enum call_result begin(struct call *call, int *rc)
{
    char why[ACL_WHY] = "";

    *rc = call->clients->acl_store == NULL ? 0 : acl_store_begin(call->clients->acl_store, why);
    if (*rc == -ERR_BUSY) {
        conn_stall(call->conn, CONN_BUSY);
        return CALL_AGAIN;
    }
    if (*rc != 0)
        call_errorf(call, "ERR %s", why);
    return CALL_DONE;
}

/* False: the change was not kept, and the error has been replied. */
static bool end(struct call *call, bool keep)
{
    char why[ACL_WHY] = "";
    int rc =
        call->clients->acl_store == NULL ? 0 : acl_store_end(call->clients->acl_store, keep, why);

    clients_users_changed(call->clients, call->conn);
    if (rc != 0)
        call_errorf(call, "ERR %s", why);
    return rc == 0;
}

/* A changed copy of a user, or NULL after an error reply. */
static struct acl_user *changed_user(struct call *call)
{
    const struct acl_user *old = acl_find(&call->clients->acl, call->argv[2]);
    struct acl_user *u = old != NULL ? acl_user_copy(old) : acl_user_new(call->argv[2], rand_id());
    const char *why = NULL;
    uint32_t i;

    if (u == NULL) {
        call_error(call, "ERR out of memory");
        return NULL;
    }
    for (i = 3; i < call->argc && why == NULL; i++)
        why = acl_user_apply(u, call->argv[i]);
    if (why == NULL)
        return u;
    struct slice bad = call->argv[i - 1];
    call_errorf(call, "ERR Error in ACL SETUSER modifier '%.*s': %s", shown(bad), bad.data, why);
    acl_user_unref(u);
    return NULL;
}

enum call_result cmd_acl_setuser(struct call *call)
{
    int rc;

    if (!acl_user_name_ok(call->argv[2]))
        return call_error(call, "ERR Usernames can't contain spaces or null characters");
    if (begin(call, &rc) == CALL_AGAIN)
        return CALL_AGAIN;
    if (rc != 0)
        return CALL_DONE;
    struct acl_user *u = changed_user(call);
    if (u == NULL) {
        end(call, false);
        return CALL_DONE;
    }
    rc = acl_put(&call->clients->acl, u);
    if (rc != 0) {
        end(call, false);
        return call_errorf(call, "ERR the user cannot be added: %s", err_text(rc));
    }
    return end(call, true) ? cmd_ok(call) : CALL_DONE;
}

enum call_result cmd_acl_deluser(struct call *call)
{
    int64_t removed = 0;
    int rc;

    for (uint32_t i = 2; i < call->argc; i++)
        if (slice_equal(call->argv[i], slice_str("default")))
            return call_error(call, "ERR The 'default' user cannot be removed");
    if (begin(call, &rc) == CALL_AGAIN)
        return CALL_AGAIN;
    if (rc != 0)
        return CALL_DONE;
    for (uint32_t i = 2; i < call->argc; i++)
        removed += acl_remove(&call->clients->acl, call->argv[i]);
    if (end(call, removed > 0))
        resp_integer(call_out(call), removed);
    return CALL_DONE;
}

static bool has_file(const struct call *call)
{
    return call->clients->acl_store != NULL && call->clients->acl_store->file[0] != 0;
}

enum call_result cmd_acl_load(struct call *call)
{
    char why[ACL_WHY] = "";
    int rc;

    if (!has_file(call))
        return call_error(call, NO_FILE);
    if (begin(call, &rc) == CALL_AGAIN)
        return CALL_AGAIN;
    if (rc != 0)
        return CALL_DONE;
    rc = acl_store_load(call->clients->acl_store, why);
    if (rc == 0)
        return end(call, true) ? cmd_ok(call) : CALL_DONE;
    end(call, false);
    return call_errorf(call,
                       "ERR %s. WARNING: ACL errors detected, no change to the previously active "
                       "ACL rules was performed",
                       why);
}

static void answer_saved(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    (void)part;
    if (answer->status == 0)
        resp_ok(out);
    else
        call_fail(p, out,
                  "ERR There was an error trying to save the ACLs: %s. Please check the server "
                  "logs for more information",
                  err_text(answer->status));
}

enum call_result cmd_acl_save(struct call *call)
{
    struct clients *c = call->clients;

    if (!has_file(call))
        return call_error(call, NO_FILE);
    if (c->acl_store->saving) {
        conn_stall(call->conn, CONN_BUSY);
        return CALL_AGAIN;
    }
    uint64_t token = call_wait(call, answer_saved);
    int rc = acl_store_save(c->acl_store, token);
    if (rc != 0) {
        struct coord_reply failed = {.status = rc};

        clients_reply(c, token, &failed);
    }
    return CALL_DONE;
}

/* ---- what is there ---- */

static void reply_buf(struct resp_out *out, struct buf *text)
{
    resp_bulk(out, slice_of(buf_head(text), buf_len(text)));
    buf_free(text);
}

static void reply_flags(const struct acl_user *u, struct resp_out *out)
{
    resp_set(out, u->nopass ? 2 : 1);
    resp_text(out, u->on ? "on" : "off");
    if (u->nopass)
        resp_text(out, "nopass");
}

static void reply_passwords(const struct acl_user *u, struct resp_out *out)
{
    resp_array(out, u->password_count);
    for (uint32_t i = 0; i < u->password_count; i++) {
        char text[2 * MAC_BYTES + 1];

        for (size_t k = 0; k < MAC_BYTES; k++)
            snprintf(text + 2 * k, 3, "%02x", u->passwords[i][k]);
        resp_text(out, text);
    }
}

enum call_result cmd_acl_getuser(struct call *call)
{
    const struct acl_user *u = acl_find(&call->clients->acl, call->argv[2]);
    struct buf commands = {0}, keys = {0}, channels = {0};
    struct resp_out *out = call_out(call);

    if (u == NULL) {
        resp_null(out);
        return CALL_DONE;
    }
    if (acl_user_describe_commands(u, &commands) != 0 ||
        acl_user_describe_patterns(u, false, &keys) != 0 ||
        acl_user_describe_patterns(u, true, &channels) != 0)
        out->failed = true;
    resp_map(out, 6);
    resp_text(out, "flags");
    reply_flags(u, out);
    resp_text(out, "passwords");
    reply_passwords(u, out);
    resp_text(out, "commands");
    reply_buf(out, &commands);
    resp_text(out, "keys");
    reply_buf(out, &keys);
    resp_text(out, "channels");
    reply_buf(out, &channels);
    resp_text(out, "selectors");
    resp_array(out, 0);
    return CALL_DONE;
}

enum call_result cmd_acl_list(struct call *call)
{
    const struct acl *a = &call->clients->acl;
    struct resp_out *out = call_out(call);

    resp_array(out, a->count);
    for (uint32_t i = 0; i < a->count; i++) {
        struct buf text = {0};

        if (acl_user_describe(a->users[i], &text) != 0)
            out->failed = true;
        reply_buf(out, &text);
    }
    return CALL_DONE;
}

enum call_result cmd_acl_users(struct call *call)
{
    const struct acl *a = &call->clients->acl;
    struct resp_out *out = call_out(call);

    resp_array(out, a->count);
    for (uint32_t i = 0; i < a->count; i++)
        resp_text(out, a->users[i]->name);
    return CALL_DONE;
}

enum call_result cmd_acl_whoami(struct call *call)
{
    resp_text(call_out(call), call->conn->user->name);
    return CALL_DONE;
}

enum call_result cmd_acl_cat(struct call *call)
{
    struct resp_out list;
    size_t count = 0;

    if (call->argc > 3)
        return too_many(call);
    int category = call->argc == 3 ? acl_category_find(call->argv[2]) : 0;
    if (category < 0)
        return call_errorf(call, "ERR Unknown category '%.*s'", shown(call->argv[2]),
                           call->argv[2].data);
    resp_init(&list);
    list.protocol = call_out(call)->protocol;
    for (size_t i = 0; call->argc == 2 && acl_category_name(i) != NULL; i++, count++)
        resp_text(&list, acl_category_name(i));
    for (size_t i = 0; call->argc == 3 && i < command_count(); i++) {
        const struct command *c = command_at(i);

        /* As in Redis, a container is nothing that one could run. */
        if (command_is_container(c) || !acl_category_has(category, c))
            continue;
        resp_text(&list, c->name);
        count++;
    }
    resp_array(call_out(call), count);
    resp_take(call_out(call), &list);
    return CALL_DONE;
}

enum call_result cmd_acl_genpass(struct call *call)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[512];
    char text[1024];
    int64_t bits = 256;

    if (call->argc > 3)
        return too_many(call);
    if (call->argc == 3 && !call_int64(call, 2, &bits))
        return call_not_integer(call);
    if (bits <= 0 || bits > 4096)
        return call_error(call, "ERR ACL GENPASS argument must be the number of bits for the "
                                "output password, a positive number up to 4096");
    size_t len = ((size_t)bits + 3) / 4;
    rand_bytes(bytes, (len + 1) / 2);
    for (size_t i = 0; i < len; i++)
        text[i] = digits[bytes[i / 2] >> (i % 2 * 4) & 15];
    resp_bulk(call_out(call), slice_of(text, len));
    return CALL_DONE;
}

enum call_result cmd_acl_dryrun(struct call *call)
{
    const struct acl_user *u = acl_find(&call->clients->acl, call->argv[2]);
    uint32_t argc = call->argc - 3, bad;
    const struct slice *argv = call->argv + 3;

    if (u == NULL)
        return call_errorf(call, "ERR User '%.*s' not found", shown(call->argv[2]),
                           call->argv[2].data);
    const struct command *c = command_lookup(argc, argv);
    if (c == NULL)
        return call_errorf(call, "ERR Command '%.*s' not found", shown(argv[0]), argv[0].data);
    if (!command_arity_ok(c, argc))
        return call_errorf(call, "ERR wrong number of arguments for '%s' command", c->name);
    enum acl_verdict verdict = acl_check(u, c, argc, argv, &bad);
    struct resp_out text;
    resp_init(&text);
    if (verdict == ACL_ALLOWED) {
        resp_ok(call_out(call));
    } else if (verdict == ACL_NO_COMMAND) {
        resp_printf(&text, "User %s has no permissions to run the '%s' command", u->name, c->name);
    } else {
        resp_printf(&text, "User %s has no permissions to access the '%.*s' key", u->name,
                    shown(argv[bad]), argv[bad].data);
    }
    if (verdict != ACL_ALLOWED)
        resp_bulk(call_out(call), slice_of(buf_head(&text.buf), buf_len(&text.buf)));
    resp_free(&text);
    return CALL_DONE;
}

/* ---- the log ---- */

void spread_acl_log_get(struct clients *c, uint64_t asker, struct slice words,
                        struct resp_out *text)
{
    (void)asker;
    (void)words;
    acl_log_collect(&c->acl_log, text);
}

void spread_acl_log_reset(struct clients *c, uint64_t asker, struct slice words,
                          struct resp_out *text)
{
    (void)asker;
    (void)words;
    (void)text;
    acl_log_clear(&c->acl_log);
}

/* p->arg[0]: how many are wanted. */
static void finish_log(struct pending *p, struct resp_out *out)
{
    struct acl_log_entry *all = (struct acl_log_entry *)(void *)buf_head(&p->parts.buf);

    if (p->failed)
        call_status(p, &p->error, out);
    else
        acl_log_reply(all, buf_len(&p->parts.buf) / sizeof *all, p->conn->clients->engine->wall_ms,
                      (uint64_t)p->arg[0], out);
}

enum call_result cmd_acl_log(struct call *call)
{
    int64_t most = 10;

    if (call->argc > 3)
        return too_many(call);
    if (call->argc == 3 && call_is(call, 2, "reset"))
        return spread_begin(call, SPREAD_acl_log_reset, NULL, 0, 0, 0, spread_finish_ok);
    if (call->argc == 3 && !call_int64(call, 2, &most))
        return call_not_integer(call);
    return spread_begin(call, SPREAD_acl_log_get, NULL, 0, most < 0 ? 0 : most, 0, finish_log);
}
