/* The command table: index by name, checks before a command runs. Runs in workers. */
#include "workers/command.h"

#include "base/check.h"
#include "base/log.h"
#include "workers/call.h"
#include "workers/command_refused.h"
#include "workers/route.h"

#include <stdio.h>
#include <strings.h>

#define INDEX_SIZE   512 /* a power of two, more than twice the commands */
#define NAME_MAX_LEN 32

static const struct command commands[] = {
#define COMMAND(...) {__VA_ARGS__},
#include "workers/command.def"
#undef COMMAND
};

/* Open addressing; 0: free, else position plus 1. Built once, before the first command. */
static uint16_t name_index[INDEX_SIZE];

_Static_assert(sizeof commands / sizeof *commands * 2 < INDEX_SIZE, "the index is too small");
_Static_assert(sizeof commands / sizeof *commands <= 64 * ACL_COMMAND_WORDS,
               "users have too few bits for commands");
_Static_assert(sizeof commands / sizeof *commands <= ACTIVITY_COMMANDS, "too many commands");
_Static_assert(PENDING_TEXT == ACTIVITY_TEXT, "both hold the beginning of an argument");

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static uint32_t hash_name(struct slice name)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ lower(name.data[i])) * 16777619u;
    return h ^ h >> 15;
}

static bool same_name(const char *name, struct slice given)
{
    for (size_t i = 0; i < given.len; i++)
        if ((uint8_t)name[i] != lower(given.data[i]) || name[i] == '\0')
            return false;
    return name[given.len] == '\0';
}

void command_setup(void)
{
    command_refused_setup();
    memset(name_index, 0, sizeof name_index);
    for (size_t i = 0; i < command_count(); i++) {
        uint32_t at = hash_name(slice_str(commands[i].name)) % INDEX_SIZE;

        while (name_index[at] != 0)
            at = (at + 1) % INDEX_SIZE;
        name_index[at] = (uint16_t)(i + 1);
    }
}

const struct command *command_find(struct slice name)
{
    if (name.len > NAME_MAX_LEN)
        return NULL;
    for (uint32_t at = hash_name(name) % INDEX_SIZE; name_index[at] != 0;
         at = (at + 1) % INDEX_SIZE) {
        const struct command *c = &commands[name_index[at] - 1];
        if (same_name(c->name, name))
            return c;
    }
    return NULL;
}

const struct command *command_at(size_t index)
{
    ASSERT(index < command_count());
    return &commands[index];
}

size_t command_count(void)
{
    return sizeof commands / sizeof *commands;
}

bool command_is_sub(const struct command *c)
{
    return strchr(c->name, '|') != NULL;
}

bool command_is_container(const struct command *c)
{
    return c->run == command_container;
}

bool command_arity_ok(const struct command *c, uint32_t argc)
{
    return c->arity >= 0 ? argc == (uint32_t)c->arity : argc >= (uint32_t)-c->arity;
}

/* As printf's "%.*s" would take it: at most max bytes, up to the first NUL. */
static int printable(struct slice s, size_t max)
{
    size_t len = s.len < max ? s.len : max;
    const uint8_t *nul = len > 0 ? memchr(s.data, 0, len) : NULL;

    return (int)(nul != NULL ? (size_t)(nul - s.data) : len);
}

static enum call_result unknown_command(struct call *call)
{
    char args[192] = "";
    size_t len = 0;

    const char *why = command_refused_why(call->argv[0]);
    if (why != NULL)
        return call_errorf(call, "ERR %.*s is not supported: %s", printable(call->argv[0], 32),
                           call->argv[0].data, why);
    /* Browsers that are tricked into sending requests here must not get far. */
    if (call_is(call, 0, "post") || call_is(call, 0, "host:")) {
        log_warn("a client sent an HTTP request; it is disconnected");
        conn_doom(call->conn);
        return CALL_DONE;
    }
    for (uint32_t i = 1; i < call->argc && len < 128; i++)
        len += (size_t)snprintf(args + len, sizeof args - len, "'%.*s' ",
                                printable(call->argv[i], 128 - len), call->argv[i].data);
    return call_errorf(call, "ERR unknown command '%.*s', with args beginning with: %s",
                       printable(call->argv[0], 128), call->argv[0].data, args);
}

static enum call_result wrong_arity(struct call *call)
{
    return call_errorf(call, "ERR wrong number of arguments for '%s' command", call->command->name);
}

const struct command *command_lookup(uint32_t argc, const struct slice *argv)
{
    char name[NAME_MAX_LEN + 1];
    const struct command *c = command_find(argv[0]);

    if (c == NULL || !command_is_container(c) || argc < 2)
        return c;
    int len = snprintf(name, sizeof name, "%s|%.*s", c->name, printable(argv[1], sizeof name),
                       argv[1].data);
    return len < (int)sizeof name ? command_find(slice_of(name, (size_t)len)) : NULL;
}

/* May the connection's user run this? Replies the error if not. */
static bool permitted(struct call *call)
{
    const struct acl_user *u = call->conn->user;
    uint32_t bad;

    if (acl_user_unlimited(u))
        return true;
    switch (acl_check(u, call->command, call->argc, call->argv, &bad)) {
    case ACL_ALLOWED:
        return true;
    case ACL_NO_COMMAND:
        call->clients->stats.denied_commands++;
        call_note_refusal(call, ACL_REFUSED_COMMAND, slice_str(call->command->name),
                          slice_str(u->name));
        call_errorf(call, "NOPERM User %s has no permissions to run the '%s' command", u->name,
                    call->command->name);
        break;
    case ACL_NO_KEY:
        call->clients->stats.denied_keys++;
        call_note_refusal(call, ACL_REFUSED_KEY, call->argv[bad], slice_str(u->name));
        call_error(call, "NOPERM No permissions to access a key");
        break;
    }
    return false;
}

enum call_result command_container(struct call *call)
{
    char name[NAME_MAX_LEN + 1];
    const struct command *parent = call->command;
    struct slice sub = call->argv[1];
    int len =
        snprintf(name, sizeof name, "%s|%.*s", parent->name, printable(sub, sizeof name), sub.data);

    call->command = len < (int)sizeof name ? command_find(slice_of(name, (size_t)len)) : NULL;
    if (call->command == NULL) {
        char text[64];
        size_t i = 0;
        for (; parent->name[i] != '\0'; i++)
            text[i] = (char)(parent->name[i] & ~0x20);
        text[i] = '\0';
        return call_errorf(call, "ERR unknown subcommand '%.*s'. Try %s HELP.", printable(sub, 128),
                           sub.data, text);
    }
    call->conn->last_command = call->command;
    call->refused = true;
    if (!command_arity_ok(call->command, call->argc))
        return wrong_arity(call);
    if (!call->conn->redo && !permitted(call))
        return CALL_DONE;
    if (!call->conn->redo && call->conn->port == CLIENTS_WORKER && call->command->first > 0 &&
        route_moved(call))
        return CALL_DONE;
    call->refused = false;
    return call->command->run(call);
}

/* --- what is remembered of commands --- */

static void remember(const struct call *call, struct pending *p)
{
    p->command = (uint16_t)(call->command - commands);
    p->started_us = call->engine->now_us;
    p->argc = call->argc;
    p->text_size = 0;
    p->cut = 0;
    if (call->argc > 1 && call->command->run != cmd_auth) { /* a password is not remembered */
        size_t len = call->argv[1].len < PENDING_TEXT ? call->argv[1].len : PENDING_TEXT;

        memcpy(p->text, call->argv[1].data, len);
        p->text_size = (uint16_t)len;
        p->cut = (uint32_t)(call->argv[1].len - len);
    }
}

static void note_slow(struct conn *conn, const struct pending *p, uint64_t usec)
{
    struct clients *c = conn->clients;
    struct activity_slow *s = activity_slow_add(&c->activity);

    s->wall_s = c->engine->wall_ms / 1000;
    s->usec = usec;
    s->command = p->command;
    s->argc = p->argc;
    s->cut = p->cut;
    s->text_size = p->text_size;
    memcpy(s->text, p->text, p->text_size);
    conn_address(conn, false, s->address, sizeof s->address);
    snprintf(s->name, sizeof s->name, "%.63s", conn->name);
}

static void note_end(struct conn *conn, const struct pending *p, bool failed)
{
    struct clients *c = conn->clients;
    struct activity *a = &c->activity;
    uint64_t usec = c->engine->now_us - p->started_us;

    activity_note(a, p->command, usec);
    a->commands[p->command].failed += failed;
    if (activity_is_slow(a, usec))
        note_slow(conn, p, usec);
    if (a->spike_ms > 0)
        activity_spike(a, ACTIVITY_EVENT_COMMAND, c->engine->wall_ms, usec);
}

void command_begun(struct call *call, struct pending *p)
{
    call->clients->begun++;
    remember(call, p);
}

void command_ended(struct conn *conn, const struct pending *p, bool failed)
{
    note_end(conn, p, failed);
}

static enum call_result rejected(struct call *call)
{
    call->clients->activity.commands[call->command - commands].rejected++;
    return CALL_DONE;
}

/* Run it. What has replied at once has ended. */
static enum call_result run_noted(struct call *call)
{
    struct clients *c = call->clients;
    uint64_t errors = c->stats.command_errors, begun = c->begun;
    enum call_result result = call->command->run(call);

    if (result == CALL_DONE && !call->refused && monitor_wanted(&c->monitor, c->engine->now_us))
        monitor_note(call);
    if (result == CALL_DONE && c->begun == begun && call->command != NULL) {
        struct pending now;

        if (call->refused)
            return rejected(call);
        remember(call, &now);
        note_end(call->conn, &now, c->stats.command_errors != errors);
    }
    return result;
}

static enum call_result run_in_order(struct call *call)
{
    struct conn *conn = call->conn;

    if (!key_order_admits(&conn->order, conn->in_flight == 0, call->command, call->argc,
                          call->argv)) {
        conn_stall(conn, CONN_ORDER);
        return CALL_AGAIN;
    }
    return run_noted(call);
}

enum call_result command_run(struct conn *conn, uint32_t argc, const struct slice *argv)
{
    struct clients *c = conn->clients;
    struct call call = {.conn = conn,
                        .clients = c,
                        .engine = c->engine,
                        .argc = argc,
                        .argv = argv,
                        .command = command_find(argv[0])};

    /* A command that could not be taken before has passed the checks. */
    if (conn->redo)
        return run_in_order(&call);
    conn->silent = conn->reply_off || conn->skip_next;
    conn->skip_next = false;
    c->stats.commands++;
    if (call.command == NULL)
        return unknown_command(&call);
    conn->last_command = call.command;
    if (!command_arity_ok(call.command, argc)) {
        wrong_arity(&call);
        return rejected(&call);
    }
    if (!(call.command->flags & CMD_NO_AUTH) && conn_is_stranger(conn)) {
        call_error(&call, "NOAUTH Authentication required.");
        return rejected(&call);
    }
    if (call.command->run != command_container && !permitted(&call))
        return rejected(&call);
    if (conn->port == CLIENTS_WORKER && call.command->first > 0 && route_moved(&call))
        return rejected(&call);
    if (clients_paused(c, call.command)) {
        conn_stall(conn, CONN_PAUSED);
        return CALL_AGAIN;
    }
    return run_in_order(&call);
}
