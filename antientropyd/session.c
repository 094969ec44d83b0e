/* Exchanges under way. See session.h. Runs in antientropyd; the rules are in core/exchange.h. */
#include "antientropyd/antientropyd.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SILENT_US = 60000000 }; /* until an exchange is given up */

/* ---- what the exchange asks of its host ---- */

static int host_send(void *arg, const struct repair *m)
{
    struct session *s = arg;

    return s->peer == NULL ? -ERR_CLOSED : peer_send(s->peer, m);
}

static void settle(struct session *s);

static void on_worker(void *arg, const struct repair *answer)
{
    struct session *s = arg;

    s->heard_us = clock_mono_us();
    if (answer == NULL)
        exchange_abort(s->exchange, -ERR_UNAVAILABLE);
    else
        exchange_answer(s->exchange, answer);
    settle(s);
}

static int host_ask(void *arg, const struct repair *m)
{
    struct session *s = arg;
    struct repair copy = *m;

    return local_ask(s->owner->local, s->partition, &copy, on_worker, s);
}

static int with_snapshot(struct session *s, struct snapshot **out)
{
    return vnodes_snapshot(&s->owner->vnodes, s->partition, clock_mono_us(), out);
}

static int host_leaves(void *arg, uint32_t partition, const uint64_t **leaves, unsigned *leaf_bits)
{
    struct session *s = arg;
    struct snapshot *snapshot;
    int rc = with_snapshot(s, &snapshot);

    if (rc == 0)
        rc = snapshot_leaves(snapshot, leaves, leaf_bits);
    if (rc == -ERR_CORRUPT)
        verify_report(s->owner, partition, snapshot_bad(snapshot), true);
    return rc;
}

static int host_rows(void *arg, uint32_t partition, const struct position *first,
                     const struct position *last, uint32_t max, struct exchange_entry *out)
{
    struct session *s = arg;
    struct snapshot *snapshot;
    int rc = with_snapshot(s, &snapshot);

    if (rc != 0)
        return rc;
    rc = snapshot_rows(snapshot, first, last, max, clock_wall_ms(), out);
    if (rc == -ERR_CORRUPT)
        verify_report(s->owner, partition, snapshot_bad(snapshot), false);
    return rc;
}

static int host_objects(void *arg, uint32_t partition, struct position *cursor,
                        const struct position *last, uint32_t max_bytes, struct buf *out)
{
    struct session *s = arg;
    struct snapshot *snapshot;
    int rc = with_snapshot(s, &snapshot);

    if (rc != 0)
        return rc;
    rc = snapshot_objects(snapshot, cursor, last, max_bytes, out);
    if (rc == -ERR_CORRUPT)
        verify_report(s->owner, partition, snapshot_bad(snapshot), false);
    return rc;
}

/* ---- slots ---- */

/* One exchange of a partition at a time: two at once would send the same things twice. */
static bool is_at_work(const struct antientropyd *a, uint32_t partition)
{
    for (int i = 0; i < SESSIONS; i++)
        if (a->sessions[i].state != SESSION_FREE && a->sessions[i].partition == partition)
            return true;
    return false;
}

static struct session *take_slot(struct antientropyd *a, bool ours)
{
    uint32_t running = 0, most = a->conf.limits.repair_concurrency;
    struct session *s = NULL;

    for (int i = 0; i < SESSIONS; i++) {
        running += a->sessions[i].state != SESSION_FREE && a->sessions[i].ours == ours;
        if (a->sessions[i].state == SESSION_FREE && (s == NULL || s->memory == NULL))
            s = &a->sessions[i];
    }
    /* Others ask as much of us together as we of all of them. */
    if (s == NULL || running >= (ours ? most : 2 * most))
        return NULL;
    if (s->memory == NULL) {
        struct exchange_host host = {.arg = s,
                                     .send = host_send,
                                     .ask = host_ask,
                                     .leaves = host_leaves,
                                     .rows = host_rows,
                                     .objects = host_objects};

        s->memory = aligned_alloc(64, (exchange_size() + 63) & ~(size_t)63);
        if (s->memory == NULL)
            return NULL;
        s->exchange = exchange_init(s->memory, &host);
    }
    s->owner = a;
    s->ours = ours;
    s->peer = NULL;
    s->heard_us = clock_mono_us();
    return s;
}

static void free_slot(struct session *s)
{
    local_forget(s->owner->local, s);
    s->state = SESSION_FREE;
    s->peer = NULL;
    round_soon(s->owner);
}

/* ---- the end ---- */

static void count(struct session *s, const struct exchange_stats *stats, bool agreed)
{
    struct counter_block *c = s->owner->counters;

    counter_add(c, CTR_repair_rounds, 1);
    counter_add(c, agreed ? CTR_repair_agreements : CTR_repair_failures, 1);
    counter_add(c, CTR_repair_keys_sent, stats->pushed);
    counter_add(c, CTR_repair_keys_received, stats->pulled);
    counter_add(c, CTR_repair_keys_mended, stats->news_here + stats->news_there);
    counter_add(c, CTR_repair_differences, stats->listed - stats->in_flight);
    counter_add(c, CTR_repair_in_flight, stats->in_flight);
    counter_add(c, CTR_repair_dead, stats->dead);
}

/* The row of a peer in repair.seg: its place among the primaries; or LIMIT_REPLICAS. */
static uint32_t row_of(const struct session *s)
{
    const struct vnode_info *v = &s->owner->vnodes.info[s->partition];

    for (uint32_t k = 0; k < v->peer_count && k < LIMIT_REPLICAS; k++)
        if (node_id_equal(&v->peer[k].id, &s->peer_id))
            return k;
    return LIMIT_REPLICAS;
}

static void publish_state(struct session *s, enum repair_row_state state)
{
    uint32_t k = row_of(s);

    if (k < LIMIT_REPLICAS)
        repair_seg_state(&s->owner->repair, s->partition, k, &s->peer_id, state);
}

static void publish(struct session *s, const struct exchange_stats *stats, bool agreed)
{
    uint64_t bytes = s->peer == NULL ? 0 : peer_bytes(s->peer) - s->bytes_before;
    uint32_t k = row_of(s);

    if (k < LIMIT_REPLICAS)
        repair_seg_update(&s->owner->repair, s->partition, k, &s->peer_id,
                          agreed ? REPAIR_ROW_IDLE : REPAIR_ROW_FAILED,
                          stats->news_here + stats->news_there + stats->dead, bytes,
                          agreed ? exchange_as_of(s->exchange) : 0);
}

static void tell(struct session *s, const struct exchange_stats *stats, bool agreed)
{
    uint64_t mended = stats->news_here + stats->news_there + stats->dead;
    struct antientropyd *a = s->owner;
    const struct ring_view *v = &a->view;
    uint16_t i = ring_find(v, &s->peer_id);
    const char *name = i == RING_NO_OWNER ? "?" : v->members[i].name;

    a->told.here += stats->news_here;
    a->told.there += stats->news_there;
    a->told.dead += stats->dead;
    if (agreed && mended > 0)
        log_debug("partition %" PRIu32 ": %" PRIu64 " keys taken over, %" PRIu64 " given, %" PRIu64
                  " dropped; the same as %s now",
                  s->partition, stats->news_here, stats->news_there, stats->dead, name);
    else if (!agreed && exchange_error(s->exchange) == -ERR_FORMAT)
        log_error("partition %" PRIu32 ": %s breaks the rules of the exchange", s->partition, name);
    else if (!agreed)
        log_debug("partition %" PRIu32 " with %s: %s", s->partition, name,
                  err_text(exchange_error(s->exchange)));
}

static void on_flush(void *arg, const struct repair *answer)
{
    (void)arg;
    (void)answer; /* the next exchange asks what has come of it */
}

/* Something has come in: into the tree with it, while other partitions are at work. */
static void note_filled(struct antientropyd *a, uint32_t partition)
{
    struct repair m = {.kind = REPAIR_STATE, .u.STATE = {.partition = partition, .flush = 1}};

    a->vnodes.info[partition].filled_ms = clock_wall_ms();
    local_ask(a->local, partition, &m, on_flush, NULL);
}

/* If the exchange is over, draw the conclusions. */
static void settle(struct session *s)
{
    struct exchange_stats stats;
    struct antientropyd *a = s->owner;

    if (s->state != SESSION_RUNNING || exchange_outcome(s->exchange) == EXCHANGE_RUNNING)
        return;
    bool agreed = exchange_outcome(s->exchange) == EXCHANGE_AGREEMENT;
    int error = exchange_error(s->exchange);

    exchange_stats(s->exchange, &stats);
    if (error != -ERR_BUSY) {
        count(s, &stats, agreed);
        publish(s, &stats, agreed);
    } else {
        publish_state(s, REPAIR_ROW_IDLE); /* another time */
    }
    tell(s, &stats, agreed);
    change_received(a, s->partition, stats.news_here,
                    s->peer == NULL ? 0 : peer_bytes(s->peer) - s->bytes_before);
    if (stats.news_here > 0)
        note_filled(a, s->partition);
    if (error == -ERR_FORMAT && s->peer != NULL)
        peer_drop(s->peer);
    uint32_t partition = s->partition;
    struct node_id peer = s->peer_id;
    struct repair_STATE_DONE vnode = s->vnode;
    uint64_t as_of = exchange_as_of(s->exchange);
    bool ours = s->ours;

    free_slot(s);
    if (agreed)
        standing_agreed(a, partition, &peer, &vnode, as_of);
    if (ours)
        round_ended(a, partition, &peer, true, agreed, error);
}

/* It has not come to an exchange. */
static void give_up(struct session *s, int error)
{
    struct antientropyd *a = s->owner;
    uint32_t partition = s->partition;
    struct node_id peer = s->peer_id;
    bool ours = s->ours;

    if (!ours && s->peer != NULL) {
        struct repair no = {.kind = REPAIR_OPENED,
                            .u.OPENED = {.exchange = s->open.exchange, .status = (uint32_t)-error}};

        peer_send(s->peer, &no);
    }
    free_slot(s);
    if (ours)
        round_ended(a, partition, &peer, false, false, error);
}

/* ---- the beginning ---- */

static void fill_side(struct session *s)
{
    struct antientropyd *a = s->owner;
    const struct repair_STATE_DONE *v = &s->vnode;

    s->mine = (struct exchange_side){
        .partition = s->partition,
        .q_bits = a->view.q_bits,
        .epoch = a->view.epoch,
        .vnode = v->vnode,
        .flags = v->standing == STANDING_WHOLE ? EXCHANGE_WHOLE : 0,
        .root = v->root,
        .horizon_ms = v->standing == STANDING_WHOLE ? v->horizon : 0,
        .now_ms = s->asked_ms,
        /* What is buffered is not in the tree yet. */
        .as_of_ms =
            v->dirty_since != 0 && v->dirty_since <= s->asked_ms ? v->dirty_since - 1 : s->asked_ms,
    };
    if (a->view.self == RING_NO_OWNER || !ring_keeps(&a->index, s->partition, a->view.self))
        s->mine.flags |= EXCHANGE_SURPLUS;
}

/* What this node only keeps for others may still be written to, unless it has left the ring. */
static bool is_worth_it(const struct session *s)
{
    const struct antientropyd *a = s->owner;
    const struct vnode_info *v = &a->vnodes.info[s->partition];
    uint64_t quiet_ms = standing_has_left(a) ? 0 : a->conf.limits.surplus_after_ms;

    return !s->ours || !v->surplus ||
           (s->vnode.dirty_since == 0 && clock_wall_ms() >= s->vnode.last_write + quiet_ms);
}

static void on_state(void *arg, const struct repair *answer)
{
    struct session *s = arg;
    struct antientropyd *a = s->owner;
    struct vnode_info *v = &a->vnodes.info[s->partition];

    s->heard_us = clock_mono_us();
    if (answer == NULL || answer->kind != REPAIR_STATE_DONE) {
        give_up(s, -ERR_UNAVAILABLE);
        return;
    }
    s->vnode = answer->u.STATE_DONE;
    if (s->vnode.status != 0) {
        give_up(s, -(int)s->vnode.status);
        return;
    }
    if (v->agreed.vnode != s->vnode.vnode)
        horizon_reset(&v->agreed, s->vnode.vnode);
    v->standing = s->vnode.standing;
    if (v->surplus && v->generation != s->vnode.generation) {
        horizon_reset(&v->agreed, s->vnode.vnode);
        v->generation = s->vnode.generation;
    }
    if (s->vnode.dirty_since == 0 || s->vnode.dirty_since > v->filled_ms)
        v->filled_ms = 0;
    /* Replayed from the journal, of before the node went down: into the tree with it, first of all. */
    if (s->vnode.dirty_since == REPAIR_DIRTY_REPLAYED && v->filled_ms == 0)
        v->filled_ms = s->asked_ms;
    if (v->filled_ms != 0 || !is_worth_it(s)) {
        give_up(s, v->filled_ms != 0 ? -ERR_BUSY : -ERR_AGAIN);
        return;
    }
    if (s->ours && v->surplus && horizon_agreement(&v->agreed, &s->peer_id) > 0) {
        standing_given(a, s->partition, &s->vnode); /* it has all that is here: once is enough */
        give_up(s, -ERR_AGAIN);
        return;
    }
    fill_side(s);
    s->state = SESSION_RUNNING;
    if (s->ours) {
        uint16_t i = ring_find(&a->view, &s->peer_id);

        s->peer = i == RING_NO_OWNER ? NULL : peers_call(a->peers, &a->view.members[i]);
        if (s->peer == NULL) {
            s->state = SESSION_ASKING;
            give_up(s, -ERR_UNAVAILABLE);
            return;
        }
        s->bytes_before = peer_bytes(s->peer);
        publish_state(s, REPAIR_ROW_COMPARING);
        if (++a->next_number == 0)
            a->next_number = 1;
        exchange_begin(s->exchange, a->next_number, &s->mine);
    } else {
        s->bytes_before = peer_bytes(s->peer);
        publish_state(s, REPAIR_ROW_COMPARING);
        exchange_serve(s->exchange, &s->mine, &s->open);
    }
    settle(s);
}

/* Does somebody wait for what lies in write buffers? */
static bool wants_flush(const struct session *s)
{
    const struct antientropyd *a = s->owner;

    return a->vnodes.info[s->partition].filled_ms != 0 || standing_has_left(a) ||
           a->view.phase[s->partition] == RING_FENCED;
}

static int ask_state(struct session *s)
{
    struct repair m = {.kind = REPAIR_STATE,
                       .u.STATE = {.partition = s->partition, .flush = wants_flush(s)}};

    s->asked_ms = clock_wall_ms();
    s->state = SESSION_ASKING;
    int rc = local_ask(s->owner->local, s->partition, &m, on_state, s);

    if (rc != 0)
        s->state = SESSION_FREE;
    return rc;
}

int session_begin(struct antientropyd *a, uint32_t partition, uint16_t member)
{
    struct session *s = is_at_work(a, partition) ? NULL : take_slot(a, true);

    if (s == NULL)
        return is_at_work(a, partition) ? -ERR_AGAIN : -ERR_BUSY;
    s->partition = partition;
    s->member = member;
    s->peer_id = a->view.members[member].id;
    return ask_state(s);
}

/* ---- messages ---- */

static int refuse(struct peer *p, const struct repair_OPEN *m, int error)
{
    struct repair no = {.kind = REPAIR_OPENED,
                        .u.OPENED = {.exchange = m->exchange, .status = (uint32_t)-error}};

    return peer_send(p, &no);
}

static int serve(struct antientropyd *a, struct peer *p, const struct repair_OPEN *m)
{
    if (m->exchange == 0 || m->partition >= a->vnodes.partitions)
        return -ERR_FORMAT;
    if (a->view.epoch == 0)
        return refuse(p, m, -ERR_UNAVAILABLE);
    for (int i = 0; i < SESSIONS; i++)
        if (a->sessions[i].state != SESSION_FREE && a->sessions[i].peer == p &&
            !a->sessions[i].ours && a->sessions[i].open.exchange == m->exchange)
            return -ERR_FORMAT; /* its number is in use */
    struct session *s = is_at_work(a, m->partition) ? NULL : take_slot(a, false);

    if (s == NULL)
        return refuse(p, m, -ERR_BUSY);
    s->partition = m->partition;
    s->peer_id = *peer_id(p);
    s->open = *m;
    s->peer = p;
    int rc = ask_state(s);

    if (rc != 0) {
        s->peer = NULL;
        return refuse(p, m, rc);
    }
    return 0;
}

int session_message(void *arg, struct peer *p, const struct repair *m)
{
    struct antientropyd *a = arg;
    uint32_t number = exchange_of(m);

    if (m->kind == REPAIR_OPEN)
        return peer_is_ours(p) ? -ERR_FORMAT : serve(a, p, &m->u.OPEN);
    for (int i = 0; i < SESSIONS; i++) {
        struct session *s = &a->sessions[i];

        if (s->state != SESSION_RUNNING || s->peer != p || exchange_number(s->exchange) != number)
            continue;
        s->heard_us = clock_mono_us();
        if (exchange_waits_for_worker(s->exchange) && m->kind != REPAIR_CLOSE)
            return -ERR_FORMAT;
        int rc = exchange_receive(s->exchange, m);

        settle(s);
        return rc;
    }
    /* Of an exchange that has just ended here. */
    return number == 0 ? -ERR_FORMAT : 0;
}

void session_peer_lost(void *arg, struct peer *p)
{
    struct antientropyd *a = arg;

    for (int i = 0; i < SESSIONS; i++) {
        struct session *s = &a->sessions[i];

        if (s->state == SESSION_FREE || s->peer != p)
            continue;
        s->peer = NULL;
        if (s->state == SESSION_ASKING) {
            give_up(s, -ERR_CLOSED);
            continue;
        }
        exchange_abort(s->exchange, -ERR_CLOSED);
        settle(s);
    }
}

void session_tick(struct antientropyd *a)
{
    uint64_t now = clock_mono_us();

    for (int i = 0; i < SESSIONS; i++) {
        struct session *s = &a->sessions[i];

        if (s->state == SESSION_FREE || now - s->heard_us < SILENT_US)
            continue;
        log_warn("partition %" PRIu32 ": nothing heard for %u s, exchange given up", s->partition,
                 SILENT_US / 1000000);
        if (s->state == SESSION_ASKING) {
            give_up(s, -ERR_TIMEOUT);
        } else {
            bool theirs = !exchange_waits_for_worker(s->exchange);
            struct peer *p = s->peer;

            exchange_abort(s->exchange, -ERR_TIMEOUT);
            settle(s);
            if (theirs && p != NULL)
                peer_drop(p);
        }
    }
}
