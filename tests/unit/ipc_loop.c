/* The event loop: timers in order, removal while dispatching, deferred tasks, hooks. */
#include "ipc/loop.h"

#include "base/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMERS 2000

struct world {
    struct loop *loop;
    uint64_t last_us;
    unsigned fired;
    struct loop_timer timers[TIMERS];
};

struct one {
    struct world *world;
    struct loop_timer timer;
    uint64_t deadline_us;
};

static void note(void *arg)
{
    struct one *one = arg;

    assert_true(one->deadline_us >= one->world->last_us);
    one->world->last_us = one->deadline_us;
    one->world->fired++;
}

static void timers_fire_in_the_order_of_their_deadlines(void **state)
{
    struct world w = {.loop = loop_new()};
    struct one *ones = calloc(TIMERS, sizeof *ones);
    struct rand rand;
    unsigned armed = 0;

    (void)state;
    rand_seed(&rand, 7);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < TIMERS; i++) {
            ones[i].world = &w;
            if (rand_below(&rand, 3) == 0) {
                loop_disarm(w.loop, &ones[i].timer);
                continue;
            }
            ones[i].deadline_us = 1 + rand_below(&rand, 1000);
            loop_arm(w.loop, &ones[i].timer, ones[i].deadline_us, note, &ones[i]);
        }
    for (unsigned i = 0; i < TIMERS; i++)
        armed += ones[i].timer.armed;
    loop_turn(w.loop, 0);
    assert_int_equal(w.fired, armed);
    for (unsigned i = 0; i < TIMERS; i++)
        assert_false(ones[i].timer.armed);
    free(ones);
    loop_free(w.loop);
}

static void a_timer_wakes_the_loop_and_not_before_its_deadline(void **state)
{
    struct world w = {.loop = loop_new()};
    struct one one = {.world = &w};

    (void)state;
    one.deadline_us = loop_now_us(w.loop) + 3000;
    loop_arm(w.loop, &one.timer, one.deadline_us, note, &one);
    while (w.fired == 0)
        loop_turn(w.loop, LOOP_NEVER);
    assert_true(loop_now_us(w.loop) >= one.deadline_us);
    loop_free(w.loop);
}

struct rearm {
    struct loop *loop;
    struct loop_timer timer;
    unsigned fired;
};

static void arm_again(void *arg)
{
    struct rearm *r = arg;

    r->fired++;
    loop_arm(r->loop, &r->timer, loop_now_us(r->loop) + 1, arm_again, r);
}

static void a_timer_that_arms_itself_does_not_starve_the_turn(void **state)
{
    struct rearm r = {.loop = loop_new()};

    (void)state;
    loop_arm(r.loop, &r.timer, 1, arm_again, &r);
    loop_turn(r.loop, 0);
    assert_int_equal(r.fired, 1);
    loop_free(r.loop);
}

struct pair {
    struct loop *loop;
    struct loop_watch *victim;
    unsigned ready;
};

static void remove_the_other(void *arg, uint32_t events)
{
    struct pair *p = arg;

    (void)events;
    p->ready++;
    loop_remove(p->loop, p->victim);
}

static void a_watch_removed_in_a_turn_is_not_called_in_it(void **state)
{
    struct loop *loop = loop_new();
    struct loop_watch a, b;
    struct pair pa = {.loop = loop, .victim = &b}, pb = {.loop = loop, .victim = &a};
    int fd_a = eventfd(1, 0), fd_b = eventfd(1, 0);

    (void)state;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    assert_int_equal(loop_add(loop, &a, fd_a, EPOLLIN, remove_the_other, &pa), 0);
    assert_int_equal(loop_add(loop, &b, fd_b, EPOLLIN, remove_the_other, &pb), 0);
    loop_turn(loop, 0);
    assert_int_equal(pa.ready + pb.ready, 1);
    loop_free(loop);
    close(fd_a);
    close(fd_b);
}

struct queue {
    struct loop *loop;
    struct loop_task first, second;
    char order[8];
};

static void run_second(void *arg)
{
    struct queue *q = arg;

    strcat(q->order, "2");
}

static void run_first(void *arg)
{
    struct queue *q = arg;

    strcat(q->order, "1");
    loop_defer(q->loop, &q->second, run_second, q);
    loop_defer(q->loop, &q->second, run_second, q);
}

static void deferred_tasks_run_once_at_the_end_of_the_turn(void **state)
{
    struct queue q = {.loop = loop_new()};

    (void)state;
    loop_defer(q.loop, &q.first, run_first, &q);
    loop_turn(q.loop, LOOP_NEVER);
    assert_string_equal(q.order, "12");
    loop_defer(q.loop, &q.first, run_first, &q);
    loop_defer(q.loop, &q.second, run_second, &q);
    loop_cancel(q.loop, &q.second);
    loop_cancel(q.loop, &q.first);
    loop_turn(q.loop, 0);
    assert_string_equal(q.order, "12");
    loop_defer(q.loop, &q.second, run_second, &q);
    loop_turn(q.loop, LOOP_NEVER);
    assert_string_equal(q.order, "122");
    loop_free(q.loop);
}

struct gate {
    unsigned slept, woke;
    bool busy;
};

static bool gate_close(void *arg)
{
    struct gate *g = arg;

    g->slept++;
    return g->busy;
}

static void gate_open(void *arg)
{
    struct gate *g = arg;

    g->woke++;
}

static void a_hook_can_forbid_sleeping(void **state)
{
    struct loop *loop = loop_new();
    struct gate gate = {.busy = true};
    struct loop_hook hook = {.before_sleep = gate_close, .awake = gate_open, .arg = &gate};

    (void)state;
    loop_hook(loop, &hook);
    loop_turn(loop, LOOP_NEVER);
    assert_int_equal(gate.slept, 1);
    assert_int_equal(gate.woke, 1);
    loop_free(loop);
}

struct stopper {
    struct loop *loop;
    int fd;
    struct loop_watch watch;
    unsigned calls;
};

static void read_twice(void *arg, uint32_t events)
{
    struct stopper *s = arg;
    char c;

    assert_true(events & (EPOLLIN | EPOLLHUP));
    if (read(s->fd, &c, 1) == 1) {
        s->calls++;
        loop_modify(s->loop, &s->watch, EPOLLIN | EPOLLRDHUP);
        return;
    }
    loop_remove(s->loop, &s->watch);
    loop_stop(s->loop);
}

static void the_loop_runs_until_it_is_stopped(void **state)
{
    struct stopper s = {.loop = loop_new()};
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    s.fd = fds[0];
    assert_int_equal(loop_add(s.loop, &s.watch, s.fd, EPOLLIN, read_twice, &s), 0);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    close(fds[1]);
    loop_run(s.loop);
    assert_int_equal(s.calls, 2);
    loop_free(s.loop);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_the_order_of_their_deadlines),
        cmocka_unit_test(a_timer_wakes_the_loop_and_not_before_its_deadline),
        cmocka_unit_test(a_timer_that_arms_itself_does_not_starve_the_turn),
        cmocka_unit_test(a_watch_removed_in_a_turn_is_not_called_in_it),
        cmocka_unit_test(deferred_tasks_run_once_at_the_end_of_the_turn),
        cmocka_unit_test(a_hook_can_forbid_sleeping),
        cmocka_unit_test(the_loop_runs_until_it_is_stopped),
    };

    return cmocka_run_group_tests_name("the event loop", tests, NULL, NULL);
}
