/* Start and stop of a node as a whole. Runs in the supervisor; waits only by timers. */
#include "supervisor/stages.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisor/node_id.h"
#include "supervisor/process.h"
#include "supervisor/report.h"
#include "supervisor/sd_notify.h"

#include <signal.h>

#define LAST_STAGE 3
#define INSIST_US  2000000u /* between DRAIN's end and SIGTERM, and from that to SIGKILL */

void stages_start(struct node *n, bool recover)
{
    for (unsigned r = recover ? ROLE_RECOVER : ROLE_RECOVER + 1; r < ROLE_COUNT; r++) {
        const struct role *role = role_at((enum role_number)r);
        uint32_t count = role->per_worker ? n->conf.node.workers : 1;

        for (uint32_t i = 0; i < count; i++) {
            ASSERT(n->process_count < NODE_SEG_CHILDREN);
            process_init(&n->processes[n->process_count++], n, role, i);
        }
    }
    if (recover) {
        n->stage = 0;
        log_notice("the number of workers has changed: replaying all journals first");
        process_start(&n->processes[0]);
    } else {
        n->stage = 1;
        for (uint32_t i = 0; i < n->process_count; i++)
            if (n->processes[i].role->stage == n->stage)
                process_start(&n->processes[i]);
    }
}

/* Workers hear of every worker that comes up; a worker that comes up hears of those that are. */
static void announce(struct process *p)
{
    struct node *n = p->node;
    struct channel_msg up = {
        .kind = CONTROL_WORKER_UP, .index = p->index, .incarnation = p->incarnation};

    for (uint32_t i = 0; i < n->process_count; i++) {
        struct process *other = &n->processes[i];

        if (other == p || other->state != NODE_CHILD_READY)
            continue;
        if (p->role->per_worker)
            process_send(other, &up);
        if (other->role->per_worker) {
            struct channel_msg known = {.kind = CONTROL_WORKER_UP,
                                        .index = other->index,
                                        .incarnation = other->incarnation};

            process_send(p, &known);
        }
    }
}

void stages_process_ready(struct process *p)
{
    announce(p);
    stages_advance(p->node);
}

/* The last stage has had its chance too: the node is up, whole or not. */
static void node_up(struct node *n)
{
    n->phase = NODE_RUNNING;
    report_now(n);
    sd_notify_send("READY=1\nSTATUS=%s", n->status);
    log_notice("node %s is up on %s:%u: %s", n->conf.node.name, n->conf.node.bind,
               n->conf.node.port, n->status);
}

void stages_advance(struct node *n)
{
    while (n->phase == NODE_STARTING) {
        bool workers_ready = false;

        for (uint32_t i = 0; i < n->process_count; i++) {
            struct process *p = &n->processes[i];

            if (p->role->stage == n->stage && !p->attempted)
                return;
            workers_ready |= p->role->per_worker && p->state == NODE_CHILD_READY;
        }
        if (n->stage == LAST_STAGE) {
            /* Half a node is worth having, one without any worker is not. */
            if (workers_ready)
                node_up(n);
            return;
        }
        n->stage++;
        for (uint32_t i = 0; i < n->process_count; i++)
            if (n->processes[i].role->stage == n->stage)
                process_start(&n->processes[i]);
    }
}

static void stop_if_empty(struct node *n)
{
    for (uint32_t i = 0; i < n->process_count; i++)
        if (n->processes[i].pid != 0)
            return;
    loop_stop(n->loop);
}

void stages_worker_died(struct process *p)
{
    struct node *n = p->node;
    struct channel_msg down = {.kind = CONTROL_WORKER_DOWN, .index = p->index};

    for (uint32_t i = 0; i < n->process_count; i++) {
        struct process *other = &n->processes[i];

        if (other != p && other->role->per_worker && other->state == NODE_CHILD_READY)
            process_send(other, &down);
    }
}

void stages_process_ended(struct process *p, bool ok)
{
    struct node *n = p->node;
    char error[256];

    if (n->phase == NODE_STOPPING) {
        stop_if_empty(n);
        return;
    }
    /* Workers must not start over journals that hold acknowledged writes which they do not see. */
    if (!ok) {
        log_error("recovery failed, stopping: %s", p->last_exit);
        n->exit_status = 1;
        stages_stop(n);
        return;
    }
    if (node_id_write_workers(n->conf.node.data_dir, n->conf.node.workers, error, sizeof error) !=
        0) {
        log_error("%s", error);
        n->exit_status = 1;
        stages_stop(n);
        return;
    }
    p->attempted = true;
    stages_advance(n);
}

static void insist(void *arg)
{
    struct node *n = arg;
    int signal_number = n->stop_step == 0 ? SIGTERM : SIGKILL;

    n->stop_step++;
    for (uint32_t i = 0; i < n->process_count; i++) {
        struct process *p = &n->processes[i];

        if (p->pid == 0)
            continue;
        log_warn("%s (pid %d) has not stopped, sending signal %d", p->name, (int)p->pid,
                 signal_number);
        process_signal(p, signal_number);
    }
    loop_arm(n->loop, &n->stop_timer, loop_now_us(n->loop) + INSIST_US, insist, n);
}

void stages_stop(struct node *n)
{
    if (n->phase == NODE_STOPPING) {
        n->stop_step = 1;
        insist(n);
        return;
    }
    n->phase = NODE_STOPPING;
    sd_notify_send("STOPPING=1\nSTATUS=stopping");
    log_notice("stopping");
    for (uint32_t i = 0; i < n->process_count; i++)
        process_drain(&n->processes[i]);
    loop_arm(n->loop, &n->stop_timer,
             loop_now_us(n->loop) + (uint64_t)n->conf.node.drain_timeout_ms * 1000u + INSIST_US,
             insist, n);
    stop_if_empty(n);
}
