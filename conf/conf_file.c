/* The configuration file: reading it with libinih, which only this file includes. Runs in the
 * supervisor for what the user wrote and in every child for the effective file. */
#include "conf/value.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES    4096 /* longest line, with its end and the final 0 */
#define SECTION_BYTES 49   /* libinih cuts longer names in silence */

/* The keys of a prefix section, in the order of the numbers in struct conf_prefix. */
static const char *const prefix_keys[] = {"n", "r", "w", "pr", "pw", "dw"};
#define PREFIX_KEYS 6

struct loading {
    struct conf *conf;
    const char *path;
    FILE *file;
    unsigned line;
    bool failed; /* error is filled; the first one stays */
    char *error;
    unsigned prefix_line[CONF_PREFIXES][PREFIX_KEYS]; /* where the key was set, or 0 */
    unsigned prefix_section[CONF_PREFIXES];           /* line of the first section heading */
};

static int fail(struct loading *l, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct loading *l, unsigned line, const char *format, ...)
{
    va_list args;
    int n;

    if (l->failed)
        return -ERR_INVAL;
    l->failed = true;
    if (line > 0)
        n = snprintf(l->error, CONF_ERROR, "%.200s:%u: ", l->path, line);
    else
        n = snprintf(l->error, CONF_ERROR, "%.200s: ", l->path);
    va_start(args, format);
    vsnprintf(l->error + n, CONF_ERROR - (size_t)n, format, args);
    va_end(args);
    return -ERR_INVAL;
}

/* The numbers of a prefix section as an array. */
static uint32_t *prefix_number(struct conf_prefix *p, unsigned key)
{
    uint32_t *const numbers[PREFIX_KEYS] = {&p->n, &p->r, &p->w, &p->pr, &p->pw, &p->dw};

    return numbers[key];
}

/* Is this `prefix "..."`? Then the text between the quotes is copied. */
static bool prefix_of_section(const char *section, char prefix[LIMIT_NAME])
{
    static const char start[] = "prefix \"";
    size_t len = strlen(section);

    if (strncmp(section, start, sizeof start - 1) != 0 || len < sizeof start + 1 ||
        section[len - 1] != '"' || len - sizeof start >= LIMIT_NAME)
        return false;
    memcpy(prefix, section + sizeof start - 1, len - sizeof start);
    prefix[len - sizeof start] = 0;
    return strchr(prefix, '"') == NULL;
}

/* The entry of a prefix, made if it is new. Negative beyond CONF_PREFIXES. */
static int prefix_entry(struct loading *l, const char *prefix)
{
    struct conf *c = l->conf;

    for (uint32_t i = 0; i < c->prefix_count; i++)
        if (strcmp(c->prefix[i].prefix, prefix) == 0)
            return (int)i;
    if (c->prefix_count == CONF_PREFIXES)
        return -ERR_LIMIT;
    l->prefix_section[c->prefix_count] = l->line;
    snprintf(c->prefix[c->prefix_count].prefix, LIMIT_NAME, "%s", prefix);
    return (int)c->prefix_count++;
}

/* A section heading: libinih forgives what we do not (an unknown section without keys, text after
 * the bracket, a name that it would cut). */
static void check_heading(struct loading *l, const char *text)
{
    char name[SECTION_BYTES + 1], prefix[LIMIT_NAME];
    size_t len = strcspn(text, "]");

    if (text[len] == 0) {
        fail(l, l->line, "']' is missing");
        return;
    }
    if (text[len + 1 + strspn(text + len + 1, " \t\r\n")] != 0) {
        fail(l, l->line, "unexpected text after ']'");
        return;
    }
    if (len > SECTION_BYTES) {
        fail(l, l->line, "section name is longer than %d bytes", SECTION_BYTES);
        return;
    }
    memcpy(name, text, len);
    name[len] = 0;
    if (prefix_of_section(name, prefix)) {
        if (prefix_entry(l, prefix) < 0)
            fail(l, l->line, "more than %d prefix sections", CONF_PREFIXES);
    } else if (!conf_section_exists(name)) {
        fail(l, l->line, "unknown section [%s]", name);
    }
}

/* Hands libinih one line at a time, so that we know the line, and refuses what it would cut. */
static char *next_line(char *out, int size, void *arg)
{
    struct loading *l = arg;
    int n = 0, c;

    if (l->failed)
        return NULL;
    while ((c = getc(l->file)) != EOF) {
        if (n == 0)
            l->line++;
        if (c == 0 || (c < ' ' && strchr("\t\r\n", c) == NULL)) {
            fail(l, l->line, "control character");
            return NULL;
        }
        if (n + 2 > size) {
            fail(l, l->line, "line is longer than %d bytes", size - 2);
            return NULL;
        }
        out[n++] = (char)c;
        if (c == '\n')
            break;
    }
    out[n] = 0;
    if (n == 0)
        return NULL;
    const char *text = out + strspn(out, " \t");
    if (text[0] == '[') {
        check_heading(l, text + 1);
        if (l->failed)
            return NULL;
    }
    return out;
}

static int set_prefix_key(struct loading *l, const char *prefix, const char *key, const char *value)
{
    int entry = prefix_entry(l, prefix);
    int64_t number;

    ASSERT(entry >= 0);
    for (unsigned i = 0; i < PREFIX_KEYS; i++) {
        if (strcmp(prefix_keys[i], key) != 0)
            continue;
        if (l->prefix_line[entry][i] != 0)
            return fail(l, l->line, "%s was already set for \"%s\" in line %u", key, prefix,
                        l->prefix_line[entry][i]);
        int64_t least = i < 3 ? 1 : 0;
        if (conf_value_number(value, least, LIMIT_REPLICAS, &number) != 0)
            return fail(l, l->line, "%s: not a number between %d and %d: \"%.80s\"", key,
                        (int)least, LIMIT_REPLICAS, value);
        *prefix_number(&l->conf->prefix[entry], i) = (uint32_t)number;
        l->prefix_line[entry][i] = l->line;
        return 0;
    }
    return fail(l, l->line, "unknown key %.80s in a prefix section", key);
}

/* libinih's handler: non-zero is success. */
static int on_key(void *arg, const char *section, const char *key, const char *value)
{
    struct loading *l = arg;
    char prefix[LIMIT_NAME], reason[CONF_ERROR];

    if (l->failed)
        return 0;
    if (section[0] == 0) {
        fail(l, l->line, "%.80s stands before the first section", key);
        return 0;
    }
    if (prefix_of_section(section, prefix))
        return set_prefix_key(l, prefix, key, value) == 0;
    int index = conf_key_find(section, key);
    if (index < 0) {
        fail(l, l->line, "unknown key %.80s in section [%s]", key, section);
        return 0;
    }
    if (l->conf->line[index] != 0) {
        fail(l, l->line, "%s was already set in line %u", key, l->conf->line[index]);
        return 0;
    }
    if (conf_value_set(l->conf, (unsigned)index, value, reason) != 0) {
        fail(l, l->line, "%s: %s", key, reason);
        return 0;
    }
    l->conf->line[index] = (uint16_t)(l->line < UINT16_MAX ? l->line : UINT16_MAX);
    return 1;
}

static int read_file(struct loading *l)
{
    l->file = fopen(l->path, "re");
    if (l->file == NULL)
        return fail(l, 0, "%s", strerror(errno));
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_max_line = ini_initial_alloc = LINE_BYTES;
    ini_allow_multiline = false;
    ini_allow_inline_comments = false; /* a password may contain any character */
    ini_allow_bom = false;
    ini_stop_on_first_error = true;
    ini_allow_no_value = false;
    int rc = ini_parse_stream(next_line, l, on_key, l);
    int broken = ferror(l->file);
    fclose(l->file);
    if (l->failed)
        return -ERR_INVAL;
    if (broken)
        return fail(l, 0, "cannot be read");
    if (rc > 0)
        return fail(l, (unsigned)rc, "neither \"key = value\" nor a [section]");
    if (rc < 0)
        return fail(l, 0, "out of memory");
    return 0;
}

/* What a prefix section leaves open is the cluster's; then the rules of quorums. */
static int finish_prefixes(struct loading *l)
{
    struct conf *c = l->conf;
    uint32_t *const cluster[PREFIX_KEYS] = {&c->cluster.n,  &c->cluster.r,  &c->cluster.w,
                                            &c->cluster.pr, &c->cluster.pw, &c->cluster.dw};
    static const uint8_t most[PREFIX_KEYS] = {0, 0, 0, 1, 2, 2}; /* index of the bound */

    for (uint32_t i = 0; i < c->prefix_count; i++) {
        struct conf_prefix *p = &c->prefix[i];

        for (unsigned k = 0; k < PREFIX_KEYS; k++)
            if (l->prefix_line[i][k] == 0)
                *prefix_number(p, k) = *cluster[k];
        for (unsigned k = 1; k < PREFIX_KEYS; k++) {
            uint32_t value = *prefix_number(p, k), bound = *prefix_number(p, most[k]);
            unsigned line = l->prefix_line[i][k] != 0 ? l->prefix_line[i][k] : l->prefix_section[i];

            if (value > bound)
                return fail(l, line, "prefix \"%s\": %s (%u) is more than %s (%u)", p->prefix,
                            prefix_keys[k], value, prefix_keys[most[k]], bound);
        }
    }
    return 0;
}

static int longer_first(const void *a, const void *b)
{
    const struct conf_prefix *pa = a, *pb = b;
    size_t la = strlen(pa->prefix), lb = strlen(pb->prefix);

    return la != lb ? (la < lb ? 1 : -1) : strcmp(pa->prefix, pb->prefix);
}

int conf_load(struct conf *out, const char *path, char error[CONF_ERROR])
{
    struct loading l = {.conf = out, .path = path != NULL ? path : "defaults", .error = error};
    char reason[CONF_ERROR];
    unsigned blame = 0;

    memset(out, 0, sizeof *out);
    error[0] = 0;
    for (unsigned i = 0; i < CONF_KEYS; i++) {
        int rc = conf_value_set(out, i, conf_key_at(i)->def, reason);

        ASSERT(rc == 0);
    }
    if (path != NULL && read_file(&l) != 0)
        return -ERR_INVAL;
    if (conf_resolve(out, &blame, reason) != 0 || conf_check(out, &blame, reason) != 0)
        return fail(&l, out->line[blame], "%s: %.300s", conf_key_at(blame)->key, reason);
    if (finish_prefixes(&l) != 0)
        return -ERR_INVAL;
    qsort(out->prefix, out->prefix_count, sizeof out->prefix[0], longer_first);
    out->q_bits = (uint8_t)__builtin_ctz(out->cluster.partitions);
    return 0;
}
