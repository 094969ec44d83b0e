/* One user of the ACL: rules, passwords, description. Runs in workers; makes no system call. */
#include "workers/acl_user_impl.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---- memory ---- */

/* An array with room for one more element, in the place of the given one; NULL without memory, then
 * that one stays. */
static void *grow(void *array, uint32_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return array; /* capacities are powers of two */
    return realloc(array, (count == 0 ? 1 : (size_t)count * 2) * size);
}

static char *text_of(struct slice s)
{
    return strndup((const char *)s.data, s.len);
}

void acl_user_reset_passwords(struct acl_user *u)
{
    free(u->passwords);
    u->passwords = NULL;
    u->password_count = 0;
}

void acl_user_reset_patterns(struct acl_user *u, bool channels)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < u->pattern_count; i++) {
        if ((u->patterns[i].access == 0) == channels)
            free(u->patterns[i].text);
        else
            u->patterns[kept++] = u->patterns[i];
    }
    /* The array keeps the size that grow() takes for granted: at least the next power of two. */
    u->pattern_count = kept;
    if (kept == 0) {
        free(u->patterns);
        u->patterns = NULL;
    }
}

void acl_user_reset_commands(struct acl_user *u, bool all)
{
    for (uint32_t i = 0; i < u->rule_count; i++)
        free(u->rules[i]);
    for (uint32_t i = 0; i < u->first_count; i++)
        free(u->firsts[i].argument);
    free(u->rules);
    free(u->firsts);
    u->rules = NULL;
    u->firsts = NULL;
    u->rule_count = u->first_count = 0;
    u->all_commands = all;
    memset(u->commands, all ? 0xff : 0, sizeof u->commands);
}

bool acl_user_name_ok(struct slice name)
{
    if (name.len == 0 || name.len > LIMIT_ACL_NAME)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] <= ' ' || name.data[i] == 0x7f)
            return false;
    return true;
}

struct acl_user *acl_user_new(struct slice name, uint64_t birth)
{
    struct acl_user *u = calloc(1, sizeof *u);

    if (u == NULL)
        return NULL;
    u->refs = 1;
    u->birth = birth;
    u->name = text_of(name);
    if (u->name == NULL) {
        free(u);
        return NULL;
    }
    return u;
}

struct acl_user *acl_user_ref(struct acl_user *u)
{
    u->refs++;
    return u;
}

void acl_user_unref(struct acl_user *u)
{
    if (u == NULL || --u->refs > 0)
        return;
    acl_user_reset_passwords(u);
    acl_user_reset_patterns(u, false);
    acl_user_reset_patterns(u, true);
    acl_user_reset_commands(u, false);
    free(u->name);
    free(u);
}

/* ---- passwords ---- */

static int find_password(const struct acl_user *u, const uint8_t hash[MAC_BYTES])
{
    int found = -1;

    for (uint32_t i = 0; i < u->password_count; i++)
        if (mac_equal(u->passwords[i], hash, MAC_BYTES))
            found = (int)i;
    return found;
}

bool acl_user_password_ok(const struct acl_user *u, struct slice password)
{
    uint8_t hash[MAC_BYTES];

    mac_sha256(password, hash);
    return find_password(u, hash) >= 0 || u->nopass;
}

const char *acl_user_add_password(struct acl_user *u, const uint8_t hash[MAC_BYTES])
{
    u->nopass = false;
    if (find_password(u, hash) >= 0)
        return NULL;
    if (u->password_count == LIMIT_ACL_PASSWORDS)
        return ACL_TOO_MANY;
    void *more = grow(u->passwords, u->password_count, MAC_BYTES);
    if (more == NULL)
        return ACL_NO_MEMORY;
    u->passwords = more;
    memcpy(u->passwords[u->password_count++], hash, MAC_BYTES);
    return NULL;
}

const char *acl_user_remove_password(struct acl_user *u, const uint8_t hash[MAC_BYTES])
{
    int at = find_password(u, hash);

    if (at < 0)
        return ACL_NO_PASSWORD;
    u->password_count--;
    memmove(u->passwords[at], u->passwords[at + 1],
            (u->password_count - (uint32_t)at) * (size_t)MAC_BYTES);
    if (u->password_count == 0)
        acl_user_reset_passwords(u);
    return NULL;
}

/* ---- patterns ---- */

bool acl_user_has_blank(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] <= ' ' && (s.data[i] == 0 || strchr(" \t\n\v\f\r", s.data[i]) != NULL))
            return true;
    return false;
}

const char *acl_user_add_pattern(struct acl_user *u, uint8_t access, struct slice text)
{
    if (text.len > LIMIT_ACL_RULE || acl_user_has_blank(text))
        return ACL_UNKNOWN_RULE;
    for (uint32_t i = 0; i < u->pattern_count; i++) {
        struct acl_pattern *p = &u->patterns[i];

        if ((p->access == 0) == (access == 0) && slice_equal(slice_str(p->text), text)) {
            p->access |= access;
            if (p->access == (ACL_ACCESS_READ | ACL_ACCESS_WRITE) && strcmp(p->text, "*") == 0) {
                acl_user_reset_patterns(u, false);
                u->all_keys = true;
            }
            return NULL;
        }
    }
    if (u->pattern_count == LIMIT_ACL_PATTERNS)
        return ACL_TOO_MANY;
    void *more = grow(u->patterns, u->pattern_count, sizeof *u->patterns);
    if (more == NULL)
        return ACL_NO_MEMORY;
    u->patterns = more;
    char *copy = text_of(text);
    if (copy == NULL)
        return ACL_NO_MEMORY;
    u->patterns[u->pattern_count++] = (struct acl_pattern){.access = access, .text = copy};
    return NULL;
}

/* ---- rules about commands ---- */

const char *acl_user_add_first(struct acl_user *u, uint32_t command, struct slice argument)
{
    if (argument.len == 0)
        return ACL_UNKNOWN_RULE;
    if (u->first_count == LIMIT_ACL_RULES)
        return ACL_TOO_MANY;
    void *more = grow(u->firsts, u->first_count, sizeof *u->firsts);
    if (more == NULL)
        return ACL_NO_MEMORY;
    u->firsts = more;
    char *copy = text_of(argument);
    if (copy == NULL)
        return ACL_NO_MEMORY;
    u->firsts[u->first_count++] =
        (struct acl_first){.command = (uint16_t)command, .argument = copy};
    return NULL;
}

/* Note the rule for the description: it takes the place of earlier ones about the same command (and
 * its subcommands) or category. */
const char *acl_user_note_rule(struct acl_user *u, const char *rule)
{
    size_t len = strlen(rule + 1);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < u->rule_count; i++) {
        char *other = u->rules[i];

        if (strncmp(other + 1, rule + 1, len) == 0 &&
            (other[len + 1] == 0 || other[len + 1] == '|'))
            free(other);
        else
            u->rules[kept++] = other;
    }
    u->rule_count = kept;
    if (kept == 0) {
        free(u->rules);
        u->rules = NULL;
    }
    if (u->rule_count == LIMIT_ACL_RULES)
        return ACL_TOO_MANY;
    void *more = grow(u->rules, u->rule_count, sizeof *u->rules);
    if (more == NULL)
        return ACL_NO_MEMORY;
    u->rules = more;
    char *copy = strdup(rule);
    if (copy == NULL)
        return ACL_NO_MEMORY;
    u->rules[u->rule_count++] = copy;
    return NULL;
}

/* ---- description ---- */

int acl_user_describe_commands(const struct acl_user *u, struct buf *out)
{
    int rc = buf_printf(out, "%s", u->all_commands ? "+@all" : "-@all");

    for (uint32_t i = 0; rc == 0 && i < u->rule_count; i++)
        rc = buf_printf(out, " %s", u->rules[i]);
    return rc;
}

int acl_user_describe_patterns(const struct acl_user *u, bool channels, struct buf *out)
{
    static const char *const marks[] = {"&", "%R~", "%W~", "~"};
    const char *gap = "";
    int rc = 0;

    if (channels ? u->all_channels : u->all_keys)
        return buf_printf(out, "%s*", channels ? "&" : "~");
    for (uint32_t i = 0; rc == 0 && i < u->pattern_count; i++) {
        const struct acl_pattern *p = &u->patterns[i];

        if ((p->access == 0) != channels)
            continue;
        rc = buf_printf(out, "%s%s%s", gap, marks[p->access], p->text);
        gap = " ";
    }
    return rc;
}

static int describe_passwords(const struct acl_user *u, struct buf *out)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < u->password_count; i++) {
        rc = buf_printf(out, " #");
        for (size_t k = 0; rc == 0 && k < MAC_BYTES; k++)
            rc = buf_printf(out, "%02x", u->passwords[i][k]);
    }
    return rc;
}

int acl_user_describe(const struct acl_user *u, struct buf *out)
{
    size_t before;
    int rc =
        buf_printf(out, "user %s %s%s", u->name, u->on ? "on" : "off", u->nopass ? " nopass" : "");

    if (rc == 0)
        rc = describe_passwords(u, out);
    if (rc == 0)
        rc = buf_printf(out, " ");
    before = buf_len(out);
    if (rc == 0)
        rc = acl_user_describe_patterns(u, false, out);
    if (rc == 0)
        rc = buf_printf(out, "%s%s", buf_len(out) > before ? " " : "",
                        u->all_channels ? "" : "resetchannels ");
    before = buf_len(out);
    if (rc == 0)
        rc = acl_user_describe_patterns(u, true, out);
    if (rc == 0)
        rc = buf_printf(out, "%s", buf_len(out) > before ? " " : "");
    return rc == 0 ? acl_user_describe_commands(u, out) : rc;
}

/* ---- copies ---- */

/* By what it has, not by its description: that one is for people and files. */
struct acl_user *acl_user_copy(const struct acl_user *u)
{
    struct acl_user *c = acl_user_new(slice_str(u->name), u->birth);
    const char *why = NULL;

    if (c == NULL)
        return NULL;
    for (uint32_t i = 0; why == NULL && i < u->password_count; i++)
        why = acl_user_add_password(c, u->passwords[i]);
    for (uint32_t i = 0; why == NULL && i < u->pattern_count; i++)
        why = acl_user_add_pattern(c, u->patterns[i].access, slice_str(u->patterns[i].text));
    for (uint32_t i = 0; why == NULL && i < u->rule_count; i++)
        why = acl_user_note_rule(c, u->rules[i]);
    for (uint32_t i = 0; why == NULL && i < u->first_count; i++)
        why = acl_user_add_first(c, u->firsts[i].command, slice_str(u->firsts[i].argument));
    if (why != NULL) {
        acl_user_unref(c);
        return NULL;
    }
    c->on = u->on;
    c->nopass = u->nopass;
    c->all_keys = u->all_keys;
    c->all_channels = u->all_channels;
    c->all_commands = u->all_commands;
    memcpy(c->commands, u->commands, sizeof c->commands);
    return c;
}
