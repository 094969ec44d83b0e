/* Membership: probing, relays, suspicion timers, and the packets that carry news. */
#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"
#include "core/planted.h"

#include <string.h>

#define INDIRECT_PROBES 3 /* SWIM's k */
#define PROBE_ROUNDS    2 /* a probe lasts so many timeouts: one direct, one for the indirect way */
#define NEWS_IN_PACKET  24
#define SYNC_EVERY      10 /* intervals between full exchanges with a random member */
#define PROBE_CHOICE    8  /* of so many next in the round the one least heard of is probed */

/* ---- packets ---- */

/* Send a first message with the ring's digest, news about `about` (NULL: nobody in particular), this
 * node's own, and what has been passed on least often so far. What is said against the receiver comes
 * before the question whether it is there: so its answer refutes it. */
void member_send(struct membership *m, const struct member_endpoint *to, const struct gossip *first,
                 const struct member_row *about)
{
    struct gossip list[4 + NEWS_IN_PACKET];
    struct member_row *news[NEWS_IN_PACKET];
    unsigned count = 0;

    if (about != NULL && about != &m->row[0] && about->m.state != MEMBER_ALIVE)
        list[count++] = member_news_of(m, about);
    list[count++] = *first;
    list[count++] = member_digest(m);
    list[count++] = member_news_of(m, &m->row[0]);
    unsigned must = count, fresh = member_news_list(m, news, NEWS_IN_PACKET), kept = 0;
    for (unsigned i = 0; i < fresh; i++) {
        if (news[i] == about)
            continue;
        news[kept++] = news[i];
        list[count++] = member_news_of(m, news[i]);
    }
    unsigned sent = m->host.send(m->host.arg, to->address, to->port, list, must, count);
    for (unsigned i = must; i < sent && i < count; i++)
        member_spread_less(m, news[i - must]);
}

void member_send_stream(struct membership *m, const struct member_row *row,
                        const struct gossip *probe)
{
    struct gossip list[4];
    unsigned count = 0;

    if (row->m.state != MEMBER_ALIVE)
        list[count++] = member_news_of(m, row);
    list[count++] = *probe;
    list[count++] = member_news_of(m, &m->row[0]);
    list[count++] = member_digest(m);
    m->counts[MEMBER_COUNT_stream_probes]++;
    m->host.stream(m->host.arg, row->m.address, row->m.gossip_port, list, count);
}

struct member_endpoint member_endpoint_of(const struct member *m)
{
    struct member_endpoint e = {.port = m->gossip_port};

    memcpy(e.address, m->address, sizeof e.address);
    return e;
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
        return 0;          /* meant for whoever was at this address before */
    if (from->port == 0) { /* the answer goes the same way: member_tell() */
        m->stream_asked = true;
        m->stream_sequence = g->sequence;
        return 0;
    }
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
        row->rtt_us = (uint32_t)(now_us - m->probe_sent_us);
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
    m->order_next = 0;
    for (uint16_t i = m->order_count; i > 1; i--) {
        uint16_t k = (uint16_t)rand_below(&m->rand, i);
        uint16_t swap = m->order[i - 1];

        m->order[i - 1] = m->order[k];
        m->order[k] = swap;
    }
}

void member_enter_round(struct membership *m, uint16_t row)
{
    uint16_t at =
        (uint16_t)(m->order_next + rand_below(&m->rand, m->order_count - m->order_next + 1u));

    m->order[m->order_count++] = m->order[at];
    m->order[at] = row;
}

/* Go on in the round, past those that are not probed in turn: faulty ones, see poke(). */
static void advance(struct membership *m)
{
    for (uint16_t k = 0; k < m->order_count; k++) {
        if (m->order_next == m->order_count)
            shuffle(m);
        if (m->row[m->order[m->order_next]].m.state < MEMBER_FAULTY)
            return;
        m->order_next++;
    }
}

/* The next member of the round; but of the few behind it (and, near its end, those of its beginning)
 * the one goes first that has been silent for longest. The dead are silent: in a small cluster they
 * are probed at once, and in a large one nobody's turn is put off for longer than the round lasts,
 * unless it is heard of. */
static struct member_row *next_to_probe(struct membership *m)
{
    uint16_t best = MEMBER_NO_ROW;

    advance(m);
    for (uint16_t k = 0; k < m->order_count && k < PROBE_CHOICE; k++) {
        uint16_t at = (uint16_t)((m->order_next + k) % m->order_count);
        const struct member_row *row = &m->row[m->order[at]];

        if (row->m.state < MEMBER_FAULTY &&
            (best == MEMBER_NO_ROW || row->heard_us < m->row[m->order[best]].heard_us))
            best = at;
    }
    if (best == MEMBER_NO_ROW)
        return NULL;
    uint16_t row = m->order[best];
    if (best >= m->order_next) { /* not yet in this round */
        m->order[best] = m->order[m->order_next];
        m->order[m->order_next++] = row;
    }
    return &m->row[row];
}

static void begin_probe(struct membership *m, struct member_row *row, uint64_t now_us)
{
    m->probing = true;
    m->indirect = false;
    m->probe_forgiven_us = 0;
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

/* Through others, and by a stream: perhaps it is datagrams that do not get through. */
static void probe_indirectly(struct membership *m)
{
    struct gossip ask = {.kind = GOSSIP_PROBE_FOR,
                         .u.PROBE_FOR = {.sequence = m->probe_sequence,
                                         .target = slice_of(m->probe_id.b, NODE_ID_BYTES)}};

    struct member_row *target = member_find(m, &m->probe_id);

    m->indirect = true;
    if (COORD_BUG(NOBODY_HELPS))
        return;
    if (target != NULL) {
        struct gossip probe = member_probe_message(m->probe_sequence, &m->probe_id);

        member_send_stream(m, target, &probe);
    }
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
    if (m->probe_asked > 0 && m->probe_nacks == 0 && m->health < MEMBER_HEALTH_WORST)
        m->health++;
    if (row != NULL)
        member_suspect(m, row, 0, true, now_us);
}

/* Faulty members and unmet founders are tried once in a while. Where there is no ring yet, founders are
 * unmet until they have said what ring they know. */
static void poke(struct membership *m)
{
    struct gossip probe;

    if (m->faulty_count > 0) {
        struct member_row *row = &m->row[m->faulty[rand_below(&m->rand, m->faulty_count)]];
        struct member_endpoint to = member_endpoint_of(&row->m);

        probe = member_probe_message(++m->sequence, NULL);
        member_send(m, &to, &probe, row);
    }
    for (uint32_t i = 0; i < m->conf.seed_count; i++) {
        const struct member_endpoint *seed = &m->conf.seeds[i];
        const struct member_row *row = member_find_place(m, seed->address, seed->port);

        if (row != NULL && (m->ring.epoch != 0 || row == &m->row[0] || row->ring_heard))
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

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t member_step(struct membership *m, uint64_t now_us)
{
    member_notice_pause(m, now_us);
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
