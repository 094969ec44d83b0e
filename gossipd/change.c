/* Changing the ring, seen from this node: what its workers act by and what its replicas have copied is
 * announced; what has been lost is reported; a node that has left goes. The rules are in
 * core/ring_change.h and core/member_change.c. Runs in gossipd. */
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "gossipd/admin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_US    50000u   /* while a change is under way */
#define REST_US    1000000u /* while none is */
#define DRAINED_US 5000000u /* a node that has left has had nothing to give for so long */

/* ---- what workers and antientropyd say ---- */

void gossipd_map_workers(struct gossipd *g)
{
    for (uint32_t i = 0; i < g->conf.node.workers; i++) {
        struct worker_seg *w = &g->watch.workers[i];

        if (!segment_mapped(&w->segment))
            worker_seg_attach(w, g->conf.node.runtime_dir, i);
        else
            worker_seg_refresh(w);
    }
}

/* Does every worker of this node act by the view that was published last? */
static bool workers_follow(struct gossipd *g)
{
    gossipd_map_workers(g);
    for (uint32_t i = 0; i < g->conf.node.workers; i++) {
        const struct worker_seg *w = &g->watch.workers[i];

        if (!segment_mapped(&w->segment) ||
            atomic_load_explicit(&w->body->ring_version, memory_order_acquire) != g->view.version)
            return false;
    }
    return true;
}

/* What antientropyd has copied for the document in force, or NULL. */
static const uint8_t *copied(struct gossipd *g)
{
    struct change_watch *c = &g->watch;

    if (!segment_mapped(&c->repair.segment))
        repair_seg_attach(&c->repair, g->conf.node.runtime_dir);
    else
        repair_seg_refresh(&c->repair);
    if (!segment_mapped(&c->repair.segment) ||
        repair_seg_read_copied(&c->repair, &c->copied) != 0 ||
        c->copied.epoch != g->members.ring.epoch ||
        !node_id_equal(&c->copied.proposer, &g->members.ring.proposer))
        return NULL;
    return c->copied.step;
}

/* What a node that has left still has to give: hints, and vnodes that not everybody they belong to is
 * known to have. */
struct burden {
    uint64_t hints;
    uint32_t vnodes;
};

/* false: not known now. */
static bool still_held(struct gossipd *g, struct burden *out)
{
    *out = (struct burden){0};
    for (uint32_t i = 0; i < g->conf.node.workers; i++) {
        const struct worker_seg *w = &g->watch.workers[i];

        if (!segment_mapped(&w->segment))
            return false;
        for (uint32_t p = 0; p < w->body->partitions; p++) {
            const struct worker_vnode *v = &w->body->vnodes[p];

            out->hints += atomic_load_explicit(&v->hints, memory_order_relaxed);
            out->vnodes +=
                atomic_load_explicit(&v->state, memory_order_acquire) == WORKER_VNODE_OPEN;
        }
    }
    return true;
}

/* ---- going ---- */

static void left_path(const struct gossipd *g, char *out, size_t size)
{
    snprintf(out, size, "%s/left", g->conf.node.data_dir);
}

static _Noreturn void refuse_spent_id(struct gossipd *g, const char *how)
{
    log_error("this node's id has been %s: it cannot come back under it. To use the machine again, "
              "start with an empty data directory (now: %s)",
              how, g->conf.node.data_dir);
    child_status(&g->child, "its id has been %s", how);
    exit(CONF_EXIT);
}

void gossipd_refuse_spent_id(struct gossipd *g)
{
    char path[CONF_PATH + 16];

    left_path(g, path, sizeof path);
    if (access(path, F_OK) == 0)
        refuse_spent_id(g, "given up when it left the ring");
}

static _Noreturn void leave(struct gossipd *g)
{
    char path[CONF_PATH + 16];

    left_path(g, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fsync(fd) != 0)
        log_warn("cannot write %s", path);
    if (fd >= 0)
        close(fd);
    log_notice("this node has left the ring and given away what it had: stopping");
    child_status(&g->child, "left the ring");
    exit(CHILD_EXIT_LEFT);
}

/* A member that has left stays until nothing is owed by it any more; one that was removed goes. */
static void look_at_self(struct gossipd *g)
{
    struct change_watch *c = &g->watch;
    const struct member_ring *r = &g->members.ring;
    uint16_t self = g->view.self;
    uint64_t now = loop_now_us(g->loop);
    struct burden held = {0};

    if (self == RING_NO_OWNER || self >= r->count || !r->left[self]) {
        c->drained_us = 0;
        return;
    }
    if (r->going[self] == MEMBER_GONE)
        refuse_spent_id(g, "removed from the ring by an administrator");
    if (!workers_follow(g) || !still_held(g, &held) || held.hints + held.vnodes > 0)
        c->drained_us = 0;
    else if (c->drained_us == 0)
        c->drained_us = now;
    else if (now > c->drained_us + DRAINED_US)
        leave(g);
    child_status(&g->child, "has left the ring; %llu hints and %u vnodes to give away",
                 (unsigned long long)held.hints, held.vnodes);
}

/* ---- going on ---- */

static void say_lost(struct gossipd *g)
{
    struct change_watch *c = &g->watch;

    for (; c->lost_said < g->change->lost; c->lost_said++) {
        const struct member_lost *l = &g->change->last_lost[c->lost_said % MEMBER_LOST];

        log_warn(
            "the change of the ring committed as epoch %llu (%u changes) has lost against that "
            "of epoch %llu, committed by somebody who could not be reached: plan it again if "
            "it is still wanted",
            (unsigned long long)l->version.epoch, l->count, (unsigned long long)l->winner.epoch);
    }
}

/* How much of the change everybody has done, and since when. */
static void measure(struct gossipd *g)
{
    struct change_watch *c = &g->watch;
    const struct member_ring *r = &g->members.ring;
    uint64_t now = loop_now_us(g->loop);
    uint32_t done = 0;

    if (c->version.epoch != r->epoch || !node_id_equal(&c->version.proposer, &r->proposer)) {
        c->version = (struct member_version){r->epoch, r->proposer};
        c->started_us = c->done_us = now;
        c->done = 0;
    }
    for (uint16_t i = 0; i < r->count; i++)
        for (uint32_t p = 0; p < 1u << r->q_bits; p++)
            done += g->change->progress[i].step[p];
    if (done != c->done)
        c->done_us = now;
    c->done = done;
}

/* Of a removal that cannot be, people hear once, until it is about somebody else. */
static void say_removed(struct gossipd *g, const struct ring_change *list, uint32_t count, int rc)
{
    uint64_t whom = 1;
    char name[LIMIT_NAME];

    for (uint32_t i = 0; i < count; i++)
        whom = hash64_seed(list[i].node.b, NODE_ID_BYTES, whom);
    if (rc != 0 && g->watch.not_removed == whom)
        return;
    g->watch.not_removed = rc != 0 ? whom : 0;
    for (uint32_t i = 0; i < count; i++) {
        admin_name(g, &list[i].node, name, sizeof name);
        if (rc == 0)
            log_notice("%s has been faulty for more than auto_remove_after: removed from the ring",
                       name);
        else
            log_warn("auto_remove_after cannot remove %s: %s", name,
                     rc == -ERR_DENIED ? "the others are too few for all replicas" : err_text(rc));
    }
}

/* The members that have been faulty for too long are removed by the living member with the lowest id,
 * if it sees most of the ring alive: never by a minority of a network that has been cut in two. */
static void remove_dead(struct gossipd *g)
{
    const struct ring_view *v = &g->view;
    uint64_t limit_us = g->conf.cluster.auto_remove_after_ms * 1000ull;
    uint64_t now = clock_mono_us();
    uint32_t alive = 0, all = 0, count = 0;
    struct ring_change list[LIMIT_STAGED];
    struct member_plan plan;

    if (limit_us == 0 || v->self == RING_NO_OWNER || ring_change_is_open(v))
        return;
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];
        const struct member_row *row = member_find(&g->members, &m->id);

        all += m->state != MEMBER_LEFT;
        alive += m->state < MEMBER_FAULTY;
        if (m->state < MEMBER_FAULTY &&
            memcmp(m->id.b, v->members[v->self].id.b, NODE_ID_BYTES) < 0)
            return; /* that one will do it */
        if (m->state == MEMBER_FAULTY && row != NULL && count < LIMIT_STAGED &&
            now > row->since_us + limit_us)
            list[count++] = (struct ring_change){.kind = RING_REMOVE, .node = m->id};
    }
    if (count == 0 || 2 * alive <= all)
        return;
    say_removed(g, list, count, member_commit_list(&g->members, list, count, &plan));
}

void gossipd_change_step(struct gossipd *g)
{
    bool open = ring_change_is_open(&g->view);

    say_lost(g);
    measure(g);
    look_at_self(g);
    if (open) {
        const struct ring_view *taken = workers_follow(g) ? &g->view : NULL;

        if (member_change_step(&g->members, taken, copied(g))) {
            /* Durable, then published, then told. */
            gossipd_save(g);
            gossipd_publish_ring(g);
            member_change_tell(&g->members);
        }
    }
}

static void on_timer(void *arg)
{
    struct gossipd *g = arg;

    remove_dead(g);
    gossipd_change_step(g);
    loop_arm(g->loop, &g->watch.timer,
             loop_now_us(g->loop) + (ring_change_is_open(&g->view) ? STEP_US : REST_US), on_timer,
             g);
}

void gossipd_change_open(struct gossipd *g)
{
    on_timer(g);
}
