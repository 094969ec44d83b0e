/* A simulated network of memberships: virtual time, datagrams that are delayed and lost, streams,
 * pauses, crashes, partitions. For tests of core/member.h only. */
#ifndef CLOCKWISE_TESTS_UNIT_MEMBER_KIT_H
#define CLOCKWISE_TESTS_UNIT_MEMBER_KIT_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/rand.h"
#include "core/member_change.h"
#include "ipc/msg_codec.h"

#include <stdio.h>
#include <stdlib.h>

#define KIT_NODES    64
#define KIT_HEADER   68 /* bytes that the envelope of a packet takes */
#define KIT_FRAME    8  /* and in a stream the frame around it */
#define KIT_PLACES   8192
#define SECOND       1000000ull
#define KIT_SYN_US   SECOND       /* before a lost packet is sent again: while connecting, */
#define KIT_RETRY_US (SECOND / 5) /* and later */

struct kit_packet {
    struct node_id sender;
    struct member_endpoint from;
    size_t len;
    uint8_t bytes[];
};

enum kit_what { KIT_DATAGRAM, KIT_ASK, KIT_ANSWER, KIT_ADD, KIT_STEP };

struct kit_event {
    uint64_t at_us, order;
    struct kit_packet *packet;
    uint16_t to, caller; /* caller: who began the stream */
    uint8_t what;        /* enum kit_what */
};

struct kit_node {
    struct kit *kit;
    struct membership m;
    void *memory;
    struct member_change *change;
    struct member self;
    bool up, paused, refused, placed;
    uint8_t side; /* of a partition; only equal sides hear each other */
    uint64_t step_at_us, paused_us, woken_us;
    uint64_t datagrams, bytes, stream_bytes, largest;
    uint64_t place;            /* hash of where it was when it was booted */
    uint16_t next_here;        /* node at a place of the same hash */
    struct kit_event *waiting; /* in the sockets of a paused node */
    size_t waiting_count, waiting_size;
};

struct kit {
    uint64_t now_us, order;
    struct rand rand;
    uint32_t loss; /* per million */
    bool streams_lose_nothing;
    bool deaf; /* datagrams to a paused node are lost: its machine is frozen, not its process */
    uint64_t delay_us;
    unsigned count, rows; /* nodes; members that each can know */
    bool changes;         /* nodes take part in changes of the ring */
    struct kit_node *node;
    uint16_t at_place[KIT_PLACES]; /* node + 1 */
    struct kit_event *heap;
    size_t heap_count, heap_size;
    struct msg_codec *codec;
    struct buf out;
    struct member_conf conf;
    void *user;
    void (*changed)(struct kit_node *n);
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

/* ---- the network ---- */

static inline uint64_t kit_place(const char *address, uint16_t port)
{
    return hash64_seed(address, strlen(address), port);
}

static inline int kit_find(struct kit *k, const char *address, uint16_t port)
{
    for (unsigned i = k->at_place[kit_place(address, port) % KIT_PLACES]; i != 0;
         i = k->node[i - 1].next_here) {
        const struct kit_node *n = &k->node[i - 1];

        if (n->up && n->self.gossip_port == port && strcmp(n->self.address, address) == 0)
            return (int)(i - 1);
    }
    return -1;
}

static inline void kit_unplace(struct kit *k, unsigned i)
{
    uint16_t *at = &k->at_place[k->node[i].place % KIT_PLACES];

    while (k->node[i].placed && *at != i + 1)
        at = &k->node[*at - 1].next_here;
    if (k->node[i].placed)
        *at = k->node[i].next_here;
    k->node[i].placed = false;
}

static inline void kit_enter_place(struct kit *k, unsigned i)
{
    struct kit_node *n = &k->node[i];

    kit_unplace(k, i);
    n->place = kit_place(n->self.address, n->self.gossip_port);
    n->next_here = k->at_place[n->place % KIT_PLACES];
    k->at_place[n->place % KIT_PLACES] = (uint16_t)(i + 1);
    n->placed = true;
}

/* Put what is in k->out on its way. */
static inline void kit_deliver(struct kit_node *n, struct kit_event e, bool known_port)
{
    struct kit *k = n->kit;
    size_t len = buf_len(&k->out);

    e.packet = malloc(sizeof *e.packet + len);
    e.packet->sender = n->self.id;
    memcpy(e.packet->from.address, n->self.address, sizeof e.packet->from.address);
    e.packet->from.port = known_port ? n->self.gossip_port : 0;
    e.packet->len = len;
    memcpy(e.packet->bytes, buf_head(&k->out), len);
    kit_push(k, e);
}

static inline unsigned kit_send(void *arg, const char *address, uint16_t port,
                                const struct gossip *list, unsigned must, unsigned count)
{
    struct kit_node *n = arg;
    struct kit *k = n->kit;
    unsigned sent = 0;

    buf_clear(&k->out);
    while (sent < count) {
        size_t before = buf_len(&k->out);

        msg_codec_encode_gossip(&list[sent], &k->out);
        if (sent >= must && buf_len(&k->out) > LIMIT_DATAGRAM - KIT_HEADER) {
            k->out.end -= buf_len(&k->out) - before;
            break;
        }
        sent++;
    }
    uint64_t len = buf_len(&k->out) + KIT_HEADER;
    n->datagrams++;
    n->bytes += len;
    n->largest = len > n->largest ? len : n->largest;
    int to = kit_find(k, address, port);
    if (to < 0 || k->node[to].side != n->side || rand_chance(&k->rand, k->loss))
        return sent;
    kit_deliver(n,
                (struct kit_event){.at_us = k->now_us + 50 + rand_below(&k->rand, k->delay_us),
                                   .to = (uint16_t)to,
                                   .what = KIT_DATAGRAM},
                true);
    return sent;
}

static inline uint64_t kit_legs(struct kit *k, unsigned legs, uint64_t again_us)
{
    uint64_t took = 0;

    for (; legs > 0; legs--) {
        took += 50 + rand_below(&k->rand, k->delay_us);
        for (uint64_t wait = again_us; !k->streams_lose_nothing && rand_chance(&k->rand, k->loss);
             wait *= 2)
            took += wait;
    }
    return took;
}

/* Send what is in k->out over a stream: lost packets come later. */
static inline void kit_stream(struct kit_node *n, unsigned to, unsigned caller, enum kit_what what)
{
    struct kit *k = n->kit;
    uint64_t took = kit_legs(k, 1, KIT_RETRY_US);

    if (buf_len(&k->out) == 0 || k->node[to].side != n->side)
        return;
    if (what == KIT_ASK)
        took += kit_legs(k, 2, KIT_SYN_US);
    n->stream_bytes += buf_len(&k->out) + KIT_HEADER + KIT_FRAME;
    kit_deliver(n,
                (struct kit_event){.at_us = k->now_us + took,
                                   .to = (uint16_t)to,
                                   .caller = (uint16_t)caller,
                                   .what = (uint8_t)what},
                what == KIT_ANSWER);
}

static inline void kit_append(void *arg, const struct gossip *g)
{
    msg_codec_encode_gossip(g, arg);
}

static inline void kit_tell(struct kit_node *n, unsigned to, unsigned caller, enum kit_what what)
{
    enum member_turn turn = what == KIT_ASK      ? MEMBER_ASKS
                            : what == KIT_ANSWER ? MEMBER_ANSWERS
                                                 : MEMBER_ADDS;

    buf_clear(&n->kit->out);
    member_tell(&n->m, turn, kit_append, &n->kit->out);
    kit_stream(n, to, caller, what);
}

static inline void kit_sync(void *arg, const char *address, uint16_t port)
{
    struct kit_node *n = arg;
    int to = kit_find(n->kit, address, port);

    if (to >= 0)
        kit_tell(n, (unsigned)to, (unsigned)(n - n->kit->node), KIT_ASK);
}

static inline void kit_send_stream(void *arg, const char *address, uint16_t port,
                                   const struct gossip *list, unsigned count)
{
    struct kit_node *n = arg;
    int to = kit_find(n->kit, address, port);

    buf_clear(&n->kit->out);
    for (unsigned i = 0; i < count; i++)
        msg_codec_encode_gossip(&list[i], &n->kit->out);
    if (to >= 0)
        kit_stream(n, (unsigned)to, (unsigned)(n - n->kit->node), KIT_ASK);
}

static inline void kit_changed(void *arg, bool ring)
{
    struct kit_node *n = arg;

    (void)ring;
    if (n->kit->changed != NULL)
        n->kit->changed(n);
}

static inline void kit_refused(void *arg, const char *text)
{
    struct kit_node *n = arg;

    (void)text;
    n->refused = true;
    n->up = false;
}

/* ---- nodes ---- */

static inline void kit_init_sized(struct kit *k, unsigned nodes, unsigned founders, uint64_t seed)
{
    memset(k, 0, sizeof *k);
    k->now_us = 1000 * SECOND;
    k->delay_us = 2000;
    rand_seed(&k->rand, seed);
    k->rows = nodes;
    k->node = calloc(nodes, sizeof *k->node);
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

static inline void kit_init(struct kit *k, unsigned founders, uint64_t seed)
{
    kit_init_sized(k, KIT_NODES, founders, seed);
}

static inline void kit_free(struct kit *k)
{
    while (k->heap_count > 0)
        free(kit_pop(k).packet);
    for (unsigned i = 0; i < k->count; i++) {
        for (size_t w = 0; w < k->node[i].waiting_count; w++)
            free(k->node[i].waiting[w].packet);
        free(k->node[i].waiting);
        free(k->node[i].memory);
        free(k->node[i].change);
    }
    free(k->heap);
    free(k->node);
    buf_free(&k->out);
    msg_codec_free(k->codec);
}

static inline uint64_t kit_wall_ms(const struct kit *k)
{
    return 1700000000000ull + k->now_us / 1000;
}

static inline void kit_step_at(struct kit *k, unsigned i, uint64_t at_us)
{
    k->node[i].step_at_us = at_us;
    kit_push(k, (struct kit_event){.at_us = at_us, .to = (uint16_t)i, .what = KIT_STEP});
}

/* (Re)start the node at place i with the identity in node[i].self. */
static inline void kit_boot(struct kit *k, unsigned i)
{
    struct kit_node *n = &k->node[i];
    struct member_host host = {.arg = n,
                               .send = kit_send,
                               .sync = kit_sync,
                               .stream = kit_send_stream,
                               .changed = kit_changed,
                               .refused = kit_refused};

    n->kit = k;
    n->up = true;
    n->paused = n->refused = false;
    if (n->memory == NULL)
        n->memory = malloc(member_memory(k->rows));
    kit_enter_place(k, i);
    member_init(&n->m, n->memory, k->rows, &k->conf, &host, &n->self, kit_wall_ms(k),
                rand_next(&k->rand));
    if (k->changes) {
        if (n->change == NULL)
            n->change = malloc(sizeof *n->change);
        member_change_init(&n->m, n->change);
    }
    if (i >= k->count)
        k->count = i + 1;
    kit_step_at(k, i, k->now_us);
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
    snprintf(s->name, sizeof s->name, "node-%u", (uint16_t)i);
    snprintf(s->address, sizeof s->address, "10.0.%u.%u", i >> 8 & 255, i & 255);
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

static inline void kit_take(struct kit *k, const struct kit_event *e)
{
    struct kit_node *n = &k->node[e->to];
    struct slice in = slice_of(e->packet->bytes, e->packet->len);
    struct gossip g;

    if (!n->up)
        return;
    while (in.len > 0 && msg_codec_next_gossip(k->codec, &in, &g) == 0 && n->up)
        if (member_receive(&n->m, &e->packet->sender, &e->packet->from, &g, k->now_us) != 0)
            break;
    if (e->what == KIT_ASK && n->up)
        kit_tell(n, e->caller, e->caller, KIT_ANSWER);
    if (e->what == KIT_ANSWER && n->up) {
        int to = kit_find(k, e->packet->from.address, e->packet->from.port);

        if (to >= 0)
            kit_tell(n, (unsigned)to, e->caller, KIT_ADD);
    }
}

static inline void kit_step(struct kit *k, unsigned i)
{
    struct kit_node *n = &k->node[i];

    if (!n->up)
        return;
    uint64_t next = member_step(&n->m, k->now_us);
    if (next != n->step_at_us)
        kit_step_at(k, i, next);
}

static inline void kit_pause(struct kit *k, unsigned i)
{
    k->node[i].paused = true;
    k->node[i].paused_us = k->now_us;
}

/* What has come in the meantime waits in the sockets, and is read first. */
static inline void kit_wake(struct kit *k, unsigned i)
{
    struct kit_node *n = &k->node[i];

    n->paused = false;
    n->woken_us = k->now_us;
    for (size_t w = 0; w < n->waiting_count; w++) {
        kit_take(k, &n->waiting[w]);
        free(n->waiting[w].packet);
    }
    n->waiting_count = 0;
    n->step_at_us = 0;
    kit_step(k, i);
}

static inline void kit_keep(struct kit_node *n, struct kit_event e)
{
    if (n->waiting_count == n->waiting_size) {
        n->waiting_size = n->waiting_size == 0 ? 16 : 2 * n->waiting_size;
        n->waiting = realloc(n->waiting, n->waiting_size * sizeof e);
    }
    n->waiting[n->waiting_count++] = e;
}

static inline void kit_dispatch(struct kit *k, struct kit_event e)
{
    struct kit_node *n = &k->node[e.to];

    if (e.what == KIT_STEP) {
        if (!n->paused && e.at_us == n->step_at_us) {
            n->step_at_us = 0;
            kit_step(k, e.to);
        }
        return;
    }
    if (n->paused && k->deaf && e.what == KIT_DATAGRAM) {
        free(e.packet);
        return;
    }
    if (n->paused) {
        kit_keep(n, e);
        return;
    }
    kit_take(k, &e);
    kit_step(k, e.to);
    free(e.packet);
}

/* Run for so long, or until `until` says so (then true). */
static inline bool kit_run(struct kit *k, uint64_t for_us, bool (*until)(struct kit *k, void *arg),
                           void *arg)
{
    uint64_t end = k->now_us + for_us;

    for (;;) {
        if (until != NULL && until(k, arg))
            return true;
        if (k->heap_count == 0 || k->heap[0].at_us > end) {
            k->now_us = end;
            return false;
        }
        struct kit_event e = kit_pop(k);
        k->now_us = e.at_us > k->now_us ? e.at_us : k->now_us;
        kit_dispatch(k, e);
    }
}

/* What node a thinks of node b. MEMBER_LEFT + 1: never heard of it. */
static inline int kit_state(struct kit *k, unsigned a, unsigned b)
{
    const struct member_row *row = member_find(&k->node[a].m, &k->node[b].self.id);

    return row == NULL ? MEMBER_LEFT + 1 : row->m.state;
}

#endif
