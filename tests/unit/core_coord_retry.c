/* core/coord where a record is lost while its write is on its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/coord_kit.h"

static const struct quorum_rule rule = {.n = 3, .r = 2, .w = 2, .sloppy = true};

static struct ring_view views[KIT_MEMBERS];

enum { BEFORE, ALONE, ASKED };

static void put(struct kit *k, struct kit_node *n, uint64_t token, uint64_t id, uint8_t w)
{
    struct msg_PUT m = {
        .key = slice_str(k->keys[0]), .value = slice_str("value"), .request_id = id, .w = w};

    assert_int_equal(kit_put(k, n, token, m), 0);
}

static void cut_off(struct kit *k, const struct kit_node *n, bool yes)
{
    for (uint16_t i = 0; i < k->members; i++)
        k->cut[n->member][i] = yes;
}

/* A record that was damaged meanwhile comes back from others without the write: what is sent to whoever
 * stands in for a silent replica must not be taken for the write. */
static void lose_and_ask(bool repeated)
{
    struct kit *k = kit_new(4, 1, rule, views, 64);
    struct kit_node *n = kit_owner(k, 0, 0);

    put(k, n, BEFORE, 0, 0);
    kit_settle(k);
    assert_int_equal(k->replies[BEFORE].status, 0);
    struct slice before = kit_copy(n->records[0].bytes);

    cut_off(k, n, true);
    if (repeated) {
        put(k, n, ALONE, 77, 1);
        kit_settle(k);
        assert_int_equal(k->replies[ALONE].status, 0);
    }
    put(k, n, ASKED, 77, 2);
    cut_off(k, n, false);
    kit_replace(&n->records[0].bytes, before);
    for (int i = 0; i < 40; i++) {
        kit_pass(k, 100000);
        kit_settle(k);
    }
    assert_int_equal(k->replies[ASKED].count, 1);
    assert_int_equal(k->replies[ASKED].status, -ERR_NOQUORUM);
    free((void *)(uintptr_t)before.data);
    kit_free(k);
}

static void a_lost_write_is_not_acknowledged(void **state)
{
    (void)state;
    lose_and_ask(false);
}

static void a_lost_write_is_not_acknowledged_when_it_is_repeated(void **state)
{
    (void)state;
    lose_and_ask(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_write_is_not_acknowledged),
        cmocka_unit_test(a_lost_write_is_not_acknowledged_when_it_is_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
