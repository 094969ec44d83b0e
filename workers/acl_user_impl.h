/* Shared between acl_user.c and acl_rule.c and nobody else: the parts of a user. What can fail returns
 * NULL or why. */
#ifndef CLOCKWISE_WORKERS_ACL_USER_IMPL_H
#define CLOCKWISE_WORKERS_ACL_USER_IMPL_H

#include "workers/acl_user.h"

#define ACL_UNKNOWN_RULE "Syntax error"
#define ACL_NO_PASSWORD  "The password you are trying to remove from the user does not exist"
#define ACL_TOO_MANY     "Too many rules for one user"
#define ACL_NO_MEMORY    "Out of memory"

bool acl_user_has_blank(struct slice s);

void acl_user_reset_passwords(struct acl_user *u);
void acl_user_reset_patterns(struct acl_user *u, bool channels);
void acl_user_reset_commands(struct acl_user *u, bool all);

const char *acl_user_add_password(struct acl_user *u, const uint8_t hash[MAC_BYTES]);
const char *acl_user_remove_password(struct acl_user *u, const uint8_t hash[MAC_BYTES]);
/* access 0: of a channel. */
const char *acl_user_add_pattern(struct acl_user *u, uint8_t access, struct slice text);
const char *acl_user_add_first(struct acl_user *u, uint32_t command, struct slice argument);

/* Note a rule about commands for the description: it takes the place of earlier ones about the same
 * command (and its subcommands) or category. */
const char *acl_user_note_rule(struct acl_user *u, const char *rule);

#endif
