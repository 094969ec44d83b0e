/* A cluster of coordinators in one process for tests: fake stores, fake clocks, messages that wait in
 * a bag until the test delivers them in whatever order it likes. */
#ifndef CLOCKWISE_TESTS_COORD_KIT_H
#define CLOCKWISE_TESTS_COORD_KIT_H

#include <assert.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/err.h"
#include "base/rand.h"
#include "core/coord.h"
#include "core/coord_event.h"
#include "tests/messages.h"

#define KIT_MEMBERS  6
#define KIT_WORKERS  2
#define KIT_KEYS     4
#define KIT_MESSAGES 4096
#define KIT_HINTS    4096

struct kit;

struct kit_record {
    struct slice bytes; /* owned; what load sees */
    struct slice disk;  /* owned; what a crash leaves */
    uint64_t lsn;
};

struct kit_hint {
    uint32_t key;
    uint64_t lsn;
    struct node_id target;
};

struct kit_node {
    struct kit *kit;
    uint16_t member, worker;
    void *memory;
    struct coord *coord;
    struct buf a, b;
    struct kit_record records[KIT_KEYS];
    uint8_t *lent; /* by load, until the next load or store */
    struct kit_hint hints[KIT_HINTS];
    uint32_t hint_count;
    uint64_t vnode, dots, lsn, durable;
    int store_error, load_error, dot_error;
    bool up;
};

struct kit_message {
    uint16_t from_member, from_worker, to_member, to_worker;
    struct msg m;
    uint8_t *bytes;
};

struct kit_reply {
    int count, status, need, got;
    uint32_t flags;
    struct buf context, object;
};

struct kit {
    uint16_t members, workers;
    uint64_t now_us, wall_ms;
    uint64_t ids;
    struct ring_view view;
    struct ring_index index;
    struct coord_conf conf;
    struct quorum_rule rule;
    struct kit_node nodes[KIT_MEMBERS][KIT_WORKERS];
    bool cut[KIT_MEMBERS][KIT_MEMBERS]; /* messages from, to are lost, unnoticed */
    struct kit_message messages[KIT_MESSAGES];
    uint32_t message_count;
    struct kit_reply *replies; /* by token */
    uint32_t reply_count;
    uint64_t events[COORD_EVENTS];
    char keys[KIT_KEYS][16];
};

static inline uint32_t kit_key_at(const struct kit *k, const struct position *pos)
{
    for (uint32_t i = 0; i < KIT_KEYS; i++) {
        struct position p = position_of(slice_str(k->keys[i]));

        if (position_compare(&p, pos) == 0)
            return i;
    }
    UNREACHABLE();
}

static inline struct slice kit_copy(struct slice from)
{
    uint8_t *p = malloc(from.len + 1);

    ASSERT(p != NULL);
    if (from.len > 0)
        memcpy(p, from.data, from.len);
    return slice_of(p, from.len);
}

static inline void kit_replace(struct slice *slot, struct slice with)
{
    struct slice old = *slot;

    *slot = with.data == NULL ? with : kit_copy(with);
    free((void *)(uintptr_t)old.data);
}

/* ---- What the coordinators ask for. */

/* Copy a message with all that it borrows. */
static inline void kit_own(struct kit_message *to, const struct msg *m)
{
    struct slice *slices[MESSAGE_SLICES];
    unsigned count;

    to->m = *m;
    count = msg_slices(&to->m, slices);
    to->bytes = malloc(slices_bytes(slices, count) + 1);
    ASSERT(to->bytes != NULL);
    slices_move(slices, count, to->bytes);
}

static inline int kit_send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct kit_node *n = arg;
    struct kit *k = n->kit;

    if (!k->nodes[member][worker].up)
        return -ERR_UNAVAILABLE;
    ASSERT(member != n->member || worker != n->worker);
    if (k->cut[n->member][member])
        return 0;
    ASSERT(k->message_count < KIT_MESSAGES);
    struct kit_message *to = &k->messages[k->message_count++];

    to->from_member = n->member;
    to->from_worker = n->worker;
    to->to_member = member;
    to->to_worker = worker;
    kit_own(to, m);
    return 0;
}

static inline bool kit_reachable(void *arg, uint16_t member, uint16_t worker)
{
    struct kit_node *n = arg;

    return n->kit->nodes[member][worker].up;
}

static inline int kit_load(void *arg, uint32_t partition, const struct position *pos,
                           struct slice key, struct slice *object)
{
    struct kit_node *n = arg;
    uint32_t at = kit_key_at(n->kit, pos);
    struct slice *bytes = &n->records[at].bytes;

    ASSERT(ring_worker_of(partition, n->kit->workers) == n->worker);
    ASSERT(slice_equal(key, slice_str(n->kit->keys[at])));
    free(n->lent);
    n->lent = NULL;
    if (n->load_error != 0)
        return n->load_error;
    if (bytes->data == NULL)
        return -ERR_NOTFOUND;
    *object = kit_copy(*bytes);
    n->lent = (uint8_t *)(uintptr_t)object->data;
    return 0;
}

static inline int kit_store(void *arg, uint32_t partition, const struct position *pos,
                            struct slice object, bool shrinks, uint64_t *lsn)
{
    struct kit_node *n = arg;
    struct kit_record *r = &n->records[kit_key_at(n->kit, pos)];

    ASSERT(ring_worker_of(partition, n->kit->workers) == n->worker);
    if (n->store_error != 0 && !shrinks)
        return n->store_error;
    kit_replace(&r->bytes, object);
    free(n->lent);
    n->lent = NULL;
    r->lsn = *lsn = ++n->lsn;
    return 0;
}

static inline int kit_next_dot(void *arg, uint32_t partition, struct dot *out)
{
    struct kit_node *n = arg;

    (void)partition;
    if (n->dot_error != 0)
        return n->dot_error;
    *out = (struct dot){n->vnode, ++n->dots};
    return 0;
}

static inline int kit_witness(void *arg, uint32_t partition, struct dot seen)
{
    struct kit_node *n = arg;

    (void)partition;
    if (seen.vnode != n->vnode || seen.n <= n->dots)
        return 0;
    n->vnode = ++n->kit->ids;
    n->dots = 0;
    return 1;
}

static inline int kit_hint_add(void *arg, uint32_t partition, const struct node_id *target,
                               const struct position *pos, uint64_t *lsn)
{
    struct kit_node *n = arg;
    uint32_t key = kit_key_at(n->kit, pos);

    (void)partition;
    free(n->lent);
    n->lent = NULL;
    *lsn = ++n->lsn;
    for (uint32_t i = 0; i < n->hint_count; i++)
        if (n->hints[i].key == key && node_id_equal(&n->hints[i].target, target))
            return 0;
    ASSERT(n->hint_count < KIT_HINTS);
    n->hints[n->hint_count++] = (struct kit_hint){key, *lsn, *target};
    return 0;
}

static inline void kit_reply(void *arg, uint64_t token, const struct coord_reply *reply)
{
    struct kit_node *n = arg;
    struct kit_reply *r = &n->kit->replies[token];

    ASSERT(token < n->kit->reply_count && r->count == 0);
    r->count++;
    r->status = reply->status;
    r->need = reply->need;
    r->got = reply->got;
    r->flags = reply->flags;
    ASSERT(buf_append(&r->context, reply->context.data, reply->context.len) == 0);
    ASSERT(buf_append(&r->object, reply->object.data, reply->object.len) == 0);
}

static inline void kit_count(void *arg, int event, uint64_t n)
{
    struct kit_node *node = arg;

    node->kit->events[event] += n;
}

/* ---- The cluster. */

static inline struct kit_node *kit_node(struct kit *k, uint16_t member, uint16_t worker)
{
    return &k->nodes[member][worker];
}

/* The node of a member that owns a key's partition there. */
static inline struct kit_node *kit_owner(struct kit *k, uint16_t member, uint32_t key)
{
    struct position pos = position_of(slice_str(k->keys[key]));

    return kit_node(k, member,
                    ring_worker_of(position_partition(&pos, k->view.q_bits), k->workers));
}

/* The i-th member of a key's walk. */
static inline uint16_t kit_walk(const struct kit *k, uint32_t key, uint32_t i)
{
    struct position pos = position_of(slice_str(k->keys[key]));

    return k->index.walk[position_partition(&pos, k->view.q_bits)].member[i];
}

static inline void kit_boot(struct kit_node *n)
{
    struct kit *k = n->kit;
    struct coord_host host = {.arg = n,
                              .send = kit_send,
                              .reachable = kit_reachable,
                              .load = kit_load,
                              .store = kit_store,
                              .next_dot = kit_next_dot,
                              .witness_dot = kit_witness,
                              .hint_add = kit_hint_add,
                              .reply = kit_reply,
                              .count = kit_count};

    n->coord = coord_init(n->memory, &k->conf, &host, &n->a, &n->b, n->worker, ++k->ids);
    n->up = true;
    n->vnode = ++k->ids; /* a crash loses dots that others may have seen: a new id */
    n->dots = 0;
}

/* The view as a member sees it; tests keep one per member. */
static inline void kit_views(struct kit *k, struct ring_view *views)
{
    for (uint16_t m = 0; m < k->members; m++) {
        views[m] = k->view;
        views[m].self = m;
        for (uint16_t w = 0; w < k->workers; w++)
            coord_set_view(k->nodes[m][w].coord, &views[m], &k->index);
    }
}

static inline struct kit *kit_new(uint16_t members, uint16_t workers, struct quorum_rule rule,
                                  struct ring_view *views, uint32_t max_replies)
{
    struct kit *k = calloc(1, sizeof *k);

    ASSERT(k != NULL && members <= KIT_MEMBERS && workers <= KIT_WORKERS);
    k->members = members;
    k->workers = workers;
    k->wall_ms = 1700000000000;
    k->rule = rule;
    k->conf = (struct coord_conf){.requests = 64,
                                  .timeout_ms = 1000,
                                  .replica_ms = 15,
                                  .hedge_min_ms = 5,
                                  .sibling_limit = 8,
                                  .rule_count = 1,
                                  .rules = &k->rule};
    k->replies = calloc(max_replies, sizeof *k->replies);
    k->reply_count = max_replies;
    k->view = (struct ring_view){
        .epoch = 1, .version = 1, .q_bits = 3, .n = rule.n, .member_count = members};
    for (uint16_t m = 0; m < members; m++) {
        k->view.members[m] = (struct member){.workers = workers, .id.b = {(uint8_t)(m + 1)}};
        for (uint16_t w = 0; w < workers; w++) {
            struct kit_node *n = &k->nodes[m][w];

            n->kit = k;
            n->member = m;
            n->worker = w;
            n->memory = aligned_alloc(16, (coord_size(&k->conf) + 15) & ~(size_t)15);
            ASSERT(n->memory != NULL);
            kit_boot(n);
        }
    }
    for (uint32_t p = 0; p < 8; p++)
        k->view.owner[p] = (uint16_t)(p % members);
    ring_index_build(&k->view, rule.n, &k->index);
    for (uint32_t i = 0; i < KIT_KEYS; i++)
        memcpy(k->keys[i], "key-0", 6), k->keys[i][4] = (char)('0' + i);
    kit_views(k, views);
    return k;
}

static inline void kit_drop_message(struct kit *k, uint32_t i)
{
    free(k->messages[i].bytes);
    k->messages[i] = k->messages[--k->message_count];
}

static inline void kit_free(struct kit *k)
{
    while (k->message_count > 0)
        kit_drop_message(k, 0);
    for (uint32_t i = 0; i < k->reply_count; i++) {
        buf_free(&k->replies[i].context);
        buf_free(&k->replies[i].object);
    }
    for (uint16_t m = 0; m < k->members; m++)
        for (uint16_t w = 0; w < k->workers; w++) {
            struct kit_node *n = &k->nodes[m][w];

            for (uint32_t i = 0; i < KIT_KEYS; i++) {
                kit_replace(&n->records[i].bytes, slice_of(NULL, 0));
                kit_replace(&n->records[i].disk, slice_of(NULL, 0));
            }
            free(n->lent);
            free(n->memory);
            buf_free(&n->a);
            buf_free(&n->b);
        }
    free(k->replies);
    free(k);
}

static inline void kit_sync(struct kit_node *n)
{
    for (uint32_t i = 0; i < KIT_KEYS; i++)
        if (n->records[i].lsn > n->durable)
            kit_replace(&n->records[i].disk, n->records[i].bytes);
    n->durable = n->lsn;
    if (n->up)
        coord_durable(n->coord, n->durable, n->kit->now_us);
}

static inline void kit_sync_all(struct kit *k)
{
    for (uint16_t m = 0; m < k->members; m++)
        for (uint16_t w = 0; w < k->workers; w++)
            if (k->nodes[m][w].up)
                kit_sync(&k->nodes[m][w]);
}

static inline void kit_deliver(struct kit *k, uint32_t i, bool keep)
{
    struct kit_message *m = &k->messages[i];
    struct kit_node *to = &k->nodes[m->to_member][m->to_worker];
    struct kit_message copy;

    kit_own(&copy, &m->m);
    copy.from_member = m->from_member;
    copy.from_worker = m->from_worker;
    if (!keep)
        kit_drop_message(k, i);
    if (to->up)
        coord_receive(to->coord, copy.from_member, copy.from_worker, &copy.m, k->now_us,
                      k->wall_ms);
    free(copy.bytes);
}

/* Deliver everything, sync everything, until nothing moves. */
static inline void kit_settle(struct kit *k)
{
    do {
        while (k->message_count > 0)
            kit_deliver(k, 0, false);
        kit_sync_all(k);
    } while (k->message_count > 0);
}

static inline void kit_pass(struct kit *k, uint64_t us)
{
    k->now_us += us;
    k->wall_ms += us / 1000;
    for (uint16_t m = 0; m < k->members; m++)
        for (uint16_t w = 0; w < k->workers; w++)
            if (k->nodes[m][w].up)
                ASSERT(coord_tick(k->nodes[m][w].coord, k->now_us, k->wall_ms) > k->now_us);
}

/* Take a node off the net: what was on its way to it or from it is lost, and everybody knows. */
static inline void kit_down(struct kit *k, struct kit_node *n)
{
    n->up = false;
    for (uint32_t i = 0; i < k->message_count;) {
        struct kit_message *m = &k->messages[i];

        if ((m->to_member == n->member && m->to_worker == n->worker) ||
            (m->from_member == n->member && m->from_worker == n->worker))
            kit_drop_message(k, i);
        else
            i++;
    }
    for (uint16_t m = 0; m < k->members; m++)
        for (uint16_t w = 0; w < k->workers; w++)
            if (k->nodes[m][w].up)
                coord_link_down(k->nodes[m][w].coord, n->member, n->worker, k->now_us, k->wall_ms);
}

static inline void kit_down_member(struct kit *k, uint16_t member)
{
    for (uint16_t w = 0; w < k->workers; w++)
        kit_down(k, &k->nodes[member][w]);
}

/* kill -9 and start again: what was not on disk is gone. */
static inline void kit_crash(struct kit *k, struct kit_node *n, struct ring_view *views)
{
    kit_down(k, n);
    for (uint32_t i = 0; i < KIT_KEYS; i++)
        kit_replace(&n->records[i].bytes, n->records[i].disk);
    for (uint32_t i = 0; i < n->hint_count;)
        if (n->hints[i].lsn > n->durable)
            n->hints[i] = n->hints[--n->hint_count];
        else
            i++;
    n->lsn++;
    kit_boot(n);
    coord_set_view(n->coord, &views[n->member], &k->index);
}

/* ---- Requests. */

static inline int kit_put(struct kit *k, struct kit_node *n, uint64_t token, struct msg_PUT put)
{
    return coord_put(n->coord, token, &put, k->now_us, k->wall_ms);
}

static inline int kit_get(struct kit *k, struct kit_node *n, uint64_t token, struct msg_GET get)
{
    return coord_get(n->coord, token, &get, k->now_us, k->wall_ms);
}

static inline struct slice kit_bytes(const struct buf *b)
{
    return slice_of(b->data == NULL ? NULL : buf_head(b), buf_len(b));
}

/* Hand over every hint and merge every replica of every key with every other: what the processes in
 * the background do in the end. */
static inline void kit_repair(struct kit *k)
{
    struct object *a = malloc(sizeof *a), *b = malloc(sizeof *b);

    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        struct buf whole = {0};

        for (uint16_t m = 0; m < k->members; m++) {
            struct kit_node *n = kit_owner(k, m, key);
            struct buf next = {0};
            bool hinted = false, primary = false;

            for (uint32_t i = 0; i < k->rule.n && i < k->members; i++)
                primary |= kit_walk(k, key, i) == m;
            for (uint32_t i = 0; i < n->hint_count; i++)
                hinted |= n->hints[i].key == key;
            if (n->records[key].bytes.data == NULL || (!primary && !hinted))
                continue;
            ASSERT(object_open(a, n->records[key].bytes) == 0);
            if (buf_len(&whole) == 0)
                object_empty(b, slice_str(k->keys[key]));
            else
                ASSERT(object_open(b, kit_bytes(&whole)) == 0);
            ASSERT(object_merge(a, b, &next) == 0);
            buf_free(&whole);
            whole = next;
        }
        for (uint16_t m = 0; m < k->members; m++)
            if (buf_len(&whole) > 0)
                kit_replace(&kit_owner(k, m, key)->records[key].bytes, kit_bytes(&whole));
        buf_free(&whole);
    }
    free(a);
    free(b);
}

#endif
