/* Start one child program. The only code in Clockwise that forks. */
#ifndef CLOCKWISE_SUPERVISOR_SPAWN_H
#define CLOCKWISE_SUPERVISOR_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#define SPAWN_FDS 96

struct spawn {
    const char *program; /* absolute path; also argv[0] */
    char *const *argv;   /* ends with NULL */
    int panic_fd;        /* where a failed exec is reported; one of fds */
    const int *fds;      /* stay open across exec; everything else is close-on-exec */
    size_t fd_count;
    int cpu_index; /* run on the n-th CPU that this process may use, modulo; -1: on all */
    int oom_score; /* added to ours */
};

/* Fork and execute. The child dies with its parent. 0 with *pid, or -ERR_LIMIT. A program that
 * cannot be executed is reported through panic_fd and exits with 127. */
int spawn_start(const struct spawn *s, pid_t *pid);

#endif
