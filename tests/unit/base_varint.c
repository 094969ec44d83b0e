/* Numbers in byte strings: sizes, borders, minimal length, cut-off input. */
#include "base/rand.h"
#include "base/varint.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_number(uint64_t x)
{
    uint8_t bytes[VARINT_MAX];
    uint64_t back;
    size_t len = (size_t)(varint_store(bytes, x) - bytes);

    assert_int_equal(len, varint_size(x));
    assert_in_range(len, 1, VARINT_MAX);
    assert_ptr_equal(varint_load(bytes, bytes + len, &back), bytes + len);
    assert_int_equal(back, x);
    for (size_t cut = 0; cut < len; cut++)
        assert_null(varint_load(bytes, bytes + cut, &back));
}

static void numbers_survive_the_round_trip(void **state)
{
    struct rand r;

    (void)state;
    rand_seed(&r, 1);
    for (unsigned bit = 0; bit < 64; bit++) {
        check_number(UINT64_C(1) << bit);
        check_number((UINT64_C(1) << bit) - 1);
        check_number(rand_next(&r) >> bit);
    }
    check_number(UINT64_MAX);
}

static void longer_than_needed_is_refused(void **state)
{
    uint64_t x;

    (void)state;
    const uint8_t zero[] = {0x80, 0}, one[] = {0x81, 0x80, 0};

    assert_null(varint_load(zero, zero + sizeof zero, &x));
    assert_null(varint_load(one, one + sizeof one, &x));
}

static void more_than_64_bits_are_refused(void **state)
{
    uint8_t bytes[11];
    uint64_t x;

    (void)state;
    memset(bytes, 0xff, sizeof bytes);
    assert_null(varint_load(bytes, bytes + sizeof bytes, &x));
    bytes[9] = 2;
    assert_null(varint_load(bytes, bytes + sizeof bytes, &x));
    bytes[9] = 1;
    assert_ptr_equal(varint_load(bytes, bytes + sizeof bytes, &x), bytes + 10);
    assert_int_equal(x, UINT64_MAX);
}

static void fixed_integers_are_little_endian(void **state)
{
    uint8_t bytes[12];

    (void)state;
    store_le64(store_le32(bytes, 0x04030201), 0x0c0b0a0908070605u);
    for (unsigned i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], i + 1);
    assert_int_equal(load_le32(bytes), 0x04030201);
    assert_int_equal(load_le64(bytes + 4), 0x0c0b0a0908070605u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_survive_the_round_trip),
        cmocka_unit_test(longer_than_needed_is_refused),
        cmocka_unit_test(more_than_64_bits_are_refused),
        cmocka_unit_test(fixed_integers_are_little_endian),
    };

    return cmocka_run_group_tests_name("a number has one encoding", tests, NULL, NULL);
}
