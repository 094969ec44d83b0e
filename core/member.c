/* Membership: rows, news about them, and the entry points. See member.h. */
#include "core/member.h"

#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"

#include <string.h>

struct member_row *member_find(struct membership *m, const struct node_id *id)
{
    for (uint16_t i = 0; i < m->count; i++)
        if (node_id_equal(&m->row[i].m.id, id))
            return &m->row[i];
    return NULL;
}

bool member_same_place(const struct member *a, const struct member *b)
{
    return a->gossip_port == b->gossip_port && strcmp(a->address, b->address) == 0;
}

struct member_endpoint member_endpoint_of(const struct member *m)
{
    struct member_endpoint e = {.port = m->gossip_port};

    memcpy(e.address, m->address, sizeof e.address);
    return e;
}

/* News is passed on about 3 log2(n) times by each member (SWIM §4.1, lambda log n). */
void member_spread(struct membership *m, struct member_row *row)
{
    uint32_t log = 1;

    while ((1u << log) < m->count + 1u)
        log++;
    row->transmissions = 3 * log;
}

void member_set_state(struct membership *m, struct member_row *row, uint8_t state, uint64_t now_us)
{
    if (row->m.state == state)
        return;
    row->m.state = state;
    row->since_us = now_us;
    row->confirmers = 0;
    if (state == MEMBER_FAULTY)
        m->counts[MEMBER_COUNT_faulty]++;
    member_spread(m, row);
    m->host.changed(m->host.arg, false);
}

/* ---- news ---- */

struct gossip member_news_of(const struct member_row *row)
{
    const struct member *m = &row->m;

    return (struct gossip){
        .kind = GOSSIP_NEWS,
        .u.NEWS = {.id = slice_of(m->id.b, NODE_ID_BYTES),
                   .name = slice_str(m->name),
                   .zone = slice_str(m->zone),
                   .address = slice_str(m->address),
                   .port = m->port,
                   .worker_port = m->worker_port,
                   .peer_port = m->peer_port,
                   .gossip_port = m->gossip_port,
                   .workers = m->workers,
                   .weight = m->weight,
                   .state = m->state,
                   .protocol = m->protocol,
                   .incarnation = m->incarnation,
                   .by = m->state == MEMBER_SUSPECT && row->confirmers > 0
                             ? slice_of(row->confirmer[0].b, NODE_ID_BYTES)
                             : slice_of(NULL, 0)},
    };
}

static bool take_text(char *out, size_t size, struct slice s)
{
    if (s.len >= size || (s.len > 0 && memchr(s.data, 0, s.len) != NULL))
        return false;
    if (s.len > 0)
        memcpy(out, s.data, s.len);
    out[s.len] = 0;
    return true;
}

static int read_news(const struct gossip_NEWS *g, struct member *out)
{
    memset(out, 0, sizeof *out);
    if (g->id.len != NODE_ID_BYTES || g->state > MEMBER_LEFT || g->workers < 1 ||
        g->workers > LIMIT_WORKERS || g->port > 65535 || g->worker_port > 65535 ||
        g->peer_port > 65535 || g->gossip_port < 1 || g->gossip_port > 65535 || g->weight < 1 ||
        g->weight > 65535 || g->address.len == 0 || g->name.len == 0 || g->protocol < 1 ||
        (g->by.len != 0 && g->by.len != NODE_ID_BYTES) || g->incarnation == UINT64_MAX)
        return -ERR_FORMAT;
    if (!take_text(out->name, sizeof out->name, g->name) ||
        !take_text(out->zone, sizeof out->zone, g->zone) ||
        !take_text(out->address, sizeof out->address, g->address))
        return -ERR_FORMAT;
    memcpy(out->id.b, g->id.data, NODE_ID_BYTES);
    out->port = (uint16_t)g->port;
    out->worker_port = (uint16_t)g->worker_port;
    out->peer_port = (uint16_t)g->peer_port;
    out->gossip_port = (uint16_t)g->gossip_port;
    out->workers = (uint16_t)g->workers;
    out->weight = (uint16_t)g->weight;
    out->state = g->state;
    out->protocol = g->protocol;
    out->incarnation = g->incarnation;
    return 0;
}

/* Does (state, incarnation) override what is known? (SWIM §4.2; left overrides like faulty.) */
static bool overrides(const struct member *news, const struct member *known)
{
    if (news->incarnation != known->incarnation)
        return news->incarnation > known->incarnation;
    return news->state > known->state;
}

static struct member_row *find_name(struct membership *m, const char *name)
{
    for (uint16_t i = 0; i < m->count; i++)
        if (strcmp(m->row[i].m.name, name) == 0)
            return &m->row[i];
    return NULL;
}

static struct member_row *find_place(struct membership *m, const struct member *place)
{
    for (uint16_t i = 0; i < m->count; i++)
        if (m->row[i].m.state != MEMBER_LEFT && member_same_place(&m->row[i].m, place))
            return &m->row[i];
    return NULL;
}

static void refuse(struct membership *m, const struct member_endpoint *to, uint32_t reason)
{
    struct gossip g = {.kind = GOSSIP_REFUSED,
                       .u.REFUSED = {.reason = reason, .text = slice_str(m->row[0].m.name)}};

    m->host.send(m->host.arg, to->address, to->port, &g, 1, 1);
}

/* A process with another id at a known address: the one with the newer incarnation is the one that is
 * there. If it has the name too, it is the same node after losing its disk, and the ring follows. */
static struct member_row *take_place(struct membership *m, struct member_row *placed,
                                     struct member_row *named, const struct member *news)
{
    if (placed == &m->row[0]) {
        if (news->incarnation > placed->m.incarnation)
            member_refute(m, news->incarnation);
        return NULL;
    }
    if (news->incarnation <= placed->m.incarnation)
        return NULL;
    if (named != placed && member_in_ring(m, &placed->m.id))
        return NULL;
    return placed;
}

/* Of two members with one name one has to go: the one that is not in the ring, else the one that is
 * not there, else the one that came later. Every member judges alike, the two included. */
static bool has_precedence(const struct membership *m, const struct member *news,
                           const struct member_row *named)
{
    bool news_owns = member_in_ring(m, &news->id), named_owns = member_in_ring(m, &named->m.id);

    if (news_owns != named_owns)
        return news_owns;
    if (named->m.state >= MEMBER_FAULTY && !named_owns)
        return true;
    return news->incarnation < named->m.incarnation;
}

/* News of a member that is not known by its id. Returns the row that it goes to, or NULL. */
static struct member_row *admit(struct membership *m, const struct node_id *sender,
                                const struct member_endpoint *from, const struct member *news,
                                uint64_t now_us)
{
    struct member_row *named = find_name(m, news->name);
    struct member_row *placed = find_place(m, news);

    if (news->state == MEMBER_LEFT)
        return NULL;
    if (named != NULL && !member_same_place(&named->m, news)) {
        if (!has_precedence(m, news, named)) {
            if (node_id_equal(sender, &news->id))
                refuse(m, from, GOSSIP_REFUSED_NAME);
            if (named != &m->row[0])
                member_check(m, named, now_us);
            return NULL;
        }
        if (named != &m->row[0] && !member_in_ring(m, &named->m.id) &&
            named->m.state >= MEMBER_FAULTY && placed == NULL)
            return named; /* a row that nobody needs */
    }
    if (placed != NULL)
        return take_place(m, placed, named, news);
    return m->count == LIMIT_MEMBERS ? NULL : &m->row[m->count++];
}

static void take_first_news(struct membership *m, struct member_row *row, const struct member *news,
                            const struct node_id *by, uint64_t now_us)
{
    struct node_id before = row->m.id;

    memset(row, 0, sizeof *row);
    row->m = *news;
    row->before = before; /* zero in a row that was free */
    row->since_us = now_us;
    if (news->state == MEMBER_SUSPECT) { /* let the timer run from here */
        row->m.state = MEMBER_ALIVE;
        member_suspect(m, row, by, now_us);
    }
    member_spread(m, row);
    member_mend_ring(m);
    m->host.changed(m->host.arg, true);
}

static void take_own_news(struct membership *m, const struct node_id *sender,
                          const struct member_endpoint *from, const struct member *news)
{
    const struct member *self = &m->row[0].m;

    if (!member_same_place(self, news)) {
        /* A copied data directory: whoever started later has to go. */
        if (node_id_equal(sender, &news->id) && news->incarnation > self->incarnation)
            refuse(m, from, GOSSIP_REFUSED_ID);
    } else if (news->incarnation > self->incarnation ||
               (news->incarnation == self->incarnation && news->state != MEMBER_ALIVE)) {
        member_refute(m, news->incarnation);
    }
}

/* News that overrides what is known of a member. */
static void take_newer_news(struct membership *m, struct member_row *row, const struct member *news,
                            const struct node_id *by, uint64_t now_us)
{
    bool moved = !member_same_place(&row->m, news) || row->m.workers != news->workers ||
                 row->m.peer_port != news->peer_port;
    bool newer = news->incarnation > row->m.incarnation;
    uint8_t was = row->m.state;

    row->m = *news;
    row->m.state = was;
    if (news->state == MEMBER_SUSPECT) {
        if (newer && was != MEMBER_ALIVE)
            member_set_state(m, row, MEMBER_ALIVE, now_us);
        member_suspect(m, row, by, now_us);
    } else {
        member_set_state(m, row, news->state, now_us);
    }
    member_spread(m, row);
    if (moved)
        m->host.changed(m->host.arg, true);
}

int member_take_news(struct membership *m, const struct node_id *sender,
                     const struct member_endpoint *from, const struct gossip_NEWS *g,
                     uint64_t now_us)
{
    struct member news;
    struct node_id by = *sender;
    int rc = read_news(g, &news);

    if (rc != 0)
        return rc;
    if (g->by.len == NODE_ID_BYTES)
        memcpy(by.b, g->by.data, NODE_ID_BYTES);
    struct member_row *row = member_find(m, &news.id);
    if (row == &m->row[0]) {
        take_own_news(m, sender, from, &news);
        return 0;
    }
    if (row == NULL) {
        row = admit(m, sender, from, &news, now_us);
        if (row != NULL)
            take_first_news(m, row, &news, &by, now_us);
        return 0;
    }
    if (!member_same_place(&row->m, &news) && row->m.state < MEMBER_FAULTY &&
        news.incarnation > row->m.incarnation) {
        /* It has moved, or there are two of it: the address that answers is the one that counts. */
        if (node_id_equal(sender, &news.id))
            refuse(m, from, GOSSIP_REFUSED_ID);
        member_check(m, row, now_us);
        return 0;
    }
    if (news.state == MEMBER_SUSPECT && row->m.state == MEMBER_SUSPECT &&
        news.incarnation == row->m.incarnation)
        member_suspect(m, row, &by, now_us);
    else if (overrides(&news, &row->m))
        take_newer_news(m, row, &news, &by, now_us);
    return 0;
}

/* A refusal that lasts is final; one that passes was about an address that we have just left. */
static void take_refusal(struct membership *m, const struct gossip_REFUSED *g, uint64_t now_us)
{
    if (now_us > m->refused_us + m->conf.suspicion_us)
        m->refused_since_us = now_us;
    m->refused_us = now_us;
    if (now_us < m->refused_since_us + 2 * m->conf.suspicion_us)
        return;
    m->host.refused(m->host.arg, g->reason == GOSSIP_REFUSED_NAME
                                     ? "another member has this node's name"
                                     : "another living member has this node's id");
}

static void take_digest(struct membership *m, struct member_row *row,
                        const struct member_endpoint *from, const struct gossip_DIGEST *g,
                        uint64_t now_us)
{
    const struct gossip own = member_digest(m);
    const struct gossip_DIGEST *mine = &own.u.DIGEST;

    if (row != NULL) {
        row->ring_heard = true;
        row->ring_epoch = g->epoch;
    }
    if (g->epoch == mine->epoch && slice_equal(g->proposer, mine->proposer) &&
        g->members_hash == mine->members_hash)
        return;
    if (from->port == 0 || now_us < m->sync_us)
        return; /* this is a full exchange, or the last one was a moment ago */
    m->sync_us = now_us + m->conf.probe_interval_us / 4;
    m->host.sync(m->host.arg, from->address, from->port);
}

/* ---- entry points ---- */

void member_init(struct membership *m, const struct member_conf *conf,
                 const struct member_host *host, const struct member *self, uint64_t wall_ms,
                 uint64_t seed)
{
    ASSERT(conf->seed_count <= MEMBER_SEEDS);
    memset(m, 0, sizeof *m);
    m->conf = *conf;
    m->host = *host;
    rand_seed(&m->rand, seed);
    m->sequence = rand_next(&m->rand) >> 16;
    m->count = 1;
    m->row[0].m = *self;
    m->row[0].m.state = MEMBER_ALIVE;
    m->row[0].m.protocol = MEMBER_PROTOCOL;
    m->row[0].m.incarnation = wall_ms;
    m->ring.q_bits = conf->q_bits;
    m->ring.n = conf->n;
    member_spread(m, &m->row[0]);
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
        break;
    case GOSSIP_NEWS:
        rc = member_take_news(m, sender, from, &g->u.NEWS, now_us);
        break;
    case GOSSIP_RING:
        rc = member_take_ring(m, &g->u.RING);
        break;
    case GOSSIP_DIGEST:
        if (g->u.DIGEST.proposer.len == NODE_ID_BYTES)
            take_digest(m, row, from, &g->u.DIGEST, now_us);
        else
            rc = -ERR_FORMAT;
        break;
    case GOSSIP_REFUSED:
        take_refusal(m, &g->u.REFUSED, now_us);
        break;
    default:
        rc = -ERR_FORMAT;
    }
    if (rc != 0)
        m->counts[MEMBER_COUNT_bad]++;
    member_try_founding(m);
    return rc;
}

void member_tell_all(const struct membership *m, bool answer,
                     void (*emit)(void *arg, const struct gossip *g), void *arg)
{
    uint8_t owner[2 * LIMIT_PARTITIONS];
    struct gossip g = {.kind = GOSSIP_SYNC, .u.SYNC = {.answer = answer}};

    emit(arg, &g);
    for (uint16_t i = 0; i < m->count; i++) {
        g = member_news_of(&m->row[i]);
        emit(arg, &g);
    }
    if (m->ring.epoch != 0) {
        g = member_ring_message(m, owner);
        emit(arg, &g);
    }
    g = member_digest(m);
    emit(arg, &g);
}
