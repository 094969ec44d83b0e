/* A growable byte buffer with a hard limit. Consumed from the front, filled at the back. A buffer
 * set to all zero bytes is empty and valid, without limit. */
#ifndef CLOCKWISE_BASE_BUF_H
#define CLOCKWISE_BASE_BUF_H

#include "base/slice.h"

struct buf {
    uint8_t *data;   /* owned */
    size_t start;    /* first byte not yet consumed */
    size_t end;      /* one past the last byte filled */
    size_t capacity; /* bytes allocated */
    size_t limit;    /* end - start may not exceed it; 0: no limit */
};

void buf_init(struct buf *b, size_t limit);
void buf_free(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline uint8_t *buf_head(const struct buf *b)
{
    return b->data + b->start;
}

/* Make room for len more bytes and return where they go, or NULL beyond the limit or without
 * memory. Follow with buf_filled(). Invalidates earlier pointers into the buffer. */
uint8_t *buf_reserve(struct buf *b, size_t len);
void buf_filled(struct buf *b, size_t len);

/* 0, -ERR_LIMIT or -ERR_NOMEM; on error nothing was added. */
int buf_append(struct buf *b, const void *data, size_t len);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drop len bytes from the front. */
void buf_consume(struct buf *b, size_t len);
void buf_clear(struct buf *b);

/* Give memory back when an empty buffer holds more than keep bytes of it. */
void buf_shrink(struct buf *b, size_t keep);

#endif
