/* Frames: any way of cutting a stream gives the same messages; damage is noticed; memory follows
 * what arrives. */
#include "base/err.h"
#include "base/rand.h"
#include "core/limits.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void feed(struct frame_reader *r, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t room, n;
        uint8_t *p = frame_reader_space(r, &room);

        assert_non_null(p);
        assert_true(room >= 1);
        n = room < len ? room : len;
        memcpy(p, data, n);
        frame_reader_filled(r, n);
        data += n;
        len -= n;
    }
}

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
    struct rand r;

    rand_seed(&r, seed);
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rand_next(&r);
}

static void test_any_cut(void **state)
{
    struct buf out = {0};
    struct rand r;
    static uint8_t body[70000];

    (void)state;
    rand_seed(&r, 1);
    fill(body, sizeof body, 2);
    size_t lens[50];
    for (int i = 0; i < 50; i++) {
        lens[i] = 1 + (i % 10 == 9 ? rand_below(&r, sizeof body) : rand_below(&r, 200));
        assert_int_equal(frame_append(&out, slice_of(body, lens[i])), 0);
    }
    for (size_t step = 1; step < 100000; step = step * 3 + 1) {
        struct frame_reader reader;
        struct slice payload;
        int got = 0, result;

        frame_reader_init(&reader, LIMIT_FRAME);
        for (size_t at = 0; at < buf_len(&out); at += step) {
            size_t n = buf_len(&out) - at < step ? buf_len(&out) - at : step;

            feed(&reader, buf_head(&out) + at, n);
            while ((result = frame_reader_next(&reader, &payload)) == 1) {
                assert_true(slice_equal(payload, slice_of(body, lens[got])));
                got++;
            }
            assert_int_equal(result, 0);
        }
        assert_int_equal(got, 50);
        frame_reader_free(&reader);
    }
    buf_free(&out);
}

static void test_every_flip(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_int_equal(frame_append(&out, slice_str("some payload of a frame")), 0);
    for (size_t bit = 0; bit < buf_len(&out) * 8; bit++) {
        struct frame_reader reader;
        struct slice payload;

        frame_reader_init(&reader, 1000);
        buf_head(&out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        feed(&reader, buf_head(&out), buf_len(&out));
        /* A longer length leaves the reader waiting; nothing is ever handed out. */
        assert_int_not_equal(frame_reader_next(&reader, &payload), 1);
        buf_head(&out)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        frame_reader_free(&reader);
    }
    buf_free(&out);
}

static void test_oversize(void **state)
{
    static const uint8_t heads[][8] = {{0xff, 0xff, 0xff, 0xff}, {0xe9, 3, 0, 0}, {0}};
    struct slice payload;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct frame_reader reader;

        frame_reader_init(&reader, 1000);
        feed(&reader, heads[i], 8);
        assert_int_equal(frame_reader_next(&reader, &payload), -ERR_FORMAT);
        frame_reader_free(&reader);
    }
}

static void test_memory_follows_arrivals(void **state)
{
    /* A header that declares 64 MiB, then one byte. */
    static const uint8_t head[] = {0, 0, 0, 4, 1, 2, 3, 4, 5};
    struct frame_reader reader;
    struct slice payload;

    (void)state;
    frame_reader_init(&reader, LIMIT_FRAME);
    feed(&reader, head, sizeof head);
    assert_int_equal(frame_reader_next(&reader, &payload), 0);
    assert_true(reader.in.capacity <= 64u << 10);
    frame_reader_free(&reader);
}

static void test_message_in_place(void **state)
{
    size_t len = LIMIT_VALUE;
    uint8_t *value = malloc(len);
    struct msg in = {.kind = MSG_PUT}, back;
    struct msg_codec *codec = msg_codec_new();
    struct frame_reader reader;
    struct slice payload;
    struct buf out = {0};

    (void)state;
    fill(value, len, 3);
    in.u.PUT.key = slice_str("k");
    in.u.PUT.value = slice_of(value, len);
    assert_int_equal(frame_append_msg(&out, &in), 0);
    frame_reader_init(&reader, LIMIT_FRAME);
    feed(&reader, buf_head(&out), buf_len(&out));
    assert_int_equal(frame_reader_next(&reader, &payload), 1);
    assert_int_equal(msg_codec_decode(codec, payload, &back), 0);
    assert_true(slice_equal(back.u.PUT.value, in.u.PUT.value));
    frame_reader_free(&reader);
    buf_free(&out);
    msg_codec_free(codec);
    free(value);
}

static void test_refused_whole(void **state)
{
    struct msg in = {.kind = MSG_PUT};
    struct buf out;

    (void)state;
    buf_init(&out, 300);
    in.u.PUT.value = slice_of("0123456789012345678901234567890123456789", 40);
    assert_int_equal(frame_append_msg(&out, &in), 0);
    size_t one = buf_len(&out);
    int err;
    while ((err = frame_append_msg(&out, &in)) == 0)
        continue;
    assert_int_equal(err, -ERR_LIMIT);
    assert_int_equal(buf_len(&out) % one, 0);
    buf_free(&out);

    /* Longer than any frame: the bytes are never looked at. */
    in.u.PUT.value = slice_of("", LIMIT_FRAME);
    buf_init(&out, 0);
    assert_int_equal(frame_append_msg(&out, &in), -ERR_LIMIT);
    assert_int_equal(buf_len(&out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"a stream gives the same frames however it is cut", test_any_cut, NULL, NULL, NULL},
        {"no flipped bit goes unnoticed", test_every_flip, NULL, NULL, NULL},
        {"empty and oversized frames are refused", test_oversize, NULL, NULL, NULL},
        {"memory grows with what arrives, not with what is declared", test_memory_follows_arrivals,
         NULL, NULL, NULL},
        {"a large value survives", test_message_in_place, NULL, NULL, NULL},
        {"what does not fit is refused whole", test_refused_whole, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("frames of a byte stream", tests, NULL, NULL);
}
