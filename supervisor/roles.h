/* The role table: what processes a node has, as data. Pure. */
#ifndef CLOCKWISE_SUPERVISOR_ROLES_H
#define CLOCKWISE_SUPERVISOR_ROLES_H

#include <stdbool.h>
#include <stdint.h>

/* Descriptors that a role inherits besides its channel and its panic pipe. */
enum role_fds {
    ROLE_FRONT = 1,   /* the front port, shared by all workers */
    ROLE_CLIENT = 2,  /* the worker's own client port */
    ROLE_PEER = 4,    /* the worker's own peer port */
    ROLE_WAKE = 8,    /* the eventfd of every worker */
    ROLE_GOSSIP = 16, /* gossip UDP and TCP, and the socket of the workers' verdicts */
    ROLE_REPAIR = 32  /* antientropyd's port for other nodes */
};

enum role_number { ROLE_RECOVER, ROLE_GOSSIPD, ROLE_WORKER, ROLE_ANTIENTROPYD, ROLE_COUNT };

struct role {
    const char *name;      /* in logs, tools and STATUS */
    const char *program;   /* file name beside clockwised */
    const char *option;    /* one more argument, or NULL */
    bool per_worker;       /* one process for each worker, else one */
    bool once;             /* runs to its end; not replaced */
    bool pinned;           /* to the CPU of its index */
    unsigned stage;        /* roles of a stage start when those of the stage before are READY */
    unsigned fds;          /* enum role_fds */
    int oom_score;         /* added to the supervisor's own; higher dies first */
    uint32_t pause_ms;     /* before the second restart; doubles from there; the first is at once */
    uint32_t pause_max_ms; /* and up to here */
    uint32_t forget_ms;    /* a process that lived so long starts with a clean record */
    uint32_t give_up_after; /* so many restarts in a row mark it failed */
    uint32_t retry_ms;      /* a failed one is tried again so often */
};

const struct role *role_at(enum role_number number);

#endif
