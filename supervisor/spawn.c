/* Fork and exec. Runs in the supervisor, which has one thread and maps nothing but its own segment,
 * so that a fork is cheap and safe. Must not allocate between fork and exec. */
#include "supervisor/spawn.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void pin(int cpu_index)
{
    cpu_set_t allowed, one;
    int count, seen = 0;

    if (cpu_index < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    count = CPU_COUNT(&allowed);
    if (count < 1)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != cpu_index % count)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

/* Raising the score needs no privilege. Where it fails, the kernel's own choice is good enough. */
static void adjust_oom_score(int add)
{
    char text[16];
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n > 0) {
        text[n] = 0;
        long score = strtol(text, NULL, 10) + add;
        int len = snprintf(text, sizeof text, "%ld", score > 1000 ? 1000 : score);

        n = pwrite(fd, text, (size_t)len, 0);
        (void)n;
    }
    close(fd);
}

static _Noreturn void run_child(const struct spawn *s, pid_t parent)
{
    char text[300];
    sigset_t none;

    /* The channel tells the child that the supervisor is gone; this is for one that does not look. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    pin(s->cpu_index);
    adjust_oom_score(s->oom_score);
    for (size_t i = 0; i < s->fd_count; i++)
        fcntl(s->fds[i], F_SETFD, 0);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(s->program, s->argv);
    int n = snprintf(text, sizeof text, "cannot execute %.200s: %s\n", s->program, strerror(errno));
    ssize_t ignored = write(s->panic_fd, text, (size_t)n);
    (void)ignored;
    _exit(127);
}

int spawn_start(const struct spawn *s, pid_t *pid)
{
    pid_t parent = getpid();

    *pid = fork();
    if (*pid == 0)
        run_child(s, parent);
    return *pid > 0 ? 0 : -ERR_LIMIT;
}
