/* A growable byte buffer. Runs in every process. */
#include "base/buf.h"

#include "base/check.h"
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LARGE ((size_t)1 << 20)

void buf_init(struct buf *b, size_t limit)
{
    memset(b, 0, sizeof *b);
    b->limit = limit;
}

void buf_free(struct buf *b)
{
    free(b->data);
    b->data = NULL;
    b->start = b->end = b->capacity = 0;
}

/* The next size: large ones grow by a part only, so that little of what they take is unused. */
static size_t larger(size_t size)
{
    return size + (size < LARGE ? size : size / 4);
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
    size_t used = buf_len(b);

    ASSERT(b->start <= b->end && b->end <= b->capacity);
    if (b->limit != 0 && (len > b->limit || used > b->limit - len))
        return NULL;
    if (b->capacity - b->end >= len)
        return b->data + b->end;
    if (b->start > 0 && b->capacity - used >= len && b->start >= used) {
        memmove(b->data, b->data + b->start, used);
        b->start = 0;
        b->end = used;
        return b->data + b->end;
    }
    size_t want = b->capacity < 256 ? 256 : larger(b->capacity);
    while (want < used + len)
        want = larger(want);
    uint8_t *data = malloc(want);
    if (data == NULL)
        return NULL;
    if (used > 0)
        memcpy(data, b->data + b->start, used);
    free(b->data);
    b->data = data;
    b->start = 0;
    b->end = used;
    b->capacity = want;
    return b->data + b->end;
}

void buf_filled(struct buf *b, size_t len)
{
    ASSERT(b->capacity - b->end >= len);
    b->end += len;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return 0;
    uint8_t *p = buf_reserve(b, len);

    if (p == NULL)
        return b->limit != 0 && buf_len(b) + len > b->limit ? -ERR_LIMIT : -ERR_NOMEM;
    memcpy(p, data, len);
    b->end += len;
    return 0;
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    uint8_t *p = n < 0 ? NULL : buf_reserve(b, (size_t)n + 1);
    if (p != NULL) {
        vsnprintf((char *)p, (size_t)n + 1, format, again);
        b->end += (size_t)n;
    }
    va_end(again);
    return p == NULL ? -ERR_LIMIT : 0;
}

void buf_consume(struct buf *b, size_t len)
{
    ASSERT(len <= buf_len(b));
    b->start += len;
    if (b->start == b->end)
        b->start = b->end = 0;
}

void buf_clear(struct buf *b)
{
    b->start = b->end = 0;
}

void buf_shrink(struct buf *b, size_t keep)
{
    if (buf_len(b) == 0 && b->capacity > keep)
        buf_free(b);
}
