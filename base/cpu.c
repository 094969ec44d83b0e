/* Scheduling classes. */
#include "base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS 100000 /* the least that is taken */

static bool set_policy(pid_t thread, int policy)
{
    return sched_setscheduler(thread, policy, &(struct sched_param){0}) == 0;
}

static void *try_idle(void *arg)
{
    bool *works = arg;

    *works = cpu_background() && set_policy(0, SCHED_IDLE) && set_policy(0, SCHED_BATCH);
    return NULL;
}

bool cpu_can_idle(void)
{
    pthread_t thread;
    bool works = false;

    if (pthread_create(&thread, NULL, try_idle, &works) != 0)
        return false;
    pthread_join(thread, NULL);
    return works;
}

bool cpu_background(void)
{
    return setpriority(PRIO_PROCESS, (id_t)cpu_thread(), CPU_NICENESS) == 0 &&
           set_policy(0, SCHED_BATCH);
}

/* As the kernel has it (sched_setattr(2)); not every C library declares it. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void cpu_prompt(bool prompt)
{
    struct scheduling s = {.size = sizeof s, .policy = SCHED_OTHER, .runtime = SLICE_NS};

    set_policy(0, prompt ? SCHED_OTHER : SCHED_BATCH); /* with the usual slices */
    if (prompt)
        syscall(SYS_sched_setattr, 0, &s, 0);
}

void cpu_set_idle(pid_t thread, bool idle)
{
    set_policy(thread, idle ? SCHED_IDLE : SCHED_BATCH);
}

pid_t cpu_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}
