/* The encoded form of an object, for the files object_*.c alone: everyone else uses object.h. */
#ifndef CLOCKWISE_CORE_OBJECT_CODEC_H
#define CLOCKWISE_CORE_OBJECT_CODEC_H

#include "core/object.h"

enum {
    OBJECT_FORMAT = 1,
    OBJECT_TYPE_SIBLINGS = 1,
    OBJECT_HEAD = 16, /* bytes before the checksummed part */
    OBJECT_CHECKSUM_AT = 8,
    OBJECT_COUNT_MAX = 4,                         /* bytes of a count or of a key's length */
    OBJECT_ID_MAX = 8 + 8 + 10 + 8,               /* bytes of one remembered request */
    OBJECT_SIBLING_MAX = 1 + 8 + 10 + 8 + 10 + 10 /* bytes of one sibling before its value */
};

/* All that precedes the siblings. */
struct object_front {
    struct slice key;
    const struct causal *causal;
    const struct request_id *ids; /* sorted by id */
    uint32_t id_count;
    uint32_t sibling_count;
};

/* Upper bound of an encoded object whose encoded siblings together have sibling_bytes. */
size_t object_bound(const struct object_front *front, size_t sibling_bytes);

/* Room for an object of at most `bound` bytes at the end of out. 0, -ERR_LIMIT (LIMIT_OBJECT or
 * out's limit) or -ERR_NOMEM. */
int object_reserve(struct buf *out, size_t bound, uint8_t **base);

/* Write everything before the siblings at `base`, where object_bound() bytes are free; returns
 * where the first sibling goes. */
uint8_t *object_encode_front(uint8_t *base, const struct object_front *front);

uint8_t *object_encode_sibling(uint8_t *p, const struct sibling *s);

/* Note the length of an object that lies in [base, end). */
void object_encode_length(uint8_t *base, const uint8_t *end);
/* Complete an object that lies in [base, end): length and checksum. */
void object_encode_finish(uint8_t *base, const uint8_t *end);

/* The encoded bytes of the sibling that object_next() found between two values of its cursor. */
struct slice object_sibling_bytes(const struct object *o, size_t before, size_t after);

/* Shorten a list sorted by id to the LIMIT_IDS newest by (time, dot). */
void object_ids_forget(struct request_id *ids, uint32_t *count);

#endif
