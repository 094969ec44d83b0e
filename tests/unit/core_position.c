/* Slots as Redis Cluster computes them, and where keys lie on the ring. */
#include "core/position.h"

#include "base/hash.h"
#include "core/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint16_t slot(const char *key)
{
    return position_slot_of_key(slice_str(key));
}

static void slots_are_those_of_redis(void **state)
{
    (void)state;
    assert_int_equal(hash_crc16("123456789", 9), 0x31c3);
    assert_int_equal(slot("123456789"), 12739);
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("bar"), 5061);
    assert_int_equal(slot(""), 0);
}

static void hash_tags_choose_the_slot(void **state)
{
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("user1000"));
    assert_int_equal(slot("{user1000}.followers"), slot("user1000"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
    /* An empty or unclosed tag is none. */
    assert_int_equal(slot("foo{}{bar}"), hash_crc16("foo{}{bar}", 10) % LIMIT_SLOTS);
    assert_int_equal(slot("foo{bar"), hash_crc16("foo{bar", 7) % LIMIT_SLOTS);
    assert_int_equal(slot("foo{"), hash_crc16("foo{", 4) % LIMIT_SLOTS);
    assert_int_equal(slot("}foo{"), hash_crc16("}foo{", 5) % LIMIT_SLOTS);
}

static void a_position_begins_with_its_slot(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) {
        char key[32];
        struct slice k = slice_of(key, (size_t)snprintf(key, sizeof key, "key:%d", i));
        struct position p = position_of(k);

        assert_int_equal(position_slot(&p), position_slot_of_key(k));
        for (unsigned bits = 0; bits <= 14; bits++)
            assert_int_equal(position_partition(&p, bits), position_slot(&p) >> (14 - bits));
    }
}

static void memory_order_is_ring_order(void **state)
{
    struct position low = {{0}}, high = {{0}};

    (void)state;
    low.b[15] = 0xff;
    high.b[0] = 1;
    assert_true(position_compare(&low, &high) < 0);
    assert_int_equal(position_compare(&low, &low), 0);
    struct position a = position_of(slice_str("{t}1")), b = position_of(slice_str("{t}2"));

    assert_int_equal(position_slot(&a), position_slot(&b));
    assert_true(position_compare(&a, &b) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_redis),
        cmocka_unit_test(hash_tags_choose_the_slot),
        cmocka_unit_test(a_position_begins_with_its_slot),
        cmocka_unit_test(memory_order_is_ring_order),
    };

    return cmocka_run_group_tests_name("a key has one place on the ring", tests, NULL, NULL);
}
