/* The categories of commands, as ACL rules and ACL CAT name them. Used by workers. */
#ifndef CLOCKWISE_WORKERS_ACL_CATEGORY_H
#define CLOCKWISE_WORKERS_ACL_CATEGORY_H

#include "workers/command.h"

/* The names in Redis's order; NULL behind the last. */
const char *acl_category_name(size_t index);

/* The index of a name in any case, or -1. */
int acl_category_find(struct slice name);

bool acl_category_has(int category, const struct command *c);

#endif
