/* Membership: the ring document: founding, exchange, replacement, and the view made of it. */
#include "base/check.h"
#include "base/err.h"
#include "core/claim.h"
#include "core/member_impl.h"

#include <string.h>

bool member_in_ring(const struct membership *m, const struct node_id *id)
{
    for (uint16_t i = 0; i < m->ring.count; i++)
        if (node_id_equal(&m->ring.id[i], id))
            return true;
    return false;
}

struct gossip member_ring_message(const struct membership *m, uint8_t *owner_bytes)
{
    const struct member_ring *r = &m->ring;
    uint32_t q = 1u << r->q_bits;

    for (uint32_t p = 0; p < q; p++) {
        owner_bytes[2 * p] = (uint8_t)r->owner[p];
        owner_bytes[2 * p + 1] = (uint8_t)(r->owner[p] >> 8);
    }
    return (struct gossip){
        .kind = GOSSIP_RING,
        .u.RING = {.epoch = r->epoch,
                   .proposer = slice_of(r->proposer.b, NODE_ID_BYTES),
                   .q_bits = r->q_bits,
                   .n = r->n,
                   .members = slice_of(r->id, (size_t)r->count * NODE_ID_BYTES),
                   .states = slice_of(r->left, r->count),
                   .owner = slice_of(owner_bytes, 2 * (size_t)q)},
    };
}

int member_ring_compare(const struct membership *m, uint64_t epoch, const uint8_t *proposer)
{
    const struct member_ring *r = &m->ring;

    if (epoch != r->epoch)
        return epoch < r->epoch ? -1 : 1;
    return memcmp(proposer, r->proposer.b, NODE_ID_BYTES);
}

static uint16_t owner_at(const struct gossip_RING *g, size_t partition)
{
    return (uint16_t)(g->owner.data[2 * partition] | g->owner.data[2 * partition + 1] << 8);
}

/* Is every partition owned by somebody who is in the ring, and everybody named once? */
static bool sound(const struct gossip_RING *g, size_t count, size_t q)
{
    const struct node_id *id = (const struct node_id *)(const void *)g->members.data;

    for (size_t i = 0; i < count; i++) {
        if (g->states.data[i] > 1 || node_id_is_zero(&id[i]))
            return false;
        for (size_t k = 0; k < i; k++)
            if (node_id_equal(&id[i], &id[k]))
                return false;
    }
    for (size_t p = 0; p < q; p++)
        if (owner_at(g, p) >= count || g->states.data[owner_at(g, p)] != 0)
            return false;
    return true;
}

int member_take_ring(struct membership *m, const struct gossip_RING *g)
{
    struct member_ring *r = &m->ring;
    size_t count = g->states.len;

    if (g->proposer.len != NODE_ID_BYTES || g->epoch == 0 || count == 0 || count > LIMIT_MEMBERS ||
        g->members.len != count * NODE_ID_BYTES || g->n < 1 || g->n > LIMIT_REPLICAS)
        return -ERR_FORMAT;
    if (g->q_bits != m->conf.q_bits) {
        if (m->ring.epoch == 0)
            m->host.refused(m->host.arg,
                            "the cluster was founded with another number of partitions");
        return -ERR_FORMAT;
    }
    size_t q = (size_t)1 << g->q_bits;
    if (g->owner.len != 2 * q)
        return -ERR_FORMAT;
    if (!sound(g, count, q))
        return -ERR_FORMAT;
    if (member_ring_compare(m, g->epoch, g->proposer.data) <= 0)
        return 0;
    r->epoch = g->epoch;
    memcpy(r->proposer.b, g->proposer.data, NODE_ID_BYTES);
    r->q_bits = g->q_bits;
    r->n = g->n;
    r->count = (uint16_t)count;
    memcpy(r->id, g->members.data, g->members.len);
    memcpy(r->left, g->states.data, count);
    for (size_t p = 0; p < q; p++)
        r->owner[p] = owner_at(g, p);
    member_mend_ring(m);
    m->host.changed(m->host.arg, true);
    return 0;
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
    r->proposer = m->row[founder[0]].m.id;
    r->q_bits = m->conf.q_bits;
    r->n = m->conf.n;
    r->count = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++) {
        r->id[i] = m->row[founder[i]].m.id;
        r->left[i] = 0;
    }
    memcpy(r->owner, view->owner, sizeof r->owner);
    m->host.changed(m->host.arg, true);
}

/* The same node with a new id: everyone who learns of it makes the same document of the one before.
 * Two such changes made on two sides of a partition are one above the other when the sides meet; what
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
            r->id[i] = row->m.id;
            r->epoch++;
            r->proposer = row->m.id;
            m->host.changed(m->host.arg, true);
        }
    }
}

/* ---- the view ---- */

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
    out->n = r->n;
    out->self = RING_NO_OWNER;
    out->member_count = r->count;
    for (uint16_t i = 0; i < r->count; i++) {
        struct member *to = &out->members[i];
        const struct member_row *row = member_find(m, &r->id[i]);

        if (row != NULL) {
            *to = row->m;
        } else { /* in the ring, but nobody has told us who it is: not reachable */
            to->id = r->id[i];
            to->workers = 1;
            to->state = MEMBER_FAULTY;
            to->name[0] = '?';
        }
        if (r->left[i])
            to->state = MEMBER_LEFT;
        if (row == &m->row[0])
            out->self = i;
    }
    uint32_t q = 1u << r->q_bits;
    for (uint32_t p = 0; p < q; p++)
        out->owner[p] = out->next[p] = r->epoch == 0 ? RING_NO_OWNER : r->owner[p];
}
