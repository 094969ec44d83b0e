/* core/coord: requests, replicas, forwards, failures, over fake stores and a bag of messages. The
 * random runs are in core_coord_random.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/coord_kit.h"

#define REPLIES 512

static struct ring_view views[KIT_MEMBERS];

static const struct quorum_rule three = {.n = 3, .r = 2, .w = 2, .sloppy = true};

static struct kit *cluster(uint16_t members, uint16_t workers, struct quorum_rule rule)
{
    return kit_new(members, workers, rule, views, REPLIES);
}

static struct slice key_of(const struct kit *k, uint32_t key)
{
    return slice_str(k->keys[key]);
}

static struct msg_PUT set(const struct kit *k, uint32_t key, const char *value)
{
    return (struct msg_PUT){.key = key_of(k, key), .value = slice_str(value)};
}

/* Is the reply to this token a success whose object has exactly these live values, separated by
 * spaces and in any order? */
static bool shows(struct kit *k, uint64_t token, const char *values)
{
    static struct object o;
    struct sibling s;
    struct slice bytes = kit_bytes(&k->replies[token].object);
    size_t found = 0, wanted = 0, length = 0;
    char text[256];

    if (k->replies[token].count != 1 || k->replies[token].status != 0)
        return false;
    if (bytes.len == 0)
        return values[0] == 0;
    ASSERT(object_open(&o, bytes) == 0);
    for (size_t cursor = 0; object_next(&o, &cursor, &s);) {
        if ((s.flags & SIBLING_TOMBSTONE) || (s.expiry_ms != 0 && s.expiry_ms <= k->wall_ms))
            continue;
        memcpy(text, s.value.data, s.value.len);
        text[s.value.len] = 0;
        found++;
        if (strstr(values, text) == NULL)
            return false;
        length += s.value.len;
    }
    for (const char *p = values; *p != 0; p++)
        wanted += *p == ' ';
    return found == (values[0] == 0 ? 0 : wanted + 1) && length + wanted == strlen(values);
}

/* The context of the object that a read has shown, as text in out; its length. */
static struct slice context_of(struct kit *k, uint64_t token, uint32_t key, char *out)
{
    static struct object o;

    ASSERT(object_open(&o, kit_bytes(&k->replies[token].object)) == 0);
    int len = causal_to_text(&o.causal, key_of(k, key), out, LIMIT_CONTEXT_TEXT);

    ASSERT(len > 0);
    return slice_of(out, (size_t)len);
}

static uint64_t next_token;

static uint64_t put(struct kit *k, struct kit_node *n, struct msg_PUT m)
{
    uint64_t token = next_token++ % REPLIES;

    assert_int_equal(kit_put(k, n, token, m), 0);
    return token;
}

static uint64_t get(struct kit *k, struct kit_node *n, uint32_t key, uint8_t r)
{
    uint64_t token = next_token++ % REPLIES;

    assert_int_equal(kit_get(k, n, token, (struct msg_GET){.key = key_of(k, key), .r = r}), 0);
    return token;
}

/* Put and wait for the end of everything. */
static struct kit_reply *do_put(struct kit *k, struct kit_node *n, struct msg_PUT m)
{
    uint64_t token = put(k, n, m);

    kit_settle(k);
    assert_int_equal(k->replies[token].count, 1);
    return &k->replies[token];
}

static uint64_t do_get(struct kit *k, struct kit_node *n, uint32_t key, uint8_t r)
{
    uint64_t token = get(k, n, key, r);

    kit_settle(k);
    return token;
}

static void finish(struct kit *k)
{
    for (uint16_t m = 0; m < k->members; m++)
        for (uint16_t w = 0; w < k->workers; w++)
            if (k->nodes[m][w].up)
                assert_int_equal(coord_in_flight(k->nodes[m][w].coord), 0);
    kit_free(k);
    next_token = 0;
}

/* ---- One node. */

static void test_alone(void **state)
{
    struct kit *k = cluster(1, 1, three);
    struct kit_node *n = kit_node(k, 0, 0);
    uint64_t t;

    (void)state;
    t = put(k, n, set(k, 0, "a"));
    assert_int_equal(k->replies[t].count, 0); /* not before it is on disk */
    kit_sync(n);
    assert_int_equal(k->replies[t].count, 1);
    assert_int_equal(k->replies[t].status, 0);
    assert_int_equal(k->replies[t].flags, PUT_APPLIED);
    t = get(k, n, 0, 0);
    assert_true(shows(k, t, "a")); /* in the call */
    t = get(k, n, 1, 0);
    assert_true(shows(k, t, ""));
    assert_int_equal(do_put(k, n, set(k, 0, "b"))->flags, PUT_APPLIED | PUT_EXISTED);
    assert_true(shows(k, do_get(k, n, 0, 0), "b"));
    assert_int_equal(k->message_count, 0);
    finish(k);
}

static void test_wanted_too_many(void **state)
{
    struct kit *k = cluster(1, 1, three);
    struct kit_node *n = kit_node(k, 0, 0);
    struct msg_PUT m = set(k, 0, "a");
    struct kit_reply *r;

    (void)state;
    m.w = 2;
    r = do_put(k, n, m);
    assert_int_equal(r->status, -ERR_NOQUORUM);
    assert_true(r->need == 2 && r->got == 1);
    assert_true(shows(k, do_get(k, n, 0, 0), "a")); /* it has taken effect all the same */
    r = &k->replies[do_get(k, n, 0, 2)];
    assert_int_equal(r->status, -ERR_NOQUORUM);
    assert_true(r->need == 2 && r->got == 1);
    finish(k);
}

static void test_slow_disk(void **state)
{
    struct kit *k = cluster(1, 1, three);
    struct kit_node *n = kit_node(k, 0, 0);
    uint64_t t = put(k, n, set(k, 0, "a")), u;

    (void)state;
    kit_pass(k, 500000);
    u = put(k, n, set(k, 0, "b"));
    kit_pass(k, 600000);
    assert_int_equal(k->replies[t].status, -ERR_NOQUORUM);
    assert_int_equal(k->replies[u].count, 0);
    kit_sync(n);
    assert_int_equal(k->replies[u].status, 0);
    finish(k);
}

static void test_operations(void **state)
{
    struct kit *k = cluster(1, 1, three);
    struct kit_node *n = kit_node(k, 0, 0);
    struct msg_PUT m = {.key = key_of(k, 0), .op = PUT_DELETE, .flags = PUT_IF_EXISTS};
    struct kit_reply *r;

    (void)state;
    assert_int_equal(do_put(k, n, m)->flags, 0); /* nothing to delete */
    do_put(k, n, set(k, 0, "a"));
    m = (struct msg_PUT){
        .key = key_of(k, 0), .op = PUT_EXPIRE, .expiry = k->wall_ms + 5000, .flags = PUT_IF_TTL};
    assert_int_equal(do_put(k, n, m)->flags, PUT_EXISTED);
    m.flags = PUT_IF_NO_TTL;
    assert_int_equal(do_put(k, n, m)->flags, PUT_EXISTED | PUT_APPLIED);
    m.flags = PUT_IF_LATER;
    m.expiry -= 1;
    assert_int_equal(do_put(k, n, m)->flags, PUT_EXISTED);
    m.flags = PUT_IF_EARLIER;
    assert_int_equal(do_put(k, n, m)->flags, PUT_EXISTED | PUT_APPLIED);
    m = set(k, 0, "b");
    m.flags = PUT_KEEP_TTL | PUT_RETURN_OLD | PUT_WANT_CONTEXT;
    uint64_t t = put(k, n, m);

    kit_settle(k);
    assert_true(shows(k, t, "a"));
    assert_true(buf_len(&k->replies[t].context) > 0);
    kit_pass(k, 6000000);
    assert_true(shows(k, do_get(k, n, 0, 0), "")); /* it has kept its expiry */
    do_put(k, n, set(k, 0, "c"));
    m = (struct msg_PUT){.key = key_of(k, 0), .op = PUT_EXPIRE, .expiry = 1};
    assert_int_equal(do_put(k, n, m)->flags, PUT_EXISTED | PUT_APPLIED);
    assert_true(shows(k, do_get(k, n, 0, 0), ""));
    m = set(k, 0, "d");
    m.flags = PUT_HAS_CONTEXT;
    m.context = slice_str("nonsense");
    r = do_put(k, n, m);
    assert_int_equal(r->status, -ERR_BADCTX);
    n->store_error = -ERR_DISKFULL;
    r = do_put(k, n, set(k, 0, "e"));
    assert_int_equal(r->status, -ERR_DISKFULL);
    finish(k);
}

static void test_old_value_of_any_size(void **state)
{
    struct kit *k = cluster(1, 1, three);
    struct kit_node *n = kit_node(k, 0, 0);
    char *big = malloc(1 << 20);

    (void)state;
    memset(big, 'x', 1 << 20);
    struct msg_PUT m = set(k, 0, "small");

    m.value = slice_of(big, 1 << 20);
    do_put(k, n, m);
    m = set(k, 0, "small");
    m.flags = PUT_RETURN_OLD | PUT_WANT_CONTEXT;
    struct kit_reply *r = do_put(k, n, m);

    assert_true(r->status == 0 && buf_len(&r->object) > 1 << 20 && buf_len(&r->context) > 0);
    free(big);
    finish(k);
}

static void test_full_tables(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, kit_walk(k, 0, 0), 0);
    int accepted = 0;

    (void)state;
    while (kit_put(k, n, (uint64_t)accepted, set(k, 0, "x")) == 0)
        accepted++;
    assert_int_equal(accepted, k->conf.requests);
    kit_settle(k);
    for (int i = 0; i < accepted; i++)
        assert_true(k->replies[i].count == 1 && k->replies[i].status == 0);
    finish(k);
    k = cluster(1, 1, three);
    n = kit_node(k, 0, 0);
    for (accepted = 0; kit_put(k, n, (uint64_t)accepted, set(k, 0, "x")) == 0;)
        accepted++;
    assert_int_equal(accepted, 4 * k->conf.requests);
    assert_int_equal(kit_put(k, n, REPLIES - 1, set(k, 0, "x")), -ERR_BUSY);
    kit_settle(k);
    assert_int_equal(k->replies[accepted - 1].count, 1);
    finish(k);
}

/* ---- Siblings. */

/* Client 1 and client 2 of the grocery cart; each remembers its last context. */
struct shopper {
    struct kit_node *at;
    struct buf context;
};

static void shop(struct kit *k, struct shopper *s, const char *cart)
{
    struct msg_PUT m = set(k, 0, cart);

    m.flags = PUT_HAS_CONTEXT | PUT_WANT_CONTEXT;
    m.context = kit_bytes(&s->context);
    struct kit_reply *r = do_put(k, s->at, m);

    assert_int_equal(r->status, 0);
    buf_clear(&s->context);
    assert_int_equal(buf_append(&s->context, buf_head(&r->context), buf_len(&r->context)), 0);
}

/* What a read shows is what the client has then seen. */
static void look(struct kit *k, struct shopper *s)
{
    char text[LIMIT_CONTEXT_TEXT];
    struct slice context = context_of(k, do_get(k, s->at, 0, 0), 0, text);

    buf_clear(&s->context);
    assert_int_equal(buf_append(&s->context, context.data, context.len), 0);
}

static void test_grocery_cart(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 2; nodes++) {
        struct kit *k = cluster(3, 1, three);
        struct shopper one = {.at = kit_owner(k, 0, 0)}, two = {.at = kit_owner(k, nodes - 1, 0)};

        shop(k, &one, "milk");
        shop(k, &two, "eggs");
        assert_true(shows(k, do_get(k, one.at, 0, 0), "milk eggs"));
        shop(k, &one, "milk+flour");
        shop(k, &two, "eggs+milk+ham");
        shop(k, &one, "milk+flour+eggs+bacon");
        assert_true(shows(k, do_get(k, two.at, 0, 0), "milk+flour+eggs+bacon eggs+milk+ham"));
        look(k, &one);
        shop(k, &one, "all");
        assert_true(shows(k, do_get(k, two.at, 0, 0), "all"));
        buf_free(&one.context);
        buf_free(&two.context);
        finish(k);
    }
}

static void test_retried_request(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct msg_PUT m = set(k, 0, "once");
    uint64_t duplicates;

    (void)state;
    m.flags = PUT_HAS_CONTEXT;
    m.request_id = 77;
    do_put(k, kit_owner(k, 0, 0), m);
    do_put(k, kit_owner(k, 0, 0), m);
    do_put(k, kit_owner(k, 1, 0), m);
    duplicates = k->events[COORD_DUPLICATE];
    assert_int_equal(duplicates, 2);
    assert_true(shows(k, do_get(k, kit_owner(k, 2, 0), 0, 3), "once"));
    m.request_id = 78;
    do_put(k, kit_owner(k, 1, 0), m);
    assert_true(shows(k, do_get(k, kit_owner(k, 2, 0), 0, 3), "once once"));
    finish(k);
}

static void test_sibling_cap(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct msg_PUT m = set(k, 0, "v");

    (void)state;
    m.flags = PUT_HAS_CONTEXT;
    for (uint32_t i = 0; i < k->conf.sibling_limit; i++)
        assert_int_equal(do_put(k, kit_owner(k, 0, 0), m)->status, 0);
    assert_int_equal(do_put(k, kit_owner(k, 0, 0), m)->status, -ERR_SIBLINGS);
    assert_int_equal(k->events[COORD_SIBLINGS_NEAR], k->conf.sibling_limit / 2);
    assert_int_equal(k->events[COORD_SIBLINGS_OVER], 1);
    assert_int_equal(do_put(k, kit_owner(k, 0, 0), set(k, 0, "plain"))->status, 0);
    assert_true(shows(k, do_get(k, kit_owner(k, 1, 0), 0, 3), "plain"));
    finish(k);
}

/* ---- Quorums. */

static void test_dead_primary(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *n = kit_owner(k, kit_walk(k, 0, 0), 0);
    struct kit_node *fallback = kit_owner(k, kit_walk(k, 0, 3), 0);
    uint16_t dead = kit_walk(k, 0, 1);
    struct msg_PUT m = set(k, 0, "a");

    (void)state;
    kit_down_member(k, dead);
    m.w = 3;
    assert_int_equal(do_put(k, n, m)->status, 0);
    assert_int_equal(fallback->hint_count, 1);
    assert_true(node_id_equal(&fallback->hints[0].target, &k->view.members[dead].id));
    assert_int_equal(n->hint_count, 0);
    /* Reads see what the fallback holds. */
    kit_down_member(k, n->member);
    kit_down_member(k, kit_walk(k, 0, 2));
    assert_true(shows(k, do_get(k, fallback, 0, 1), "a"));
    finish(k);
}

static void test_three_nodes_one_dead(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);

    (void)state;
    kit_down_member(k, 1);
    assert_int_equal(do_put(k, n, set(k, 0, "a"))->status, 0);
    assert_int_equal(n->hint_count, 1); /* at once: the link is known to be down */
    kit_down_member(k, 2);
    struct kit_reply *r = do_put(k, n, set(k, 0, "b"));

    assert_int_equal(r->status, -ERR_NOQUORUM);
    assert_true(r->need == 2 && r->got == 1);
    assert_int_equal(n->hint_count, 2);
    assert_true(shows(k, do_get(k, n, 0, 1), "b"));
    finish(k);
}

static void test_frozen_primary(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);

    (void)state;
    k->cut[0][1] = true;
    assert_int_equal(do_put(k, n, set(k, 0, "a"))->status, 0);
    assert_int_equal(n->hint_count, 0);
    kit_pass(k, 400000);
    assert_int_equal(n->hint_count, 1);
    assert_int_equal(coord_in_flight(n->coord), 0);
    /* It has been silent for the write: no read waits for it now, */
    uint64_t t = do_get(k, n, 0, 2);

    assert_true(shows(k, t, "a"));
    assert_int_equal(k->events[COORD_HEDGE], 0);
    /* and one that tries it again later is hedged. */
    kit_pass(k, 1000000);
    t = get(k, n, 0, 2);
    kit_pass(k, 6000);
    kit_settle(k);
    assert_true(shows(k, t, "a"));
    assert_int_equal(k->events[COORD_HEDGE], 1);
    kit_pass(k, 400000);
    finish(k);
}

static void test_timeout(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);
    struct msg_PUT m = set(k, 0, "a");

    (void)state;
    k->cut[0][1] = k->cut[0][2] = true;
    m.timeout_ms = 300;
    uint64_t t = put(k, n, m), u = get(k, n, 0, 2);

    kit_sync(n);
    kit_pass(k, 299000);
    assert_int_equal(k->replies[t].count + k->replies[u].count, 0);
    kit_pass(k, 1000);
    assert_int_equal(k->replies[t].status, -ERR_NOQUORUM);
    kit_pass(k, 700000);
    assert_int_equal(n->hint_count, 2);
    assert_int_equal(k->replies[u].status, -ERR_NOQUORUM);
    finish(k);
}

static void test_strict_quorum(void **state)
{
    struct quorum_rule strict = {.n = 3, .r = 2, .w = 2};
    struct kit *k = cluster(5, 1, strict);
    struct kit_node *n = kit_owner(k, kit_walk(k, 0, 0), 0);
    struct kit_node *outside = kit_owner(k, kit_walk(k, 0, 3), 0);

    (void)state;
    kit_down_member(k, kit_walk(k, 0, 1));
    kit_down_member(k, kit_walk(k, 0, 2));
    assert_int_equal(do_put(k, n, set(k, 0, "a"))->status, -ERR_NOQUORUM);
    assert_int_equal(n->hint_count, 2);
    assert_int_equal(k->replies[do_get(k, n, 0, 0)].status, -ERR_NOQUORUM);
    kit_down_member(k, kit_walk(k, 0, 0));
    struct kit_reply *r = do_put(k, outside, set(k, 0, "b"));

    assert_true(r->status == -ERR_NOQUORUM && r->got == 0);
    assert_null(outside->records[0].bytes.data);
    finish(k);
}

static void test_fallback_coordinates(void **state)
{
    struct kit *k = cluster(5, 2, three);
    uint16_t at = kit_walk(k, 0, 3);
    struct kit_node *owner = kit_owner(k, at, 0);
    struct kit_node *sibling = kit_node(k, at, 1 - owner->worker);

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        kit_down_member(k, kit_walk(k, 0, i));
    /* Through the worker of the fallback that does not own the partition. */
    assert_int_equal(do_put(k, sibling, set(k, 0, "a"))->status, 0);
    assert_int_equal(k->events[COORD_FALLBACK_COORDINATOR], 1);
    assert_int_equal(owner->hint_count + kit_owner(k, kit_walk(k, 0, 4), 0)->hint_count, 3);
    assert_true(shows(k, do_get(k, sibling, 0, 0), "a"));
    finish(k);
}

/* ---- Forwards. */

static void test_forward(void **state)
{
    struct kit *k = cluster(5, 2, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    struct kit_node *owner = kit_owner(k, kit_walk(k, 0, 0), 0);
    struct kit_node *sibling = kit_node(k, owner->member, 1 - owner->worker);
    struct msg_PUT m = set(k, 0, "a");

    (void)state;
    m.flags = PUT_WANT_CONTEXT;
    struct kit_reply *r = do_put(k, outside, m);

    assert_true(r->status == 0 && r->got >= 2 && buf_len(&r->context) > 0);
    assert_true(shows(k, do_get(k, outside, 0, 0), "a"));
    m = set(k, 0, "b");
    m.flags = PUT_RETURN_OLD;
    uint64_t t = put(k, sibling, m);

    kit_settle(k);
    assert_true(shows(k, t, "a"));
    assert_true(shows(k, do_get(k, sibling, 0, 0), "b"));
    assert_int_equal(k->events[COORD_PUT], 2);
    assert_int_equal(k->events[COORD_PUT_FORWARDED], 2);
    finish(k);
}

static void test_forward_lost(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    uint16_t first = kit_walk(k, 0, 0), second = kit_walk(k, 0, 1);
    uint64_t t, u;

    (void)state;
    k->cut[outside->member][first] = true;
    t = put(k, outside, set(k, 0, "a"));
    u = get(k, outside, 0, 0);
    kit_pass(k, 250000); /* the read goes on to the next primary, the write does not */
    kit_settle(k);
    assert_true(shows(k, u, ""));
    assert_int_equal(k->replies[t].count, 0);
    kit_pass(k, 800000);
    assert_int_equal(k->replies[t].status, -ERR_UNKNOWN);
    t = put(k, outside, set(k, 0, "a"));
    u = get(k, outside, 0, 0);
    kit_down_member(k, first);
    assert_int_equal(k->replies[t].status, -ERR_UNKNOWN);
    kit_settle(k);
    assert_true(shows(k, u, ""));
    /* Nothing is sent to a node known to be down. */
    assert_int_equal(do_put(k, outside, set(k, 0, "b"))->status, 0);
    assert_non_null(kit_node(k, second, 0)->records[0].bytes.data);
    finish(k);
}

static void test_parked_write(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    struct kit_node *first = kit_node(k, kit_walk(k, 0, 0), 0);
    char value[300], context[LIMIT_CONTEXT_TEXT];
    struct msg_PUT m = set(k, 0, "a");
    uint64_t t;

    (void)state;
    do_put(k, outside, m);
    t = do_get(k, outside, 0, 0);
    m.context = context_of(k, t, 0, context);
    m.flags = PUT_HAS_CONTEXT;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    m.value = slice_str(value);
    first->dot_error = -ERR_BUSY;
    t = put(k, outside, m);
    uint64_t u = put(k, outside, set(k, 0, "never"));

    kit_settle(k);
    for (int i = 0; i < 10; i++)
        kit_pass(k, 2000);
    assert_int_equal(k->replies[t].count, 0);
    assert_int_equal(kit_put(k, first, REPLIES - 1, m), -ERR_BUSY); /* a client's own has a host */
    first->dot_error = 0;
    kit_pass(k, 2000);
    kit_settle(k);
    assert_int_equal(k->replies[t].status, 0);
    assert_int_equal(k->replies[u].status, 0);
    first->dot_error = -ERR_BUSY;
    t = put(k, outside, m);
    kit_settle(k);
    kit_pass(k, 900000);
    kit_settle(k);
    assert_int_equal(k->replies[t].status, -ERR_BUSY);
    first->dot_error = 0;
    finish(k);
}

static void test_refused_forward(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    struct kit_node *first = kit_node(k, kit_walk(k, 0, 0), 0),
                    *second = kit_node(k, kit_walk(k, 0, 1), 0);
    char value[3000];
    struct msg_PUT m = set(k, 0, "a");

    (void)state;
    /* The next one takes it, whole. */
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    m.value = slice_str(value);
    m.flags = PUT_WANT_CONTEXT;
    first->dot_error = -ERR_NOTWHOLE;
    struct kit_reply *r = do_put(k, outside, m);

    assert_true(r->status == 0 && r->got >= 2 && buf_len(&r->context) > 0);
    assert_int_equal(k->events[COORD_PUT_REROUTED], 1);
    assert_int_equal(second->dots, 1);
    first->dot_error = 0;
    m.flags = PUT_RETURN_OLD;
    m.value = slice_str("b");
    m.w = 1;
    uint64_t t = put(k, outside, m);

    kit_settle(k);
    struct slice old = kit_bytes(&k->replies[t].object);
    assert_non_null(memmem(old.data, old.len, value, sizeof value - 1));
    /* When all refuse, and this worker too, that is the answer. */
    for (uint32_t i = 0; i < 5; i++)
        kit_node(k, kit_walk(k, 0, i), 0)->dot_error = -ERR_NOTWHOLE;
    assert_int_equal(do_put(k, outside, set(k, 0, "c"))->status, -ERR_NOTWHOLE);
    /* This worker takes what all primaries refuse. */
    outside->dot_error = 0;
    assert_int_equal(do_put(k, outside, set(k, 0, "d"))->status, 0);
    assert_int_equal(outside->dots, 1);
    for (uint32_t i = 0; i < 5; i++)
        kit_node(k, kit_walk(k, 0, i), 0)->dot_error = 0;
    assert_true(shows(k, do_get(k, outside, 0, 0), "b d")); /* it had not seen b */
    finish(k);
}

/* A refusal that comes twice says nothing of the one who has the write then. */
static void test_refusal_twice(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    struct kit_node *first = kit_node(k, kit_walk(k, 0, 0), 0);
    uint64_t dots = 0;

    (void)state;
    first->dot_error = -ERR_NOTWHOLE;
    uint64_t t = put(k, outside, set(k, 0, "a"));

    kit_deliver(k, 0, false); /* PUT */
    assert_int_equal(k->messages[0].m.kind, MSG_PUT_DONE);
    kit_deliver(k, 0, true);
    for (uint32_t i = 0; i < k->message_count; i++)
        if (k->messages[i].m.kind == MSG_PUT_DONE)
            kit_deliver(k, i, false);
    kit_settle(k);
    assert_int_equal(k->replies[t].status, 0);
    for (uint32_t i = 0; i < 5; i++)
        dots += kit_node(k, kit_walk(k, 0, i), 0)->dots;
    assert_int_equal(dots, 1);
    finish(k);
}

static void test_forward_too_large_to_keep(void **state)
{
    struct kit *k = cluster(5, 1, three);
    struct kit_node *outside = kit_node(k, kit_walk(k, 0, 3), 0);
    struct kit_node *first = kit_node(k, kit_walk(k, 0, 0), 0);
    char *value = malloc(6 << 20);
    struct msg_PUT m = set(k, 0, "");

    (void)state;
    assert_non_null(value);
    memset(value, 'v', 6 << 20);
    m.value = slice_of(value, 6 << 20);
    first->dot_error = -ERR_NOTWHOLE;
    assert_int_equal(do_put(k, outside, m)->status, -ERR_NOTWHOLE);
    first->dot_error = 0;
    assert_int_equal(do_put(k, outside, m)->status, 0);
    free(value);
    finish(k);
}

static void test_crashed_sibling(void **state)
{
    struct kit *k = cluster(3, 2, three);
    struct kit_node *owner = kit_owner(k, 0, 0);
    struct kit_node *sibling = kit_node(k, 0, 1 - owner->worker);

    (void)state;
    kit_down(k, owner);
    assert_int_equal(do_put(k, sibling, set(k, 0, "a"))->status, 0);
    assert_true(shows(k, do_get(k, sibling, 0, 0), "a"));
    finish(k);
}

/* ---- Read repair. */

static void make_stale(struct kit *k, uint16_t member)
{
    k->cut[0][member] = true;
    do_put(k, kit_owner(k, 0, 0), set(k, 0, "new"));
    kit_pass(k, 400000);
    k->cut[0][member] = false;
}

static void test_read_repair(void **state)
{
    (void)state;
    for (int blocking = 0; blocking <= 1; blocking++) {
        struct quorum_rule rule = three;
        struct kit *k;

        rule.blocking_repair = blocking;
        k = cluster(3, 1, rule);
        do_put(k, kit_owner(k, 0, 0), set(k, 0, "old"));
        make_stale(k, 1);
        assert_true(shows(k, do_get(k, kit_owner(k, 2, 0), 0, 3), "new"));
        assert_int_equal(k->events[COORD_READ_REPAIR], 1);
        assert_true(shows(k, do_get(k, kit_owner(k, 1, 0), 0, 1), "new"));
        /* A coordinator that is stale itself learns too. */
        make_stale(k, 2);
        assert_true(shows(k, do_get(k, kit_owner(k, 2, 0), 0, 2), "new"));
        assert_true(shows(k, do_get(k, kit_owner(k, 2, 0), 0, 1), "new"));
        finish(k);
    }
}

static void test_damaged_replica(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);

    (void)state;
    do_put(k, n, set(k, 0, "a"));
    n->load_error = -ERR_CORRUPT;
    uint64_t t = get(k, n, 0, 2);

    kit_deliver(k, 0, false);
    kit_deliver(k, 0, false);
    n->load_error = 0; /* the store has set the damaged record aside */
    kit_replace(&n->records[0].bytes, slice_of(NULL, 0));
    kit_settle(k);
    assert_true(shows(k, t, "a"));
    assert_non_null(n->records[0].bytes.data);
    finish(k);
}

static void test_full_disk(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 1, 0);
    struct msg_PUT m = set(k, 0, "a");

    (void)state;
    /* Two that each know what the other does not, and one that can take in neither. */
    m.flags = PUT_HAS_CONTEXT;
    m.w = 1;
    k->cut[0][1] = k->cut[0][2] = k->cut[2][1] = true;
    do_put(k, kit_owner(k, 0, 0), m);
    m.value = slice_str("b");
    kit_down_member(k, 0);
    kit_node(k, 0, 0)->up = true;
    k->cut[2][0] = true;
    do_put(k, kit_owner(k, 2, 0), m);
    kit_pass(k, 400000);
    memset(k->cut, 0, sizeof k->cut);
    for (int damaged = 0; damaged <= 1; damaged++) {
        n->store_error = -ERR_DISKFULL;
        n->load_error = damaged ? -ERR_CORRUPT : 0;
        /* With R=3 a damaged replica cannot count. */
        assert_true(shows(k, do_get(k, n, 0, (uint8_t)(3 - damaged)), "a b"));
        n->store_error = n->load_error = 0;
        assert_null(n->records[0].bytes.data);
    }
    /* Others may have room for a write. */
    n->store_error = -ERR_DISKFULL;
    assert_int_equal(do_put(k, n, set(k, 0, "c"))->status, 0);
    assert_int_equal(k->events[COORD_PUT_FORWARDED], 1);
    n->store_error = 0;
    kit_pass(k, 400000);
    assert_true(shows(k, do_get(k, n, 0, 3), "c"));
    finish(k);
}

static void test_forgotten_dots(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);
    uint64_t vnode = n->vnode;
    struct msg_PUT m = set(k, 0, "b");

    (void)state;
    do_put(k, n, set(k, 0, "a"));
    n->dots = 0; /* restored from an old copy */
    m.flags = PUT_HAS_CONTEXT;
    assert_int_equal(do_put(k, n, m)->status, 0);
    assert_true(n->vnode != vnode);
    assert_true(shows(k, do_get(k, kit_owner(k, 1, 0), 0, 3), "a b"));
    /* And one that learns it from another. */
    n->dots = 0;
    vnode = n->vnode;
    kit_replace(&n->records[0].bytes, slice_of(NULL, 0));
    do_put(k, kit_owner(k, 1, 0), m);
    assert_true(n->vnode != vnode);
    finish(k);
}

static void test_garbage(void **state)
{
    struct kit *k = cluster(3, 1, three);
    struct kit_node *n = kit_owner(k, 0, 0);
    uint8_t bytes[64];
    struct rand rand;

    (void)state;
    do_put(k, n, set(k, 0, "a"));
    uint64_t t = get(k, n, 0, 2);
    uint64_t id = k->messages[0].m.u.READ.request;

    rand_seed(&rand, 1);
    for (int i = 0; i < 2000; i++) {
        struct msg m = {.kind = i % 2 ? MSG_MERGE : MSG_READ_DONE};

        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)rand_next(&rand);
        struct slice object = slice_of(bytes, rand_below(&rand, sizeof bytes));

        if (m.kind == MSG_MERGE)
            m.u.MERGE = (struct msg_MERGE){.request = 5, .object = object};
        else
            m.u.READ_DONE = (struct msg_READ_DONE){
                .request = id + (uint64_t)(i % 3), .digest = 9, .object = object};
        coord_receive(n->coord, 2, 0, &m, k->now_us, k->wall_ms);
    }
    kit_settle(k);
    kit_pass(k, 2000000);
    assert_int_equal(k->replies[t].count, 1);
    finish(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_wanted_too_many),
        cmocka_unit_test(test_slow_disk),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_old_value_of_any_size),
        cmocka_unit_test(test_full_tables),
        cmocka_unit_test(test_grocery_cart),
        cmocka_unit_test(test_retried_request),
        cmocka_unit_test(test_sibling_cap),
        cmocka_unit_test(test_dead_primary),
        cmocka_unit_test(test_three_nodes_one_dead),
        cmocka_unit_test(test_frozen_primary),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_strict_quorum),
        cmocka_unit_test(test_fallback_coordinates),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_lost),
        cmocka_unit_test(test_parked_write),
        cmocka_unit_test(test_refused_forward),
        cmocka_unit_test(test_refusal_twice),
        cmocka_unit_test(test_forward_too_large_to_keep),
        cmocka_unit_test(test_crashed_sibling),
        cmocka_unit_test(test_read_repair),
        cmocka_unit_test(test_damaged_replica),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_forgotten_dots),
        cmocka_unit_test(test_garbage),
    };

    return cmocka_run_group_tests_name("a coordinator answers each request once, and truly", tests,
                                       NULL, NULL);
}
