/* What is stored under one position: encoded objects back to back, nearly always one. On disk a bucket
 * of one plain object is packed (core/object_pack.h). Two keys with one position are told apart by
 * comparing keys in full. Every object is verified before it is believed. Pure. */
#ifndef CLOCKWISE_STORE_BUCKET_H
#define CLOCKWISE_STORE_BUCKET_H

#include "base/buf.h"
#include "core/object_pack.h"

/* What reads buckets: the object that was read last, which borrows from the bucket or from `room`. */
struct bucket_reader {
    struct object object;
    uint8_t room[OBJECT_PACK_ROOM];
};

/* The next object of a bucket, packed or not, opened into r: start with *at = 0. 1, 0 at the end,
 * -ERR_CORRUPT or -ERR_VERSION for one that cannot be read (nothing after it can be). */
int bucket_next(struct slice bucket, size_t *at, struct bucket_reader *r);

/* The object of a key, opened into r. -ERR_NOTFOUND, -ERR_CORRUPT, -ERR_VERSION. */
int bucket_find(struct slice bucket, struct slice key, struct bucket_reader *r);

/* The bucket as it should lie on disk: itself, or packed into r->room. r holds the last object that
 * bucket_next() found in it. */
struct slice bucket_pack(struct slice bucket, struct bucket_reader *r);

/* In a write buffer, an object of which nothing is known says that the row of its key is to be removed:
 * no siblings, no context, which no real object is. */
int bucket_void(struct slice key, struct buf *out);
static inline bool bucket_is_void(struct slice object, struct slice key)
{
    return object.len == (size_t)(key.data - object.data) + key.len + 4;
}

/* Append the bucket to out with the object of `key` replaced by `object` or added. `scratch` is
 * used for reading. 0 or an error; on error out is as before. */
int bucket_replace(struct slice bucket, struct slice key, struct slice object,
                   struct bucket_reader *scratch, struct buf *out);

#endif
