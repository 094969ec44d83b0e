/* May a user run a command on these keys? Asked before every command of a user with limits. Runs in
 * workers; makes no system call. */
#include "base/check.h"
#include "workers/acl.h"
#include "workers/command.h"
#include "workers/glob.h"

#include <strings.h>

static bool begins(const struct command *c, const char *prefix)
{
    return strncmp(c->name, prefix, strlen(prefix)) == 0;
}

static bool has_option(uint32_t argc, const struct slice *argv, const char *option)
{
    for (uint32_t i = 3; i < argc; i++)
        if (argv[i].len == strlen(option) &&
            strncasecmp((const char *)argv[i].data, option, argv[i].len) == 0)
            return true;
    return false;
}

/* What a command does with the values of its keys (Redis's key specifications: ACCESS is reading;
 * INSERT, UPDATE and DELETE are writing). 0: it only looks whether and how they exist, which any
 * pattern that matches allows. */
static uint8_t access_of(const struct command *c, uint32_t argc, const struct slice *argv)
{
    if (!(c->flags & CMD_WRITE))
        return c->run == cmd_exists || c->run == cmd_type || c->run == cmd_strlen ||
                       c->run == cmd_cw_explain || begins(c, "object|") || begins(c, "memory|")
                   ? 0
                   : ACL_ACCESS_READ;
    if (c->run == cmd_getdel || c->run == cmd_getex || c->run == cmd_getset ||
        (c->run == cmd_set && has_option(argc, argv, "get")))
        return ACL_ACCESS_READ | ACL_ACCESS_WRITE;
    return ACL_ACCESS_WRITE;
}

static bool may_touch(const struct acl_user *u, struct slice key, uint8_t access)
{
    for (uint32_t i = 0; i < u->pattern_count; i++) {
        const struct acl_pattern *p = &u->patterns[i];

        if (p->access != 0 && (p->access & access) == access &&
            glob_match(slice_str(p->text), key, false))
            return true;
    }
    return false;
}

static bool may_run(const struct acl_user *u, const struct command *c, uint32_t argc,
                    const struct slice *argv)
{
    uint32_t index = (uint32_t)(c - command_at(0));

    if (acl_user_may_run(u, index) || c->flags & CMD_NO_AUTH)
        return true;
    for (uint32_t i = 0; i < u->first_count && argc > 1; i++) {
        const struct acl_first *f = &u->firsts[i];

        if (f->command == index && strlen(f->argument) == argv[1].len &&
            strncasecmp(f->argument, (const char *)argv[1].data, argv[1].len) == 0)
            return true;
    }
    return false;
}

enum acl_verdict acl_check(const struct acl_user *u, const struct command *c, uint32_t argc,
                           const struct slice *argv, uint32_t *bad)
{
    /* CW.EXPLAIN names a key without being routed by it. */
    int first = c->run == cmd_cw_explain ? 1 : c->first;
    int last = c->run == cmd_cw_explain ? 1 : c->last < 0 ? (int)argc + c->last : c->last;

    *bad = 0;
    if (!may_run(u, c, argc, argv))
        return ACL_NO_COMMAND;
    if (first == 0 || u->all_keys)
        return ACL_ALLOWED;
    uint8_t access = access_of(c, argc, argv);
    for (int i = first; i <= last && i<(int)argc; i += c->step> 0 ? c->step : 1) {
        if (!may_touch(u, argv[i], access)) {
            *bad = (uint32_t)i;
            return ACL_NO_KEY;
        }
    }
    return ACL_ALLOWED;
}
