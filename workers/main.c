/* A worker: one process per CPU, the only writer of the vnodes assigned to it. This file brings the
 * parts up in order, runs the loop, and takes them down. It holds no logic of its own. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "core/handoff.h"
#include "store/touch.h"
#include "workers/ask.h"
#include "workers/coord_host.h"
#include "workers/handoff_host.h"
#include "workers/repair_host.h"
#include "workers/worker.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_START   1
#define RING_LOOK_US 20000u

static struct worker the_worker;

static _Noreturn void give_up(const char *what, int rc, const char *why)
{
    log_error("%s: %s%s%s", what, err_text(rc), why != NULL && *why ? ": " : "",
              why != NULL ? why : "");
    exit(EXIT_START);
}

static void recovery_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct worker *w = arg;

    if (child_orphaned(&w->child))
        exit(0);
    child_status(&w->child, "%s: %llu of %llu", what, (unsigned long long)done,
                 (unsigned long long)total);
}

static void fill_store_conf(struct worker *w, struct store_conf *conf)
{
    const struct conf *c = &w->conf;

    *conf = (struct store_conf){
        .data_dir = c->node.data_dir,
        .worker = w->index,
        .q_bits = c->q_bits,
        .durability = (enum store_durability)c->storage.durability,
        .write_buffer_bytes = c->storage.write_buffer_total_bytes / w->workers,
        .map_bytes = c->storage.map_size_bytes,
        .segment_bytes = c->storage.segment_size_bytes,
        .flush_age_ms = c->storage.flush_age_ms,
        .progress = recovery_progress,
        .progress_arg = w,
    };
}

/* --recover: replay the journals of all workers of the last run, for another number of workers. */
static int recover_and_exit(struct worker *w)
{
    struct store_conf conf;
    uint64_t records = 0;

    fill_store_conf(w, &conf);
    int rc = store_recover_all(&conf, &records);
    if (rc != 0) {
        log_error("recovery: %s", err_text(rc));
        return EXIT_START;
    }
    log_info("recovered %llu records", (unsigned long long)records);
    return 0;
}

/* ---- what the rest of the node tells us ---- */

static void on_reload(void *arg)
{
    struct worker *w = arg;
    static struct conf fresh;
    char error[CONF_ERROR], password[CONF_SECRET];

    memcpy(password, w->conf.security.requirepass, sizeof password);
    if (conf_load(&fresh, w->child.config, error) != 0 ||
        conf_take_reloadable(&w->conf, &fresh, NULL, NULL, error) < 0) {
        log_error("reload: %s", error);
        return;
    }
    if (strcmp(password, w->conf.security.requirepass) != 0)
        worker_acl_require(w);
    worker_tls_reload(w);
    worker_apply_conf(w);
    log_info("configuration reloaded");
}

static void on_drain(void *arg)
{
    worker_turn_drain(arg);
}

static void on_worker_up(void *arg, uint32_t index, uint64_t incarnation)
{
    struct worker *w = arg;

    if (index >= w->workers || index == w->index)
        return;
    worker_seg_refresh(&w->sibling[index]); /* what it announces must be heard at once */
    link_set_sibling_up(w->links, (uint16_t)index, incarnation);
}

static void on_worker_down(void *arg, uint32_t index)
{
    struct worker *w = arg;

    if (index < w->workers && index != w->index)
        link_set_sibling_down(w->links, (uint16_t)index);
}

static const struct child_ops child_ops = {
    .reload = on_reload,
    .drain = on_drain,
    .worker_up = on_worker_up,
    .worker_down = on_worker_down,
};

static void on_message(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct worker *w = arg;

    if (m->kind == MSG_MERGED && handoff_owns(m->u.MERGED.request))
        handoff_host_receive(w, &m->u.MERGED);
    else if (!ask_receive(w, member, worker, m))
        coord_receive(w->coord, member, worker, m, w->engine.now_us, w->engine.wall_ms);
}

static void on_link_down(void *arg, uint16_t member, uint16_t worker)
{
    struct worker *w = arg;

    coord_link_down(w->coord, member, worker, w->engine.now_us, w->engine.wall_ms);
    handoff_host_link_down(w, member, worker);
    ask_link_down(w, member, worker);
}

static int engine_put(void *arg, uint64_t token, const struct msg_PUT *put)
{
    struct worker *w = arg;

    if (w->engine.view == NULL)
        return -ERR_UNAVAILABLE;
    return coord_put(w->coord, token, put, w->engine.now_us, w->engine.wall_ms);
}

static int engine_get(void *arg, uint64_t token, const struct msg_GET *get)
{
    struct worker *w = arg;

    if (w->engine.view == NULL)
        return -ERR_UNAVAILABLE;
    return coord_get(w->coord, token, get, w->engine.now_us, w->engine.wall_ms);
}

static bool engine_pressure(void *arg)
{
    struct worker *w = arg;

    return store_pressure(w->store);
}

/* ---- coming up ---- */

static void open_segments(struct worker *w)
{
    const char *dir = w->conf.node.runtime_dir;
    struct node_view *view = calloc(1, sizeof *view);
    int cpu = sched_getcpu();

    if (view == NULL)
        give_up("start", -ERR_NOMEM, NULL);
    int rc = worker_seg_create(&w->seg, dir, w->index, w->workers, w->conf.cluster.partitions,
                               cpu < 0 ? 0 : (uint32_t)cpu, w->child.incarnation);
    if (rc != 0)
        give_up("shared memory", rc, w->seg.segment.why);
    rc = node_seg_attach(&w->node, dir);
    if (rc == 0)
        rc = node_seg_read(&w->node, view);
    if (rc != 0)
        give_up("node.seg", rc, w->node.segment.why);
    w->node_id = view->id;
    free(view);
    repair_seg_attach(&w->repairs, dir); /* likewise */
    ring_seg_attach(&w->ring, dir);      /* gossipd may come later: looked for once a second */
    for (uint16_t i = 0; i < w->workers; i++)
        if (i != w->index)
            worker_seg_attach(&w->sibling[i], dir, i);
}

/* How long has this node been out of touch with the others? antientropyd notes when it was not. */
static void look_for_absence(struct worker *w)
{
    uint64_t epoch, ms, now_ms = clock_wall_ms();

    if (store_touch_load(w->conf.node.data_dir, &epoch, &ms) != 0 || now_ms < ms ||
        now_ms - ms <= w->conf.limits.hint_age_ms)
        return;
    store_set_away(w->store);
    log_notice(
        "out of touch for %llu s, longer than hints are kept: replicas are brought up to date "
        "before they serve",
        (unsigned long long)((now_ms - ms) / 1000));
}

static void open_store(struct worker *w)
{
    struct store_conf conf;

    fill_store_conf(w, &conf);
    child_status(&w->child, "opening the store");
    int rc = store_open(&w->store, &conf);
    if (rc != 0)
        give_up("store", rc, w->conf.node.data_dir);
    w->dead_fd = -1;
    look_for_absence(w);
}

static void open_coord(struct worker *w)
{
    struct coord_conf conf;
    struct coord_host host;

    worker_fill_coord_conf(w, &conf);
    coord_host_fill(w, &host);
    w->coord_memory = aligned_alloc(64, (coord_size(&conf) + 63) & ~(size_t)63);
    if (w->coord_memory == NULL)
        give_up("start", -ERR_NOMEM, NULL);
    w->coord = coord_init(w->coord_memory, &conf, &host, &w->scratch_a, &w->scratch_b, w->index,
                          rand_id());
}

/* A replica that hears of a write which its coordinator then forgets would be made to drop it, and what
 * it superseded, by the coordinator's next write of that key. */
static bool may_leave(void *arg)
{
    struct worker *w = arg;

    return store_kick(w->store);
}

static void open_links(struct worker *w)
{
    struct link_set_conf conf = {
        .self = w->node_id,
        .worker = w->index,
        .workers = w->workers,
        .incarnation = w->child.incarnation,
        .protocol = {.oldest = (uint8_t)w->conf.cluster.protocol_min,
                     .newest = (uint8_t)w->conf.cluster.protocol_max},
        .listen_fd = child_fd(&w->child, "peer"),
        .runtime_dir = w->conf.node.runtime_dir,
        .wake_fd = w->wake_fd,
        .tls = w->peer_tls,
        .seg = &w->seg,
    };
    struct link_set_events events = {
        .arg = w, .on_message = on_message, .on_down = on_link_down, .may_leave = may_leave};

    snprintf(conf.cluster, sizeof conf.cluster, "%s", w->conf.cluster.name);
    snprintf(conf.secret, sizeof conf.secret, "%s", w->conf.cluster.secret);
    for (uint16_t i = 0; i < w->workers; i++) {
        char name[CHILD_FD_NAME];

        snprintf(name, sizeof name, "wake%u", i);
        w->wake_fd[i] = child_fd(&w->child, name);
    }
    int rc = link_set_open(&w->links, &conf, &events, w->loop);
    if (rc != 0)
        give_up("links", rc, NULL);
}

static int engine_admin(void *arg, uint64_t token, struct slice request)
{
    struct worker *w = arg;

    return admin_ask(w->admin, token, request);
}

static void on_admin_answer(void *arg, uint64_t token, int rc, struct slice answer)
{
    struct worker *w = arg;
    struct coord_reply reply = {.status = rc, .object = answer};

    clients_reply(w->clients, token, &reply);
}

static void open_clients(struct worker *w)
{
    char why[ACL_WHY] = "";

    w->engine.arg = w;
    w->engine.worker = w->index;
    w->engine.put = engine_put;
    w->engine.get = engine_get;
    w->engine.scan = ask_scan;
    w->engine.run = ask_run;
    w->engine.workers = w->workers;
    w->engine.pressure = engine_pressure;
    w->engine.siblings_clients = worker_info_clients;
    w->engine.show = ask_show;
    w->engine.info = worker_info_fill;
    w->engine.admin = engine_admin;
    w->engine.config = worker_info_config;
    w->engine.config_set = worker_config_set;
    worker_fill_engine_conf(w);
    int rc = clients_open(&w->clients, w->loop, &w->engine);
    if (rc == 0)
        rc = admin_open(&w->admin, w->loop, w->conf.node.runtime_dir, on_admin_answer, w);
    if (rc == 0 && worker_acl_open(w, why) != 0) {
        log_error("%s", why);
        exit(CONF_EXIT);
    }
    if (rc == 0)
        rc = clients_listen(w->clients, child_fd(&w->child, "front"), CLIENTS_FRONT);
    if (rc == 0)
        rc = clients_listen(w->clients, child_fd(&w->child, "client"), CLIENTS_WORKER);
    if (rc != 0)
        give_up("clients", rc, NULL);
}

/* A worker is ready when its loop runs: a node that waits for the other founders must not look like
 * one that hangs. Until the ring is known, commands on keys are answered with an error that says so. */
static void on_ring_look(void *arg)
{
    struct worker *w = arg;

    if (w->view.epoch == 0) {
        ring_seg_refresh(&w->ring);
        worker_turn_ring(w);
    }
    if (w->view.epoch == 0) {
        loop_arm(w->loop, &w->ring_timer, loop_now_us(w->loop) + RING_LOOK_US, on_ring_look, w);
        return;
    }
    worker_seg_set_state(&w->seg, WORKER_SERVING);
    child_status(&w->child, "serving");
}

int main(int argc, char **argv)
{
    struct worker *w = &the_worker;
    char error[CONF_ERROR];

    child_start(&w->child, "worker", true, argc, argv);
    if (conf_load(&w->conf, w->child.config, error) != 0)
        give_up("configuration", -ERR_INVAL, error);
    log_setup(w->child.process_name, (enum log_level)conf_log_level(&w->conf));
    w->index = (uint16_t)w->child.index;
    w->workers = (uint16_t)w->conf.node.workers;
    w->started_us = clock_mono_us();
    if (w->child.recover)
        return recover_and_exit(w);
    if (w->index >= w->workers)
        give_up("start", -ERR_INVAL, "the index is beyond the number of workers");

    if (worker_tls_open(w, error) != 0) {
        log_error("%s", error);
        return CONF_EXIT;
    }
    w->loop = loop_new();
    if (w->loop == NULL)
        give_up("start", -ERR_NOMEM, NULL);
    worker_cpu_open(w);
    open_segments(w);
    open_store(w);
    open_coord(w);
    int rc = handoff_host_open(w);
    if (rc == 0)
        rc = ask_open(w);
    if (rc != 0)
        give_up("start", rc, NULL);
    rc = worker_turn_start(w); /* before the links: its hook fills what theirs sends */
    if (rc != 0)
        give_up("start", rc, NULL);
    open_links(w);
    rc = repair_host_open(&w->repair, w);
    if (rc != 0)
        give_up("the socket for antientropyd", rc, w->conf.node.runtime_dir);
    open_clients(w);
    child_attach(&w->child, w->loop, &child_ops, w);
    child_status(&w->child, "waiting for the ring");
    on_ring_look(w);
    child_ready(&w->child);
    loop_run(w->loop);

    worker_acl_close(w);
    repair_host_close(w->repair);
    ask_close(w);
    admin_close(w->admin);
    clients_close(w->clients);
    link_set_close(w->links);
    store_close(w->store);
    worker_seg_close(&w->seg);
    log_info("stopped");
    return 0;
}
