/* Clients of the simulator. Each does one thing at a time: it picks a key and an operation, sends it to
 * a worker that it believes alive, waits, and perhaps tries again elsewhere. Plain clients use no
 * contexts; random ones read, write and delete with old, fresh or empty contexts; sessions read
 * once and then go on with the contexts of their own writes; carts merge siblings. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

static void step(struct sim *s, const struct event *e);
static void attempt(struct sim *s, unsigned client);

static struct request *new_request(struct sim *s, int client, unsigned key)
{
    struct request *r = calloc(1, sizeof *r);

    if (s->request_count == s->request_capacity) {
        s->request_capacity = s->request_capacity ? 2 * s->request_capacity : 1024;
        s->request = realloc(s->request, s->request_capacity * sizeof s->request[0]);
    }
    ASSERT(r != NULL && s->request != NULL);
    r->client = client;
    r->key = (uint16_t)key;
    r->token = s->request_count;
    r->acked_before = s->key[key].acked_count;
    s->request[s->request_count++] = r;
    return r;
}

static struct blob *keep(struct slice bytes)
{
    struct blob *b = malloc(sizeof *b + bytes.len);

    ASSERT(b != NULL);
    b->refs = 1;
    b->len = (uint32_t)bytes.len;
    if (bytes.len > 0)
        memcpy(b->bytes, bytes.data, bytes.len);
    return b;
}

/* A copy for the life of the run. */
static struct slice own(struct slice bytes)
{
    struct blob *b = keep(bytes);

    return slice_of(b->bytes, b->len);
}

static uint64_t client_latency(struct sim *s)
{
    return sim_range(s, 30, 400);
}

static void think(struct sim *s, unsigned client)
{
    s->client[client].idle = true;
    s->client[client].write = NO_WRITE;
    sim_after(s, sim_range(s, 100, s->think_us), step, NULL, client, 0);
}

/* --- what comes back --- */

static void learn_from_read(struct sim *s, struct client *c, const struct request *r)
{
    static struct object o;
    struct session *session = &c->session[r->key];
    struct slice bytes = slice_of(r->reply_object->bytes, r->reply_object->len);
    struct bits siblings, closure;

    oracle_seen(s, r->key, bytes, &closure, &siblings, &session->seen);
    session->known = r->want_all;
    session->context_len = 0;
    session->items = 0;
    for (unsigned e = 0; e < s->key[r->key].event_count; e++)
        if (bits_has(&siblings, e))
            session->items |= s->write[s->key[r->key].event[e].write].items;
    if (bytes.len == 0)
        return;
    ASSERT(object_open(&o, bytes) == 0);
    int len =
        causal_to_text(&o.causal, s->key[r->key].slice, session->context, sizeof session->context);

    if (len < 0)
        sim_fail(s, "%s: a context that does not fit", s->key[r->key].name);
    session->context_len = (uint32_t)len;
}

static void learn_from_write(struct sim *s, struct client *c, const struct request *r)
{
    struct session *session = &c->session[r->key];

    session->known = false;
    if (!r->want_all || r->reply_context == NULL || r->reply_context->len == 0 ||
        sim_percent(s, 20))
        return;
    session->known = true;
    oracle_after_write(s, r, slice_of(r->reply_context->bytes, r->reply_context->len),
                       &session->seen);
    ASSERT(r->reply_context->len <= sizeof session->context);
    memcpy(session->context, r->reply_context->bytes, r->reply_context->len);
    session->context_len = r->reply_context->len;
    session->items = s->write[r->write].items;
}

/* An attempt is over without a success: again, perhaps, or leave it. */
static void failed(struct sim *s, unsigned client, bool taken, unsigned status)
{
    struct client *c = &s->client[client];
    bool repeat = c->attempts < 6 && status != ERR_SIBLINGS;

    if (c->write != NO_WRITE && taken)
        repeat = repeat && s->write[c->write].request_id != 0 && sim_percent(s, 80);
    if (c->write != NO_WRITE && !repeat)
        c->session[c->key].known = false;
    if (repeat)
        sim_after(s, sim_range(s, MS(1), MS(60)), step, NULL, client, 1);
    else
        think(s, client);
}

static void checker_done(struct sim *s, const struct request *r, int status)
{
    (void)r;
    s->checks_waiting--;
    s->checks_failed += status != 0;
}

static void arrived(struct sim *s, const struct event *e)
{
    struct request *r = e->p;

    if (r->abandoned)
        return;
    r->abandoned = true; /* nothing more is expected */
    if (r->client < 0) {
        checker_done(s, r, r->status);
        return;
    }
    struct client *c = &s->client[r->client];

    if (r->status != 0) {
        failed(s, (unsigned)r->client, true, (unsigned)-r->status);
        return;
    }
    if (r->is_write)
        learn_from_write(s, c, r);
    else
        learn_from_read(s, c, r);
    think(s, (unsigned)r->client);
}

static void check_punctual(struct sim *s, const struct request *r)
{
    const struct node *node = &s->node[r->node];
    uint64_t slack = MS(60) + node->slow_us;

    if (node->thawed_at <= r->accepted_at && s->now > r->accepted_at + r->timeout_us + slack)
        sim_fail(s, "request %u was answered %llu us after it came, its timeout is %llu us",
                 r->token, (unsigned long long)(s->now - r->accepted_at),
                 (unsigned long long)r->timeout_us);
}

void client_reply(struct sim *s, struct request *r, const struct coord_reply *reply)
{
    check_punctual(s, r);
    if (r->is_write)
        oracle_write_replied(s, r, reply);
    else
        oracle_read_replied(s, r, reply);
    if (r->is_write)
        *(reply->status == 0 ? &s->writes_ok : &s->writes_failed) += 1;
    else
        *(reply->status == 0 ? &s->reads_ok : &s->reads_failed) += 1;
    if (reply->status != 0)
        oracle_failed(s, r, reply);
    if (reply->status != 0 && reply->status != -ERR_SIBLINGS && s->calm)
        sim_fail(s, "request %u failed with %s (need %u got %u) although nothing is broken",
                 r->token, err_name(reply->status), reply->need, reply->got);
    r->status = reply->status;
    r->flags = reply->flags;
    r->reply_context = keep(reply->context);
    r->reply_object = keep(reply->object);
    sim_after(s, client_latency(s), arrived, r, 0, 0);
}

static void lost(struct sim *s, const struct event *e)
{
    struct request *r = e->p;

    if (r->abandoned)
        return;
    r->abandoned = true;
    if (r->client < 0)
        checker_done(s, r, -ERR_CLOSED);
    else
        failed(s, (unsigned)r->client, e->a != 0, ERR_CLOSED);
}

void client_worker_gone(struct sim *s, const struct worker *w)
{
    for (uint32_t i = 0; i < s->request_count; i++) {
        struct request *r = s->request[i];

        if (r->accepted && !r->replied && !r->abandoned && r->node == w->node &&
            r->worker == w->index && r->incarnation == w->incarnation)
            sim_after(s, client_latency(s), lost, r, 1, 0);
    }
}

/* --- what is sent --- */

static void reach(struct sim *s, const struct event *e)
{
    struct request *r = e->p;
    struct worker *w = &s->node[r->node].worker[r->worker];

    if (node_defer(s, r->node, e))
        return;
    if (!w->up) {
        sim_after(s, client_latency(s), lost, r, 0, 0);
        return;
    }
    if (!worker_request(w, r)) {
        s->refused++;
        sim_after(s, client_latency(s), lost, r, 0, 0);
    }
}

static void pick_worker(struct sim *s, struct request *r, unsigned home)
{
    r->node = (uint16_t)(sim_percent(s, 50) ? home : rand_below(&s->rand, s->nodes));
    r->worker = (uint16_t)(sim_percent(s, 50) ? worker_of_key(s, r->node, r->key)
                                              : rand_below(&s->rand, s->workers));
}

static void send_request(struct sim *s, struct request *r)
{
    sim_after(s, client_latency(s), reach, r, 0, 0);
    sim_after(s, r->timeout_us + MS(300), lost, r, 1, 0);
}

static void attempt(struct sim *s, unsigned client)
{
    struct client *c = &s->client[client];
    struct key *key = &s->key[c->key];
    struct session *session = &c->session[c->key];
    struct request *r = new_request(s, (int)client, c->key);

    c->attempts++;
    r->is_write = c->write != NO_WRITE;
    r->write = c->write;
    r->want_all = c->kind != CLIENT_PLAIN || sim_percent(s, 20);
    r->timeout_us = MS(sim_range(s, 3, 12) * 100);
    pick_worker(s, r, c->attempts == 1 ? c->home : (unsigned)rand_below(&s->rand, s->nodes));
    if (!key->strict && sim_percent(s, 20)) {
        if (!r->is_write)
            r->r = (uint8_t)sim_range(s, 1, key->n);
        else
            r->w = (uint8_t)sim_range(s, s->rule[0].w, key->n);
        if (r->is_write && sim_percent(s, 20))
            r->pw = (uint8_t)sim_range(s, 1, key->n);
    }
    if (r->is_write && s->write[c->write].has_context)
        r->context = own(slice_of(session->context, session->known ? session->context_len : 0));
    send_request(s, r);
}

static void begin_read(struct sim *s, unsigned client)
{
    s->client[client].write = NO_WRITE;
    attempt(s, client);
}

/* A write that begins: what its client has seen is noted for the oracle. */
static void begin_write(struct sim *s, unsigned client, bool with_context, bool delete,
                        uint64_t items)
{
    struct client *c = &s->client[client];
    struct key *key = &s->key[c->key];
    struct write w = {.key = c->key,
                      .kind = delete ? WRITE_DELETE : WRITE_PUT,
                      .has_context = with_context,
                      .items = items,
                      .length = (uint32_t)sim_range(s, 16, sim_percent(s, 2) ? 9000 : 300)};

    if (with_context && c->session[c->key].known)
        w.seen = c->session[c->key].seen;
    w.conditional = delete &&!with_context && sim_percent(s, 50);
    c->write = oracle_write(s, &w);
    if (delete || sim_percent(s, 40)) {
        s->write[c->write].request_id = c->write + 1; /* also how the oracle knows a tombstone */
        key->id_writes++;
    }
    attempt(s, client);
}

static bool pick_key(struct sim *s, struct client *c)
{
    for (int tries = 0; tries < 50; tries++) {
        unsigned k = (unsigned)rand_below(&s->rand, s->keys);

        if (s->key[k].cart == (c->kind == CLIENT_CART) &&
            s->key[k].event_count < SIM_EVENTS - 100) {
            c->key = (uint16_t)k;
            return true;
        }
    }
    return false;
}

static void act_cart(struct sim *s, unsigned client)
{
    struct client *c = &s->client[client];
    struct session *session = &c->session[c->key];

    if (!session->known) {
        begin_read(s, client);
        return;
    }
    uint64_t item = 1ull << s->key[c->key].items++ % 64;

    begin_write(s, client, true, false, session->items | item);
}

static void act(struct sim *s, unsigned client)
{
    struct client *c = &s->client[client];
    struct session *session = &c->session[c->key];
    bool delete = sim_percent(s, 15);

    switch (c->kind) {
    case CLIENT_CART:
        act_cart(s, client);
        break;
    case CLIENT_PLAIN:
        if (sim_percent(s, 45))
            begin_read(s, client);
        else
            begin_write(s, client, false, delete, 0);
        break;
    case CLIENT_SESSION:
        if (!session->known || sim_percent(s, 10))
            begin_read(s, client);
        else
            begin_write(s, client, true, delete, 0);
        break;
    default:
        if (sim_percent(s, 40)) {
            begin_read(s, client);
        } else {
            if (sim_percent(s, 15))
                session->known = false; /* writes as if it had seen nothing */
            begin_write(s, client, sim_percent(s, 90), delete, 0);
        }
    }
}

static void step(struct sim *s, const struct event *e)
{
    struct client *c = &s->client[e->a];

    if (e->b != 0) {
        attempt(s, (unsigned)e->a);
        return;
    }
    if (s->clients_stopped || s->ops_left == 0 || !pick_key(s, c))
        return;
    s->ops_left--;
    c->idle = false;
    c->attempts = 0;
    act(s, (unsigned)e->a);
}

void client_start(struct sim *s, unsigned client)
{
    think(s, client);
}

void client_check_read(struct sim *s, unsigned key)
{
    struct request *r = new_request(s, -1, key);

    r->want_all = true;
    r->r = (uint8_t)s->key[key].n;
    r->timeout_us = SEC(2);
    do
        pick_worker(s, r, (unsigned)rand_below(&s->rand, s->nodes));
    while ((s->removed >> r->node & 1) != 0);
    s->checks_waiting++;
    send_request(s, r);
}

struct request *client_check_one(struct sim *s, unsigned key, unsigned node, unsigned r_wanted)
{
    struct request *r = new_request(s, -1, key);

    r->want_all = true;
    r->r = (uint8_t)r_wanted;
    r->timeout_us = SEC(2);
    r->node = (uint16_t)node;
    r->worker = worker_of_key(s, node, key);
    s->checks_waiting++;
    send_request(s, r);
    return r;
}

void client_check_pair(struct sim *s, unsigned key, unsigned node)
{
    client_check_one(s, key, node, 2);
}

void client_check_write(struct sim *s, unsigned key, unsigned node, bool delete)
{
    struct write w = {
        .key = (uint16_t)key, .kind = delete ? WRITE_DELETE : WRITE_PUT, .length = 32};
    uint32_t number = oracle_write(s, &w);
    struct request *r = new_request(s, -1, key);

    s->write[number].request_id = number + 1;
    s->key[key].id_writes++;
    r->is_write = true;
    r->write = number;
    r->timeout_us = SEC(2);
    r->node = (uint16_t)node;
    r->worker = worker_of_key(s, node, key);
    s->checks_waiting++;
    send_request(s, r);
}
