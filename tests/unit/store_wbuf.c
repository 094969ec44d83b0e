/* Write buffers. */
#include "base/err.h"
#include "base/rand.h"
#include "store/wbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct wbuf_pool pool;

static struct position position_with(uint8_t first, uint8_t last)
{
    struct position pos = {{first}};

    pos.b[15] = last;
    return pos;
}

static void finds_what_was_put_newest_state_only(void **state)
{
    struct wbuf b;
    struct position pos = position_with(1, 2);

    (void)state;
    wbuf_init(&b, &pool);
    assert_null(wbuf_find(&b, &pos, slice_str("k")));
    assert_int_equal(wbuf_put(&b, &pos, slice_str("k-one"), 0, 1), 0);
    assert_int_equal(wbuf_put(&b, &pos, slice_str("k-three"), 0, 1), 0);
    assert_int_equal(b.count, 1);
    struct wbuf_entry *e = wbuf_find(&b, &pos, slice_str("k"));
    assert_non_null(e);
    assert_true(slice_equal(slice_of(e->data, e->len), slice_str("k-three")));
    wbuf_clear(&b);
    assert_int_equal(pool.used, 0);
    wbuf_pool_trim(&pool, 0);
}

static void tells_two_keys_of_one_position_apart(void **state)
{
    struct wbuf b;
    struct position pos = position_with(1, 2);

    (void)state;
    wbuf_init(&b, &pool);
    assert_int_equal(wbuf_put(&b, &pos, slice_str("aX"), 0, 1), 0);
    assert_int_equal(wbuf_put(&b, &pos, slice_str("bY"), 0, 1), 0);
    assert_int_equal(b.count, 2);
    assert_int_equal(wbuf_find(&b, &pos, slice_str("a"))->data[1], 'X');
    assert_int_equal(wbuf_find(&b, &pos, slice_str("b"))->data[1], 'Y');
    assert_null(wbuf_find(&b, &pos, slice_str("c")));
    wbuf_clear(&b);
    wbuf_pool_trim(&pool, 0);
}

/* Against a plain array, with sizes that cross from arena to own allocations and back. */
static void agrees_with_a_model_and_accounts_for_every_byte(void **state)
{
    enum { KEYS = 500, ROUNDS = 20000 };
    static struct {
        uint32_t len;
        uint8_t fill;
    } model[KEYS];
    static uint8_t data[3 * WBUF_BIG];
    struct wbuf b;
    struct rand r;
    uint32_t expected = 0;

    (void)state;
    rand_seed(&r, 7);
    wbuf_init(&b, &pool);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t key = (uint32_t)rand_below(&r, KEYS);
        struct position pos = position_with((uint8_t)key, (uint8_t)(key >> 8));
        uint32_t len = 4 + (uint32_t)rand_below(&r, rand_below(&r, 8) == 0 ? sizeof data - 4 : 200);

        expected += model[key].len == 0;
        model[key].len = len;
        model[key].fill = (uint8_t)i;
        memset(data, i, len);
        memcpy(data, &key, 4);
        assert_int_equal(wbuf_put(&b, &pos, slice_of(data, len), 0, 4), 0);
    }
    assert_int_equal(b.count, expected);
    assert_int_equal(b.bytes, pool.used);
    for (uint32_t key = 0; key < KEYS; key++) {
        struct position pos = position_with((uint8_t)key, (uint8_t)(key >> 8));
        struct wbuf_entry *e = wbuf_find(&b, &pos, slice_of(&key, 4));

        if (model[key].len == 0) {
            assert_null(e);
            continue;
        }
        assert_int_equal(e->len, model[key].len);
        for (uint32_t i = 4; i < e->len; i++)
            assert_int_equal(e->data[i], model[key].fill);
    }
    wbuf_clear(&b);
    assert_int_equal(pool.used, 0);
    wbuf_pool_trim(&pool, 0);
    assert_int_equal(pool.free_count, 0);
}

static void sorts_by_position_then_key(void **state)
{
    enum { N = 3000 };
    static struct wbuf_sorted sorted[N];
    struct wbuf b;
    struct rand r;

    (void)state;
    rand_seed(&r, 9);
    wbuf_init(&b, &pool);
    for (uint32_t i = 0; i < N; i++) {
        struct position pos = position_with((uint8_t)rand_next(&r), (uint8_t)rand_below(&r, 4));

        assert_int_equal(wbuf_put(&b, &pos, slice_of(&i, 4), 0, 4), 0);
    }
    wbuf_sort(&b, sorted);
    for (uint32_t i = 1; i < N; i++) {
        int order = position_compare(&sorted[i - 1].entry->pos, &sorted[i].entry->pos);

        assert_true(order < 0 || (order == 0 &&
                                  memcmp(sorted[i - 1].entry->data, sorted[i].entry->data, 4) < 0));
    }
    wbuf_clear(&b);
    wbuf_pool_trim(&pool, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_put_newest_state_only),
        cmocka_unit_test(tells_two_keys_of_one_position_apart),
        cmocka_unit_test(agrees_with_a_model_and_accounts_for_every_byte),
        cmocka_unit_test(sorts_by_position_then_key),
    };

    return cmocka_run_group_tests_name("a write buffer holds the newest state of each key", tests,
                                       NULL, NULL);
}
