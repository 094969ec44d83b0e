/* The engine as its worker sees it. */
#include "tests/unit/store_kit.h"

#include "base/rand.h"
#include "store/bucket.h"
#include "store/merkle_leaf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char dir[256];

static int setup(void **state)
{
    (void)state;
    kit_dir(dir, sizeof dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kit_remove(dir);
    return 0;
}

/* Random writes, flushes and restarts against a plain array. */
static void agrees_with_a_model_over_flushes_and_restarts(void **state)
{
    enum { KEYS = 300, STEPS = 6000 };
    static unsigned model[KEYS];
    struct store *s = kit_open(dir);
    struct rand r;

    (void)state;
    rand_seed(&r, 3);
    for (unsigned step = 1; step <= STEPS; step++) {
        unsigned key = (unsigned)rand_below(&r, KEYS);
        size_t size = rand_chance(&r, 20000) ? 20000 : 16 + rand_below(&r, 300);
        uint64_t lsn;

        assert_int_equal(kit_put_full(s, key, step, size, 0, &lsn), 0);
        model[key] = step;
        assert_int_equal(kit_get(s, key), step);
        if (rand_chance(&r, 20000))
            kit_wait(s, lsn);
        if (rand_chance(&r, 3000))
            kit_flush(s);
        if (rand_chance(&r, 1000)) {
            store_close(s);
            s = kit_open(dir);
        }
    }
    for (int flushed = 0; flushed < 2; flushed++) {
        for (unsigned key = 0; key < KEYS; key++)
            assert_int_equal(kit_get(s, key), model[key] == 0 ? -ERR_NOTFOUND : (int)model[key]);
        kit_flush(s);
    }
    store_close(s);
}

static void writes_are_flushed_and_journal_segments_let_go_without_being_asked(void **state)
{
    struct store_conf conf = kit_conf(dir);
    struct store_stats stats;

    (void)state;
    conf.write_buffer_bytes = 1 << 20;
    struct store *s = kit_open_conf(&conf);
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t lsn = kit_put(s, n % 5000, n);

        if (n % 64 == 0)
            kit_wait(s, lsn);
        while (store_pressure(s)) {
            kit_turn(s);
            usleep(100);
        }
    }
    store_stats(s, &stats);
    for (int i = 0; i < 60000 && stats.flushes <= 2; i++) { /* the flush thread yields to us */
        usleep(1000);
        kit_turn(s);
        store_stats(s, &stats);
    }
    assert_true(stats.flushes > 2);
    assert_true(stats.buffer_bytes <= conf.write_buffer_bytes);
    assert_true(stats.journal_bytes < 8 << 20);
    kit_flush(s);
    store_stats(s, &stats);
    assert_int_equal(stats.keys, 5000);
    store_close(s);
}

static void no_dot_is_issued_twice(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (int round = 0; round < 4; round++) {
        struct store *s = kit_open(dir);
        struct dot dot;

        for (int i = 0; i < 1000; i++) {
            assert_int_equal(kit_dot(s, 3, &dot), 0);
            assert_int_equal(dot.vnode, store_vnode_id(s, 3));
            assert_true(dot.n > last);
            last = dot.n;
        }
        store_close(s);
    }
}

struct walk {
    struct position last;
    unsigned count;
    uint8_t seen[4000];
};

static void note_object(void *arg, const struct position *pos, struct slice object)
{
    struct walk *w = arg;
    struct slice key;
    unsigned n;

    assert_int_equal(object_peek_key(object, &key), 0);
    assert_true(w->count == 0 || position_compare(&w->last, pos) < 0);
    w->last = *pos;
    n = (unsigned)strtoul((const char *)key.data + 4, NULL, 10);
    assert_int_equal(w->seen[n], 0);
    w->seen[n] = 1;
    w->count++;
}

static unsigned scan_all(struct store *s, uint32_t max)
{
    unsigned total = 0;

    for (uint32_t p = 0; p < 1u << KIT_Q; p++) {
        static struct walk w;
        struct position cursor = {{0}};
        int rc;

        memset(&w, 0, sizeof w);
        while ((rc = store_scan(s, p, &cursor, max, note_object, &w)) == 0)
            kit_turn(s);
        assert_int_equal(rc, 1);
        total += w.count;
    }
    return total;
}

static void a_scan_sees_each_key_once_wherever_it_lies(void **state)
{
    struct store *s = kit_open(dir);

    (void)state;
    for (unsigned n = 0; n < 1000; n++)
        kit_put(s, n, 1);
    kit_flush(s);
    for (unsigned n = 500; n < 2000; n++)
        kit_put(s, n, 2);
    for (uint32_t max = 1; max < 5000; max = max * 3 + 1)
        assert_int_equal(scan_all(s, max), 2000);
    store_close(s);
    s = kit_open(dir);
    assert_int_equal(scan_all(s, 100), 2000);
    kit_flush(s);
    assert_int_equal(scan_all(s, 100), 2000);
    store_close(s);
}

struct hints {
    unsigned count;
    uint64_t sum;
};

static void note_hint(void *arg, const struct position *pos, uint64_t time_ms)
{
    struct hints *h = arg;

    (void)pos;
    h->count++;
    h->sum += time_ms;
}

static struct hints hints_of(struct store *s, const uint8_t target[16])
{
    struct position cursor = {{0}};
    struct hints h = {0, 0};
    int rc;

    while ((rc = store_hint_scan(s, 1, target, &cursor, 7, note_hint, &h)) == 0)
        continue;
    assert_int_equal(rc, 1);
    return h;
}

static void hints_are_kept_by_target_until_removed(void **state)
{
    const uint8_t one[16] = {1}, two[16] = {2};
    struct store *s = kit_open(dir);
    uint64_t lsn = 0;

    (void)state;
    for (int round = 0; round < 3; round++) { /* buffered, replayed, flushed */
        for (unsigned n = 0; n < 50; n++) {
            struct position pos = {{0x20, (uint8_t)n}};

            assert_int_equal(store_hint_add(s, 1, n % 2 ? one : two, &pos, n, &lsn), 0);
        }
        assert_int_equal(hints_of(s, one).count, 25);
        assert_int_equal(hints_of(s, two).sum, 24 * 25);
        for (unsigned n = 1; n < 50; n += 2) {
            struct position pos = {{0x20, (uint8_t)n}};

            if (n != 13)
                assert_int_equal(store_hint_remove(s, 1, one, &pos), 0);
        }
        if (round == 1) {
            store_close(s);
            s = kit_open(dir);
        } else if (round == 2) {
            kit_flush(s);
        }
        assert_int_equal(hints_of(s, one).count, 1);
        assert_int_equal(hints_of(s, one).sum, 13);
        assert_int_equal(hints_of(s, two).count, 25);
    }
    store_close(s);
}

/* What the leaves of a vnode must be, from what a scan shows. */
struct expected {
    uint64_t leaves[1 << 12];
    uint32_t bits;
};

static void add_expected(void *arg, const struct position *pos, struct slice bytes)
{
    static struct object o;
    struct expected *e = arg;

    assert_int_equal(object_open(&o, bytes), 0);
    e->leaves[merkle_leaf_index(pos, KIT_Q, e->bits)] += merkle_leaf_mix(pos, object_digest(&o));
}

static void check_leaves(struct store *s)
{
    for (uint32_t p = 0; p < 1u << KIT_Q; p++) {
        static struct expected e;
        struct position cursor = {{0}};
        const uint64_t *leaves;
        uint64_t generation;

        memset(&e, 0, sizeof e);
        assert_int_equal(store_merkle(s, p, &leaves, &e.bits, &generation), 0);
        while (store_scan(s, p, &cursor, 1000, add_expected, &e) == 0)
            continue;
        assert_memory_equal(leaves, e.leaves, sizeof *leaves << e.bits);
    }
}

static void leaves_are_a_function_of_what_is_stored(void **state)
{
    struct store *s = kit_open(dir);
    struct rand r;
    uint64_t lsn;

    (void)state;
    rand_seed(&r, 5);
    check_leaves(s);
    for (int round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 800; i++)
            kit_put(s, (unsigned)rand_below(&r, 3000), i);
        kit_flush(s);
        check_leaves(s);
    }
    store_close(s);
    s = kit_open(dir);
    check_leaves(s);
    /* Enough for a split: more than 200 keys for each of 64 leaves in one vnode. */
    for (unsigned n = 0; n < 120000; n++) {
        while (kit_put_full(s, n, 1, 16, 0, &lsn) == -ERR_BUSY)
            kit_flush(s);
        if (n % 1000 == 0)
            kit_wait(s, lsn);
    }
    kit_flush(s);
    const uint64_t *leaves;
    uint32_t bits;
    uint64_t generation;
    assert_int_equal(store_merkle(s, 0, &leaves, &bits, &generation), 0);
    assert_true(bits > MERKLE_LEAF_BITS_MIN);
    check_leaves(s);
    store_close(s);
    s = kit_open(dir);
    check_leaves(s);
    store_close(s);
}

static void expired_values_are_dropped_without_changing_leaves(void **state)
{
    struct store *s = kit_open(dir);
    struct store_stats stats;
    uint64_t soon = clock_wall_ms() + 1, sums[2] = {0, 0}, lsn;

    (void)state;
    for (unsigned n = 0; n < 1500; n++)
        assert_int_equal(kit_put_full(s, n, n, 400, n % 3 == 0 ? soon + n % 5 : 0, &lsn), 0);
    kit_flush(s);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t p = 0; p < 1u << KIT_Q; p++) {
            const uint64_t *leaves;
            uint32_t bits;
            uint64_t generation;

            assert_int_equal(store_merkle(s, p, &leaves, &bits, &generation), 0);
            for (uint32_t i = 0; i < 1u << bits; i++)
                sums[pass] += leaves[i] * (i + 1);
        }
        do {
            usleep(500);
            kit_turn(s);
            store_stats(s, &stats);
        } while (stats.expired_dropped < 500);
    }
    assert_int_equal(stats.expired_dropped, 500);
    assert_true(sums[0] == sums[1]);
    assert_int_equal(kit_get(s, 1), 1);
    assert_int_equal(kit_get(s, 3), -ERR_INTERNAL); /* there, but no live sibling */
    check_leaves(s);
    store_close(s);
}

static void two_keys_of_one_position_live_side_by_side(void **state)
{
    struct store *s = kit_open(dir);
    struct buf object = {0};
    struct position pos = {{0x20, 1, 2, 3}};
    struct slice out;
    uint64_t lsn;

    (void)state;
    for (int round = 0; round < 3; round++) {
        const char *keys[] = {"alpha", "beta", "alphabet"};

        for (int i = 0; i < 3; i++) {
            struct dot dot;

            assert_int_equal(kit_dot(s, 1, &dot), 0);
            assert_int_equal(
                store_put(s, 1, &pos,
                          kit_object(&object, slice_str(keys[i]), dot, slice_str(keys[i]), 0),
                          false, &lsn),
                0);
            if ((i + round) % 2 == 0)
                kit_flush(s);
        }
        for (int i = 0; i < 3; i++) {
            struct slice key;

            assert_int_equal(store_get(s, 1, &pos, slice_str(keys[i]), &out), 0);
            assert_int_equal(object_peek_key(out, &key), 0);
            assert_true(slice_equal(key, slice_str(keys[i])));
        }
        assert_int_equal(store_get(s, 1, &pos, slice_str("gamma"), &out), -ERR_NOTFOUND);
    }
    kit_flush(s);
    check_leaves(s);
    buf_free(&object);
    store_close(s);
}

static void a_dropped_vnode_is_gone_and_can_be_made_anew(void **state)
{
    struct store *s = kit_open(dir);
    uint64_t before = store_vnode_id(s, 1), id;
    char text[KIT_KEY];
    unsigned n = 0;

    (void)state;
    while (kit_partition(kit_key(n, text)) != 1)
        n++;
    kit_wait(s, kit_put(s, n, 5));
    assert_int_equal(store_vnode_drop(s, 1), 0);
    assert_int_equal(store_vnode_id(s, 1), 0);
    assert_int_equal(store_vnode_open(s, 1, false, &id), -ERR_NOTFOUND);
    assert_int_equal(store_vnode_open(s, 1, true, &id), 0);
    assert_true(id != before);
    assert_int_equal(kit_get(s, n), -ERR_NOTFOUND);
    kit_wait(s, kit_put(s, n, 6));
    store_close(s);
    s = kit_open(dir);
    assert_int_equal(kit_get(s, n), 6);
    assert_int_equal(store_vnode_id(s, 1), id);
    store_close(s);
}

static void values_larger_than_a_journal_segment_are_kept_and_segments_let_go(void **state)
{
    struct store_conf conf = kit_conf(dir);
    struct store_stats stats;
    uint64_t lsn;

    (void)state;
    conf.segment_bytes = 64 << 10;
    struct store *s = kit_open_conf(&conf);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned n = 0; n < 8;
             n++) { /* small ones in between, for segments of the usual size */
            assert_int_equal(kit_put_full(s, n, round, n % 2 == 0 ? 100000 : 9000, 0, &lsn), 0);
            kit_wait(s, lsn);
        }
        kit_flush(s);
    }
    for (unsigned n = 8; n < 16; n++)
        kit_wait(s, kit_put(s, n, n));
    store_stats(s, &stats);
    assert_true(stats.journal_segments < 10);
    store_close(s);
    s = kit_open_conf(&conf);
    store_stats(s, &stats);
    assert_int_equal(stats.new_vnode_ids + stats.corrupt_records, 0);
    for (unsigned n = 0; n < 16; n++)
        assert_int_equal(kit_get(s, n), n < 8 ? 9 : n);
    store_close(s);
}

static bool any_left_of_vnode_1(void)
{
    char path[FILE_PATH];
    struct dirent *e;
    bool any = false;

    file_path(path, "%s/vnodes", dir);
    DIR *d = opendir(path);
    while ((e = readdir(d)) != NULL)
        any |= strncmp(e->d_name, "1", 1) == 0;
    closedir(d);
    return any;
}

static void a_vnode_that_is_dropped_at_the_end_leaves_nothing(void **state)
{
    struct store *s = kit_open(dir);
    char text[KIT_KEY], path[FILE_PATH];
    unsigned n = 0;

    (void)state;
    while (kit_partition(kit_key(n, text)) != 1)
        n++;
    kit_wait(s, kit_put(s, n, 5));
    store_flush(s, 1); /* the flush thread has it when it is dropped */
    assert_int_equal(store_vnode_drop(s, 1), 0);
    store_close(s);
    assert_false(any_left_of_vnode_1());

    file_path(path, "%s/vnodes/1-0123456789abcdef.old", dir); /* of a process that was killed */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(file_replace(path, "data.mdb", slice_str("large")), 0);
    struct store_conf conf = kit_conf(dir);
    assert_int_equal(store_open(&s, &conf), 0);
    assert_false(any_left_of_vnode_1());
    store_close(s);
}

static void what_was_dropped_does_not_come_back_with_a_recovery_that_flushes(void **state)
{
    struct store_conf conf = kit_conf(dir);
    struct store *s = kit_open(dir);
    char text[KIT_KEY];
    uint64_t id;

    (void)state;
    for (unsigned n = 0; n < 4000; n++)
        kit_put(s, n, 5);
    assert_int_equal(store_vnode_drop(s, 1), 0);
    assert_int_equal(store_vnode_open(s, 1, true, &id), 0);
    for (unsigned n = 0; n < 4000; n += 10)
        kit_wait(s, kit_put(s, n, 6));
    store_close(s);
    conf.write_buffer_bytes = 128 << 10; /* the replay must flush on its way */
    s = kit_open_conf(&conf);
    for (unsigned n = 0; n < 4000; n++) {
        bool dropped = kit_partition(kit_key(n, text)) == 1;

        assert_int_equal(kit_get(s, n), n % 10 == 0 ? 6 : dropped ? -ERR_NOTFOUND : 5);
    }
    kit_flush(s);
    check_leaves(s);
    store_close(s);
}

static void journals_of_all_workers_are_recovered_for_another_number_of_workers(void **state)
{
    struct store_conf conf = kit_conf(dir);
    struct store *s[2];
    uint64_t id, records;
    char text[KIT_KEY];

    (void)state;
    for (uint32_t w = 0; w < 2; w++) {
        conf.worker = w;
        assert_int_equal(store_open(&s[w], &conf), 0);
        for (uint32_t p = w; p < 1u << KIT_Q; p += 2)
            assert_int_equal(store_vnode_open(s[w], p, true, &id), 0);
    }
    for (unsigned n = 0; n < 500; n++) {
        uint32_t w = kit_partition(kit_key(n, text)) & 1;

        kit_wait(s[w], kit_put(s[w], n, n));
        if (n == 200)
            kit_flush(s[w]);
    }
    store_close(s[0]);
    store_close(s[1]);
    conf.worker = 0;
    assert_int_equal(store_recover_all(&conf, &records), 0);
    assert_true(records >= 500);
    struct store *all = kit_open(dir);
    for (unsigned n = 0; n < 500; n++)
        assert_int_equal(kit_get(all, n), n);
    struct store_stats stats;
    store_stats(all, &stats);
    assert_int_equal(stats.recovered_records, 0);
    assert_int_equal(stats.new_vnode_ids, 0);
    store_close(all);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(agrees_with_a_model_over_flushes_and_restarts),
        TEST(writes_are_flushed_and_journal_segments_let_go_without_being_asked),
        TEST(no_dot_is_issued_twice),
        TEST(a_scan_sees_each_key_once_wherever_it_lies),
        TEST(hints_are_kept_by_target_until_removed),
        TEST(leaves_are_a_function_of_what_is_stored),
        TEST(expired_values_are_dropped_without_changing_leaves),
        TEST(two_keys_of_one_position_live_side_by_side),
        TEST(a_dropped_vnode_is_gone_and_can_be_made_anew),
        TEST(a_vnode_that_is_dropped_at_the_end_leaves_nothing),
        TEST(values_larger_than_a_journal_segment_are_kept_and_segments_let_go),
        TEST(what_was_dropped_does_not_come_back_with_a_recovery_that_flushes),
        TEST(journals_of_all_workers_are_recovered_for_another_number_of_workers),
    };

    return cmocka_run_group_tests_name("the engine keeps what it is given", tests, NULL, NULL);
}
