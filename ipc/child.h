/* What every child of the supervisor does alike: read --config, --index, --incarnation and --fds,
 * attach to the channel, say READY, answer PING, exit when the channel is lost. Runs in workers,
 * gossipd and antientropyd. A child's main reads:
 *
 *   child_start(&child, "worker", argc, argv);   arguments, descriptors, obituaries, signals
 *   ... conf_load(child.config), log_setup(), loop_new()
 *   child_attach(&child, loop, &ops, arg);       channel into the loop
 *   ... initialise; child_status() tells people how it goes and shows the supervisor progress
 *   child_ready(&child);
 *   loop_run(loop);
 */
#ifndef CLOCKWISE_IPC_CHILD_H
#define CLOCKWISE_IPC_CHILD_H

#include "ipc/channel.h"
#include "ipc/loop.h"

#include <stdbool.h>
#include <stdint.h>

/* With this status gossipd says that the node has left the ring: it stops, with status 0. */
#define CHILD_EXIT_LEFT 79

#define CHILD_FDS     96
#define CHILD_FD_NAME 16

/* What a process does on the supervisor's messages; members may be NULL. */
struct child_ops {
    /* The effective file has changed. */
    void (*reload)(void *arg);
    /* Finish what is in flight, then stop the loop and exit with 0. Also called on SIGTERM. Called
     * at most once. NULL: the loop is stopped at once. */
    void (*drain)(void *arg);
    /* Worker index of this node has (re)started with this incarnation. */
    void (*worker_up)(void *arg, uint32_t index, uint64_t incarnation);
    /* Worker index of this node has died; the supervisor starts another. */
    void (*worker_down)(void *arg, uint32_t index);
};

struct child {
    const char *config;   /* --config FILE, the effective file */
    uint32_t index;       /* --index I */
    uint64_t incarnation; /* --incarnation N; rises with every start of a process of this node */
    bool recover;         /* --recover: replay journals and exit (workers) */
    int channel;          /* -1: started by hand, without a supervisor */
    uint32_t fd_count;
    struct {
        char name[CHILD_FD_NAME];
        int fd;
    } fds[CHILD_FDS];
    char process_name[32];

    /* Below: used by child.c alone. */
    struct loop *loop;
    const struct child_ops *ops;
    void *arg;
    struct loop_watch channel_watch, signal_watch;
    int signal_fd;
    bool draining;
};

/* Parse the arguments; set up obituaries and log name ("worker" and an index become "worker-1");
 * ignore SIGPIPE and SIGINT, block SIGTERM for child_attach(); mark every inherited descriptor
 * close-on-exec. --version and --help print and exit 0; a wrong argument prints a reason and exits
 * with status 2. *c must live as long as the process. */
void child_start(struct child *c, const char *process_name, bool has_index, int argc, char **argv);

/* The inherited descriptor of that name ("front", "wake3", ...), or -1. Owned by the caller. */
int child_fd(const struct child *c, const char *name);

/* Put the channel and SIGTERM into the loop. From now on PING is answered and loss of the channel
 * ends the process with status 0 at the next turn. ops and arg are kept. */
void child_attach(struct child *c, struct loop *loop, const struct child_ops *ops, void *arg);

/* Say READY. Without a channel this does nothing. */
void child_ready(struct child *c);

/* Tell people what the process is doing; before READY it also restarts the supervisor's patience.
 * Also usable before child_attach(). Never blocks; a text that does not fit is cut. */
void child_status(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True if the supervisor is gone: for long initialisations that do not run the loop. Never blocks. */
bool child_orphaned(const struct child *c);

#endif
