/* How a worker shares the CPU. It handles all that is ready in each turn, so being woken late costs it
 * little and being woken often costs everybody much: SCHED_BATCH (sched(7)) keeps it from interrupting
 * whoever runs. And when its loop waits for a CPU for a good part of its time, the journal is told to
 * sync less often: then a sync takes time from those whose records it waits for. */
#include "base/clock.h"
#include "base/log.h"
#include "workers/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AMPLE_PERCENT 30u /* of the time, waited for a CPU: it is not short any more */

void worker_cpu_open(struct worker *w)
{
    struct sched_param none = {0};

    if (sched_setscheduler(0, SCHED_BATCH, &none) != 0)
        log_warn("cannot become a batch task: %s", strerror(errno));
    w->cpu.fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

/* Nanoseconds that this thread was ready to run and did not (proc(5), schedstat: the second of three
 * numbers). False if the kernel does not count them. */
static bool read_waited(int fd, uint64_t *ns)
{
    char text[80], *end;
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);

    if (n <= 0)
        return false;
    text[n] = '\0';
    strtoull(text, &end, 10);
    *ns = strtoull(end, NULL, 10);
    return true;
}

void worker_cpu_turn(struct worker *w)
{
    uint64_t waited_ns, now_us = w->engine.now_us;

    if (!read_waited(w->cpu.fd, &waited_ns))
        return;
    uint64_t waited_us = (waited_ns - w->cpu.waited_ns) / 1000;
    uint64_t past_us = now_us - w->cpu.seen_us;

    if (w->cpu.seen_us != 0 && past_us != 0) {
        uint64_t percent = waited_us * 100 / past_us;

        counter_set(&w->seg.body->counters, CTR_cpu_wait_percent, percent);
        if (percent >= WORKER_CPU_SHORT_PERCENT || percent < AMPLE_PERCENT)
            store_set_sparing(w->store, percent >= WORKER_CPU_SHORT_PERCENT);
    }
    w->cpu.seen_us = now_us;
    w->cpu.waited_ns = waited_ns;
}
