/* Membership: rows, news about them, and the entry points. See member.h. */
#include "core/member.h"

#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"

#include <string.h>

#define SUSPICION_SHORTEST 4 /* a suspicion confirmed by all lasts 1/4 of an unconfirmed one */

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
    if (state == MEMBER_SUSPECT) {
        row->suspicions++;
        row->suspected_us = now_us;
        row->faulty_at_us = now_us + m->conf.suspicion_us * (1 + m->health);
        m->counts[MEMBER_COUNT_suspicions]++;
    } else if (state == MEMBER_FAULTY) {
        m->counts[MEMBER_COUNT_faulty]++;
    }
    member_spread(m, row);
    m->host.changed(m->host.arg, false);
}

void member_raise_incarnation(struct membership *m, uint64_t above)
{
    if (m->row[0].m.incarnation <= above)
        m->row[0].m.incarnation = above + 1;
    m->row[0].m.state = MEMBER_ALIVE;
    member_spread(m, &m->row[0]);
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
                   .incarnation = m->incarnation},
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
        g->weight > 65535 || g->address.len == 0 || g->name.len == 0 || g->protocol < 1)
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

/* One more member suspects it: the suspicion gets shorter (Lifeguard §IV-B), from the whole to a
 * quarter, by the logarithm of the confirmations. */
static void confirm(struct membership *m, struct member_row *row, const struct node_id *by)
{
    static const uint32_t percent[MEMBER_CONFIRMERS + 1] = {100, 63, 41, 25, 25};

    for (unsigned i = 0; i < row->confirmers; i++)
        if (node_id_equal(&row->confirmer[i], by))
            return;
    if (row->confirmers == MEMBER_CONFIRMERS)
        return;
    row->confirmer[row->confirmers++] = *by;
    uint64_t lasts = m->conf.suspicion_us * (1 + m->health) * percent[row->confirmers] / 100;

    if (row->suspected_us + lasts < row->faulty_at_us)
        row->faulty_at_us = row->suspected_us + lasts;
    member_spread(m, row);
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

static void refuse(struct membership *m, const struct member_endpoint *to, uint32_t reason,
                   const char *text)
{
    struct gossip g = {.kind = GOSSIP_REFUSED,
                       .u.REFUSED = {.reason = reason, .text = slice_str(text)}};

    m->host.send(m->host.arg, to->address, to->port, &g, 1, 1);
}

/* News of a member that is not known by its id. Returns the row that it goes to, or NULL. */
static struct member_row *admit(struct membership *m, const struct node_id *sender,
                                const struct member_endpoint *from, const struct member *news)
{
    struct member_row *named = find_name(m, news->name);
    struct member_row *placed = find_place(m, news);

    if (news->state == MEMBER_LEFT)
        return NULL;
    if (named != NULL && !member_same_place(&named->m, news)) {
        /* Two living members of one name: the one that came later has to go. */
        if (named->m.state < MEMBER_FAULTY && node_id_equal(sender, &news->id))
            refuse(m, from, GOSSIP_REFUSED_NAME, "another living member has this name");
        return NULL;
    }
    if (placed != NULL) {
        /* A process with another id at a known address: the one with the newer incarnation is the
         * one that is there. The ring follows if it is the same node after losing its disk. */
        if (placed == &m->row[0]) {
            if (news->incarnation > placed->m.incarnation)
                member_raise_incarnation(m, news->incarnation);
            return NULL;
        }
        if (news->incarnation <= placed->m.incarnation)
            return NULL;
        if (named == placed)
            member_replace_in_ring(m, &placed->m.id, &news->id);
        else if (member_in_ring(m, &placed->m.id))
            return NULL;
        return placed;
    }
    if (m->count == LIMIT_MEMBERS)
        return NULL;
    return &m->row[m->count++];
}

int member_take_news(struct membership *m, const struct node_id *sender,
                     const struct member_endpoint *from, const struct gossip_NEWS *g,
                     uint64_t now_us)
{
    struct member news;
    int rc = read_news(g, &news);

    if (rc != 0)
        return rc;
    struct member_row *row = member_find(m, &news.id);
    if (row == &m->row[0]) {
        if (!member_same_place(&row->m, &news) && news.state == MEMBER_ALIVE &&
            node_id_equal(sender, &news.id)) {
            refuse(m, from, GOSSIP_REFUSED_ID, "another living member has this id");
        } else if (news.state != MEMBER_ALIVE && news.incarnation >= row->m.incarnation) {
            m->counts[MEMBER_COUNT_refutations]++;
            member_raise_incarnation(m, news.incarnation);
        } else if (news.incarnation > row->m.incarnation) {
            member_raise_incarnation(m, news.incarnation);
        }
        return 0;
    }
    bool fresh = row == NULL;
    if (fresh) {
        row = admit(m, sender, from, &news);
        if (row == NULL)
            return 0;
        memset(row, 0, sizeof *row);
        row->m = news;
        row->since_us = now_us;
        if (news.state == MEMBER_SUSPECT) { /* let the timer run from here */
            row->m.state = MEMBER_ALIVE;
            member_set_state(m, row, MEMBER_SUSPECT, now_us);
        }
        member_spread(m, row);
        m->host.changed(m->host.arg, true);
        return 0;
    }
    if (news.state == MEMBER_SUSPECT && row->m.state == MEMBER_SUSPECT &&
        news.incarnation == row->m.incarnation)
        confirm(m, row, sender);
    if (!overrides(&news, &row->m))
        return 0;
    uint8_t state = news.state;
    bool moved = !member_same_place(&row->m, &news) || row->m.workers != news.workers ||
                 row->m.peer_port != news.peer_port;
    news.state = row->m.state;
    bool again = news.incarnation > row->m.incarnation && state == MEMBER_SUSPECT &&
                 row->m.state == MEMBER_SUSPECT;
    row->m = news;
    if (again)
        row->m.state = MEMBER_ALIVE;
    member_set_state(m, row, state, now_us);
    member_spread(m, row);
    if (moved)
        m->host.changed(m->host.arg, true);
    return 0;
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

    if (row == &m->row[0])
        return 0; /* our own voice */
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
    case GOSSIP_SYNC:
        break;
    case GOSSIP_NEWS:
        rc = member_take_news(m, sender, from, &g->u.NEWS, now_us);
        break;
    case GOSSIP_RING:
        rc = member_take_ring(m, &g->u.RING);
        break;
    case GOSSIP_DIGEST:
        if (g->u.DIGEST.proposer.len != NODE_ID_BYTES)
            return -ERR_FORMAT;
        if (row != NULL) {
            row->ring_heard = true;
            row->ring_epoch = g->u.DIGEST.epoch;
        }
        const struct gossip mine = member_digest(m);
        if ((g->u.DIGEST.epoch != mine.u.DIGEST.epoch ||
             !slice_equal(g->u.DIGEST.proposer, mine.u.DIGEST.proposer) ||
             g->u.DIGEST.members_hash != mine.u.DIGEST.members_hash) &&
            now_us >= m->sync_us) {
            m->sync_us = now_us + m->conf.probe_interval_us / 4;
            m->host.sync(m->host.arg, from->address, from->port);
        }
        break;
    case GOSSIP_REFUSED:
        if (m->ring.epoch == 0)
            m->host.refused(m->host.arg, "another living member has this node's name or id");
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
