/* Membership: probing, relays, suspicion timers, and the packets that carry news. */
#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"

#include <string.h>

#define INDIRECT_PROBES 3 /* SWIM's k */
#define PROBE_ROUNDS    2 /* a probe lasts so many timeouts: one direct, one for the indirect way */
#define NEWS_IN_PACKET  24
#define SYNC_EVERY      10 /* intervals between full exchanges with a random member */
#define HEALTH_WORST    8  /* Lifeguard's bound of the local health multiplier */

/* ---- packets ---- */

/* Send a first message with the ring's digest, news about `about` (NULL: nobody in particular), this
 * node's own, and what has been passed on least often so far. */
void member_send(struct membership *m, const struct member_endpoint *to, const struct gossip *first,
                 const struct member_row *about)
{
    struct gossip list[4 + NEWS_IN_PACKET];
    struct member_row *news[4 + NEWS_IN_PACKET] = {NULL};
    unsigned count = 0;

    list[count++] = *first;
    list[count++] = member_digest(m);
    list[count++] = member_news_of(&m->row[0]);
    if (about != NULL && about != &m->row[0] && about->m.state != MEMBER_ALIVE)
        list[count++] = member_news_of(about);
    unsigned must = count;
    uint32_t most = 0;
    for (uint16_t i = 1; i < m->count; i++)
        if (m->row[i].transmissions > most)
            most = m->row[i].transmissions;
    /* Freshest news first: at most a few dozen levels, each a pass over the rows with news left. */
    for (uint32_t level = most; level > 0 && count < 4 + NEWS_IN_PACKET; level--) {
        for (uint16_t i = 1; i < m->count && count < 4 + NEWS_IN_PACKET; i++) {
            if (m->row[i].transmissions != level || &m->row[i] == about)
                continue;
            news[count] = &m->row[i];
            list[count++] = member_news_of(&m->row[i]);
        }
    }
    unsigned sent = m->host.send(m->host.arg, to->address, to->port, list, must, count);
    for (unsigned i = must; i < sent && i < count; i++)
        if (news[i] != NULL)
            news[i]->transmissions--;
}

struct gossip member_probe_message(uint64_t sequence, const struct node_id *target)
{
    return (struct gossip){
        .kind = GOSSIP_PROBE,
        .u.PROBE = {.sequence = sequence,
                    .target =
                        target == NULL ? slice_of(NULL, 0) : slice_of(target->b, NODE_ID_BYTES)},
    };
}

/* ---- answering others ---- */

int member_take_probe(struct membership *m, const struct member_endpoint *from,
                      const struct gossip_PROBE *g)
{
    struct gossip ack = {.kind = GOSSIP_ACK, .u.ACK = {.sequence = g->sequence}};

    if (g->target.len != 0 && g->target.len != NODE_ID_BYTES)
        return -ERR_FORMAT;
    if (g->target.len != 0 && memcmp(g->target.data, m->row[0].m.id.b, NODE_ID_BYTES) != 0)
        return 0; /* meant for whoever was at this address before */
    member_send(m, from, &ack, NULL);
    return 0;
}

int member_take_probe_for(struct membership *m, const struct member_endpoint *from,
                          const struct gossip_PROBE_FOR *g, uint64_t now_us)
{
    struct node_id target;

    if (g->target.len != NODE_ID_BYTES)
        return -ERR_FORMAT;
    memcpy(target.b, g->target.data, NODE_ID_BYTES);
    struct member_row *row = member_find(m, &target);
    if (row == NULL || row == &m->row[0])
        return 0;
    struct member_relay *relay = &m->relay[m->relay_next++ % MEMBER_RELAYS];
    *relay = (struct member_relay){.sequence = ++m->sequence,
                                   .asked_sequence = g->sequence,
                                   .until_us = now_us + m->conf.probe_interval_us,
                                   .nack_us = now_us + m->conf.probe_timeout_us,
                                   .asker = *from};
    struct gossip probe = member_probe_message(relay->sequence, &target);
    struct member_endpoint to = member_endpoint_of(&row->m);
    member_send(m, &to, &probe, row);
    return 0;
}

void member_take_ack(struct membership *m, const struct node_id *sender, const struct gossip_ACK *g,
                     uint64_t now_us)
{
    for (unsigned i = 0; i < MEMBER_RELAYS; i++) {
        struct member_relay *relay = &m->relay[i];

        if (relay->sequence != g->sequence || relay->until_us < now_us)
            continue;
        struct gossip ack = {.kind = GOSSIP_ACK, .u.ACK = {.sequence = relay->asked_sequence}};
        relay->until_us = 0;
        relay->nack_us = 0;
        member_send(m, &relay->asker, &ack, NULL);
        return;
    }
    member_check_ack(m, g->sequence);
    if (!m->probing || g->sequence != m->probe_sequence)
        return;
    struct member_row *row = member_find(m, &m->probe_id);
    m->probing = false;
    m->counts[MEMBER_COUNT_acks]++;
    if (m->health > 0)
        m->health--;
    if (row != NULL && node_id_equal(sender, &m->probe_id)) {
        row->last_ack_us = now_us;
        row->rtt_us = now_us - m->probe_sent_us;
    }
}

/* The one that we asked to probe for us is there, whatever became of the other. */
void member_take_nack(struct membership *m, const struct gossip_NACK *g)
{
    if (m->probing && g->sequence == m->probe_sequence && m->probe_nacks < m->probe_asked)
        m->probe_nacks++;
}

/* Askers learn that their question came through although there is no answer yet. */
static uint64_t send_nacks(struct membership *m, uint64_t now_us)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < MEMBER_RELAYS; i++) {
        struct member_relay *relay = &m->relay[i];

        if (relay->nack_us != 0 && now_us >= relay->nack_us) {
            struct gossip nack = {.kind = GOSSIP_NACK,
                                  .u.NACK = {.sequence = relay->asked_sequence}};
            relay->nack_us = 0;
            member_send(m, &relay->asker, &nack, NULL);
        }
        if (relay->nack_us != 0 && relay->nack_us < next)
            next = relay->nack_us;
    }
    return next;
}

/* ---- probing ---- */

static void shuffle(struct membership *m)
{
    m->order_count = 0;
    m->order_next = 0;
    for (uint16_t i = 1; i < m->count; i++)
        if (m->row[i].m.state != MEMBER_LEFT)
            m->order[m->order_count++] = i;
    for (uint16_t i = m->order_count; i > 1; i--) {
        uint16_t k = (uint16_t)rand_below(&m->rand, i);
        uint16_t swap = m->order[i - 1];

        m->order[i - 1] = m->order[k];
        m->order[k] = swap;
    }
}

/* The next member of the round; faulty ones are passed over, see poke_faulty(). */
static struct member_row *next_to_probe(struct membership *m)
{
    for (int round = 0; round < 2; round++) {
        while (m->order_next < m->order_count) {
            uint16_t i = m->order[m->order_next++];

            if (i < m->count && m->row[i].m.state < MEMBER_FAULTY)
                return &m->row[i];
        }
        shuffle(m);
    }
    return NULL;
}

static void begin_probe(struct membership *m, struct member_row *row, uint64_t now_us)
{
    m->probing = true;
    m->indirect = m->probe_forgiven = false;
    m->probe_asked = m->probe_nacks = 0;
    m->probe_id = row->m.id;
    m->probe_sequence = ++m->sequence;
    m->probe_sent_us = now_us;
    m->probe_indirect_us = now_us + m->conf.probe_timeout_us * (1 + m->health);
    m->probe_end_us = now_us + PROBE_ROUNDS * m->conf.probe_timeout_us * (1 + m->health);
    m->counts[MEMBER_COUNT_probes]++;
    struct gossip probe = member_probe_message(m->probe_sequence, &row->m.id);
    struct member_endpoint to = member_endpoint_of(&row->m);
    member_send(m, &to, &probe, row);
}

static void probe_indirectly(struct membership *m)
{
    struct gossip ask = {.kind = GOSSIP_PROBE_FOR,
                         .u.PROBE_FOR = {.sequence = m->probe_sequence,
                                         .target = slice_of(m->probe_id.b, NODE_ID_BYTES)}};

    m->indirect = true;
    if (m->count < 3)
        return;
    uint16_t start = (uint16_t)(1 + rand_below(&m->rand, m->count - 1u));
    for (uint16_t k = 0; k + 1 < m->count && m->probe_asked < INDIRECT_PROBES; k++) {
        uint16_t i = (uint16_t)(1 + (start - 1 + k) % (m->count - 1));
        struct member_row *row = &m->row[i];

        if (row->m.state != MEMBER_ALIVE || node_id_equal(&row->m.id, &m->probe_id))
            continue;
        struct member_endpoint to = member_endpoint_of(&row->m);
        member_send(m, &to, &ask, NULL);
        m->counts[MEMBER_COUNT_indirect_probes]++;
        m->probe_asked++;
    }
}

static void fail_probe(struct membership *m, uint64_t now_us)
{
    struct member_row *row = member_find(m, &m->probe_id);

    m->probing = false;
    m->counts[MEMBER_COUNT_probes_failed]++;
    /* Not even those whom we asked for help were there: perhaps it is us (Lifeguard §IV-A). */
    if (m->probe_asked > 0 && m->probe_nacks == 0 && m->health < HEALTH_WORST)
        m->health++;
    if (row != NULL)
        member_suspect(m, row, &m->row[0].m.id, now_us);
}

/* Faulty members and unmet founders are tried once in a while: one of each an interval. */
static void poke(struct membership *m)
{
    uint16_t start = (uint16_t)rand_below(&m->rand, m->count);
    struct gossip probe;

    for (uint16_t k = 0; k < m->count; k++) {
        struct member_row *row = &m->row[(start + k) % m->count];

        if (row->m.state != MEMBER_FAULTY)
            continue;
        struct member_endpoint to = member_endpoint_of(&row->m);
        probe = member_probe_message(++m->sequence, NULL);
        member_send(m, &to, &probe, row);
        break;
    }
    for (uint32_t i = 0; i < m->conf.seed_count; i++) {
        const struct member_endpoint *seed = &m->conf.seeds[i];
        bool met = false;

        for (uint16_t k = 0; k < m->count && !met; k++)
            met = m->row[k].m.gossip_port == seed->port &&
                  strcmp(m->row[k].m.address, seed->address) == 0;
        if (met)
            continue;
        probe = member_probe_message(++m->sequence, NULL);
        member_send(m, seed, &probe, NULL);
    }
}

static void sync_sometimes(struct membership *m)
{
    if (m->count < 2 || rand_below(&m->rand, SYNC_EVERY) != 0)
        return;
    struct member_row *row = &m->row[1 + rand_below(&m->rand, m->count - 1u)];

    if (row->m.state < MEMBER_FAULTY)
        m->host.sync(m->host.arg, row->m.address, row->m.gossip_port);
}

/* We did not run for a while: what others failed to answer meanwhile says nothing about them. What
 * was under way gets that time again, and some for answers that wait to be read; but only once, so
 * that a machine that is always late still comes to an end with a dead member. */
static void notice_own_pause(struct membership *m, uint64_t now_us)
{
    if (m->promised_us == 0 || now_us < m->promised_us + m->conf.probe_timeout_us / 2)
        return;
    uint64_t more = now_us - m->promised_us + m->conf.probe_timeout_us;

    m->counts[MEMBER_COUNT_own_pauses]++;
    if (!m->probe_forgiven) {
        m->probe_indirect_us += more;
        m->probe_end_us += more;
    }
    m->probe_forgiven = true;
    for (unsigned i = 0; i < MEMBER_CHECKS; i++) {
        if (!m->check[i].forgiven)
            m->check[i].next_us += more;
        m->check[i].forgiven = true;
    }
    for (uint16_t i = 1; i < m->count; i++) {
        if (!m->row[i].forgiven) {
            m->row[i].suspected_us += more;
            m->row[i].faulty_at_us += more;
        }
        m->row[i].forgiven = true;
    }
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t member_step(struct membership *m, uint64_t now_us)
{
    notice_own_pause(m, now_us);
    if (m->probing && !m->indirect && now_us >= m->probe_indirect_us)
        probe_indirectly(m);
    if (m->probing && now_us >= m->probe_end_us)
        fail_probe(m, now_us);
    uint64_t next = earliest(member_suspect_step(m, now_us), send_nacks(m, now_us));
    if (now_us >= m->tick_us) {
        bool founding = m->ring.epoch == 0;

        m->tick_us =
            now_us + (founding ? m->conf.probe_interval_us / 10 : m->conf.probe_interval_us);
        poke(m);
        sync_sometimes(m);
        if (!m->probing) {
            struct member_row *row = next_to_probe(m);

            if (row != NULL)
                begin_probe(m, row, now_us);
        }
    }
    member_try_founding(m);
    next = earliest(next, m->tick_us);
    if (m->probing)
        next = earliest(next, m->indirect ? m->probe_end_us : m->probe_indirect_us);
    m->promised_us = next;
    return next;
}

void member_hint_down(struct membership *m, const struct node_id *id, uint64_t now_us)
{
    struct member_row *row = member_find(m, id);

    if (row != NULL && row != &m->row[0] && row->m.state == MEMBER_ALIVE)
        member_check(m, row, now_us);
}
