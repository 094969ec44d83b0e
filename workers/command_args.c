/* The notation of arguments: read and told in one pass, without memory. Runs in workers. */
#include "workers/command_args.h"

#include "base/check.h"

#include <string.h>

#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
#define NAME     "abcdefghijklmnopqrstuvwxyz0123456789-_:/"

static void write_list(struct resp_out *out, const char *at, const char *end);

/* Where the item that begins here ends: at a separator of its own level, or at the end. */
static const char *item_end(const char *at, const char *end)
{
    int depth = 0;

    for (; at < end && (depth > 0 || (*at != ' ' && *at != '|')); at++) {
        depth += *at == '[' || *at == '(' || *at == '{';
        depth -= *at == ']' || *at == ')' || *at == '}';
        ASSERT(depth >= 0);
    }
    ASSERT(depth == 0);
    return at;
}

static const char *type_of(const char *at, const char *end)
{
    if (at == end)
        return "string";
    if (*at == '(' || *at == '{') {
        ASSERT(end[-1] == (*at == '(' ? ')' : '}'));
        return *at == '(' ? "oneof" : "block";
    }
    ASSERT(end - at == 2 && *at == '#');
    switch (at[1]) {
    case 'i':
        return "integer";
    case 't':
        return "unix-time";
    case 'p':
        return "pattern";
    default:
        ASSERT(at[1] == 'k');
        return "key";
    }
}

static void write_flags(struct resp_out *out, bool optional, bool multiple, bool token)
{
    resp_text(out, "flags");
    resp_set(out, (size_t)optional + multiple + token);
    if (optional)
        resp_simple(out, "optional");
    if (multiple)
        resp_simple(out, "multiple");
    if (token)
        resp_simple(out, "multiple_token");
}

static void write_name(struct resp_out *out, const char *at, size_t len)
{
    char name[64];

    ASSERT(len > 0 && len < sizeof name);
    for (size_t i = 0; i < len; i++)
        name[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] | 0x20 : at[i]);
    resp_text(out, "name");
    resp_bulk(out, slice_of(name, len));
}

static void write_item(struct resp_out *out, const char *at, const char *end)
{
    bool optional = at < end && *at == '[' && end[-1] == ']';

    at += optional, end -= optional;
    bool again = at < end && end[-1] == '*';
    end -= again;
    bool multiple = at < end && end[-1] == '+';
    end -= multiple;

    const char *token = at, *name = at;
    size_t token_len = strspn(at, CAPITALS), name_len = token_len;
    bool pure = token_len == (size_t)(end - at);
    if (!pure) {
        if (token_len > 0) {
            ASSERT(at[token_len] == '=');
            name += token_len + 1;
        }
        name_len = strspn(name, NAME);
    }
    const char *type = pure ? "pure-token" : type_of(name + name_len, end);
    bool key = strcmp(type, "key") == 0, nested = end[-1] == ')' || end[-1] == '}';

    ASSERT(multiple || !again);
    resp_map(out, 2u + key + (token_len > 0) + (optional || multiple) + nested);
    write_name(out, name, name_len);
    resp_text(out, "type");
    resp_text(out, type);
    if (key) { /* no command here has keys at two places */
        resp_text(out, "key_spec_index");
        resp_integer(out, 0);
    }
    if (token_len > 0) {
        resp_text(out, "token");
        resp_bulk(out, slice_of(token, token_len));
    }
    if (optional || multiple)
        write_flags(out, optional, multiple, again);
    if (nested) {
        resp_text(out, "arguments");
        write_list(out, name + name_len + 1, end - 1);
    }
}

static void write_list(struct resp_out *out, const char *at, const char *end)
{
    size_t count = 0;

    for (const char *i = at; i < end; i = item_end(i, end) + 1)
        count++;
    resp_array(out, count);
    for (; at < end; at = item_end(at, end) + 1)
        write_item(out, at, item_end(at, end));
}

void command_args_write(struct resp_out *out, const char *notation)
{
    write_list(out, notation, notation + strlen(notation));
}
