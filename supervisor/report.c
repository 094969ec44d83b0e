/* Publishes the child table. Runs in the supervisor, the only writer of node.seg. */
#include "supervisor/report.h"

#include "base/clock.h"
#include "base/err.h"
#include "supervisor/sd_notify.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a process has to say, or why there is none; empty: nothing. */
static const char *voice(const struct process *p)
{
    if (p->state == NODE_CHILD_FAILED || p->state == NODE_CHILD_WAITING)
        return p->last_exit;
    return p->state == NODE_CHILD_STOPPED ? "" : p->status;
}

/* How many processes of one role say the same as process i; 0 if an earlier one has said it. */
static unsigned chorus(const struct node *n, uint32_t i)
{
    unsigned count = 0;

    for (uint32_t j = 0; j < n->process_count; j++) {
        if (n->processes[j].role != n->processes[i].role ||
            strcmp(voice(&n->processes[j]), voice(&n->processes[i])) != 0)
            continue;
        if (j < i)
            return 0;
        count++;
    }
    return count;
}

/* One line for people: how many are ready, then whoever has something to say. */
static void describe(struct node *n, char out[NODE_SEG_REASON])
{
    unsigned wanted = 0, ready = 0;
    size_t len;

    for (uint32_t i = 0; i < n->process_count; i++) {
        if (n->processes[i].role->once)
            continue;
        wanted++;
        ready += n->processes[i].state == NODE_CHILD_READY;
    }
    len = (size_t)snprintf(out, NODE_SEG_REASON, "%s%u of %u processes ready",
                           n->phase == NODE_STOPPING   ? "stopping, "
                           : n->phase == NODE_STARTING ? "starting, "
                           : ready < wanted            ? "degraded, "
                                                       : "",
                           ready, wanted);
    for (uint32_t i = 0; i < n->process_count && len < NODE_SEG_REASON; i++) {
        const struct process *p = &n->processes[i];
        unsigned count = voice(p)[0] != 0 ? chorus(n, i) : 0;

        if (count == 1)
            len +=
                (size_t)snprintf(out + len, NODE_SEG_REASON - len, "; %s: %s", p->name, voice(p));
        else if (count > 1)
            len += (size_t)snprintf(out + len, NODE_SEG_REASON - len, "; %u %ss: %s", count,
                                    p->role->name, voice(p));
    }
}

/* A text of the child table; a longer one is cut. Both may be parts of one struct node. */
static void copy_text(char out[NODE_SEG_REASON], const char *text)
{
    size_t len = strnlen(text, NODE_SEG_REASON - 1);

    memcpy(out, text, len);
    out[len] = 0;
}

static void fill_children(struct node *n)
{
    struct node_view *v = &n->view;

    v->child_count = n->process_count;
    for (uint32_t i = 0; i < n->process_count; i++) {
        const struct process *p = &n->processes[i];
        struct node_child *c = &v->children[i];

        memset(c, 0, sizeof *c);
        snprintf(c->role, sizeof c->role, "%s", p->role->name);
        c->index = p->index;
        c->pid = p->pid;
        c->state = p->state;
        c->restarts = p->restarts;
        c->incarnation = p->incarnation;
        c->since_ms = p->since_ms;
        copy_text(c->status, p->status);
        copy_text(c->last_exit, p->last_exit);
    }
}

static void fill_conf(struct node *n)
{
    struct node_view *v = &n->view;
    const struct conf *c = &n->conf;
    char text[CONF_VALUE];

    v->id = n->id;
    snprintf(v->name, sizeof v->name, "%s", c->node.name);
    snprintf(v->cluster, sizeof v->cluster, "%s", c->cluster.name);
    snprintf(v->zone, sizeof v->zone, "%s", c->node.zone);
    snprintf(v->address, sizeof v->address, "%s", c->node.announce);
    v->port = (uint16_t)c->node.port;
    v->worker_port = (uint16_t)c->node.worker_port;
    v->peer_port = (uint16_t)c->node.peer_port;
    v->gossip_port = (uint16_t)c->node.gossip_port;
    v->workers = c->node.workers;
    v->q_bits = c->q_bits;
    v->n = c->cluster.n;
    v->r = c->cluster.r;
    v->w = c->cluster.w;
    conf_format(c, CONF_storage_durability, text);
    snprintf(v->durability, sizeof v->durability, "%.15s", text);
    snprintf(v->data_dir, sizeof v->data_dir, "%.*s", NODE_SEG_PATH - 1, c->node.data_dir);
    snprintf(v->runtime_dir, sizeof v->runtime_dir, "%s", c->node.runtime_dir);
    snprintf(v->config_file, sizeof v->config_file, "%.*s", NODE_SEG_PATH - 1,
             n->config_file != NULL ? n->config_file : "");
    v->supervisor_pid = (int32_t)getpid();
    v->started_ms = n->started_ms;
}

static void fill(struct node *n, const char *status)
{
    fill_conf(n);
    fill_children(n);
    snprintf(n->view.status, sizeof n->view.status, "%s", status);
}

int report_open(struct node *n, char *error, size_t error_size)
{
    fill(n, "starting");
    int rc = node_seg_create(&n->seg, n->conf.node.runtime_dir, n->next_incarnation, &n->view);

    if (rc != 0)
        snprintf(error, error_size, "cannot make node.seg in %s: %s%s%s", n->conf.node.runtime_dir,
                 err_text(rc), n->seg.segment.why[0] != 0 ? ": " : "", n->seg.segment.why);
    return rc;
}

void report_now(struct node *n)
{
    char status[NODE_SEG_REASON];

    describe(n, status);
    fill(n, status);
    node_seg_publish(&n->seg, &n->view);
    if (strcmp(status, n->status) == 0)
        return;
    memcpy(n->status, status, sizeof n->status);
    sd_notify_send("STATUS=%s", status);
}

static void run_report(void *arg)
{
    report_now(arg);
}

void report_later(struct node *n)
{
    loop_defer(n->loop, &n->report_task, run_report, n);
}
