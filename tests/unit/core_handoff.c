/* Hinted handoff against a host made of two arrays. */
#include "core/handoff.h"

#include "base/check.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { HINTS = 100 };

struct world {
    struct ring_view view;
    struct ring_index index;
    bool hint[HINTS]; /* for member 1, partition 0 */
    uint64_t digest[HINTS];
    bool up, away;
    uint16_t down; /* this member cannot be reached; 0: all can */
    uint16_t last_to;
    int sent;
    struct msg_MERGE last[HINTS];
    _Alignas(16) uint8_t memory[1 << 16];
    struct handoff *h;
};

static bool reachable(void *arg, uint16_t member, uint16_t worker)
{
    struct world *w = arg;

    (void)worker;
    return w->up && (w->down == 0 || member != w->down);
}

static int send(void *arg, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct world *w = arg;

    assert_int_equal(worker, 0);
    assert_int_equal(m->kind, MSG_MERGE);
    assert_true(handoff_owns(m->u.MERGE.request) && m->u.MERGE.flags == MERGE_HANDOFF);
    if (!reachable(arg, member, worker))
        return -ERR_UNAVAILABLE;
    w->last_to = member;
    w->last[w->sent++ % HINTS] = m->u.MERGE;
    return 0;
}

static bool is_away(void *arg, uint32_t partition)
{
    struct world *w = arg;

    return partition == 0 && w->away;
}

static bool owes(void *arg, uint32_t partition, const struct node_id *target)
{
    (void)arg;
    return partition == 0 && target->b[0] == 1;
}

static int scan(void *arg, uint32_t partition, const struct node_id *target,
                struct position *cursor, uint32_t max, struct position *out)
{
    struct world *w = arg;
    uint32_t count = 0;
    uint8_t i = cursor->b[0];

    (void)partition;
    (void)target;
    for (; i < HINTS && count < max; i++)
        if (w->hint[i])
            out[count++] = (struct position){{i}};
    cursor->b[0] = i;
    return (int)count;
}

static int load(void *arg, uint32_t partition, const struct position *pos, struct slice *object,
                uint64_t *digest)
{
    struct world *w = arg;

    (void)partition;
    *object = slice_str("object");
    *digest = w->digest[pos->b[0]];
    return *digest == 0 ? -ERR_NOTFOUND : 0;
}

static void remove_hint(void *arg, uint32_t partition, const struct node_id *target,
                        const struct position *pos)
{
    struct world *w = arg;

    (void)partition;
    (void)target;
    assert_true(w->hint[pos->b[0]]);
    w->hint[pos->b[0]] = false;
}

static struct world *world(uint32_t in_flight, uint32_t per_second)
{
    static struct world w;
    struct handoff_conf conf = {.workers = 1,
                                .in_flight = in_flight,
                                .per_second = per_second,
                                .timeout_ms = 100,
                                .idle_ms = 50};
    struct handoff_host host = {&w, send, reachable, is_away, owes, scan, load, remove_hint};

    memset(&w, 0, sizeof w);
    w.view.epoch = 1;
    w.view.q_bits = 3;
    w.view.member_count = 2;
    w.view.members[1].id.b[0] = 1;
    w.view.members[0].workers = w.view.members[1].workers = 1;
    w.up = true;
    for (int i = 0; i < HINTS; i++) {
        w.hint[i] = true;
        w.digest[i] = 7;
    }
    assert_true(handoff_size(&conf) <= sizeof w.memory);
    w.h = handoff_init(w.memory, &conf, &host);
    w.view.n = 2;
    for (int p = 0; p < 8; p++)
        w.view.owner[p] = w.view.next[p] = p & 1;
    ring_index_build(&w.view, w.view.n, &w.index);
    handoff_set_view(w.h, &w.view, &w.index);
    return &w;
}

static int left(const struct world *w)
{
    int count = 0;

    for (int i = 0; i < HINTS; i++)
        count += w->hint[i];
    return count;
}

static void answer(struct world *w, int number, uint32_t status, uint64_t now_us)
{
    handoff_receive(
        w->h, &(struct msg_MERGED){.request = w->last[number].request, .status = status}, now_us);
}

/* Tick through the time until `until_us`, answering everything at once. */
static void run(struct world *w, uint64_t from_us, uint64_t until_us)
{
    int answered = w->sent;

    for (uint64_t now = from_us; now < until_us; now += 1000) {
        assert_true(handoff_tick(w->h, now) > now);
        for (; answered < w->sent; answered++)
            answer(w, answered % HINTS, 0, now);
    }
}

static void test_all_are_delivered_at_the_rate(void **state)
{
    struct world *w = world(8, 100);

    (void)state;
    run(w, 0, 500000);
    assert_in_range(left(w), 45, 55);
    run(w, 500000, 1200000);
    assert_int_equal(left(w), 0);
    assert_int_equal(w->sent, HINTS);
}

static void test_in_flight_is_bounded(void **state)
{
    struct world *w = world(8, 1000000);

    (void)state;
    for (uint64_t now = 0; now < 90000; now += 1000)
        handoff_tick(w->h, now);
    assert_int_equal(w->sent, 8);
    assert_int_equal(left(w), HINTS);
    answer(w, 3, 0, 90000);
    answer(w, 3, 0, 90000); /* a second time: ignored */
    assert_int_equal(left(w), HINTS - 1);
    assert_false(w->hint[3]);
    handoff_tick(w->h, 90000);
    assert_int_equal(w->sent, 9);
}

static void test_one_call_does_a_bounded_piece_of_the_work(void **state)
{
    struct world *w = world(HINTS, 1000000);

    (void)state;
    handoff_tick(w->h, 90000);
    assert_int_equal(w->sent, 64);
    assert_in_range(handoff_tick(w->h, 91000), 91001, 200000);
    assert_int_equal(w->sent, HINTS);
}

static void test_what_fails_stays_and_is_tried_again(void **state)
{
    struct world *w = world(8, 1000000);
    struct handoff_stats stats;

    (void)state;
    handoff_tick(w->h, 1000);
    answer(w, 0, ERR_DISKFULL, 2000);
    handoff_link_down(w->h, 1, 0, 3000);
    handoff_stats(w->h, &stats);
    assert_int_equal(stats.failed, w->sent);
    assert_int_equal(stats.in_flight, 0);
    answer(w, 1, 0, 4000); /* too late: nobody knows whether it fits */
    assert_int_equal(left(w), HINTS);
    w->up = false;
    run(w, 5000, 1000000);
    assert_int_equal(left(w), HINTS);
    w->up = true;
    run(w, 1000000, 2000000);
    assert_int_equal(left(w), 0);
}

static void test_silence_is_a_failure(void **state)
{
    struct world *w = world(8, 1000000);
    struct handoff_stats stats;

    (void)state;
    handoff_tick(w->h, 1000);
    assert_int_equal(w->sent, 8);
    handoff_tick(w->h, 150000);
    handoff_stats(w->h, &stats);
    assert_int_equal(stats.failed, 8);
}

static void test_a_changed_object_keeps_its_hint(void **state)
{
    struct world *w = world(1, 1000000);
    struct handoff_stats stats;

    (void)state;
    handoff_tick(w->h, 1000);
    w->digest[0] = 8;
    answer(w, 0, 0, 2000);
    assert_true(w->hint[0]);
    handoff_stats(w->h, &stats);
    assert_int_equal(stats.changed, 1);
    run(w, 3000, 1000000);
    assert_int_equal(left(w), 0);
}

static void test_orphans_are_removed(void **state)
{
    struct world *w = world(8, 1000000);

    (void)state;
    w->digest[5] = 0;
    run(w, 0, 200000);
    assert_int_equal(left(w), 0);
    assert_int_equal(w->sent, HINTS - 1);
    w = world(8, 1000000);
    w->view.members[1].state = MEMBER_LEFT;
    run(w, 0, 200000);
    assert_int_equal(left(w), 0);
    assert_int_equal(w->sent, 0);
}

static void test_a_vnode_that_is_away_delivers_nothing(void **state)
{
    struct world *w = world(8, 1000000);

    (void)state;
    w->away = true;
    run(w, 0, 200000);
    assert_int_equal(w->sent, 0);
    w->away = false;
    handoff_tick(w->h, 1000000);
    assert_int_equal(w->sent, 8);
    w->away = true; /* in the middle of a batch */
    for (int i = 0; i < 8; i++)
        answer(w, i, 0, 1001000);
    run(w, 1002000, 1200000);
    assert_int_equal(w->sent, 8);
    assert_int_equal(left(w), HINTS - 8); /* what the target has is not owed any more */
    w->away = false;
    run(w, 2000000, 2500000);
    assert_int_equal(left(w), 0);
}

/* Member 0, which is this one, has left, member 1 is faulty, and member 2 can be reached. */
static void test_one_that_has_left_passes_on_what_it_owes_to_a_faulty_one(void **state)
{
    struct world *w = world(8, 1000000);

    (void)state;
    w->view.member_count = 3;
    w->view.members[2] = (struct member){.id.b = {2}, .workers = 1};
    for (int p = 0; p < 8; p++)
        w->view.owner[p] = w->view.next[p] = 1 + (p & 1);
    w->view.members[0].state = MEMBER_LEFT;
    w->view.members[1].state = MEMBER_FAULTY;
    w->down = 1;
    ring_index_build(&w->view, w->view.n, &w->index);
    handoff_set_view(w->h, &w->view, &w->index);
    handoff_tick(w->h, 1000);
    assert_int_equal(w->sent, 8);
    assert_int_equal(w->last_to, 2);
    assert_true(slice_equal(w->last[0].hint, slice_of(w->view.members[1].id.b, NODE_ID_BYTES)));
    assert_true(w->hint[0]);
    /* The one that it was sent to breaks, not the one that it is owed to. */
    handoff_link_down(w->h, 2, 0, 2000);
    answer(w, 0, 0, 3000);
    assert_int_equal(left(w), HINTS);
    run(w, 500000, 2000000);
    assert_int_equal(left(w), 0);
    /* A member that stays keeps its hints. */
    w = world(8, 1000000);
    w->view.members[1].state = MEMBER_FAULTY;
    w->down = 1;
    run(w, 0, 200000);
    assert_int_equal(left(w), HINTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_delivered_at_the_rate),
        cmocka_unit_test(test_in_flight_is_bounded),
        cmocka_unit_test(test_one_call_does_a_bounded_piece_of_the_work),
        cmocka_unit_test(test_what_fails_stays_and_is_tried_again),
        cmocka_unit_test(test_silence_is_a_failure),
        cmocka_unit_test(test_a_changed_object_keeps_its_hint),
        cmocka_unit_test(test_orphans_are_removed),
        cmocka_unit_test(test_a_vnode_that_is_away_delivers_nothing),
        cmocka_unit_test(test_one_that_has_left_passes_on_what_it_owes_to_a_faulty_one),
    };

    return cmocka_run_group_tests_name("hints go when their objects have arrived, and not before",
                                       tests, NULL, NULL);
}
