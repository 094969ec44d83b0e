/* Hinted handoff in a worker: what core/handoff.c asks for, done with the store and the links; the
 * count of hints, their caps and their age. Runs in a worker; adds no rule of delivery of its own. */
#include "workers/handoff_host.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "core/handoff.h"
#include "core/object.h"
#include "shm/pace.h"
#include "workers/coord_host.h"
#include "workers/hint_table.h"
#include "workers/worker.h"

#include <stdlib.h>
#include <string.h>

enum {
    IN_FLIGHT = 512,
    TIMEOUT_MS = 2000,
    IDLE_MS = 500,
    BATCH = 256,         /* hints taken from the store at once */
    CENSUS_STEPS = 1024, /* pairs looked at, or batches counted, in one turn */
    CENSUS_PAUSE_US = 1000,
    SWEEP_PAIRS = 4096, /* looked at in one call */
    SWEEP_BATCHES = 8,  /* read in one call */
    PACE_US = 500000, /* between looks at how long clients wait: one worker has too few in 100 ms */
    LEAST_SHARE = 2   /* of the rate that is left in any case while clients have to wait */
};

/* A place in the walk over all pairs of target and partition. */
struct place {
    uint16_t member;
    uint32_t partition;
    struct position cursor;
};

struct handoff_state {
    struct hint_table table;
    struct handoff *handoff;
    struct coord_host links; /* send and reachable */
    struct object object;    /* scratch */
    uint64_t due_us;
    struct pace pace;
    uint64_t paced_us;  /* when last looked at */
    struct hist before; /* requests, when last looked at */
    uint64_t sent;      /* objects, likewise */
    /* Hints before this place are in the table, those behind it are not yet. */
    struct place census;
    struct place sweep;
    uint64_t sweep_oldest_ms;  /* of the pair that the sweep is in */
    uint64_t round_oldest_ms;  /* of all pairs met in this round of the sweep; 0: none */
    uint64_t oldest_ms;        /* of the last round */
    uint64_t overflowed_in_ms; /* when an overflow was last logged */
    /* A batch of hints. */
    uint32_t count;
    struct position pos[BATCH];
    uint64_t time_ms[BATCH];
};

static void take_hint(void *arg, const struct position *pos, uint64_t time_ms)
{
    struct handoff_state *st = arg;

    ASSERT(st->count < BATCH);
    st->pos[st->count] = *pos;
    st->time_ms[st->count++] = time_ms;
}

/* The next hints of a pair into st->pos. 1: these are the last, 0, or an error. */
static int read_batch(struct worker *w, struct place *p, uint32_t max)
{
    struct handoff_state *st = w->handoff;
    int rc;

    st->count = 0;
    if (store_vnode_id(w->store, p->partition) == 0)
        return 1;
    rc = store_hint_scan(w->store, p->partition, w->view.members[p->member].id.b, &p->cursor, max,
                         take_hint, st);
    return rc;
}

static void next_pair(const struct worker *w, struct place *p)
{
    memset(&p->cursor, 0, sizeof p->cursor);
    if (++p->partition >= w->handoff->table.partitions) {
        p->partition = 0;
        p->member++;
    }
}

/* ---- counting after a start ---- */

static bool is_counted(const struct handoff_state *st, uint16_t member, uint32_t partition,
                       const struct position *pos)
{
    const struct place *c = &st->census;

    if (member != c->member)
        return member < c->member;
    if (partition != c->partition)
        return partition < c->partition;
    return position_compare(pos, &c->cursor) < 0;
}

static bool census_done(const struct worker *w)
{
    return w->handoff->census.member >= w->view.member_count;
}

static uint64_t size_at(struct worker *w, uint32_t partition, const struct position *pos)
{
    struct slice object;

    return store_get_at(w->store, partition, pos, &object) == 0 ? object.len : 0;
}

static void count_batch(struct worker *w)
{
    struct handoff_state *st = w->handoff;
    struct place *c = &st->census;
    uint64_t oldest = UINT64_MAX;

    if (st->count == 0)
        return;
    for (uint32_t i = 0; i < st->count; i++)
        oldest = st->time_ms[i] < oldest ? st->time_ms[i] : oldest;
    /* One object stands for all: this is for a cap, not for an account. */
    uint64_t bytes = size_at(w, c->partition, &st->pos[0]) * st->count;

    if (hint_table_add(&st->table, c->member, c->partition, st->count, bytes, oldest) != 0)
        log_error("no memory to count hints for %s", w->view.members[c->member].name);
}

/* Count a bounded piece. */
static void census_turn(struct worker *w)
{
    struct handoff_state *st = w->handoff;

    for (uint32_t steps = 0; steps < CENSUS_STEPS && !census_done(w); steps++) {
        bool mine = ring_worker_of(st->census.partition, w->workers) == w->index;
        int rc = mine && st->census.member != w->view.self ? read_batch(w, &st->census, BATCH) : 1;

        if (rc < 0) {
            log_error("hints of partition %u cannot be read: %s", st->census.partition,
                      err_text(rc));
            st->count = 0;
        }
        if (mine && st->census.member != w->view.self) {
            count_batch(w);
            steps += st->count / 8;
        }
        if (rc != 0)
            next_pair(w, &st->census);
    }
    if (census_done(w) && st->table.count > 0)
        log_info("%llu hints to deliver", (unsigned long long)st->table.count);
}

/* ---- what handoff asks for ---- */

static int host_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct worker *w = arg;

    return w->handoff->links.send(w, member, worker, m);
}

static bool host_reachable(void *arg, uint16_t member, uint16_t worker)
{
    struct worker *w = arg;

    return w->handoff->links.reachable(w, member, worker);
}

static bool host_away(void *arg, uint32_t partition)
{
    struct worker *w = arg;
    uint64_t horizon_ms;

    return store_standing(w->store, partition, &horizon_ms) == STANDING_AWAY;
}

static bool is_too_old(const struct worker *w, uint64_t time_ms)
{
    return time_ms + w->conf.limits.hint_age_ms < w->engine.wall_ms;
}

static bool host_owes(void *arg, uint32_t partition, const struct node_id *target)
{
    struct worker *w = arg;
    uint16_t member = ring_find(&w->view, target);
    const struct hint_pair *pair =
        member != RING_NO_OWNER ? hint_table_pair(&w->handoff->table, member, partition) : NULL;

    /* Where some are too old, the sweep goes first. */
    return pair != NULL && !is_too_old(w, pair->oldest_ms);
}

/* Remove one hint that exists. false: the store is too busy to take that in. */
static bool drop(struct worker *w, uint16_t member, uint32_t partition, const struct position *pos)
{
    struct handoff_state *st = w->handoff;

    if (store_hint_remove(w->store, partition, w->view.members[member].id.b, pos) != 0)
        return false;
    if (hint_table_pair(&st->table, member, partition) != NULL)
        hint_table_remove(&st->table, member, partition);
    return true;
}

static int host_scan(void *arg, uint32_t partition, const struct node_id *target,
                     struct position *cursor, uint32_t max, struct position *out)
{
    struct worker *w = arg;
    struct handoff_state *st = w->handoff;
    struct place place = {ring_find(&w->view, target), partition, *cursor};
    int rc = read_batch(w, &place, max < BATCH ? max : BATCH);

    if (rc < 0)
        return rc;
    memcpy(out, st->pos, st->count * sizeof *out);
    *cursor = place.cursor;
    return (int)st->count;
}

static int host_load(void *arg, uint32_t partition, const struct position *pos,
                     struct slice *object, uint64_t *digest)
{
    struct worker *w = arg;
    struct handoff_state *st = w->handoff;
    int rc = store_get_at(w->store, partition, pos, object);

    if (rc == 0)
        rc = object_open(&st->object, *object);
    if (rc == 0)
        *digest = object_digest(&st->object);
    return rc;
}

static void host_remove(void *arg, uint32_t partition, const struct node_id *target,
                        const struct position *pos)
{
    struct worker *w = arg;
    uint16_t member = ring_find(&w->view, target);
    uint64_t time_ms;

    /* It may have grown too old while its object was on its way. */
    if (member != RING_NO_OWNER &&
        store_hint_get(w->store, partition, target->b, pos, &time_ms) == 0)
        drop(w, member, partition, pos);
}

/* ---- new hints ---- */

static void tell_overflow(struct worker *w, uint16_t member)
{
    struct handoff_state *st = w->handoff;

    worker_seg_count(&w->seg, CTR_hints_overflowed, 1);
    if (w->engine.wall_ms < st->overflowed_in_ms + 60000)
        return;
    st->overflowed_in_ms = w->engine.wall_ms;
    log_warn("hints for %s have reached limits.hint_bytes: what it misses from now on is left to "
             "anti-entropy",
             w->view.members[member].name);
}

int handoff_host_add(struct worker *w, uint32_t partition, const struct node_id *target,
                     const struct position *pos, uint64_t *lsn)
{
    struct handoff_state *st = w->handoff;
    uint16_t member = ring_find(&w->view, target);
    uint64_t now_ms = w->engine.wall_ms, since_ms;
    bool there = store_hint_get(w->store, partition, target->b, pos, &since_ms) == 0;

    /* The hint stands for whatever the object has become; only its age may want renewing. */
    if (there && since_ms + w->conf.limits.hint_age_ms / 8 > now_ms) {
        *lsn = 0;
        return 0;
    }
    uint64_t bytes = there ? 0 : size_at(w, partition, pos);

    if (!there && member != RING_NO_OWNER &&
        st->table.targets[member].bytes + bytes > w->conf.limits.hint_bytes_bytes / w->workers) {
        tell_overflow(w, member);
        return -ERR_LIMIT;
    }
    int rc = store_hint_add(w->store, partition, target->b, pos, now_ms, lsn);

    if (rc != 0 || there || member == RING_NO_OWNER || !is_counted(st, member, partition, pos))
        return rc;
    /* A hint that cannot be counted is there all the same and is found by the next start. */
    if (hint_table_add(&st->table, member, partition, 1, bytes, now_ms) != 0)
        log_error("no memory to count hints for %s", w->view.members[member].name);
    else if (host_reachable(w, member,
                            ring_worker_of(partition, w->view.members[member].workers))) {
        handoff_wake(st->handoff);
        st->due_us = 0;
    }
    return 0;
}

/* ---- age ---- */

/* One batch of the pair that the sweep is in. true: the pair is done. */
static bool sweep_batch(struct worker *w)
{
    struct handoff_state *st = w->handoff;
    struct place *s = &st->sweep;
    struct hint_pair *pair = hint_table_pair(&st->table, s->member, s->partition);

    if (pair == NULL)
        return true;
    if (!is_too_old(w, pair->oldest_ms))
        return true;
    int rc = read_batch(w, s, BATCH);

    for (uint32_t i = 0; rc >= 0 && i < st->count; i++) {
        if (!is_too_old(w, st->time_ms[i])) {
            if (st->time_ms[i] < st->sweep_oldest_ms)
                st->sweep_oldest_ms = st->time_ms[i];
        } else if (drop(w, s->member, s->partition, &st->pos[i])) {
            worker_seg_count(&w->seg, CTR_hints_expired, 1);
        } else {
            st->sweep_oldest_ms = 0; /* come again */
        }
    }
    if (rc == 1 && st->sweep_oldest_ms != UINT64_MAX)
        pair->oldest_ms = st->sweep_oldest_ms;
    return rc != 0;
}

static void leave_swept(struct worker *w)
{
    struct handoff_state *st = w->handoff;
    const struct hint_pair *pair =
        hint_table_pair(&st->table, st->sweep.member, st->sweep.partition);

    if (pair != NULL && (st->round_oldest_ms == 0 || pair->oldest_ms < st->round_oldest_ms))
        st->round_oldest_ms = pair->oldest_ms;
    next_pair(w, &st->sweep);
    st->sweep_oldest_ms = UINT64_MAX;
}

static uint32_t share_of_rate(const struct worker *w)
{
    uint32_t share = w->conf.limits.hint_rate / w->workers;

    return share > 0 ? share : 1;
}

/* Deliveries yield to clients. */
static void keep_pace(struct worker *w)
{
    static struct hist recent;
    struct handoff_state *st = w->handoff;
    struct handoff_stats s;
    uint32_t most = share_of_rate(w), least = most / LEAST_SHARE > 0 ? most / LEAST_SHARE : 1;

    if (w->engine.now_us < st->paced_us + PACE_US)
        return;
    st->paced_us = w->engine.now_us;
    handoff_stats(st->handoff, &s);
    memset(&recent, 0, sizeof recent);
    pace_recent(&st->before, w->seg.body, &recent);
    if (pace_step(&st->pace, &recent, s.sent != st->sent, least, most))
        worker_seg_count(&w->seg, CTR_hint_yields, 1);
    st->sent = s.sent;
    handoff_set_rate(st->handoff, (uint32_t)st->pace.budget);
}

void handoff_host_sweep(struct worker *w)
{
    struct handoff_state *st = w->handoff;
    uint32_t batches = 0;

    keep_pace(w);

    if (w->view.epoch == 0 || !census_done(w))
        return;
    for (uint32_t i = 0; i < SWEEP_PAIRS && batches < SWEEP_BATCHES; i++) {
        if (st->sweep.member >= w->view.member_count) {
            st->oldest_ms = st->round_oldest_ms;
            st->round_oldest_ms = 0;
            memset(&st->sweep, 0, sizeof st->sweep);
            st->sweep_oldest_ms = UINT64_MAX;
            return;
        }
        if (st->table.targets[st->sweep.member].count == 0) {
            st->sweep.member++;
            st->sweep.partition = 0;
            continue;
        }
        st->count = 0;
        bool done = sweep_batch(w);

        batches += st->count > 0;
        if (done)
            leave_swept(w);
    }
}

/* ---- the worker's turns ---- */

int handoff_host_open(struct worker *w)
{
    struct handoff_state *st = calloc(1, sizeof *st);
    struct handoff_conf conf = {.worker = w->index,
                                .workers = w->workers,
                                .in_flight = IN_FLIGHT,
                                .per_second = share_of_rate(w),
                                .timeout_ms = TIMEOUT_MS,
                                .idle_ms = IDLE_MS,
                                .seed = (uint32_t)rand_id()};
    struct handoff_host host = {.arg = w,
                                .send = host_send,
                                .reachable = host_reachable,
                                .away = host_away,
                                .owes = host_owes,
                                .scan = host_scan,
                                .load = host_load,
                                .remove = host_remove};
    void *memory = aligned_alloc(64, (handoff_size(&conf) + 63) & ~(size_t)63);

    if (st == NULL || memory == NULL) {
        free(st);
        free(memory);
        return -ERR_NOMEM;
    }
    hint_table_init(&st->table, w->conf.cluster.partitions);
    coord_host_fill(w, &st->links);
    st->handoff = handoff_init(memory, &conf, &host);
    st->sweep_oldest_ms = UINT64_MAX;
    w->handoff = st;
    return 0;
}

void handoff_host_view(struct worker *w)
{
    handoff_set_view(w->handoff->handoff, &w->view, &w->ring_index);
    w->handoff->due_us = 0;
}

void handoff_host_reload(struct worker *w)
{
    handoff_set_rate(w->handoff->handoff, share_of_rate(w));
}

void handoff_host_receive(struct worker *w, const struct msg_MERGED *m)
{
    handoff_receive(w->handoff->handoff, m, w->engine.now_us);
    w->handoff->due_us = 0; /* there is room for more in flight */
}

void handoff_host_link_down(struct worker *w, uint16_t member, uint16_t worker)
{
    handoff_link_down(w->handoff->handoff, member, worker, w->engine.now_us);
    w->handoff->due_us = 0;
}

static void on_due(void *arg)
{
    (void)arg; /* the turn that follows does it */
}

void handoff_host_turn(struct worker *w)
{
    struct handoff_state *st = w->handoff;
    uint64_t now = w->engine.now_us;

    if (w->view.epoch == 0 || now < st->due_us)
        return;
    if (census_done(w)) {
        st->due_us = handoff_tick(st->handoff, now);
    } else {
        census_turn(w);
        st->due_us = now + CENSUS_PAUSE_US;
    }
    loop_arm(w->loop, &w->handoff_timer, st->due_us, on_due, w);
}

/* ---- what others want to know ---- */

bool handoff_host_holds(struct worker *w, uint32_t partition, const struct node_id *target,
                        const struct position *pos)
{
    uint64_t time_ms;

    return store_hint_get(w->store, partition, target->b, pos, &time_ms) == 0;
}

uint64_t handoff_host_held(const struct worker *w, uint32_t partition)
{
    return w->handoff->table.held[partition];
}

void handoff_host_publish(struct worker *w)
{
    struct counter_block *c = &w->seg.body->counters;
    const struct handoff_state *st = w->handoff;
    uint64_t now_ms = w->engine.wall_ms, oldest_ms = st->table.count > 0 ? st->oldest_ms : 0;
    struct handoff_stats s;

    handoff_stats(st->handoff, &s);
    counter_set(c, CTR_hints_pending, st->table.count);
    counter_set(c, CTR_hints_bytes, st->table.bytes);
    counter_set(c, CTR_hints_oldest,
                oldest_ms != 0 && oldest_ms < now_ms ? (now_ms - oldest_ms) / 1000 : 0);
    counter_set(c, CTR_hints_delivered, s.delivered);
    counter_set(c, CTR_hints_failed, s.failed);
    counter_set(c, CTR_hints_orphaned, s.orphaned);
}
