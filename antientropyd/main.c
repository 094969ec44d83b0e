/* antientropyd: finds and mends differences between replicas in the background, fills replicas that
 * are new or have lost something, and checks what is on disk. This file brings the process up:
 * configuration, loop, its progress segment, read-only maps of the ring view and of the workers'
 * segments, which it follows across restarts of their writers. */
#include "antientropyd/antientropyd.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/err.h"
#include "base/log.h"
#include "store/touch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_US = 100000, SECOND = 10 /* looks */ };

static struct antientropyd the_antientropyd;

static _Noreturn void give_up(const char *what, int rc, const char *why)
{
    log_error("%s: %s: %s", what, err_text(rc), why);
    exit(1);
}

static void read_ring(struct antientropyd *a)
{
    static struct ring_view fresh; /* 100 KiB: not for the stack */

    if (!ring_seg_changed(&a->ring) || ring_seg_read(&a->ring, &fresh) != 0)
        return;
    if (fresh.epoch == 0 || 1u << fresh.q_bits != a->vnodes.partitions)
        return;
    bool other = ring_compare(&a->view, &fresh) != 0 ||
                 memcmp(a->view.phase, fresh.phase, sizeof fresh.phase) != 0;

    if (fresh.epoch != a->view.epoch)
        log_info("ring epoch %llu: %u members", (unsigned long long)fresh.epoch,
                 fresh.member_count);
    a->view = fresh;
    if (other)
        ring_index_build(&a->view, a->view.n, &a->index);
    peers_set_view(a->peers, &a->view);
    round_view(a);
    change_view(a);
    round_soon(a);
}

static void publish_peers(struct antientropyd *a)
{
    struct peers_stats s;

    peers_stats(a->peers, &s);
    counter_set(a->counters, CTR_repair_bytes_out, s.bytes_out);
    counter_set(a->counters, CTR_repair_bytes_in, s.bytes_in);
    counter_set(a->counters, CTR_repair_bad, s.dropped);
    counter_set(a->counters, CTR_repair_denied, s.denied);
    counter_set(a->counters, CTR_repair_peers_older, s.older);
}

static void say_status(struct antientropyd *a)
{
    uint32_t working = 0;
    uint64_t not_whole = counter_get(a->counters, CTR_repair_not_whole);

    for (int i = 0; i < SESSIONS; i++)
        working += a->sessions[i].state != SESSION_FREE;
    if (a->view.epoch == 0)
        child_status(&a->child, "waiting for the ring");
    else if (not_whole > 0)
        child_status(&a->child, "filling: %" PRIu64 " replicas are not whole", not_whole);
    else if (working > 0)
        child_status(&a->child, "comparing");
    else
        child_status(&a->child, "idle");
}

/* Restarted writers put new files in place; one stat call each while nothing has changed. */
static void on_second(struct antientropyd *a)
{
    ring_seg_refresh(&a->ring);
    for (uint32_t i = 0; i < a->conf.node.workers; i++)
        worker_seg_refresh(&a->workers[i]);
    peers_tick(a->peers);
    session_tick(a);
    vnodes_tidy(&a->vnodes, clock_mono_us());
    round_start(a);
    standing_tick(a);
    publish_peers(a);
    say_status(a);
}

static void on_look(void *arg)
{
    static uint32_t looks;
    struct antientropyd *a = arg;

    read_ring(a);
    local_tick(a->local);
    pace_tick(a);
    if (looks++ % SECOND == 0)
        on_second(a);
    loop_arm(a->loop, &a->second, loop_now_us(a->loop) + LOOK_US, on_look, a);
}

/* ---- certificates and settings ---- */

static int read_tls(struct antientropyd *a, struct tls_context **out, char why[TLS_WHY])
{
    struct tls_conf conf = {.cert = a->conf.security.tls_cert,
                            .key = a->conf.security.tls_key,
                            .ca = a->conf.security.tls_ca,
                            .verify = TLS_VERIFY_REQUIRED};

    *out = NULL;
    return a->conf.security.tls_cluster ? tls_context_new(out, &conf, why) : 0;
}

static void on_reload(void *arg)
{
    struct antientropyd *a = arg;
    static struct conf fresh;
    struct tls_context *tls;
    char error[CONF_ERROR], why[TLS_WHY];

    if (conf_load(&fresh, a->child.config, error) != 0 ||
        conf_take_reloadable(&a->conf, &fresh, NULL, NULL, error) < 0) {
        log_error("reload: %s", error);
        return;
    }
    log_setup(a->child.process_name, (enum log_level)conf_log_level(&a->conf));
    if (read_tls(a, &tls, why) != 0) {
        log_error("reload: the certificates in use stay: %s", why);
        return;
    }
    peers_set_tls(a->peers, tls);
    tls_context_free(a->tls);
    a->tls = tls;
}

static const struct child_ops child_ops = {.reload = on_reload};

/* ---- coming up ---- */

static void open_segments(struct antientropyd *a)
{
    static struct node_view node;
    struct node_seg seg;
    const char *dir = a->conf.node.runtime_dir;
    int rc = repair_seg_create(&a->repair, dir, a->child.incarnation, a->conf.cluster.partitions);

    if (rc != 0)
        give_up("shared memory", rc, a->repair.segment.why);
    a->counters = &a->repair.body->counters;
    memset(&seg, 0, sizeof seg);
    rc = node_seg_attach(&seg, dir);
    if (rc == 0)
        rc = node_seg_read(&seg, &node);
    if (rc != 0)
        give_up("node.seg", rc, seg.segment.why);
    a->self = node.id;
    node_seg_close(&seg);
    /* The writers of these may start later; on_second() finds them then. */
    ring_seg_attach(&a->ring, dir);
    for (uint32_t i = 0; i < a->conf.node.workers; i++)
        worker_seg_attach(&a->workers[i], dir, i);
}

static void open_connections(struct antientropyd *a)
{
    struct local_conf local = {.runtime_dir = a->conf.node.runtime_dir,
                               .workers = (uint16_t)a->conf.node.workers};
    struct peers_conf peers = {.self = a->self,
                               .incarnation = a->child.incarnation,
                               .cluster = a->conf.cluster.name,
                               .secret = a->conf.cluster.secret,
                               .protocol = {.oldest = (uint8_t)a->conf.cluster.protocol_min,
                                            .newest = (uint8_t)a->conf.cluster.protocol_max},
                               .listen_fd = child_fd(&a->child, "repair")};
    struct peers_events events = {
        .arg = a, .on_message = session_message, .on_lost = session_peer_lost};
    char why[TLS_WHY];
    int rc = read_tls(a, &a->tls, why);

    if (rc != 0)
        give_up("certificates", rc, why);
    peers.tls = a->tls;
    a->local = local_new(&local, a->loop);
    a->peers = peers_new(&peers, &events, a->loop);
    if (a->local == NULL || a->peers == NULL)
        give_up("start", -ERR_NOMEM, "no memory or descriptors for connections");
}

/* Clients do not wait for this process. */
static void give_way(struct antientropyd *a)
{
    a->may_idle = cpu_can_idle();
    if (!cpu_background())
        log_warn("cannot give way to others: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    struct antientropyd *a = &the_antientropyd;
    char error[CONF_ERROR];

    child_start(&a->child, "antientropyd", false, argc, argv);
    if (conf_load(&a->conf, a->child.config, error) != 0)
        give_up("configuration", -ERR_INVAL, error);
    log_setup(a->child.process_name, (enum log_level)conf_log_level(&a->conf));
    give_way(a);
    a->loop = loop_new();
    if (a->loop == NULL)
        give_up("start", -ERR_NOMEM, "no event loop");
    a->started_us = clock_mono_us();
    rand_seed(&a->rand, rand_id());
    open_segments(a);
    if (vnodes_init(&a->vnodes, a->conf.node.data_dir, a->conf.q_bits,
                    a->conf.storage.map_size_bytes) != 0)
        give_up("start", -ERR_NOMEM, "no memory for a table of partitions");
    a->touch_known = store_touch_load(a->conf.node.data_dir, &a->seen_epoch, &a->seen_ms) == 0;
    open_connections(a);
    child_attach(&a->child, a->loop, &child_ops, a);
    on_look(a);
    verify_start(a);
    child_ready(&a->child);
    loop_run(a->loop);
    repair_seg_close(&a->repair);
    return 0;
}
