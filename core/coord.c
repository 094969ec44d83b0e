/* Coordination: entry points of a worker's request logic. Decides who coordinates a request, and
 * routes messages, news of the disk and time to those who wait for them. Runs in workers and in the
 * simulator; see coord_impl.h for the other files. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/rand.h"
#include "core/coord_event.h"

/* Where the parts of a coordinator lie in its memory. */
struct layout {
    size_t slots, heap, acks, holds, total;
    uint32_t ack_count, hold_count;
};

#define HOLD_POOL (8u << 20) /* bytes for long keys and old values, besides two blocks a request */

#define LINGER_US 400000u /* how long late answers are waited for while slots are plenty */

static size_t align(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static struct layout layout_of(const struct coord_conf *conf)
{
    struct layout l;

    ASSERT(conf->requests > 0 && conf->requests <= LIMIT_REQUESTS);
    for (l.ack_count = 64; l.ack_count < 4 * conf->requests;)
        l.ack_count *= 2;
    l.hold_count = 2 * conf->requests + HOLD_POOL / HOLD_BLOCK;
    l.slots = align(sizeof(struct coord));
    l.heap = l.slots + align(conf->requests * sizeof(struct request));
    l.acks = l.heap + align(conf->requests * sizeof(uint32_t));
    l.holds = l.acks + align(l.ack_count * sizeof(struct ack));
    l.total = l.holds + align(l.hold_count * sizeof(struct hold_block));
    return l;
}

size_t coord_size(const struct coord_conf *conf)
{
    return layout_of(conf).total;
}

static void check_conf(const struct coord_conf *conf)
{
    ASSERT(conf->rule_count >= 1 && conf->rules[0].prefix.len == 0);
    ASSERT(conf->sibling_limit >= 1 && conf->sibling_limit <= LIMIT_SIBLINGS);
    ASSERT(conf->timeout_ms > 0 && conf->replica_ms > 0 && conf->hedge_min_ms > 0);
    for (uint32_t i = 0; i < conf->rule_count; i++)
        ASSERT(conf->rules[i].n >= 1 && conf->rules[i].n <= LIMIT_REPLICAS);
}

struct coord *coord_init(void *memory, const struct coord_conf *conf, const struct coord_host *host,
                         struct buf *scratch_a, struct buf *scratch_b, uint16_t worker,
                         uint64_t seed)
{
    struct layout l = layout_of(conf);
    uint8_t *at = memory;
    struct coord *c = memory;
    struct rand rand;

    check_conf(conf);
    memset(c, 0, sizeof *c);
    c->magic = COORD_MAGIC;
    c->worker = worker;
    c->conf = *conf;
    c->host = *host;
    c->scratch_a = scratch_a;
    c->scratch_b = scratch_b;
    /* Ids of an earlier life of this worker must not be taken for those of this one. */
    rand_seed(&rand, seed);
    table_init(&c->table, (struct request *)(at + l.slots), (uint32_t *)(at + l.heap),
               conf->requests, rand_next(&rand) >> 17);
    c->acks = (struct acks){.ring = (struct ack *)(at + l.acks), .mask = l.ack_count - 1};
    hold_init(&c->holds, (struct hold_block *)(at + l.holds), l.hold_count);
    return c;
}

void coord_set_conf(struct coord *c, const struct coord_conf *conf)
{
    CHECK_MAGIC(c, COORD_MAGIC);
    ASSERT(conf->requests == c->conf.requests);
    check_conf(conf);
    c->conf = *conf;
}

void coord_set_view(struct coord *c, const struct ring_view *view, const struct ring_index *index)
{
    CHECK_MAGIC(c, COORD_MAGIC);
    c->view = view;
    c->index = index;
}

uint32_t coord_in_flight(const struct coord *c)
{
    CHECK_MAGIC(c, COORD_MAGIC);
    return c->table.used + (c->acks.tail - c->acks.head);
}

void coord_enter(struct coord *c, uint64_t now_us, uint64_t wall_ms)
{
    CHECK_MAGIC(c, COORD_MAGIC);
    c->now_us = now_us;
    c->wall_ms = wall_ms;
    c->object_of = 0;
}

/* ---- Places and rules. */

static const struct quorum_rule *rule_for(const struct coord *c, struct slice key)
{
    const struct quorum_rule *best = &c->conf.rules[0];

    for (uint32_t i = 1; i < c->conf.rule_count; i++) {
        const struct quorum_rule *rule = &c->conf.rules[i];

        if (rule->prefix.len >= best->prefix.len && rule->prefix.len <= key.len &&
            memcmp(rule->prefix.data, key.data, rule->prefix.len) == 0)
            best = rule;
    }
    return best;
}

uint16_t coord_worker_at(const struct coord *c, uint16_t member, uint32_t partition)
{
    return ring_worker_of(partition, c->view->members[member].workers);
}

bool coord_place(const struct coord *c, struct slice key, struct place *out)
{
    if (c->view == NULL || c->view->epoch == 0)
        return false;
    out->pos = position_of(key);
    out->partition = position_partition(&out->pos, c->view->q_bits);
    out->walk = &c->index->walk[out->partition];
    out->other =
        c->index->other[out->partition].count > 0 ? &c->index->other[out->partition] : NULL;
    out->phase = c->view->phase[out->partition];
    out->rule = rule_for(c, key);
    out->n = out->rule->n < out->walk->count ? out->rule->n : out->walk->count;
    out->self = COORD_NO_SELF;
    for (uint8_t i = 0; i < out->walk->count; i++)
        if (out->walk->member[i] == c->view->self)
            out->self = i;
    out->mine = c->view->self != RING_NO_OWNER &&
                coord_worker_at(c, c->view->self, out->partition) == c->worker;
    return out->walk->count > 0;
}

uint8_t coord_targets(const struct coord *c, const struct place *place, struct request *r,
                      uint8_t *self)
{
    uint8_t count = place->walk->count;

    for (uint8_t i = 0; i < count; i++)
        r->member[i] = place->walk->member[i];
    r->list = coord_is_sloppy(place) ? 0 : place->walk->print;
    *self = place->self;
    if (place->self == COORD_NO_SELF) {
        *self = count < LIMIT_WALK ? count++ : LIMIT_WALK - 1;
        r->member[*self] = c->view->self;
    }
    for (uint8_t i = 0; i < count; i++)
        r->worker[i] = (uint8_t)coord_worker_at(c, r->member[i], place->partition);
    return count;
}

uint8_t coord_target_of(const struct request *r, uint8_t count, uint16_t member)
{
    uint8_t i = 0;

    while (i < count && r->member[i] != member)
        i++;
    return i;
}

uint64_t coord_deadline(const struct coord *c, uint32_t timeout_ms)
{
    return c->now_us + 1000ull * (timeout_ms != 0 ? timeout_ms : c->conf.timeout_ms);
}

uint64_t coord_linger(const struct coord *c)
{
    uint64_t least = 2000ull * c->conf.replica_ms;

    /* A hint costs more than a slot, as long as there are slots. */
    return c->table.used > c->table.count / 2 || least > LINGER_US ? least : LINGER_US;
}

/* ---- Sending and answering. */

#define SUSPICION_US 1000000u

uint32_t coord_suspects(const struct coord *c, const struct request *r, uint8_t count)
{
    uint32_t suspects = 0;

    for (uint8_t i = 0; i < count; i++) {
        const struct suspicion *s = &c->suspicions[r->member[i]];

        if (s->workers != 0 && s->until_us > c->now_us && (s->workers >> r->worker[i] & 1) != 0)
            suspects |= 1u << i;
    }
    return suspects;
}

void coord_blame(struct coord *c, const struct request *r, uint8_t target)
{
    struct suspicion *s = &c->suspicions[r->member[target]];

    s->workers = (s->until_us > c->now_us ? s->workers : 0) | 1ull << r->worker[target];
    s->until_us = c->now_us + SUSPICION_US;
    if (c->host.silent != NULL)
        c->host.silent(c->host.arg, r->member[target], r->worker[target]);
}

int coord_send(struct coord *c, uint16_t member, uint16_t worker, const struct msg *m)
{
    if (!c->host.reachable(c->host.arg, member, worker))
        return -ERR_UNAVAILABLE;
    return c->host.send(c->host.arg, member, worker, m);
}

void coord_release(struct coord *c, struct request *r)
{
    hold_drop(&c->holds, &r->key);
    hold_drop(&c->holds, &r->context);
    hold_drop(&c->holds, &r->old);
    table_give(&c->table, r);
}

void coord_answer_put(struct coord *c, const struct asker *asker, const struct coord_reply *reply)
{
    if (!asker->remote) {
        c->host.reply(c->host.arg, asker->id, reply);
        return;
    }
    struct msg m = {.kind = MSG_PUT_DONE,
                    .u.PUT_DONE = {.request = asker->id,
                                   .status = (uint32_t)-reply->status,
                                   .need = reply->need,
                                   .got = reply->got,
                                   .flags = reply->flags,
                                   .context = reply->context,
                                   .old = reply->object}};
    coord_send(c, asker->member, asker->worker, &m);
}

void coord_answer_get(struct coord *c, const struct asker *asker, const struct coord_reply *reply)
{
    if (!asker->remote) {
        c->host.reply(c->host.arg, asker->id, reply);
        return;
    }
    struct msg m = {.kind = MSG_GET_DONE,
                    .u.GET_DONE = {.request = asker->id,
                                   .status = (uint32_t)-reply->status,
                                   .need = reply->need,
                                   .got = reply->got,
                                   .object = reply->object}};
    coord_send(c, asker->member, asker->worker, &m);
}

void coord_answer_held(struct coord *c, const struct asker *asker, struct coord_reply *reply,
                       struct hold *context, struct hold *old)
{
    if (context->len + old->len > 0) {
        /* Room for both at once: the second must not move the first. */
        buf_clear(c->scratch_b);
        if (reply->status == 0 && buf_reserve(c->scratch_b, context->len + old->len) != NULL) {
            reply->context = hold_bytes(&c->holds, context, c->scratch_b);
            reply->object = hold_bytes(&c->holds, old, c->scratch_b);
        }
    }
    coord_answer_put(c, asker, reply);
    hold_drop(&c->holds, context);
    hold_drop(&c->holds, old);
}

/* ---- Requests of clients. */

int coord_put(struct coord *c, uint64_t token, const struct msg_PUT *put, uint64_t now_us,
              uint64_t wall_ms)
{
    struct asker asker = {.id = token};
    struct place place;
    int rc;

    coord_enter(c, now_us, wall_ms);
    if (!coord_place(c, put->key, &place)) {
        coord_answer_put(c, &asker, &(struct coord_reply){.status = -ERR_UNAVAILABLE});
        return 0;
    }
    if (place.mine && place.self < place.n)
        rc = coord_put_here(c, &asker, &place, put);
    else
        rc = coord_forward_put(c, &asker, &place, put, 0);
    /* Nothing has happened yet, and others may have a disk that works. */
    if (rc != 0 && rc != -ERR_BUSY)
        rc = coord_forward_put(c, &asker, &place, put, rc);
    if (rc != 0)
        coord_count(c, COORD_REFUSED, 1);
    return rc;
}

int coord_get(struct coord *c, uint64_t token, const struct msg_GET *get, uint64_t now_us,
              uint64_t wall_ms)
{
    struct asker asker = {.id = token};
    struct place place;
    int rc;

    coord_enter(c, now_us, wall_ms);
    if (!coord_place(c, get->key, &place)) {
        coord_answer_get(c, &asker, &(struct coord_reply){.status = -ERR_UNAVAILABLE});
        return 0;
    }
    if (place.mine && place.self < place.n)
        rc = coord_get_here(c, &asker, &place, get, coord_deadline(c, get->timeout_ms));
    else
        rc = coord_forward_get(c, &asker, &place, get);
    if (rc != 0)
        coord_count(c, COORD_REFUSED, 1);
    return rc;
}

/* ---- Messages. */

/* May this worker coordinate or keep the key? An error for the asker, or 0. */
static int check_place(struct coord *c, struct slice key, struct place *place)
{
    if (!coord_place(c, key, place))
        return -ERR_UNAVAILABLE;
    if (place->mine)
        return 0;
    coord_count(c, COORD_WRONG_WORKER, 1);
    return -ERR_STALE;
}

static void serve_put(struct coord *c, const struct asker *asker, const struct msg_PUT *put)
{
    struct place place;
    int rc = check_place(c, put->key, &place);

    if (rc == 0)
        rc = coord_put_here(c, asker, &place, put);
    if (rc == -ERR_BUSY)
        rc = coord_park_put(c, asker, put, coord_deadline(c, put->timeout_ms));
    if (rc != 0)
        coord_answer_put(c, asker, &(struct coord_reply){.status = rc});
}

static void serve_get(struct coord *c, const struct asker *asker, const struct msg_GET *get)
{
    struct place place;
    int rc = check_place(c, get->key, &place);

    if (rc == 0)
        rc = coord_get_here(c, asker, &place, get, coord_deadline(c, get->timeout_ms));
    if (rc != 0)
        coord_answer_get(c, asker, &(struct coord_reply){.status = rc});
}

static void take_merged(struct coord *c, uint16_t member, const struct msg_MERGED *m)
{
    struct request *r = table_find(&c->table, m->request);

    if (r != NULL && r->kind == REQUEST_PUT) {
        uint8_t target = coord_target_of(r, r->u.put.setup.count, member);

        if (target < r->u.put.setup.count)
            coord_put_event(c, r,
                            (struct put_event){.kind = m->status == 0 ? PUT_ON_ACK : PUT_ON_FAIL,
                                               .target = target});
    } else if (r != NULL && r->kind == REQUEST_GET) {
        uint8_t target = coord_target_of(r, r->u.get.setup.count, member);

        if (target < r->u.get.setup.count)
            coord_get_event(
                c, r,
                (struct get_event){.kind = m->status == 0 ? GET_ON_REPAIRED : GET_ON_FAIL,
                                   .target = target});
    } else {
        coord_count(c, COORD_LATE_ANSWER, 1);
    }
}

static void take_read(struct coord *c, uint16_t member, const struct msg_READ_DONE *m)
{
    struct request *r = table_find(&c->table, m->request);
    uint8_t target;

    if (r == NULL || r->kind != REQUEST_GET) {
        coord_count(c, COORD_LATE_ANSWER, 1);
        return;
    }
    target = coord_target_of(r, r->u.get.setup.count, member);
    if (target == r->u.get.setup.count)
        return;
    struct get_event event = {.kind = GET_ON_DIGEST, .target = target, .digest = m->digest};

    if (m->status != 0) {
        /* A replica that knows that it lacks something is repaired like one that is damaged. */
        bool lacks = m->status == ERR_CORRUPT || m->status == ERR_NOTWHOLE;

        event.kind = lacks ? GET_ON_DAMAGED : GET_ON_FAIL;
    } else {
        uint64_t since = c->now_us - r->start_us;

        latency_add(&c->latency, since - (since < r->sent_us[target] ? since : r->sent_us[target]));
        if (m->object.len > 0) {
            coord_get_object(c, r, target, m->object);
            return;
        }
    }
    coord_get_event(c, r, event);
}

static void take_outcome(struct coord *c, const struct asker *from, uint64_t id,
                         const struct msg *m)
{
    struct request *r = table_find(&c->table, id);
    bool write = m->kind == MSG_PUT_DONE;

    /* Of a write only the one who has it now can tell: a refusal that comes twice is none of the next. */
    if (r == NULL || r->kind != (write ? REQUEST_PUT_AWAY : REQUEST_GET_AWAY) ||
        (write && (r->member[r->u.forward.at] != from->member ||
                   r->worker[r->u.forward.at] != from->worker)))
        coord_count(c, COORD_LATE_ANSWER, 1);
    else
        coord_forward_done(c, r, m);
}

void coord_receive(struct coord *c, uint16_t member, uint16_t worker, const struct msg *m,
                   uint64_t now_us, uint64_t wall_ms)
{
    struct asker asker = {.member = member, .worker = worker, .remote = true};

    coord_enter(c, now_us, wall_ms);
    ASSERT(member < LIMIT_MEMBERS && worker < LIMIT_WORKERS);
    c->suspicions[member].workers &= ~(1ull << worker);
    switch (m->kind) {
    case MSG_PUT:
        asker.id = m->u.PUT.request;
        serve_put(c, &asker, &m->u.PUT);
        break;
    case MSG_GET:
        asker.id = m->u.GET.request;
        serve_get(c, &asker, &m->u.GET);
        break;
    case MSG_MERGE:
        asker.id = m->u.MERGE.request;
        coord_serve_merge(c, &asker, &m->u.MERGE);
        break;
    case MSG_READ:
        asker.id = m->u.READ.request;
        coord_serve_read(c, &asker, &m->u.READ);
        break;
    case MSG_MERGED:
        take_merged(c, member, &m->u.MERGED);
        break;
    case MSG_READ_DONE:
        take_read(c, member, &m->u.READ_DONE);
        break;
    case MSG_PUT_DONE:
        take_outcome(c, &asker, m->u.PUT_DONE.request, m);
        break;
    case MSG_GET_DONE:
        take_outcome(c, &asker, m->u.GET_DONE.request, m);
        break;
    default: /* HELLO, PING and PONG are the host's business */
        break;
    }
}

/* ---- The disk, links, time. */

void coord_durable(struct coord *c, uint64_t lsn, uint64_t now_us)
{
    coord_enter(c, now_us, c->wall_ms);
    if (lsn > c->durable)
        c->durable = lsn;
    ack_run(c);
}

void coord_link_down(struct coord *c, uint16_t member, uint16_t worker, uint64_t now_us,
                     uint64_t wall_ms)
{
    coord_enter(c, now_us, wall_ms);
    for (uint32_t slot = 0; slot < c->table.count && c->table.used > 0; slot++) {
        struct request *r = &c->table.slots[slot];
        uint8_t i;

        switch ((enum request_kind)r->kind) {
        case REQUEST_FREE:
            break;
        case REQUEST_PUT:
            i = coord_target_of(r, r->u.put.setup.count, member);
            if (i < r->u.put.setup.count && r->worker[i] == worker)
                coord_put_event(c, r, (struct put_event){.kind = PUT_ON_FAIL, .target = i});
            break;
        case REQUEST_GET:
            i = coord_target_of(r, r->u.get.setup.count, member);
            if (i < r->u.get.setup.count && r->worker[i] == worker)
                coord_get_event(c, r, (struct get_event){.kind = GET_ON_FAIL, .target = i});
            break;
        case REQUEST_PUT_AWAY:
        case REQUEST_GET_AWAY:
            i = r->u.forward.at;
            if (r->member[i] == member && r->worker[i] == worker)
                coord_forward_lost(c, r, false);
            break;
        case REQUEST_PARKED:
            /* Nothing has happened, and nobody is left to tell. */
            if (r->asker.member == member && r->asker.worker == worker)
                coord_release(c, r);
            break;
        }
        c->object_of = 0;
    }
}

uint64_t coord_tick(struct coord *c, uint64_t now_us, uint64_t wall_ms)
{
    struct request *r;
    uint64_t next;

    coord_enter(c, now_us, wall_ms);
    next = ack_expire(c);
    while ((r = table_first(&c->table)) != NULL && r->due_us <= now_us) {
        if (r->kind == REQUEST_PUT)
            coord_put_event(c, r, (struct put_event){.kind = PUT_ON_TIME});
        else if (r->kind == REQUEST_GET)
            coord_get_event(c, r, (struct get_event){.kind = GET_ON_TIME});
        else if (r->kind == REQUEST_PARKED)
            coord_park_retry(c, r);
        else
            coord_forward_lost(c, r, true);
        c->object_of = 0;
    }
    return r != NULL && r->due_us < next ? r->due_us : next;
}
