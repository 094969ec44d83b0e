/* A simulated network of memberships: virtual time, datagrams that are delayed and lost, streams,
 * pauses, crashes, partitions. For tests of core/member.h only. */
#ifndef CLOCKWISE_TESTS_UNIT_MEMBER_KIT_H
#define CLOCKWISE_TESTS_UNIT_MEMBER_KIT_H

#include "base/buf.h"
#include "base/rand.h"
#include "core/member.h"
#include "ipc/msg_codec.h"

#include <stdio.h>
#include <stdlib.h>

#define KIT_NODES  64
#define KIT_HEADER 68 /* bytes that the envelope takes */
#define SECOND     1000000ull

struct kit_node {
    struct kit *kit;
    struct membership m;
    struct member self;
    bool up, paused, refused;
    uint8_t side; /* of a partition; only equal sides hear each other */
    uint64_t step_at_us;
    uint64_t datagrams, bytes, largest;
    uint64_t verdicts; /* changes of others to faulty seen here */
};

struct kit_event {
    uint64_t at_us, order;
    uint16_t to;
    uint8_t what; /* 0: packet, 1: stream from a caller, 2: the answer to one */
    struct node_id sender;
    struct member_endpoint from;
    uint8_t *bytes;
    size_t len;
};

struct kit {
    uint64_t now_us, order;
    struct rand rand;
    uint32_t loss; /* per million */
    uint64_t delay_us;
    unsigned count;
    struct kit_node *node;
    struct kit_event *heap;
    size_t heap_count, heap_size;
    struct msg_codec *codec;
    struct member_conf conf;
};

/* ---- the heap of events ---- */

static inline bool kit_before(const struct kit_event *a, const struct kit_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static inline void kit_push(struct kit *k, struct kit_event e)
{
    e.order = k->order++;
    if (k->heap_count == k->heap_size) {
        k->heap_size = k->heap_size == 0 ? 1024 : 2 * k->heap_size;
        k->heap = realloc(k->heap, k->heap_size * sizeof *k->heap);
    }
    size_t i = k->heap_count++;
    for (; i > 0 && kit_before(&e, &k->heap[(i - 1) / 2]); i = (i - 1) / 2)
        k->heap[i] = k->heap[(i - 1) / 2];
    k->heap[i] = e;
}

static inline struct kit_event kit_pop(struct kit *k)
{
    struct kit_event first = k->heap[0], last = k->heap[--k->heap_count];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= k->heap_count)
            break;
        if (child + 1 < k->heap_count && kit_before(&k->heap[child + 1], &k->heap[child]))
            child++;
        if (!kit_before(&k->heap[child], &last))
            break;
        k->heap[i] = k->heap[child];
        i = child;
    }
    k->heap[i] = last;
    return first;
}

/* ---- the host of each membership ---- */

static inline int kit_find(struct kit *k, const char *address, uint16_t port)
{
    for (unsigned i = 0; i < k->count; i++)
        if (k->node[i].up && k->node[i].self.gossip_port == port &&
            strcmp(k->node[i].self.address, address) == 0)
            return (int)i;
    return -1;
}

static inline unsigned kit_send(void *arg, const char *address, uint16_t port,
                                const struct gossip *list, unsigned must, unsigned count)
{
    struct kit_node *n = arg;
    struct kit *k = n->kit;
    struct buf b = {0};
    unsigned sent = 0;

    while (sent < count) {
        size_t before = buf_len(&b);

        msg_codec_encode_gossip(&list[sent], &b);
        if (sent >= must && buf_len(&b) > LIMIT_DATAGRAM - KIT_HEADER) {
            b.end -= buf_len(&b) - before;
            break;
        }
        sent++;
    }
    n->datagrams++;
    n->bytes += buf_len(&b);
    n->largest = buf_len(&b) > n->largest ? buf_len(&b) : n->largest;
    int to = kit_find(k, address, port);
    if (to < 0 || k->node[to].side != n->side || rand_chance(&k->rand, k->loss)) {
        buf_free(&b);
        return sent;
    }
    struct kit_event e = {.at_us = k->now_us + 50 + rand_below(&k->rand, k->delay_us),
                          .to = (uint16_t)to,
                          .sender = n->self.id,
                          .bytes = b.data,
                          .len = buf_len(&b)};
    snprintf(e.from.address, sizeof e.from.address, "%s", n->self.address);
    e.from.port = n->self.gossip_port;
    kit_push(k, e);
    return sent;
}

static inline void kit_append(void *arg, const struct gossip *g)
{
    msg_codec_encode_gossip(g, arg);
}

static inline void kit_stream(struct kit_node *n, unsigned to, bool answer)
{
    struct kit *k = n->kit;
    struct buf b = {0};

    member_tell_all(&n->m, answer, kit_append, &b);
    struct kit_event e = {.at_us = k->now_us + 200 + rand_below(&k->rand, k->delay_us),
                          .to = (uint16_t)to,
                          .what = answer ? 2 : 1,
                          .sender = n->self.id,
                          .bytes = b.data,
                          .len = buf_len(&b)};
    snprintf(e.from.address, sizeof e.from.address, "%s", n->self.address);
    e.from.port = answer ? n->self.gossip_port : 0; /* an accepted stream comes from any port */
    kit_push(k, e);
}

static inline void kit_sync(void *arg, const char *address, uint16_t port)
{
    struct kit_node *n = arg;
    int to = kit_find(n->kit, address, port);

    if (to >= 0 && n->kit->node[to].side == n->side)
        kit_stream(n, (unsigned)to, false);
}

static inline void kit_changed(void *arg, bool ring)
{
    (void)arg;
    (void)ring;
}

static inline void kit_refused(void *arg, const char *text)
{
    struct kit_node *n = arg;

    (void)text;
    n->refused = true;
    n->up = false;
}

/* ---- nodes ---- */

static inline void kit_init(struct kit *k, unsigned founders, uint64_t seed)
{
    memset(k, 0, sizeof *k);
    k->now_us = 1000 * SECOND;
    k->delay_us = 2000;
    rand_seed(&k->rand, seed);
    k->node = calloc(KIT_NODES, sizeof *k->node);
    k->codec = msg_codec_new();
    snprintf(k->conf.cluster, sizeof k->conf.cluster, "test");
    k->conf.q_bits = 6;
    k->conf.n = 3;
    k->conf.probe_interval_us = SECOND;
    k->conf.probe_timeout_us = 300000;
    k->conf.suspicion_us = 5 * SECOND;
    k->conf.seed_count = founders;
    for (unsigned i = 0; i < founders; i++) {
        snprintf(k->conf.seeds[i].address, sizeof k->conf.seeds[i].address, "10.0.0.%u", i);
        k->conf.seeds[i].port = (uint16_t)(1000 + i);
    }
}

static inline void kit_free(struct kit *k)
{
    while (k->heap_count > 0)
        free(kit_pop(k).bytes);
    free(k->heap);
    free(k->node);
    msg_codec_free(k->codec);
}

static inline uint64_t kit_wall_ms(const struct kit *k)
{
    return 1700000000000ull + k->now_us / 1000;
}

/* (Re)start the node at place i with the identity in node[i].self. */
static inline void kit_boot(struct kit *k, unsigned i)
{
    struct kit_node *n = &k->node[i];
    struct member_host host = {.arg = n,
                               .send = kit_send,
                               .sync = kit_sync,
                               .changed = kit_changed,
                               .refused = kit_refused};

    n->kit = k;
    n->up = true;
    n->paused = n->refused = false;
    member_init(&n->m, &k->conf, &host, &n->self, kit_wall_ms(k), rand_next(&k->rand));
    n->step_at_us = k->now_us;
    if (i >= k->count)
        k->count = i + 1;
}

static inline void kit_new_id(struct kit *k, unsigned i)
{
    for (int b = 0; b < NODE_ID_BYTES; b++)
        k->node[i].self.id.b[b] = (uint8_t)rand_next(&k->rand);
}

/* A node with a new id at place i. */
static inline void kit_start(struct kit *k, unsigned i)
{
    struct member *s = &k->node[i].self;

    memset(s, 0, sizeof *s);
    kit_new_id(k, i);
    snprintf(s->name, sizeof s->name, "node-%u", i);
    snprintf(s->address, sizeof s->address, "10.0.0.%u", i);
    s->gossip_port = (uint16_t)(1000 + i);
    s->port = 1;
    s->workers = 2;
    s->weight = 100;
    kit_boot(k, i);
}

static inline void kit_start_all(struct kit *k, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        kit_start(k, i);
}

/* ---- time ---- */

static inline void kit_take(struct kit *k, struct kit_event *e)
{
    struct kit_node *n = &k->node[e->to];
    struct slice in = slice_of(e->bytes, e->len);
    struct gossip g;

    if (!n->up)
        return;
    while (in.len > 0 && msg_codec_next_gossip(k->codec, &in, &g) == 0 && n->up)
        if (member_receive(&n->m, &e->sender, &e->from, &g, k->now_us) != 0)
            break;
    if (e->what == 1 && n->up)
        for (unsigned i = 0; i < k->count; i++)
            if (node_id_equal(&k->node[i].self.id, &e->sender))
                kit_stream(n, i, true);
    if (n->up)
        n->step_at_us = member_step(&n->m, k->now_us);
}

/* Run for so long, or until `until` says so (then true). */
static inline bool kit_run(struct kit *k, uint64_t for_us, bool (*until)(struct kit *k, void *arg),
                           void *arg)
{
    uint64_t end = k->now_us + for_us;

    for (;;) {
        if (until != NULL && until(k, arg))
            return true;
        uint64_t next = end;
        int who = -1;

        for (unsigned i = 0; i < k->count; i++)
            if (k->node[i].up && !k->node[i].paused && k->node[i].step_at_us < next) {
                next = k->node[i].step_at_us;
                who = (int)i;
            }
        if (k->heap_count > 0 && k->heap[0].at_us <= next) {
            struct kit_event e = kit_pop(k);

            k->now_us = e.at_us > k->now_us ? e.at_us : k->now_us;
            if (k->node[e.to].paused) { /* it waits in the socket */
                e.at_us = k->now_us + 10000;
                kit_push(k, e);
                continue;
            }
            kit_take(k, &e);
            free(e.bytes);
            continue;
        }
        k->now_us = next > k->now_us ? next : k->now_us;
        if (who < 0)
            return false;
        k->node[who].step_at_us = member_step(&k->node[who].m, k->now_us);
    }
}

/* What node a thinks of node b. MEMBER_LEFT + 1: never heard of it. */
static inline int kit_state(struct kit *k, unsigned a, unsigned b)
{
    const struct membership *m = &k->node[a].m;

    for (uint16_t i = 0; i < m->count; i++)
        if (node_id_equal(&m->row[i].m.id, &k->node[b].self.id))
            return m->row[i].m.state;
    return MEMBER_LEFT + 1;
}

#endif
