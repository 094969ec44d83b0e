/* core/coord under random schedules: messages lost, doubled and reordered, disks that take their
 * time, crashes, cuts; clients that write with the contexts that they have read. In the end hints are
 * handed over and replicas compared; then each acknowledged write must be there, or covered by a
 * write whose client had seen it, and nothing that an acknowledged write covered may be alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/coord_kit.h"

#define WRITES  200
#define READS   200
#define STEPS   6000
#define CLIENTS 6

/* A write is known by its number, which is its value; what its writer had seen is a set of numbers,
 * closed over what those had seen. */
struct set {
    uint64_t words[(WRITES + 63) / 64];
};

struct client {
    uint32_t key;
    struct set seen;
    char context[LIMIT_CONTEXT_TEXT];
    size_t context_len;
    uint64_t waiting; /* token, or 0 */
    bool reading;
};

struct run {
    struct kit *k;
    struct ring_view views[KIT_MEMBERS];
    struct rand rand;
    struct client clients[CLIENTS];
    struct set past[WRITES + 1]; /* of each write, itself included; numbers start at 1 */
    uint32_t key_of[WRITES + 1];
    bool acked[WRITES + 1];
    uint64_t next_token;
    uint32_t writes, reads;
    struct object o;
};

static bool has(const struct set *s, uint32_t i)
{
    return s->words[i / 64] >> (i % 64) & 1;
}

static void join(struct set *to, const struct set *from)
{
    for (size_t i = 0; i < sizeof to->words / sizeof to->words[0]; i++)
        to->words[i] |= from->words[i];
}

/* What an object shows: its siblings, and all that they had seen. */
static void seen_in(struct run *run, struct slice bytes, struct set *all, struct set *alive)
{
    struct sibling s;

    memset(all, 0, sizeof *all);
    memset(alive, 0, sizeof *alive);
    if (bytes.len == 0)
        return;
    assert_int_equal(object_open(&run->o, bytes), 0);
    for (size_t cursor = 0; object_next(&run->o, &cursor, &s);) {
        char text[16] = {0};

        memcpy(text, s.value.data, s.value.len);
        uint32_t write = (uint32_t)atoi(text);

        assert_true(write >= 1 && write <= run->writes && !has(alive, write));
        alive->words[write / 64] |= 1ull << (write % 64);
        join(all, &run->past[write]);
    }
}

static void start_write(struct run *run, struct client *c, struct kit_node *n)
{
    uint32_t write = ++run->writes;
    char value[16];
    struct msg_PUT put = {.key = slice_str(run->k->keys[c->key]),
                          .value =
                              slice_of(value, (size_t)snprintf(value, sizeof value, "%u", write)),
                          .context = slice_of(c->context, c->context_len),
                          .flags = PUT_HAS_CONTEXT | PUT_WANT_CONTEXT,
                          .w = (uint8_t)rand_below(&run->rand, 4)};

    run->past[write] = c->seen;
    run->past[write].words[write / 64] |= 1ull << (write % 64);
    run->key_of[write] = c->key;
    c->waiting = run->next_token++;
    c->reading = false;
    if (kit_put(run->k, n, c->waiting, put) != 0)
        c->waiting = 0;
}

static void start_read(struct run *run, struct client *c, struct kit_node *n)
{
    run->reads++;
    c->waiting = run->next_token++;
    c->reading = true;
    if (kit_get(run->k, n, c->waiting,
                (struct msg_GET){.key = slice_str(run->k->keys[c->key]),
                                 .r = (uint8_t)rand_below(&run->rand, 4)}) != 0)
        c->waiting = 0;
}

/* Take the answer that a client waits for. A node that crashed never answers. */
static void take_answer(struct run *run, struct client *c, uint32_t write)
{
    struct kit_reply *r = &run->k->replies[c->waiting];
    struct set all, alive;

    assert_int_equal(r->count, 1);
    c->waiting = 0;
    if (r->status != 0) {
        assert_true(r->status == -ERR_NOQUORUM || r->status == -ERR_UNKNOWN ||
                    r->status == -ERR_TIMEOUT || r->status == -ERR_SIBLINGS);
        return;
    }
    if (!c->reading) {
        run->acked[write] = true;
        c->seen = run->past[write];
        c->context_len = buf_len(&r->context);
        memcpy(c->context, buf_head(&r->context), c->context_len);
        return;
    }
    seen_in(run, kit_bytes(&r->object), &all, &alive);
    /* A client goes on from what it reads only half of the time: the others write side by side. */
    if (buf_len(&r->object) > 0 && rand_chance(&run->rand, 500000)) {
        int len = causal_to_text(&run->o.causal, slice_str(run->k->keys[c->key]), c->context,
                                 sizeof c->context);

        assert_true(len > 0);
        c->context_len = (size_t)len;
        c->seen = all;
    }
}

static void act_client(struct run *run, struct client *c, uint32_t *write)
{
    struct kit *k = run->k;
    struct kit_node *n = kit_node(k, (uint16_t)rand_below(&run->rand, k->members),
                                  (uint16_t)rand_below(&run->rand, k->workers));

    if (c->waiting != 0) {
        if (k->replies[c->waiting].count > 0)
            take_answer(run, c, *write);
        else if (rand_chance(&run->rand, 5000))
            c->waiting = 0; /* it has lost its patience */
        return;
    }
    if (!n->up)
        return;
    if (rand_chance(&run->rand, 500000)) {
        if (run->reads < READS)
            start_read(run, c, n);
    } else if (run->writes < WRITES) {
        start_write(run, c, n);
        *write = run->writes;
    }
}

static bool may_double(const struct msg *m)
{
    return m->kind != MSG_PUT; /* a link delivers once or not at all */
}

static void act_fault(struct run *run)
{
    struct kit *k = run->k;
    uint16_t m = (uint16_t)rand_below(&run->rand, k->members);
    uint16_t other = (uint16_t)rand_below(&run->rand, k->members);
    struct kit_node *n = kit_node(k, m, (uint16_t)rand_below(&run->rand, k->workers));

    switch (rand_below(&run->rand, 5)) {
    case 0:
        if (n->up)
            kit_crash(k, n, run->views);
        break;
    case 1:
        if (n->up)
            kit_down(k, n);
        break;
    case 2:
        if (!n->up)
            kit_crash(k, n, run->views); /* back from the dead */
        break;
    case 3:
        k->cut[m][other] = m != other;
        break;
    default:
        memset(k->cut, 0, sizeof k->cut);
        break;
    }
}

static void act(struct run *run, uint32_t *client_write)
{
    struct kit *k = run->k;
    uint64_t what = rand_below(&run->rand, 100);

    if (what < 55 && k->message_count > 0) {
        uint32_t i = (uint32_t)rand_below(&run->rand, k->message_count);

        if (rand_chance(&run->rand, 10000))
            kit_drop_message(k, i);
        else
            kit_deliver(k, i, may_double(&k->messages[i].m) && rand_chance(&run->rand, 20000));
    } else if (what < 70) {
        struct kit_node *n = kit_node(k, (uint16_t)rand_below(&run->rand, k->members),
                                      (uint16_t)rand_below(&run->rand, k->workers));

        if (n->up)
            kit_sync(n);
    } else if (what < 90) {
        uint64_t i = rand_below(&run->rand, CLIENTS);

        act_client(run, &run->clients[i], &client_write[i]);
    } else if (what < 99) {
        kit_pass(k, rand_below(&run->rand, 20000));
    } else if (rand_chance(&run->rand, 200000)) {
        act_fault(run);
    }
}

static void check(struct run *run)
{
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        struct set all, alive, covered = {0};
        struct slice bytes = kit_owner(run->k, 0, key)->records[key].bytes;

        seen_in(run, bytes, &all, &alive);
        for (uint32_t w = 1; w <= run->writes; w++) {
            if (run->key_of[w] != key || !run->acked[w])
                continue;
            assert_true(has(&all, w));
            struct set before = run->past[w];

            before.words[w / 64] &= ~(1ull << (w % 64));
            join(&covered, &before);
        }
        for (uint32_t w = 1; w <= run->writes; w++)
            assert_false(has(&alive, w) && has(&covered, w));
    }
}

static void play(uint64_t seed)
{
    struct run *run = calloc(1, sizeof *run);
    uint32_t client_write[CLIENTS] = {0};
    struct quorum_rule rule = {.n = 3, .r = 2, .w = 2, .sloppy = true};

    assert_non_null(run);
    rand_seed(&run->rand, seed);
    rule.blocking_repair = seed % 3 == 0;
    run->k = kit_new(3 + seed % 4, 1 + seed % 2, rule, run->views, WRITES + READS + 8);
    run->next_token = 1;
    for (uint32_t i = 0; i < CLIENTS; i++)
        run->clients[i].key = i % KIT_KEYS;
    for (uint32_t i = 0; i < STEPS; i++)
        act(run, client_write);
    memset(run->k->cut, 0, sizeof run->k->cut);
    for (uint16_t m = 0; m < run->k->members; m++)
        for (uint16_t w = 0; w < run->k->workers; w++)
            if (!run->k->nodes[m][w].up)
                kit_crash(run->k, kit_node(run->k, m, w), run->views);
    for (int i = 0; i < 20; i++) {
        kit_settle(run->k);
        kit_pass(run->k, 200000);
    }
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (run->clients[i].waiting != 0 && run->k->replies[run->clients[i].waiting].count > 0)
            take_answer(run, &run->clients[i], client_write[i]);
    for (uint16_t m = 0; m < run->k->members; m++)
        for (uint16_t w = 0; w < run->k->workers; w++)
            assert_int_equal(coord_in_flight(run->k->nodes[m][w].coord), 0);
    kit_repair(run->k);
    check(run);
    kit_free(run->k);
    free(run);
}

static void test_random_schedules(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        play(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_schedules),
    };

    return cmocka_run_group_tests_name(
        "no schedule loses an acknowledged write or brings back a covered one", tests, NULL, NULL);
}
