/* COMMAND: what the command table says about itself; and HELP of every container. Runs in workers. */
#include "workers/cmd.h"
#include "workers/command_args.h"
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
    static const char *const names[] = {
        "write", "readonly", "denyoom", "admin",      "noscript",    "loading",
        "stale", "fast",     "no_auth", "allow_busy", "movablekeys", "no_async_loading"};

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

/* How cluster clients may spread a command, and what its replies are like. */
static const char *const *tips_of(const struct command *c)
{
    static const struct {
        const char *name;
        const char *tips[4];
    } table[] = {
        {"client|info", {"nondeterministic_output"}},
        {"cluster|bumpepoch", {"nondeterministic_output"}},
        {"cluster|count-failure-reports", {"nondeterministic_output"}},
        {"cluster|getkeysinslot", {"nondeterministic_output"}},
        {"cluster|info", {"nondeterministic_output"}},
        {"cluster|links", {"nondeterministic_output"}},
        {"cluster|nodes", {"nondeterministic_output"}},
        {"cluster|replicas", {"nondeterministic_output"}},
        {"cluster|shards", {"nondeterministic_output"}},
        {"cluster|slaves", {"nondeterministic_output"}},
        {"cluster|slots", {"nondeterministic_output"}},
        {"client|list", {"nondeterministic_output"}},
        {"command", {"nondeterministic_output_order"}},
        {"command|docs", {"nondeterministic_output_order"}},
        {"command|info", {"nondeterministic_output_order"}},
        {"command|list", {"nondeterministic_output_order"}},
        {"config|resetstat", {"request_policy:all_nodes", "response_policy:all_succeeded"}},
        {"config|set", {"request_policy:all_nodes", "response_policy:all_succeeded"}},
        {"dbsize", {"request_policy:all_shards", "response_policy:agg_sum"}},
        {"del", {"request_policy:multi_shard", "response_policy:agg_sum"}},
        {"dump", {"nondeterministic_output"}},
        {"exists", {"request_policy:multi_shard", "response_policy:agg_sum"}},
        {"flushall", {"request_policy:all_shards", "response_policy:all_succeeded"}},
        {"flushdb", {"request_policy:all_shards", "response_policy:all_succeeded"}},
        {"info",
         {"nondeterministic_output", "request_policy:all_shards", "response_policy:special"}},
        {"keys", {"request_policy:all_shards", "nondeterministic_output_order"}},
        {"latency|doctor",
         {"nondeterministic_output", "request_policy:all_nodes", "response_policy:special"}},
        {"latency|graph",
         {"nondeterministic_output", "request_policy:all_nodes", "response_policy:special"}},
        {"latency|histogram",
         {"nondeterministic_output", "request_policy:all_nodes", "response_policy:special"}},
        {"latency|history",
         {"nondeterministic_output", "request_policy:all_nodes", "response_policy:special"}},
        {"latency|latest",
         {"nondeterministic_output", "request_policy:all_nodes", "response_policy:special"}},
        {"latency|reset", {"request_policy:all_nodes", "response_policy:agg_sum"}},
        {"memory|doctor",
         {"nondeterministic_output", "request_policy:all_shards", "response_policy:special"}},
        {"memory|malloc-stats",
         {"nondeterministic_output", "request_policy:all_shards", "response_policy:special"}},
        {"memory|purge", {"request_policy:all_shards", "response_policy:all_succeeded"}},
        {"memory|stats",
         {"nondeterministic_output", "request_policy:all_shards", "response_policy:special"}},
        {"memory|usage", {"nondeterministic_output"}},
        {"mget", {"request_policy:multi_shard"}},
        {"mset", {"request_policy:multi_shard", "response_policy:all_succeeded"}},
        {"object|encoding", {"nondeterministic_output"}},
        {"object|freq", {"nondeterministic_output"}},
        {"object|idletime", {"nondeterministic_output"}},
        {"object|refcount", {"nondeterministic_output"}},
        {"ping", {"request_policy:all_shards", "response_policy:all_succeeded"}},
        {"randomkey",
         {"request_policy:all_shards", "response_policy:special", "nondeterministic_output"}},
        {"scan", {"nondeterministic_output", "request_policy:special", "response_policy:special"}},
        {"slowlog|get", {"request_policy:all_nodes", "nondeterministic_output"}},
        {"slowlog|len",
         {"request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"}},
        {"slowlog|reset", {"request_policy:all_nodes", "response_policy:all_succeeded"}},
        {"time", {"nondeterministic_output"}},
        {"touch", {"request_policy:multi_shard", "response_policy:agg_sum"}},
        {"ttl", {"nondeterministic_output"}},
        {"pttl", {"nondeterministic_output"}},
        {"unlink", {"request_policy:multi_shard", "response_policy:agg_sum"}},
    };
    static const char *const none[1] = {NULL};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, c->name) == 0)
            return table[i].tips;
    return none;
}

static void write_tips(struct resp_out *out, const struct command *c)
{
    const char *const *tips = tips_of(c);
    size_t count = 0;

    while (tips[count] != NULL)
        count++;
    resp_array(out, count);
    for (size_t i = 0; i < count; i++)
        resp_text(out, tips[i]);
}

/* What a command does with its keys, in the words of Redis's key specifications: RO, RW, OW (overwrites),
 * RM (removes); access, update, delete. What is not named follows from read or write. blind: SET
 * without GET, as far as one command line tells. */
static void write_key_flags(struct resp_out *out, const struct command *c, bool blind)
{
    static const struct {
        const char *name;
        const char *flags[3];
    } table[] = {
        {"cw.del", {"RM", "delete"}},
        {"cw.explain", {"RO"}},
        {"cw.put", {"OW", "update"}},
        {"del", {"RM", "delete"}},
        {"exists", {"RO"}},
        {"getdel", {"RW", "access", "delete"}},
        {"getex", {"RW", "access", "update"}},
        {"getset", {"RW", "access", "update"}},
        {"memory|usage", {"RO"}},
        {"mset", {"OW", "update"}},
        {"object|encoding", {"RO"}},
        {"object|freq", {"RO"}},
        {"object|idletime", {"RO"}},
        {"object|refcount", {"RO"}},
        {"psetex", {"OW", "update"}},
        {"restore", {"OW", "update"}},
        {"set", {"RW", "access", "update"}},
        {"setex", {"OW", "update"}},
        {"strlen", {"RO"}},
        {"touch", {"RO"}},
        {"type", {"RO"}},
        {"unlink", {"RM", "delete"}},
    };
    static const char *const reads[3] = {"RO", "access"}, *const writes[3] = {"RW", "update"},
                             *const overwrites[3] = {"OW", "update"};
    const char *const *flags = c->flags & CMD_WRITE ? writes : reads;
    size_t count = 0;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, c->name) == 0)
            flags = table[i].flags;
    if (blind)
        flags = overwrites;
    while (count < 3 && flags[count] != NULL)
        count++;
    resp_set(out, count);
    for (size_t i = 0; i < count; i++)
        resp_simple(out, flags[i]);
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
    write_key_flags(out, c, false);
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
    resp_map(out, 3u + (c->arguments[0] != '\0') + (subs > 0));
    resp_text(out, "summary");
    resp_text(out, c->summary);
    resp_text(out, "since");
    resp_text(out, c->since);
    resp_text(out, "group");
    resp_text(out, c->group);
    if (c->arguments[0] != '\0') {
        resp_text(out, "arguments");
        command_args_write(out, c->arguments);
    }
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
            resp_null(out);
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

/* The keys of the command line behind argument 2. with_flags: and what is done with each. */
static enum call_result reply_keys(struct call *call, bool with_flags)
{
    uint32_t argc = call->argc - 2;
    const struct slice *argv = call->argv + 2;
    const struct command *c = command_lookup(argc, argv);

    if (c == NULL)
        return call_error(call, "ERR Invalid command specified");
    if (c->first == 0)
        return call_error(call, "ERR The command has no key arguments");
    if (!command_arity_ok(c, argc))
        return call_error(call, "ERR Invalid number of arguments specified for command");
    uint32_t last = c->last < 0 ? argc - 1 : (uint32_t)c->last;
    uint32_t count = (last - (uint32_t)c->first) / (uint32_t)c->step + 1;
    bool blind = c->run == cmd_set;
    for (uint32_t i = 5; blind && i < call->argc; i++)
        blind = !call_is(call, i, "get");
    struct resp_out *out = call_out(call);
    resp_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        if (with_flags)
            resp_array(out, 2);
        resp_bulk(out, argv[(uint32_t)c->first + i * (uint32_t)c->step]);
        if (with_flags)
            write_key_flags(out, c, blind);
    }
    return CALL_DONE;
}

enum call_result cmd_command_getkeys(struct call *call)
{
    return reply_keys(call, false);
}

enum call_result cmd_command_getkeysandflags(struct call *call)
{
    return reply_keys(call, true);
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
