/* The encoded object: round trips, damage of every kind, formats to come. */
#include "object_kit.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/varint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A sample with everything in it: several vnodes, single dots, request ids, tombstones, expiry. */
static void make_sample(struct replica *r, uint64_t seed, size_t value_len)
{
    struct rand rand;
    struct causal seen;
    uint8_t value[512];
    struct replica other;

    rand_seed(&rand, seed);
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)rand_next(&rand);
    replica_init(r, 1 + rand_next(&rand) / 2, "some key");
    replica_init(&other, 1 + rand_next(&rand) / 2, "some key");
    for (uint64_t i = 0, count = rand_below(&rand, 12) + 1; i < count; i++) {
        struct replica *to = rand_chance(&rand, 500000) ? r : &other;
        struct object_write w = {
            .seen = &seen,
            .time = rand_next(&rand) >> 8,
            .expiry_ms = rand_chance(&rand, 300000) ? 1 + rand_below(&rand, 99) : 0,
            .request_id = rand_chance(&rand, 500000) ? rand_next(&rand) | 1 : 0,
            .tombstone = rand_chance(&rand, 200000),
            .value = slice_of(value, rand_below(&rand, value_len + 1))};

        if (w.tombstone)
            w.value.len = 0;
        causal_clear(&seen);
        if (to->n > 1 && rand_chance(&rand, 300000))
            assert_int_equal(causal_add_dot(&seen, (struct dot){to->vnode, to->n}), 0);
        else if (to == r && other.n > 0)
            assert_int_equal(causal_add_dot(&seen, (struct dot){other.vnode, other.n}), 0);
        assert_int_equal(replica_write(to, w, NULL), 0);
    }
    if (other.n > 0 && (r->n == 0 || rand_chance(&rand, 500000)))
        assert_int_equal(replica_merge(r, &other.o), 0);
    replica_free(&other);
}

/* A copy in memory of exactly its size, so that a read beyond it is found by the sanitizer. */
static uint8_t *exact_copy(struct slice bytes)
{
    uint8_t *copy = malloc(bytes.len > 0 ? bytes.len : 1);

    assert_non_null(copy);
    if (bytes.len > 0)
        memcpy(copy, bytes.data, bytes.len);
    return copy;
}

static void an_object_opens_to_what_was_written(void **state)
{
    struct replica r;
    struct causal nothing;
    struct sibling s;
    size_t cursor = 0;

    (void)state;
    causal_clear(&nothing);
    replica_init(&r, 300, "a key");
    struct object_write w = {.seen = &nothing,
                             .time = UINT64_C(1) << 63,
                             .expiry_ms = 12345678901,
                             .request_id = 99,
                             .value = slice_str("first")};

    assert_int_equal(replica_write(&r, w, NULL), 0);
    w = (struct object_write){.seen = &nothing, .time = 1, .tombstone = true};
    assert_int_equal(replica_write(&r, w, NULL), 0);
    assert_true(slice_equal(r.o.key, slice_str("a key")));
    assert_int_equal(r.o.sibling_count, 2);
    assert_int_equal(r.o.id_count, 1);
    assert_int_equal(r.o.ids[0].id, 99);
    assert_true(dot_equal(r.o.ids[0].dot, (struct dot){300, 1}));
    assert_int_equal(causal_seen_up_to(&r.o.causal, 300), 2);
    assert_true(object_next(&r.o, &cursor, &s));
    assert_true(dot_equal(s.dot, (struct dot){300, 1}) && s.flags == 0);
    assert_int_equal(s.time, UINT64_C(1) << 63);
    assert_int_equal(s.expiry_ms, 12345678901);
    assert_true(slice_equal(s.value, slice_str("first")));
    assert_true(object_next(&r.o, &cursor, &s));
    assert_true(dot_equal(s.dot, (struct dot){300, 2}) && s.flags == SIBLING_TOMBSTONE);
    assert_int_equal(s.value.len, 0);
    assert_false(object_next(&r.o, &cursor, &s));
    struct slice key;

    assert_int_equal(object_peek_key(r.o.encoded, &key), 0);
    assert_true(slice_equal(key, slice_str("a key")));
    replica_free(&r);
}

static void keys_may_be_empty_and_long_but_not_too_long(void **state)
{
    static uint8_t long_key[LIMIT_KEY];
    struct replica r;
    struct object_write w = {.dot = {5, 1}, .value = slice_str("v"), .sibling_limit = 64};
    struct buf out = {0};

    (void)state;
    replica_init(&r, 5, "");
    assert_int_equal(replica_put(&r, NULL, "v", NULL), 0);
    assert_int_equal(r.o.key.len, 0);
    object_empty(&r.o, slice_of(long_key, sizeof long_key));
    assert_int_equal(object_put(&r.o, &w, &out, NULL), 0);
    replica_adopt(&r, &out);
    assert_int_equal(r.o.key.len, LIMIT_KEY);
    replica_free(&r);
}

static void every_flipped_bit_is_detected(void **state)
{
    struct object o;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct replica r;

        make_sample(&r, seed, seed % 10 == 0 ? 500 : 20);
        struct slice good = r.o.encoded;
        uint8_t *bytes = exact_copy(good);

        for (size_t i = 0; i < good.len * 8; i++) {
            bytes[i / 8] ^= (uint8_t)(1 << i % 8);
            assert_int_equal(object_open(&o, slice_of(bytes, good.len)), -ERR_CORRUPT);
            bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        assert_int_equal(object_open(&o, slice_of(bytes, good.len)), 0);
        free(bytes);
        replica_free(&r);
    }
}

static void every_truncation_is_detected(void **state)
{
    struct replica r;
    struct object o;

    (void)state;
    make_sample(&r, 7, 20);
    for (size_t len = 0; len < r.o.encoded.len; len++) {
        uint8_t *bytes = exact_copy(slice_of(r.o.encoded.data, len));
        struct slice key;

        assert_int_equal(object_open(&o, slice_of(bytes, len)), -ERR_CORRUPT);
        if (object_peek_key(slice_of(bytes, len), &key) == 0)
            assert_true(key.data >= bytes && key.data + key.len <= bytes + len);
        free(bytes);
    }
    replica_free(&r);
}

/* Make length and checksum right, as a hostile peer would. */
static void seal(uint8_t *bytes, size_t len)
{
    store_le32(bytes + 4, (uint32_t)len);
    store_le64(bytes + 8, hash64_seed(bytes + 16, len - 16, load_le64(bytes)));
}

/* Open bytes that may be anything; if they open, everything must hold that opening promises. */
static bool open_and_walk(struct slice bytes)
{
    struct object o;
    struct sibling s;
    struct dot last = {0, 0};
    uint32_t count = 0;
    int rc = object_open(&o, bytes);

    if (rc != 0) {
        assert_true(rc == -ERR_CORRUPT || rc == -ERR_VERSION);
        return false;
    }
    assert_true(causal_valid(&o.causal));
    for (size_t cursor = 0; object_next(&o, &cursor, &s); count++) {
        assert_true(dot_order(last, s.dot) < 0);
        assert_true(s.value.data >= bytes.data &&
                    s.value.data + s.value.len <= bytes.data + bytes.len);
        last = s.dot;
    }
    assert_int_equal(count, o.sibling_count);
    (void)object_digest(&o);
    (void)object_winner(&o, 50, &s, NULL);

    struct buf out = {0};

    assert_int_equal(object_merge(&o, &o, &out), 0);
    assert_true(slice_equal(slice_of(buf_head(&out), buf_len(&out)), bytes));
    buf_free(&out);
    return true;
}

/* Whatever has a right checksum and opens has exactly one encoding: merged with itself it comes out
 * as it went in. Whatever does not, fails. Nothing crashes. */
static void sealed_damage_is_found_by_the_bounds(void **state)
{
    struct rand r;
    int opened = 0;

    (void)state;
    rand_seed(&r, 5);
    for (int round = 0; round < 100000; round++) {
        struct replica sample;

        if (round % 100 == 0) {
            if (round > 0)
                replica_free(&sample);
            make_sample(&sample, (uint64_t)round + 1000, 20);
        }
        size_t len = sample.o.encoded.len;
        uint8_t *bytes = exact_copy(sample.o.encoded);

        if (rand_chance(&r, 300000))
            len = 17 + rand_below(&r, len - 17);
        for (uint64_t i = 0, edits = 1 + rand_below(&r, 4); i < edits; i++)
            bytes[16 + rand_below(&r, len - 16)] =
                rand_chance(&r, 500000) ? (uint8_t)rand_below(&r, 4) : (uint8_t)rand_next(&r);
        uint8_t *exact = exact_copy(slice_of(bytes, len));

        seal(exact, len);
        opened += open_and_walk(slice_of(exact, len));
        free(exact);
        free(bytes);
        if (round == 99999)
            replica_free(&sample);
    }
    assert_in_range(opened, 1000, 99000); /* the test tests both sides */
}

static void garbage_never_crashes(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 6);
    for (int round = 0; round < 100000; round++) {
        size_t len = rand_below(&r, 120);
        uint8_t *bytes = exact_copy(slice_of(NULL, 0));

        bytes = realloc(bytes, len > 0 ? len : 1);
        assert_non_null(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] =
                rand_chance(&r, 500000) ? (uint8_t)rand_below(&r, 4) : (uint8_t)rand_next(&r);
        (void)open_and_walk(slice_of(bytes, len));
        if (len > 16) {
            memcpy(bytes, (const uint8_t[4]){1, 1, 0, 0}, 4);
            seal(bytes, len);
            (void)open_and_walk(slice_of(bytes, len));
        }
        free(bytes);
    }
}

static void formats_to_come_are_told_from_damage(void **state)
{
    struct replica r;
    struct object o;

    (void)state;
    make_sample(&r, 3, 20);
    for (size_t at = 0; at < 4; at++) {
        uint8_t *bytes = exact_copy(r.o.encoded);

        bytes[at] += 1;
        assert_int_equal(object_open(&o, slice_of(bytes, r.o.encoded.len)), -ERR_CORRUPT);
        seal(bytes, r.o.encoded.len);
        assert_int_equal(object_open(&o, slice_of(bytes, r.o.encoded.len)), -ERR_VERSION);
        free(bytes);
    }
    replica_free(&r);
}

/* The bytes of one small object, written out: they may never change. */
static void the_format_is_the_one_on_disk(void **state)
{
    static const uint8_t body[] = {
        1,    'k',                                          /* key */
        1,    0x2a, 0, 0,   0,   0, 0, 0, 0,    0x81, 0x02, /* vector {42: 257} */
        0,                                                  /* cloud */
        1,    7,    0, 0,   0,   0, 0, 0, 0,                /* request 7 */
        0x2a, 0,    0, 0,   0,   0, 0, 0, 0x81, 0x02,       /* was dot (42, 257) */
        9,    0,    0, 0,   0,   0, 0, 0,                   /* at time 9 */
        1,                                                  /* one sibling */
        0,    0x2a, 0, 0,   0,   0, 0, 0, 0,    0x81, 0x02, /* flags, dot */
        9,    0,    0, 0,   0,   0, 0, 0,                   /* time */
        0xe8, 0x07, 2, 'v', 'w',                            /* expiry 1000, value */
    };
    struct replica r;

    (void)state;
    replica_init(&r, 42, "k");
    r.n = 256;
    struct object_write w = {
        .time = 9, .expiry_ms = 1000, .request_id = 7, .value = slice_str("vw")};

    assert_int_equal(replica_write(&r, w, NULL), 0);
    const uint8_t *p = r.o.encoded.data;

    assert_int_equal(r.o.encoded.len, 16 + sizeof body);
    assert_memory_equal(p, ((const uint8_t[8]){1, 1, 0, 0, 16 + sizeof body, 0, 0, 0}), 8);
    assert_memory_equal(p + 16, body, sizeof body);
    assert_int_equal(load_le64(p + 8), hash64_seed(body, sizeof body, load_le64(p)));
    replica_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_opens_to_what_was_written),
        cmocka_unit_test(keys_may_be_empty_and_long_but_not_too_long),
        cmocka_unit_test(every_flipped_bit_is_detected),
        cmocka_unit_test(every_truncation_is_detected),
        cmocka_unit_test(sealed_damage_is_found_by_the_bounds),
        cmocka_unit_test(garbage_never_crashes),
        cmocka_unit_test(formats_to_come_are_told_from_damage),
        cmocka_unit_test(the_format_is_the_one_on_disk),
    };

    return cmocka_run_group_tests_name("an encoded object is verified in full", tests, NULL, NULL);
}
