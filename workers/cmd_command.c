/* COMMAND: what the command table says about itself; and HELP of every container. Runs in workers. */
#include "workers/cmd.h"
#include "workers/glob.h"

#include <stdio.h>
#include <strings.h>

static bool is_sub_of(const struct command *c, const struct command *parent)
{
    size_t len = strlen(parent->name);

    return strncmp(c->name, parent->name, len) == 0 && c->name[len] == '|';
}

static size_t count_subs(const struct command *parent)
{
    size_t n = 0;

    for (size_t i = 0; i < command_count(); i++)
        n += is_sub_of(command_at(i), parent);
    return n;
}

static size_t count_top(void)
{
    size_t n = 0;

    for (size_t i = 0; i < command_count(); i++)
        n += !command_is_sub(command_at(i));
    return n;
}

static void write_flags(struct resp_out *out, uint32_t flags)
{
    static const char *const names[] = {"write",    "readonly",   "denyoom",    "admin",
                                        "noscript", "loading",    "stale",      "fast",
                                        "no_auth",  "allow_busy", "movablekeys"};

    resp_set(out, (size_t)__builtin_popcount(flags));
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & 1u << i)
            resp_simple(out, names[i]);
}

static void write_acl(struct resp_out *out, const struct command *c)
{
    static const char *const names[] = {"@keyspace", "@string", "@connection", "@admin",
                                        "@dangerous"};
    bool write = c->flags & CMD_WRITE, read = c->flags & CMD_READONLY;

    resp_set(out, (size_t)__builtin_popcount(c->acl) + write + read + 1);
    if (write)
        resp_simple(out, "@write");
    if (read)
        resp_simple(out, "@read");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (c->acl & 1u << i)
            resp_simple(out, names[i]);
    resp_simple(out, c->flags & CMD_FAST ? "@fast" : "@slow");
}

/* How cluster clients may split a command of many keys. */
static void write_tips(struct resp_out *out, const struct command *c)
{
    bool sums = c->last == -1 && c->step == 1 && strcmp(c->name, "mget") != 0;

    if (c->last != -1) {
        resp_array(out, 0);
    } else if (strcmp(c->name, "mget") == 0) {
        resp_array(out, 1);
        resp_text(out, "request_policy:multi_shard");
    } else {
        resp_array(out, 2);
        resp_text(out, "request_policy:multi_shard");
        resp_text(out, sums ? "response_policy:agg_sum" : "response_policy:all_succeeded");
    }
}

static void write_key_spec(struct resp_out *out, const struct command *c)
{
    if (c->first == 0) {
        resp_array(out, 0);
        return;
    }
    resp_array(out, 1);
    resp_map(out, 3);
    resp_text(out, "flags");
    resp_set(out, 2);
    resp_simple(out, c->flags & CMD_WRITE ? "RW" : "RO");
    resp_simple(out, c->flags & CMD_WRITE ? "update" : "access");
    resp_text(out, "begin_search");
    resp_map(out, 2);
    resp_text(out, "type");
    resp_text(out, "index");
    resp_text(out, "spec");
    resp_map(out, 1);
    resp_text(out, "index");
    resp_integer(out, c->first);
    resp_text(out, "find_keys");
    resp_map(out, 2);
    resp_text(out, "type");
    resp_text(out, "range");
    resp_text(out, "spec");
    resp_map(out, 3);
    resp_text(out, "lastkey");
    resp_integer(out, c->last < 0 ? c->last : c->last - c->first);
    resp_text(out, "keystep");
    resp_integer(out, c->step);
    resp_text(out, "limit");
    resp_integer(out, 0);
}

static void write_info(struct resp_out *out, const struct command *c)
{
    size_t subs = command_is_sub(c) ? 0 : count_subs(c);

    resp_array(out, 10);
    resp_text(out, c->name);
    resp_integer(out, c->arity);
    write_flags(out, c->flags);
    resp_integer(out, c->first);
    resp_integer(out, c->last);
    resp_integer(out, c->step);
    write_acl(out, c);
    write_tips(out, c);
    write_key_spec(out, c);
    resp_array(out, subs);
    for (size_t i = 0; subs > 0 && i < command_count(); i++)
        if (is_sub_of(command_at(i), c))
            write_info(out, command_at(i));
}

static void write_docs(struct resp_out *out, const struct command *c)
{
    size_t subs = command_is_sub(c) ? 0 : count_subs(c);

    resp_text(out, c->name);
    resp_map(out, subs > 0 ? 4 : 3);
    resp_text(out, "summary");
    resp_text(out, c->summary);
    resp_text(out, "since");
    resp_text(out, c->since);
    resp_text(out, "group");
    resp_text(out, c->group);
    if (subs == 0)
        return;
    resp_text(out, "subcommands");
    resp_map(out, subs);
    for (size_t i = 0; i < command_count(); i++)
        if (is_sub_of(command_at(i), c))
            write_docs(out, command_at(i));
}

enum call_result cmd_command(struct call *call)
{
    if (call->argc > 1)
        return command_container(call);
    struct resp_out *out = call_out(call);
    resp_array(out, count_top());
    for (size_t i = 0; i < command_count(); i++)
        if (!command_is_sub(command_at(i)))
            write_info(out, command_at(i));
    return CALL_DONE;
}

enum call_result cmd_command_count(struct call *call)
{
    resp_integer(call_out(call), (int64_t)count_top());
    return CALL_DONE;
}

enum call_result cmd_command_info(struct call *call)
{
    struct resp_out *out = call_out(call);

    resp_array(out, call->argc == 2 ? count_top() : call->argc - 2);
    for (size_t i = 0; call->argc == 2 && i < command_count(); i++)
        if (!command_is_sub(command_at(i)))
            write_info(out, command_at(i));
    for (uint32_t i = 2; i < call->argc; i++) {
        const struct command *c = command_find(call->argv[i]);
        if (c != NULL)
            write_info(out, c);
        else
            resp_null_array(out);
    }
    return CALL_DONE;
}

enum call_result cmd_command_docs(struct call *call)
{
    struct resp_out *out = call_out(call);
    size_t found = 0;

    for (uint32_t i = 2; i < call->argc; i++)
        found += command_find(call->argv[i]) != NULL;
    resp_map(out, call->argc == 2 ? count_top() : found);
    for (size_t i = 0; call->argc == 2 && i < command_count(); i++)
        if (!command_is_sub(command_at(i)))
            write_docs(out, command_at(i));
    for (uint32_t i = 2; i < call->argc; i++) {
        const struct command *c = command_find(call->argv[i]);
        if (c != NULL)
            write_docs(out, c);
    }
    return CALL_DONE;
}

/* FILTERBY ACLCAT: the names that write_acl() gives. */
static bool in_category(const struct command *c, struct slice category)
{
    struct resp_out names;
    char wanted[40];
    bool found;

    int len = snprintf(wanted, sizeof wanted, "+@%.*s\r\n",
                       (int)(category.len < 32 ? category.len : 32), category.data);
    resp_init(&names);
    write_acl(&names, c);
    found = memmem(buf_head(&names.buf), buf_len(&names.buf), wanted, (size_t)len) != NULL;
    resp_free(&names);
    return found;
}

enum call_result cmd_command_list(struct call *call)
{
    bool pattern = call->argc == 5 && call_is(call, 3, "pattern");
    bool category = call->argc == 5 && call_is(call, 3, "aclcat");
    bool module = call->argc == 5 && call_is(call, 3, "module");

    if (call->argc != 2 && !(call_is(call, 2, "filterby") && (pattern || category || module)))
        return call_syntax_error(call);
    struct resp_out list;
    size_t count = 0;
    resp_init(&list);
    for (size_t i = 0; i < command_count() && !module; i++) {
        const struct command *c = command_at(i);

        /* As in Redis, only a filter lists subcommands. */
        if (command_is_sub(c) && call->argc == 2)
            continue;
        if ((pattern && !glob_match(call->argv[4], slice_str(c->name), true)) ||
            (category && !in_category(c, call->argv[4])))
            continue;
        resp_text(&list, c->name);
        count++;
    }
    struct resp_out *out = call_out(call);
    resp_set(out, count);
    resp_take(out, &list);
    return CALL_DONE;
}

enum call_result cmd_command_getkeys(struct call *call)
{
    uint32_t argc = call->argc - 2;
    const struct slice *argv = call->argv + 2;
    const struct command *c = command_find(argv[0]);

    if (c == NULL)
        return call_error(call, "ERR Invalid command specified");
    if (c->first == 0)
        return call_error(call, "ERR The command has no key arguments");
    if (!command_arity_ok(c, argc))
        return call_error(call, "ERR Invalid number of arguments specified for command");
    uint32_t last = c->last < 0 ? argc - 1 : (uint32_t)c->last;
    uint32_t count = (last - (uint32_t)c->first) / (uint32_t)c->step + 1;
    struct resp_out *out = call_out(call);
    resp_array(out, count);
    for (uint32_t i = 0; i < count; i++)
        resp_bulk(out, argv[(uint32_t)c->first + i * (uint32_t)c->step]);
    return CALL_DONE;
}

enum call_result cmd_help(struct call *call)
{
    const char *bar = strchr(call->command->name, '|');
    char parent[40], line[256];

    snprintf(parent, sizeof parent, "%.*s", (int)(bar - call->command->name), call->command->name);
    const struct command *container = command_find(slice_str(parent));
    struct resp_out *out = call_out(call);
    resp_array(out, 1 + 2 * count_subs(container));
    for (char *c = parent; *c != '\0'; c++)
        *c = (char)(*c >= 'a' && *c <= 'z' ? *c & ~0x20 : *c);
    snprintf(line, sizeof line,
             "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", parent);
    resp_simple(out, line);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *sub = command_at(i);

        if (!is_sub_of(sub, container))
            continue;
        size_t len = 0;
        for (const char *c = strchr(sub->name, '|') + 1; *c != '\0' && len < 40; c++)
            line[len++] = (char)(*c >= 'a' && *c <= 'z' ? *c & ~0x20 : *c);
        line[len] = '\0';
        resp_simple(out, line);
        snprintf(line, sizeof line, "    %s", sub->summary);
        resp_simple(out, line);
    }
    return CALL_DONE;
}
