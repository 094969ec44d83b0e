/* Planning a change of the ring: the document that follows from a list of changes. Pure; see
 * ring_change.h. */
#include "base/err.h"
#include "core/claim.h"
#include "core/ring_change.h"

#include <string.h>

static const struct member *known_member(const struct member *known, uint32_t count,
                                         const struct node_id *id)
{
    for (uint32_t i = 0; i < count; i++)
        if (node_id_equal(&known[i].id, id))
            return &known[i];
    return NULL;
}

/* A member of the ring that can still be changed: its index, or an error. */
static int find_staying(const struct ring_view *v, const struct node_id *id, bool going_too)
{
    uint16_t m = ring_find(v, id);

    if (m == RING_NO_OWNER || v->members[m].state == MEMBER_LEFT)
        return -ERR_NOTFOUND;
    if (v->members[m].going == MEMBER_GONE || (v->members[m].going != MEMBER_STAYS && !going_too))
        return -ERR_INVAL;
    return m;
}

/* The index for a member that joins: a new one, or, if there is none left, that of one which left. */
static int free_index(struct ring_view *v)
{
    if (v->member_count < LIMIT_MEMBERS)
        return v->member_count++;
    for (uint16_t m = 0; m < v->member_count; m++)
        if (v->members[m].state == MEMBER_LEFT)
            return m;
    return -ERR_LIMIT;
}

static int add_member(struct ring_view *v, const struct member *known, uint32_t known_count,
                      const struct node_id *id, uint16_t weight)
{
    const struct member *who = known_member(known, known_count, id);
    uint16_t there = ring_find(v, id);

    if (there != RING_NO_OWNER)
        return v->members[there].state == MEMBER_LEFT ? -ERR_DENIED : -ERR_EXISTS;
    if (who == NULL || who->state == MEMBER_LEFT)
        return -ERR_NOTFOUND;
    int m = free_index(v);

    if (m < 0)
        return m;
    v->members[m] = *who;
    v->members[m].going = MEMBER_STAYS;
    if (weight != 0)
        v->members[m].weight = weight;
    return m;
}

/* What `from` owns in the table that the plan starts from is `to`'s. */
static void hand_over(uint16_t *base, uint32_t q, uint16_t from, uint16_t to)
{
    for (uint32_t p = 0; p < q; p++)
        if (base[p] == from)
            base[p] = to;
}

/* Carry out one change on the members of v and on v->next, from which the plan starts. */
static int apply(struct ring_view *v, const struct ring_change *c, const struct member *known,
                 uint32_t known_count)
{
    int m, with;

    switch ((enum ring_change_kind)c->kind) {
    case RING_JOIN:
        m = add_member(v, known, known_count, &c->node, c->weight);
        return m < 0 ? m : 0;
    case RING_LEAVE:
        m = find_staying(v, &c->node, false);
        if (m >= 0)
            v->members[m].going = MEMBER_LEAVES;
        return m < 0 ? m : 0;
    case RING_REMOVE:
        m = find_staying(v, &c->node, true);
        if (m >= 0)
            v->members[m].going = MEMBER_GONE;
        return m < 0 ? m : 0;
    case RING_REPLACE:
        m = find_staying(v, &c->node, true);
        if (m < 0)
            return m;
        with = add_member(v, known, known_count, &c->with, c->weight);
        if (with < 0)
            return with;
        v->members[m].going = MEMBER_GONE;
        hand_over(v->next, 1u << v->q_bits, (uint16_t)m, (uint16_t)with);
        return 0;
    case RING_WEIGHT:
        m = find_staying(v, &c->node, false);
        if (m >= 0 && c->weight == 0)
            return -ERR_INVAL;
        if (m >= 0)
            v->members[m].weight = c->weight;
        return m < 0 ? m : 0;
    }
    return -ERR_INVAL;
}

/* The next table, given the members and, in out->next, the table to start from. */
static int plan_table(struct ring_view *out)
{
    uint16_t in_force[LIMIT_PARTITIONS], planned[LIMIT_PARTITIONS];
    size_t bytes = sizeof in_force[0] << out->q_bits;
    int rc;

    memcpy(in_force, out->owner, bytes);
    memcpy(out->owner, out->next, bytes);
    rc = claim_plan(out, planned);
    memcpy(out->owner, in_force, bytes);
    if (rc == 0)
        memcpy(out->next, planned, bytes);
    return rc == 0 ? 0 : -ERR_UNAVAILABLE;
}

int ring_change_plan(const struct ring_view *now, const struct ring_change *list, uint32_t count,
                     const struct member *known, uint32_t known_count,
                     const struct node_id *proposer, struct ring_view *out, uint32_t *at)
{
    int rc;

    *at = 0;
    if (now->epoch == 0)
        return -ERR_UNAVAILABLE;
    *out = *now;
    for (; *at < count; ++*at) {
        rc = apply(out, &list[*at], known, known_count);
        if (rc != 0)
            return rc;
    }
    rc = plan_table(out);
    if (rc != 0)
        return rc;
    out->epoch = now->epoch + 2;
    out->proposer = *proposer;
    memset(out->phase, RING_SETTLED, sizeof out->phase);
    ring_change_phases(out, NULL, (struct ring_quorum){1, 1});
    return 0;
}
