/* A vnode read from outside: what the files say, leaf by leaf, and what happens when they change
 * underneath. And what anti-entropy asks of the engine itself. */
#include "core/horizon.h"
#include "store/snapshot.h"
#include "tests/unit/store_kit.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { P = 1, KEYS = 400, MAP = 256 << 20 };

static char dir[256];
static struct store *store;

static int setup(void **state)
{
    (void)state;
    kit_dir(dir, sizeof dir);
    store = kit_open(dir);
    for (unsigned n = 0; n < KEYS; n++)
        kit_put(store, n, n);
    kit_flush(store);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (store != NULL)
        store_close(store);
    store = NULL;
    kit_remove(dir);
    return 0;
}

/* One process must not have a vnode open twice: the store goes first. */
static struct snapshot *open_snapshot(void)
{
    struct snapshot *s;

    if (store != NULL)
        store_close(store);
    store = NULL;

    assert_int_equal(snapshot_open(&s, dir, P, KIT_Q, MAP), 0);
    return s;
}

static struct position end_of(uint8_t byte)
{
    struct position pos;

    memset(pos.b, byte, sizeof pos.b);
    return pos;
}

static struct store_vnode_state look(void)
{
    struct store_vnode_state now;

    assert_int_equal(store_vnode_state(store, P, &now), 0);
    return now;
}

static uint64_t sum_of_leaves(struct snapshot *s)
{
    const uint64_t *leaves;
    unsigned bits;
    uint64_t sum = 0;

    assert_int_equal(snapshot_leaves(s, &leaves, &bits), 0);
    for (uint32_t i = 0; i < 1u << bits; i++)
        sum += leaves[i];
    return sum;
}

static void rows_add_up_to_the_leaves_and_to_the_root_of_the_store(void **state)
{
    static struct exchange_entry rows[KEYS + 1];
    struct position first = end_of(0), last = end_of(0xff);
    uint64_t sum = 0;
    struct store_vnode_state now = look();
    struct snapshot *s = open_snapshot();
    int count = snapshot_rows(s, &first, &last, KEYS + 1, 0, rows);

    (void)state;
    assert_true(count > 0 && count <= KEYS);
    for (int i = 0; i < count; i++) {
        sum += rows[i].sum;
        assert_int_equal(rows[i].flags, 0);
        assert_true(i == 0 || position_compare(&rows[i - 1].pos, &rows[i].pos) < 0);
    }
    assert_true(sum == sum_of_leaves(s) && sum == now.root);
    assert_int_equal(now.keys, count);
    snapshot_close(s);
}

static void objects_come_in_batches_that_go_on_where_the_last_one_ended(void **state)
{
    struct position cursor = end_of(0), last = end_of(0xff);
    struct store_vnode_state now = look();
    struct snapshot *s = open_snapshot();
    struct buf out = {0};
    struct object o;
    unsigned count = 0;
    int rc = 0;

    (void)state;
    while (rc == 0) {
        buf_clear(&out);
        rc = snapshot_objects(s, &cursor, &last, 1000, &out);
        assert_true(rc >= 0);
        while (buf_len(&out) > 0) {
            uint32_t len;

            memcpy(&len, buf_head(&out) + 4, sizeof len);
            assert_int_equal(object_open(&o, slice_of(buf_head(&out), len)), 0);
            buf_consume(&out, len);
            count++;
        }
    }
    assert_int_equal(count, now.keys);
    buf_free(&out);
    snapshot_close(s);
}

/* Check every leaf; how many are not sound. */
static unsigned verify(struct snapshot *s, uint64_t *rows, struct position *bad)
{
    uint64_t bytes, more;
    unsigned damaged = 0;
    int rc;

    *rows = 0;
    for (uint32_t i = 0; (rc = snapshot_verify(s, i, &more, &bytes, bad)) != SNAPSHOT_END; i++) {
        assert_true(rc >= 0);
        damaged += rc != SNAPSHOT_SOUND;
        *rows += more;
    }
    return damaged;
}

static void every_row_is_read_once_when_all_leaves_are_checked(void **state)
{
    struct store_vnode_state now = look();
    struct snapshot *s = open_snapshot();
    struct position bad;
    uint64_t rows;

    (void)state;
    assert_int_equal(verify(s, &rows, &bad), 0);
    assert_int_equal(rows, now.keys);
    snapshot_close(s);
}

static void a_vnode_that_was_moved_away_is_noticed(void **state)
{
    struct snapshot *s = open_snapshot();
    char from[FILE_PATH], to[FILE_PATH];

    (void)state;
    assert_true(snapshot_is_current(s));
    file_path(from, "%s/vnodes/%d", dir, P);
    file_path(to, "%s/vnodes/%d.old", dir, P);
    assert_int_equal(rename(from, to), 0);
    assert_false(snapshot_is_current(s));
    snapshot_close(s);
}

struct first_row {
    struct position pos;
    char key[64];
    size_t key_len;
};

static void take_first(void *arg, const struct position *pos, struct slice object)
{
    struct first_row *row = arg;
    struct slice key;

    assert_int_equal(object_peek_key(object, &key), 0);
    assert_true(key.len < sizeof row->key);
    row->pos = *pos;
    row->key_len = key.len;
    memcpy(row->key, key.data, key.len);
}

static void a_removed_row_is_gone_at_once_and_after_the_flush(void **state)
{
    struct position cursor = end_of(0);
    struct store_vnode_state before = look(), after;
    struct first_row row;
    struct slice object, key;
    uint64_t lsn;

    (void)state;
    assert_int_equal(store_scan(store, P, &cursor, 1, take_first, &row), 0);
    key = slice_of(row.key, row.key_len);
    assert_int_equal(store_remove(store, P, &row.pos, key, &lsn), 0);
    assert_int_equal(store_get_at(store, P, &row.pos, &object), -ERR_NOTFOUND);
    assert_int_equal(store_get(store, P, &row.pos, key, &object), -ERR_NOTFOUND);
    kit_flush(store);
    assert_int_equal(store_get_at(store, P, &row.pos, &object), -ERR_NOTFOUND);
    after = look();
    assert_int_equal(after.keys, before.keys - 1);
    assert_true(after.root != before.root);
}

/* Turns until the flush thread has done what was asked. */
static void wait_standing(uint8_t standing)
{
    uint64_t horizon;

    for (int i = 0; i < 5000 && store_standing(store, P, &horizon) != standing; i++) {
        usleep(1000);
        kit_turn(store);
    }
    assert_int_equal(store_standing(store, P, &horizon), standing);
}

static void a_new_vnode_is_missing_until_it_is_called_whole_and_stays_whole(void **state)
{
    struct store_vnode_state now;
    uint64_t id;

    (void)state;
    assert_int_equal(store_vnode_state(store, P, &now), 0);
    assert_int_equal(now.standing, STANDING_MISSING);
    assert_int_equal(store_set_standing(store, P, now.id + 1, STANDING_WHOLE), -ERR_STALE);
    assert_int_equal(store_set_horizon(store, P, now.id, 5, now.late_ms), -ERR_STALE);
    assert_int_equal(store_set_standing(store, P, now.id, STANDING_WHOLE), 0);
    wait_standing(STANDING_WHOLE);
    store_close(store);
    store = kit_open(dir);
    assert_int_equal(store_vnode_open(store, P, false, &id), 0);
    wait_standing(STANDING_WHOLE);
}

static void a_vnode_that_was_away_is_not_believed_at_once(void **state)
{
    struct store_vnode_state now;
    uint64_t horizon;

    (void)state;
    assert_int_equal(store_vnode_state(store, P, &now), 0);
    assert_int_equal(store_set_standing(store, P, now.id, STANDING_WHOLE), 0);
    wait_standing(STANDING_WHOLE);
    assert_int_equal(store_set_standing(store, P, now.id, STANDING_AWAY), 0);
    assert_int_equal(store_standing(store, P, &horizon), STANDING_AWAY);
}

static void what_came_late_makes_an_older_horizon_void(void **state)
{
    struct store_vnode_state now;

    (void)state;
    assert_int_equal(store_vnode_state(store, P, &now), 0);
    assert_int_equal(store_set_standing(store, P, now.id, STANDING_WHOLE), 0);
    wait_standing(STANDING_WHOLE);
    store_note_late(store, P);
    assert_int_equal(store_set_horizon(store, P, now.id, 7, now.late_ms), -ERR_STALE);
    assert_int_equal(store_vnode_state(store, P, &now), 0);
    assert_int_equal(store_set_horizon(store, P, now.id, 7, now.late_ms), 0);
    for (int i = 0; i < 5000 && now.horizon_ms != 7; i++) {
        usleep(1000);
        kit_turn(store);
        assert_int_equal(store_vnode_state(store, P, &now), 0);
    }
    assert_int_equal(now.horizon_ms, 7);
}

static void nobody_knows_how_old_is_what_was_replayed_until_it_is_flushed(void **state)
{
    struct store_vnode_state now;

    (void)state;
    for (unsigned n = 0; n < 50; n++)
        kit_put(store, n, 1);
    store_close(store);
    store = kit_open(dir);
    assert_int_equal(look().dirty_since_ms, REPAIR_DIRTY_REPLAYED);
    store_flush(store, P);
    for (int i = 0; i < 5000 && look().dirty_since_ms != 0; i++) {
        usleep(1000);
        kit_turn(store);
    }
    assert_int_equal(look().dirty_since_ms, 0);
    for (unsigned n = 0; n < 50; n++)
        kit_put(store, n, 2);
    now = look();
    assert_true(now.dirty_since_ms > REPAIR_DIRTY_REPLAYED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_add_up_to_the_leaves_and_to_the_root_of_the_store,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(objects_come_in_batches_that_go_on_where_the_last_one_ended,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(every_row_is_read_once_when_all_leaves_are_checked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_vnode_that_was_moved_away_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_row_is_gone_at_once_and_after_the_flush, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_new_vnode_is_missing_until_it_is_called_whole_and_stays_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vnode_that_was_away_is_not_believed_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            nobody_knows_how_old_is_what_was_replayed_until_it_is_flushed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_came_late_makes_an_older_horizon_void, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
