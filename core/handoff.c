/* Hinted handoff: the walk over hints, what is in flight, and when a hint may go. Runs in workers and
 * in the simulator. */
#include "core/handoff.h"

#include "base/check.h"
#include "base/err.h"
#include "core/limits.h"
#include "core/planted.h"

#include <string.h>

enum {
    BATCH = 32,       /* positions taken from the store at once */
    SENDS = 64,       /* objects sent in one call, so that clients are served between two */
    STEPS = 512,      /* pairs of target and partition looked at in one call */
    BURST_US = 20000, /* unused rate is kept for so long */
    GATHER_US = 2000  /* a portion of the rate: every packet costs the target a sync */
};
#define RETRY_US 200000 /* a target that failed is left alone for so long */
#define BUSY_US  10000  /* until a link that is backed up is tried again */
#define PAUSE_US 1000   /* between two calls that walk on */

#define NO_SLOT UINT32_MAX

struct slot { /* one object in flight */
    uint64_t deadline_us;
    uint64_t digest;
    struct position pos;
    uint32_t partition;
    uint16_t member;     /* that it is owed to */
    uint16_t to, worker; /* that it was sent to */
    uint32_t generation; /* odd: in use */
    uint32_t next_free;
};

struct handoff {
    struct handoff_conf conf;
    struct handoff_host host;
    const struct ring_view *view;
    const struct ring_index *index;
    struct handoff_stats stats;
    uint64_t credit_us; /* rate not yet used */
    uint64_t last_us;
    uint64_t asleep_until_us;
    uint64_t expire_us; /* no slot expires earlier */
    /* Where the round is. */
    uint16_t member;
    uint32_t partition;
    bool found;  /* anything was sent in this round */
    bool more;   /* the scan of this pair has not come to its end */
    bool at_end; /* the round is over but for what is in flight */
    struct position cursor;
    struct position batch[BATCH];
    uint32_t batch_at, batch_count;
    uint64_t retry_us[LIMIT_MEMBERS];
    uint32_t free;
    struct slot slots[];
};

size_t handoff_size(const struct handoff_conf *conf)
{
    return sizeof(struct handoff) + conf->in_flight * sizeof(struct slot);
}

struct handoff *handoff_init(void *memory, const struct handoff_conf *conf,
                             const struct handoff_host *host)
{
    struct handoff *h = memory;

    ASSERT(((uintptr_t)memory & 15) == 0);
    ASSERT(conf->in_flight >= 1 && conf->in_flight <= HANDOFF_IN_FLIGHT && conf->per_second >= 1);
    ASSERT(conf->worker < conf->workers && conf->workers <= LIMIT_WORKERS);
    memset(h, 0, handoff_size(conf));
    h->conf = *conf;
    h->host = *host;
    h->expire_us = UINT64_MAX;
    for (uint32_t i = 0; i < conf->in_flight; i++) {
        h->slots[i].generation = conf->seed & 0x7ffffffe;
        h->slots[i].next_free = i + 1 < conf->in_flight ? i + 1 : NO_SLOT;
    }
    return h;
}

void handoff_set_rate(struct handoff *h, uint32_t per_second)
{
    ASSERT(per_second >= 1);
    h->conf.per_second = per_second;
}

/* Forget the batch: the pair is left, or the round begins again. */
static void leave_pair(struct handoff *h)
{
    h->batch_at = h->batch_count = 0;
    h->more = false;
    memset(&h->cursor, 0, sizeof h->cursor);
}

static void begin_round(struct handoff *h)
{
    leave_pair(h);
    h->found = false;
    h->at_end = false;
    h->member = 0;
    h->partition = UINT32_MAX; /* next_pair() steps to 0 */
}

void handoff_set_view(struct handoff *h, const struct ring_view *view,
                      const struct ring_index *index)
{
    h->view = view;
    h->index = index;
    begin_round(h);
    h->found = true; /* whatever has changed: look again without a pause */
    h->asleep_until_us = 0;
}

void handoff_wake(struct handoff *h)
{
    if (h->stats.in_flight == 0)
        h->asleep_until_us = 0;
}

static void release(struct handoff *h, struct slot *slot)
{
    slot->generation++;
    slot->next_free = h->free;
    h->free = (uint32_t)(slot - h->slots);
    h->stats.in_flight--;
}

/* The object was not delivered: its hint stays, its target gets a rest. */
static void fail(struct handoff *h, struct slot *slot, uint64_t now_us)
{
    h->retry_us[slot->member] = now_us + RETRY_US;
    h->stats.failed++;
    release(h, slot);
}

static void expire(struct handoff *h, uint64_t now_us)
{
    if (now_us < h->expire_us)
        return;
    h->expire_us = UINT64_MAX;
    for (uint32_t i = 0; i < h->conf.in_flight; i++) {
        struct slot *slot = &h->slots[i];

        if ((slot->generation & 1) == 0)
            continue;
        if (slot->deadline_us <= now_us)
            fail(h, slot, now_us);
        else if (slot->deadline_us < h->expire_us)
            h->expire_us = slot->deadline_us;
    }
}

void handoff_link_down(struct handoff *h, uint16_t member, uint16_t worker, uint64_t now_us)
{
    for (uint32_t i = 0; i < h->conf.in_flight; i++) {
        struct slot *slot = &h->slots[i];

        if ((slot->generation & 1) != 0 && slot->to == member && slot->worker == worker)
            fail(h, slot, now_us);
    }
}

/* The target has the object on disk. The hint goes unless the object has changed: what changed it may be
 * owed to the target as well. */
static void delivered(struct handoff *h, const struct slot *slot)
{
    const struct node_id *target = &h->view->members[slot->member].id;
    struct slice object;
    uint64_t digest;
    int rc = h->host.load(h->host.arg, slot->partition, &slot->pos, &object, &digest);

    if (rc == -ERR_NOTFOUND || (rc == 0 && digest == slot->digest) || COORD_BUG(HINT_OF_CHANGED)) {
        h->host.remove(h->host.arg, slot->partition, target, &slot->pos);
        h->stats.delivered++;
    } else {
        h->stats.changed++;
    }
}

void handoff_receive(struct handoff *h, const struct msg_MERGED *m, uint64_t now_us)
{
    uint32_t index = (uint32_t)(m->request & 0xffff);
    uint32_t generation = (uint32_t)((m->request & ~HANDOFF_REQUEST_BIT) >> 16);

    if (!handoff_owns(m->request) || index >= h->conf.in_flight || h->view == NULL)
        return;
    struct slot *slot = &h->slots[index];

    if ((generation & 1) == 0 || slot->generation != generation)
        return;
    if (m->status != 0) {
        fail(h, slot, now_us);
        return;
    }
    delivered(h, slot);
    release(h, slot);
}

static bool is_away(const struct handoff *h, uint32_t partition)
{
    return !COORD_BUG(AWAY_DELIVERS) && h->host.away(h->host.arg, partition);
}

/* Is the object at hand still owed to the target? */
static bool is_owed(const struct handoff *h)
{
    return h->view->members[h->member].state != MEMBER_LEFT &&
           ring_keeps(h->index, h->partition, h->member);
}

/* A node that has left the ring does not stay for the sake of one that is faulty. */
static bool entrusts(const struct handoff *h)
{
    return h->view->members[h->view->self].state == MEMBER_LEFT &&
           h->view->members[h->member].state == MEMBER_FAULTY;
}

static bool can_take(const struct handoff *h, uint16_t member)
{
    const struct member *m = &h->view->members[member];

    return member != h->view->self && m->state < MEMBER_FAULTY &&
           h->host.reachable(h->host.arg, member, ring_worker_of(h->partition, m->workers));
}

/* To whom what is owed to h->member is sent: to itself, or to another owner, who keeps it with a hint in
 * its turn. RING_NO_OWNER: to nobody now. */
static uint16_t receiver(const struct handoff *h)
{
    const struct ring_walk *walk = &h->index->walk[h->partition];

    if (!entrusts(h))
        return h->host.reachable(h->host.arg, h->member,
                                 ring_worker_of(h->partition, h->view->members[h->member].workers))
                   ? h->member
                   : RING_NO_OWNER;
    for (uint8_t i = 0; i < walk->primaries; i++)
        if (can_take(h, walk->member[i]))
            return walk->member[i];
    return RING_NO_OWNER;
}

/* Send one object. Returns 0, or -ERR_BUSY: try the same one again later; or another error: this
 * target is not to be had now. */
static int deliver(struct handoff *h, const struct position *pos, uint64_t now_us)
{
    const struct member *target = &h->view->members[h->member];
    struct slot *slot = &h->slots[h->free];
    struct slice object;
    uint64_t digest;

    if (is_away(h, h->partition))
        return 0; /* it stays, until the vnode is whole again */
    int rc = h->host.load(h->host.arg, h->partition, pos, &object, &digest);

    /* A damaged object is not here any more either; what it was is left to anti-entropy. */
    if (rc == -ERR_NOTFOUND || rc == -ERR_CORRUPT || !is_owed(h)) {
        h->host.remove(h->host.arg, h->partition, &target->id, pos);
        h->stats.orphaned++;
        return 0;
    }
    if (rc != 0)
        return 0; /* it stays; the next round tries again */
    uint16_t to = receiver(h);

    if (to == RING_NO_OWNER)
        return -ERR_UNAVAILABLE;
    uint16_t worker = ring_worker_of(h->partition, h->view->members[to].workers);
    uint32_t generation = (slot->generation + 1) & 0x7fffffff;
    struct msg m = {
        .kind = MSG_MERGE,
        .u.MERGE = {.request = HANDOFF_REQUEST_BIT | (uint64_t)generation << 16 | h->free,
                    .epoch = h->view->epoch,
                    .flags = MERGE_HANDOFF,
                    .object = object}};

    if (to != h->member && !COORD_BUG(ENTRUSTED_WITHOUT_HINT))
        m.u.MERGE.hint = slice_of(target->id.b, NODE_ID_BYTES);
    rc = h->host.send(h->host.arg, to, worker, &m);
    if (rc != 0)
        return rc;
    h->free = slot->next_free;
    *slot = (struct slot){.deadline_us = now_us + h->conf.timeout_ms * 1000ull,
                          .digest = digest,
                          .pos = *pos,
                          .partition = h->partition,
                          .member = h->member,
                          .to = to,
                          .worker = worker,
                          .generation = generation};
    if (slot->deadline_us < h->expire_us)
        h->expire_us = slot->deadline_us;
    h->found = true;
    h->stats.sent++;
    h->stats.in_flight++;
    if (COORD_BUG(HINT_BEFORE_ACK))
        h->host.remove(h->host.arg, h->partition, &target->id, pos);
    return 0;
}

/* On to the next pair that may have something; false: the round is over, or steps are used up. */
static bool next_pair(struct handoff *h, uint32_t *steps, uint64_t now_us)
{
    uint32_t partitions = 1u << h->view->q_bits;

    leave_pair(h);
    while (*steps > 0) {
        if (++h->partition >= partitions) {
            h->partition = 0;
            if (++h->member >= h->view->member_count) {
                h->at_end = true;
                return false;
            }
        }
        const struct member *target = &h->view->members[h->member];

        (*steps)--;
        if (h->member == h->view->self || h->retry_us[h->member] > now_us) {
            h->partition = partitions - 1; /* skip this target */
            continue;
        }
        if (ring_worker_of(h->partition, h->conf.workers) != h->conf.worker ||
            !h->host.owes(h->host.arg, h->partition, &target->id) || is_away(h, h->partition))
            continue;
        if (target->state != MEMBER_LEFT && ring_keeps(h->index, h->partition, h->member) &&
            receiver(h) == RING_NO_OWNER) {
            h->retry_us[h->member] = now_us + RETRY_US;
            h->partition = partitions - 1;
            continue;
        }
        h->more = true;
        return true;
    }
    return false;
}

/* Fill the batch from the pair at hand, or from the next. */
static bool next_batch(struct handoff *h, uint32_t *steps, uint64_t now_us)
{
    while (h->more || next_pair(h, steps, now_us)) {
        const struct node_id *target = &h->view->members[h->member].id;
        int got = h->host.scan(h->host.arg, h->partition, target, &h->cursor, BATCH, h->batch);

        h->more = got == BATCH;
        h->batch_at = 0;
        h->batch_count = got > 0 ? (uint32_t)got : 0;
        if (got > 0)
            return true;
    }
    return false;
}

/* A round is over when nothing of it is in flight: so no object is ever in flight twice. */
static void end_round(struct handoff *h, uint64_t now_us)
{
    if (h->stats.in_flight > 0)
        return;
    if (!h->found)
        h->asleep_until_us = now_us + h->conf.idle_ms * 1000ull;
    begin_round(h);
}

static void add_credit(struct handoff *h, uint64_t now_us)
{
    if (now_us > h->last_us)
        h->credit_us += now_us - h->last_us;
    h->last_us = now_us;
    if (h->credit_us > BURST_US)
        h->credit_us = BURST_US;
}

static uint64_t cost_us(const struct handoff *h)
{
    uint64_t cost = 1000000 / h->conf.per_second;

    return cost > BURST_US ? BURST_US : cost == 0 ? 1 : cost;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t handoff_tick(struct handoff *h, uint64_t now_us)
{
    uint32_t steps = STEPS;

    expire(h, now_us);
    add_credit(h, now_us);
    if (h->view == NULL || h->view->epoch == 0 || h->view->self == RING_NO_OWNER)
        return now_us + h->conf.idle_ms * 1000ull;
    if (h->at_end)
        end_round(h, now_us);
    if (h->at_end) /* answers will call again; so does the clock */
        return h->expire_us;
    if (h->asleep_until_us > now_us)
        return h->asleep_until_us;
    for (int sends = 0; h->free != NO_SLOT; sends++) {
        if (sends == SENDS)
            return now_us + PAUSE_US;
        if (h->batch_at == h->batch_count && !next_batch(h, &steps, now_us))
            return now_us + PAUSE_US;
        if (h->credit_us < cost_us(h))
            return now_us + later(cost_us(h) - h->credit_us, GATHER_US);
        int rc = deliver(h, &h->batch[h->batch_at], now_us);

        if (rc == -ERR_BUSY)
            return now_us + BUSY_US;
        if (rc != 0) {
            h->retry_us[h->member] = now_us + RETRY_US;
            leave_pair(h);
            h->partition = (1u << h->view->q_bits) - 1;
            continue;
        }
        h->credit_us -= cost_us(h);
        h->batch_at++;
    }
    return earlier(h->expire_us, now_us + BUSY_US);
}

void handoff_stats(const struct handoff *h, struct handoff_stats *out)
{
    *out = h->stats;
}
