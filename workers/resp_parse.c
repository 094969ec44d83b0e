/* The command parser of the Redis protocol. Runs in workers; makes no system call and trusts no byte. */
#include "workers/resp_parse.h"

#include "base/check.h"
#include "core/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

/* What redis-server takes as one argument unless configured otherwise; beyond it is garbage. */
#define REDIS_MAX_BULK (512u << 20)

void resp_parse_init(struct resp_parser *p)
{
    memset(p, 0, sizeof *p);
    p->argv = p->own;
    p->capacity = RESP_INLINE_ARGS;
    p->bulk = -1;
    p->fresh = true;
}

void resp_parse_free(struct resp_parser *p)
{
    if (p->argv != p->own)
        free(p->argv);
    resp_parse_init(p);
}

size_t resp_parse_memory(const struct resp_parser *p)
{
    return p->argv == p->own ? 0 : p->capacity * sizeof *p->argv;
}

static enum resp_status fail(struct resp_parser *p, const char *text)
{
    snprintf(p->error, sizeof p->error, "%s", text);
    return RESP_INVALID;
}

/* Wait for more bytes; what is being skipped need not be kept until then. */
static enum resp_status more(struct resp_parser *p, size_t want)
{
    p->want = want;
    if (p->skipping) {
        p->consumed = p->position;
        p->position = 0;
    }
    return RESP_MORE;
}

/* Arguments are kept as offsets until the command is complete, because the run may move. */
static bool add_arg(struct resp_parser *p, size_t offset, size_t len)
{
    if (p->argc == p->capacity) {
        uint32_t capacity = p->capacity * 2;
        struct slice *argv = malloc(capacity * sizeof *argv);

        if (argv == NULL)
            return false;
        memcpy(argv, p->argv, p->argc * sizeof *argv);
        if (p->argv != p->own)
            free(p->argv);
        p->argv = argv;
        p->capacity = capacity;
    }
    p->argv[p->argc++] = slice_of((const uint8_t *)(uintptr_t)offset, len);
    return true;
}

/* A new command begins: forget the last one. */
static void begin(struct resp_parser *p)
{
    p->fresh = false;
    p->argc = 0;
    p->position = 0;
    p->expected = 0;
    p->bulk = -1;
    p->skipping = false;
    if (p->capacity > RESP_KEEP_ARGS) {
        free(p->argv);
        p->argv = p->own;
        p->capacity = RESP_INLINE_ARGS;
    }
}

static enum resp_status complete(struct resp_parser *p, const uint8_t *data)
{
    p->consumed = p->position;
    p->fresh = true;
    if (p->skipping) {
        p->argc = 0;
        return RESP_TOO_BIG;
    }
    for (uint32_t i = 0; i < p->argc; i++)
        p->argv[i].data = data + (uintptr_t)p->argv[i].data;
    return RESP_COMMAND;
}

/* A decimal number as Redis takes it: no sign but '-', no leading zero, nothing else. */
static bool parse_number(const uint8_t *text, size_t len, int64_t *out)
{
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    uint64_t n = 0;

    if (len - i == 0 || len - i > 18 || (text[i] == '0' && len > 1))
        return false;
    for (; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (text[i] - '0');
    }
    *out = negative ? -(int64_t)n : (int64_t)n;
    return true;
}

/* Read "<type><number>\r\n" at p->position. RESP_COMMAND: *out is the number and the position is
 * behind the line. As in Redis, the type is looked at when there is a whole line, and the byte after
 * '\r' never. */
static enum resp_status header(struct resp_parser *p, const uint8_t *data, size_t len, char type,
                               int64_t *out)
{
    const uint8_t *line = data + p->position;
    size_t left = len - p->position;
    size_t end = 0;

    /* Nearly all lines are short: look at them without a call. */
    while (end < left && end < 12 && line[end] != '\r')
        end++;
    if (end == 12) {
        const uint8_t *found = memchr(line, '\r', left);
        end = found == NULL ? left : (size_t)(found - line);
    }
    if (end == left && left > LIMIT_INLINE)
        return fail(p, type == '*' ? "too big mbulk count string" : "too big bulk count string");
    if (end + 2 > left)
        return more(p, 0);
    if (line[0] != (uint8_t)type) {
        snprintf(p->error, sizeof p->error, "expected '%c', got '%c'", type,
                 line[0] < ' ' ? ' ' : line[0]);
        return RESP_INVALID;
    }
    if (!parse_number(line + 1, end - 1, out))
        return fail(p, type == '*' ? "invalid multibulk length" : "invalid bulk length");
    p->position += end + 2;
    return RESP_COMMAND;
}

/* The same for the line that nearly all are: whole, well-formed and short. false: look closer. */
static inline bool short_header(struct resp_parser *p, const uint8_t *data, size_t len, char type,
                                int64_t *out)
{
    const uint8_t *line = data + p->position;

    if (len - p->position < 10 || line[0] != (uint8_t)type)
        return false;
    uint32_t n = (uint32_t)line[1] - '0', digit;
    if (n > 9 || (n == 0 && line[2] != '\r'))
        return false;
    size_t i = 2;
    for (; i < 8 && (digit = (uint32_t)line[i] - '0') <= 9; i++)
        n = n * 10 + digit;
    if (line[i] != '\r')
        return false;
    p->position += i + 2;
    *out = n;
    return true;
}

static enum resp_status bulk_header(struct resp_parser *p, const uint8_t *data, size_t len,
                                    const struct resp_limits *limits)
{
    int64_t n = 0;

    if (!short_header(p, data, len, '$', &n)) {
        enum resp_status status = header(p, data, len, '$', &n);
        if (status != RESP_COMMAND)
            return status;
    }
    if (n < 0 || n > REDIS_MAX_BULK)
        return fail(p, "invalid bulk length");
    if (limits->unauthenticated &&
        (n > LIMIT_STRANGER_BULK || p->position + (size_t)n + 2 > LIMIT_STRANGER_QUERY))
        return fail(p, "unauthenticated bulk length");
    if ((size_t)n > limits->max_bulk || p->position + (size_t)n + 2 > limits->max_command) {
        if (!p->skipping)
            p->too_long = (size_t)n <= limits->max_bulk;
        p->skipping = true;
    }
    p->bulk = n;
    p->skip = (size_t)n + 2;
    return RESP_COMMAND;
}

/* The bytes of an argument: keep them, or skip what is too big. */
static enum resp_status bulk_body(struct resp_parser *p, size_t len)
{
    size_t left = len - p->position;

    if (p->skipping) {
        size_t take = p->skip < left ? p->skip : left;

        p->position += take;
        p->skip -= take;
        if (p->skip > 0)
            return more(p, p->skip);
        p->argc++;
    } else {
        if (left < p->skip)
            return more(p, p->skip - left);
        if (!add_arg(p, p->position, (size_t)p->bulk))
            return RESP_NOMEM;
        p->position += p->skip;
    }
    p->bulk = -1;
    return RESP_COMMAND;
}

static enum resp_status multibulk(struct resp_parser *p, const uint8_t *data, size_t len,
                                  const struct resp_limits *limits)
{
    enum resp_status status;

    if (p->expected == 0) {
        int64_t n = 0;

        if (!short_header(p, data, len, '*', &n)) {
            status = header(p, data, len, '*', &n);
            if (status != RESP_COMMAND)
                return status;
        }
        if (n > limits->max_args)
            return fail(p, "invalid multibulk length");
        if (limits->unauthenticated && n > LIMIT_STRANGER_ARGS)
            return fail(p, "unauthenticated multibulk length");
        if (n <= 0)
            return complete(p, data);
        p->expected = (uint32_t)n;
    }
    while (p->argc < p->expected) {
        if (p->bulk < 0) {
            status = bulk_header(p, data, len, limits);
            if (status != RESP_COMMAND)
                return status;
        }
        status = bulk_body(p, len);
        if (status != RESP_COMMAND)
            return status;
    }
    return complete(p, data);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a backslash at line[*i] stands for within double quotes; *i moves to its last
 * character. */
static uint8_t unescape(const uint8_t *line, size_t len, size_t *i)
{
    size_t at = *i;

    if (at + 3 < len && line[at + 1] == 'x' && hex_value(line[at + 2]) >= 0 &&
        hex_value(line[at + 3]) >= 0) {
        *i = at + 3;
        return (uint8_t)(hex_value(line[at + 2]) << 4 | hex_value(line[at + 3]));
    }
    *i = at + 1;
    switch (line[at + 1]) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return line[at + 1];
    }
}

/* One argument of an inline command, from line[*at] on; it is unescaped to where it starts, which
 * never overtakes the reader. Returns its length, or -1 for unbalanced quotes. */
static ssize_t inline_arg(uint8_t *line, size_t len, size_t *at)
{
    size_t start = *at, out = start, i = start;
    uint8_t quote = 0;

    for (; i < len; i++) {
        uint8_t c = line[i];

        if (quote == 0) {
            if (is_space(c))
                break;
            if (c == '"' || c == '\'')
                quote = c;
            else
                line[out++] = c;
        } else if (c == quote) {
            quote = 0;
            if (i + 1 < len && !is_space(line[i + 1]))
                return -1;
        } else if (quote == '"' && c == '\\' && i + 1 < len) {
            line[out++] = unescape(line, len, &i);
        } else if (quote == '\'' && c == '\\' && i + 1 < len && line[i + 1] == '\'') {
            line[out++] = '\'';
            i++;
        } else {
            line[out++] = c;
        }
    }
    *at = i;
    return quote != 0 ? -1 : (ssize_t)(out - start);
}

static enum resp_status inline_command(struct resp_parser *p, uint8_t *data, size_t len)
{
    uint8_t *newline = memchr(data + p->position, '\n', len - p->position);

    if (newline == NULL) {
        p->position = len;
        return len > LIMIT_INLINE ? fail(p, "too big inline request") : more(p, 0);
    }
    size_t end = (size_t)(newline - data);
    size_t line = end > 0 && data[end - 1] == '\r' ? end - 1 : end;

    for (size_t at = 0; at < line;) {
        if (is_space(data[at])) {
            at++;
            continue;
        }
        size_t start = at;
        ssize_t n = inline_arg(data, line, &at);
        if (n < 0)
            return fail(p, "unbalanced quotes in request");
        if (!add_arg(p, start, (size_t)n))
            return RESP_NOMEM;
    }
    p->position = end + 1;
    return complete(p, data);
}

enum resp_status resp_parse(struct resp_parser *p, uint8_t *data, size_t len,
                            const struct resp_limits *limits)
{
    if (p->fresh)
        begin(p);
    p->consumed = 0;
    p->want = 0;
    ASSERT(p->position <= len);
    if (len == 0)
        return RESP_MORE;
    if (p->expected == 0 && data[0] != '*')
        return inline_command(p, data, len);
    return multibulk(p, data, len, limits);
}
