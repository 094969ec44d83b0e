/* What gossipd remembers across restarts: it comes back whole or not at all. */
#include "base/err.h"
#include "core/claim.h"
#include "gossipd/gossipd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned mute(void *arg, const char *address, uint16_t port, const struct gossip *list,
                     unsigned must, unsigned count)
{
    (void)arg, (void)address, (void)port, (void)list, (void)must;
    return count;
}

static void no_sync(void *arg, const char *address, uint16_t port)
{
    (void)arg, (void)address, (void)port;
}

static void no_stream(void *arg, const char *address, uint16_t port, const struct gossip *list,
                      unsigned count)
{
    (void)arg, (void)address, (void)port, (void)list, (void)count;
}

static void no_change(void *arg, bool ring)
{
    (void)arg, (void)ring;
}

static void no_refusal(void *arg, const char *text)
{
    (void)arg, (void)text;
}

static void begin(struct gossipd *g, const char *dir)
{
    const struct member_host host = {.send = mute,
                                     .sync = no_sync,
                                     .stream = no_stream,
                                     .changed = no_change,
                                     .refused = no_refusal};
    struct member_conf conf = {.q_bits = 6, .n = 3, .probe_interval_us = 1, .seed_count = 1};
    struct member self = {.id = {{1}}, .port = 1, .gossip_port = 2, .workers = 2, .weight = 100};

    snprintf(conf.seeds[0].address, sizeof conf.seeds[0].address, "10.0.0.99");
    conf.seeds[0].port = 1;
    snprintf(self.name, sizeof self.name, "self");
    snprintf(self.address, sizeof self.address, "10.0.0.1");
    memset(g, 0, sizeof *g);
    g->loop = loop_new();
    g->codec = msg_codec_new();
    snprintf(g->conf.node.data_dir, sizeof g->conf.node.data_dir, "%s", dir);
    g->member_memory = malloc(member_memory(LIMIT_MEMBERS));
    member_init(&g->members, g->member_memory, LIMIT_MEMBERS, &conf, &host, &self, 1000, 1);
}

static void finish(struct gossipd *g)
{
    loop_free(g->loop);
    msg_codec_free(g->codec);
    free(g->member_memory);
}

/* A ring of this node and another. */
static void fill(struct gossipd *g)
{
    struct node_id ids[2] = {{{1}}, {{2}}}, other = {{2}};
    struct member_endpoint from = {.address = "10.0.0.2", .port = 2};
    uint8_t owner[128] = {0}, left[2] = {0};
    struct gossip news = {.kind = GOSSIP_NEWS,
                          .u.NEWS = {.id = slice_of(ids[1].b, NODE_ID_BYTES),
                                     .name = slice_str("other"),
                                     .address = slice_str("10.0.0.2"),
                                     .gossip_port = 2,
                                     .workers = 3,
                                     .weight = 50,
                                     .protocol = 1,
                                     .incarnation = 77}};
    struct gossip ring = {.kind = GOSSIP_RING,
                          .u.RING = {.epoch = 5,
                                     .proposer = slice_of(ids[1].b, NODE_ID_BYTES),
                                     .q_bits = 6,
                                     .n = 3,
                                     .members = slice_of(ids, sizeof ids),
                                     .states = slice_of(left, 2),
                                     .owner = slice_of(owner, sizeof owner)}};

    for (int p = 0; p < 64; p++)
        owner[2 * p] = (uint8_t)(p & 1);
    assert_int_equal(member_receive(&g->members, &other, &from, &news, 1), 0);
    assert_int_equal(member_receive(&g->members, &other, &from, &ring, 1), 0);
}

struct place {
    char dir[64], file[80];
    struct gossipd a, b;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    snprintf(p->dir, sizeof p->dir, "/tmp/gossipd_saved.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->file, sizeof p->file, "%s/ring", p->dir);
    begin(&p->a, p->dir);
    fill(&p->a);
    gossipd_save(&p->a);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    finish(&p->a);
    unlink(p->file);
    assert_int_equal(rmdir(p->dir), 0); /* and no temporary file is left */
    free(p);
    return 0;
}

static void test_round_trip(void **state)
{
    struct place *p = *state;

    begin(&p->b, p->dir);
    gossipd_load(&p->b);
    assert_int_equal(p->b.members.ring.epoch, 5);
    assert_int_equal(p->b.members.count, 2);
    assert_memory_equal(&p->b.members.ring.id, &p->a.members.ring.id, 32);
    assert_memory_equal(p->b.members.ring.owner, p->a.members.ring.owner, 128);
    assert_string_equal(p->b.members.row[1].m.name, "other");
    assert_int_equal(p->b.members.row[1].m.workers, 3);
    assert_int_equal(p->b.members.row[1].m.incarnation, 77);
    finish(&p->b);
}

static size_t read_all(const char *path, uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "rb");
    size_t n = fread(bytes, 1, size, f);

    fclose(f);
    return n;
}

static void write_all(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void test_damage(void **state)
{
    struct place *p = *state;
    uint8_t bytes[4096];
    size_t len = read_all(p->file, bytes, sizeof bytes);

    for (size_t i = 0; i < len; i += 3) {
        bytes[i] ^= 0x10;
        write_all(p->file, bytes, len);
        bytes[i] ^= 0x10;
        begin(&p->b, p->dir);
        gossipd_load(&p->b);
        assert_int_equal(p->b.members.ring.epoch, 0);
        assert_int_equal(p->b.members.count, 1);
        finish(&p->b);
    }
    for (size_t cut = 0; cut < len; cut += 7) {
        write_all(p->file, bytes, cut);
        begin(&p->b, p->dir);
        gossipd_load(&p->b);
        assert_int_equal(p->b.members.ring.epoch, 0);
        finish(&p->b);
    }
}

static void test_none(void **state)
{
    struct place *p = *state;

    unlink(p->file);
    begin(&p->b, p->dir);
    gossipd_load(&p->b);
    assert_int_equal(p->b.members.ring.epoch, 0);
    finish(&p->b);
}

static void test_verdicts(void **state)
{
    struct verdict_table *t = calloc(1, sizeof *t);
    struct node_id a = {{1}}, b = {{2}};

    (void)state;
    verdict_note(t, &a, 0, 0, true);
    verdict_note(t, &a, 0, 1, true);
    verdict_note(t, &a, 1, 0, true);
    verdict_note(t, &b, 1, 0, true);
    verdict_note(t, &b, LIMIT_WORKERS, 0, true);
    verdict_note(t, &b, 0, UINT32_MAX, true);
    assert_int_equal(verdict_count(t, &a), 2);
    assert_int_equal(verdict_count(t, &b), 1);
    verdict_note(t, &a, 0, 0, false);
    assert_int_equal(verdict_count(t, &a), 2);
    verdict_note(t, &a, 0, 1, false);
    assert_int_equal(verdict_count(t, &a), 1);
    verdict_forget(t, 1);
    assert_int_equal(verdict_count(t, &a), 0);
    assert_int_equal(verdict_count(t, &b), 0);
    assert_int_equal(t->count, 0);
    for (unsigned i = 0; i < 1000; i++) {
        memcpy(a.b, &i, sizeof i);
        verdict_note(t, &a, 0, 0, true);
    }
    assert_int_equal(t->count, LIMIT_MEMBERS);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"members and ring come back", test_round_trip, setup, teardown, NULL},
        {"a damaged or cut file counts as none", test_damage, setup, teardown, NULL},
        {"no file is no error", test_none, setup, teardown, NULL},
        {"verdicts of workers are counted until they are void", test_verdicts, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("what gossipd keeps", tests, NULL, NULL);
}
