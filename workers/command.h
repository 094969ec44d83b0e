/* The table of commands (made from command.def), how a command is found, checked and run. Used by
 * workers; one thread. */
#ifndef CLOCKWISE_WORKERS_COMMAND_H
#define CLOCKWISE_WORKERS_COMMAND_H

#include "workers/conn.h"

/* What a handler gets. argv is valid during the call. */
struct call {
    struct conn *conn;
    struct clients *clients;
    struct engine *engine;
    const struct command *command;
    uint32_t argc;
    const struct slice *argv;
    bool refused; /* a subcommand was found, and may not run */
};

enum call_result {
    CALL_DONE, /* replied, or owes a reply */
    CALL_AGAIN /* could not be taken now; nothing was replied; run it again later */
};

typedef enum call_result command_fn(struct call *call);

/* As COMMAND shows them. */
enum command_flags {
    CMD_WRITE = 1,
    CMD_READONLY = 2,
    CMD_DENYOOM = 4,
    CMD_ADMIN = 8,
    CMD_NOSCRIPT = 16,
    CMD_LOADING = 32,
    CMD_STALE = 64,
    CMD_FAST = 128,
    CMD_NO_AUTH = 256,
    CMD_ALLOW_BUSY = 512,
    CMD_MOVABLE = 1024,
    CMD_NO_ASYNC = 2048
};

enum command_acl {
    ACL_KEYSPACE = 1,
    ACL_STRING = 2,
    ACL_CONNECTION = 4,
    ACL_ADMIN = 8,
    ACL_DANGEROUS = 16
};

struct command {
    const char *name; /* small letters; "client|id" for a subcommand */
    command_fn *run;
    int arity;             /* with the name; negative: at least so many */
    uint32_t flags;        /* enum command_flags */
    int first, last, step; /* keys, as in COMMAND */
    uint32_t acl;          /* enum command_acl, beyond what the flags imply */
    const char *group, *since, *summary;
    const char *arguments; /* in the notation of command_args.h */
};

/* Build the index. Call once before anything else here. */
void command_setup(void);

/* By name, any case; NULL if there is none. "client|id" finds a subcommand. */
const struct command *command_find(struct slice name);

/* The table, for COMMAND and documentation. */
const struct command *command_at(size_t index);
size_t command_count(void); /* with subcommands */

/* Is it a subcommand ("client|id")? Has it subcommands? */
bool command_is_sub(const struct command *c);
bool command_is_container(const struct command *c);

/* Find, check and run the command of a connection. */
enum call_result command_run(struct conn *conn, uint32_t argc, const struct slice *argv);

/* For the log of slow commands and the statistics: a command that has to wait for its reply; its reply
 * is ready. */
void command_begun(struct call *call, struct pending *p);
void command_ended(struct conn *conn, const struct pending *p, bool failed);

/* Handler of every container: finds the subcommand. */
enum call_result command_container(struct call *call);

/* The command that arguments name, of a container the subcommand; NULL if there is none. */
const struct command *command_lookup(uint32_t argc, const struct slice *argv);

/* Does the number of arguments suit the command? */
bool command_arity_ok(const struct command *c, uint32_t argc);

/* Every handler named in command.def. */
#define COMMAND(name, run, ...) command_fn run;
#include "workers/command.def"
#undef COMMAND

#endif
