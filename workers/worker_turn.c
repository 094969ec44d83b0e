/* What a worker does in every turn of its loop and every so often: the clock of the engine, the
 * ring view, deadlines of the coordination, the store's completions, draining. Runs in a worker. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "workers/coord_host.h"
#include "workers/handoff_host.h"
#include "workers/repair_host.h"
#include "workers/worker.h"

#define SLOW_TURN_US   100000u  /* store housekeeping */
#define SLOWER_TURN_US 1000000u /* looking for restarted writers of segments */
#define OPEN_US        2000u    /* opening vnodes in one go, while clients are served */
#define OPEN_PAUSE_US  2000u

static void refresh_clock(struct worker *w)
{
    w->engine.now_us = clock_mono_us();
    w->engine.wall_ms = clock_wall_ms();
}

/* ---- the ring ---- */

static void tell_change(const struct ring_view *old, const struct ring_view *new)
{
    if (ring_compare(old, new) != 0)
        log_info("ring epoch %llu: %u members, %u partitions, N=%u", (unsigned long long)new->epoch,
                 new->member_count, 1u << new->q_bits, new->n);
}

static void on_open(void *arg)
{
    struct worker *w = arg;

    if (!coord_host_open_vnodes(w, clock_mono_us() + OPEN_US))
        loop_arm(w->loop, &w->open_timer, loop_now_us(w->loop) + OPEN_PAUSE_US, on_open, w);
}

/* Before it serves anybody the worker opens all that it has; when the ring changes under load, a few
 * at a time: whoever needs one earlier opens it. */
static void open_vnodes(struct worker *w, bool first)
{
    w->open_at = 0;
    if (first)
        coord_host_open_vnodes(w, UINT64_MAX);
    else
        on_open(w);
}

bool worker_turn_ring(struct worker *w)
{
    static struct ring_view fresh; /* 90 KiB: not for the stack */

    if (w->links == NULL || !ring_seg_changed(&w->ring))
        return false;
    int rc = ring_seg_read(&w->ring, &fresh);
    if (rc != 0 || fresh.epoch == 0) {
        if (rc != 0 && rc != -ERR_NOTFOUND)
            log_warn("ring view: %s", err_text(rc));
        return false;
    }
    if (fresh.self == RING_NO_OWNER)
        return false; /* it has not been joined yet */
    if ((1u << fresh.q_bits) != w->conf.cluster.partitions) {
        log_error("the ring has %u partitions; the configuration says %u", 1u << fresh.q_bits,
                  w->conf.cluster.partitions);
        return false;
    }
    bool first = w->view.epoch == 0;
    bool other = ring_compare(&w->view, &fresh) != 0 ||
                 memcmp(w->view.phase, fresh.phase, sizeof fresh.phase) != 0;
    tell_change(&w->view, &fresh);
    w->view = fresh;
    if (other)
        ring_index_build(&w->view, w->view.n, &w->ring_index);
    w->engine.view = &w->view;
    w->engine.index = &w->ring_index;
    coord_set_view(w->coord, &w->view, &w->ring_index);
    link_set_set_view(w->links, &w->view);
    if (other)
        open_vnodes(w, first);
    handoff_host_view(w);
    worker_seg_count(&w->seg, CTR_ring_changes, 1);
    atomic_store_explicit(&w->seg.body->ring_version, w->view.version, memory_order_release);
    return true;
}

/* ---- store and deadlines ---- */

static void tell_durable(struct worker *w)
{
    w->durable = store_durable(w->store);
    coord_durable(w->coord, w->durable, w->engine.now_us);
    repair_host_durable(w->repair, w->durable);
}

static void collect_store(struct worker *w)
{
    store_turn(w->store, w->engine.now_us, w->engine.wall_ms);
    tell_durable(w);
}

static void on_store(void *arg, uint32_t events)
{
    (void)events;
    collect_store(arg);
}

static void on_coord_deadline(void *arg)
{
    struct worker *w = arg;

    refresh_clock(w);
    w->coord_deadline_us = coord_tick(w->coord, w->engine.now_us, w->engine.wall_ms);
    if (w->coord_deadline_us != UINT64_MAX)
        loop_arm(w->loop, &w->coord_timer, w->coord_deadline_us, on_coord_deadline, w);
}

static bool before_sleep(void *arg)
{
    struct worker *w = arg;

    if (w->coord == NULL)
        return false;
    worker_turn_ring(w);
    uint64_t deadline = coord_tick(w->coord, w->engine.now_us, w->engine.wall_ms);
    if (deadline != w->coord_deadline_us) {
        w->coord_deadline_us = deadline;
        if (deadline == UINT64_MAX)
            loop_disarm(w->loop, &w->coord_timer);
        else
            loop_arm(w->loop, &w->coord_timer, deadline, on_coord_deadline, w);
    }
    handoff_host_turn(w);
    store_kick(w->store); /* the links' hook comes later: nobody hears of a write before this */
    if (store_durable(w->store) != w->durable)
        tell_durable(w);
    if (w->turn_started_us != 0) {
        uint64_t now = clock_mono_us();
        uint64_t busy = now - w->turn_started_us;

        worker_seg_heartbeat(&w->seg, now);
        worker_seg_count(&w->seg, CTR_loop_turns, 1);
        worker_seg_count(&w->seg, CTR_loop_busy, busy);
        worker_seg_latency(&w->seg, WORKER_HIST_LOOP_TURN, busy);
        if (w->clients != NULL)
            activity_spike(&w->clients->activity, ACTIVITY_EVENT_LOOP, w->engine.wall_ms, busy);
        w->turn_started_us = 0;
    }
    return false;
}

static void after_sleep(void *arg)
{
    struct worker *w = arg;

    refresh_clock(w);
    w->turn_started_us = w->engine.now_us;
    /* What has come since may be from those who count on it that this node knows of the change. */
    worker_turn_ring(w);
    worker_acl_turn(w);
}

static void on_slow_turn(void *arg)
{
    static uint64_t refreshed_us;
    struct worker *w = arg;

    refresh_clock(w);
    collect_store(w);
    handoff_host_sweep(w);
    worker_info_publish(w);
    worker_cpu_turn(w);
    if (w->engine.now_us - refreshed_us >= SLOWER_TURN_US) {
        refreshed_us = w->engine.now_us;
        if (ring_seg_refresh(&w->ring) == 1)
            worker_turn_ring(w);
        node_seg_refresh(&w->node);
        repair_seg_refresh(&w->repairs);
        for (uint16_t i = 0; i < w->workers; i++)
            if (i != w->index)
                worker_seg_refresh(&w->sibling[i]);
    }
    loop_arm(w->loop, &w->slow_timer, w->engine.now_us + SLOW_TURN_US, on_slow_turn, w);
}

int worker_turn_start(struct worker *w)
{
    refresh_clock(w);
    int rc = loop_add(w->loop, &w->store_watch, store_event_fd(w->store), EPOLLIN, on_store, w);

    if (rc != 0)
        return rc;
    w->coord_deadline_us = UINT64_MAX;
    w->turn_hook.before_sleep = before_sleep;
    w->turn_hook.awake = after_sleep;
    w->turn_hook.arg = w;
    loop_hook(w->loop, &w->turn_hook);
    on_slow_turn(w);
    return 0;
}

/* ---- leaving ---- */

#define DRAIN_LOOK_US 10000u

static void on_drain_look(void *arg)
{
    struct worker *w = arg;
    bool patience = loop_now_us(w->loop) < w->drain_deadline_us;

    if (patience && (coord_in_flight(w->coord) > 0 || !clients_drained(w->clients))) {
        loop_arm(w->loop, &w->drain_timer, loop_now_us(w->loop) + DRAIN_LOOK_US, on_drain_look, w);
        return;
    }
    loop_stop(w->loop);
}

void worker_turn_drain(struct worker *w)
{
    if (w->draining)
        return;
    w->draining = true;
    worker_seg_set_state(&w->seg, WORKER_DRAINING);
    clients_drain(w->clients);
    w->drain_deadline_us = loop_now_us(w->loop) + (uint64_t)w->conf.node.drain_timeout_ms * 1000u;
    on_drain_look(w);
}
