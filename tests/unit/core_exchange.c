/* Exchanges between two replicas in memory. */
#include "tests/unit/exchange_kit.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct kit *new_kit(uint64_t seed, unsigned q_bits, uint32_t partition, uint32_t rows)
{
    struct kit *kit = calloc(1, sizeof *kit);

    assert_non_null(kit);
    rand_seed(&kit->rand, seed);
    kit_fill(kit, q_bits, partition, rows);
    return kit;
}

static void end(struct kit *kit)
{
    kit_free(kit);
    free(kit);
}

static uint64_t sent(const struct kit *kit)
{
    return kit->side[0].bytes + kit->side[1].bytes;
}

static void equal_replicas_agree_within_64_bytes(void **state)
{
    struct kit *kit = new_kit(1, 7, 3, 5000);

    (void)state;
    kit->side[0].horizon_ms = kit->side[1].horizon_ms = 10;
    kit->side[1].leaf_bits = 9; /* depths need not be the same */
    assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
    assert_int_equal(exchange_outcome(kit->side[1].x), EXCHANGE_AGREEMENT);
    assert_int_equal(kit->side[0].messages + kit->side[1].messages, 2);
    /* Epochs and exchange numbers are small; a horizon is a wall time. */
    assert_true(sent(kit) <= 64);
    end(kit);
}

static void an_agreement_is_as_old_as_the_oldest_buffer_of_the_two(void **state)
{
    (void)state;
    for (int differ = 0; differ < 2; differ++) {
        struct kit *kit = new_kit(1, 7, 3, 100);

        kit->side[0].now_ms = 50000; /* clocks differ: only ages travel */
        kit->side[0].behind_ms = 10;
        kit->side[1].now_ms = 90000;
        kit->side[1].behind_ms = 2000;
        if (differ)
            kit_set(kit, 0, 7, 1);
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_int_equal(exchange_as_of(kit->side[0].x), 48000);
        assert_int_equal(exchange_as_of(kit->side[1].x), 88000);
        end(kit);
    }
}

static void random_differences_are_mended_both_ways(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct kit *kit = new_kit(seed, seed % 5, 0, (uint32_t)(seed * seed % 3001));
        uint32_t rows = kit->side[0].count;
        uint64_t differ = rows == 0 ? 0 : rand_below(&kit->rand, 1 + rows / (1 + seed % 7));

        kit->side[0].leaf_bits = 6 + (unsigned)rand_below(&kit->rand, 8);
        kit->side[1].leaf_bits = 6 + (unsigned)rand_below(&kit->rand, 8);
        for (uint64_t i = 0; i < differ; i++)
            kit_set(kit, (int)rand_below(&kit->rand, 2), (uint32_t)rand_below(&kit->rand, rows),
                    (uint32_t)rand_below(&kit->rand, 4));
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_int_equal(exchange_outcome(kit->side[1].x), EXCHANGE_AGREEMENT);
        assert_true(kit_equal(kit));
        assert_false(kit->bad);
        /* And then there is nothing left to do. */
        uint64_t messages = kit->side[0].messages + kit->side[1].messages;

        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_int_equal(kit->side[0].messages + kit->side[1].messages, messages + 2);
        end(kit);
    }
}

static void an_empty_replica_is_filled_without_lists(void **state)
{
    (void)state;
    for (int empty = 0; empty < 2; empty++) {
        struct kit *kit = new_kit(1, 2, 1, 20000);
        struct exchange_stats had, lacked;

        for (uint32_t r = 0; r < kit->side[empty].count; r++)
            kit_set(kit, empty, r, 0);
        kit->side[0].leaf_bits = 8;
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_true(kit_equal(kit));
        assert_int_equal(kit->side[empty].merged, 20000);
        /* Both ends count the same, whichever of them leads. */
        exchange_stats(kit->side[1 - empty].x, &had);
        exchange_stats(kit->side[empty].x, &lacked);
        assert_int_equal(had.pushed, 20000);
        assert_int_equal(lacked.pulled, 20000);
        assert_int_equal(had.pulled, lacked.pushed);
        assert_true(kit->side[0].listed + kit->side[1].listed <= 64);
        end(kit);
    }
}

static void writes_in_flight_are_no_differences(void **state)
{
    struct kit *kit = new_kit(1, 2, 1, 4000);

    (void)state;
    for (uint32_t r = 0; r < 4000; r += 10) {
        struct kit_side *a = &kit->side[r / 10 % 2], *b = a->other;

        /* One has written it back, the other still has it in its buffer. */
        a->rows[r].version = a->rows[r].flushed = 2;
        b->rows[r].version = 2;
        if (r % 40 == 0)
            b->rows[r].flushed = 0;
    }
    assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
    assert_int_equal(kit->side[0].merged + kit->side[1].merged, 0);
    struct exchange_stats stats;

    exchange_stats(kit->side[0].x, &stats);
    assert_int_equal(stats.pushed + stats.pulled, 0);
    end(kit);
}

static void what_is_older_than_the_horizon_of_who_lacks_it_is_dropped(void **state)
{
    (void)state;
    /* A few (listed) and many (a range that is streamed). */
    for (uint32_t dead = 1; dead <= 3000; dead += 2999) {
        for (int lacks = 0; lacks < 2; lacks++) {
            struct kit *kit = new_kit(1, 2, 1, 4000);
            struct kit_side *without = &kit->side[lacks], *with = without->other;

            for (uint32_t r = 0; r < dead; r++) {
                kit_set(kit, lacks, r, 0);
                with->rows[r].tombstone = r % 2 == 0;
                with->rows[r].time_ms = 500;
            }
            /* These are news. */
            kit_set(kit, lacks, 3500, 0);
            without->horizon_ms = 600;
            with->horizon_ms = 400;
            assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
            assert_true(kit_equal(kit));
            assert_int_equal(with->dropped, dead);
            assert_int_equal(without->merged, 1);
            end(kit);
        }
    }
}

static void nothing_is_dead_to_a_replica_that_is_not_whole(void **state)
{
    struct kit *kit = new_kit(1, 2, 1, 100);

    (void)state;
    kit_set(kit, 0, 5, 0);
    kit->side[0].flags = 0;
    kit->side[0].horizon_ms = 0;
    kit->side[1].horizon_ms = 5000;
    assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
    assert_int_equal(kit->side[0].merged, 1);
    end(kit);
}

static void a_surplus_vnode_only_gives(void **state)
{
    (void)state;
    for (int surplus = 0; surplus < 2; surplus++) {
        struct kit *kit = new_kit(1, 2, 1, 6000);
        struct kit_side *s = &kit->side[surplus];

        for (uint32_t r = 0; r < 6000; r++)
            if (r % 100 >= 3)
                kit_set(kit, surplus, r, 0);
            else if (r % 100 == 1)
                kit_set(kit, surplus, r, 2);
            else if (r % 100 == 2)
                kit_set(kit, 1 - surplus, r, r % 200 == 2 ? 0 : 2);
        s->flags = EXCHANGE_SURPLUS;
        /* It has agreed: all that it has is there. The other one has not: it was not given to. */
        assert_int_equal(kit_run(kit), surplus == 0 ? EXCHANGE_AGREEMENT : EXCHANGE_PARTIAL);
        assert_int_equal(exchange_outcome(kit->side[1].x),
                         surplus == 0 ? EXCHANGE_PARTIAL : EXCHANGE_AGREEMENT);
        assert_int_equal(s->merged, 0); /* not even what it has in an older version */
        for (uint32_t r = 0; r < 6000; r++)
            assert_true(s->other->rows[r].version >= s->rows[r].version);
        assert_int_equal(s->other->merged, 60 + 30);
        end(kit);
    }
}

static void what_cannot_be_stored_is_no_agreement(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        struct kit *kit = new_kit(1, 2, 1, 1000);

        kit_set(kit, full, 7, 0);
        kit_set(kit, full, 8, 0);
        kit->side[full].full_at = kit->side[full].rows[7].key;
        assert_int_equal(kit_run(kit), EXCHANGE_PARTIAL);
        assert_int_equal(exchange_outcome(kit->side[1].x), EXCHANGE_PARTIAL);
        assert_int_equal(kit->side[full].merged, 1);
        kit->side[full].full_at = UINT32_MAX;
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        end(kit);
    }
}

static void who_forgets_meanwhile_has_not_agreed(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        struct kit *kit = new_kit(1, 2, 1, 1000);
        struct exchange_side mine;

        kit_set(kit, 0, 7, 2);
        kit_start(kit);
        mine = kit_view(&kit->side[0]);
        exchange_begin(kit->side[0].x, 1, &mine);
        for (int i = 0; i < 3; i++)
            kit_step(kit);
        kit->side[who].vnode = 99;
        while (kit_step(kit))
            ;
        for (int i = 0; i < 2; i++)
            assert_int_equal(exchange_outcome(kit->side[i].x), EXCHANGE_FAILED);
        assert_int_equal(exchange_error(kit->side[who].x), -ERR_STALE);
        end(kit);
    }
}

static void a_cut_exchange_goes_on_where_it_was(void **state)
{
    (void)state;
    for (uint64_t cut = 1; cut <= 60; cut++) {
        struct kit *kit = new_kit(1, 2, 1, 9000);
        int runs = 0;

        for (uint32_t r = 0; r < 9000; r++)
            kit_set(kit, (int)(cut % 2), r, r % 50 == 0 ? 2 : 0);
        kit->stop_at = cut;
        while (kit_run(kit) != EXCHANGE_AGREEMENT && runs++ < 20)
            kit->stop_at = runs < 10 ? cut + (uint64_t)runs * 10 : 0;
        assert_true(kit_equal(kit));
        /* Nothing is moved twice, but for what was under way. */
        assert_true(kit->side[0].merged + kit->side[1].merged == 9000);
        end(kit);
    }
}

/* 1,000 of a million keys differ, over 128 partitions. */
static void a_thousand_differences_in_a_million_are_cheap(void **state)
{
    static struct position pos[1000000];
    static uint32_t partition_rows[128];
    uint64_t bytes = 0, objects = 0;
    struct rand rand;

    (void)state;
    rand_seed(&rand, 1);
    for (uint32_t key = 0; key < 1000000; key++) {
        pos[key] = position_of(kit_key(key));
        partition_rows[position_partition(&pos[key], 7)]++;
    }
    for (uint32_t p = 0; p < 128; p++) {
        struct kit *kit = calloc(1, sizeof *kit);
        uint32_t got = 0;

        assert_non_null(kit);
        kit_fill(kit, 7, p, 0);
        for (int i = 0; i < 2; i++) {
            free(kit->side[i].rows);
            kit->side[i].rows = calloc(partition_rows[p] + 1, sizeof(struct kit_row));
            kit->side[i].count = partition_rows[p];
            kit->side[i].leaf_bits = 6;
        }
        for (uint32_t key = 0; key < 1000000; key++)
            if (position_partition(&pos[key], 7) == p)
                kit->side[0].rows[got++] = (struct kit_row){pos[key], key, 1, 1, false, 1000};
        qsort(kit->side[0].rows, got, sizeof(struct kit_row), kit_order);
        memcpy(kit->side[1].rows, kit->side[0].rows, got * sizeof(struct kit_row));
        for (uint32_t i = p * 1000 / 128; i < (p + 1) * 1000 / 128; i++) {
            struct buf out = {0};
            uint32_t r = (uint32_t)rand_below(&rand, got);

            kit_set(kit, (int)(i % 2), r, 2 + i);
            kit_object(&kit->side[i % 2].rows[r], &out);
            objects += buf_len(&out);
            buf_free(&out);
        }
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_true(kit_equal(kit));
        bytes += sent(kit);
        end(kit);
    }
    print_message("%llu bytes for objects of %llu\n", (unsigned long long)bytes,
                  (unsigned long long)objects);
    assert_true(bytes <= 3 * objects + 200 * 1024);
}

/* --- bad input --- */

/* A responder that waits for a request; row 3 differs. */
static struct kit *serving(void)
{
    struct kit *kit = new_kit(1, 2, 1, 1000);
    struct exchange_side mine;

    kit_set(kit, 0, 3, 2);
    kit_start(kit);
    mine = kit_view(&kit->side[0]);
    exchange_begin(kit->side[0].x, 1, &mine);
    kit_step(kit);
    assert_int_equal(exchange_outcome(kit->side[1].x), EXCHANGE_RUNNING);
    return kit;
}

static void expect_refused(const struct repair *m, const char *what)
{
    struct kit *kit = serving();
    int rc = exchange_receive(kit->side[1].x, m);

    if (rc != -ERR_FORMAT)
        fail_msg("%s was answered with %d", what, rc);
    assert_int_equal(exchange_outcome(kit->side[1].x), EXCHANGE_FAILED);
    /* And whatever comes after it changes nothing. */
    assert_int_equal(exchange_receive(kit->side[1].x, m), 0);
    kit_cut(kit);
    end(kit);
}

static struct slice entries_of(const struct kit *kit, uint32_t first, uint32_t count,
                               bool backwards)
{
    static uint8_t bytes[1024 * REPAIR_ENTRY_BYTES];

    for (uint32_t i = 0; i < count; i++) {
        const struct kit_row *row =
            &kit->side[0].rows[backwards ? first + count - 1 - i : first + i];
        struct exchange_entry e = {.pos = row->pos, .digest = 77, .time_ms = 1};

        exchange_entry_encode(&e, bytes + i * REPAIR_ENTRY_BYTES);
    }
    return slice_of(bytes, count * REPAIR_ENTRY_BYTES);
}

static void bad_requests_are_refused(void **state)
{
    static uint8_t nodes[70 * 100];
    static uint8_t positions[64];
    struct kit *kit = serving();
    struct slice none = slice_of(NULL, 0), root = slice_of(nodes, 4);
    struct buf object = {0};

    (void)state;
#define REFUSED(name, ...)                                                                         \
    expect_refused(                                                                                \
        &(struct repair){.kind = REPAIR_##name, .u.name = {.exchange = 1, __VA_ARGS__}},           \
        #name " " #__VA_ARGS__)
    REFUSED(OPENED, .status = 0);
    REFUSED(COMPARED, .differ = none);
    REFUSED(PUSHED, .took = none);
    REFUSED(COMPARE, .bits = 0, .nodes = none);
    REFUSED(COMPARE, .bits = 0, .nodes = slice_of(nodes, 99));
    REFUSED(COMPARE, .bits = 3, .nodes = slice_of(nodes, 100));
    REFUSED(COMPARE, .bits = EXCHANGE_BITS, .nodes = slice_of(nodes, 100));
    REFUSED(COMPARE, .bits = 200, .nodes = slice_of(nodes, 100));
    REFUSED(COMPARE, .bits = 4, .nodes = slice_of(nodes, 200)); /* the same node twice */
    REFUSED(COMPARE, .bits = 4, .nodes = slice_of(nodes, sizeof nodes));
    REFUSED(LIST, .bits = 0, .nodes = none);
    REFUSED(LIST, .bits = 2, .nodes = root);
    REFUSED(LIST, .bits = 32, .nodes = root);
    REFUSED(LIST, .bits = 0, .nodes = root, .entries = slice_of(nodes, 5));
    REFUSED(LIST, .bits = 0, .nodes = root, .entries = entries_of(kit, 0, 4, true));
    REFUSED(LIST, .bits = 0, .nodes = root, .entries = entries_of(kit, 0, 9, false));
    REFUSED(LIST, .bits = 0, .nodes = root, .entries = entries_of(kit, 0, 1000, false));
    /* Rows of the partition, but of another node. */
    nodes[0] = 15;
    REFUSED(LIST, .bits = 4, .nodes = root, .entries = entries_of(kit, 0, 2, false));
    nodes[0] = 0;
    REFUSED(LIST, .bits = 4, .nodes = root, .entries = entries_of(kit, 999, 1, false));
    nodes[1] = 1; /* index 256 of 16 */
    REFUSED(LIST, .bits = 4, .nodes = root);
    nodes[1] = 0;
    /* A position of another partition. */
    REFUSED(LIST, .bits = 0, .nodes = root, .entries = slice_of(nodes + 100, REPAIR_ENTRY_BYTES));
    REFUSED(PULL, .max_bytes = 1);
    REFUSED(PULL, .positions = slice_of(positions, 15));
    REFUSED(PULL, .positions = slice_of(positions, 16)); /* of partition 0 */
    REFUSED(PULL, .first = slice_of(positions, 16), .last = slice_of(positions, 16));
    positions[0] = 0x40;
    positions[16] = 0x7f;
    positions[32] = 0x40;
    REFUSED(PULL, .positions = slice_of(positions, 48));
    REFUSED(PULL, .first = slice_of(positions + 16, 16), .last = slice_of(positions, 16));
    REFUSED(PULL, .first = slice_of(positions, 16));
    REFUSED(PULL, .first = slice_of(positions, 16), .last = slice_of(positions + 16, 15));
    REFUSED(PULL, .first = slice_of(positions, 16), .last = slice_of(positions + 16, 16),
            .positions = slice_of(positions, 16));
    REFUSED(PUSH, .objects = none);
    REFUSED(PUSH, .objects = slice_of(nodes, 100));
    kit_object(&kit->side[0].rows[3], &object);
    REFUSED(PUSH, .objects = slice_of(object.data, buf_len(&object) - 1));
    REFUSED(PUSH, .flags = 128, .objects = slice_of(object.data, buf_len(&object)));
    buf_clear(&object);
    for (uint32_t key = 0; buf_len(&object) == 0; key++) {
        struct kit_row row = {.key = key, .version = 1};

        row.pos = position_of(kit_key(key));
        if (position_partition(&row.pos, 2) != 1)
            kit_object(&row, &object);
    }
    REFUSED(PUSH, .objects = slice_of(object.data, buf_len(&object)));
    REFUSED(DEAD, .drops = none);
    REFUSED(DEAD, .drops = slice_of(positions, 25));
    REFUSED(DEAD, .drops = slice_of(nodes, 24));
#undef REFUSED
    buf_free(&object);
    kit_cut(kit);
    end(kit);
}

static void a_second_request_before_the_answer_is_refused(void **state)
{
    struct kit *kit = serving();
    uint8_t root[4] = {0};
    struct repair list = {.kind = REPAIR_LIST,
                          .u.LIST = {.exchange = 1,
                                     .nodes = slice_of(root, 4),
                                     .entries = entries_of(kit, 0, 1, false)}};

    (void)state;
    /* 1000 rows are too many for a list, so that it is answered at once: but a DEAD takes the worker. */
    uint8_t drop[REPAIR_DROP_BYTES] = {0};
    struct repair dead = {.kind = REPAIR_DEAD,
                          .u.DEAD = {.exchange = 1, .drops = slice_of(drop, sizeof drop)}};

    memcpy(drop, kit->side[0].rows[0].pos.b, POSITION_BYTES);
    assert_int_equal(exchange_receive(kit->side[1].x, &dead), 0);
    assert_true(exchange_waits_for_worker(kit->side[1].x));
    assert_int_equal(exchange_receive(kit->side[1].x, &list), -ERR_FORMAT);
    kit_cut(kit);
    end(kit);
}

/* --- messages that were changed on their way --- */

static void spoil(struct kit *kit, struct repair *m)
{
    struct slice *slices[32];
    uint64_t *numbers[32];
    uint32_t *shorts[32];
    uint32_t slice_count = 0, number_count = 0, short_count = 0;

    if (rand_below(&kit->rand, 10) != 0)
        return;
    switch (m->kind) {
#define MESSAGE(name, number, text)                                                                \
    case REPAIR_##name: {                                                                          \
        struct repair_##name *x = &m->u.name;
#define U64(field)   numbers[number_count++] = &x->field;
#define U32(field)   shorts[short_count++] = &x->field;
#define U8(field)    (void)x->field;
#define BYTES(field) slices[slice_count++] = &x->field;
#define END(name)                                                                                  \
    break;                                                                                         \
    }
#include "core/repair.def"
    }
    struct slice *s = slice_count > 0 ? slices[rand_below(&kit->rand, slice_count)] : NULL;

    switch (rand_below(&kit->rand, 4)) {
    case 0:
        if (s != NULL && s->len > 0)
            ((uint8_t *)s->data)[rand_below(&kit->rand, s->len)] ^=
                (uint8_t)(1u << rand_below(&kit->rand, 8));
        break;
    case 1:
        if (s != NULL)
            s->len = rand_below(&kit->rand, s->len + 1);
        break;
    case 2:
        if (short_count > 1)
            *shorts[1 + rand_below(&kit->rand, short_count - 1)] ^= 1u
                                                                    << rand_below(&kit->rand, 32);
        break;
    default:
        if (number_count > 0)
            *numbers[rand_below(&kit->rand, number_count)] ^= 1ull << rand_below(&kit->rand, 64);
    }
}

/* The kit's worker believes objects, as the real one does not: they are left whole. */
static void spoil_but_objects(struct kit *kit, struct repair *m)
{
    if (m->kind != REPAIR_PUSH && m->kind != REPAIR_PUSHED && m->kind != REPAIR_PULLED)
        spoil(kit, m);
}

static void spoilt_messages_do_no_harm(void **state)
{
    uint32_t bad = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct kit *kit = new_kit(seed, 1, 1, 700);

        for (uint32_t i = 0; i < 60; i++)
            kit_set(kit, (int)(i % 2), (uint32_t)rand_below(&kit->rand, 700),
                    (uint32_t)rand_below(&kit->rand, 3));
        kit->spoil = spoil_but_objects;
        kit_run(kit);
        bad += kit->bad;
        /* Whatever happened: an exchange without faults mends it. */
        kit->spoil = NULL;
        assert_int_equal(kit_run(kit), EXCHANGE_AGREEMENT);
        assert_true(kit_equal(kit));
        end(kit);
    }
    assert_true(bad > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_replicas_agree_within_64_bytes),
        cmocka_unit_test(an_agreement_is_as_old_as_the_oldest_buffer_of_the_two),
        cmocka_unit_test(random_differences_are_mended_both_ways),
        cmocka_unit_test(an_empty_replica_is_filled_without_lists),
        cmocka_unit_test(writes_in_flight_are_no_differences),
        cmocka_unit_test(what_is_older_than_the_horizon_of_who_lacks_it_is_dropped),
        cmocka_unit_test(nothing_is_dead_to_a_replica_that_is_not_whole),
        cmocka_unit_test(a_surplus_vnode_only_gives),
        cmocka_unit_test(what_cannot_be_stored_is_no_agreement),
        cmocka_unit_test(who_forgets_meanwhile_has_not_agreed),
        cmocka_unit_test(a_cut_exchange_goes_on_where_it_was),
        cmocka_unit_test(a_thousand_differences_in_a_million_are_cheap),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(a_second_request_before_the_answer_is_refused),
        cmocka_unit_test(spoilt_messages_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
