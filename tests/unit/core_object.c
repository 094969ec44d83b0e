/* Writes at a vnode: siblings, contexts, request ids, expiry, limits. The encoded form is tested in
 * core_object_codec.c, merges over random histories in core_object_merge.c. */
#include "object_kit.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MILK_FLOUR_EGGS_BACON "milk+flour+eggs+bacon"
#define EGGS_MILK_HAM         "eggs+milk+ham"

/* The cart of "Designing Data-Intensive Applications", chapter 5: five writes, the i-th through
 * replica via[i]; after each the replicas exchange what they have if `exchange`. */
static void shop(const int via[5], bool exchange, bool swap_last)
{
    struct replica r[2];
    struct causal one, two, nothing;

    replica_init(&r[0], 11, "cart");
    replica_init(&r[1], 22, "cart");
    causal_clear(&nothing);
    for (int i = 0; i < 5; i++) {
        static const char *const value[5] = {"milk", "eggs", "milk+flour", EGGS_MILK_HAM,
                                             MILK_FLOUR_EGGS_BACON};
        struct causal *client = i % 2 == 0 ? &one : &two, reply;

        assert_int_equal(replica_put(&r[via[i]], i < 2 ? &nothing : client, value[i], &reply), 0);
        causal_copy(client, &reply);
        if (exchange && via[i] == 0)
            assert_int_equal(replica_merge(&r[1], &r[0].o), 0);
        else if (exchange)
            assert_int_equal(replica_merge(&r[0], &r[1].o), 0);
    }
    struct replica *last = swap_last ? &r[1] : &r[0];

    assert_int_equal(replica_merge(last, swap_last ? &r[0].o : &r[1].o), 0);
    assert_int_equal(last->o.sibling_count, 2);
    assert_true(replica_has(last, MILK_FLOUR_EGGS_BACON));
    assert_true(replica_has(last, EGGS_MILK_HAM));
    replica_free(&r[0]);
    replica_free(&r[1]);
}

static void the_cart_of_the_book_ends_with_two_siblings_on_every_way(void **state)
{
    (void)state;
    for (int ways = 0; ways < 32; ways++) {
        int via[5];

        for (int i = 0; i < 5; i++)
            via[i] = ways >> i & 1;
        for (int options = 0; options < 4; options++)
            shop(via, (options & 1) != 0, (options & 2) != 0);
    }
}

static void a_write_that_has_seen_nothing_adds_a_sibling(void **state)
{
    struct replica r;
    struct causal nothing, reply;

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    assert_int_equal(replica_put(&r, &nothing, "a", NULL), 0);
    assert_int_equal(replica_put(&r, &nothing, "b", &reply), 0);
    assert_int_equal(r.o.sibling_count, 2);
    assert_true(causal_covers(&reply, (struct dot){5, 2}));
    assert_false(causal_covers(&reply, (struct dot){5, 1}));
    assert_int_equal(causal_seen_up_to(&r.o.causal, 5), 2);
    assert_int_equal(r.o.causal.cloud_count, 0);
    /* A writer with that context replaces its own write alone. */
    assert_int_equal(replica_put(&r, &reply, "c", NULL), 0);
    assert_true(replica_has(&r, "a") && replica_has(&r, "c") && r.o.sibling_count == 2);
    replica_free(&r);
}

static void a_plain_set_replaces_all_that_the_coordinator_has(void **state)
{
    struct replica r;
    struct causal nothing, reply;

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    for (int i = 0; i < 10; i++)
        assert_int_equal(replica_put(&r, &nothing, "x", NULL), 0);
    assert_int_equal(replica_put(&r, NULL, "y", &reply), 0);
    assert_int_equal(r.o.sibling_count, 1);
    assert_true(replica_has(&r, "y"));
    assert_true(causal_equal(&reply, &r.o.causal));
    replica_free(&r);
}

static size_t text_size(const struct causal *c)
{
    char text[LIMIT_CONTEXT_TEXT];
    int len = causal_to_text(c, slice_str("k"), text, sizeof text);

    assert_true(len > 0);
    return (size_t)len;
}

/* A client that always writes with the context of its previous write, through one replica or
 * through two in turn; `beside`: next to a sibling that it never looks at. */
static void write_chain(int replicas, bool exchange, bool beside, size_t most)
{
    struct replica r[2];
    struct causal seen, reply;
    char value[16];

    causal_clear(&seen);
    for (int i = 0; i < 2; i++)
        replica_init(&r[i], rand_id(), "k");
    if (beside)
        assert_int_equal(replica_put(&r[0], &seen, "beside", NULL), 0);
    for (int i = 0; i < 10000; i++) {
        struct replica *to = &r[i % replicas];

        snprintf(value, sizeof value, "%d", i);
        assert_int_equal(replica_put(to, &seen, value, &reply), 0);
        assert_true(causal_valid(&reply));
        causal_copy(&seen, &reply);
        if (exchange)
            assert_int_equal(replica_merge(&r[(i + 1) % 2], &to->o), 0);
        assert_true(text_size(&seen) < most);
        assert_true(to->o.sibling_count <= 2);
    }
    assert_int_equal(replica_merge(&r[0], &r[1].o), 0);
    assert_int_equal(r[0].o.sibling_count, beside ? 2 : 1);
    assert_true(replica_has(&r[0], "9999"));
    assert_int_equal(r[0].o.causal.vector_count, replicas);
    assert_int_equal(r[0].o.causal.cloud_count, 0);
    replica_free(&r[0]);
    replica_free(&r[1]);
}

static void contexts_stay_small_over_ten_thousand_writes(void **state)
{
    (void)state;
    write_chain(1, false, false, 100);
    write_chain(2, true, false, 100);
    write_chain(2, false, false, 100);
    write_chain(1, false, true, 200);
    write_chain(2, true, true, 200);
    write_chain(2, false, true, 200);
}

static void a_context_that_claims_the_future_is_refused(void **state)
{
    struct replica r;
    struct causal seen;

    (void)state;
    causal_clear(&seen);
    replica_init(&r, 5, "k");
    assert_int_equal(causal_raise(&seen, 5, 2), 0);
    assert_int_equal(replica_put(&r, &seen, "a", NULL), -ERR_BADCTX); /* with dot 1 */
    assert_int_equal(replica_put(&r, &seen, "a", NULL), -ERR_BADCTX); /* with dot 2 */
    assert_int_equal(replica_put(&r, &seen, "a", NULL), 0);
    replica_free(&r);
}

static void a_vnode_that_has_forgotten_its_dots_is_told(void **state)
{
    struct replica r;

    (void)state;
    replica_init(&r, 5, "k");
    assert_int_equal(replica_put(&r, NULL, "a", NULL), 0);
    r.n = 0;
    assert_int_equal(replica_put(&r, NULL, "b", NULL), -ERR_STALE);
    assert_true(replica_has(&r, "a"));
    replica_free(&r);
}

static void blind_writers_are_stopped_at_the_sibling_limit(void **state)
{
    struct replica r;
    struct causal nothing, all;

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    for (int i = 0; i < LIMIT_SIBLINGS; i++)
        assert_int_equal(replica_put(&r, &nothing, "x", NULL), 0);
    assert_int_equal(replica_put(&r, &nothing, "x", NULL), -ERR_SIBLINGS);
    assert_int_equal(r.o.sibling_count, LIMIT_SIBLINGS);
    /* Whoever replaces one may write; so may a plain SET. */
    causal_copy(&all, &nothing);
    assert_int_equal(causal_add_dot(&all, (struct dot){5, 7}), 0);
    assert_int_equal(replica_put(&r, &all, "y", NULL), 0);
    assert_int_equal(r.o.sibling_count, LIMIT_SIBLINGS);
    assert_int_equal(replica_put(&r, NULL, "z", NULL), 0);
    assert_int_equal(r.o.sibling_count, 1);
    replica_free(&r);
}

static void a_context_may_not_fill_the_vector(void **state)
{
    struct replica r;
    struct causal seen;

    (void)state;
    causal_clear(&seen);
    replica_init(&r, 1000, "k");
    for (uint64_t i = 1; i <= LIMIT_VECTOR - LIMIT_WALK; i++)
        assert_int_equal(causal_raise(&seen, i, 1), 0);
    assert_int_equal(replica_put(&r, &seen, "a", NULL), 0);
    assert_int_equal(causal_raise(&seen, 999, 1), 0);
    assert_int_equal(replica_put(&r, &seen, "b", NULL), -ERR_LIMIT);
    assert_true(replica_has(&r, "a"));
    replica_free(&r);
}

static void oversized_values_and_full_buffers_are_refused(void **state)
{
    static uint8_t big[LIMIT_VALUE + 1];
    struct replica r;
    struct buf tight;
    struct object_write w = {.dot = {5, 100}, .value = slice_of(big, 100), .sibling_limit = 64};

    (void)state;
    replica_init(&r, 5, "k");
    assert_int_equal(
        replica_write(&r, (struct object_write){.value = slice_of(big, sizeof big)}, NULL),
        -ERR_LIMIT);
    assert_int_equal(
        replica_write(&r, (struct object_write){.value = slice_of(big, LIMIT_VALUE)}, NULL), 0);
    buf_init(&tight, 100);
    object_empty(&r.o, slice_str("k"));
    assert_int_equal(object_put(&r.o, &w, &tight, NULL), -ERR_LIMIT);
    assert_int_equal(buf_len(&tight), 0);
    buf_free(&tight);
    replica_free(&r);
}

static void siblings_together_are_bounded(void **state)
{
    static uint8_t big[LIMIT_VALUE];
    struct replica r;
    struct causal nothing;
    struct object_write w = {.seen = &nothing, .value = slice_of(big, sizeof big)};

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    for (uint32_t i = 0; i < LIMIT_OBJECT / LIMIT_VALUE - 1; i++)
        assert_int_equal(replica_write(&r, w, NULL), 0);
    assert_int_equal(replica_write(&r, w, NULL), -ERR_LIMIT);
    replica_free(&r);
}

static void a_retried_request_makes_no_second_sibling(void **state)
{
    struct replica r;
    struct causal nothing, first, again;
    struct object_write w = {.seen = &nothing, .request_id = 77, .value = slice_str("a")};

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    assert_int_equal(replica_put(&r, &nothing, "other", NULL), 0);
    assert_int_equal(replica_write(&r, w, &first), 0);
    assert_int_equal(replica_write(&r, w, &again), 1);
    assert_int_equal(r.o.sibling_count, 2);
    assert_true(causal_equal(&first, &again));
    /* Also after the first has been superseded, or deleted. */
    assert_int_equal(replica_put(&r, &first, "b", NULL), 0);
    assert_int_equal(replica_write(&r, w, &again), 1);
    assert_true(replica_has(&r, "b") && replica_has(&r, "other") && r.o.sibling_count == 2);
    assert_true(causal_covers(&again, (struct dot){5, 2}));
    assert_false(causal_covers(&again, (struct dot){5, 1}));
    assert_int_equal(replica_write(&r, (struct object_write){.tombstone = true}, NULL), 0);
    w.seen = NULL;
    assert_int_equal(replica_write(&r, w, &again), 1);
    assert_int_equal(r.o.sibling_count, 1);
    /* What came after the first attempt its writer has not seen. */
    assert_true(causal_covers(&again, (struct dot){5, 2}));
    assert_false(causal_covers(&again, (struct dot){5, r.n - 1}));
    replica_free(&r);
}

static void the_oldest_request_is_forgotten_first(void **state)
{
    struct replica r;
    struct causal nothing; /* a write is newer than what it supersedes; these supersede nothing */
    struct object_write w = {.seen = &nothing, .value = slice_str("a")};

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    /* Ids descend and times are shuffled, so that neither list order nor arrival decides. */
    for (uint64_t i = 0; i < LIMIT_IDS; i++) {
        w.request_id = 1000 - i;
        w.time = 100 + i * 7 % LIMIT_IDS;
        assert_int_equal(replica_write(&r, w, NULL), 0);
    }
    assert_int_equal(r.o.id_count, LIMIT_IDS);
    for (uint64_t i = 0; i < LIMIT_IDS; i++) {
        w.request_id = 2000 + i;
        w.time = 500 + i;
        assert_int_equal(replica_write(&r, w, NULL), 0);
        assert_int_equal(r.o.id_count, LIMIT_IDS);
        for (uint64_t j = 0; j < LIMIT_IDS; j++) {
            uint64_t found = 0;

            for (uint32_t k = 0; k < r.o.id_count; k++)
                found += r.o.ids[k].id == 1000 - j;
            assert_int_equal(found, j * 7 % LIMIT_IDS > i);
        }
    }
    replica_free(&r);
}

static void a_write_is_newer_than_what_it_supersedes(void **state)
{
    struct replica r;
    struct sibling s;
    size_t cursor = 0;

    (void)state;
    replica_init(&r, 5, "k");
    assert_int_equal(
        replica_write(&r, (struct object_write){.time = 900, .value = slice_str("a")}, NULL), 0);
    assert_int_equal(
        replica_write(&r, (struct object_write){.time = 7, .value = slice_str("b")}, NULL), 0);
    assert_true(object_next(&r.o, &cursor, &s));
    assert_true(slice_equal(s.value, slice_str("b")));
    assert_int_equal(s.time, 901);
    replica_free(&r);
}

static void the_winner_is_the_newest_that_is_alive(void **state)
{
    struct replica r;
    struct causal nothing;
    struct sibling s;
    uint32_t live;

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    assert_false(object_winner(&r.o, 0, &s, &live));
    assert_int_equal(live, 0);
    struct object_write w = {.seen = &nothing, .time = 10, .value = slice_str("old")};

    assert_int_equal(replica_write(&r, w, NULL), 0);
    w = (struct object_write){.seen = &nothing, .time = 20, .value = slice_str("low dot")};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    w.value = slice_str("high dot");
    assert_int_equal(replica_write(&r, w, NULL), 0);
    w = (struct object_write){
        .seen = &nothing, .time = 30, .expiry_ms = 1000, .value = slice_str("brief")};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    w = (struct object_write){.seen = &nothing, .time = 40, .tombstone = true};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    assert_true(object_winner(&r.o, 999, &s, &live));
    assert_true(slice_equal(s.value, slice_str("brief")) && live == 4);
    assert_true(object_winner(&r.o, 1000, &s, &live));
    assert_true(slice_equal(s.value, slice_str("high dot")) && live == 3);
    assert_true(object_winner(&r.o, 1000, &s, NULL));
    replica_free(&r);
}

static void a_deleted_key_keeps_its_context(void **state)
{
    struct replica r, other;
    struct sibling s;

    (void)state;
    replica_init(&r, 5, "k");
    replica_init(&other, 6, "k");
    assert_int_equal(replica_put(&r, NULL, "a", NULL), 0);
    assert_int_equal(replica_merge(&other, &r.o), 0);
    assert_int_equal(replica_write(&r, (struct object_write){.tombstone = true}, NULL), 0);
    assert_false(object_winner(&r.o, 0, &s, NULL));
    assert_int_equal(replica_merge(&r, &other.o), 0);
    assert_false(object_winner(&r.o, 0, &s, NULL)); /* the old copy does not come back */
    replica_free(&r);
    replica_free(&other);
}

static void expired_values_are_dropped_without_a_trace_in_the_digest(void **state)
{
    struct replica r, lazy;
    struct causal nothing;
    struct buf out = {0};

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 5, "k");
    replica_init(&lazy, 6, "k");
    struct object_write w = {.seen = &nothing, .value = slice_str("for ever")};

    assert_int_equal(replica_write(&r, w, NULL), 0);
    assert_int_equal(object_next_expiry(&r.o), 0);
    assert_int_equal(object_drop_expired(&r.o, UINT64_MAX, &out), 0);
    w = (struct object_write){.seen = &nothing, .expiry_ms = 500, .value = slice_str("late")};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    w = (struct object_write){.seen = &nothing, .expiry_ms = 100, .value = slice_str("soon")};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    assert_int_equal(replica_merge(&lazy, &r.o), 0);
    assert_int_equal(object_next_expiry(&r.o), 100);
    assert_int_equal(object_drop_expired(&r.o, 99, &out), 0);
    assert_int_equal(buf_len(&out), 0);

    uint64_t digest = object_digest(&r.o);

    assert_int_equal(object_drop_expired(&r.o, 100, &out), 1);
    replica_adopt(&r, &out);
    assert_int_equal(object_digest(&r.o), digest);
    assert_int_equal(object_next_expiry(&r.o), 500);
    assert_true(replica_has(&r, "late") && !replica_has(&r, "soon"));
    /* The replica that still has the bytes agrees when they meet, in either order. */
    struct replica both;

    replica_init(&both, 7, "k");
    assert_int_equal(replica_merge(&both, &r.o), 0);
    assert_int_equal(replica_merge(&both, &lazy.o), 0);
    assert_int_equal(replica_merge(&lazy, &r.o), 0);
    assert_true(replica_equal(&lazy, &r) && replica_equal(&both, &r));
    replica_free(&r);
    replica_free(&lazy);
    replica_free(&both);
}

static void the_digest_tells_versions_apart(void **state)
{
    struct replica a, b;

    (void)state;
    replica_init(&a, 5, "k");
    replica_init(&b, 6, "k");
    assert_int_equal(object_digest(&a.o), 0);
    assert_int_equal(replica_put(&a, NULL, "v", NULL), 0);
    uint64_t first = object_digest(&a.o);

    assert_int_equal(replica_merge(&b, &a.o), 0);
    assert_int_equal(object_digest(&b.o), first);
    assert_int_equal(replica_put(&a, NULL, "v", NULL), 0);
    assert_true(object_digest(&a.o) != first);
    assert_int_equal(replica_put(&b, NULL, "v", NULL), 0);
    assert_true(object_digest(&a.o) != object_digest(&b.o));
    replica_free(&a);
    replica_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cart_of_the_book_ends_with_two_siblings_on_every_way),
        cmocka_unit_test(a_write_that_has_seen_nothing_adds_a_sibling),
        cmocka_unit_test(a_plain_set_replaces_all_that_the_coordinator_has),
        cmocka_unit_test(contexts_stay_small_over_ten_thousand_writes),
        cmocka_unit_test(a_context_that_claims_the_future_is_refused),
        cmocka_unit_test(a_vnode_that_has_forgotten_its_dots_is_told),
        cmocka_unit_test(blind_writers_are_stopped_at_the_sibling_limit),
        cmocka_unit_test(a_context_may_not_fill_the_vector),
        cmocka_unit_test(oversized_values_and_full_buffers_are_refused),
        cmocka_unit_test(siblings_together_are_bounded),
        cmocka_unit_test(a_retried_request_makes_no_second_sibling),
        cmocka_unit_test(the_oldest_request_is_forgotten_first),
        cmocka_unit_test(a_write_is_newer_than_what_it_supersedes),
        cmocka_unit_test(the_winner_is_the_newest_that_is_alive),
        cmocka_unit_test(a_deleted_key_keeps_its_context),
        cmocka_unit_test(expired_values_are_dropped_without_a_trace_in_the_digest),
        cmocka_unit_test(the_digest_tells_versions_apart),
    };

    return cmocka_run_group_tests_name("a write at a vnode", tests, NULL, NULL);
}
