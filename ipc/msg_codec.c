/* The only file that includes msgpack.h. Runs in every process; must not decode a byte that
 * ipc/msg_check.c has not walked.
 *
 * One generic encoder and decoder serve all tables: an X-macro turns each message into a shape, a
 * string with one letter for each field in order, from which the field's place in the structure
 * follows by the rules of alignment that all our compilers share (asserted at each use). */
#include "ipc/msg_codec.h"

#include "base/check.h"
#include "base/err.h"
#include "core/limits.h"
#include "ipc/msg_check.h"

#include <msgpack.h>
#include <stdlib.h>

struct shape {
    const char
        *fields;   /* '8', '4', '1': unsigned number of so many bytes; 'b': bytes; NULL: none */
    uint16_t size; /* of the structure */
};

static const struct shape msg_shapes[] = {
#define SHAPES         "core/msg.def"
#define SHAPE_OF(name) msg_##name
#include "ipc/msg_shape.def"
};

static const struct shape control_shapes[] = {
#define SHAPES         "ipc/control.def"
#define SHAPE_OF(name) control_##name
#include "ipc/msg_shape.def"
};

static const struct shape gossip_shapes[] = {
#define SHAPES         "core/gossip.def"
#define SHAPE_OF(name) gossip_##name
#include "ipc/msg_shape.def"
};

static const struct shape repair_shapes[] = {
#define SHAPES         "core/repair.def"
#define SHAPE_OF(name) repair_##name
#include "ipc/msg_shape.def"
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

struct msg_codec {
    msgpack_zone zone;
};

struct msg_codec *msg_codec_new(void)
{
    struct msg_codec *c = malloc(sizeof *c);

    if (c == NULL || !msgpack_zone_init(&c->zone, MSGPACK_ZONE_CHUNK_SIZE))
        check_panic("no memory for a message decoder");
    return c;
}

void msg_codec_free(struct msg_codec *c)
{
    if (c == NULL)
        return;
    msgpack_zone_destroy(&c->zone);
    free(c);
}

static size_t field_size(char type)
{
    return type == 'b' ? sizeof(struct slice) : (size_t)(type - '0');
}

/* The place of the next field of this type at or after offset. */
static size_t field_at(char type, size_t offset)
{
    size_t align = type == 'b' ? _Alignof(struct slice) : field_size(type);

    return (offset + align - 1) / align * align;
}

static bool shape_fits(const struct shape *shape, size_t end)
{
    return end <= shape->size && shape->size - end < sizeof(uint64_t);
}

static uint64_t load_number(const uint8_t *from, char type)
{
    uint32_t u32;
    uint64_t u64;

    switch (type) {
    case '1':
        return *from;
    case '4':
        memcpy(&u32, from, sizeof u32);
        return u32;
    default:
        memcpy(&u64, from, sizeof u64);
        return u64;
    }
}

static int store_number(uint8_t *to, char type, uint64_t value)
{
    uint32_t u32 = (uint32_t)value;

    if (type == '8') {
        memcpy(to, &value, sizeof value);
    } else if (type == '4' && value <= UINT32_MAX) {
        memcpy(to, &u32, sizeof u32);
    } else if (type == '1' && value <= UINT8_MAX) {
        *to = (uint8_t)value;
    } else {
        return -ERR_FORMAT;
    }
    return 0;
}

static size_t bound_of(const struct shape *shape, const uint8_t *body)
{
    size_t bound = 3 + 5, offset = 0; /* array head, message number */

    for (const char *f = shape->fields; *f != 0; f++) {
        offset = field_at(*f, offset);
        bound += *f == 'b' ? 5 + ((const struct slice *)(const void *)(body + offset))->len
                           : field_size(*f) + 1;
        offset += field_size(*f);
    }
    ASSERT(shape_fits(shape, offset));
    return bound;
}

/* The room is reserved beforehand, so the writer only moves a cursor. */
static int write_out(void *cursor, const char *data, size_t len)
{
    uint8_t **at = cursor;

    memcpy(*at, data, len);
    *at += len;
    return 0;
}

static int encode(const struct shape *shape, uint32_t number, const void *fields, struct buf *out)
{
    const uint8_t *body = fields;
    size_t before = buf_len(out), bound = bound_of(shape, body), offset = 0;
    msgpack_packer packer;
    int failed = 0;

    uint8_t *start = buf_reserve(out, bound), *at = start;

    if (start == NULL)
        return out->limit != 0 && bound > out->limit - before ? -ERR_LIMIT : -ERR_NOMEM;
    msgpack_packer_init(&packer, &at, write_out);
    failed |= msgpack_pack_array(&packer, strlen(shape->fields) + 1);
    failed |= msgpack_pack_uint32(&packer, number);
    for (const char *f = shape->fields; *f != 0; f++) {
        offset = field_at(*f, offset);
        if (*f == 'b') {
            const struct slice *s = (const struct slice *)(const void *)(body + offset);

            ASSERT(s->len <= UINT32_MAX);
            failed |= msgpack_pack_bin(&packer, s->len);
            failed |= s->len == 0 ? 0 : msgpack_pack_bin_body(&packer, s->data, s->len);
        } else {
            failed |= msgpack_pack_uint64(&packer, load_number(body + offset, *f));
        }
        offset += field_size(*f);
    }
    ASSERT(!failed && (size_t)(at - start) <= bound);
    buf_filled(out, (size_t)(at - start));
    return 0;
}

static int decode_fields(const struct shape *shape, const msgpack_object_array *array, void *fields)
{
    uint8_t *body = fields;
    size_t offset = 0;
    uint32_t i = 1;

    memset(body, 0, shape->size);
    for (const char *f = shape->fields; *f != 0 && i < array->size; f++, i++) {
        const msgpack_object *o = &array->ptr[i];

        offset = field_at(*f, offset);
        if (*f == 'b') {
            if (o->type != MSGPACK_OBJECT_BIN)
                return -ERR_FORMAT;
            *(struct slice *)(void *)(body + offset) = slice_of(o->via.bin.ptr, o->via.bin.size);
        } else if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
                   store_number(body + offset, *f, o->via.u64) != 0) {
            return -ERR_FORMAT;
        }
        offset += field_size(*f);
    }
    return 0;
}

/* Decode the first value of *in as a message of a table and move *in past it. */
static int decode(struct msg_codec *c, const struct shape *table, size_t table_size,
                  struct slice *in, uint32_t *number, void *fields)
{
    size_t len = msg_check_value(*in), at = 0;
    msgpack_object object;

    if (len == 0)
        return -ERR_FORMAT;
    msgpack_zone_clear(&c->zone);
    if (msgpack_unpack((const char *)in->data, len, &at, &c->zone, &object) !=
            MSGPACK_UNPACK_SUCCESS ||
        at != len)
        return -ERR_FORMAT;
    if (object.type != MSGPACK_OBJECT_ARRAY || object.via.array.size == 0 ||
        object.via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return -ERR_FORMAT;
    uint64_t n = object.via.array.ptr[0].via.u64;
    if (n >= table_size || table[n].fields == NULL)
        return -ERR_FORMAT;
    *number = (uint32_t)n;
    in->data += len;
    in->len -= len;
    return decode_fields(&table[n], &object.via.array, fields);
}

static const struct shape *shape_of(const struct shape *table, size_t size, unsigned kind)
{
    ASSERT(kind < size && table[kind].fields != NULL);
    return &table[kind];
}

int msg_codec_encode(const struct msg *m, struct buf *out)
{
    return encode(shape_of(msg_shapes, COUNT(msg_shapes), m->kind), m->kind, &m->u, out);
}

int msg_codec_encode_control(const struct control *m, struct buf *out)
{
    return encode(shape_of(control_shapes, COUNT(control_shapes), m->kind), m->kind, &m->u, out);
}

int msg_codec_encode_gossip(const struct gossip *m, struct buf *out)
{
    return encode(shape_of(gossip_shapes, COUNT(gossip_shapes), m->kind), m->kind, &m->u, out);
}

int msg_codec_encode_repair(const struct repair *m, struct buf *out)
{
    return encode(shape_of(repair_shapes, COUNT(repair_shapes), m->kind), m->kind, &m->u, out);
}

size_t msg_codec_bound_repair(const struct repair *m)
{
    return bound_of(shape_of(repair_shapes, COUNT(repair_shapes), m->kind), (const uint8_t *)&m->u);
}

size_t msg_codec_bound(const struct msg *m)
{
    return bound_of(shape_of(msg_shapes, COUNT(msg_shapes), m->kind), (const uint8_t *)&m->u);
}

int msg_codec_decode(struct msg_codec *c, struct slice in, struct msg *out)
{
    uint32_t kind;
    int err = decode(c, msg_shapes, COUNT(msg_shapes), &in, &kind, &out->u);

    if (err != 0 || in.len != 0)
        return -ERR_FORMAT;
    out->kind = kind;
    return 0;
}

int msg_codec_decode_control(struct msg_codec *c, struct slice in, struct control *out)
{
    uint32_t kind;
    int err = decode(c, control_shapes, COUNT(control_shapes), &in, &kind, &out->u);

    if (err != 0 || in.len != 0)
        return -ERR_FORMAT;
    out->kind = kind;
    return 0;
}

int msg_codec_decode_repair(struct msg_codec *c, struct slice in, struct repair *out)
{
    uint32_t kind;
    int err = decode(c, repair_shapes, COUNT(repair_shapes), &in, &kind, &out->u);

    if (err != 0 || in.len != 0)
        return -ERR_FORMAT;
    out->kind = kind;
    return 0;
}

int msg_codec_next_gossip(struct msg_codec *c, struct slice *in, struct gossip *out)
{
    uint32_t kind;
    int err = decode(c, gossip_shapes, COUNT(gossip_shapes), in, &kind, &out->u);

    if (err != 0)
        return err;
    out->kind = kind;
    return 0;
}
