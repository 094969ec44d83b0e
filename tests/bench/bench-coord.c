/* What coordination costs: nanoseconds per request of one worker's logic over a store that is a plain
 * table in memory, without sockets, disk or clients. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/err.h"
#include "core/coord.h"

#define KEYS  20000
#define BATCH 32
#define NODES 3

struct record {
    struct slice key;
    uint8_t bytes[512];
    uint32_t len;
};

struct node {
    uint16_t member;
    struct coord *coord;
    struct record *records; /* by the first bytes of the position */
    uint64_t dots, lsn;
    struct buf a, b;
};

/* Messages wait here until the benchmark delivers them; what they borrow is copied. */
struct waiting {
    uint16_t from, to;
    struct msg m;
    uint8_t bytes[1024];
};

static struct node nodes[NODES];
static struct waiting waiting[4 * BATCH * NODES];
static uint32_t waiting_count;
static uint64_t replies;
static struct ring_view views[NODES];
static struct ring_index indexes;
static char keys[KEYS][24];

static struct record *find(struct node *n, const struct position *pos, struct slice key)
{
    uint64_t h;

    memcpy(&h, pos->b + 8, sizeof h);
    for (uint32_t at = (uint32_t)(h % (2 * KEYS));; at = (at + 1) % (2 * KEYS)) {
        struct record *r = &n->records[at];

        if (r->len == 0 || slice_equal(r->key, key))
            return r;
    }
}

static void keep(struct waiting *w, struct slice *s, size_t *used)
{
    ASSERT(*used + s->len <= sizeof w->bytes);
    if (s->len > 0)
        memcpy(w->bytes + *used, s->data, s->len);
    s->data = w->bytes + *used;
    *used += s->len;
}

static int do_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct waiting *w = &waiting[waiting_count++];
    size_t used = 0;

    (void)worker;
    ASSERT(waiting_count < sizeof waiting / sizeof waiting[0]);
    w->from = ((struct node *)arg)->member;
    w->to = member;
    w->m = *m;
    if (m->kind == MSG_MERGE)
        keep(w, &w->m.u.MERGE.object, &used);
    else if (m->kind == MSG_READ)
        keep(w, &w->m.u.READ.key, &used);
    else if (m->kind == MSG_READ_DONE)
        keep(w, &w->m.u.READ_DONE.object, &used);
    return 0;
}

static bool do_reachable(void *arg, uint16_t member, uint16_t worker)
{
    (void)arg, (void)member, (void)worker;
    return true;
}

static int do_load(void *arg, uint32_t partition, const struct position *pos, struct slice key,
                   struct slice *object)
{
    struct record *r = find(arg, pos, key);

    (void)partition;
    *object = slice_of(r->bytes, r->len);
    return r->len == 0 ? -ERR_NOTFOUND : 0;
}

static int do_store(void *arg, uint32_t partition, const struct position *pos, struct slice object,
                    bool shrinks, uint64_t *lsn)
{
    struct node *n = arg;
    struct slice key;
    struct record *r;

    (void)partition, (void)shrinks;
    ASSERT(object_peek_key(object, &key) == 0 && object.len <= sizeof r->bytes);
    r = find(n, pos, key);
    r->len = (uint32_t)object.len;
    memcpy(r->bytes, object.data, object.len);
    object_peek_key(slice_of(r->bytes, r->len), &r->key);
    *lsn = ++n->lsn;
    return 0;
}

static int do_next_dot(void *arg, uint32_t partition, struct dot *out)
{
    struct node *n = arg;

    (void)partition;
    *out = (struct dot){n->member + 1u, ++n->dots};
    return 0;
}

static int do_witness(void *arg, uint32_t partition, struct dot seen)
{
    (void)arg, (void)partition, (void)seen;
    return 0;
}

static int do_hint(void *arg, uint32_t partition, const struct node_id *target,
                   const struct position *pos, uint64_t *lsn)
{
    (void)arg, (void)partition, (void)target, (void)pos, (void)lsn;
    return -ERR_LIMIT;
}

static void do_reply(void *arg, uint64_t token, const struct coord_reply *reply)
{
    (void)arg, (void)token;
    ASSERT(reply->status == 0);
    replies++;
}

static void boot(uint16_t members, const struct coord_conf *conf)
{
    for (uint16_t i = 0; i < members; i++) {
        struct node *n = &nodes[i];
        struct coord_host host = {.arg = n,
                                  .send = do_send,
                                  .reachable = do_reachable,
                                  .load = do_load,
                                  .store = do_store,
                                  .next_dot = do_next_dot,
                                  .witness_dot = do_witness,
                                  .hint_add = do_hint,
                                  .reply = do_reply};

        free(n->records);
        *n = (struct node){.member = i, .records = calloc(2 * KEYS, sizeof *n->records)};
        n->coord = coord_init(aligned_alloc(16, (coord_size(conf) + 15) & ~(size_t)15), conf, &host,
                              &n->a, &n->b, 0, i + 1);
        views[i] =
            (struct ring_view){.epoch = 1, .q_bits = 5, .n = 3, .member_count = members, .self = i};
        for (uint16_t m = 0; m < members; m++)
            views[i].members[m].workers = 1;
        for (uint32_t p = 0; p < 32; p++)
            views[i].owner[p] = (uint16_t)(p % members);
        ring_index_build(&views[i], 3, &indexes);
        coord_set_view(n->coord, &views[i], &indexes);
    }
}

/* Of this process alone, whatever else the machine does. */
static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t spent[NODES]; /* ns in each node's coordinator */

static void deliver(uint64_t now_us)
{
    while (waiting_count > 0) {
        static struct waiting batch[sizeof waiting / sizeof waiting[0]];
        uint32_t count = waiting_count;

        memcpy(batch, waiting, count * sizeof batch[0]);
        waiting_count = 0;
        for (uint16_t to = 0; to < NODES; to++) {
            uint64_t start = cpu_ns();

            for (uint32_t i = 0; i < count; i++) {
                struct waiting *w = &batch[i];

                if (w->to != to)
                    continue;
                ptrdiff_t moved = batch[i].bytes - waiting[i].bytes;

                if (w->m.kind == MSG_MERGE)
                    w->m.u.MERGE.object.data += moved;
                else if (w->m.kind == MSG_READ)
                    w->m.u.READ.key.data += moved;
                else if (w->m.kind == MSG_READ_DONE)
                    w->m.u.READ_DONE.object.data += moved;
                coord_receive(nodes[to].coord, w->from, 0, &w->m, now_us, 1700000000000);
            }
            if (nodes[to].coord != NULL)
                coord_durable(nodes[to].coord, nodes[to].lsn, now_us);
            spent[to] += cpu_ns() - start;
        }
    }
}

static void run(const char *what, bool write, uint32_t rounds)
{
    uint8_t value[100] = {1};
    uint64_t now_us = 1, ops = 0;

    memset(spent, 0, sizeof spent);
    replies = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        uint64_t start = cpu_ns();

        for (uint32_t i = 0; i < BATCH; i++, ops++) {
            struct slice key = slice_str(keys[(round * 7919u + i * 31u) % KEYS]);

            if (write)
                ASSERT(
                    coord_put(nodes[0].coord, ops,
                              &(struct msg_PUT){.key = key, .value = slice_of(value, sizeof value)},
                              now_us, 1700000000000) == 0);
            else
                ASSERT(coord_get(nodes[0].coord, ops, &(struct msg_GET){.key = key}, now_us,
                                 1700000000000) == 0);
        }
        coord_durable(nodes[0].coord, nodes[0].lsn, now_us);
        spent[0] += cpu_ns() - start;
        deliver(now_us);
        coord_tick(nodes[0].coord, now_us++, 1700000000000);
    }
    ASSERT(replies == ops);
    printf("%-28s %6.0f ns at the coordinator", what, (double)spent[0] / (double)ops);
    if (spent[1] > 0)
        printf(", %6.0f ns at one replica", (double)spent[1] / (double)ops);
    printf("\n");
}

int main(void)
{
    struct quorum_rule rule = {.n = 3, .r = 2, .w = 2, .sloppy = true};
    struct coord_conf conf = {.requests = 16384,
                              .timeout_ms = 2000,
                              .replica_ms = 20,
                              .hedge_min_ms = 2,
                              .sibling_limit = 64,
                              .rule_count = 1,
                              .rules = &rule};

    for (uint32_t i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "key:%010u", i);
    boot(1, &conf);
    run("N=1 SET, new keys", true, KEYS / BATCH);
    run("N=1 SET, overwrite", true, 20000);
    run("N=1 GET", false, 20000);
    boot(3, &conf);
    run("N=3 W=2 SET, new keys", true, KEYS / BATCH);
    run("N=3 W=2 SET, overwrite", true, 20000);
    run("N=3 R=2 GET", false, 20000);
    return 0;
}
