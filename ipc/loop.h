/* The event loop: epoll and timers, one per process, one thread. Used by every process.
 *
 * One turn is: run the hooks; sleep until a descriptor is ready or a timer is due; call the ready
 * descriptors; call the due timers; run the tasks deferred meanwhile. Watches, timers, tasks and
 * hooks are owned by the caller and usually embedded in the object they serve; they must stay where
 * they are while registered. Set them to all zero bytes before first use. No function here allocates
 * except loop_new(). Callbacks may add, change and remove anything, themselves included, and may
 * free the object in which their watch is embedded after removing it. */
#ifndef CLOCKWISE_IPC_LOOP_H
#define CLOCKWISE_IPC_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_NEVER UINT64_MAX

struct loop;

typedef void loop_ready_fn(void *arg, uint32_t events);
typedef void loop_call_fn(void *arg);

/* A watched descriptor. The loop never closes it. */
struct loop_watch {
    loop_ready_fn *ready;
    void *arg;
    int fd;
    uint32_t events; /* 0: not registered */
    int32_t pending; /* place in the batch being dispatched plus 1, or 0 */
};

/* A one-shot timer. */
struct loop_timer {
    loop_call_fn *due;
    void *arg;
    uint64_t deadline_us;
    struct loop_timer *child, *next, *previous; /* pairing heap; previous: parent or left sibling */
    bool armed;
};

/* Work put off to the end of the turn, so that it is done once: flushing a connection, say. */
struct loop_task {
    loop_call_fn *run;
    void *arg;
    struct loop_task *next;
    bool queued;
};

/* Run at the start of every turn, before the loop may sleep, in the order of registration. Returning
 * true forbids sleeping in this turn: there is more to do. awake (may be NULL) is called right after
 * the sleep, before anything is dispatched: the pair brackets "I sleep, wake me by eventfd". */
struct loop_hook {
    bool (*before_sleep)(void *arg);
    loop_call_fn *awake;
    void *arg;
    struct loop_hook *next;
};

/* NULL without memory or descriptors. */
struct loop *loop_new(void);
void loop_free(struct loop *l);

/* Monotonic microseconds, read once after each sleep and once before timers are called. */
uint64_t loop_now_us(const struct loop *l);

/* Watch fd for events (EPOLLIN, EPOLLOUT, with EPOLLET, EPOLLEXCLUSIVE, ... as wanted; errors and
 * hang-ups are always reported). The watch must not be registered. 0, -ERR_LIMIT or -ERR_NOMEM. */
int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events, loop_ready_fn *ready,
             void *arg);

/* Change the events; free if they are the same. Not for EPOLLEXCLUSIVE (remove and add instead). */
void loop_modify(struct loop *l, struct loop_watch *w, uint32_t events);

/* Stop watching; an event of this turn not yet delivered is dropped. Call before closing the
 * descriptor. Does nothing if not registered. */
void loop_remove(struct loop *l, struct loop_watch *w);

/* Arm, or move, a timer; it fires once in the first turn at or after the deadline (loop_now_us()
 * plus something). due and arg are stored. */
void loop_arm(struct loop *l, struct loop_timer *t, uint64_t deadline_us, loop_call_fn *due,
              void *arg);
void loop_disarm(struct loop *l, struct loop_timer *t);

/* Queue a task for the end of this turn; does nothing if it is queued. Tasks queued by tasks run in
 * the same turn. A queued task must not be freed: cancel it first (O(tasks queued)). */
void loop_defer(struct loop *l, struct loop_task *t, loop_call_fn *run, void *arg);
void loop_cancel(struct loop *l, struct loop_task *t);

/* Register a hook for the life of the loop. */
void loop_hook(struct loop *l, struct loop_hook *h);

/* Turn until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* One turn that sleeps at most wait_us (LOOP_NEVER: as long as timers allow). */
void loop_turn(struct loop *l, uint64_t wait_us);

#endif
