/* Fuzz target: what arrives from a peer. The first byte chooses how the rest is taken: as a stream
 * of frames in pieces of every size, as one message of each table, or as a message inside a right
 * frame. Whatever decodes must encode again, to something that decodes to the same. */
#include "core/limits.h"
#include "ipc/frame.h"
#include "ipc/msg_check.h"
#include "ipc/msg_codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct msg_codec *codec;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static struct slice whole(const struct buf *b)
{
    return slice_of(buf_head(b), buf_len(b));
}

static void take_message(struct slice in)
{
    struct buf once = {0}, twice = {0};
    struct msg m, again;

    if (msg_codec_decode(codec, in, &m) != 0)
        return;
    require(msg_check_value(in) == in.len);
    require(msg_codec_encode(&m, &once) == 0);
    require(buf_len(&once) <= msg_codec_bound(&m));
    require(msg_codec_decode(codec, whole(&once), &again) == 0);
    require(msg_codec_encode(&again, &twice) == 0);
    require(slice_equal(whole(&once), whole(&twice)));
    buf_free(&once);
    buf_free(&twice);
}

static void take_control(struct slice in)
{
    struct control m;
    struct buf out = {0};

    if (msg_codec_decode_control(codec, in, &m) == 0)
        require(msg_codec_encode_control(&m, &out) == 0);
    buf_free(&out);
}

static void take_gossip(struct slice in)
{
    struct gossip m;
    struct buf out = {0};

    while (in.len > 0 && msg_codec_next_gossip(codec, &in, &m) == 0) {
        buf_clear(&out);
        require(msg_codec_encode_gossip(&m, &out) == 0);
    }
    buf_free(&out);
}

static void take_stream(struct slice in, size_t step)
{
    struct frame_reader reader;
    struct slice payload;
    int result = 0;

    frame_reader_init(&reader, LIMIT_FRAME);
    for (size_t at = 0; at < in.len && result >= 0; at += step) {
        size_t room, n = in.len - at < step ? in.len - at : step;
        uint8_t *p = frame_reader_space(&reader, &room);

        require(p != NULL && room >= 1);
        n = n < room ? n : room;
        memcpy(p, in.data + at, n);
        frame_reader_filled(&reader, n);
        while ((result = frame_reader_next(&reader, &payload)) == 1)
            take_message(payload);
        require(reader.in.capacity <= (64u << 10) + 4 * in.len);
    }
    frame_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (codec == NULL)
        codec = msg_codec_new();
    if (size == 0)
        return 0;
    struct slice rest = slice_of(data + 1, size - 1);

    switch (data[0] & 3) {
    case 0:
        take_stream(rest, 1u + data[0] / 4u);
        break;
    case 1:
        take_message(rest);
        break;
    case 2:
        take_control(rest);
        take_gossip(rest);
        break;
    default:
        if (rest.len > 0) { /* a right frame around anything */
            struct buf framed = {0};

            require(frame_append(&framed, rest) == 0);
            take_stream(whole(&framed), 1u + data[0] / 4u);
            buf_free(&framed);
        }
    }
    return 0;
}
