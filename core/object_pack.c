/* The short form of an object in a row on disk. See object_pack.h. */
#include "core/object_pack.h"

#include "base/check.h"
#include "base/err.h"
#include "base/varint.h"
#include "core/object_codec.h"

enum { MARK = 0xA0, TOMBSTONE = 1, EXPIRY = 2, CHECKSUM = 8 };

/* The only sibling of an object that has a short form. */
static bool plain(const struct object *o, struct sibling *s)
{
    size_t cursor = 0;

    return o->encoded.len > 0 && o->encoded.len <= OBJECT_PACK_MAX && o->id_count == 0 &&
           o->sibling_count == 1 && o->causal.vector_count == 1 && o->causal.cloud_count == 0 &&
           object_next(o, &cursor, s) && dot_equal(s->dot, o->causal.vector[0]);
}

size_t object_pack(const struct object *o, uint8_t *out)
{
    struct sibling s;
    uint8_t *p = out;

    if (!plain(o, &s))
        return 0;
    *p++ = (uint8_t)(MARK | (s.flags & SIBLING_TOMBSTONE ? TOMBSTONE : 0) |
                     (s.expiry_ms != 0 ? EXPIRY : 0));
    memcpy(p, o->encoded.data + OBJECT_CHECKSUM_AT, CHECKSUM);
    p = varint_store(p + CHECKSUM, o->key.len);
    if (o->key.len > 0)
        memcpy(p, o->key.data, o->key.len);
    p = store_le64(p + o->key.len, s.dot.vnode);
    p = varint_store(p, s.dot.n);
    p = store_le64(p, s.time);
    if (s.expiry_ms != 0)
        p = varint_store(p, s.expiry_ms);
    if (s.value.len > 0)
        memcpy(p, s.value.data, s.value.len);
    p += s.value.len;
    ASSERT((size_t)(p - out) < o->encoded.len);
    return (size_t)(p - out);
}

/* Take the fields of a short form apart. */
static bool split(struct slice packed, struct slice *key, struct sibling *s)
{
    const uint8_t *p = packed.data + 1 + CHECKSUM, *end = packed.data + packed.len;
    uint8_t mark = packed.data[0];
    uint64_t len;

    if (packed.len <= 1 + CHECKSUM || (mark & ~(MARK | TOMBSTONE | EXPIRY)) != 0)
        return false;
    p = varint_load(p, end, &len);
    if (p == NULL || len > LIMIT_KEY || len + 16 > (size_t)(end - p))
        return false;
    *key = slice_of(p, len);
    p += len;
    s->flags = mark & TOMBSTONE ? SIBLING_TOMBSTONE : 0;
    s->dot.vnode = load_le64(p);
    p = varint_load(p + 8, end, &s->dot.n);
    if (p == NULL || end - p < 8)
        return false;
    s->time = load_le64(p);
    p += 8;
    s->expiry_ms = 0;
    if (mark & EXPIRY)
        p = varint_load(p, end, &s->expiry_ms);
    if (p == NULL)
        return false;
    s->value = slice_of(p, (size_t)(end - p));
    return true;
}

int object_unpack(struct object *o, struct slice packed, uint8_t *room)
{
    struct causal seen;
    struct object_front front = {.causal = &seen, .sibling_count = 1};
    struct sibling s;
    uint8_t *p;

    if (!object_is_packed(packed) || packed.len > OBJECT_PACK_MAX || !split(packed, &front.key, &s))
        return -ERR_CORRUPT;
    seen.vector_count = 1;
    seen.cloud_count = 0;
    seen.vector[0] = s.dot;
    if (object_bound(&front, OBJECT_SIBLING_MAX + s.value.len) > OBJECT_PACK_ROOM)
        return -ERR_CORRUPT;
    p = object_encode_sibling(object_encode_front(room, &front), &s);
    if ((size_t)(p - room) > OBJECT_PACK_MAX)
        return -ERR_CORRUPT;
    object_encode_length(room, p);
    memcpy(room + OBJECT_CHECKSUM_AT, packed.data + 1, CHECKSUM);
    return object_open(o, slice_of(room, (size_t)(p - room)));
}
