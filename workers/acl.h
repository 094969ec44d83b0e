/* The users of a node, as one worker knows them: found by name, read from and written as text in the
 * format of Redis's ACL files, asked who may log in and who may run what. Knows no file and no other
 * worker (acl_store.h does). Used by workers; one thread; no system call. */
#ifndef CLOCKWISE_WORKERS_ACL_H
#define CLOCKWISE_WORKERS_ACL_H

#include "workers/acl_user.h"

#define ACL_WHY 320 /* bytes of a reason, with the final 0 */

struct command;

struct acl {
    uint32_t count;
    struct acl_user **users;   /* by name; there is always "default" */
    struct acl_user *standard; /* the default user: who everybody is that has not logged in */
    uint64_t version;          /* rises with every change */
};

/* Only the default user, who may do everything; without a password if requirepass is empty (or
 * NULL). -ERR_NOMEM. */
int acl_open(struct acl *a, const char *requirepass);
void acl_close(struct acl *a);

/* NULL if there is none; borrowed until the next change. */
struct acl_user *acl_find(const struct acl *a, struct slice name);

/* Put a user in, in place of one of its name; takes the reference over, also on error. -ERR_LIMIT,
 * -ERR_NOMEM. */
int acl_put(struct acl *a, struct acl_user *u);

/* False if there is none of that name. The default user cannot go. */
bool acl_remove(struct acl *a, struct slice name);

/* Does a new connection have to log in? */
static inline bool acl_closed(const struct acl *a)
{
    return !a->standard->on || !a->standard->nopass;
}

/* The user with this name and password, or NULL. Takes the same time for a user that does not exist. */
struct acl_user *acl_login(const struct acl *a, struct slice name, struct slice password);

/* Give the default user this password alone; NULL or "": no password. True if that changed anything;
 * *rc is 0 or -ERR_NOMEM. */
bool acl_require(struct acl *a, const char *password, int *rc);

/* All users from text, one "user NAME RULES..." in a line; '#' begins a comment. births: each line
 * begins with the user's number, as acl_print() writes them; otherwise users of other make than in
 * `a` count as new ones. A text without the default user leaves that one as it is in `a`. All or
 * nothing: -ERR_INVAL with "name:line: reason", -ERR_LIMIT, -ERR_NOMEM. */
int acl_parse(struct acl *a, struct slice text, const char *name, bool births, char why[ACL_WHY]);

/* Append all users as text. */
int acl_print(const struct acl *a, bool births, struct buf *out);

/* May a user run this? *bad: the argument that it may not touch. */
enum acl_verdict { ACL_ALLOWED, ACL_NO_COMMAND, ACL_NO_KEY };
enum acl_verdict acl_check(const struct acl_user *u, const struct command *c, uint32_t argc,
                           const struct slice *argv, uint32_t *bad);

#endif
