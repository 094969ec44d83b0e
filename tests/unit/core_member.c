/* Membership: founding, detection, refutation, replacement, over many simulated nodes. */
#include "base/err.h"
#include "tests/unit/member_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool all_have_ring(struct kit *k, void *arg)
{
    unsigned count = *(unsigned *)arg;

    for (unsigned i = 0; i < count; i++)
        if (k->node[i].up && k->node[i].m.ring.epoch == 0)
            return false;
    return true;
}

static void assert_same_ring(struct kit *k, unsigned count)
{
    const struct member_ring *a = NULL;

    for (unsigned i = 0; i < count; i++) {
        const struct member_ring *b = &k->node[i].m.ring;

        if (!k->node[i].up)
            continue;
        if (a == NULL)
            a = b;
        assert_int_equal(a->epoch, b->epoch);
        assert_memory_equal(&a->proposer, &b->proposer, sizeof a->proposer);
        assert_int_equal(a->count, b->count);
        assert_memory_equal(a->id, b->id, a->count * sizeof a->id[0]);
        assert_memory_equal(a->owner, b->owner, sizeof a->owner);
    }
}

static bool everyone_says(struct kit *k, unsigned about, int state)
{
    for (unsigned i = 0; i < k->count; i++)
        if (i != about && k->node[i].up && !k->node[i].paused && kit_state(k, i, about) != state)
            return false;
    return true;
}

static bool faulty_everywhere(struct kit *k, void *arg)
{
    return everyone_says(k, *(unsigned *)arg, MEMBER_FAULTY);
}

static bool alive_everywhere(struct kit *k, void *arg)
{
    return everyone_says(k, *(unsigned *)arg, MEMBER_ALIVE);
}

static bool all_alive(struct kit *k, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < k->count; i++)
        if (k->node[i].up && !everyone_says(k, i, MEMBER_ALIVE))
            return false;
    return true;
}

static bool all_alive_or_dead(struct kit *k, void *arg)
{
    return all_alive(k, NULL) && faulty_everywhere(k, arg);
}

static void found(struct kit *k, unsigned count, uint64_t seed)
{
    kit_init(k, count, seed);
    kit_start_all(k, count);
    assert_true(kit_run(k, 10 * SECOND, all_have_ring, &count));
    kit_run(k, 3 * SECOND, NULL, NULL);
}

static void test_founding(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= 9; count += 2) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct kit k;
            static struct ring_view view;

            kit_init(&k, count, seed);
            k.loss = 100000;
            kit_start_all(&k, count);
            assert_true(kit_run(&k, 30 * SECOND, all_have_ring, &count));
            kit_run(&k, SECOND, NULL, NULL);
            assert_same_ring(&k, count);
            assert_int_equal(k.node[0].m.ring.epoch, 1);
            for (unsigned i = 0; i < count; i++) {
                assert_true(node_id_equal(&k.node[0].m.ring.id[i], &k.node[i].self.id));
                member_view(&k.node[i].m, &view);
                assert_true(ring_view_valid(&view));
                assert_int_equal(view.self, i);
            }
            kit_free(&k);
        }
    }
}

static void test_founding_waits(void **state)
{
    unsigned count = 3;
    struct kit k;

    (void)state;
    kit_init(&k, 3, 1);
    kit_start_all(&k, 2);
    kit_run(&k, 60 * SECOND, NULL, NULL);
    assert_int_equal(k.node[0].m.ring.epoch, 0);
    kit_start(&k, 2);
    assert_true(kit_run(&k, 5 * SECOND, all_have_ring, &count));
    assert_same_ring(&k, 3);
    kit_free(&k);
}

static void test_single(void **state)
{
    struct kit k;

    (void)state;
    kit_init(&k, 0, 1);
    kit_start(&k, 0);
    kit_run(&k, SECOND, NULL, NULL);
    assert_int_equal(k.node[0].m.ring.epoch, 1);
    kit_free(&k);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Times from a crash until every other node says faulty, over many runs. */
static void measure_detection(unsigned count, uint64_t *half, uint64_t *worst)
{
    enum { RUNS = 100 };
    uint64_t took[RUNS];

    for (unsigned run = 0; run < RUNS; run++) {
        struct kit k;
        unsigned dead = run % count;

        found(&k, count, run + 1);
        kit_run(&k, rand_below(&k.rand, SECOND), NULL, NULL);
        k.node[dead].up = false;
        uint64_t from = k.now_us;
        assert_true(kit_run(&k, 60 * SECOND, faulty_everywhere, &dead));
        took[run] = k.now_us - from;
        kit_free(&k);
    }
    qsort(took, RUNS, sizeof took[0], by_size);
    *half = took[RUNS / 2];
    *worst = took[RUNS - 2];
}

static void test_detection(void **state)
{
    (void)state;
    for (unsigned count = 2; count <= 12; count += count < 6 ? 1 : 3) {
        uint64_t half, worst;

        measure_detection(count, &half, &worst);
        print_message("%u nodes: a killed node is faulty everywhere after p50 %.1f s, p99 %.1f s\n",
                      count, (double)half / 1e6, (double)worst / 1e6);
        assert_true(half <= 4 * SECOND);
        assert_true(worst <= (count <= 5 ? 5 : 8) * SECOND);
    }
}

static void test_hint_speeds_up(void **state)
{
    unsigned dead = 2;
    struct kit k;

    (void)state;
    found(&k, 3, 5);
    k.node[dead].up = false;
    uint64_t from = k.now_us;
    for (unsigned i = 0; i < 2; i++) {
        member_hint_down(&k.node[i].m, &k.node[dead].self.id, k.now_us);
        kit_step_at(&k, i, k.now_us);
    }
    assert_true(kit_run(&k, 60 * SECOND, faulty_everywhere, &dead));
    assert_true(k.now_us - from <= 3 * SECOND);
    kit_free(&k);
}

static uint64_t false_verdicts(struct kit *k)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < k->count; i++)
        n += k->node[i].m.counts[MEMBER_COUNT_faulty];
    return n;
}

static void test_loss(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 10, 3);
    k.loss = 100000;
    kit_run(&k, 3600 * SECOND, NULL, NULL);
    assert_int_equal(false_verdicts(&k), 0);
    assert_true(all_alive(&k, NULL));
    kit_free(&k);
}

static void test_short_pauses(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 5, 4);
    k.loss = 100000;
    for (int i = 0; i < 600; i++) {
        unsigned who = (unsigned)rand_below(&k.rand, 5);

        kit_pause(&k, who);
        kit_run(&k, 3 * SECOND / 2, NULL, NULL);
        kit_wake(&k, who);
        kit_run(&k, 3 * SECOND + rand_below(&k.rand, 4 * SECOND), NULL, NULL);
    }
    assert_int_equal(false_verdicts(&k), 0);
    kit_free(&k);
}

/* A member that is frozen again as soon as it has read what was waiting for it. */
static void test_frozen_twice(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 5, 17);
    k.loss = 100000;
    for (int i = 0; i < 1500; i++) {
        unsigned who = (unsigned)rand_below(&k.rand, 5);

        for (int times = 0; times < 2; times++) {
            kit_pause(&k, who);
            kit_run(&k, 3 * SECOND / 2, NULL, NULL);
            kit_wake(&k, who);
            kit_run(&k, 1000, NULL, NULL);
        }
        kit_run(&k, 3 * SECOND + rand_below(&k.rand, 4 * SECOND), NULL, NULL);
    }
    assert_int_equal(false_verdicts(&k), 0);
    kit_free(&k);
}

/* Whose datagrams do not get through is there all the same. */
static void test_streams_alone(void **state)
{
    unsigned dead = 1;
    struct kit k;

    (void)state;
    for (unsigned count = 2; count <= 5; count++) {
        found(&k, count, 18);
        k.loss = 1000000;
        k.streams_lose_nothing = true;
        kit_run(&k, 600 * SECOND, NULL, NULL);
        assert_int_equal(false_verdicts(&k), 0);
        k.node[dead].up = false;
        assert_true(kit_run(&k, 120 * SECOND, faulty_everywhere, &dead));
        kit_free(&k);
    }
}

static void test_long_pause(void **state)
{
    unsigned who = 1;
    struct kit k;

    (void)state;
    found(&k, 5, 6);
    kit_pause(&k, who);
    assert_true(kit_run(&k, 30 * SECOND, faulty_everywhere, &who));
    kit_run(&k, 60 * SECOND, NULL, NULL);
    kit_wake(&k, who);
    assert_true(kit_run(&k, 5 * SECOND, alive_everywhere, &who));
    kit_run(&k, 30 * SECOND, NULL, NULL);
    assert_true(all_alive(&k, NULL));
    assert_int_equal(k.node[who].m.counts[MEMBER_COUNT_faulty], 0);
    kit_free(&k);
}

/* On a machine that is always late every member sees a pause of its own at every turn. */
static void test_always_late(void **state)
{
    unsigned dead = 2;
    struct kit k;

    (void)state;
    found(&k, 4, 16);
    k.node[dead].up = false;
    bool done = false;
    for (int i = 0; i < 120 && !done; i++) {
        for (unsigned n = 0; n < 4; n++)
            (i % 2 == 0 ? kit_pause : kit_wake)(&k, n);
        kit_run(&k, i % 2 == 0 ? 400000 : 100000, NULL, NULL);
        done = faulty_everywhere(&k, &dead);
    }
    assert_true(done);
    for (unsigned n = 0; n < 4; n++)
        kit_wake(&k, n);
    assert_true(kit_run(&k, 20 * SECOND, all_alive_or_dead, &dead));
    kit_free(&k);
}

static void test_partition(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 5, 7);
    k.node[3].side = k.node[4].side = 1;
    kit_run(&k, 30 * SECOND, NULL, NULL);
    for (unsigned a = 0; a < 5; a++)
        for (unsigned b = 0; b < 5; b++)
            if (a != b)
                assert_int_equal(kit_state(&k, a, b),
                                 k.node[a].side == k.node[b].side ? MEMBER_ALIVE : MEMBER_FAULTY);
    k.node[3].side = k.node[4].side = 0;
    assert_true(kit_run(&k, 15 * SECOND, all_alive, NULL));
    assert_same_ring(&k, 5);
    assert_int_equal(k.node[0].m.ring.epoch, 1);
    kit_free(&k);
}

static bool ring_of_all_names(struct kit *k, void *arg)
{
    unsigned count = *(unsigned *)arg;

    for (unsigned a = 0; a < count; a++)
        for (unsigned b = 0; b < count; b++)
            if (!node_id_equal(&k->node[a].m.ring.id[b], &k->node[b].self.id))
                return false;
    return true;
}

static void wipe(struct kit *k, unsigned i)
{
    kit_new_id(k, i);
    kit_boot(k, i);
}

static void test_wiped(void **state)
{
    unsigned count = 3;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct kit k;

        found(&k, 3, seed);
        k.node[1].up = false;
        kit_run(&k, rand_below(&k.rand, 20 * SECOND), NULL, NULL);
        wipe(&k, 1);
        assert_true(kit_run(&k, 10 * SECOND, ring_of_all_names, &count));
        assert_true(kit_run(&k, 10 * SECOND, all_alive, NULL));
        assert_same_ring(&k, 3);
        assert_int_equal(k.node[0].m.ring.epoch, 2);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(k.node[i].m.count, 3);
        kit_free(&k);
    }
}

static void test_wiped_on_both_sides(void **state)
{
    unsigned count = 4;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct kit k;

        found(&k, 4, seed);
        k.node[2].side = k.node[3].side = 1;
        kit_run(&k, 5 * SECOND, NULL, NULL);
        wipe(&k, 1);
        wipe(&k, 3);
        kit_run(&k, 20 * SECOND, NULL, NULL);
        k.node[2].side = k.node[3].side = 0;
        assert_true(kit_run(&k, 40 * SECOND, ring_of_all_names, &count));
        kit_run(&k, 10 * SECOND, NULL, NULL);
        assert_same_ring(&k, 4);
        assert_true(all_alive(&k, NULL));
        kit_free(&k);
    }
}

static void test_restart(void **state)
{
    struct kit k;
    unsigned who = 1;

    (void)state;
    found(&k, 3, 8);
    uint64_t epoch = k.node[0].m.ring.epoch;
    for (int round = 0; round < 5; round++) {
        k.node[who].up = false;
        kit_run(&k, rand_below(&k.rand, 15 * SECOND), NULL, NULL);
        kit_boot(&k, who);
        assert_true(kit_run(&k, 10 * SECOND, all_alive, NULL));
        kit_run(&k, SECOND, NULL, NULL);
    }
    assert_same_ring(&k, 3);
    assert_int_equal(k.node[0].m.ring.epoch, epoch);
    kit_free(&k);
}

static void test_saved(void **state)
{
    static const struct node_id nobody;
    static const struct member_endpoint nowhere = {.address = "saved"};
    struct buf saved = {0};
    struct kit k;
    struct gossip g;

    (void)state;
    found(&k, 3, 9);
    member_tell_all(&k.node[1].m, kit_append, &saved);
    for (unsigned i = 0; i < 3; i++)
        k.node[i].up = false;
    kit_run(&k, 5 * SECOND, NULL, NULL);
    kit_boot(&k, 1);
    struct slice in = slice_of(buf_head(&saved), buf_len(&saved));
    while (in.len > 0 && msg_codec_next_gossip(k.codec, &in, &g) == 0)
        assert_int_equal(member_receive(&k.node[1].m, &nobody, &nowhere, &g, k.now_us), 0);
    assert_int_equal(k.node[1].m.ring.epoch, 1);
    assert_int_equal(k.node[1].m.count, 3);
    kit_run(&k, 30 * SECOND, NULL, NULL);
    assert_int_equal(kit_state(&k, 1, 0), MEMBER_FAULTY);
    kit_boot(&k, 0); /* the ring comes back to those who have lost theirs */
    assert_true(kit_run(&k, 10 * SECOND, all_have_ring, (unsigned[]){2}));
    assert_same_ring(&k, 2);
    buf_free(&saved);
    kit_free(&k);
}

static void test_name_clash(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 3, 10);
    kit_start(&k, 3);
    snprintf(k.node[3].self.name, LIMIT_NAME, "node-1");
    kit_boot(&k, 3);
    kit_run(&k, 20 * SECOND, NULL, NULL);
    assert_true(k.node[3].refused);
    for (unsigned i = 0; i < 3; i++) /* not even by the newcomer */
        assert_true(k.node[i].m.refused_us == 0);
    assert_int_equal(kit_state(&k, 0, 3), MEMBER_LEFT + 1);
    assert_int_equal(kit_state(&k, 0, 1), MEMBER_ALIVE);
    kit_free(&k);
}

/* Members that have heard of the newcomer first, before the ring was founded or after their restart,
 * must not turn against the old one. */
static void test_name_clash_heard_first(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct kit k;

        found(&k, 3, seed);
        kit_start(&k, 3);
        snprintf(k.node[3].self.name, LIMIT_NAME, "node-1");
        kit_boot(&k, 3);
        kit_run(&k, rand_below(&k.rand, SECOND), NULL, NULL);
        k.node[1].side = 1; /* out of sight */
        kit_boot(&k, 2);    /* and forgotten */
        kit_run(&k, 3 * SECOND, NULL, NULL);
        k.node[1].side = 0;
        kit_run(&k, 25 * SECOND, NULL, NULL);
        assert_true(k.node[3].refused);
        for (unsigned i = 0; i < 3; i++) {
            assert_false(k.node[i].refused);
            for (unsigned j = 0; j < 3; j++)
                if (i != j)
                    assert_int_equal(kit_state(&k, i, j), MEMBER_ALIVE);
        }
        assert_same_ring(&k, 3);
        kit_free(&k);
    }
}

/* Somebody has started a node without seeds, so that it has founded a ring of its own, and then points the
 * others at it. Whichever ring is the greater one, nobody may give up its own. */
static void test_founded_apart(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct kit k;

        found(&k, 3, seed);
        k.conf.seed_count = 0;
        kit_start(&k, 3);
        kit_run(&k, SECOND, NULL, NULL);
        assert_int_equal(k.node[3].m.ring.count, 1);
        if (seed % 3 == 0)
            k.node[3].m.ring.epoch = 50;
        kit_sync(&k.node[0], "10.0.0.3", 1003);
        kit_run(&k, 20 * SECOND, NULL, NULL);
        assert_int_equal(k.node[3].m.ring.count, 1);
        assert_same_ring(&k, 3);
        uint64_t ignored = 0;

        for (unsigned i = 0; i < 4; i++) {
            assert_false(k.node[i].refused);
            assert_int_equal(k.node[i].m.ring.count, i < 3 ? 3 : 1);
            ignored += k.node[i].m.counts[MEMBER_COUNT_foreign];
        }
        assert_true(ignored > 0);
        assert_false(
            member_ring_known(&k.node[0].m, member_find(&k.node[0].m, &k.node[3].self.id)));
        assert_true(member_ring_known(&k.node[0].m, member_find(&k.node[0].m, &k.node[1].self.id)));
        kit_free(&k);
    }
}

/* Nodes come and go for years, each with an id of its own. */
static void test_more_than_rows(void **state)
{
    struct kit k;

    (void)state;
    kit_init(&k, 3, 21);
    k.rows = 6;
    kit_start_all(&k, 3);
    assert_true(kit_run(&k, 60 * SECOND, all_have_ring, (unsigned[]){3}));
    for (unsigned i = 3; i < 20; i++) {
        kit_start(&k, i);
        kit_run(&k, 10 * SECOND, NULL, NULL);
        for (unsigned j = 0; j < 3; j++) {
            assert_int_equal(kit_state(&k, j, i), MEMBER_ALIVE);
            assert_int_equal(kit_state(&k, i, j), MEMBER_ALIVE);
        }
        k.node[i].up = false;
        kit_run(&k, 20 * SECOND, NULL, NULL);
        for (unsigned j = 0; j < 3; j++) {
            assert_int_equal(kit_state(&k, j, i), MEMBER_FAULTY);
            assert_int_equal(k.node[j].m.who_hash, k.node[0].m.who_hash);
        }
    }
    assert_same_ring(&k, 3);
    kit_free(&k);
}

/* Only members of the ring can refuse one of theirs; anybody can refuse a newcomer. */
static void test_refusal_from_outside(void **state)
{
    struct gossip no = {.kind = GOSSIP_REFUSED, .u.REFUSED = {.reason = GOSSIP_REFUSED_NAME}};
    struct member_endpoint from = {.address = "10.0.0.3", .port = 1003};
    struct kit k;

    (void)state;
    found(&k, 3, 10);
    kit_start(&k, 3);
    kit_run(&k, 5 * SECOND, NULL, NULL);
    for (unsigned i = 0; i < 30; i++) {
        member_receive(&k.node[1].m, &k.node[3].self.id, &from, &no, k.now_us);
        member_receive(&k.node[3].m, &k.node[1].self.id, &from, &no, k.now_us);
        kit_run(&k, SECOND, NULL, NULL);
    }
    assert_false(k.node[1].refused);
    assert_true(k.node[3].refused);
    kit_free(&k);
}

static void boot_with(struct kit *k, unsigned i, uint8_t oldest, uint8_t newest)
{
    k->node[i].self.protocol_oldest = oldest;
    k->node[i].self.protocol = newest;
    kit_boot(k, i);
}

static void nobody_else_is_refused(const struct kit *k, unsigned who)
{
    for (unsigned i = 0; i < 3; i++)
        assert_true(i == who || k->node[i].m.refused_us == 0);
}

/* Whoever cannot speak with all of the ring is refused by all, also by those that it could speak with;
 * and it may have been a member before. */
static void test_version_clash(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 3, 10);
    boot_with(&k, 1, 1, 1);
    kit_run(&k, 5 * SECOND, NULL, NULL);
    assert_true(all_alive(&k, NULL));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(member_common_protocol(&k.node[i].m), 1);
    kit_start(&k, 3);
    boot_with(&k, 3, 2, 2);
    kit_run(&k, 20 * SECOND, NULL, NULL);
    assert_true(k.node[3].refused);
    nobody_else_is_refused(&k, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(k.node[i].m.counts[MEMBER_COUNT_incompatible] > 0);
        assert_int_equal(kit_state(&k, i, 3), MEMBER_LEFT + 1);
    }
    boot_with(&k, 1, 1, 2);
    kit_run(&k, 5 * SECOND, NULL, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(member_common_protocol(&k.node[i].m), 2);
    boot_with(&k, 0, 2, 3); /* of the future */
    kit_run(&k, 5 * SECOND, NULL, NULL);
    boot_with(&k, 1, 1, 1);
    kit_run(&k, 20 * SECOND, NULL, NULL);
    assert_true(k.node[1].refused);
    nobody_else_is_refused(&k, 1);
    assert_true(kit_run(&k, 60 * SECOND, faulty_everywhere, (unsigned[]){1}));
    kit_free(&k);
}

static void test_id_clash(void **state)
{
    struct kit k;

    (void)state;
    found(&k, 3, 11);
    kit_start(&k, 3);
    k.node[3].self.id = k.node[1].self.id; /* a copied data directory */
    kit_boot(&k, 3);
    kit_run(&k, 20 * SECOND, NULL, NULL);
    assert_true(k.node[3].refused);
    for (unsigned i = 0; i < 3; i++) /* not even by the newcomer */
        assert_true(k.node[i].m.refused_us == 0);
    for (unsigned i = 0; i < 3; i += 2)
        for (uint16_t r = 0; r < k.node[i].m.count; r++)
            if (node_id_equal(&k.node[i].m.row[r].m.id, &k.node[1].self.id))
                assert_int_equal(k.node[i].m.row[r].m.gossip_port, 1001);
    kit_free(&k);
}

static void test_moved(void **state)
{
    struct kit k;
    unsigned who = 1;

    (void)state;
    found(&k, 3, 12);
    k.node[who].up = false;
    assert_true(kit_run(&k, 30 * SECOND, faulty_everywhere, &who));
    k.node[who].self.gossip_port = 5000; /* the same node under another address */
    kit_boot(&k, who);
    kit_run(&k, 20 * SECOND, NULL, NULL);
    assert_false(k.node[who].refused);
    assert_true(all_alive(&k, NULL));
    for (uint16_t r = 0; r < k.node[0].m.count; r++)
        if (node_id_equal(&k.node[0].m.row[r].m.id, &k.node[who].self.id))
            assert_int_equal(k.node[0].m.row[r].m.gossip_port, 5000);
    assert_same_ring(&k, 3);
    kit_free(&k);
}

static void test_joiner(void **state)
{
    struct kit k;
    unsigned count = 4;

    (void)state;
    found(&k, 3, 13);
    kit_start(&k, 3); /* in nobody's seed list */
    assert_true(kit_run(&k, 10 * SECOND, all_have_ring, &count));
    assert_true(kit_run(&k, 10 * SECOND, all_alive, NULL));
    assert_same_ring(&k, 4);
    assert_int_equal(k.node[3].m.ring.count, 3);
    kit_free(&k);
}

static void test_many(void **state)
{
    struct kit k;
    unsigned count = 48, dead = 17;

    (void)state;
    kit_init(&k, 5, 14);
    kit_start_all(&k, count);
    assert_true(kit_run(&k, 60 * SECOND, all_have_ring, &count));
    assert_true(kit_run(&k, 60 * SECOND, all_alive, NULL));
    kit_run(&k, 60 * SECOND, NULL, NULL);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes -= k.node[i].bytes;
    kit_run(&k, 60 * SECOND, NULL, NULL);
    for (unsigned i = 0; i < count; i++) {
        bytes += k.node[i].bytes;
        assert_true(k.node[i].largest <= LIMIT_DATAGRAM);
    }
    print_message("%u nodes at rest: %.0f bytes of datagrams per node and second\n", count,
                  (double)bytes / 60 / count);
    k.node[dead].up = false;
    assert_true(kit_run(&k, 60 * SECOND, faulty_everywhere, &dead));
    kit_free(&k);
}

static struct gossip news_about(struct kit *k, unsigned who, uint8_t said, uint64_t incarnation)
{
    const struct member *m = &k->node[who].self;

    return (struct gossip){.kind = GOSSIP_NEWS,
                           .u.NEWS = {.id = slice_of(m->id.b, NODE_ID_BYTES),
                                      .name = slice_str(m->name),
                                      .address = slice_str(m->address),
                                      .port = 1,
                                      .gossip_port = m->gossip_port,
                                      .workers = 2,
                                      .weight = 100,
                                      .protocol = 1,
                                      .state = said,
                                      .incarnation = incarnation}};
}

static void test_future(void **state)
{
    static const uint64_t far[] = {25ull * 3600 * 1000, 365ull * 24 * 3600 * 1000, 1ull << 62};
    struct kit k;
    struct member_endpoint from = {.address = "10.0.0.1", .port = 1001};

    (void)state;
    found(&k, 3, 19);
    uint64_t wall = kit_wall_ms(&k), before = k.node[0].m.row[0].m.incarnation;
    for (unsigned i = 0; i < 3; i++) {
        struct gossip own = news_about(&k, 0, MEMBER_FAULTY, wall + far[i]);
        struct gossip other = news_about(&k, 2, MEMBER_FAULTY, wall + far[i]);

        assert_int_equal(member_receive(&k.node[0].m, &k.node[1].self.id, &from, &own, k.now_us),
                         0);
        assert_int_equal(member_receive(&k.node[0].m, &k.node[1].self.id, &from, &other, k.now_us),
                         0);
    }
    assert_int_equal(k.node[0].m.counts[MEMBER_COUNT_ahead], 6);
    assert_int_equal(k.node[0].m.row[0].m.incarnation, before);
    assert_true(all_alive(&k, NULL));
    /* Within the bound it is refuted. */
    struct gossip own = news_about(&k, 0, MEMBER_FAULTY, wall + 3600 * 1000);
    member_receive(&k.node[0].m, &k.node[1].self.id, &from, &own, k.now_us);
    assert_int_equal(k.node[0].m.row[0].m.incarnation, wall + 3600 * 1000 + 1);
    kit_run(&k, 10 * SECOND, NULL, NULL);
    assert_true(all_alive(&k, NULL));
    kit_free(&k);
}

static void test_exchange_is_small(void **state)
{
    struct kit k;
    unsigned count = 48;

    (void)state;
    kit_init(&k, 5, 20);
    kit_start_all(&k, count);
    assert_true(kit_run(&k, 60 * SECOND, all_have_ring, &count));
    kit_run(&k, 60 * SECOND, NULL, NULL);
    k.loss = 1000000; /* nothing can be learnt by datagrams */
    k.streams_lose_nothing = true;
    struct gossip own = news_about(&k, 7, MEMBER_FAULTY, k.node[7].m.row[0].m.incarnation);
    struct member_endpoint from = {.address = "10.0.0.1", .port = 1001};
    member_receive(&k.node[7].m, &k.node[1].self.id, &from, &own, k.now_us);
    uint64_t known = k.node[7].m.row[0].m.incarnation, before = k.node[7].stream_bytes, one, all;
    kit_sync(&k.node[3], k.node[7].self.address, k.node[7].self.gossip_port);
    kit_run(&k, SECOND / 10, NULL, NULL);
    assert_int_equal(member_find(&k.node[3].m, &k.node[7].self.id)->m.incarnation, known);
    one = k.node[7].stream_bytes - before;
    kit_boot(&k, 9); /* it has to be told everything */
    before = k.node[7].stream_bytes;
    kit_sync(&k.node[9], k.node[7].self.address, k.node[7].self.gossip_port);
    kit_run(&k, SECOND / 10, NULL, NULL);
    assert_int_equal(k.node[9].m.count, count);
    all = k.node[7].stream_bytes - before;
    assert_true(3 * one < all);
    kit_free(&k);
}

/* Everything that members say to each other, with each bit flipped and cut anywhere, from a member that
 * has the right secret. */
static void test_flips(void **state)
{
    static struct ring_view view;
    struct kit k;
    struct buf said = {0}, bent = {0};
    struct member_endpoint from = {.address = "10.0.0.1", .port = 1001};
    struct gossip g;

    (void)state;
    found(&k, 3, 21);
    k.node[1].m.sync_groups = UINT64_MAX;
    k.node[1].m.sync_ring = true;
    member_tell(&k.node[1].m, MEMBER_ANSWERS, kit_append, &said);
    const size_t len = buf_len(&said);
    for (size_t bit = 0; bit < 9 * len; bit++) {
        buf_clear(&bent);
        buf_append(&bent, buf_head(&said), bit < 8 * len ? len : bit - 8 * len);
        if (bit < 8 * len)
            buf_head(&bent)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct slice in = slice_of(buf_head(&bent), buf_len(&bent));
        from.port = bit % 2 == 0 ? 1001 : 0;
        while (in.len > 0 && msg_codec_next_gossip(k.codec, &in, &g) == 0)
            if (member_receive(&k.node[0].m, &k.node[1].self.id, &from, &g, k.now_us) != 0)
                break;
        if (bit % 64 == 0)
            kit_run(&k, 10000, NULL, NULL);
    }
    member_view(&k.node[0].m, &view);
    assert_true(ring_view_valid(&view));
    assert_int_equal(k.node[0].m.row[0].m.state, MEMBER_ALIVE);
    buf_free(&said);
    buf_free(&bent);
    kit_free(&k);
}

static void test_garbage(void **state)
{
    struct kit k;
    struct node_id who = {{1}};
    struct member_endpoint from = {.address = "10.0.0.9", .port = 9};

    (void)state;
    found(&k, 3, 15);
    struct gossip g = {.kind = GOSSIP_NEWS};
    assert_int_equal(member_receive(&k.node[0].m, &who, &from, &g, k.now_us), -ERR_FORMAT);
    g = (struct gossip){.kind = GOSSIP_RING};
    assert_int_equal(member_receive(&k.node[0].m, &who, &from, &g, k.now_us), -ERR_FORMAT);
    g = (struct gossip){.kind = GOSSIP_DIGEST};
    assert_int_equal(member_receive(&k.node[0].m, &who, &from, &g, k.now_us), -ERR_FORMAT);
    g = (struct gossip){.kind = GOSSIP_PROBE_FOR};
    assert_int_equal(member_receive(&k.node[0].m, &who, &from, &g, k.now_us), -ERR_FORMAT);
    assert_int_equal(k.node[0].m.counts[MEMBER_COUNT_bad], 4);
    assert_true(all_alive(&k, NULL));
    kit_free(&k);
}

#define TEST(text, function)                                                                       \
    {                                                                                              \
        text, function, NULL, NULL, NULL                                                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("founders that meet compute one ring, whatever is lost", test_founding),
        TEST("nothing is founded while a founder is missing", test_founding_waits),
        TEST("without seeds a node founds a ring of its own", test_single),
        TEST("a killed node is faulty everywhere within seconds", test_detection),
        TEST("a worker's word makes it faster", test_hint_speeds_up),
        TEST("a tenth of all packets lost brings no false verdict", test_loss),
        TEST("pauses of 1.5 seconds bring no false verdict", test_short_pauses),
        TEST("nor does a freezing right after another", test_frozen_twice),
        TEST("who is reached by streams alone is alive", test_streams_alone),
        TEST("a member that was frozen comes back and blames nobody", test_long_pause),
        TEST("a machine that is always late finds the dead all the same", test_always_late),
        TEST("two sides that were cut off heal", test_partition),
        TEST("a wiped node takes its own place with a new id", test_wiped),
        TEST("nodes wiped on both sides of a partition both get their places",
             test_wiped_on_both_sides),
        TEST("a restarted node is the same member", test_restart),
        TEST("what was saved brings the ring back while the others are down", test_saved),
        TEST("a newcomer with a living member's name is refused", test_name_clash),
        TEST("nor does it matter who was heard of first", test_name_clash_heard_first),
        TEST("clusters that were founded apart keep their rings", test_founded_apart),
        TEST("those who are gone make room for newcomers", test_more_than_rows),
        TEST("nobody from outside the ring can refuse a member", test_refusal_from_outside),
        TEST("who has no protocol version in common with the ring is refused", test_version_clash),
        TEST("a newcomer with a living member's id is refused", test_id_clash),
        TEST("a node may come back under another address", test_moved),
        TEST("a node that founded nothing learns the ring and is not in it", test_joiner),
        TEST("news reaches many nodes in packets of bounded size", test_many),
        TEST("incarnations of the far future are ignored and counted", test_future),
        TEST("an exchange moves what differs", test_exchange_is_small),
        TEST("no flipped or missing bit does harm", test_flips),
        TEST("values that no member sends are refused", test_garbage),
    };

    return cmocka_run_group_tests_name("membership", tests, NULL, NULL);
}
