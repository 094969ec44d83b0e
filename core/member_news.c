/* Membership: news about members: what is said, what is believed, who is admitted. */
#include "base/check.h"
#include "base/err.h"
#include "core/member_impl.h"

#include <string.h>

bool member_same_place(const struct member *a, const struct member *b)
{
    return a->gossip_port == b->gossip_port && strcmp(a->address, b->address) == 0;
}

void member_set_state(struct membership *m, struct member_row *row, uint8_t state, uint64_t now_us)
{
    if (row->m.state == state)
        return;
    row->m.state = state;
    row->since_us = now_us;
    row->confirmers = 0;
    member_index_update(m, row);
    if (state == MEMBER_FAULTY)
        m->counts[MEMBER_COUNT_faulty]++;
    member_spread(m, row);
    m->host.changed(m->host.arg, false);
}

/* ---- saying and reading ---- */

/* In whose name a suspicion is passed on. Zeros: in that of somebody whom we do not know. */
static struct slice accuser_of(const struct membership *m, const struct member_row *row)
{
    static const struct node_id unknown;

    if (row->m.state != MEMBER_SUSPECT || row->confirmers == 0)
        return slice_of(NULL, 0);
    return slice_of(row->confirmer[0] == MEMBER_NO_ROW ? unknown.b
                                                       : m->row[row->confirmer[0]].m.id.b,
                    NODE_ID_BYTES);
}

struct gossip member_news_of(const struct membership *all, const struct member_row *row)
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
                   .protocol_oldest = m->protocol_oldest,
                   .incarnation = m->incarnation,
                   .by = accuser_of(all, row),
                   .repair_port = m->repair_port},
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
        g->repair_port > 65535 || (g->by.len != 0 && g->by.len != NODE_ID_BYTES) ||
        g->incarnation == UINT64_MAX)
        return -ERR_FORMAT;
    if (!take_text(out->name, sizeof out->name, g->name) ||
        !take_text(out->zone, sizeof out->zone, g->zone) ||
        !take_text(out->address, sizeof out->address, g->address))
        return -ERR_FORMAT;
    memcpy(out->id.b, g->id.data, NODE_ID_BYTES);
    if (node_id_is_zero(&out->id))
        return -ERR_FORMAT;
    out->port = (uint16_t)g->port;
    out->worker_port = (uint16_t)g->worker_port;
    out->peer_port = (uint16_t)g->peer_port;
    out->gossip_port = (uint16_t)g->gossip_port;
    out->repair_port = (uint16_t)g->repair_port;
    out->workers = (uint16_t)g->workers;
    out->weight = (uint16_t)g->weight;
    out->state = g->state;
    out->protocol = g->protocol;
    out->protocol_oldest = g->protocol_oldest > 0 ? g->protocol_oldest : 1;
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

static struct protocol_range speaks(const struct member *m)
{
    return (struct protocol_range){.oldest = m->protocol_oldest, .newest = m->protocol};
}

/* Can this member speak with all others of the ring, and with us? Everybody has the same ring and
 * judges alike. */
static bool is_compatible(const struct membership *m, const struct member *news)
{
    const struct member_row *known = member_find(m, &news->id);
    struct protocol_range all = speaks(&m->row[0].m);

    if (known != NULL && known->m.protocol == news->protocol &&
        known->m.protocol_oldest == news->protocol_oldest)
        return true;
    for (uint16_t i = 0; i < m->ring.count; i++) {
        const struct member_row *row = member_find(m, &m->ring.id[i]);

        if (m->ring.left[i] || row == NULL || row == known || row->m.protocol == 0)
            continue;
        all.oldest = row->m.protocol_oldest > all.oldest ? row->m.protocol_oldest : all.oldest;
        all.newest = row->m.protocol < all.newest ? row->m.protocol : all.newest;
    }
    return protocol_common(all, speaks(news)) != 0;
}

/* Of two that have no version in common one has to go, as of two with one name. */
static void take_incompatible(struct membership *m, const struct node_id *sender,
                              const struct member_endpoint *from, const struct member *news,
                              uint64_t now_us)
{
    if (node_id_is_zero(sender) || news->state >= MEMBER_FAULTY)
        return; /* what an earlier run has saved; or it is not there */
    m->counts[MEMBER_COUNT_incompatible]++;
    if (protocol_common(speaks(&m->row[0].m), speaks(news)) == 0 &&
        has_precedence(m, news, &m->row[0]))
        member_note_refusal(m, GOSSIP_REFUSED_VERSION, now_us);
    else if (node_id_equal(sender, &news->id))
        refuse(m, from, GOSSIP_REFUSED_VERSION);
}

/* A row for one more member. When all are taken, one who is gone and not in the ring makes room: the one
 * with the lowest incarnation, so that everybody keeps the same. */
static struct member_row *make_room(struct membership *m, const struct member *news)
{
    struct member_row *gone = NULL;

    if (m->count < m->capacity) {
        struct member_row *row = &m->row[m->count++];

        memset(row, 0, sizeof *row);
        member_enter_round(m, member_number(m, row));
        return row;
    }
    for (uint16_t i = 1; i < m->count; i++) {
        struct member_row *row = &m->row[i];

        if (row->m.state >= MEMBER_FAULTY && !member_in_ring(m, &row->m.id) &&
            (gone == NULL || row->m.incarnation < gone->m.incarnation))
            gone = row;
    }
    if (gone == NULL || (news->state >= MEMBER_FAULTY && news->incarnation <= gone->m.incarnation))
        return NULL;
    member_index_remove(m, gone);
    memset(gone, 0, sizeof *gone);
    return gone;
}

/* News of a member that is not known by its id. Returns the row that it goes to, or NULL. */
static struct member_row *admit(struct membership *m, const struct node_id *sender,
                                const struct member_endpoint *from, const struct member *news,
                                uint64_t now_us)
{
    struct member_row *named = member_find_name(m, news->name);
    struct member_row *placed = member_find_place(m, news->address, news->gossip_port);

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
    return make_room(m, news);
}

static void take_first_news(struct membership *m, struct member_row *row, const struct member *news,
                            uint16_t by, bool direct, uint64_t now_us)
{
    struct node_id before = row->m.id;

    if (!node_id_is_zero(&before)) /* zero in a row that was free */
        member_index_remove(m, row);
    memset(row, 0, sizeof *row);
    row->m = *news;
    row->before = before;
    row->since_us = now_us;
    if (news->state == MEMBER_SUSPECT) /* let the timer run from here */
        row->m.state = MEMBER_ALIVE;
    member_index_add(m, row);
    if (news->state == MEMBER_SUSPECT)
        member_suspect(m, row, by, direct, now_us);
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
                            uint16_t by, bool direct, uint64_t now_us)
{
    bool moved = !member_same_place(&row->m, news) || strcmp(row->m.name, news->name) != 0 ||
                 row->m.workers != news->workers || row->m.peer_port != news->peer_port;
    bool newer = news->incarnation > row->m.incarnation;
    uint8_t was = row->m.state;

    if (moved)
        member_index_remove(m, row);
    row->m = *news;
    row->m.state = was;
    if (moved)
        member_index_add(m, row);
    if (news->state == MEMBER_SUSPECT) {
        if (newer && was != MEMBER_ALIVE)
            member_set_state(m, row, MEMBER_ALIVE, now_us);
        member_suspect(m, row, by, direct, now_us);
    } else {
        member_set_state(m, row, news->state, now_us);
    }
    member_index_update(m, row);
    member_spread(m, row);
    if (moved)
        m->host.changed(m->host.arg, true);
}

/* What is known of a member, in the light of news of it. */
static void take_news_of_known(struct membership *m, struct member_row *row,
                               const struct node_id *sender, const struct member_endpoint *from,
                               const struct member *news, uint16_t by, bool direct, uint64_t now_us)
{
    if (!member_same_place(&row->m, news) && row->m.state < MEMBER_FAULTY &&
        news->incarnation > row->m.incarnation) {
        /* It has moved, or there are two of it: the address that answers is the one that counts. */
        if (node_id_equal(sender, &news->id))
            refuse(m, from, GOSSIP_REFUSED_ID);
        member_check(m, row, now_us);
        return;
    }
    if (news->state == MEMBER_SUSPECT && row->m.state == MEMBER_SUSPECT &&
        news->incarnation == row->m.incarnation)
        member_suspect(m, row, by, direct, now_us);
    else if (overrides(news, &row->m))
        take_newer_news(m, row, news, by, direct, now_us);
    /* The other side of an exchange need not be told what it has just said. */
    if (news->incarnation == row->m.incarnation && news->state == row->m.state)
        row->told_in = m->sync_round;
}

int member_take_news(struct membership *m, const struct node_id *sender,
                     const struct member_endpoint *from, const struct gossip_NEWS *g,
                     uint64_t now_us)
{
    struct member news;
    struct node_id accuser = *sender;
    int rc = read_news(g, &news);

    if (rc != 0)
        return rc;
    if (news.incarnation > m->wall_ms + MEMBER_AHEAD_MS) {
        m->counts[MEMBER_COUNT_ahead]++;
        return 0;
    }
    if (g->by.len == NODE_ID_BYTES)
        memcpy(accuser.b, g->by.data, NODE_ID_BYTES);
    uint16_t by = member_number(m, member_find(m, &accuser));
    bool direct = node_id_equal(&accuser, sender);
    struct member_row *row = member_find(m, &news.id);
    if (row == &m->row[0]) {
        take_own_news(m, sender, from, &news);
    } else if (!is_compatible(m, &news)) {
        take_incompatible(m, sender, from, &news, now_us);
        return 0;
    } else if (row == NULL) {
        row = admit(m, sender, from, &news, now_us);
        if (row == NULL)
            return 0;
        take_first_news(m, row, &news, by, direct, now_us);
        row->told_in = m->sync_round;
    } else {
        take_news_of_known(m, row, sender, from, &news, by, direct, now_us);
    }
    if (node_id_is_zero(sender)) /* what an earlier run has saved is no news to anybody else */
        member_spread_no_more(m, row);
    return 0;
}
