/* Lists of byte strings in one piece, as messages carry them: each as its length (u32, little-endian)
 * and its bytes. Used by workers. */
#ifndef CLOCKWISE_WORKERS_PACKED_H
#define CLOCKWISE_WORKERS_PACKED_H

#include "base/buf.h"

/* Append a string. -ERR_NOMEM, -ERR_LIMIT as buf_append(). */
static inline int packed_add(struct buf *list, struct slice s)
{
    uint32_t n = (uint32_t)s.len;
    uint8_t len[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    int rc = buf_append(list, len, sizeof len);

    return rc != 0 ? rc : buf_append(list, s.data, s.len);
}

/* Take the first string off a list; false at its end, and where the list is malformed. */
static inline bool packed_take(struct slice *list, struct slice *out)
{
    if (list->len < 4)
        return false;
    const uint8_t *d = list->data;
    uint32_t len = d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 | (uint32_t)d[3] << 24;

    if (len > list->len - 4)
        return false;
    *out = slice_of(d + 4, len);
    *list = slice_of(d + 4 + len, list->len - 4 - len);
    return true;
}

#endif
