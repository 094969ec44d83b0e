/* Protocol versions: which one two speak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/protocol.h"

static void the_lowest_common_version_is_spoken(void **state)
{
    (void)state;
    for (uint8_t a = 1; a < 6; a++)
        for (uint8_t b = a; b < 6; b++)
            for (uint8_t c = 1; c < 6; c++)
                for (uint8_t d = c; d < 6; d++) {
                    struct protocol_range x = {a, b}, y = {c, d};
                    uint8_t newest = 0;

                    for (uint8_t v = 1; v < 6; v++)
                        if (v >= a && v <= b && v >= c && v <= d)
                            newest = v;
                    assert_int_equal(protocol_common(x, y), newest);
                    assert_int_equal(protocol_common(y, x), newest);
                }
}

static void a_range_survives_a_hello(void **state)
{
    struct protocol_range old = protocol_unpack(1);

    (void)state;
    for (unsigned a = 1; a < 256; a++)
        for (unsigned b = a; b < 256; b++) {
            struct protocol_range r = protocol_unpack(
                protocol_pack((struct protocol_range){.oldest = (uint8_t)a, .newest = (uint8_t)b}));

            assert_int_equal(r.oldest, a);
            assert_int_equal(r.newest, b);
        }
    assert_int_equal(old.oldest, 1);
    assert_int_equal(old.newest, 1);
}

static void impossible_ranges_have_nothing_in_common_with_anybody(void **state)
{
    static const uint32_t packed[] = {0, 256u << 16 | 300, UINT32_MAX, 0xffff0001, 5u << 16 | 2};
    struct protocol_range all = {1, 255};

    (void)state;
    for (unsigned i = 0; i < sizeof packed / sizeof packed[0]; i++)
        assert_int_equal(protocol_common(all, protocol_unpack(packed[i])), 0);
    assert_int_equal(protocol_common(all, protocol_unpack(2u << 16 | 1000)), 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_common_version_is_spoken),
        cmocka_unit_test(a_range_survives_a_hello),
        cmocka_unit_test(impossible_ranges_have_nothing_in_common_with_anybody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
