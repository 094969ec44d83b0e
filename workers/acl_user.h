/* One user: passwords, what it may run, which keys it may touch; changed by rules as Redis writes them
 * ("on", ">secret", "~cache:*", "+@read", "-config|set"). Source: redis.io, "ACL", and "ACL SETUSER".
 * Not here: selectors; rules on channels are kept and shown, but there are no channels.
 *
 * Users are counted references: a set of users (acl.h) and the connections that are authenticated as
 * one hold them. One that is in a set is not changed any more: copy, change the copy, replace. Used by
 * workers; one thread; no system call. */
#ifndef CLOCKWISE_WORKERS_ACL_USER_H
#define CLOCKWISE_WORKERS_ACL_USER_H

#include "base/buf.h"
#include "base/mac.h"
#include "core/limits.h"

#define ACL_COMMAND_WORDS 8 /* 64 commands each */

enum acl_access { ACL_ACCESS_READ = 1, ACL_ACCESS_WRITE = 2 };

struct acl_pattern {
    uint8_t access; /* enum acl_access; 0: a channel */
    char *text;
};

/* A command allowed only with this first argument ("+select|0"). */
struct acl_first {
    uint16_t command;
    char *argument; /* small letters */
};

struct acl_user {
    uint32_t refs;
    uint64_t birth; /* tells a user from an earlier one of the same name; 1: the default user */
    char *name;
    bool on, nopass, all_keys, all_channels;
    bool all_commands; /* rules start from +@all, not -@all */
    uint32_t password_count, pattern_count, rule_count, first_count;
    uint8_t (*passwords)[MAC_BYTES]; /* SHA-256 */
    struct acl_pattern *patterns;    /* of keys, then of channels */
    char **rules; /* about commands, in order, small letters: "+get", "-@admin" */
    struct acl_first *firsts;
    uint64_t commands[ACL_COMMAND_WORDS]; /* bit: position in the command table */
};

/* Is this a name that a user may have? */
bool acl_user_name_ok(struct slice name);

/* A user that is off and may do nothing, with one reference; or a copy of one, birth included. NULL
 * without memory. */
struct acl_user *acl_user_new(struct slice name, uint64_t birth);
struct acl_user *acl_user_copy(const struct acl_user *u);
struct acl_user *acl_user_ref(struct acl_user *u);
void acl_user_unref(struct acl_user *u); /* NULL is fine */

/* Apply one rule. NULL, or why it cannot be applied in Redis's words (static); the user may then have
 * changed in part and should be dropped. */
const char *acl_user_apply(struct acl_user *u, struct slice rule);

/* Append "user NAME RULES..." without an end of line; or the parts of it. */
int acl_user_describe(const struct acl_user *u, struct buf *out);
int acl_user_describe_commands(const struct acl_user *u, struct buf *out);
int acl_user_describe_patterns(const struct acl_user *u, bool channels, struct buf *out);

/* May it log in with this password? Takes the same time wherever the two differ. */
bool acl_user_password_ok(const struct acl_user *u, struct slice password);

/* May it run anything on any key? */
static inline bool acl_user_unlimited(const struct acl_user *u)
{
    return u->all_commands && u->rule_count == 0 && u->all_keys;
}

static inline bool acl_user_may_run(const struct acl_user *u, uint32_t command)
{
    return u->commands[command / 64] >> (command % 64) & 1;
}

#endif
