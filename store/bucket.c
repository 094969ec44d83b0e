/* What is stored under one position. See bucket.h. Pure; allocates only through the given buf. */
#include "store/bucket.h"

#include "base/err.h"
#include "core/object_codec.h"

enum { LENGTH_AT = 4, FIXED = 16 }; /* where an encoded object says how long it is */

int bucket_next(struct slice bucket, size_t *at, struct bucket_reader *r)
{
    size_t left = bucket.len - *at;
    uint32_t len;
    int err;

    if (left == 0)
        return 0;
    if (*at == 0 && object_is_packed(bucket)) {
        *at = bucket.len;
        err = object_unpack(&r->object, bucket, r->room);
        return err == 0 ? 1 : err;
    }
    if (left < FIXED)
        return -ERR_CORRUPT;
    memcpy(&len, bucket.data + *at + LENGTH_AT, sizeof len);
    if (len < FIXED || len > left)
        return -ERR_CORRUPT;
    err = object_open(&r->object, slice_of(bucket.data + *at, len));
    if (err != 0)
        return err;
    *at += len;
    return 1;
}

int bucket_find(struct slice bucket, struct slice key, struct bucket_reader *r)
{
    size_t at = 0;
    int rc;

    while ((rc = bucket_next(bucket, &at, r)) == 1)
        if (slice_equal(r->object.key, key))
            return 0;
    return rc == 0 ? -ERR_NOTFOUND : rc;
}

int bucket_void(struct slice key, struct buf *out)
{
    static const struct causal nothing;
    struct object_front front = {.key = key, .causal = &nothing};
    uint8_t *base, *end;
    int err = object_reserve(out, object_bound(&front, 0), &base);

    if (err != 0)
        return err;
    end = object_encode_front(base, &front);
    object_encode_finish(base, end);
    buf_filled(out, (size_t)(end - base));
    return 0;
}

struct slice bucket_pack(struct slice bucket, struct bucket_reader *r)
{
    size_t len;

    if (object_is_packed(bucket) || r->object.encoded.len != bucket.len)
        return bucket; /* several objects, or none */
    len = object_pack(&r->object, r->room);
    return len == 0 ? bucket : slice_of(r->room, len);
}

int bucket_replace(struct slice bucket, struct slice key, struct slice object,
                   struct bucket_reader *scratch, struct buf *out)
{
    size_t at = 0, before = out->end;
    int rc, err;

    err = buf_append(out, object.data, object.len);
    if (err != 0)
        return err;
    while ((rc = bucket_next(bucket, &at, scratch)) == 1 && err == 0)
        if (!slice_equal(scratch->object.key, key))
            err = buf_append(out, scratch->object.encoded.data, scratch->object.encoded.len);
    if (err == 0 && rc < 0)
        err = rc;
    if (err != 0)
        out->end = before;
    return err;
}
