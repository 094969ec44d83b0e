/* The event loop. Runs in every process; knows nothing of what it serves and must not allocate after
 * its start. Timers are an intrusive pairing heap: arming in the order of deadlines, and disarming
 * before the deadline, which is what request timeouts do, are O(1). */
#include "ipc/loop.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOP_BATCH 256 /* events taken from the kernel at once */

struct loop {
    int epoll;
    bool stopped;
    uint64_t now_us;
    struct loop_timer *first; /* root of the heap */
    struct loop_task *tasks, **tasks_end;
    struct loop_hook *hooks, **hooks_end;
    int batch_count;
    struct epoll_event batch[LOOP_BATCH]; /* data.ptr NULL: removed while being dispatched */
};

struct loop *loop_new(void)
{
    struct loop *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        free(l);
        return NULL;
    }
    l->tasks_end = &l->tasks;
    l->hooks_end = &l->hooks;
    l->now_us = clock_mono_us();
    return l;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    close(l->epoll);
    free(l);
}

uint64_t loop_now_us(const struct loop *l)
{
    return l->now_us;
}

int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events, loop_ready_fn *ready,
             void *arg)
{
    struct epoll_event event;

    ASSERT(w->events == 0 && events != 0 && fd >= 0 && ready != NULL);
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.ptr = w;
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return errno == ENOSPC ? -ERR_LIMIT : err_from_errno(errno);
    *w = (struct loop_watch){.ready = ready, .arg = arg, .fd = fd, .events = events};
    return 0;
}

void loop_modify(struct loop *l, struct loop_watch *w, uint32_t events)
{
    struct epoll_event event;

    ASSERT(w->events != 0 && events != 0);
    if (w->events == events)
        return;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.ptr = w;
    int rc = epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &event);
    ASSERT(rc == 0);
    w->events = events;
}

void loop_remove(struct loop *l, struct loop_watch *w)
{
    if (w->events == 0)
        return;
    int rc = epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    ASSERT(rc == 0);
    if (w->pending != 0) {
        ASSERT(w->pending <= l->batch_count && l->batch[w->pending - 1].data.ptr == w);
        l->batch[w->pending - 1].data.ptr = NULL;
        w->pending = 0;
    }
    w->events = 0;
}

/* Join two heaps whose roots have no siblings; either may be NULL. */
static struct loop_timer *meld(struct loop_timer *a, struct loop_timer *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (b->deadline_us < a->deadline_us) {
        struct loop_timer *swap = a;

        a = b;
        b = swap;
    }
    b->next = a->child;
    b->previous = a;
    if (a->child != NULL)
        a->child->previous = b;
    a->child = b;
    return a;
}

/* Join a list of siblings: in pairs from the left, then the pairs from the right. */
static struct loop_timer *meld_siblings(struct loop_timer *t)
{
    struct loop_timer *pairs = NULL, *root = NULL;

    while (t != NULL) {
        struct loop_timer *a = t, *b = t->next;

        t = b != NULL ? b->next : NULL;
        a->next = a->previous = NULL;
        if (b != NULL)
            b->next = b->previous = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs != NULL) {
        struct loop_timer *a = pairs;

        pairs = a->next;
        a->next = NULL;
        root = meld(root, a);
    }
    return root;
}

void loop_disarm(struct loop *l, struct loop_timer *t)
{
    if (!t->armed)
        return;
    struct loop_timer *rest = meld_siblings(t->child);

    if (t == l->first) {
        l->first = rest;
    } else {
        if (t->previous->child == t)
            t->previous->child = t->next;
        else
            t->previous->next = t->next;
        if (t->next != NULL)
            t->next->previous = t->previous;
        l->first = meld(l->first, rest);
    }
    t->child = t->next = t->previous = NULL;
    t->armed = false;
}

void loop_arm(struct loop *l, struct loop_timer *t, uint64_t deadline_us, loop_call_fn *due,
              void *arg)
{
    ASSERT(due != NULL);
    loop_disarm(l, t);
    *t = (struct loop_timer){.due = due, .arg = arg, .deadline_us = deadline_us, .armed = true};
    l->first = meld(l->first, t);
}

void loop_defer(struct loop *l, struct loop_task *t, loop_call_fn *run, void *arg)
{
    if (t->queued)
        return;
    *t = (struct loop_task){.run = run, .arg = arg, .queued = true};
    *l->tasks_end = t;
    l->tasks_end = &t->next;
}

void loop_cancel(struct loop *l, struct loop_task *t)
{
    if (!t->queued)
        return;
    struct loop_task **link = &l->tasks;

    while (*link != t) {
        ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = t->next;
    if (l->tasks_end == &t->next)
        l->tasks_end = link;
    t->queued = false;
    t->next = NULL;
}

void loop_hook(struct loop *l, struct loop_hook *h)
{
    h->next = NULL;
    *l->hooks_end = h;
    l->hooks_end = &h->next;
}

/* Fill the batch, sleeping at most wait_us. */
static void wait_for_events(struct loop *l, uint64_t wait_us)
{
    struct timespec limit = {.tv_sec = (time_t)(wait_us / 1000000u),
                             .tv_nsec = (long)(wait_us % 1000000u) * 1000};
    int n =
        epoll_pwait2(l->epoll, l->batch, LOOP_BATCH, wait_us == LOOP_NEVER ? NULL : &limit, NULL);

    ASSERT(n >= 0 || errno == EINTR);
    l->batch_count = n > 0 ? n : 0;
    for (int i = 0; i < l->batch_count; i++)
        ((struct loop_watch *)l->batch[i].data.ptr)->pending = i + 1;
}

static void dispatch(struct loop *l)
{
    for (int i = 0; i < l->batch_count; i++) {
        struct loop_watch *w = l->batch[i].data.ptr;

        if (w == NULL)
            continue;
        w->pending = 0;
        w->ready(w->arg, l->batch[i].events);
    }
    l->batch_count = 0;
}

/* Only timers due at the one reading of the clock are called, so that a timer that arms itself for
 * "now" cannot keep descriptors from being served. */
static void call_timers(struct loop *l)
{
    if (l->first == NULL)
        return;
    l->now_us = clock_mono_us();
    uint64_t limit = l->now_us;

    for (uint32_t called = 0; called < 65536; called++) {
        struct loop_timer *t = l->first;

        if (t == NULL || t->deadline_us > limit)
            return;
        loop_disarm(l, t);
        t->due(t->arg);
    }
}

static void run_tasks(struct loop *l)
{
    while (l->tasks != NULL) {
        struct loop_task *t = l->tasks;

        l->tasks = t->next;
        if (l->tasks == NULL)
            l->tasks_end = &l->tasks;
        t->queued = false;
        t->next = NULL;
        t->run(t->arg);
    }
}

void loop_turn(struct loop *l, uint64_t wait_us)
{
    for (struct loop_hook *h = l->hooks; h != NULL; h = h->next)
        if (h->before_sleep != NULL && h->before_sleep(h->arg))
            wait_us = 0;
    if (l->tasks != NULL)
        wait_us = 0;
    if (wait_us != 0 && l->first != NULL) {
        uint64_t now = clock_mono_us();
        uint64_t left = l->first->deadline_us > now ? l->first->deadline_us - now : 0;

        wait_us = left < wait_us ? left : wait_us;
    }
    wait_for_events(l, wait_us);
    l->now_us = clock_mono_us();
    for (struct loop_hook *h = l->hooks; h != NULL; h = h->next)
        if (h->awake != NULL)
            h->awake(h->arg);
    dispatch(l);
    call_timers(l);
    run_tasks(l);
}

void loop_run(struct loop *l)
{
    l->stopped = false;
    while (!l->stopped)
        loop_turn(l, LOOP_NEVER);
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}
