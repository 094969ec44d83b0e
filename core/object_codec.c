/* The encoded form of an object: written, verified, walked. Runs in workers, antientropyd, tools
 * and the simulator. Nothing else knows the layout in object.h. */
#include "core/object_codec.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/varint.h"

size_t object_bound(const struct object_front *front, size_t sibling_bytes)
{
    return OBJECT_HEAD + 3 * OBJECT_COUNT_MAX + front->key.len + causal_bound(front->causal) +
           (size_t)front->id_count * OBJECT_ID_MAX + sibling_bytes;
}

static uint64_t checksum(const uint8_t *base, size_t len)
{
    return hash64_seed(base + OBJECT_HEAD, len - OBJECT_HEAD, load_le64(base));
}

int object_reserve(struct buf *out, size_t bound, uint8_t **base)
{
    if (bound > LIMIT_OBJECT)
        return -ERR_LIMIT;
    *base = buf_reserve(out, bound);
    if (*base != NULL)
        return 0;
    return out->limit != 0 && bound > out->limit - buf_len(out) ? -ERR_LIMIT : -ERR_NOMEM;
}

uint8_t *object_encode_front(uint8_t *base, const struct object_front *front)
{
    uint8_t *p = base;

    *p++ = OBJECT_FORMAT;
    *p++ = OBJECT_TYPE_SIBLINGS;
    *p++ = 0;
    *p++ = 0;
    p = base + OBJECT_HEAD;
    p = varint_store(p, front->key.len);
    if (front->key.len > 0)
        memcpy(p, front->key.data, front->key.len);
    p = causal_encode(front->causal, p + front->key.len);
    p = varint_store(p, front->id_count);
    for (uint32_t i = 0; i < front->id_count; i++) {
        p = store_le64(p, front->ids[i].id);
        p = store_le64(p, front->ids[i].dot.vnode);
        p = varint_store(p, front->ids[i].dot.n);
        p = store_le64(p, front->ids[i].time);
    }
    return varint_store(p, front->sibling_count);
}

uint8_t *object_encode_sibling(uint8_t *p, const struct sibling *s)
{
    *p++ = s->flags;
    p = store_le64(p, s->dot.vnode);
    p = varint_store(p, s->dot.n);
    p = store_le64(p, s->time);
    p = varint_store(p, s->expiry_ms);
    p = varint_store(p, s->value.len);
    if (s->value.len > 0)
        memcpy(p, s->value.data, s->value.len);
    return p + s->value.len;
}

void object_encode_length(uint8_t *base, const uint8_t *end)
{
    size_t len = (size_t)(end - base);

    ASSERT(len > OBJECT_HEAD && len <= LIMIT_OBJECT);
    store_le32(base + 4, (uint32_t)len);
}

void object_encode_finish(uint8_t *base, const uint8_t *end)
{
    object_encode_length(base, end);
    store_le64(base + OBJECT_CHECKSUM_AT, checksum(base, (size_t)(end - base)));
}

/* Read one sibling from [p, end); returns one past it, or NULL if a bound is broken. */
static const uint8_t *decode_sibling(struct sibling *s, const uint8_t *p, const uint8_t *end)
{
    uint64_t len;

    if (end - p < 1 + 8)
        return NULL;
    s->flags = p[0];
    s->dot.vnode = load_le64(p + 1);
    p = varint_load(p + 9, end, &s->dot.n);
    if (p == NULL || end - p < 8)
        return NULL;
    s->time = load_le64(p);
    p = varint_load(p + 8, end, &s->expiry_ms);
    if (p == NULL)
        return NULL;
    p = varint_load(p, end, &len);
    if (p == NULL || len > LIMIT_VALUE || len > (size_t)(end - p))
        return NULL;
    s->value = slice_of(p, len);
    return p + len;
}

static bool sibling_valid(const struct sibling *s)
{
    return dot_valid(s->dot) && (s->flags & ~SIBLING_TOMBSTONE) == 0 &&
           ((s->flags & SIBLING_TOMBSTONE) == 0 || s->value.len == 0);
}

static const uint8_t *decode_key(struct slice *key, const uint8_t *p, const uint8_t *end)
{
    uint64_t len;

    p = varint_load(p, end, &len);
    if (p == NULL || len > LIMIT_KEY || len > (size_t)(end - p))
        return NULL;
    *key = slice_of(p, len);
    return p + len;
}

static const uint8_t *decode_ids(struct object *o, const uint8_t *p, const uint8_t *end)
{
    uint64_t count;

    p = varint_load(p, end, &count);
    if (p == NULL || count > LIMIT_IDS)
        return NULL;
    o->id_count = (uint32_t)count;
    for (uint32_t i = 0; i < o->id_count; i++) {
        struct request_id *r = &o->ids[i];

        if (end - p < 16)
            return NULL;
        r->id = load_le64(p);
        r->dot.vnode = load_le64(p + 8);
        p = varint_load(p + 16, end, &r->dot.n);
        if (p == NULL || end - p < 8)
            return NULL;
        r->time = load_le64(p);
        p += 8;
        if (r->id == 0 || !dot_valid(r->dot) || (i > 0 && r[-1].id >= r->id))
            return NULL;
    }
    return p;
}

/* Verify that siblings fill the rest, in order, and note the newest one's time: what the object covers
 * besides them was superseded by them, and is older. */
static bool check_siblings(struct object *o, const uint8_t *p, const uint8_t *end)
{
    struct dot last = {0, 0};

    for (uint32_t i = 0; i < o->sibling_count; i++) {
        struct sibling s;

        p = decode_sibling(&s, p, end);
        if (p == NULL || !sibling_valid(&s) || dot_order(last, s.dot) >= 0)
            return false;
        last = s.dot;
        if (s.time > o->causal.time)
            o->causal.time = s.time;
    }
    return p == end;
}

static bool decode(struct object *o)
{
    const uint8_t *base = o->encoded.data;
    const uint8_t *end = base + o->encoded.len;
    const uint8_t *p = decode_key(&o->key, base + OBJECT_HEAD, end);
    uint64_t count;

    if (p == NULL)
        return false;
    o->causal_at = (size_t)(p - base);
    p = causal_decode(&o->causal, p, end);
    if (p == NULL)
        return false;
    o->ids_at = (size_t)(p - base);
    p = decode_ids(o, p, end);
    if (p == NULL)
        return false;
    p = varint_load(p, end, &count);
    if (p == NULL || count > LIMIT_SIBLINGS_MERGED)
        return false;
    o->siblings_at = (size_t)(p - base);
    o->sibling_count = (uint32_t)count;
    return check_siblings(o, p, end);
}

int object_open(struct object *o, struct slice encoded)
{
    const uint8_t *base = encoded.data;

    if (encoded.len <= OBJECT_HEAD || encoded.len > LIMIT_OBJECT ||
        load_le32(base + 4) != encoded.len ||
        load_le64(base + OBJECT_CHECKSUM_AT) != checksum(base, encoded.len))
        return -ERR_CORRUPT;
    if (base[0] != OBJECT_FORMAT || base[1] != OBJECT_TYPE_SIBLINGS || base[2] != 0 || base[3] != 0)
        return -ERR_VERSION;
    o->encoded = encoded;
    return decode(o) ? 0 : -ERR_CORRUPT;
}

void object_empty(struct object *o, struct slice key)
{
    o->encoded = slice_of(NULL, 0);
    o->key = key;
    causal_clear(&o->causal);
    o->id_count = 0;
    o->sibling_count = 0;
    o->causal_at = o->ids_at = o->siblings_at = 0;
}

int object_peek_key(struct slice encoded, struct slice *key)
{
    if (encoded.len <= OBJECT_HEAD)
        return -ERR_CORRUPT;
    if (decode_key(key, encoded.data + OBJECT_HEAD, encoded.data + encoded.len) == NULL)
        return -ERR_CORRUPT;
    return 0;
}

bool object_next(const struct object *o, size_t *cursor, struct sibling *out)
{
    size_t at = *cursor == 0 ? o->siblings_at : *cursor;

    if (at == o->encoded.len)
        return false;
    ASSERT(at >= o->siblings_at && at < o->encoded.len);
    const uint8_t *base = o->encoded.data;
    const uint8_t *p = decode_sibling(out, base + at, base + o->encoded.len);

    INVARIANT(p != NULL); /* object_open() has seen every sibling */
    *cursor = (size_t)(p - base);
    return true;
}

struct slice object_sibling_bytes(const struct object *o, size_t before, size_t after)
{
    size_t at = before == 0 ? o->siblings_at : before;

    ASSERT(at < after && after <= o->encoded.len);
    return slice_of(o->encoded.data + at, after - at);
}

uint64_t object_digest(const struct object *o)
{
    if (o->encoded.len == 0)
        return 0;
    uint64_t digest = hash64(o->encoded.data + o->causal_at, o->ids_at - o->causal_at);
    struct sibling s;

    for (size_t cursor = 0; object_next(o, &cursor, &s);) {
        uint8_t dot[16];

        store_le64(store_le64(dot, s.dot.vnode), s.dot.n);
        digest = hash64_seed(dot, sizeof dot, digest);
    }
    return digest;
}
