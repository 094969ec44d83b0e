/* The message codec: every message of every table survives a round trip; everything else is refused
 * before it costs memory. */
#include "base/err.h"
#include "base/rand.h"
#include "core/limits.h"
#include "ipc/msg_check.h"
#include "ipc/msg_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rand random_state;
static uint8_t pool[4096];

static struct slice any_slice(void)
{
    size_t at = rand_below(&random_state, sizeof pool / 2);

    return slice_of(pool + at, rand_below(&random_state, 600));
}

/* A number that needs any count of bytes. */
static uint64_t any_number(void)
{
    return rand_next(&random_state) >> rand_below(&random_state, 64);
}

static bool same(struct slice a, struct slice b)
{
    return slice_equal(a, b);
}

#define U64(field)   m.field = any_number();
#define U32(field)   m.field = (uint32_t)any_number();
#define U8(field)    m.field = (uint8_t)any_number();
#define BYTES(field) m.field = any_slice();

#define MESSAGE(name, number, text)                                                                \
    static struct msg make_##name(void)                                                            \
    {                                                                                              \
        struct msg whole = {.kind = MSG_##name};                                                   \
        struct msg_##name m;
#define END(name)                                                                                  \
    whole.u.name = m;                                                                              \
    return whole;                                                                                  \
    }
#include "core/msg.def"

#define U64(field)   assert_true(a.field == b.field);
#define U32(field)   assert_true(a.field == b.field);
#define U8(field)    assert_true(a.field == b.field);
#define BYTES(field) assert_true(same(a.field, b.field));
#define MESSAGE(name, number, text)                                                                \
    static void compare_##name(const struct msg *x, const struct msg *y)                           \
    {                                                                                              \
        struct msg_##name a = x->u.name, b = y->u.name;                                            \
        assert_int_equal(x->kind, y->kind);
#define END(name) }
#include "core/msg.def"

#define MESSAGE(name, number, text) {make_##name, compare_##name},
static const struct {
    struct msg (*make)(void);
    void (*compare)(const struct msg *, const struct msg *);
} kinds[] = {
#include "core/msg.def"
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static int setup(void **state)
{
    rand_seed(&random_state, 7);
    for (size_t i = 0; i < sizeof pool; i++)
        pool[i] = (uint8_t)rand_next(&random_state);
    *state = msg_codec_new();
    return 0;
}

static int teardown(void **state)
{
    msg_codec_free(*state);
    return 0;
}

static void test_round_trip(void **state)
{
    struct buf out = {0};

    for (int round = 0; round < 200; round++) {
        for (size_t k = 0; k < KINDS; k++) {
            struct msg in = kinds[k].make(), back;

            buf_clear(&out);
            assert_int_equal(msg_codec_encode(&in, &out), 0);
            assert_true(buf_len(&out) <= msg_codec_bound(&in));
            assert_int_equal(
                msg_codec_decode(*state, slice_of(buf_head(&out), buf_len(&out)), &back), 0);
            kinds[k].compare(&in, &back);
        }
    }
    buf_free(&out);
}

static void test_borrowed(void **state)
{
    struct msg in = {.kind = MSG_READ_DONE}, back;
    struct buf out = {0};

    in.u.READ_DONE.object = slice_of(pool, 3000);
    assert_int_equal(msg_codec_encode(&in, &out), 0);
    assert_int_equal(msg_codec_decode(*state, slice_of(buf_head(&out), buf_len(&out)), &back), 0);
    assert_true(back.u.READ_DONE.object.data > buf_head(&out) &&
                back.u.READ_DONE.object.data < out.data + out.end);
    buf_free(&out);
}

static void test_cut_and_flipped(void **state)
{
    struct buf out = {0};
    struct msg back;

    for (size_t k = 0; k < KINDS; k++) {
        struct msg in = kinds[k].make();

        buf_clear(&out);
        assert_int_equal(msg_codec_encode(&in, &out), 0);
        size_t len = buf_len(&out);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees one byte too far */

            memcpy(exact, buf_head(&out), cut);
            assert_int_equal(msg_codec_decode(*state, slice_of(exact, cut), &back), -ERR_FORMAT);
            free(exact);
        }
        for (size_t bit = 0; bit < len * 8 && bit < 4000; bit++) {
            buf_head(&out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
            (void)msg_codec_decode(*state, slice_of(buf_head(&out), len), &back);
            buf_head(&out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(buf_append(&out, "\xc0", 1), 0);
        assert_int_equal(msg_codec_decode(*state, slice_of(buf_head(&out), len + 1), &back),
                         -ERR_FORMAT);
    }
    buf_free(&out);
}

static int decode_text(struct msg_codec *c, const char *bytes, size_t len)
{
    struct msg back;

    return msg_codec_decode(c, slice_of(bytes, len), &back);
}
#define DECODE(c, text) decode_text(c, text, sizeof(text) - 1)

static void test_refused(void **state)
{
    assert_int_equal(DECODE(*state, ""), -ERR_FORMAT);
    assert_int_equal(DECODE(*state, "\x90"), -ERR_FORMAT);                 /* no number */
    assert_int_equal(DECODE(*state, "\x02"), -ERR_FORMAT);                 /* no array */
    assert_int_equal(DECODE(*state, "\x92\xcd\x01\x00\x01"), -ERR_FORMAT); /* unknown number */
    assert_int_equal(DECODE(*state, "\x92\x04\x01"), -ERR_FORMAT);         /* gap in the numbers */
    assert_int_equal(DECODE(*state, "\x92\xff\x01"), -ERR_FORMAT);         /* negative number */
    assert_int_equal(DECODE(*state, "\x92\x02\xff"), -ERR_FORMAT);         /* PING with -1 */
    assert_int_equal(DECODE(*state, "\x92\x02\xa1x"), -ERR_FORMAT);        /* PING with a text */
    assert_int_equal(DECODE(*state, "\x93\x15\x01\xcf\0\0\0\1\0\0\0\0"), -ERR_FORMAT); /* > u32 */
    assert_int_equal(DECODE(*state, "\xdd\xff\xff\xff\xff"), -ERR_FORMAT); /* 2^32-1 elements */
    assert_int_equal(DECODE(*state, "\xc6\xff\xff\xff\xff"), -ERR_FORMAT); /* 2^32-1 bytes */
    assert_int_equal(DECODE(*state, "\x92\xc1\x01"), -ERR_FORMAT);         /* reserved byte */
}

static void test_other_versions(void **state)
{
    struct msg back;

    /* PING of a newer side that has added a map, and of an older one that lacks the token. */
    assert_int_equal(msg_codec_decode(*state, slice_str("\x93\x02\x07\x81\x01\x02"), &back), 0);
    assert_int_equal(back.kind, MSG_PING);
    assert_int_equal(back.u.PING.token, 7);
    assert_int_equal(msg_codec_decode(*state, slice_str("\x91\x02"), &back), 0);
    assert_int_equal(back.u.PING.token, 0);
}

static void test_nesting(void **state)
{
    uint8_t deep[LIMIT_MSG_DEPTH + 3];

    memset(deep, 0x91, sizeof deep);
    deep[LIMIT_MSG_DEPTH] = 0x01;
    assert_int_equal(msg_check_value(slice_of(deep, LIMIT_MSG_DEPTH + 1)), LIMIT_MSG_DEPTH + 1);
    deep[LIMIT_MSG_DEPTH] = 0x91;
    deep[LIMIT_MSG_DEPTH + 1] = 0x01;
    assert_int_equal(msg_check_value(slice_of(deep, LIMIT_MSG_DEPTH + 2)), 0);

    /* Many elements that are really there, but more than any message has. */
    size_t len = 3 + MSG_CHECK_ELEMENTS + 1;
    uint8_t *wide = calloc(1, len);

    wide[0] = 0xdc;
    wide[1] = (MSG_CHECK_ELEMENTS + 1) >> 8;
    wide[2] = (MSG_CHECK_ELEMENTS + 1) & 255;
    assert_int_equal(msg_check_value(slice_of(wide, len)), 0);
    free(wide);
    (void)state;
}

static void test_control(void **state)
{
    struct control in = {.kind = CONTROL_READY}, back;
    struct buf out = {0};

    assert_int_equal(msg_codec_encode_control(&in, &out), 0);
    assert_int_equal(buf_len(&out), 2);
    in.kind = CONTROL_WORKER_UP;
    in.u.WORKER_UP.index = 3;
    in.u.WORKER_UP.incarnation = UINT64_MAX;
    buf_clear(&out);
    assert_int_equal(msg_codec_encode_control(&in, &out), 0);
    assert_int_equal(
        msg_codec_decode_control(*state, slice_of(buf_head(&out), buf_len(&out)), &back), 0);
    assert_int_equal(back.kind, CONTROL_WORKER_UP);
    assert_int_equal(back.u.WORKER_UP.index, 3);
    assert_true(back.u.WORKER_UP.incarnation == UINT64_MAX);
    buf_free(&out);
}

static void test_gossip_sequence(void **state)
{
    struct gossip in = {.kind = GOSSIP_ACK}, back;
    struct buf out = {0};

    in.u.ACK.sequence = 9;
    assert_int_equal(msg_codec_encode_gossip(&in, &out), 0);
    in = (struct gossip){.kind = GOSSIP_NEWS};
    in.u.NEWS.name = slice_str("b");
    assert_int_equal(msg_codec_encode_gossip(&in, &out), 0);

    struct slice rest = slice_of(buf_head(&out), buf_len(&out));

    assert_int_equal(msg_codec_next_gossip(*state, &rest, &back), 0);
    assert_int_equal(back.kind, GOSSIP_ACK);
    assert_int_equal(msg_codec_next_gossip(*state, &rest, &back), 0);
    assert_int_equal(back.kind, GOSSIP_NEWS);
    assert_true(slice_equal(back.u.NEWS.name, slice_str("b")));
    assert_int_equal(rest.len, 0);
    assert_int_equal(msg_codec_next_gossip(*state, &rest, &back), -ERR_FORMAT);
    buf_free(&out);
}

static void test_limit(void **state)
{
    struct msg in = {.kind = MSG_MERGE};
    struct buf out;

    buf_init(&out, 1000);
    in.u.MERGE.object = slice_of(pool, 2000);
    assert_int_equal(msg_codec_encode(&in, &out), -ERR_LIMIT);
    assert_int_equal(buf_len(&out), 0);
    buf_free(&out);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"every message survives a round trip", test_round_trip, setup, teardown, NULL},
        {"bytes are borrowed from the input, not copied", test_borrowed, setup, teardown, NULL},
        {"a cut or lengthened message is refused, a flipped bit does no harm", test_cut_and_flipped,
         setup, teardown, NULL},
        {"declared counts, wrong types and unknown numbers are refused", test_refused, setup,
         teardown, NULL},
        {"fields may be missing or added at the end", test_other_versions, setup, teardown, NULL},
        {"nesting and element counts are bounded", test_nesting, setup, teardown, NULL},
        {"control messages survive a round trip", test_control, setup, teardown, NULL},
        {"gossip messages follow one another", test_gossip_sequence, setup, teardown, NULL},
        {"a full buffer refuses a message whole", test_limit, setup, teardown, NULL},
    };

    return cmocka_run_group_tests_name("messages between processes", tests, NULL, NULL);
}
