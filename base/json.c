/* JSON output. Runs in tools and gossipd. */
#include "base/json.h"

#include "base/check.h"

#include <string.h>

/* Length of the UTF-8 character at p, 0 if there is none. Overlong forms and surrogates are none. */
static int character(const unsigned char *p)
{
    int len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

    if (p[0] >= 0x80 && (p[0] < 0xc2 || p[0] > 0xf4))
        return 0;
    for (int i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static void quote(FILE *out, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    fputc('"', out);
    while (*p != 0) {
        int len = character(p);

        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f || len == 0)
            fprintf(out, "\\u%04x", *p);
        else
            fwrite(p, 1, (size_t)len, out);
        p += len == 0 ? 1 : len;
    }
    fputc('"', out);
}

static void lead(struct json *j, const char *name)
{
    if (j->depth > 0) {
        if (j->any[j->depth - 1])
            fputc(',', j->out);
        fprintf(j->out, "\n%*s", (int)j->depth * 2, "");
        j->any[j->depth - 1] = true;
    }
    if (name != NULL) {
        quote(j->out, name);
        fputs(": ", j->out);
    }
}

static void enter(struct json *j, const char *name, char opener, char closer)
{
    lead(j, name);
    ASSERT(j->depth < JSON_DEPTH);
    fputc(opener, j->out);
    j->any[j->depth] = false;
    j->closer[j->depth++] = closer;
}

void json_begin(struct json *j, FILE *out)
{
    memset(j, 0, sizeof *j);
    j->out = out;
}

void json_object(struct json *j, const char *name)
{
    enter(j, name, '{', '}');
}

void json_array(struct json *j, const char *name)
{
    enter(j, name, '[', ']');
}

void json_end(struct json *j)
{
    ASSERT(j->depth > 0);
    j->depth--;
    if (j->any[j->depth])
        fprintf(j->out, "\n%*s", (int)j->depth * 2, "");
    fputc(j->closer[j->depth], j->out);
    if (j->depth == 0)
        fputc('\n', j->out);
}

void json_number(struct json *j, const char *name, uint64_t n)
{
    lead(j, name);
    fprintf(j->out, "%llu", (unsigned long long)n);
}

void json_bool(struct json *j, const char *name, bool b)
{
    lead(j, name);
    fputs(b ? "true" : "false", j->out);
}

void json_text(struct json *j, const char *name, const char *text)
{
    lead(j, name);
    quote(j->out, text);
}

void json_hex(struct json *j, const char *name, uint64_t n)
{
    char text[20];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)n);
    json_text(j, name, text);
}
