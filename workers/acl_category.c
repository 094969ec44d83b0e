/* Categories of commands: those that the table names, and those that follow from flags. Runs in
 * workers; makes no system call. */
#include "workers/acl_category.h"

#include <strings.h>

/* bit: in enum command_acl; 0: see acl_category_has(), or no command here is of this kind. */
static const struct {
    const char *name;
    uint32_t bit;
} categories[] = {
    {"keyspace", ACL_KEYSPACE},
    {"read", 0},
    {"write", 0},
    {"set", 0},
    {"sortedset", 0},
    {"list", 0},
    {"hash", 0},
    {"string", ACL_STRING},
    {"bitmap", 0},
    {"hyperloglog", 0},
    {"geo", 0},
    {"stream", 0},
    {"pubsub", 0},
    {"admin", ACL_ADMIN},
    {"fast", 0},
    {"slow", 0},
    {"blocking", 0},
    {"dangerous", ACL_DANGEROUS},
    {"connection", ACL_CONNECTION},
    {"transaction", 0},
    {"scripting", 0},
};

#define COUNT (sizeof categories / sizeof *categories)

const char *acl_category_name(size_t index)
{
    return index < COUNT ? categories[index].name : NULL;
}

int acl_category_find(struct slice name)
{
    for (size_t i = 0; i < COUNT; i++)
        if (strlen(categories[i].name) == name.len &&
            strncasecmp(categories[i].name, (const char *)name.data, name.len) == 0)
            return (int)i;
    return -1;
}

bool acl_category_has(int category, const struct command *c)
{
    const char *name = categories[category].name;

    if (categories[category].bit != 0)
        return c->acl & categories[category].bit;
    if (strcmp(name, "read") == 0)
        return c->flags & CMD_READONLY;
    if (strcmp(name, "write") == 0)
        return c->flags & CMD_WRITE;
    if (strcmp(name, "fast") == 0)
        return c->flags & CMD_FAST;
    if (strcmp(name, "slow") == 0)
        return !(c->flags & CMD_FAST);
    return false;
}
