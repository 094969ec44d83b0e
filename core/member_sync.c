/* Membership: what two members say to each other over a stream, and the digest that makes them do it. */
#include "base/err.h"
#include "base/varint.h"
#include "core/member_impl.h"
#include "core/planted.h"

#include <string.h>

/* The members' hash covers who they are and where, not how they are: states travel as news, and in
 * the exchanges that are made now and then. */
struct gossip member_digest(const struct membership *m)
{
    return (struct gossip){
        .kind = GOSSIP_DIGEST,
        .u.DIGEST = {.epoch = m->ring.epoch,
                     .proposer = slice_of(m->ring.proposer.b, NODE_ID_BYTES),
                     .members_hash = m->who_hash,
                     .change_hash = member_change_hash(m)},
    };
}

int member_take_digest(struct membership *m, struct member_row *row,
                       const struct member_endpoint *from, const struct gossip_DIGEST *g,
                       uint64_t now_us)
{
    if (g->proposer.len != NODE_ID_BYTES)
        return -ERR_FORMAT;
    if (row != NULL) {
        row->ring_heard = true;
        row->ring_epoch = g->epoch;
        memcpy(row->ring_proposer.b, g->proposer.data, NODE_ID_BYTES);
    }
    int ring = member_ring_compare(m, g->epoch, g->proposer.data);
    m->sync_ring = ring < 0;
    m->sync_older = ring > 0;
    uint64_t change = member_change_hash(m);
    bool same_change = change == 0 || g->change_hash == 0 || change == g->change_hash;
    if (ring == 0 && g->members_hash == m->who_hash && same_change)
        return 0;
    if (from->port == 0 || now_us < m->sync_us)
        return 0; /* this is an exchange, or the last one was a moment ago */
    m->sync_us = now_us + m->conf.probe_interval_us / 4;
    m->host.sync(m->host.arg, from->address, from->port);
    return 0;
}

/* Which groups differ? Hashes that are missing differ. */
void member_take_sync(struct membership *m, const struct node_id *sender,
                      const struct gossip_SYNC *g)
{
    m->sync_sender = *sender;
    m->sync_round++;
    m->sync_groups = 0;
    for (unsigned i = 0; i < MEMBER_GROUPS; i++)
        if (COORD_BUG(EXCHANGE_OF_ALL) || g->groups.len != sizeof m->group_hash ||
            load_le64(g->groups.data + 8 * i) != m->group_hash[i])
            m->sync_groups |= 1ull << i;
    member_compare_changes(m, g);
}

/* ---- telling ---- */

struct telling {
    void (*emit)(void *arg, const struct gossip *g);
    void *arg;
};

static void tell(const struct telling *t, struct gossip g)
{
    t->emit(t->arg, &g);
}

static void tell_groups(const struct membership *m, const struct telling *t, bool answer)
{
    uint8_t groups[8 * MEMBER_GROUPS], steps[8 * LIMIT_MEMBERS];
    size_t steps_len = member_steps_hashes(m, steps);
    struct gossip_SYNC sync = {.answer = answer, .groups = slice_of(groups, sizeof groups)};

    for (unsigned i = 0; i < MEMBER_GROUPS; i++)
        store_le64(groups + 8 * i, m->group_hash[i]);
    sync.steps = slice_of(steps, steps_len);
    if (m->change != NULL) {
        sync.staged = m->change->staged.version;
        sync.staged_by = slice_of(m->change->staged.by.b, NODE_ID_BYTES);
    }
    tell(t, (struct gossip){.kind = GOSSIP_SYNC, .u.SYNC = sync});
}

static void tell_ring(const struct membership *m, const struct telling *t)
{
    struct member_ring_bytes bytes;

    if (m->ring.epoch != 0)
        tell(t, member_ring_message(m, &bytes));
}

/* Would the other side of the exchange understand what is said of changes? */
static bool knows_changes(struct membership *m)
{
    const struct member_row *other = member_find(m, &m->sync_sender);

    return m->row[0].m.protocol >= PROTOCOL_CHANGES &&
           (other == NULL || other->m.protocol >= PROTOCOL_CHANGES);
}

/* The members of the groups that differ, but for those that the other side has just told us of. */
static void tell_difference(struct membership *m, const struct telling *t)
{
    for (uint16_t i = 0; i < m->count && m->sync_groups != 0; i++)
        if ((m->sync_groups >> member_group(&m->row[i]) & 1) && m->row[i].told_in != m->sync_round)
            tell(t, member_news_of(m, &m->row[i]));
    if (m->sync_ring)
        tell_ring(m, t);
    if (!m->sync_older && knows_changes(m))
        member_tell_changes(m, m->sync_steps, false, t->emit, t->arg);
    if (m->sync_staged && knows_changes(m))
        member_tell_changes(m, NULL, true, t->emit, t->arg);
    m->sync_groups = 0;
    m->sync_ring = m->sync_staged = false;
    memset(m->sync_steps, 0, sizeof m->sync_steps);
}

void member_tell(struct membership *m, enum member_turn turn,
                 void (*emit)(void *arg, const struct gossip *g), void *arg)
{
    const struct telling t = {.emit = emit, .arg = arg};

    if (turn == MEMBER_ADDS) {
        tell_difference(m, &t);
        return;
    }
    if (m->stream_asked && turn == MEMBER_ANSWERS)
        tell(&t, (struct gossip){.kind = GOSSIP_ACK, .u.ACK = {.sequence = m->stream_sequence}});
    else
        tell_groups(m, &t, turn == MEMBER_ANSWERS);
    tell(&t, member_news_of(m, &m->row[0]));
    if (turn == MEMBER_ANSWERS && !m->stream_asked)
        tell_difference(m, &t);
    if (turn == MEMBER_ANSWERS)
        m->stream_asked = false;
    tell(&t, member_digest(m));
}

void member_tell_all(const struct membership *m, void (*emit)(void *arg, const struct gossip *g),
                     void *arg)
{
    const struct telling t = {.emit = emit, .arg = arg};

    for (uint16_t i = 0; i < m->count; i++)
        tell(&t, member_news_of(m, &m->row[i]));
    tell_ring(m, &t);
    member_tell_changes(m, NULL, false, emit, arg);
    member_tell_changes(m, NULL, true, emit, arg);
}
