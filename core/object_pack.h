/* A shorter form of the commonest object, for rows on disk: one value or tombstone that supersedes all
 * that its context has seen, which is a single vnode's writes up to its own dot. Everything that the
 * full form says twice or that is nothing is left out; the full form is made anew, to the byte, when a
 * row is read, and its checksum, which is kept, then verifies it. Pure.
 *
 *   offset  size  field
 *   0       1     0xA0 plus 1 = tombstone, 2 = expiry follows; tells it from a full form, which begins
 *                 with its format version
 *   1       8     checksum of the full form
 *   9       ...   varint key length, key, u64 vnode id, varint n, u64 time, varint expiry (flag 2),
 *                 value up to the end */
#ifndef CLOCKWISE_CORE_OBJECT_PACK_H
#define CLOCKWISE_CORE_OBJECT_PACK_H

#include "core/object.h"

/* Full forms longer than this are not packed: little is won, and a copy is made on every read. */
#define OBJECT_PACK_MAX 1024
/* Room in which a full form is made: bounds of its fields are taken generously meanwhile. */
#define OBJECT_PACK_ROOM (OBJECT_PACK_MAX + 256)

/* Write the short form of o to out, where OBJECT_PACK_MAX bytes are free. Returns its length, always
 * less than that of the full form, or 0 if this object has none. */
size_t object_pack(const struct object *o, uint8_t *out);

static inline bool object_is_packed(struct slice row)
{
    return row.len > 0 && (row.data[0] & 0xF0) == 0xA0;
}

/* Make the full form in `room` (OBJECT_PACK_ROOM bytes) and open it into o. -ERR_CORRUPT or
 * -ERR_VERSION; o then has no meaning. */
int object_unpack(struct object *o, struct slice packed, uint8_t *room);

#endif
