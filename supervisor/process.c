/* One child: from its start through READY and the watchdog to its death and its successor. Runs in
 * the supervisor; must not block and must not trust what the child says beyond showing it. */
#include "supervisor/process.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/child.h"
#include "supervisor/obituary.h"
#include "supervisor/report.h"
#include "supervisor/sd_notify.h"
#include "supervisor/spawn.h"
#include "supervisor/stages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_US       1000000u
#define KILL_AFTER_US   SECOND_US /* from SIGABRT to SIGKILL */
#define MESSAGES_A_TURN 32 /* of one child, so that a chatty one does not starve the others */
#define KILLS_FORGIVEN  60 /* kills from outside that may come faster than one a second */

void process_init(struct process *p, struct node *n, const struct role *role, uint32_t index)
{
    memset(p, 0, sizeof *p);
    p->node = n;
    p->role = role;
    p->index = index;
    p->channel = p->panic = -1;
    p->since_ms = clock_wall_ms();
    if (role->per_worker)
        snprintf(p->name, sizeof p->name, "%s %u", role->name, index);
    else
        snprintf(p->name, sizeof p->name, "%s", role->name);
}

static void set_state(struct process *p, enum node_child_state state)
{
    p->state = state;
    p->since_ms = clock_wall_ms();
    report_later(p->node);
}

void process_send(struct process *p, const struct channel_msg *msg)
{
    if (p->channel >= 0)
        channel_send(p->channel, msg);
}

void process_signal(struct process *p, int signal_number)
{
    if (p->pid > 0)
        kill(p->pid, signal_number);
}

static void kill_hung(void *arg)
{
    struct process *p = arg;

    process_signal(p, SIGKILL);
}

/* It does not answer: an obituary by SIGABRT if it can still write one, SIGKILL if it cannot. */
static void put_down(struct process *p, const char *why)
{
    struct node *n = p->node;

    if (p->pid <= 0 || p->hung)
        return;
    log_error("%s (pid %d) %s, killing it", p->name, (int)p->pid, why);
    p->hung = true;
    counter_add(node_seg_counters(&n->seg), CTR_children_hung, 1);
    process_signal(p, SIGABRT);
    loop_arm(n->loop, &p->timer, loop_now_us(n->loop) + KILL_AFTER_US, kill_hung, p);
}

static void out_of_patience(void *arg)
{
    put_down(arg, "was not ready in time");
}

static void expect_ready(struct process *p)
{
    struct node *n = p->node;

    if (p->role->once)
        return;
    loop_arm(n->loop, &p->timer,
             loop_now_us(n->loop) + (uint64_t)n->conf.node.ready_timeout_ms * 1000u,
             out_of_patience, p);
}

static void became_ready(struct process *p)
{
    struct node *n = p->node;

    if (p->state != NODE_CHILD_STARTING || p->hung)
        return;
    loop_disarm(n->loop, &p->timer);
    p->asked_us = 0;
    p->attempted = true;
    log_info("%s (pid %d) is ready after %.3f s", p->name, (int)p->pid,
             (double)(loop_now_us(n->loop) - p->started_us) / 1e6);
    set_state(p, NODE_CHILD_READY);
    stages_process_ready(p);
}

/* A process that says how its initialisation goes is alive: patience starts anew, ours and systemd's. */
static void take_status(struct process *p, const char text[CHANNEL_TEXT])
{
    struct node *n = p->node;

    if (p->state == NODE_CHILD_STARTING && !p->hung)
        expect_ready(p);
    if (n->phase == NODE_STARTING)
        sd_notify_send("EXTEND_TIMEOUT_USEC=%" PRIu64,
                       (uint64_t)n->conf.node.ready_timeout_ms * 1000u);
    if (strcmp(p->status, text) == 0)
        return;
    memcpy(p->status, text, sizeof p->status);
    report_later(n);
}

static void on_channel(void *arg, uint32_t events)
{
    struct process *p = arg;
    struct node *n = p->node;
    struct channel_msg msg;

    (void)events;
    for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
        int rc = channel_receive(p->channel, FROM_CHILD, &msg);

        if (rc == 0)
            return;
        if (rc != 1) {
            /* Closed: SIGCHLD follows. Garbage: a sibling process that talks nonsense is a bug. */
            loop_remove(n->loop, &p->channel_watch);
            if (rc == -ERR_FORMAT)
                put_down(p, "sent a malformed message");
            return;
        }
        if (msg.kind == CONTROL_READY)
            became_ready(p);
        if (msg.kind == CONTROL_PONG)
            p->asked_us = 0;
        if (msg.kind == CONTROL_STATUS)
            take_status(p, msg.text);
    }
}

/* What a child inherits: a list of descriptors and the same as text for --fds. */
struct heirloom {
    int fds[SPAWN_FDS];
    size_t count;
    struct buf text;
};

static void bequeath(struct heirloom *h, const char *name, uint32_t number, bool numbered, int fd)
{
    int rc;

    ASSERT(h->count < SPAWN_FDS && fd >= 0);
    h->fds[h->count++] = fd;
    if (numbered)
        rc = buf_printf(&h->text, "%s%s%u=%d", h->count > 1 ? "," : "", name, number, fd);
    else
        rc = buf_printf(&h->text, "%s%s=%d", h->count > 1 ? "," : "", name, fd);
    ASSERT(rc == 0);
}

static void collect(struct process *p, int channel, int panic, struct heirloom *h)
{
    const struct listeners *l = &p->node->listeners;
    unsigned fds = p->role->fds;

    bequeath(h, "channel", 0, false, channel);
    bequeath(h, "panic", 0, false, panic);
    if (fds & ROLE_FRONT)
        bequeath(h, "front", 0, false, l->front);
    if (fds & ROLE_CLIENT)
        bequeath(h, "client", 0, false, l->client[p->index]);
    if (fds & ROLE_PEER)
        bequeath(h, "peer", 0, false, l->peer[p->index]);
    for (uint32_t i = 0; (fds & ROLE_WAKE) && i < l->workers; i++)
        bequeath(h, "wake", i, true, l->wake[i]);
    if (fds & ROLE_GOSSIP) {
        bequeath(h, "gossip-udp", 0, false, l->gossip_udp);
        bequeath(h, "gossip-tcp", 0, false, l->gossip_tcp);
        bequeath(h, "notify", 0, false, l->notify);
        bequeath(h, "admin", 0, false, l->admin);
    }
    if (fds & ROLE_REPAIR)
        bequeath(h, "repair", 0, false, l->repair);
}

static int spawn(struct process *p, int channel, int panic)
{
    struct node *n = p->node;
    struct heirloom h = {.count = 0};
    char program[CONF_PATH + 64], index[16], incarnation[24];
    char *argv[12];
    size_t argc = 0;

    collect(p, channel, panic, &h);
    snprintf(program, sizeof program, "%s/%s", n->program_dir, p->role->program);
    snprintf(index, sizeof index, "%u", p->index);
    snprintf(incarnation, sizeof incarnation, "%" PRIu64, p->incarnation);
    argv[argc++] = program;
    if (p->role->option != NULL)
        argv[argc++] = (char *)p->role->option;
    argv[argc++] = "--config";
    argv[argc++] = n->effective;
    argv[argc++] = "--index";
    argv[argc++] = index;
    argv[argc++] = "--incarnation";
    argv[argc++] = incarnation;
    argv[argc++] = "--fds";
    argv[argc++] = (char *)buf_head(&h.text);
    argv[argc] = NULL;
    struct spawn s = {.program = program,
                      .argv = argv,
                      .panic_fd = panic,
                      .fds = h.fds,
                      .fd_count = h.count,
                      .cpu_index = p->role->pinned && n->conf.node.cpu_pin ? (int)p->index : -1,
                      .oom_score = p->role->oom_score};
    int rc = spawn_start(&s, &p->pid);
    buf_free(&h.text);
    return rc;
}

static void schedule(struct process *p, const char *what);

void process_start(struct process *p)
{
    struct node *n = p->node;
    int channel[2] = {-1, -1}, panic[2] = {-1, -1};
    int rc;

    ASSERT(p->pid == 0 && p->channel == -1 && p->panic == -1);
    p->started_us = loop_now_us(n->loop);
    p->incarnation = n->next_incarnation++;
    p->hung = false;
    p->status[0] = 0;
    rc = channel_pair(channel);
    if (rc == 0 && pipe2(panic, O_CLOEXEC | O_NONBLOCK) != 0)
        rc = -ERR_LIMIT;
    if (rc == 0)
        rc = loop_add(n->loop, &p->channel_watch, channel[0], EPOLLIN, on_channel, p);
    if (rc == 0)
        rc = spawn(p, channel[1], panic[1]);
    if (channel[1] >= 0)
        close(channel[1]);
    if (panic[1] >= 0)
        close(panic[1]);
    if (rc == 0) {
        p->channel = channel[0];
        p->panic = panic[0];
        counter_add(node_seg_counters(&n->seg), CTR_children_started, 1);
        set_state(p, NODE_CHILD_STARTING);
        expect_ready(p);
        return;
    }
    loop_remove(n->loop, &p->channel_watch);
    if (channel[0] >= 0)
        close(channel[0]);
    if (panic[0] >= 0)
        close(panic[0]);
    p->pid = 0;
    snprintf(p->last_exit, sizeof p->last_exit, "could not be started: %s", err_text(rc));
    schedule(p, p->last_exit);
}

static void start_again(void *arg)
{
    struct process *p = arg;

    p->restarts++;
    counter_add(node_seg_counters(&p->node->seg), CTR_children_restarted, 1);
    process_start(p);
}

/* A kill from outside says nothing about the process: it is replaced at once however often somebody
 * does it, up to once a second in the long run (the kernel's out-of-memory killer kills so too). */
static bool forgive_kill(struct process *p, uint64_t now_us)
{
    uint64_t forgotten = (now_us - p->kill_score_us) / SECOND_US;

    p->kill_score = p->kill_score > forgotten ? p->kill_score - forgotten : 0;
    p->kill_score_us += forgotten * SECOND_US;
    if (p->kill_score >= KILLS_FORGIVEN)
        return false;
    p->kill_score++;
    return true;
}

/* Arrange for the next start: at once the first time, then after pauses that double. */
static void schedule(struct process *p, const char *what)
{
    const struct role *role = p->role;
    struct node *n = p->node;
    uint64_t pause_ms = 0;

    p->attempted = true;
    if (p->row > 0) {
        unsigned doublings = p->row - 1 < 16 ? p->row - 1 : 16;

        pause_ms = (uint64_t)role->pause_ms << doublings;
        if (pause_ms > role->pause_max_ms)
            pause_ms = role->pause_max_ms;
    }
    if (p->row >= role->give_up_after) {
        pause_ms = role->retry_ms;
        if (p->row == role->give_up_after) {
            log_error("%s has failed: it died %u times in a row; trying again every %" PRIu64
                      " s; last: %s",
                      p->name, p->row + 1, pause_ms / 1000, what);
            counter_add(node_seg_counters(&n->seg), CTR_children_failed, 1);
        }
        set_state(p, NODE_CHILD_FAILED);
    } else {
        set_state(p, NODE_CHILD_WAITING);
    }
    if (p->row <= role->give_up_after)
        p->row++;
    if (pause_ms == 0)
        start_again(p);
    else
        loop_arm(n->loop, &p->timer, loop_now_us(n->loop) + pause_ms * 1000u, start_again, p);
    stages_advance(n);
}

void process_died(struct process *p, int wait_status)
{
    struct node *n = p->node;
    uint64_t now_us = loop_now_us(n->loop), lived_us = now_us - p->started_us;
    bool was_ready = p->state == NODE_CHILD_READY;
    bool killed = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL && !p->hung;
    bool orderly = wait_status == 0 && (n->phase == NODE_STOPPING || p->role->once);

    obituary_write(wait_status, lived_us, p->panic, p->last_exit, sizeof p->last_exit);
    if (orderly)
        log_info("%s (pid %d) %s", p->name, (int)p->pid, p->last_exit);
    else
        log_error("%s (pid %d) %s", p->name, (int)p->pid, p->last_exit);
    loop_disarm(n->loop, &p->timer);
    loop_remove(n->loop, &p->channel_watch);
    close(p->channel);
    close(p->panic);
    p->channel = p->panic = -1;
    p->pid = 0;
    p->status[0] = 0;
    if (n->phase == NODE_STOPPING || p->role->once) {
        set_state(p, NODE_CHILD_STOPPED);
        stages_process_ended(p, wait_status == 0);
        return;
    }
    if (p->role->per_worker)
        stages_worker_died(p);
    /* It says that starting it again cannot help: a wrong configuration, or refused by the cluster. */
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == CONF_EXIT) {
        log_error("%s cannot run as configured, stopping", p->name);
        n->exit_status = CONF_EXIT;
        set_state(p, NODE_CHILD_STOPPED);
        stages_stop(n);
        return;
    }
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == CHILD_EXIT_LEFT) {
        log_notice("the node has left the cluster");
        set_state(p, NODE_CHILD_STOPPED);
        stages_stop(n);
        return;
    }
    if (lived_us >= (uint64_t)p->role->forget_ms * 1000u ||
        (was_ready && killed && forgive_kill(p, now_us)))
        p->row = 0;
    schedule(p, p->last_exit);
}

void process_check(struct process *p, bool patient)
{
    struct node *n = p->node;
    uint64_t now_us = loop_now_us(n->loop);
    struct channel_msg ping = {.kind = CONTROL_PING, .token = now_us};

    if (p->state != NODE_CHILD_READY && p->state != NODE_CHILD_STOPPING)
        return;
    if (patient || p->asked_us == 0)
        p->asked_us = now_us;
    if (now_us - p->asked_us > (uint64_t)n->conf.node.watchdog_timeout_ms * 1000u)
        put_down(p, "does not answer");
    else
        process_send(p, &ping);
}

void process_drain(struct process *p)
{
    struct channel_msg drain = {.kind = CONTROL_DRAIN};

    loop_disarm(p->node->loop, &p->timer);
    if (p->pid == 0) {
        set_state(p, NODE_CHILD_STOPPED);
        return;
    }
    set_state(p, NODE_CHILD_STOPPING);
    if (p->role->once)
        process_signal(p, SIGTERM);
    process_send(p, &drain);
}
