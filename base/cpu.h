/* How a thread that nobody waits for shares the CPU (sched(7)). Nothing here blocks for longer than a
 * system call, except cpu_can_idle(). */
#ifndef CLOCKWISE_BASE_CPU_H
#define CLOCKWISE_BASE_CPU_H

#include <stdbool.h>
#include <sys/types.h>

#define CPU_NICENESS 5 /* of threads in the background: a third of the share of others */

/* Would the kernel let a thread of this process return from the idle class? It needs RLIMIT_NICE for
 * CPU_NICENESS, or CAP_SYS_NICE. Found out by a thread that ends at once. */
bool cpu_can_idle(void);

/* The calling thread works in the background: a batch task of that niceness, which interrupts nobody when
 * it wakes up. false: it may not change that; errno. */
bool cpu_background(void);

/* The calling thread runs for a moment each time, and others wait for it. Prompt: an ordinary task with the
 * shortest slices (Linux 6.12), so that it goes before others. Not: a batch task, which lets work gather. */
void cpu_prompt(bool prompt);

/* Of a thread of this process that works in the background: should it run only when nobody else wants to,
 * and be interrupted at once by whoever wakes up? Only where cpu_can_idle(). As long as it is so, it may
 * be stopped for long, whatever it holds. */
void cpu_set_idle(pid_t thread, bool idle);

/* The calling thread's id, for the above. */
pid_t cpu_thread(void);

#endif
