/* Membership: changes of the ring. See member_change.h. */
#include "core/member_change.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/varint.h"
#include "core/member_impl.h"

#include <string.h>

#define TOLD_AT_ONCE 3
#define TOLD_BY_HAND 16 /* of what an administrator did, who may go to another node next */

void member_change_init(struct membership *m, struct member_change *c)
{
    memset(c, 0, sizeof *c);
    m->change = c;
}

/* ---- lists of changes as bytes ---- */

size_t member_write_changes(const struct ring_change *list, uint32_t count, uint8_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = out + (size_t)i * MEMBER_CHANGE_BYTES;

        at[0] = list[i].kind;
        at[1] = (uint8_t)list[i].weight;
        at[2] = (uint8_t)(list[i].weight >> 8);
        memcpy(at + 3, list[i].node.b, NODE_ID_BYTES);
        memcpy(at + 3 + NODE_ID_BYTES, list[i].with.b, NODE_ID_BYTES);
    }
    return (size_t)count * MEMBER_CHANGE_BYTES;
}

int member_read_changes(struct slice bytes, struct ring_change *list)
{
    size_t count = bytes.len / MEMBER_CHANGE_BYTES;

    if (bytes.len % MEMBER_CHANGE_BYTES != 0 || count > LIMIT_STAGED)
        return -ERR_FORMAT;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = bytes.data + i * MEMBER_CHANGE_BYTES;

        memset(&list[i], 0, sizeof list[i]);
        list[i].kind = at[0];
        list[i].weight = (uint16_t)(at[1] | at[2] << 8);
        memcpy(list[i].node.b, at + 3, NODE_ID_BYTES);
        memcpy(list[i].with.b, at + 3 + NODE_ID_BYTES, NODE_ID_BYTES);
        if (list[i].kind < RING_JOIN || list[i].kind > RING_WEIGHT)
            return -ERR_FORMAT;
    }
    return (int)count;
}

/* ---- staged changes ---- */

static int compare_staged(const struct membership *m, uint64_t version, const uint8_t *by)
{
    const struct member_staged *s = &m->change->staged;

    if (version != s->version)
        return version < s->version ? -1 : 1;
    return memcmp(by, s->by.b, NODE_ID_BYTES);
}

int member_take_staged(struct membership *m, const struct gossip_STAGED *g)
{
    struct ring_change list[LIMIT_STAGED];
    int count = member_read_changes(g->changes, list);

    if (count < 0 || g->by.len != NODE_ID_BYTES || g->version == 0 || g->version > UINT64_MAX / 2)
        return -ERR_FORMAT;
    if (m->change == NULL || compare_staged(m, g->version, g->by.data) <= 0)
        return 0;
    struct member_staged *s = &m->change->staged;
    s->version = g->version;
    memcpy(s->by.b, g->by.data, NODE_ID_BYTES);
    s->count = (uint32_t)count;
    memcpy(s->list, list, (size_t)count * sizeof list[0]);
    m->host.changed(m->host.arg, true);
    return 0;
}

/* Others hear of everything by digests; of news a few at once, so that it does not wait for a round. */
static void tell_some(struct membership *m, unsigned most)
{
    uint16_t others = (uint16_t)(m->count - 1);
    uint32_t first = others == 0 ? 0 : rand_below(&m->rand, others);
    unsigned told = 0;

    for (uint16_t i = 0; i < others && told < most; i++) {
        const struct member *to = &m->row[1 + (first + i) % others].m;

        if (to->state >= MEMBER_FAULTY)
            continue;
        m->host.sync(m->host.arg, to->address, to->gossip_port);
        told++;
    }
}

static void staged_anew(struct membership *m)
{
    m->change->staged.version++;
    m->change->staged.by = m->row[0].m.id;
    m->host.changed(m->host.arg, true);
    tell_some(m, TOLD_BY_HAND);
}

int member_stage(struct membership *m, const struct ring_change *c, uint32_t *at)
{
    struct member_staged *s = &m->change->staged, more = *s;
    static struct member_plan plan;
    uint32_t i = 0;

    while (i < more.count && !node_id_equal(&more.list[i].node, &c->node))
        i++;
    *at = i;
    if (i == LIMIT_STAGED)
        return -ERR_LIMIT;
    if (i < more.count && c->kind == RING_WEIGHT && more.list[i].kind == RING_JOIN)
        more.list[i].weight = c->weight; /* it joins with this weight */
    else
        more.list[i] = *c;
    more.count += i == more.count;
    int rc = member_plan_changes(m, more.list, more.count, &plan);
    *at = plan.at;
    if (rc != 0)
        return rc;
    *s = more;
    staged_anew(m);
    return 0;
}

void member_unstage(struct membership *m)
{
    m->change->staged.count = 0;
    staged_anew(m);
}

/* ---- plans ---- */

static uint32_t known_members(struct membership *m)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < m->count && count < LIMIT_MEMBERS; i++)
        m->change->known[count++] = m->row[i].m;
    return count;
}

/* What a plan is about: the ring that it starts from, the changes, and what comes out. Not who asks. */
static uint64_t plan_id(const struct ring_view *now, const struct ring_change *list, uint32_t count,
                        const struct ring_view *then)
{
    uint8_t changes[LIMIT_STAGED * MEMBER_CHANGE_BYTES];
    size_t len = member_write_changes(list, count, changes);
    uint64_t h = hash64_seed(now->proposer.b, NODE_ID_BYTES, now->epoch);

    h = hash64_seed(changes, len, h);
    h = hash64_seed(then->next, sizeof then->next[0] << then->q_bits, h);
    for (uint16_t i = 0; i < then->member_count; i++) {
        uint8_t how[2] = {then->members[i].going, then->members[i].state == MEMBER_LEFT};

        h = hash64_seed(then->members[i].id.b, NODE_ID_BYTES, h + then->members[i].weight);
        h = hash64_seed(how, sizeof how, h);
    }
    return h;
}

int member_plan_changes(struct membership *m, const struct ring_change *list, uint32_t count,
                        struct member_plan *out)
{
    struct member_change *c = m->change;

    memset(out, 0, sizeof *out);
    member_view(m, &c->now);
    if (count == 0 && m->ring.epoch != 0)
        return -ERR_NOTFOUND;
    int rc = ring_change_plan(&c->now, list, count, c->known, known_members(m), &m->row[0].m.id,
                              &c->then, &out->at);
    if (rc != 0)
        return rc;
    out->now = &c->now;
    out->then = &c->then;
    out->id = plan_id(&c->now, list, count, &c->then);
    ring_change_moves(&c->then, &out->moves);
    out->sound = ring_change_check(&c->then, &out->proof);
    return 0;
}

uint8_t member_common_protocol(const struct membership *m)
{
    uint8_t lowest = m->row[0].m.protocol;

    for (uint16_t i = 0; i < m->ring.count; i++) {
        const struct member_row *row = member_find(m, &m->ring.id[i]);

        if (!m->ring.left[i] && row != NULL && row->m.protocol < lowest)
            lowest = row->m.protocol;
    }
    return lowest;
}

/* A view becomes the ring document. */
static void adopt(struct membership *m, const struct ring_view *v)
{
    struct member_ring *r = &m->ring;
    size_t table = sizeof r->owner[0] << v->q_bits;

    member_ring_advance(m, v->epoch, &v->proposer);
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *from = &v->members[i];
        bool same = i < r->count && node_id_equal(&r->id[i], &from->id);
        bool left = from->state == MEMBER_LEFT;

        /* How a member went is remembered: going stays as it was when it left. */
        if (!same || !left)
            r->going[i] = from->going;
        r->id[i] = from->id;
        r->left[i] = left;
        r->weight[i] = from->weight;
    }
    r->count = v->member_count;
    memcpy(r->owner, v->owner, table);
    memcpy(r->next, v->next, table);
    m->host.changed(m->host.arg, true);
}

static int commit(struct membership *m, const struct ring_change *list, uint32_t count,
                  const struct member_plan *plan)
{
    if (!plan->sound)
        return -ERR_DENIED;
    for (uint16_t i = 0; i < plan->then->member_count; i++) {
        const struct member *who = &plan->then->members[i];

        /* One that is faulty takes part when it is back. */
        if (who->state != MEMBER_LEFT && who->going != MEMBER_GONE && who->protocol != 0 &&
            who->protocol < PROTOCOL_CHANGES)
            return -ERR_VERSION;
    }
    adopt(m, plan->then);
    m->ring.change_count = (uint8_t)count;
    memcpy(m->ring.change, list, count * sizeof list[0]);
    m->ring.changed = (struct member_version){m->ring.epoch, m->ring.proposer};
    return 0;
}

int member_commit_list(struct membership *m, const struct ring_change *list, uint32_t count,
                       struct member_plan *out)
{
    int rc = member_plan_changes(m, list, count, out);

    if (rc == 0)
        rc = commit(m, list, count, out);
    if (rc == 0)
        tell_some(m, TOLD_BY_HAND);
    return rc;
}

int member_commit(struct membership *m, uint64_t plan, struct member_plan *out)
{
    struct member_staged *s = &m->change->staged;
    int rc = member_plan_changes(m, s->list, s->count, out);

    if (rc == 0 && out->id != plan)
        rc = -ERR_STALE;
    if (rc == 0)
        rc = commit(m, s->list, s->count, out);
    if (rc == 0)
        member_unstage(m);
    return rc;
}

/* ---- steps ---- */

static uint64_t steps_hash(const struct membership *m, uint16_t i)
{
    const struct member_ring *r = &m->ring;
    uint64_t version = hash64_seed(r->proposer.b, NODE_ID_BYTES, r->epoch);
    uint64_t h = hash64_seed(m->change->progress[i].step, (size_t)1 << r->q_bits,
                             hash64_seed(r->id[i].b, NODE_ID_BYTES, version));

    return h != 0 ? h : 1;
}

void member_forget_steps(struct membership *m)
{
    if (m->change == NULL)
        return;
    memset(m->change->progress, 0, sizeof m->change->progress);
    memset(m->change->steps_hash, 0, sizeof m->change->steps_hash);
}

static int ring_index_of(const struct membership *m, const uint8_t *id)
{
    for (uint16_t i = 0; i < m->ring.count; i++)
        if (memcmp(m->ring.id[i].b, id, NODE_ID_BYTES) == 0)
            return i;
    return -1;
}

int member_take_steps(struct membership *m, const struct gossip_STEPS *g)
{
    uint8_t heard[LIMIT_PARTITIONS];
    uint32_t q = 1u << m->conf.q_bits;

    if (g->node.len != NODE_ID_BYTES || g->proposer.len != NODE_ID_BYTES || g->steps.len != q / 2)
        return -ERR_FORMAT;
    int i = ring_index_of(m, g->node.data);
    if (m->change == NULL || i < 0 || member_ring_compare(m, g->epoch, g->proposer.data) != 0)
        return 0;
    for (uint32_t p = 0; p < q; p++) {
        heard[p] = g->steps.data[p / 2] >> (p % 2 * 4) & 15;
        if (heard[p] > STEP_CLOSED)
            return -ERR_FORMAT;
    }
    if (!ring_change_hear(&m->change->progress[i], heard, m->ring.q_bits))
        return 0;
    m->change->steps_hash[i] = steps_hash(m, (uint16_t)i);
    m->host.changed(m->host.arg, false);
    return 0;
}

uint64_t member_change_hash(const struct membership *m)
{
    const struct member_change *c = m->change;
    uint64_t sum = 1;

    if (c == NULL)
        return 0;
    for (uint16_t i = 0; i < m->ring.count; i++)
        sum += c->steps_hash[i];
    sum = hash64_seed(c->staged.by.b, NODE_ID_BYTES, sum + c->staged.version);
    return sum != 0 ? sum : 1;
}

size_t member_steps_hashes(const struct membership *m, uint8_t *out)
{
    if (m->change == NULL)
        return 0;
    for (uint16_t i = 0; i < m->ring.count; i++)
        store_le64(out + 8 * (size_t)i, m->change->steps_hash[i]);
    return 8 * (size_t)m->ring.count;
}

void member_compare_changes(struct membership *m, const struct gossip_SYNC *g)
{
    memset(m->sync_steps, 0, sizeof m->sync_steps);
    m->sync_staged = false;
    if (m->change == NULL)
        return;
    for (uint16_t i = 0; i < m->ring.count; i++)
        if (m->change->steps_hash[i] != 0 &&
            (g->steps.len != 8 * (size_t)m->ring.count ||
             load_le64(g->steps.data + 8 * (size_t)i) != m->change->steps_hash[i]))
            m->sync_steps[i / 64] |= 1ull << i % 64;
    static const uint8_t nobody[NODE_ID_BYTES];
    m->sync_staged =
        compare_staged(m, g->staged,
                       g->staged_by.len == NODE_ID_BYTES ? g->staged_by.data : nobody) < 0;
}

static void tell_steps(const struct membership *m, uint16_t i,
                       void (*emit)(void *arg, const struct gossip *g), void *arg)
{
    const struct member_ring *r = &m->ring;
    const uint8_t *step = m->change->progress[i].step;
    uint8_t packed[LIMIT_PARTITIONS / 2];
    uint32_t q = 1u << r->q_bits;

    for (uint32_t p = 0; p < q; p += 2)
        packed[p / 2] = (uint8_t)(step[p] | step[p + 1] << 4);
    struct gossip g = {.kind = GOSSIP_STEPS,
                       .u.STEPS = {.node = slice_of(r->id[i].b, NODE_ID_BYTES),
                                   .epoch = r->epoch,
                                   .proposer = slice_of(r->proposer.b, NODE_ID_BYTES),
                                   .steps = slice_of(packed, q / 2)}};

    emit(arg, &g);
}

void member_tell_changes(const struct membership *m, const uint64_t *which, bool staged,
                         void (*emit)(void *arg, const struct gossip *g), void *arg)
{
    const struct member_change *c = m->change;

    if (c == NULL)
        return;
    for (uint16_t i = 0; i < m->ring.count && !staged; i++)
        if (c->steps_hash[i] != 0 && (which == NULL || (which[i / 64] >> i % 64 & 1)))
            tell_steps(m, i, emit, arg);
    if (staged && c->staged.version != 0) {
        uint8_t changes[LIMIT_STAGED * MEMBER_CHANGE_BYTES];
        size_t len = member_write_changes(c->staged.list, c->staged.count, changes);
        struct gossip g = {.kind = GOSSIP_STAGED,
                           .u.STAGED = {.version = c->staged.version,
                                        .by = slice_of(c->staged.by.b, NODE_ID_BYTES),
                                        .changes = slice_of(changes, len)}};

        emit(arg, &g);
    }
}

/* ---- the change under way ---- */

bool member_change_step(struct membership *m, const struct ring_view *taken, const uint8_t *copied)
{
    struct member_change *c = m->change;
    struct ring_view *v = &c->now;
    bool news = false;

    member_view(m, v);
    if (v->epoch == 0 || !ring_change_is_open(v))
        return false;
    if (taken != NULL && v->self != RING_NO_OWNER && ring_compare(taken, v) == 0 &&
        ring_change_announce(taken, copied, &c->progress[v->self])) {
        c->steps_hash[v->self] = steps_hash(m, v->self);
        news = true;
    }
    ring_change_phases(v, c->progress, m->conf.quorum);
    if (ring_change_is_complete(v, c->progress, m->conf.quorum)) {
        ring_change_complete(v, &c->then);
        adopt(m, &c->then);
        news = true;
    }
    return news;
}

void member_change_tell(struct membership *m)
{
    tell_some(m, TOLD_AT_ONCE);
}

/* ---- lost changes ---- */

/* Is a version among those before the winner? *oldest: how far back it remembers. */
static bool in_history(const struct gossip_RING *winner, const struct member_version *v,
                       uint64_t *oldest)
{
    *oldest = winner->epoch;
    for (size_t at = 0; at < winner->history.len; at += MEMBER_VERSION_BYTES) {
        *oldest = load_le64(winner->history.data + at);
        if (*oldest == v->epoch &&
            memcmp(winner->history.data + at + 8, v->proposer.b, NODE_ID_BYTES) == 0)
            return true;
    }
    return false;
}

/* Versions older than the winner remembers are believed to be before it. */
void member_note_lost(struct membership *m, const struct gossip_RING *winner)
{
    const struct member_ring *r = &m->ring;
    uint64_t oldest;

    if (m->change == NULL || r->change_count == 0 || in_history(winner, &r->changed, &oldest) ||
        r->changed.epoch < oldest)
        return;
    struct member_lost *lost = &m->change->last_lost[m->change->lost++ % MEMBER_LOST];
    memset(lost, 0, sizeof *lost);
    lost->version = r->changed;
    lost->winner.epoch = winner->epoch;
    memcpy(lost->winner.proposer.b, winner->proposer.data, NODE_ID_BYTES);
    lost->wall_ms = m->wall_ms;
    lost->count = r->change_count;
    memcpy(lost->list, r->change, r->change_count * sizeof r->change[0]);
    m->counts[MEMBER_COUNT_lost]++;
}
