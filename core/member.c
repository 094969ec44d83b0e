/* Membership: the entry points. See member.h. */
#include "core/member.h"

#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"

#include <string.h>

void member_init(struct membership *m, void *memory, uint32_t rows, const struct member_conf *conf,
                 const struct member_host *host, const struct member *self, uint64_t wall_ms,
                 uint64_t seed)
{
    ASSERT(conf->seed_count <= MEMBER_SEEDS);
    memset(m, 0, sizeof *m);
    member_index_init(m, memory, rows);
    m->conf = *conf;
    m->host = *host;
    m->wall_ms = wall_ms;
    rand_seed(&m->rand, seed);
    m->sequence = rand_next(&m->rand) >> 16;
    m->count = 1;
    memset(&m->row[0], 0, sizeof m->row[0]);
    m->row[0].m = *self;
    m->row[0].m.state = MEMBER_ALIVE;
    if (self->protocol == 0) {
        m->row[0].m.protocol = PROTOCOL_NEWEST;
        m->row[0].m.protocol_oldest = PROTOCOL_OLDEST;
    }
    m->row[0].m.incarnation = wall_ms;
    member_index_add(m, &m->row[0]);
    m->ring.q_bits = conf->q_bits;
    m->ring.n = conf->n;
}

void member_set_wall(struct membership *m, uint64_t wall_ms)
{
    m->wall_ms = wall_ms;
}

void member_hint_down(struct membership *m, const struct node_id *id, uint64_t now_us)
{
    struct member_row *row = member_find(m, id);

    if (row != NULL && row != &m->row[0] && row->m.state == MEMBER_ALIVE)
        member_check(m, row, now_us);
}

/* A refusal that lasts is final; one that passes was about an address that we have just left. */
void member_note_refusal(struct membership *m, uint32_t reason, uint64_t now_us)
{
    const char *text = reason == GOSSIP_REFUSED_NAME ? "another member has this node's name"
                       : reason == GOSSIP_REFUSED_VERSION
                           ? "this node and the cluster have no protocol version in common"
                           : "another living member has this node's id";

    if (now_us > m->refused_us + m->conf.suspicion_us)
        m->refused_since_us = now_us;
    m->refused_us = now_us;
    if (now_us < m->refused_since_us + 2 * m->conf.suspicion_us)
        return;
    m->host.refused(m->host.arg, text);
}

int member_receive(struct membership *m, const struct node_id *sender,
                   const struct member_endpoint *from, const struct gossip *g, uint64_t now_us)
{
    struct member_row *row = member_find(m, sender);
    int rc = 0;

    if (row == &m->row[0]) { /* somebody with our id: nothing that it says counts, but it must go */
        if (g->kind == GOSSIP_NEWS)
            rc = member_take_news(m, sender, from, &g->u.NEWS, now_us);
        return rc;
    }
    if (row != NULL)
        row->heard_us = now_us;
    switch (g->kind) {
    case GOSSIP_PROBE:
        rc = member_take_probe(m, from, &g->u.PROBE);
        break;
    case GOSSIP_ACK:
        member_take_ack(m, sender, &g->u.ACK, now_us);
        break;
    case GOSSIP_PROBE_FOR:
        rc = member_take_probe_for(m, from, &g->u.PROBE_FOR, now_us);
        break;
    case GOSSIP_NACK:
        member_take_nack(m, &g->u.NACK);
        break;
    case GOSSIP_SYNC:
        member_take_sync(m, sender, &g->u.SYNC);
        break;
    case GOSSIP_NEWS:
        rc = member_take_news(m, sender, from, &g->u.NEWS, now_us);
        break;
    case GOSSIP_RING:
        rc = member_take_ring(m, &g->u.RING);
        break;
    case GOSSIP_STEPS:
        rc = member_take_steps(m, &g->u.STEPS);
        break;
    case GOSSIP_STAGED:
        rc = member_take_staged(m, &g->u.STAGED);
        break;
    case GOSSIP_DIGEST:
        rc = member_take_digest(m, row, from, &g->u.DIGEST, now_us);
        break;
    case GOSSIP_REFUSED:
        /* Nobody from outside the ring drives a member out of it. */
        if (member_in_ring(m, sender) || !member_in_ring(m, &m->row[0].m.id))
            member_note_refusal(m, g->u.REFUSED.reason, now_us);
        break;
    default:
        rc = -ERR_FORMAT;
    }
    if (rc != 0)
        m->counts[MEMBER_COUNT_bad]++;
    member_try_founding(m);
    return rc;
}
