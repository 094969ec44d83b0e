/* Buckets and Merkle leaves: the pure parts of the engine. */
#include "tests/unit/store_kit.h"

#include "store/bucket.h"
#include "store/merkle_leaf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct bucket_reader o, scratch;

static struct slice bucket_of_three(struct buf *bucket)
{
    struct buf object = {0};
    const char *keys[] = {"a", "bb", "a-longer-key"};

    for (int i = 0; i < 3; i++) {
        struct slice s = kit_object(&object, slice_str(keys[i]), (struct dot){1, (uint64_t)i + 1},
                                    slice_str(keys[i]), 0);
        buf_append(bucket, s.data, s.len);
    }
    buf_free(&object);
    return slice_of(buf_head(bucket), buf_len(bucket));
}

static void finds_a_key_by_comparing_it_in_full(void **state)
{
    struct buf b = {0};
    struct slice bucket = bucket_of_three(&b);

    (void)state;
    assert_int_equal(bucket_find(bucket, slice_str("bb"), &o), 0);
    assert_true(slice_equal(o.object.key, slice_str("bb")));
    assert_int_equal(bucket_find(bucket, slice_str("a-longer-key"), &o), 0);
    assert_int_equal(bucket_find(bucket, slice_str("b"), &o), -ERR_NOTFOUND);
    buf_free(&b);
}

static void replaces_one_object_and_keeps_the_others(void **state)
{
    struct buf b = {0}, object = {0}, out = {0};
    struct slice bucket = bucket_of_three(&b);
    struct slice fresh =
        kit_object(&object, slice_str("bb"), (struct dot){1, 9}, slice_str("a new value"), 0);
    struct slice result;
    struct sibling s;

    (void)state;
    assert_int_equal(bucket_replace(bucket, slice_str("bb"), fresh, &scratch, &out), 0);
    result = slice_of(buf_head(&out), buf_len(&out));
    assert_int_equal(bucket_find(result, slice_str("bb"), &o), 0);
    assert_true(object_winner(&o.object, 0, &s, NULL));
    assert_true(slice_equal(s.value, slice_str("a new value")));
    assert_int_equal(bucket_find(result, slice_str("a"), &o), 0);
    assert_int_equal(bucket_find(result, slice_str("a-longer-key"), &o), 0);
    buf_free(&b);
    buf_free(&object);
    buf_free(&out);
}

static void every_flipped_bit_of_a_bucket_is_noticed(void **state)
{
    struct buf b = {0};
    struct slice bucket = bucket_of_three(&b);
    uint8_t *bytes = buf_head(&b);

    (void)state;
    for (size_t bit = 0; bit < bucket.len * 8; bit++) {
        int bad = 0;

        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        for (size_t at = 0;;) {
            int rc = bucket_next(bucket, &at, &o);

            bad |= rc < 0;
            if (rc != 1)
                break;
        }
        assert_true(bad);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_free(&b);
}

static struct slice packed_object(struct buf *object, uint64_t expiry, uint8_t *room)
{
    struct slice full = kit_object(object, slice_str("user:1234"), (struct dot){77, 300},
                                   slice_str("a value of some length"), expiry);
    struct slice packed;
    size_t at = 0;

    assert_int_equal(bucket_next(full, &at, &o), 1);
    packed = bucket_pack(full, &o);
    assert_true(object_is_packed(packed));
    assert_true(packed.len + 20 < full.len);
    memcpy(room, packed.data, packed.len);
    return slice_of(room, packed.len);
}

static void a_plain_object_is_packed_and_comes_back_to_the_byte(void **state)
{
    (void)state;
    for (uint64_t expiry = 0; expiry < 4000000000000; expiry += 1999999999999) {
        struct buf object = {0};
        uint8_t room[OBJECT_PACK_ROOM];
        struct slice packed = packed_object(&object, expiry, room);
        size_t at = 0;

        assert_int_equal(bucket_next(packed, &at, &scratch), 1);
        assert_true(
            slice_equal(scratch.object.encoded, slice_of(buf_head(&object), buf_len(&object))));
        assert_int_equal(bucket_next(packed, &at, &scratch), 0);
        assert_int_equal(bucket_find(packed, slice_str("user:1234"), &scratch), 0);
        assert_int_equal(bucket_find(packed, slice_str("user:123"), &scratch), -ERR_NOTFOUND);
        buf_free(&object);
    }
}

static void every_flipped_bit_and_every_cut_of_a_packed_object_is_noticed(void **state)
{
    struct buf object = {0};
    uint8_t room[OBJECT_PACK_ROOM];
    struct slice packed = packed_object(&object, 1999999999999, room);

    (void)state;
    for (size_t bit = 0; bit < packed.len * 8; bit++) {
        room[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(bucket_next(packed, &(size_t){0}, &scratch) < 0);
        room[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 1; len < packed.len; len++)
        assert_true(bucket_next(slice_of(room, len), &(size_t){0}, &scratch) < 0);
    buf_free(&object);
}

static void a_bucket_of_several_objects_or_a_large_one_is_left_as_it_is(void **state)
{
    static char value[OBJECT_PACK_MAX];
    struct buf b = {0}, object = {0};
    struct slice bucket = bucket_of_three(&b), full;
    size_t at = 0;

    (void)state;
    while (bucket_next(bucket, &at, &o) == 1)
        ;
    assert_ptr_equal(bucket_pack(bucket, &o).data, bucket.data);
    full =
        kit_object(&object, slice_str("k"), (struct dot){1, 1}, slice_of(value, sizeof value), 0);
    at = 0;
    assert_int_equal(bucket_next(full, &at, &o), 1);
    assert_ptr_equal(bucket_pack(full, &o).data, full.data);
    buf_free(&b);
    buf_free(&object);
}

static void leaf_covers_the_bits_below_the_partition(void **state)
{
    (void)state;
    for (unsigned q = 0; q <= 12; q += 3)
        for (unsigned bits = 6; bits <= 20; bits += 7)
            for (uint32_t index = 0; index < 1u << bits; index += (1u << bits) / 13 + 1) {
                uint32_t partition = q == 0 ? 0 : (1u << q) - 1;
                struct position pos = merkle_leaf_start(partition, q, index, bits);

                assert_int_equal(merkle_leaf_index(&pos, q, bits), index);
                assert_int_equal(position_partition(&pos, q), partition);
            }
}

static void leaf_bits_grow_with_the_keys_and_never_shrink(void **state)
{
    (void)state;
    assert_int_equal(merkle_leaf_bits(0, 6), 6);
    assert_int_equal(merkle_leaf_bits(200 << 6, 6), 6);
    assert_int_equal(merkle_leaf_bits((200 << 6) + 1, 6), 8);
    assert_int_equal(merkle_leaf_bits(100, 10), 10);
    assert_int_equal(merkle_leaf_bits(UINT64_MAX / 2, 6), MERKLE_LEAF_BITS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_a_key_by_comparing_it_in_full),
        cmocka_unit_test(replaces_one_object_and_keeps_the_others),
        cmocka_unit_test(every_flipped_bit_of_a_bucket_is_noticed),
        cmocka_unit_test(a_plain_object_is_packed_and_comes_back_to_the_byte),
        cmocka_unit_test(every_flipped_bit_and_every_cut_of_a_packed_object_is_noticed),
        cmocka_unit_test(a_bucket_of_several_objects_or_a_large_one_is_left_as_it_is),
        cmocka_unit_test(leaf_covers_the_bits_below_the_partition),
        cmocka_unit_test(leaf_bits_grow_with_the_keys_and_never_shrink),
    };

    return cmocka_run_group_tests_name("what lies under one position, and what it adds to a leaf",
                                       tests, NULL, NULL);
}
