/* Merges of random histories against an oracle that keeps explicit sets of writes.
 *
 * A few clients write one key through three or four replicas, each with the context of what it has
 * read or written before, with none, or as a plain SET; replicas exchange objects at random. The
 * oracle knows for each write which writes its author had truly seen. Two things are allowed to
 * differ on the way and are checked to be harmless: a folded context may cover more, a shortened
 * one less than its owner has seen, but only writes that something has superseded already. */
#include "object_kit.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { REPLICAS = 4, CLIENTS = 4, STEPS = 40, VERSIONS = STEPS + REPLICAS };

struct write {
    struct dot dot;
    uint64_t time, request_id;
    uint64_t past; /* what its author had seen, itself not included */
};

struct client {
    struct causal seen;
    uint64_t truly_seen;
};

struct history {
    struct rand rand;
    int replica_count;
    bool ids, expiry;
    struct replica r[REPLICAS];
    uint64_t past[REPLICAS]; /* what the replica has truly seen */
    struct client client[CLIENTS];
    struct write write[STEPS];
    int write_count;
    struct replica version[VERSIONS]; /* objects as they were, for merges in any order */
    int version_count;
};

static uint64_t pick(struct history *h, uint64_t bound)
{
    return rand_below(&h->rand, bound);
}

static uint64_t bit(int i)
{
    return (uint64_t)1 << i;
}

/* Writes that nobody should be shown once everything has been merged. */
static uint64_t superseded(const struct history *h)
{
    uint64_t all = 0;

    for (int i = 0; i < h->write_count; i++) {
        const struct write *w = &h->write[i];

        all |= w->past;
        for (int j = 0; w->request_id != 0 && j < h->write_count; j++) {
            const struct write *twin = &h->write[j];

            if (twin->request_id == w->request_id &&
                (twin->time > w->time ||
                 (twin->time == w->time && dot_compare(twin->dot, w->dot) > 0)))
                all |= bit(i);
        }
    }
    return all;
}

static uint64_t covered(const struct history *h, const struct causal *c)
{
    uint64_t m = 0;

    for (int i = 0; i < h->write_count; i++)
        if (causal_covers(c, h->write[i].dot))
            m |= bit(i);
    return m;
}

static uint64_t siblings(const struct history *h, const struct object *o)
{
    struct sibling s;
    uint64_t m = 0;

    for (size_t cursor = 0; object_next(o, &cursor, &s);) {
        int i = 0;

        while (i < h->write_count && !dot_equal(h->write[i].dot, s.dot))
            i++;
        assert_true(i < h->write_count);
        m |= bit(i);
    }
    return m;
}

static void keep_version(struct history *h, const struct replica *r)
{
    struct replica *v = &h->version[h->version_count++];

    assert_true(h->version_count <= VERSIONS);
    replica_init(v, r->vnode, "k");
    assert_int_equal(replica_merge(v, &r->o), 0);
    assert_true(replica_equal(v, r));
}

/* What must hold of a replica at every moment. */
static void check_replica(const struct history *h, int at)
{
    uint64_t dead = superseded(h);
    uint64_t knows = covered(h, &h->r[at].o.causal);
    uint64_t shows = siblings(h, &h->r[at].o);

    assert_true(causal_valid(&h->r[at].o.causal));
    assert_int_equal((h->past[at] & ~knows) & ~dead, 0);
    assert_int_equal((knows & ~h->past[at]) & ~dead, 0);
    assert_int_equal(shows & ~dead, h->past[at] & ~dead); /* nothing alive is missing */
}

static void check_reply(const struct history *h, int at, const struct causal *reply, uint64_t mine)
{
    uint64_t tells = covered(h, reply);
    uint64_t self = bit(h->write_count - 1);

    assert_true(causal_valid(reply));
    assert_true((tells & self) != 0);
    assert_int_equal((tells & ~mine) & ~superseded(h), 0);
    assert_int_equal(tells & siblings(h, &h->r[at].o), self);
}

/* The answer to a retry tells of what the writer's context covered and of the first try, and of
 * nothing else that is alive. */
static void check_retry(const struct history *h, int at, const struct causal *reply, uint64_t id,
                        uint64_t seen)
{
    uint64_t tells = covered(h, reply), first = 0;

    for (int i = 0; i < h->write_count; i++)
        if (h->write[i].request_id == id && (tells & bit(i)) != 0)
            first |= bit(i);
    assert_true(first != 0);
    assert_int_equal(tells & siblings(h, &h->r[at].o) & ~first & ~seen, 0);
    assert_int_equal(tells & ~first & ~seen & ~superseded(h), 0);
}

/* When a write was carried out, as its sibling says: later than what it supersedes. */
static uint64_t time_of(const struct replica *r, struct dot d)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(&r->o, &cursor, &s);)
        if (dot_equal(s.dot, d))
            return s.time;
    fail();
    return 0;
}

/* The client (or NULL: a plain SET) writes through a replica. */
static void step_write(struct history *h, int at, struct client *c)
{
    struct replica *r = &h->r[at];
    struct write *w = &h->write[h->write_count];
    struct object_write put = {.seen = c == NULL ? NULL : &c->seen, .value = slice_str("value")};
    struct causal reply;

    r->n += pick(h, 3); /* dots that went to other keys */
    put.time = w->time = 100 + pick(h, 8);
    put.request_id = w->request_id = h->ids && pick(h, 2) == 0 ? 1 + pick(h, 8) : 0;
    put.tombstone = pick(h, 5) == 0;
    put.expiry_ms = h->expiry && pick(h, 2) == 0 ? 1 + pick(h, 5) : 0;
    if (put.tombstone)
        put.value.len = 0;
    w->past = c == NULL ? h->past[at] : c->truly_seen;
    int rc = replica_write(r, put, &reply);

    if (rc == 1) { /* the request was carried out before */
        check_retry(h, at, &reply, w->request_id,
                    w->past | covered(h, c == NULL ? &r->o.causal : &c->seen));
        return;
    }
    assert_int_equal(rc, 0);
    w->dot = (struct dot){r->vnode, r->n};
    w->time = time_of(r, w->dot);
    h->write_count++;
    uint64_t mine = w->past | bit(h->write_count - 1);

    h->past[at] |= mine;
    check_reply(h, at, &reply, mine);
    if (c != NULL) {
        causal_copy(&c->seen, &reply);
        c->truly_seen = mine;
    }
}

static void step(struct history *h)
{
    int at = (int)pick(h, (uint64_t)h->replica_count);
    struct client *c = &h->client[pick(h, CLIENTS)];
    int other;
    struct buf out = {0};

    switch (pick(h, 10)) {
    case 0: /* read and know nothing but that */
        causal_copy(&c->seen, &h->r[at].o.causal);
        c->truly_seen = h->past[at];
        break;
    case 1: /* read and remember what was known before */
        assert_int_equal(causal_join(&c->seen, &h->r[at].o.causal), 0);
        c->truly_seen |= h->past[at];
        break;
    case 2:
        causal_clear(&c->seen);
        c->truly_seen = 0;
        step_write(h, at, c);
        break;
    case 3:
        step_write(h, at, NULL);
        break;
    case 4:
    case 5:
        other = (int)pick(h, (uint64_t)h->replica_count);
        assert_int_equal(replica_merge(&h->r[at], &h->r[other].o), 0);
        h->past[at] |= h->past[other];
        break;
    case 6:
        if (object_drop_expired(&h->r[at].o, pick(h, 6), &out) == 1)
            replica_adopt(&h->r[at], &out);
        break;
    default:
        step_write(h, at, c);
    }
    check_replica(h, at);
    if (h->r[at].o.encoded.len > 0)
        keep_version(h, &h->r[at]);
}

static void history_run(struct history *h, uint64_t seed, bool ids, bool expiry)
{
    memset(h, 0, sizeof *h);
    rand_seed(&h->rand, seed);
    h->replica_count = 3 + (int)pick(h, 2);
    h->ids = ids;
    h->expiry = expiry;
    for (int i = 0; i < REPLICAS; i++) {
        replica_init(&h->r[i], 1 + rand_next(&h->rand) % 1000 * 10 + (uint64_t)i, "k");
        /* Some replicas begin with an object, so that there is always one to merge. */
        if (i < h->replica_count)
            step_write(h, i, NULL);
    }
    while (h->write_count < STEPS - 1 && h->version_count < VERSIONS - REPLICAS)
        step(h);
    for (int i = 0; i < h->replica_count; i++)
        keep_version(h, &h->r[i]);
}

static void history_free(struct history *h)
{
    for (int i = 0; i < REPLICAS; i++)
        replica_free(&h->r[i]);
    for (int i = 0; i < h->version_count; i++)
        replica_free(&h->version[i]);
}

/* Merge the replicas in the order of a permutation, some of them twice; `left` says on which side
 * the growing object stands. */
static void merge_order(struct replica *into, const struct history *h, const int *order, int left)
{
    replica_init(into, 9, "k");
    for (int i = 0; i < h->replica_count; i++) {
        struct buf out = {0};
        const struct object *from = &h->r[order[i]].o;

        assert_int_equal(object_merge((left >> i & 1) != 0 ? &into->o : from,
                                      (left >> i & 1) != 0 ? from : &into->o, &out),
                         0);
        replica_adopt(into, &out);
        if (i > 0)
            assert_int_equal(replica_merge(into, &h->r[order[i - 1]].o), 0);
    }
}

static void each_permutation(int *order, int count, int fixed, const struct history *h,
                             struct replica *first)
{
    if (fixed == count) {
        struct replica merged;

        merge_order(&merged, h, order, (int)(order[0] * 5 + order[1]));
        if (first->o.encoded.len == 0)
            assert_int_equal(replica_merge(first, &merged.o), 0);
        assert_true(replica_equal(&merged, first));
        replica_free(&merged);
        return;
    }
    for (int i = fixed; i < count; i++) {
        int t = order[fixed];

        order[fixed] = order[i];
        order[i] = t;
        each_permutation(order, count, fixed + 1, h, first);
        order[i] = order[fixed];
        order[fixed] = t;
    }
}

static void check_all_orders(const struct history *h)
{
    int order[REPLICAS] = {0, 1, 2, 3};
    struct replica first;
    uint64_t all = bit(h->write_count) - 1;

    replica_init(&first, 9, "k");
    each_permutation(order, h->replica_count, 0, h, &first);
    assert_int_equal(siblings(h, &first.o), all & ~superseded(h));
    assert_int_equal(first.o.causal.cloud_count, 0); /* every replica knows its own dots */
    replica_free(&first);
}

static void merge_two(struct replica *into, const struct object *a, const struct object *b)
{
    struct buf out = {0};

    replica_init(into, 9, "k");
    assert_int_equal(object_merge(a, b, &out), 0);
    replica_adopt(into, &out);
}

/* Any three objects that ever existed, not only the last ones. */
static void check_algebra(struct history *h, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        const struct object *a = &h->version[pick(h, (uint64_t)h->version_count)].o;
        const struct object *b = &h->version[pick(h, (uint64_t)h->version_count)].o;
        const struct object *c = &h->version[pick(h, (uint64_t)h->version_count)].o;
        struct replica ab, ba, bc, left, right, twice;

        merge_two(&ab, a, b);
        merge_two(&ba, b, a);
        merge_two(&bc, b, c);
        merge_two(&left, &ab.o, c);
        merge_two(&right, a, &bc.o);
        merge_two(&twice, &left.o, a);
        assert_true(replica_equal(&ab, &ba));
        assert_true(replica_equal(&left, &right));
        assert_true(replica_equal(&left, &twice));
        assert_int_equal(object_digest(&left.o), object_digest(&right.o));
        replica_free(&ab);
        replica_free(&ba);
        replica_free(&bc);
        replica_free(&left);
        replica_free(&right);
        replica_free(&twice);
    }
}

static void run_histories(uint64_t first, uint64_t count, bool ids, bool expiry)
{
    static struct history h;

    for (uint64_t seed = first; seed < first + count; seed++) {
        history_run(&h, seed, ids, expiry);
        check_all_orders(&h);
        check_algebra(&h, 30);
        history_free(&h);
    }
}

static void siblings_equal_the_oracle_in_every_order(void **state)
{
    (void)state;
    run_histories(1, 1500, false, false);
}

static void dropped_values_do_not_disturb_the_order(void **state)
{
    (void)state;
    run_histories(100001, 700, false, true);
}

static void requests_carried_out_twice_collapse_in_every_order(void **state)
{
    (void)state;
    run_histories(200001, 1500, true, false);
    run_histories(300001, 500, true, true);
}

static void a_request_taken_by_two_coordinators_is_one_sibling(void **state)
{
    struct replica a, b, both;
    struct causal nothing, reply;
    struct object_write w = {.seen = &nothing, .request_id = 5, .value = slice_str("v")};

    (void)state;
    causal_clear(&nothing);
    replica_init(&a, 11, "k");
    replica_init(&b, 22, "k");
    w.time = 1;
    assert_int_equal(replica_write(&a, w, &reply), 0);
    w.time = 2;
    assert_int_equal(replica_write(&b, w, NULL), 0);
    merge_two(&both, &a.o, &b.o);
    assert_int_equal(both.o.sibling_count, 1);
    assert_int_equal(both.o.id_count, 1);
    assert_int_equal(both.o.ids[0].dot.vnode, 22);
    assert_true(causal_covers(&both.o.causal, (struct dot){11, 1}));
    /* Superseded on one side only: the request has had its effect, the twin does not come back. */
    assert_int_equal(replica_put(&b, NULL, "later", NULL), 0);
    replica_free(&both);
    merge_two(&both, &b.o, &a.o);
    assert_int_equal(both.o.sibling_count, 1);
    assert_true(replica_has(&both, "later"));
    replica_free(&a);
    replica_free(&b);
    replica_free(&both);
}

/* A request is carried out at `first`, whose clock is ahead; a client that has read it writes at another
 * replica, which has not heard of it; there the request is carried out again. */
static void a_request_repeated_behind_its_own_successor_is_not_lost(void **state)
{
    struct replica first, other;
    struct causal seen, reply;
    char text[LIMIT_CONTEXT_TEXT];
    struct object_write w = {.request_id = 5, .time = 1000, .value = slice_str("v")};

    (void)state;
    for (int second_hand = 0; second_hand < 2; second_hand++) {
        replica_init(&first, 11, "k");
        replica_init(&other, 22, "k");
        w.time = 1000;
        assert_int_equal(replica_write(&first, w, &reply), 0);
        if (second_hand) /* what the client knows of it comes from the answer to its own next write */
            assert_int_equal(replica_put(&first, &reply, "next", &seen), 0);
        int len = causal_to_text(second_hand ? &seen : &first.o.causal, slice_str("k"), text,
                                 sizeof text);

        assert_int_equal(causal_from_text(&seen, slice_str("k"), slice_of(text, (size_t)len)), 0);
        assert_int_equal(replica_put(&other, &seen, "successor", NULL), 0);
        w.time = 2;
        assert_int_equal(replica_write(&other, w, NULL), 0);
        assert_int_equal(replica_merge(&first, &other.o), 0);
        assert_int_equal(replica_merge(&other, &first.o), 0);
        assert_int_equal(first.o.sibling_count, 1);
        assert_true(replica_has(&first, "v"));
        assert_true(replica_equal(&first, &other));
        replica_free(&first);
        replica_free(&other);
    }
}

static void objects_of_two_keys_are_not_merged(void **state)
{
    struct replica a, b;
    struct buf out = {0};

    (void)state;
    replica_init(&a, 11, "k");
    replica_init(&b, 22, "l");
    assert_int_equal(object_merge(&a.o, &b.o, &out), -ERR_INVAL);
    assert_int_equal(buf_len(&out), 0);
}

/* A replica with `count` siblings that nobody has replaced. */
static void fill(struct replica *r, uint64_t vnode, int count, uint64_t time)
{
    struct causal nothing;

    causal_clear(&nothing);
    replica_init(r, vnode, "k");
    for (int i = 0; i < count; i++) {
        struct object_write w = {.seen = &nothing,
                                 .time = time + (uint64_t)i * 7919 % 1000,
                                 .sibling_limit = LIMIT_SIBLINGS_MERGED,
                                 .value = slice_str("v")};

        assert_int_equal(replica_write(r, w, NULL), 0);
    }
}

static void a_merge_keeps_the_newest_of_too_many_siblings(void **state)
{
    struct replica a, b, ab, ba, again;
    struct sibling s;
    uint64_t oldest_kept = UINT64_MAX;

    (void)state;
    fill(&a, 11, 1000, 0);
    fill(&b, 22, 1000, 400);
    merge_two(&ab, &a.o, &b.o);
    merge_two(&ba, &b.o, &a.o);
    assert_true(replica_equal(&ab, &ba));
    assert_int_equal(ab.o.sibling_count, LIMIT_SIBLINGS_MERGED);
    for (size_t cursor = 0; object_next(&ab.o, &cursor, &s);)
        if (s.time < oldest_kept)
            oldest_kept = s.time;
    /* Times 0 to 999 and 400 to 1399 once each: the newest 1024 begin within 687 to 688. */
    assert_in_range(oldest_kept, 687, 688);
    merge_two(&again, &ab.o, &a.o);
    assert_true(replica_equal(&again, &ab)); /* what was dropped stays dropped */
    replica_free(&a);
    replica_free(&b);
    replica_free(&ab);
    replica_free(&ba);
    replica_free(&again);
}

static void too_many_vnodes_leave_both_objects_alone(void **state)
{
    struct replica r, one;
    struct buf out = {0};

    (void)state;
    replica_init(&r, 1, "k");
    for (uint64_t vnode = 1; vnode <= LIMIT_VECTOR + 1; vnode++) {
        replica_init(&one, vnode, "k");
        assert_int_equal(replica_put(&one, NULL, "v", NULL), 0);
        if (vnode <= LIMIT_VECTOR)
            assert_int_equal(replica_merge(&r, &one.o), 0);
        else
            assert_int_equal(object_merge(&r.o, &one.o, &out), -ERR_LIMIT);
        replica_free(&one);
    }
    assert_int_equal(buf_len(&out), 0);
    assert_int_equal(r.o.sibling_count, LIMIT_VECTOR);
    replica_free(&r);
}

static void remembered_requests_are_bounded_and_agree(void **state)
{
    struct replica a, b, ab, ba;

    (void)state;
    replica_init(&a, 11, "k");
    replica_init(&b, 22, "k");
    for (uint64_t i = 0; i < LIMIT_IDS; i++) {
        struct object_write w = {.request_id = 1 + i * 3, .time = i * 2, .value = slice_str("v")};

        assert_int_equal(replica_write(&a, w, NULL), 0);
        w.request_id = 2 + i * 3;
        w.time = i * 2 + 1;
        assert_int_equal(replica_write(&b, w, NULL), 0);
    }
    merge_two(&ab, &a.o, &b.o);
    merge_two(&ba, &b.o, &a.o);
    assert_true(replica_equal(&ab, &ba));
    assert_int_equal(ab.o.id_count, LIMIT_IDS);
    for (uint32_t i = 0; i < LIMIT_IDS; i++)
        assert_true(ab.o.ids[i].time >= LIMIT_IDS);
    replica_free(&a);
    replica_free(&b);
    replica_free(&ab);
    replica_free(&ba);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siblings_equal_the_oracle_in_every_order),
        cmocka_unit_test(dropped_values_do_not_disturb_the_order),
        cmocka_unit_test(requests_carried_out_twice_collapse_in_every_order),
        cmocka_unit_test(a_request_taken_by_two_coordinators_is_one_sibling),
        cmocka_unit_test(a_request_repeated_behind_its_own_successor_is_not_lost),
        cmocka_unit_test(objects_of_two_keys_are_not_merged),
        cmocka_unit_test(a_merge_keeps_the_newest_of_too_many_siblings),
        cmocka_unit_test(too_many_vnodes_leave_both_objects_alone),
        cmocka_unit_test(remembered_requests_are_bounded_and_agree),
    };

    return cmocka_run_group_tests_name("merging is the same in every order", tests, NULL, NULL);
}
