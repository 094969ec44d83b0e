/* Contexts against a model that keeps explicit sets of dots, and their texts against damage. */
#include "core/causal.h"

#include "base/base64url.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rand.h"
#include "base/varint.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { VNODES = 5, NUMBERS = 24 };

/* The model: which dots of vnodes 1..VNODES with n in 1..NUMBERS are covered. */
struct model {
    bool seen[VNODES + 1][NUMBERS + 1];
};

static void assert_same(const struct causal *c, const struct model *m)
{
    assert_true(causal_valid(c));
    for (uint64_t v = 1; v <= VNODES; v++) {
        uint64_t highest = 0;

        for (uint64_t n = 1; n <= NUMBERS; n++) {
            assert_int_equal(causal_covers(c, (struct dot){v, n}), m->seen[v][n]);
            if (m->seen[v][n])
                highest = n;
        }
        assert_int_equal(causal_highest(c, v), highest);
    }
}

static struct dot random_dot(struct rand *r)
{
    return (struct dot){1 + rand_below(r, VNODES), 1 + rand_below(r, NUMBERS)};
}

static void grow(struct rand *r, struct causal *c, struct model *m, int steps)
{
    for (int i = 0; i < steps; i++) {
        struct dot d = random_dot(r);

        if (rand_chance(r, 300000)) {
            assert_int_equal(causal_raise(c, d.vnode, d.n), 0);
            for (uint64_t n = 1; n <= d.n; n++)
                m->seen[d.vnode][n] = true;
        } else {
            assert_int_equal(causal_add_dot(c, d), 0);
            m->seen[d.vnode][d.n] = true;
        }
    }
}

static bool model_includes(const struct model *a, const struct model *b)
{
    for (int v = 1; v <= VNODES; v++)
        for (int n = 1; n <= NUMBERS; n++)
            if (b->seen[v][n] && !a->seen[v][n])
                return false;
    return true;
}

static void contexts_are_sets_of_dots(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 1);
    for (int round = 0; round < 20000; round++) {
        struct causal a, b, joined;
        struct model ma = {0}, mb = {0}, both = {0};

        causal_clear(&a);
        causal_clear(&b);
        grow(&r, &a, &ma, (int)rand_below(&r, 12));
        grow(&r, &b, &mb, (int)rand_below(&r, 12));
        assert_same(&a, &ma);
        assert_int_equal(causal_includes(&a, &b), model_includes(&ma, &mb));
        assert_int_equal(causal_equal(&a, &b),
                         model_includes(&ma, &mb) && model_includes(&mb, &ma));
        causal_copy(&joined, &a);
        assert_int_equal(causal_join(&joined, &b), 0);
        for (int v = 1; v <= VNODES; v++)
            for (int n = 1; n <= NUMBERS; n++)
                both.seen[v][n] = ma.seen[v][n] || mb.seen[v][n];
        assert_same(&joined, &both);
        assert_true(causal_includes(&joined, &a) && causal_includes(&joined, &b));
        assert_int_equal(causal_is_empty(&joined), model_includes(&(struct model){0}, &both));
    }
}

static bool same_bytes(const struct causal *a, const struct causal *b)
{
    uint8_t x[CAUSAL_BYTES_MAX], y[CAUSAL_BYTES_MAX];
    size_t len = (size_t)(causal_encode(a, x) - x);

    return len == (size_t)(causal_encode(b, y) - y) && memcmp(x, y, len) == 0;
}

static void joins_agree_to_the_byte_in_every_order(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 2);
    for (int round = 0; round < 5000; round++) {
        struct causal c[3], left, right;
        struct model ignored = {0};

        for (int i = 0; i < 3; i++) {
            causal_clear(&c[i]);
            grow(&r, &c[i], &ignored, (int)rand_below(&r, 12));
        }
        causal_copy(&left, &c[0]);
        causal_join(&left, &c[1]);
        causal_join(&left, &c[2]);
        causal_copy(&right, &c[2]);
        causal_join(&right, &c[1]);
        causal_join(&right, &c[0]);
        causal_join(&right, &c[2]);
        assert_true(same_bytes(&left, &right));
    }
}

static void folding_takes_in_dots_and_nothing_beyond(void **state)
{
    struct causal c;

    (void)state;
    causal_clear(&c);
    for (uint64_t n = 3; n <= 9; n += 3)
        assert_int_equal(causal_add_dot(&c, (struct dot){7, n}), 0);
    assert_int_equal(causal_add_dot(&c, (struct dot){8, 1}), 0);
    causal_fold(&c, 7, 2);
    assert_int_equal(causal_seen_up_to(&c, 7), 0);
    causal_fold(&c, 7, 8);
    assert_int_equal(causal_seen_up_to(&c, 7), 6);
    assert_int_equal(c.cloud_count, 2);
    causal_fold(&c, 7, 9);
    assert_int_equal(causal_seen_up_to(&c, 7), 9);
    causal_fold(&c, 7, 1000);
    causal_fold(&c, 6, 1000);
    causal_fold(&c, 9, 1000);
    assert_int_equal(causal_seen_up_to(&c, 7), 9);
    assert_int_equal(c.vector_count, 1);
    assert_int_equal(c.cloud_count, 1);
    assert_true(causal_valid(&c));
}

static void bounds_leave_the_context_as_it_was(void **state)
{
    struct causal c, other, before;

    (void)state;
    causal_clear(&c);
    for (uint64_t v = LIMIT_VECTOR; v >= 1; v--)
        assert_int_equal(causal_raise(&c, v * 2, 5), 0);
    for (uint64_t n = 1; n <= LIMIT_CLOUD; n++)
        assert_int_equal(causal_add_dot(&c, (struct dot){1, n * 2}), 0);
    assert_true(causal_valid(&c));
    causal_copy(&before, &c);
    assert_int_equal(causal_raise(&c, 3, 1), -ERR_LIMIT);
    assert_int_equal(causal_add_dot(&c, (struct dot){3, 1}), -ERR_LIMIT);
    assert_int_equal(causal_add_dot(&c, (struct dot){2, 5}), 0); /* covered already */
    causal_clear(&other);
    assert_int_equal(causal_raise(&other, 3, 1), 0);
    assert_int_equal(causal_join(&c, &other), -ERR_LIMIT);
    assert_true(same_bytes(&c, &before));
    /* Raising makes room in the cloud; existing entries still rise. */
    assert_int_equal(causal_raise(&c, 2, 6), 0);
    assert_int_equal(causal_seen_up_to(&c, 2), 6);
}

static void a_full_cloud_forgets_the_oldest_of_the_busiest_vnode(void **state)
{
    struct causal a, b, ba;

    (void)state;
    causal_clear(&a);
    causal_clear(&b);
    for (uint64_t n = 1; n < LIMIT_CLOUD; n++)
        assert_int_equal(causal_add_dot(&a, (struct dot){7, 1000 + n}), 0);
    assert_int_equal(causal_add_dot(&a, (struct dot){9, 1}), 0);
    for (uint64_t n = 1; n <= 10; n++)
        assert_int_equal(causal_add_dot(&b, (struct dot){8, n * 2}), 0);
    causal_copy(&ba, &b);
    assert_int_equal(causal_join(&ba, &a), 10);
    assert_int_equal(causal_join(&a, &b), 10);
    assert_true(same_bytes(&a, &ba));
    assert_true(causal_valid(&a));
    assert_int_equal(a.cloud_count, LIMIT_CLOUD);
    assert_false(causal_covers(&a, (struct dot){7, 1010}));
    assert_true(causal_covers(&a, (struct dot){7, 1011}));
    assert_true(causal_covers(&a, (struct dot){9, 1}) && causal_covers(&a, (struct dot){8, 2}));
    causal_see(&a, (struct dot){7, 1}); /* the oldest, but the one we are told to see */
    assert_true(causal_covers(&a, (struct dot){7, 1}));
    assert_false(causal_covers(&a, (struct dot){7, 1011}));
    causal_shed(&a, 3, (struct dot){7, 1});
    assert_int_equal(a.cloud_count, 3);
    assert_true(causal_covers(&a, (struct dot){7, 1}) && causal_covers(&a, (struct dot){9, 1}));
    assert_true(causal_covers(&a, (struct dot){8, 20}));
    causal_shed(&a, 1, (struct dot){7, 1});
    assert_int_equal(a.cloud_count, 1);
    assert_true(causal_covers(&a, (struct dot){7, 1}));
}

/* Two replicas that have exchanged everything must not find anything more to exchange. */
static void forgetting_settles_after_one_exchange(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 5);
    for (int round = 0; round < 500; round++) {
        struct causal c[2], ab, ba, again;

        for (int i = 0; i < 2; i++) {
            uint64_t vnodes = 1 + rand_below(&r, 6);

            causal_clear(&c[i]);
            if (rand_chance(&r, 500000))
                assert_int_equal(causal_raise(&c[i], 1, 1 + rand_below(&r, 400)), 0);
            for (uint64_t n = rand_below(&r, 300); n > 0; n--)
                causal_see(&c[i], (struct dot){1 + rand_below(&r, vnodes) * rand_below(&r, 2),
                                               1 + rand_below(&r, 400)});
        }
        causal_copy(&ab, &c[0]);
        causal_copy(&ba, &c[1]);
        assert_int_equal(causal_join(&ab, &c[1]), causal_join(&ba, &c[0]));
        assert_true(same_bytes(&ab, &ba));
        assert_true(causal_valid(&ab));
        for (int i = 0; i < 2; i++) {
            causal_copy(&again, &ab);
            assert_true(causal_join(&again, &c[i]) >= 0);
            assert_true(same_bytes(&again, &ab));
        }
    }
}

static const struct slice key = {(const uint8_t *)"key", 3};

static void texts_survive_the_round_trip(void **state)
{
    struct rand r;
    char text[LIMIT_CONTEXT_TEXT];

    (void)state;
    rand_seed(&r, 3);
    for (int round = 0; round < 2000; round++) {
        struct causal c, back;
        struct model ignored = {0};

        causal_clear(&c);
        grow(&r, &c, &ignored, (int)rand_below(&r, 20));
        c.time = rand_next(&r) >> rand_below(&r, 64);
        int len = causal_to_text(&c, key, text, sizeof text);

        assert_true(len > 0);
        assert_int_equal(causal_from_text(&back, key, slice_of(text, (size_t)len)), 0);
        assert_true(same_bytes(&c, &back) && c.time == back.time);
        assert_int_equal(causal_to_text(&c, key, text, (size_t)len - 1), -ERR_LIMIT);
    }
}

static void the_largest_context_has_a_text(void **state)
{
    struct causal c, back;
    char text[LIMIT_CONTEXT_TEXT];

    (void)state;
    causal_clear(&c);
    for (uint64_t v = 1; v <= LIMIT_VECTOR; v++)
        assert_int_equal(causal_raise(&c, UINT64_MAX - v, UINT64_MAX - 1), 0);
    for (uint64_t n = 2; n < 2 + LIMIT_CLOUD; n++)
        assert_int_equal(causal_add_dot(&c, (struct dot){1, UINT64_MAX - n}), 0);
    int len = causal_to_text(&c, key, text, sizeof text);

    assert_true(len > 0);
    assert_int_equal(causal_from_text(&back, key, slice_of(text, (size_t)len)), 0);
    assert_true(same_bytes(&c, &back));
}

static void the_empty_text_is_the_empty_context(void **state)
{
    struct causal c;
    char text[32];

    (void)state;
    assert_int_equal(causal_from_text(&c, key, slice_of("", 0)), 0);
    assert_true(causal_is_empty(&c));
    int len = causal_to_text(&c, key, text, sizeof text);

    assert_true(len > 0);
    assert_int_equal(causal_from_text(&c, key, slice_of(text, (size_t)len)), 0);
    assert_true(causal_is_empty(&c));
}

static int try_text(const char *text, size_t len)
{
    struct causal c;
    int rc = causal_from_text(&c, key, slice_of(text, len));

    assert_true(rc == 0 || (rc == -ERR_BADCTX && causal_is_empty(&c)));
    return rc;
}

static void damaged_and_foreign_texts_are_refused(void **state)
{
    struct causal c;
    char text[200];

    (void)state;
    causal_clear(&c);
    assert_int_equal(causal_raise(&c, 0x1234567890abcdefu, 300), 0);
    assert_int_equal(causal_add_dot(&c, (struct dot){77, 9}), 0);
    int len = causal_to_text(&c, key, text, sizeof text);

    assert_true(len > 0);
    assert_int_equal(causal_from_text(&c, slice_str("other"), slice_of(text, (size_t)len)),
                     -ERR_BADCTX);
    for (int cut = 1; cut < len; cut++)
        assert_int_equal(try_text(text, (size_t)cut), -ERR_BADCTX);
    for (int i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] ^= (char)(1 << bit);
            assert_int_equal(try_text(text, (size_t)len), -ERR_BADCTX);
            text[i] ^= (char)(1 << bit);
        }
    assert_int_equal(try_text(text, (size_t)len), 0);
    memset(text, 'A', sizeof text);
    assert_int_equal(try_text(text, sizeof text), -ERR_BADCTX);
    assert_int_equal(try_text("hello", 5), -ERR_BADCTX);
}

/* A text whose sums are right around whatever was written between. */
static int try_forged(const uint8_t *body, size_t len)
{
    uint8_t raw[300] = {2};
    char text[400];
    uint8_t *p = store_le64(store_le32(raw + 1, (uint32_t)hash64(key.data, key.len)), 99);

    memcpy(p, body, len);
    p += len;
    p = store_le32(p, (uint32_t)hash64(raw, (size_t)(p - raw)));
    return try_text(text, base64url_encode(raw, (size_t)(p - raw), text));
}

static int try_lists(const struct dot *vector, uint32_t vectors, const struct dot *cloud,
                     uint32_t clouds)
{
    uint8_t body[200];
    uint8_t *p = varint_store(body, vectors);

    for (uint32_t i = 0; i < vectors; i++)
        p = varint_store(store_le64(p, vector[i].vnode), vector[i].n);
    p = varint_store(p, clouds);
    for (uint32_t i = 0; i < clouds; i++)
        p = varint_store(store_le64(p, cloud[i].vnode), cloud[i].n);
    return try_forged(body, (size_t)(p - body));
}

static void forged_texts_are_held_to_the_invariants(void **state)
{
    const struct dot good[] = {{1, 5}, {2, 6}}, swapped[] = {{2, 6}, {1, 5}};
    const struct dot twice[] = {{1, 5}, {1, 6}}, zero[] = {{1, 0}}, nobody[] = {{0, 1}};
    const struct dot top[] = {{1, UINT64_MAX}}, below[] = {{1, 5}}, above[] = {{1, 7}, {1, 9}};
    const struct dot above_swapped[] = {{1, 9}, {1, 7}};

    (void)state;
    assert_int_equal(try_lists(good, 2, above, 2), 0);
    assert_int_equal(try_lists(swapped, 2, NULL, 0), -ERR_BADCTX);
    assert_int_equal(try_lists(twice, 2, NULL, 0), -ERR_BADCTX);
    assert_int_equal(try_lists(zero, 1, NULL, 0), -ERR_BADCTX);
    assert_int_equal(try_lists(nobody, 1, NULL, 0), -ERR_BADCTX);
    assert_int_equal(try_lists(top, 1, NULL, 0), -ERR_BADCTX);
    assert_int_equal(try_lists(NULL, 0, top, 1), -ERR_BADCTX);
    assert_int_equal(try_lists(good, 2, below, 1), -ERR_BADCTX);
    assert_int_equal(try_lists(good, 2, above_swapped, 2), -ERR_BADCTX);
    assert_int_equal(try_forged((const uint8_t[]){0, 0, 0}, 3), -ERR_BADCTX);
    assert_int_equal(try_forged((const uint8_t[]){0x80, 0, 0}, 3), -ERR_BADCTX);
    assert_int_equal(try_forged((const uint8_t[]){65, 0}, 2), -ERR_BADCTX);
    assert_int_equal(try_forged((const uint8_t[]){0, 0xff, 0xff, 0xff, 0xff, 0x0f}, 6),
                     -ERR_BADCTX);
    assert_int_equal(try_forged((const uint8_t[]){0, 0}, 2), 0);
}

static void random_texts_never_crash(void **state)
{
    struct rand r;
    uint8_t body[200];

    (void)state;
    rand_seed(&r, 4);
    for (int round = 0; round < 100000; round++) {
        size_t len = rand_below(&r, sizeof body);

        for (size_t i = 0; i < len; i++)
            body[i] = rand_chance(&r, 500000) ? (uint8_t)rand_below(&r, 4) : (uint8_t)rand_next(&r);
        try_forged(body, len);
        try_text((const char *)body, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_are_sets_of_dots),
        cmocka_unit_test(joins_agree_to_the_byte_in_every_order),
        cmocka_unit_test(folding_takes_in_dots_and_nothing_beyond),
        cmocka_unit_test(bounds_leave_the_context_as_it_was),
        cmocka_unit_test(a_full_cloud_forgets_the_oldest_of_the_busiest_vnode),
        cmocka_unit_test(forgetting_settles_after_one_exchange),
        cmocka_unit_test(texts_survive_the_round_trip),
        cmocka_unit_test(the_largest_context_has_a_text),
        cmocka_unit_test(the_empty_text_is_the_empty_context),
        cmocka_unit_test(damaged_and_foreign_texts_are_refused),
        cmocka_unit_test(forged_texts_are_held_to_the_invariants),
        cmocka_unit_test(random_texts_never_crash),
    };

    return cmocka_run_group_tests_name("a context is a set of dots", tests, NULL, NULL);
}
