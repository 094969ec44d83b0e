/* core/put: every order of acknowledgements, failures and silences, for up to five primaries and two
 * fallbacks, checked against what a write promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/put.h"

#define REPLICA_US 10
#define DEADLINE   35

/* A write, and what an onlooker has noted about it. */
struct world {
    struct put put;
    uint64_t now;
    uint32_t sent, acked, failed, hinted; /* bits of indices, of primaries for hinted */
    uint8_t replies;
    bool ok, durable, closed;
};

/* The worlds already explored. */
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

static int bits(uint32_t x)
{
    return __builtin_popcount(x);
}

static void check_reply(const struct world *w, const struct put_action *a)
{
    const struct put_setup *s = &w->put.setup;
    uint32_t primaries = (1u << s->primaries) - 1;
    uint32_t have = w->acked | (w->durable ? 1u << s->self : 0);

    if (!s->sloppy)
        have &= primaries;
    if (a->ok) {
        assert_true(w->durable);
        assert_true(bits(have) >= s->w && bits(have & primaries) >= s->pw);
        assert_int_equal(a->got, bits(have));
        return;
    }
    /* Too few: only when time is up, or when nobody who could still help is left. */
    assert_true(!w->durable || bits(have) < s->w || bits(have & primaries) < s->pw);
    assert_true(a->got < a->need);
    if (w->now < s->deadline_us) {
        uint32_t waiting = w->sent & ~w->acked & ~w->failed;
        uint32_t may = have | (s->sloppy ? waiting : waiting & primaries);

        assert_true(w->durable);
        assert_true(bits(may) < s->w || bits(may & primaries) < s->pw);
    }
}

static void check_close(const struct world *w)
{
    const struct put_setup *s = &w->put.setup;

    assert_int_equal(w->replies, 1);
    for (uint8_t i = 0; i < s->primaries; i++) {
        bool held = i == s->self || (w->acked >> i & 1) || (w->hinted >> i & 1);

        for (uint8_t f = s->primaries; f < s->count; f++)
            held |= (w->acked >> f & 1) && w->put.holds_for[f] == i;
        assert_true(held);
    }
}

static void step(struct world *w, enum put_event_kind kind, uint8_t target)
{
    const struct put_setup *s = &w->put.setup;
    struct put_actions actions;

    if (kind == PUT_ON_DURABLE)
        w->durable = true;
    if (kind == PUT_ON_ACK)
        w->acked |= 1u << target;
    if (kind == PUT_ON_FAIL)
        w->failed |= 1u << target;
    put_step(&w->put, (struct put_event){.kind = (uint8_t)kind, .target = target}, w->now,
             &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct put_action *a = &actions.list[i];

        assert_false(w->closed);
        switch ((enum put_action_kind)a->kind) {
        case PUT_DO_SEND:
            assert_true(a->target < s->count && a->target != s->self);
            assert_false(w->sent >> a->target & 1);
            assert_true(a->target < s->primaries ? a->primary == PUT_NOBODY
                                                 : s->sloppy && a->primary < s->primaries);
            w->sent |= 1u << a->target;
            break;
        case PUT_DO_HINT:
            assert_true(a->primary < s->primaries && a->primary != s->self);
            assert_false((w->hinted | w->acked) >> a->primary & 1);
            w->hinted |= 1u << a->primary;
            break;
        case PUT_DO_BLAME:
            assert_true(w->sent >> a->target & 1);
            assert_false((w->acked | w->failed) >> a->target & 1);
            break;
        case PUT_DO_REPLY:
            assert_int_equal(++w->replies, 1);
            w->ok = a->ok;
            check_reply(w, a);
            break;
        case PUT_DO_CLOSE:
            w->closed = true;
            check_close(w);
            break;
        }
    }
    if (!w->closed)
        assert_true(put_due(&w->put) > w->now || kind != PUT_ON_TIME);
}

static void explore(struct seen *seen, const struct world *from)
{
    if (from->closed || !see(seen, from))
        return;
    uint32_t waiting = from->sent & ~from->acked & ~from->failed;

    for (uint8_t i = 0; i < from->put.setup.count; i++) {
        if ((waiting >> i & 1) == 0)
            continue;
        struct world w = *from;

        step(&w, PUT_ON_ACK, i);
        explore(seen, &w);
        w = *from;
        step(&w, PUT_ON_FAIL, i);
        explore(seen, &w);
    }
    if (!from->durable) {
        struct world w = *from;

        step(&w, PUT_ON_DURABLE, 0);
        explore(seen, &w);
    }
    struct world w = *from;

    assert_true(put_due(&w.put) != UINT64_MAX);
    if (w.now < put_due(&w.put))
        w.now = put_due(&w.put);
    step(&w, PUT_ON_TIME, 0);
    assert_true(w.now < 10 * DEADLINE);
    explore(seen, &w);
}

static size_t explore_setup(struct seen *seen, struct put_setup setup)
{
    struct world w;

    memset(&w, 0, sizeof w);
    memset(seen->hash, 0, (seen->mask + 1) * sizeof seen->hash[0]);
    seen->count = 0;
    setup.replica_us = REPLICA_US;
    setup.linger_us = 2 * REPLICA_US;
    setup.deadline_us = DEADLINE;
    put_init(&w.put, &setup);
    step(&w, PUT_ON_START, 0);
    explore(seen, &w);
    return seen->count;
}

static void test_all_orders(void **state)
{
    struct seen seen = {.mask = (1u << 20) - 1};
    size_t worlds = 0;

    (void)state;
    seen.hash = calloc(seen.mask + 1, sizeof seen.hash[0]);
    assert_non_null(seen.hash);
    for (uint8_t n = 1; n <= 5; n++)
        for (uint8_t extra = 0; extra <= (n > 3 ? 1 : 2); extra++)
            for (int sloppy = 0; sloppy <= 1; sloppy++)
                for (uint8_t w = 1; w <= n; w += n > 3 ? 2 : 1)
                    for (uint8_t pw = 0; pw <= w; pw += n > 3 ? 3 : 1)
                        worlds += explore_setup(&seen, (struct put_setup){.count = n + extra,
                                                                          .primaries = n,
                                                                          .self = w % n,
                                                                          .w = w,
                                                                          .pw = pw,
                                                                          .suspects = w & 2,
                                                                          .sloppy = sloppy});
    /* More copies wanted than there are replicas; a coordinator that is a fallback. */
    for (uint8_t n = 1; n <= 3; n++) {
        worlds += explore_setup(
            &seen, (struct put_setup){.count = n + 2, .primaries = n, .w = n + 1, .sloppy = true});
        worlds += explore_setup(
            &seen,
            (struct put_setup){.count = n + 2, .primaries = n, .self = n, .w = 2, .sloppy = true});
        worlds += explore_setup(
            &seen, (struct put_setup){.count = n + 1, .primaries = n, .self = n, .w = 1});
    }
    free(seen.hash);
    print_message("%zu worlds\n", worlds);
}

static struct put begin(struct put_setup setup, struct put_actions *actions)
{
    struct put p;

    setup.replica_us = REPLICA_US;
    setup.linger_us = 2 * REPLICA_US;
    setup.deadline_us = DEADLINE;
    put_init(&p, &setup);
    put_step(&p, (struct put_event){.kind = PUT_ON_START}, 0, actions);
    return p;
}

static void take(struct put *p, enum put_event_kind kind, uint8_t target, uint64_t now,
                 struct put_actions *actions)
{
    put_step(p, (struct put_event){.kind = (uint8_t)kind, .target = target}, now, actions);
}

static void test_quorum_of_two(void **state)
{
    struct put_actions a;
    struct put p = begin((struct put_setup){.count = 3, .primaries = 3, .w = 2}, &a);

    (void)state;
    assert_int_equal(a.count, 2);
    assert_int_equal(a.list[0].kind, PUT_DO_SEND);
    take(&p, PUT_ON_ACK, 2, 1, &a);
    assert_int_equal(a.count, 0);
    take(&p, PUT_ON_DURABLE, 0, 2, &a);
    assert_int_equal(a.count, 1);
    assert_true(a.list[0].kind == PUT_DO_REPLY && a.list[0].ok && a.list[0].got == 2);
    take(&p, PUT_ON_ACK, 1, 3, &a);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.list[0].kind, PUT_DO_CLOSE);
}

static void test_silent_primary(void **state)
{
    struct put_actions a;
    struct put p =
        begin((struct put_setup){.count = 4, .primaries = 3, .w = 3, .sloppy = true}, &a);

    (void)state;
    take(&p, PUT_ON_DURABLE, 0, 1, &a);
    take(&p, PUT_ON_ACK, 1, 1, &a);
    assert_int_equal(put_due(&p), REPLICA_US);
    take(&p, PUT_ON_TIME, 0, REPLICA_US, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == PUT_DO_BLAME && a.list[0].target == 2);
    assert_true(a.list[1].kind == PUT_DO_SEND && a.list[1].target == 3 && a.list[1].primary == 2);
    take(&p, PUT_ON_ACK, 3, REPLICA_US + 1, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == PUT_DO_REPLY && a.list[0].ok && a.list[0].got == 3);
    /* The fallback will deliver it: no hint here, and nobody has to wait for the late one. */
    assert_int_equal(a.list[1].kind, PUT_DO_CLOSE);
}

static void test_strict(void **state)
{
    struct put_actions a;
    struct put p = begin((struct put_setup){.count = 5, .primaries = 3, .w = 2}, &a);

    (void)state;
    take(&p, PUT_ON_FAIL, 1, 0, &a);
    take(&p, PUT_ON_DURABLE, 0, 1, &a);
    assert_int_equal(a.count, 0);
    take(&p, PUT_ON_FAIL, 2, 2, &a);
    assert_int_equal(a.count, 4);
    assert_true(a.list[0].kind == PUT_DO_REPLY && !a.list[0].ok);
    assert_true(a.list[0].need == 2 && a.list[0].got == 1);
    assert_true(a.list[1].kind == PUT_DO_HINT && a.list[1].primary == 1);
    assert_true(a.list[2].kind == PUT_DO_HINT && a.list[2].primary == 2);
    assert_int_equal(a.list[3].kind, PUT_DO_CLOSE);
}

/* Both others cannot be reached for a moment: one that comes back in time is enough. */
static void test_unreachable_for_a_moment(void **state)
{
    struct put_actions a;
    struct put p = begin((struct put_setup){.count = 3,
                                            .primaries = 3,
                                            .w = 2,
                                            .again_us = 4,
                                            .patience_us = 12,
                                            .linger_us = 40,
                                            .sloppy = true},
                         &a);

    (void)state;
    take(&p, PUT_ON_FAIL, 1, 0, &a);
    take(&p, PUT_ON_FAIL, 2, 0, &a);
    take(&p, PUT_ON_DURABLE, 0, 1, &a);
    assert_int_equal(a.count, 0);
    assert_int_equal(put_due(&p), 5);
    take(&p, PUT_ON_TIME, 0, 5, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == PUT_DO_SEND && a.list[0].target == 1);
    assert_true(a.list[1].kind == PUT_DO_SEND && a.list[1].target == 2);
    take(&p, PUT_ON_FAIL, 2, 5, &a);
    assert_int_equal(a.count, 0);
    take(&p, PUT_ON_ACK, 1, 6, &a);
    assert_true(a.count >= 1 && a.list[0].kind == PUT_DO_REPLY && a.list[0].ok);
}

static void test_patience_ends(void **state)
{
    struct put_actions a;
    struct put p = begin(
        (struct put_setup){.count = 2, .primaries = 2, .w = 2, .again_us = 4, .patience_us = 12},
        &a);

    (void)state;
    take(&p, PUT_ON_DURABLE, 0, 0, &a);
    take(&p, PUT_ON_FAIL, 1, 1, &a);
    for (int tries = 0; tries < 2; tries++) {
        assert_int_equal(a.count, 0);
        uint64_t due = put_due(&p);
        take(&p, PUT_ON_TIME, 0, due, &a);
        assert_true(a.count == 1 && a.list[0].kind == PUT_DO_SEND);
        take(&p, PUT_ON_FAIL, 1, due, &a);
    }
    assert_true(a.list[0].kind == PUT_DO_REPLY && !a.list[0].ok && a.list[0].got == 1);
    assert_true(a.list[1].kind == PUT_DO_HINT && a.list[1].primary == 1);
}

static void test_fallback_coordinator(void **state)
{
    struct put_actions a;
    struct put p = begin(
        (struct put_setup){.count = 2, .primaries = 1, .self = 1, .w = 1, .sloppy = true}, &a);

    (void)state;
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == PUT_DO_SEND && a.list[0].target == 0);
    assert_true(a.list[1].kind == PUT_DO_HINT && a.list[1].primary == 0);
    take(&p, PUT_ON_FAIL, 0, 0, &a);
    assert_int_equal(a.count, 0);
    take(&p, PUT_ON_DURABLE, 0, 1, &a);
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].kind == PUT_DO_REPLY && a.list[0].ok);
    assert_int_equal(a.list[1].kind, PUT_DO_CLOSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quorum_of_two),
        cmocka_unit_test(test_silent_primary),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_fallback_coordinator),
        cmocka_unit_test(test_unreachable_for_a_moment),
        cmocka_unit_test(test_patience_ends),
        cmocka_unit_test(test_all_orders),
    };

    return cmocka_run_group_tests_name(
        "a write is answered when enough copies are durable, and forgets no silent primary", tests,
        NULL, NULL);
}
