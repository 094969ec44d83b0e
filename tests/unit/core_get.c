/* core/get: every order of answers, failures and silences over replicas that hold different things,
 * checked against what a read promises. What a replica holds is a set of two values, written as a
 * number; its digest is that number, and merging is OR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/get.h"

#define HEDGE_US   3
#define REPLICA_US 10
#define DEADLINE   35

/* A read, and what an onlooker has noted about it. */
struct world {
    struct get get;
    uint64_t now;
    uint8_t holds[LIMIT_WALK]; /* what each replica holds */
    uint8_t told[LIMIT_WALK];  /* what the coordinator has been told of it, or has sent to it */
    uint32_t asked, full;      /* bits: a digest or an object, an object is asked for */
    uint32_t answered, failed; /* bits: no answer comes any more */
    uint32_t repairing;        /* bits: an acknowledgement is wanted */
    uint32_t damaged;          /* bits: has said so */
    uint8_t whole, replies, asks;
    bool local, durable, ok, closed;
};

struct seen {
    uint64_t *hash;
    size_t mask, count;
};

static bool see(struct seen *s, const struct world *w)
{
    uint64_t h = hash64(w, sizeof *w) | 1;

    for (size_t at = h & s->mask;; at = (at + 1) & s->mask) {
        if (s->hash[at] == h)
            return false;
        if (s->hash[at] == 0) {
            s->hash[at] = h;
            assert_true(++s->count < s->mask);
            return true;
        }
    }
}

/* Replicas that count and whose content is part of the whole (blocking: is the whole). */
static uint32_t taken(const struct world *w)
{
    const struct get_setup *s = &w->get.setup;
    uint32_t have = 0;

    for (uint8_t i = 0; i < s->count; i++) {
        if (i == s->self ? !w->local : (w->answered >> i & 1) == 0 || (w->repairing >> i & 1))
            continue;
        if (s->blocking ? w->told[i] == w->whole && (i != s->self || w->durable)
                        : (w->told[i] & ~w->whole) == 0)
            have |= 1u << i;
    }
    return s->sloppy ? have : have & ((1u << s->primaries) - 1);
}

static void check_reply(const struct world *w, const struct get_action *a)
{
    const struct get_setup *s = &w->get.setup;
    uint32_t have = taken(w), primaries = (1u << s->primaries) - 1;
    int got = __builtin_popcount(have), at_primaries = __builtin_popcount(have & primaries);

    if (a->ok) {
        assert_true(got >= s->r && at_primaries >= s->pr);
    } else {
        assert_true(a->got < a->need);
        assert_true(got < s->r || at_primaries < s->pr);
    }
}

/* Every primary that told what it holds holds the whole in the end. */
static void check_close(const struct world *w)
{
    const struct get_setup *s = &w->get.setup;

    assert_int_equal(w->replies, 1);
    for (uint8_t i = 0; i < s->primaries; i++)
        if (i != s->self &&
            ((w->damaged >> i & 1) || ((w->answered >> i & 1) && (w->failed >> i & 1) == 0)))
            assert_int_equal(w->told[i], w->whole);
}

static void act(struct world *w, const struct get_action *a)
{
    const struct get_setup *s = &w->get.setup;
    uint32_t bit = 1u << a->target;

    assert_false(w->closed);
    switch ((enum get_action_kind)a->kind) {
    case GET_DO_ASK:
        assert_true(a->target < s->count && a->target != s->self);
        assert_true(a->target < s->primaries || s->sloppy);
        assert_true((w->asked & bit) == 0 || (a->full && (w->full & bit) == 0));
        w->asked |= bit;
        w->answered &= ~bit;
        if (a->full)
            w->full |= bit;
        w->asks++;
        break;
    case GET_DO_REPAIR:
        assert_true(a->target != s->self && a->target < (a->full ? s->count : s->primaries));
        assert_true(((w->answered | w->damaged) & bit) && w->told[a->target] != w->whole);
        w->told[a->target] = w->whole;
        if (a->full)
            w->repairing |= bit;
        break;
    case GET_DO_BLAME:
        assert_true(w->get.late & bit);
        break;
    case GET_DO_REPLY:
        assert_int_equal(++w->replies, 1);
        w->ok = a->ok;
        check_reply(w, a);
        break;
    case GET_DO_CLOSE:
        w->closed = true;
        check_close(w);
        break;
    }
}

static void step(struct world *w, enum get_event_kind kind, uint8_t target)
{
    struct get_event event = {.kind = (uint8_t)kind, .target = target};
    struct get_actions actions;

    if (kind == GET_ON_DIGEST || kind == GET_ON_OBJECT) {
        event.digest = w->told[target] = w->holds[target];
        w->answered |= 1u << target;
        if (kind == GET_ON_OBJECT) {
            if (w->whole != (w->whole | w->holds[target]))
                w->durable = false;
            w->whole |= w->holds[target];
            w->told[w->get.setup.self] = w->whole;
        }
        event.whole = w->whole;
    } else if (kind == GET_ON_FAIL || kind == GET_ON_DAMAGED) {
        w->failed |= 1u << target;
        if (kind == GET_ON_DAMAGED) {
            w->damaged |= 1u << target;
            w->told[target] = 0;
        }
    } else if (kind == GET_ON_REPAIRED) {
        w->repairing &= ~(1u << target);
    } else if (kind == GET_ON_DURABLE) {
        w->durable = true;
    }
    get_step(&w->get, event, w->now, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        act(w, &actions.list[i]);
    if (!w->closed)
        assert_true(get_due(&w->get) > w->now || kind != GET_ON_TIME);
}

static void explore(struct seen *seen, const struct world *from)
{
    if (from->closed || !see(seen, from))
        return;
    for (uint8_t i = 0; i < from->get.setup.count; i++) {
        bool waiting = (from->asked & ~from->answered & ~from->failed) >> i & 1;
        bool repairing = (from->repairing & ~from->failed) >> i & 1;
        struct world w = *from;

        if (waiting) {
            bool full = (from->full >> i & 1) && from->holds[i] != 0;

            step(&w, full ? GET_ON_OBJECT : GET_ON_DIGEST, i);
            explore(seen, &w);
        } else if (repairing) {
            step(&w, GET_ON_REPAIRED, i);
            explore(seen, &w);
        } else {
            continue;
        }
        w = *from;
        step(&w, waiting && from->asks % 2 ? GET_ON_DAMAGED : GET_ON_FAIL, i);
        explore(seen, &w);
    }
    if (from->local && !from->durable) {
        struct world w = *from;

        step(&w, GET_ON_DURABLE, 0);
        explore(seen, &w);
    }
    struct world w = *from;

    assert_true(get_due(&w.get) != UINT64_MAX);
    if (w.now < get_due(&w.get))
        w.now = get_due(&w.get);
    step(&w, GET_ON_TIME, 0);
    assert_true(w.now < 10 * DEADLINE);
    explore(seen, &w);
}

static size_t explore_setup(struct seen *seen, struct get_setup setup, uint32_t contents,
                            bool local)
{
    struct world w;

    memset(&w, 0, sizeof w);
    memset(seen->hash, 0, (seen->mask + 1) * sizeof seen->hash[0]);
    seen->count = 0;
    setup.hedge_us = HEDGE_US;
    setup.replica_us = REPLICA_US;
    setup.linger_us = 2 * REPLICA_US;
    setup.deadline_us = DEADLINE;
    for (uint8_t i = 0; i < setup.count; i++)
        w.holds[i] = contents >> 2 * i & 3;
    w.local = local;
    w.durable = local && !setup.blocking;
    w.whole = w.told[setup.self] = local ? w.holds[setup.self] : 0;
    get_init(&w.get, &setup, local, w.whole, w.durable);
    step(&w, GET_ON_START, 0);
    explore(seen, &w);
    return seen->count;
}

static void test_all_orders(void **state)
{
    struct seen seen = {.mask = (1u << 19) - 1};
    size_t worlds = 0;

    (void)state;
    seen.hash = calloc(seen.mask + 1, sizeof seen.hash[0]);
    assert_non_null(seen.hash);
    for (uint8_t n = 1; n <= 3; n++)
        for (uint8_t r = 1; r <= n; r++)
            for (int mode = 0; mode < 8; mode++)
                for (uint32_t contents = 0; contents < 1u << 2 * n; contents++)
                    worlds += explore_setup(&seen,
                                            (struct get_setup){.count = n + 1,
                                                               .primaries = n,
                                                               .self = r % n,
                                                               .r = r,
                                                               .pr = contents & 1,
                                                               .suspects = contents & 2,
                                                               .sloppy = mode & 1,
                                                               .blocking = mode & 2},
                                            contents | 1u << 2 * n, (mode & 4) == 0);
    /* More primaries, with a few contents each; a coordinator that is a fallback. */
    for (int mode = 0; mode < 4; mode++)
        for (uint32_t pick = 0; pick < 4; pick++) {
            struct get_setup setup = {.count = 5,
                                      .primaries = 4,
                                      .r = 1 + pick % 4,
                                      .sloppy = mode & 1,
                                      .blocking = mode & 2};
            uint32_t contents = (uint32_t)hash64(&pick, sizeof pick);

            worlds += explore_setup(&seen, setup, contents, true);
            setup.primaries = 2;
            setup.self = 2;
            setup.r = 1 + pick % 2;
            worlds += explore_setup(&seen, setup, contents, true);
        }
    free(seen.hash);
    print_message("%zu worlds\n", worlds);
}

static struct get begin(struct get_setup setup, uint64_t digest, struct get_actions *actions)
{
    struct get g;

    setup.hedge_us = HEDGE_US;
    setup.replica_us = REPLICA_US;
    setup.linger_us = 2 * REPLICA_US;
    setup.deadline_us = DEADLINE;
    get_init(&g, &setup, true, digest, true);
    get_step(&g, (struct get_event){.kind = GET_ON_START}, 0, actions);
    return g;
}

static void take(struct get *g, struct get_event event, uint64_t now, struct get_actions *actions)
{
    get_step(g, event, now, actions);
}

static void test_agreement(void **state)
{
    struct get_actions a;
    struct get g = begin((struct get_setup){.count = 3, .primaries = 3, .r = 2}, 7, &a);

    (void)state;
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == GET_DO_ASK && a.list[0].target == 1 && !a.list[0].full);
    take(&g, (struct get_event){GET_ON_DIGEST, 1, 7, 0}, 1, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == GET_DO_REPLY && a.list[0].ok);
    assert_int_equal(a.list[1].kind, GET_DO_CLOSE);
}

static void test_hedge_and_late_answer(void **state)
{
    struct get_actions a;
    struct get g =
        begin((struct get_setup){.count = 4, .primaries = 3, .r = 2, .sloppy = true}, 7, &a);

    (void)state;
    assert_int_equal(get_due(&g), HEDGE_US);
    take(&g, (struct get_event){.kind = GET_ON_TIME}, HEDGE_US, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].target == 2 && a.list[0].hedge);
    take(&g, (struct get_event){GET_ON_DIGEST, 2, 7, 0}, 4, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == GET_DO_REPLY && a.list[0].ok);
    /* The slow one turns out to hold something else: it is fetched, then both are repaired. */
    take(&g, (struct get_event){GET_ON_DIGEST, 1, 8, 0}, 5, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == GET_DO_ASK && a.list[0].target == 1 && a.list[0].full);
    take(&g, (struct get_event){GET_ON_OBJECT, 1, 8, 15}, 6, &a);
    assert_int_equal(a.count, 3);
    assert_true(a.list[0].kind == GET_DO_REPAIR && a.list[1].kind == GET_DO_REPAIR);
    assert_int_equal(a.list[2].kind, GET_DO_CLOSE);
}

static void test_fallback_only_for_the_lost(void **state)
{
    struct get_actions a;
    struct get g =
        begin((struct get_setup){.count = 4, .primaries = 3, .r = 2, .sloppy = true}, 7, &a);

    (void)state;
    take(&g, (struct get_event){.kind = GET_ON_TIME}, HEDGE_US, &a);
    assert_int_equal(a.list[0].target, 2);
    take(&g, (struct get_event){.kind = GET_ON_TIME}, get_due(&g), &a);
    /* Both are slow, which is no reason to ask one who knows nothing. */
    assert_int_equal(a.count, 0);
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 1}, 7, &a);
    assert_int_equal(a.count, 0); /* the other one may still answer */
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 2}, 8, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == GET_DO_ASK && a.list[0].target == 3);
    take(&g, (struct get_event){GET_ON_DIGEST, 3, 0, 0}, 9, &a);
    assert_true(a.list[0].kind == GET_DO_REPLY && a.list[0].ok && a.list[0].got == 2);
}

static void test_suspects_come_last(void **state)
{
    struct get_setup setup = {
        .count = 4, .primaries = 3, .r = 2, .sloppy = true, .suspects = 1 << 1};
    struct get_actions a;
    struct get g = begin(setup, 7, &a);

    (void)state;
    assert_true(a.count == 1 && a.list[0].target == 2);
    setup.suspects |= 1 << 2;
    g = begin(setup, 7, &a);
    assert_true(a.count == 1 && a.list[0].target == 3);
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 3}, 1, &a);
    assert_true(a.count == 1 && a.list[0].target == 1);
    setup.sloppy = false;
    begin(setup, 7, &a);
    assert_true(a.count == 1 && a.list[0].target == 1);
}

/* Nobody else can be reached for a moment: those who failed are asked again, for a while. */
static void test_unreachable_for_a_moment(void **state)
{
    struct get_setup setup = {
        .count = 3, .primaries = 3, .r = 2, .sloppy = true, .again_us = 2, .patience_us = 5};
    struct get_actions a;
    struct get g = begin(setup, 7, &a);

    (void)state;
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 1}, 0, &a);
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 2}, 0, &a);
    assert_int_equal(a.count, 0);
    assert_int_equal(get_due(&g), 2);
    take(&g, (struct get_event){.kind = GET_ON_TIME}, 2, &a);
    assert_true(a.count == 1 && a.list[0].kind == GET_DO_ASK && a.list[0].target == 1);
    take(&g, (struct get_event){.kind = GET_ON_FAIL, .target = 1}, 2, &a);
    assert_true(a.count == 1 && a.list[0].kind == GET_DO_ASK && a.list[0].target == 2);
    struct get failing = g;
    take(&g, (struct get_event){GET_ON_DIGEST, 2, 7, 0}, 3, &a);
    assert_true(a.count >= 1 && a.list[0].kind == GET_DO_REPLY && a.list[0].ok);
    take(&failing, (struct get_event){.kind = GET_ON_FAIL, .target = 2}, 4, &a);
    assert_true(a.count >= 1 && a.list[0].kind == GET_DO_REPLY && !a.list[0].ok);
}

static void test_blocking_repair(void **state)
{
    struct get_actions a;
    struct get g =
        begin((struct get_setup){.count = 3, .primaries = 3, .r = 2, .blocking = true}, 7, &a);

    (void)state;
    take(&g, (struct get_event){GET_ON_DIGEST, 1, 0, 0}, 1, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == GET_DO_REPAIR && a.list[0].full);
    take(&g, (struct get_event){.kind = GET_ON_REPAIRED, .target = 1}, 2, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == GET_DO_REPLY && a.list[0].ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_hedge_and_late_answer),
        cmocka_unit_test(test_fallback_only_for_the_lost),
        cmocka_unit_test(test_suspects_come_last),
        cmocka_unit_test(test_unreachable_for_a_moment),
        cmocka_unit_test(test_blocking_repair),
        cmocka_unit_test(test_all_orders),
    };

    return cmocka_run_group_tests_name("a read takes in R replicas and leaves none of them stale",
                                       tests, NULL, NULL);
}
