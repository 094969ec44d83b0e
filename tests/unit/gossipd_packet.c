/* The envelope of gossip: what is damaged, foreign or repeated goes no further. */
#include "base/err.h"
#include "base/rand.h"
#include "gossipd/packet.h"
#include "ipc/msg_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct pair {
    struct packet_box a, b;
    struct buf out;
};

static struct member self_of(uint8_t id, uint16_t port)
{
    struct member m = {.id = {{id}}, .gossip_port = port};

    snprintf(m.address, sizeof m.address, "10.0.0.1");
    return m;
}

static void box(struct packet_box *b, const char *cluster, uint8_t id, uint16_t port, uint64_t run,
                const char *secret)
{
    struct member self = self_of(id, port);

    packet_init(b, cluster, &self, run, slice_str(secret));
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);

    box(&p->a, "c", 1, 1, 10, "secret");
    box(&p->b, "c", 2, 2, 10, "secret");
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;

    buf_free(&p->out);
    free(p);
    return 0;
}

static struct slice make(struct packet_box *from, struct buf *out)
{
    struct gossip g = {.kind = GOSSIP_ACK, .u.ACK = {.sequence = 7}};

    buf_clear(out);
    assert_int_equal(packet_begin(from, out), 0);
    assert_int_equal(packet_append(out, &g, LIMIT_DATAGRAM), 0);
    packet_seal(from, out);
    return slice_of(buf_head(out), buf_len(out));
}

static int take(struct packet_box *to, struct slice bytes)
{
    struct node_id sender;
    struct slice messages;
    int rc = packet_open(to, PACKET_DATAGRAM, bytes, &sender, &messages);

    if (rc == 0) {
        assert_int_equal(sender.b[0], 1);
        assert_int_equal(messages.len, bytes.len - PACKET_HEADER);
    }
    return rc;
}

static void test_right(void **state)
{
    struct pair *p = *state;

    for (int i = 0; i < 200; i++)
        assert_int_equal(take(&p->b, make(&p->a, &p->out)), 0);
}

static void test_every_flip(void **state)
{
    struct pair *p = *state;
    struct slice bytes = make(&p->a, &p->out);

    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        buf_head(&p->out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(take(&p->b, bytes), 0);
        buf_head(&p->out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < bytes.len; cut++)
        assert_int_not_equal(take(&p->b, slice_of(bytes.data, cut)), 0);
    assert_int_equal(take(&p->b, bytes), 0); /* none of that has spoilt the right one */
}

static void test_foreign(void **state)
{
    struct pair *p = *state;
    struct packet_box *other = calloc(1, sizeof *other);

    box(other, "another", 1, 1, 10, "secret");
    assert_int_equal(take(&p->b, make(other, &p->out)), -ERR_DENIED);
    box(other, "c", 1, 1, 10, "guess");
    assert_int_equal(take(&p->b, make(other, &p->out)), -ERR_DENIED);
    box(other, "c", 1, 1, 10, "");
    assert_int_equal(take(&p->b, make(other, &p->out)), -ERR_DENIED);
    assert_int_equal(take(&p->b, make(&p->b, &p->out)), -ERR_DENIED); /* an echo */
    box(other, "c", 0, 1, 10, "secret");
    assert_int_equal(take(&p->b, make(other, &p->out)), -ERR_DENIED); /* nobody */
    free(other);
}

static void test_replay(void **state)
{
    struct pair *p = *state;
    struct buf kept[100] = {{0}};

    for (int i = 0; i < 100; i++)
        make(&p->a, &kept[i]);
    /* Out of order, each is taken once, if it is not too late. */
    struct rand r;
    rand_seed(&r, 1);
    for (int i = 0; i < 100; i += 20) {
        int order[20];

        for (int k = 0; k < 20; k++)
            order[k] = i + k;
        for (int k = 19; k > 0; k--) {
            int with = (int)rand_below(&r, (uint64_t)k + 1), swap = order[k];

            order[k] = order[with];
            order[with] = swap;
        }
        for (int k = 0; k < 20; k++) {
            struct slice bytes = slice_of(buf_head(&kept[order[k]]), buf_len(&kept[order[k]]));

            assert_int_equal(take(&p->b, bytes), 0);
            assert_int_equal(take(&p->b, bytes), -ERR_DENIED);
        }
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(take(&p->b, slice_of(buf_head(&kept[i]), buf_len(&kept[i]))), -ERR_DENIED);
    /* A restart begins anew; the run before is over. */
    box(&p->a, "c", 1, 1, 11, "secret");
    assert_int_equal(take(&p->b, make(&p->a, &p->out)), 0);
    box(&p->a, "c", 1, 1, 10, "secret");
    p->a.sequence = 1000;
    assert_int_equal(take(&p->b, make(&p->a, &p->out)), -ERR_DENIED);
    for (int i = 0; i < 100; i++)
        buf_free(&kept[i]);
}

static void test_two_of_one_id(void **state)
{
    struct pair *p = *state;
    struct packet_box *twin = calloc(1, sizeof *twin);

    box(twin, "c", 1, 99, 50, "secret");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(take(&p->b, make(twin, &p->out)), 0);
        assert_int_equal(take(&p->b, make(&p->a, &p->out)), 0);
        assert_int_equal(take(&p->a, make(twin, &p->out)), 0);
    }
    free(twin);
}

static void test_many_senders(void **state)
{
    struct pair *p = *state;
    struct packet_box *other = calloc(1, sizeof *other);

    for (unsigned i = 0; i < 5000; i++) {
        box(other, "c", 1, (uint16_t)(100 + i), 10, "secret");
        assert_int_equal(take(&p->b, make(other, &p->out)), 0);
    }
    free(other);
}

static void test_limit(void **state)
{
    struct pair *p = *state;
    struct gossip g = {.kind = GOSSIP_REFUSED};
    char text[500];

    memset(text, 'x', sizeof text);
    g.u.REFUSED.text = slice_of(text, sizeof text);
    assert_int_equal(packet_begin(&p->a, &p->out), 0);
    unsigned fit = 0;
    while (packet_append(&p->out, &g, LIMIT_DATAGRAM) == 0)
        fit++;
    assert_int_equal(fit, 2);
    assert_true(buf_len(&p->out) <= LIMIT_DATAGRAM);
    packet_seal(&p->a, &p->out);
    assert_int_equal(take(&p->b, slice_of(buf_head(&p->out), buf_len(&p->out))), 0);
}

#define TEST(text, function)                                                                       \
    {                                                                                              \
        text, function, setup, teardown, NULL                                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("what a member sends is taken", test_right),
        TEST("no flipped or missing byte goes unnoticed", test_every_flip),
        TEST("another cluster, another secret, an echo and nobody are denied", test_foreign),
        TEST("each packet is taken once, in any order, and not from an earlier run", test_replay),
        TEST("two processes with one id are both heard", test_two_of_one_id),
        TEST("more senders than slots are all heard", test_many_senders),
        TEST("what does not fit is left out", test_limit),
    };

    return cmocka_run_group_tests_name("gossip packets", tests, NULL, NULL);
}
