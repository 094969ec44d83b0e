/* Frames of a byte stream. Runs in workers and gossipd; must not trust a declared length with
 * memory: a buffer doubles as bytes arrive, whatever their header promises. */
#include "ipc/frame.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "core/limits.h"
#include "ipc/msg_codec.h"

#define READ_MIN (16u << 10) /* room offered for one read */
#define KEEP     (64u << 10) /* memory that an idle reader keeps */

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Fill in the header in front of `len` bytes of payload. */
static void seal(uint8_t *header, size_t len)
{
    put_u32(header, (uint32_t)len);
    put_u32(header + 4, (uint32_t)hash64(header + FRAME_HEADER, len));
}

/* Room for a frame of at most `bound` bytes with its header. */
static int begin(struct buf *out, size_t bound)
{
    if (bound > LIMIT_FRAME)
        return -ERR_LIMIT;
    if (buf_reserve(out, bound) == NULL)
        return out->limit != 0 && bound > out->limit - buf_len(out) ? -ERR_LIMIT : -ERR_NOMEM;
    buf_filled(out, FRAME_HEADER);
    return 0;
}

int frame_append_msg(struct buf *out, const struct msg *m)
{
    size_t before = buf_len(out);
    int err = begin(out, FRAME_HEADER + msg_codec_bound(m));

    if (err != 0)
        return err;
    /* Cannot fail and cannot move the buffer: the room is reserved. */
    err = msg_codec_encode(m, out);
    ASSERT(err == 0);
    seal(buf_head(out) + before, buf_len(out) - before - FRAME_HEADER);
    return 0;
}

int frame_append_repair(struct buf *out, const struct repair *m)
{
    size_t before = buf_len(out);
    int err = begin(out, FRAME_HEADER + msg_codec_bound_repair(m));

    if (err != 0)
        return err;
    err = msg_codec_encode_repair(m, out);
    ASSERT(err == 0);
    seal(buf_head(out) + before, buf_len(out) - before - FRAME_HEADER);
    return 0;
}

int frame_append(struct buf *out, struct slice payload)
{
    size_t before = buf_len(out);

    ASSERT(payload.len > 0);
    if (payload.len > LIMIT_FRAME - FRAME_HEADER)
        return -ERR_LIMIT;
    if (buf_reserve(out, FRAME_HEADER + payload.len) == NULL)
        return out->limit != 0 && FRAME_HEADER + payload.len > out->limit - before ? -ERR_LIMIT
                                                                                   : -ERR_NOMEM;
    buf_filled(out, FRAME_HEADER);
    int err = buf_append(out, payload.data, payload.len);

    ASSERT(err == 0);
    seal(buf_head(out) + before, payload.len);
    return 0;
}

void frame_reader_init(struct frame_reader *r, uint32_t max)
{
    ASSERT(max >= 1 && max <= LIMIT_FRAME);
    buf_init(&r->in, 0);
    r->max = max;
}

void frame_reader_free(struct frame_reader *r)
{
    buf_free(&r->in);
}

uint8_t *frame_reader_space(struct frame_reader *r, size_t *room)
{
    uint8_t *p = buf_reserve(&r->in, READ_MIN);

    *room = p == NULL ? 0 : r->in.capacity - r->in.end;
    return p;
}

void frame_reader_filled(struct frame_reader *r, size_t len)
{
    buf_filled(&r->in, len);
}

int frame_reader_next(struct frame_reader *r, struct slice *payload)
{
    if (buf_len(&r->in) < FRAME_HEADER)
        return 0;
    const uint8_t *head = buf_head(&r->in);
    uint32_t len = get_u32(head);

    if (len == 0 || len > r->max)
        return -ERR_FORMAT;
    if (buf_len(&r->in) - FRAME_HEADER < len)
        return 0;
    if ((uint32_t)hash64(head + FRAME_HEADER, len) != get_u32(head + 4))
        return -ERR_FORMAT;
    *payload = slice_of(head + FRAME_HEADER, len);
    buf_consume(&r->in, FRAME_HEADER + len);
    return 1;
}

void frame_reader_shrink(struct frame_reader *r)
{
    buf_shrink(&r->in, KEEP);
}
