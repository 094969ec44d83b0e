/* Membership: the ring document: founding, exchange, replacement, and the view made of it. */
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/varint.h"
#include "core/claim.h"
#include "core/member_impl.h"

#include <string.h>

bool member_in_ring(const struct membership *m, const struct node_id *id)
{
    for (uint16_t i = 0; i < m->ring.count; i++)
        if (!m->ring.left[i] && node_id_equal(&m->ring.id[i], id))
            return true;
    return false;
}

void member_ring_advance(struct membership *m, uint64_t epoch, const struct node_id *proposer)
{
    struct member_ring *r = &m->ring;

    if (r->epoch != 0) {
        memmove(&r->history[1], &r->history[0], (MEMBER_HISTORY - 1) * sizeof r->history[0]);
        r->history[0] = (struct member_version){r->epoch, r->proposer};
        r->history_count += r->history_count < MEMBER_HISTORY;
    }
    r->epoch = epoch;
    r->proposer = *proposer;
    member_forget_steps(m);
}

/* ---- the message ---- */

static void put_u16(uint8_t *out, uint16_t n)
{
    out[0] = (uint8_t)n;
    out[1] = (uint8_t)(n >> 8);
}

static uint16_t u16_at(struct slice s, size_t i)
{
    return (uint16_t)(s.data[2 * i] | s.data[2 * i + 1] << 8);
}

struct gossip member_ring_message(const struct membership *m, struct member_ring_bytes *bytes)
{
    const struct member_ring *r = &m->ring;
    uint32_t q = 1u << r->q_bits;
    bool moving = memcmp(r->owner, r->next, q * sizeof r->owner[0]) != 0;

    for (uint32_t p = 0; p < q; p++) {
        put_u16(bytes->owner + 2 * p, r->owner[p]);
        put_u16(bytes->next + 2 * p, r->next[p]);
    }
    for (uint16_t i = 0; i < r->count; i++)
        put_u16(bytes->weights + 2 * i, r->weight[i]);
    for (uint8_t i = 0; i < r->history_count; i++) {
        uint8_t *at = bytes->history + i * MEMBER_VERSION_BYTES;

        store_le64(at, r->history[i].epoch);
        memcpy(at + 8, r->history[i].proposer.b, NODE_ID_BYTES);
    }
    size_t changes = member_write_changes(r->change, r->change_count, bytes->changes);
    return (struct gossip){
        .kind = GOSSIP_RING,
        .u.RING = {.epoch = r->epoch,
                   .proposer = slice_of(r->proposer.b, NODE_ID_BYTES),
                   .q_bits = r->q_bits,
                   .n = r->n,
                   .members = slice_of(r->id, (size_t)r->count * NODE_ID_BYTES),
                   .states = slice_of(r->left, r->count),
                   .owner = slice_of(bytes->owner, 2 * (size_t)q),
                   .next = slice_of(bytes->next, moving ? 2 * (size_t)q : 0),
                   .going = slice_of(r->going, r->count),
                   .weights = slice_of(bytes->weights, 2 * (size_t)r->count),
                   .history =
                       slice_of(bytes->history, (size_t)r->history_count * MEMBER_VERSION_BYTES),
                   .changes = slice_of(bytes->changes, changes),
                   .changed = r->changed.epoch,
                   .changed_by = slice_of(r->changed.proposer.b, NODE_ID_BYTES)},
    };
}

int member_ring_compare(const struct membership *m, uint64_t epoch, const uint8_t *proposer)
{
    const struct member_ring *r = &m->ring;

    if (epoch != r->epoch)
        return epoch < r->epoch ? -1 : 1;
    return memcmp(proposer, r->proposer.b, NODE_ID_BYTES);
}

/* Does every entry of a table name somebody who is in the ring? */
static bool sound_table(const struct gossip_RING *g, struct slice table, size_t q)
{
    for (size_t p = 0; p < q; p++)
        if (u16_at(table, p) >= g->states.len || g->states.data[u16_at(table, p)] != 0)
            return false;
    return true;
}

/* Is everybody named once, and only those own something who may? */
static bool sound_members(const struct gossip_RING *g, size_t q)
{
    const struct node_id *id = (const struct node_id *)(const void *)g->members.data;
    size_t count = g->states.len;

    for (size_t i = 0; i < count; i++) {
        if (g->states.data[i] > 1 || node_id_is_zero(&id[i]) ||
            (g->going.len > 0 && g->going.data[i] > MEMBER_GONE))
            return false;
        for (size_t k = 0; k < i; k++)
            if (node_id_equal(&id[i], &id[k]))
                return false;
    }
    /* Whoever is going owns nothing in the next table. */
    for (size_t p = 0; p < q && g->going.len > 0 && g->next.len > 0; p++)
        if (g->going.data[u16_at(g->next, p)] != MEMBER_STAYS)
            return false;
    return true;
}

static bool sound(const struct gossip_RING *g, size_t q)
{
    size_t count = g->states.len;
    struct ring_change list[LIMIT_STAGED];

    return g->proposer.len == NODE_ID_BYTES && g->epoch != 0 && g->epoch < UINT64_MAX / 2 &&
           count >= 1 && count <= LIMIT_MEMBERS && g->members.len == count * NODE_ID_BYTES &&
           g->n >= 1 && g->n <= LIMIT_REPLICAS && g->owner.len == 2 * q &&
           (g->next.len == 0 || g->next.len == 2 * q) &&
           (g->going.len == 0 || g->going.len == count) &&
           (g->weights.len == 0 || g->weights.len == 2 * count) &&
           g->history.len % MEMBER_VERSION_BYTES == 0 &&
           g->history.len <= MEMBER_HISTORY * MEMBER_VERSION_BYTES &&
           member_read_changes(g->changes, list) >= 0 && sound_table(g, g->owner, q) &&
           (g->next.len == 0 || sound_table(g, g->next, q)) && sound_members(g, q);
}

/* Is this version the ring in force, or one before it? */
static bool has_version(const struct member_ring *r, uint64_t epoch, const uint8_t *proposer)
{
    bool found = r->epoch == epoch && memcmp(r->proposer.b, proposer, NODE_ID_BYTES) == 0;

    for (uint8_t i = 0; i < r->history_count; i++)
        found |= r->history[i].epoch == epoch &&
                 memcmp(r->history[i].proposer.b, proposer, NODE_ID_BYTES) == 0;
    return found;
}

bool member_ring_known(const struct membership *m, const struct member_row *row)
{
    return !row->ring_heard || row->ring_epoch == 0 ||
           has_version(&m->ring, row->ring_epoch, row->ring_proposer.b);
}

/* Is this the ring of a cluster that was founded apart? A ring that follows from one which this node is in,
 * or is its rival, names this node or has a version in common with it: whoever has left stays named, and
 * what its rival does not name has joined later than they parted. */
static bool is_foreign(const struct membership *m, const struct gossip_RING *g)
{
    const struct member_ring *r = &m->ring;
    const uint8_t *self = m->row[0].m.id.b;

    if (r->epoch == 0 || !member_in_ring(m, &m->row[0].m.id))
        return false;
    for (size_t at = 0; at < g->members.len; at += NODE_ID_BYTES)
        if (memcmp(g->members.data + at, self, NODE_ID_BYTES) == 0)
            return false;
    for (size_t at = 0; at < g->history.len; at += MEMBER_VERSION_BYTES)
        if (has_version(r, load_le64(g->history.data + at), g->history.data + at + 8))
            return false;
    return true;
}

static void take_document(struct member_ring *r, const struct gossip_RING *g)
{
    size_t count = g->states.len, q = (size_t)1 << g->q_bits;

    r->epoch = g->epoch;
    memcpy(r->proposer.b, g->proposer.data, NODE_ID_BYTES);
    r->q_bits = g->q_bits;
    r->n = g->n;
    r->count = (uint16_t)count;
    memcpy(r->id, g->members.data, g->members.len);
    memcpy(r->left, g->states.data, count);
    for (size_t i = 0; i < count; i++) {
        r->going[i] = g->going.len == 0 ? MEMBER_STAYS : g->going.data[i];
        r->weight[i] = g->weights.len == 0 ? 0 : u16_at(g->weights, i);
    }
    for (size_t p = 0; p < q; p++) {
        r->owner[p] = u16_at(g->owner, p);
        r->next[p] = g->next.len == 0 ? r->owner[p] : u16_at(g->next, p);
    }
    r->history_count = (uint8_t)(g->history.len / MEMBER_VERSION_BYTES);
    for (uint8_t i = 0; i < r->history_count; i++) {
        const uint8_t *at = g->history.data + i * MEMBER_VERSION_BYTES;

        r->history[i].epoch = load_le64(at);
        memcpy(r->history[i].proposer.b, at + 8, NODE_ID_BYTES);
    }
    r->change_count = (uint8_t)member_read_changes(g->changes, r->change);
    memset(&r->changed, 0, sizeof r->changed);
    r->changed.epoch = g->changed;
    if (g->changed_by.len == NODE_ID_BYTES)
        memcpy(r->changed.proposer.b, g->changed_by.data, NODE_ID_BYTES);
}

int member_take_ring(struct membership *m, const struct gossip_RING *g)
{
    if (g->q_bits != m->conf.q_bits) {
        if (m->ring.epoch == 0)
            m->host.refused(m->host.arg,
                            "the cluster was founded with another number of partitions");
        return -ERR_FORMAT;
    }
    if (!sound(g, (size_t)1 << g->q_bits))
        return -ERR_FORMAT;
    if (member_ring_compare(m, g->epoch, g->proposer.data) <= 0)
        return 0;
    if (is_foreign(m, g)) {
        m->counts[MEMBER_COUNT_foreign]++;
        return 0;
    }
    member_note_lost(m, g);
    take_document(&m->ring, g);
    member_forget_steps(m);
    member_mend_ring(m);
    m->host.changed(m->host.arg, true);
    return 0;
}

/* ---- documents that nobody commits ---- */

/* Whose name a document bears that everybody derives by himself: a hash of what it is derived from. So
 * documents derived from different things have different versions. */
static struct node_id derived_proposer(const void *from, size_t len)
{
    struct hash128 h = hash128(from, len);
    struct node_id id;

    store_le64(id.b, h.high);
    store_le64(id.b + 8, h.low);
    return id;
}

static struct node_id founding_proposer(const struct member_ring *r)
{
    uint8_t from[2 + MEMBER_SEEDS * (NODE_ID_BYTES + 2)] = {r->q_bits, r->n}, *at = from + 2;

    for (uint16_t i = 0; i < r->count; i++, at += NODE_ID_BYTES + 2) {
        memcpy(at, r->id[i].b, NODE_ID_BYTES);
        put_u16(at + NODE_ID_BYTES, r->weight[i]);
    }
    return derived_proposer(from, (size_t)(at - from));
}

static struct node_id mending_proposer(const struct member_ring *r, const struct node_id *id)
{
    uint8_t from[8 + 2 * NODE_ID_BYTES];

    store_le64(from, r->epoch);
    memcpy(from + 8, r->proposer.b, NODE_ID_BYTES);
    memcpy(from + 8 + NODE_ID_BYTES, id->b, NODE_ID_BYTES);
    return derived_proposer(from, sizeof from);
}

/* ---- founding ---- */

void member_try_founding(struct membership *m)
{
    static const struct member_endpoint none;
    uint16_t founder[MEMBER_SEEDS];
    uint32_t count = m->conf.seed_count > 0 ? m->conf.seed_count : 1;
    bool mine = m->conf.seed_count == 0;

    if (m->ring.epoch != 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct member_endpoint *e = m->conf.seed_count > 0 ? &m->conf.seeds[i] : &none;
        struct member_row *row =
            m->conf.seed_count > 0 ? member_find_place(m, e->address, e->port) : &m->row[0];

        /* Whoever knows a ring will tell it; founding another would only lose against it. */
        if (row == NULL || (row != &m->row[0] && (!row->ring_heard || row->ring_epoch != 0)))
            return;
        mine |= row == &m->row[0];
        founder[i] = (uint16_t)(row - m->row);
    }
    if (!mine)
        return; /* not a founder: it waits to be joined */

    struct ring_view *view = &m->scratch;
    memset(view, 0, sizeof *view);
    view->q_bits = m->conf.q_bits;
    view->n = m->conf.n;
    view->self = RING_NO_OWNER;
    view->member_count = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++)
        view->members[i] = m->row[founder[i]].m;
    if (claim_found(view) != 0)
        return;
    struct member_ring *r = &m->ring;
    r->epoch = 1;
    r->q_bits = m->conf.q_bits;
    r->n = m->conf.n;
    r->count = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++) {
        r->id[i] = m->row[founder[i]].m.id;
        r->left[i] = 0;
        r->going[i] = MEMBER_STAYS;
        r->weight[i] = m->row[founder[i]].m.weight;
    }
    r->proposer = founding_proposer(r);
    memcpy(r->owner, view->owner, sizeof r->owner);
    memcpy(r->next, view->owner, sizeof r->next);
    m->host.changed(m->host.arg, true);
}

/* The same node with a new id: everyone who learns of it makes the same document of the one before,
 * and of another one another. Two such changes made on two sides of a partition are one above the other when the sides meet; what
 * the losing document had more than the other is then done again, on top. */
void member_mend_ring(struct membership *m)
{
    struct member_ring *r = &m->ring;

    if (r->epoch == 0)
        return;
    for (uint16_t k = 1; k < m->count; k++) {
        const struct member_row *row = &m->row[k];

        if (node_id_is_zero(&row->before) || member_in_ring(m, &row->m.id))
            continue;
        for (uint16_t i = 0; i < r->count; i++) {
            if (!node_id_equal(&r->id[i], &row->before) || r->left[i])
                continue;
            const struct node_id proposer = mending_proposer(r, &row->m.id);
            member_ring_advance(m, r->epoch + 1, &proposer);
            r->id[i] = row->m.id;
            m->host.changed(m->host.arg, true);
        }
    }
}

/* ---- the view ---- */

/* A member of the ring, as gossip knows it and as the ring has it. */
static void view_member(const struct membership *m, uint16_t i, struct member *to)
{
    const struct member_ring *r = &m->ring;
    const struct member_row *row = member_find(m, &r->id[i]);

    if (row != NULL) {
        *to = row->m;
    } else { /* in the ring, but nobody has told us who it is: not reachable */
        to->id = r->id[i];
        to->workers = 1;
        to->state = MEMBER_FAULTY;
        to->name[0] = '?';
    }
    if (r->weight[i] != 0)
        to->weight = r->weight[i];
    to->going = r->left[i] ? MEMBER_STAYS : r->going[i];
    to->lingers = r->left[i] && to->state < MEMBER_FAULTY;
    if (r->left[i])
        to->state = MEMBER_LEFT;
    else if (to->state == MEMBER_LEFT) /* it says so, but the ring does not */
        to->state = MEMBER_FAULTY;
}

void member_view(const struct membership *m, struct ring_view *out)
{
    const struct member_ring *r = &m->ring;
    uint64_t version = out->version;

    memset(out, 0, sizeof *out);
    out->version = version;
    out->epoch = r->epoch;
    out->proposer = r->proposer;
    memcpy(out->cluster, m->conf.cluster, sizeof out->cluster);
    out->q_bits = r->q_bits;
    /* Raised in the configuration after the ring was founded: more nodes keep each partition from now on. */
    out->n = r->n > m->conf.n ? r->n : m->conf.n;
    out->self = RING_NO_OWNER;
    out->member_count = r->count;
    for (uint16_t i = 0; i < r->count; i++) {
        view_member(m, i, &out->members[i]);
        if (node_id_equal(&r->id[i], &m->row[0].m.id))
            out->self = i;
    }
    uint32_t q = 1u << r->q_bits;
    for (uint32_t p = 0; p < q; p++) {
        out->owner[p] = r->epoch == 0 ? RING_NO_OWNER : r->owner[p];
        out->next[p] = r->epoch == 0 ? RING_NO_OWNER : r->next[p];
    }
    if (r->epoch != 0 && ring_change_is_open(out))
        ring_change_phases(out, m->change == NULL ? NULL : m->change->progress, m->conf.quorum);
}
