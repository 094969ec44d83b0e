/* The rules that make a user: parsed and applied. Runs in workers; makes no system call. */
#include "base/check.h"
#include "workers/acl_category.h"
#include "workers/acl_user_impl.h"

#include <stdlib.h>
#include <strings.h>

#define UNKNOWN_NAME "Unknown command or category name in ACL"
#define FIRST_OF_SUB "Allowing first-arg of a subcommand is not supported"
#define BAD_HASH                                                                                   \
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal "      \
    "characters"
#define AFTER_ALL_KEYS                                                                             \
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have " \
    "any effect. Try 'resetkeys' to start with an empty list of patterns"
#define AFTER_ALL_CHANNELS                                                                         \
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not "  \
    "have any effect. Try 'resetchannels' to start with an empty list of channels"
#define NO_SELECTORS "Clockwise has no selectors: make another user"

/* ---- passwords and patterns ---- */

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hash(struct slice text, uint8_t out[MAC_BYTES])
{
    if (text.len != 2 * MAC_BYTES)
        return false;
    for (size_t i = 0; i < MAC_BYTES; i++) {
        int high = hex_value(text.data[2 * i]), low = hex_value(text.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static const char *password_rule(struct acl_user *u, struct slice rule)
{
    uint8_t hash[MAC_BYTES];
    struct slice value = slice_of(rule.data + 1, rule.len - 1);

    if (rule.data[0] == '>' || rule.data[0] == '<')
        mac_sha256(value, hash);
    else if (!parse_hash(value, hash))
        return BAD_HASH;
    return rule.data[0] == '>' || rule.data[0] == '#' ? acl_user_add_password(u, hash)
                                                      : acl_user_remove_password(u, hash);
}

static const char *key_rule(struct acl_user *u, struct slice rule)
{
    uint8_t access = rule.data[0] == '~' ? ACL_ACCESS_READ | ACL_ACCESS_WRITE : 0;
    size_t at = 1;

    if (u->all_keys)
        return slice_equal(rule, slice_str("~*")) ? NULL : AFTER_ALL_KEYS;
    if (rule.data[0] == '%') {
        for (; at < rule.len && rule.data[at] != '~'; at++) {
            uint8_t c = rule.data[at] | 0x20;
            uint8_t one = c == 'r' ? ACL_ACCESS_READ : c == 'w' ? ACL_ACCESS_WRITE : 0;

            if (one == 0 || access & one)
                return ACL_UNKNOWN_RULE;
            access |= one;
        }
        if (access == 0)
            return ACL_UNKNOWN_RULE;
        at += at < rule.len; /* as in Redis, "%RW" alone is a pattern too: that of the empty key */
    }
    struct slice text = slice_of(rule.data + at, rule.len - at);
    if (access == (ACL_ACCESS_READ | ACL_ACCESS_WRITE) && slice_equal(text, slice_str("*"))) {
        acl_user_reset_patterns(u, false);
        u->all_keys = true;
        return NULL;
    }
    return acl_user_add_pattern(u, access, text);
}

static const char *channel_rule(struct acl_user *u, struct slice rule)
{
    struct slice text = slice_of(rule.data + 1, rule.len - 1);

    if (slice_equal(text, slice_str("*"))) {
        acl_user_reset_patterns(u, true);
        u->all_channels = true;
        return NULL;
    }
    return u->all_channels ? AFTER_ALL_CHANNELS : acl_user_add_pattern(u, 0, text);
}

/* ---- commands ---- */

static uint32_t index_of(const struct command *c)
{
    return (uint32_t)(c - command_at(0));
}

static void allow(struct acl_user *u, uint32_t command, bool yes)
{
    uint64_t bit = 1ull << (command % 64);

    if (yes)
        u->commands[command / 64] |= bit;
    else
        u->commands[command / 64] &= ~bit;
}

/* With a denied command go the arguments that were allowed of it. */
static void forget_firsts(struct acl_user *u, uint32_t command)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < u->first_count; i++) {
        if (u->firsts[i].command == command)
            free(u->firsts[i].argument);
        else
            u->firsts[kept++] = u->firsts[i];
    }
    u->first_count = kept;
    if (kept == 0) {
        free(u->firsts);
        u->firsts = NULL;
    }
}

/* A command of Redis that is not here: allowing it allows nothing, but files that do so are good. */
static bool is_refused(struct slice name)
{
    static const char *const names[] = {
#define REFUSED(group, names, why) names,
#include "workers/command_refused.def"
#undef REFUSED
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *at = names[i];

        while (*at != 0) {
            size_t len = strcspn(at, " ");
            if (len == name.len && memcmp(at, name.data, len) == 0)
                return true;
            at += len + strspn(at + len, " ");
        }
    }
    return false;
}

/* A container stands for its subcommands. */
static void allow_all_of(struct acl_user *u, const struct command *c, bool yes)
{
    size_t len = strlen(c->name);

    allow(u, index_of(c), yes);
    forget_firsts(u, index_of(c));
    for (size_t i = 0; command_is_container(c) && i < command_count(); i++)
        if (strncmp(command_at(i)->name, c->name, len) == 0 && command_at(i)->name[len] == '|')
            allow(u, (uint32_t)i, yes);
}

static const char *change_command(struct acl_user *u, struct slice name, bool yes)
{
    const struct command *c = command_find(name);
    const uint8_t *bar = memchr(name.data, '|', name.len);

    if (c != NULL) {
        allow_all_of(u, c, yes);
        return NULL;
    }
    if (bar == NULL)
        return is_refused(name) ? NULL : UNKNOWN_NAME;
    size_t at = (size_t)(bar - name.data);
    struct slice argument = slice_of(bar + 1, name.len - at - 1);
    c = command_find(slice_of(name.data, at));
    if (c == NULL)
        return is_refused(slice_of(name.data, at)) ? NULL : UNKNOWN_NAME;
    bool deeper = memchr(argument.data, '|', argument.len) != NULL;
    if (command_is_container(c) && deeper)
        return FIRST_OF_SUB;
    if (command_is_container(c) || deeper || !yes)
        return UNKNOWN_NAME;
    return acl_user_add_first(u, index_of(c), argument);
}

static const char *change_category(struct acl_user *u, struct slice name, bool yes)
{
    int category = acl_category_find(name);

    if (category < 0)
        return UNKNOWN_NAME;
    for (size_t i = 0; i < command_count(); i++)
        if (acl_category_has(category, command_at(i))) {
            allow(u, (uint32_t)i, yes);
            forget_firsts(u, (uint32_t)i);
        }
    return NULL;
}

static const char *command_rule(struct acl_user *u, struct slice rule)
{
    char small[128];
    bool yes = rule.data[0] == '+';

    if (rule.len >= sizeof small || acl_user_has_blank(rule))
        return UNKNOWN_NAME;
    for (size_t i = 0; i < rule.len; i++)
        small[i] =
            (char)(rule.data[i] >= 'A' && rule.data[i] <= 'Z' ? rule.data[i] | 0x20 : rule.data[i]);
    small[rule.len] = 0;
    if (strcmp(small + 1, "@all") == 0) {
        acl_user_reset_commands(u, yes);
        return NULL;
    }
    bool category = small[1] == '@';
    struct slice name = slice_str(small + 1 + category);
    const char *why = category ? change_category(u, name, yes) : change_command(u, name, yes);
    return why != NULL ? why : acl_user_note_rule(u, small);
}

/* ---- words ---- */

static void set_all_keys(struct acl_user *u, bool yes)
{
    acl_user_reset_patterns(u, false);
    u->all_keys = yes;
}

static void set_all_channels(struct acl_user *u, bool yes)
{
    acl_user_reset_patterns(u, true);
    u->all_channels = yes;
}

static void reset(struct acl_user *u)
{
    acl_user_reset_passwords(u);
    u->on = u->nopass = false;
    set_all_keys(u, false);
    set_all_channels(u, false);
    acl_user_reset_commands(u, false);
}

static bool is_word(struct slice rule, const char *word)
{
    return rule.len == strlen(word) && strncasecmp((const char *)rule.data, word, rule.len) == 0;
}

static const char *word_rule(struct acl_user *u, struct slice rule)
{
    if (is_word(rule, "on") || is_word(rule, "off")) {
        u->on = rule.len == 2;
    } else if (is_word(rule, "nopass") || is_word(rule, "resetpass")) {
        acl_user_reset_passwords(u);
        u->nopass = is_word(rule, "nopass");
    } else if (is_word(rule, "allkeys") || is_word(rule, "resetkeys")) {
        set_all_keys(u, is_word(rule, "allkeys"));
    } else if (is_word(rule, "allchannels") || is_word(rule, "resetchannels")) {
        set_all_channels(u, is_word(rule, "allchannels"));
    } else if (is_word(rule, "allcommands") || is_word(rule, "nocommands")) {
        acl_user_reset_commands(u, is_word(rule, "allcommands"));
    } else if (is_word(rule, "reset")) {
        reset(u);
    } else if (!is_word(rule, "sanitize-payload") && !is_word(rule, "skip-sanitize-payload") &&
               !is_word(rule, "clearselectors")) {
        return ACL_UNKNOWN_RULE;
    }
    return NULL;
}

const char *acl_user_apply(struct acl_user *u, struct slice rule)
{
    ASSERT(u->refs == 1);
    if (rule.len == 0)
        return NULL; /* as in Redis */
    switch (rule.data[0]) {
    case '>':
    case '<':
    case '#':
    case '!':
        return password_rule(u, rule);
    case '~':
    case '%':
        return key_rule(u, rule);
    case '&':
        return channel_rule(u, rule);
    case '+':
    case '-':
        return command_rule(u, rule);
    case '(':
        return NO_SELECTORS;
    default:
        return word_rule(u, rule);
    }
}
