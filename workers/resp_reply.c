/* Writers of replies. Runs in workers; touches nothing but the buffer that it is given. */
#include "workers/resp_reply.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* A type, up to 20 digits with a sign, the line end. */
#define HEADER_SIZE 24

void resp_init(struct resp_out *out)
{
    buf_init(&out->buf, 0);
    out->protocol = 2;
    out->failed = false;
}

void resp_free(struct resp_out *out)
{
    buf_free(&out->buf);
}

static uint8_t *reserve(struct resp_out *out, size_t len)
{
    struct buf *b = &out->buf;
    uint8_t *p = b->capacity - b->end >= len ? b->data + b->end : buf_reserve(b, len);

    if (p == NULL)
        out->failed = true;
    return p;
}

void resp_raw(struct resp_out *out, const void *data, size_t len)
{
    uint8_t *p = len == 0 ? NULL : reserve(out, len);

    if (p == NULL)
        return;
    memcpy(p, data, len);
    out->buf.end += len;
}

/* Write "<type><n>\r\n" at p; returns its length, at most HEADER_SIZE. */
static size_t put_header(uint8_t *p, char type, int64_t n)
{
    uint8_t digits[20];
    size_t count = 0, len = 0;
    uint64_t left = n < 0 ? -(uint64_t)n : (uint64_t)n;

    p[len++] = (uint8_t)type;
    if (n < 0)
        p[len++] = '-';
    do {
        digits[count++] = (uint8_t)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    while (count > 0)
        p[len++] = digits[--count];
    p[len++] = '\r';
    p[len++] = '\n';
    return len;
}

static void header(struct resp_out *out, char type, int64_t n)
{
    uint8_t *p = reserve(out, HEADER_SIZE);

    if (p != NULL)
        out->buf.end += put_header(p, type, n);
}

void resp_simple(struct resp_out *out, const char *text)
{
    resp_raw(out, "+", 1);
    resp_raw(out, text, strlen(text));
    resp_raw(out, "\r\n", 2);
}

void resp_ok(struct resp_out *out)
{
    resp_raw(out, "+OK\r\n", 5);
}

void resp_error(struct resp_out *out, const char *text)
{
    size_t len = strlen(text);
    uint8_t *p = reserve(out, len + 3);

    if (p == NULL)
        return;
    p[0] = '-';
    for (size_t i = 0; i < len; i++)
        p[1 + i] = text[i] == '\r' || text[i] == '\n' ? ' ' : (uint8_t)text[i];
    p[len + 1] = '\r';
    p[len + 2] = '\n';
    out->buf.end += len + 3;
}

void resp_errorf(struct resp_out *out, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    resp_error(out, text);
}

void resp_integer(struct resp_out *out, int64_t n)
{
    header(out, ':', n);
}

void resp_bulk(struct resp_out *out, struct slice s)
{
    uint8_t *p = reserve(out, HEADER_SIZE + s.len + 2);

    if (p == NULL)
        return;
    size_t len = put_header(p, '$', (int64_t)s.len);
    if (s.len > 0)
        memcpy(p + len, s.data, s.len);
    len += s.len;
    p[len++] = '\r';
    p[len++] = '\n';
    out->buf.end += len;
}

void resp_text(struct resp_out *out, const char *text)
{
    resp_bulk(out, slice_str(text));
}

void resp_null(struct resp_out *out)
{
    if (out->protocol == 3)
        resp_raw(out, "_\r\n", 3);
    else
        resp_raw(out, "$-1\r\n", 5);
}

void resp_null_array(struct resp_out *out)
{
    if (out->protocol == 3)
        resp_raw(out, "_\r\n", 3);
    else
        resp_raw(out, "*-1\r\n", 5);
}

void resp_bool(struct resp_out *out, bool value)
{
    if (out->protocol == 3)
        resp_raw(out, value ? "#t\r\n" : "#f\r\n", 4);
    else
        resp_integer(out, value);
}

void resp_double(struct resp_out *out, double value)
{
    char text[48];

    if (isinf(value))
        snprintf(text, sizeof text, "%s", value > 0 ? "inf" : "-inf");
    else if (isnan(value))
        snprintf(text, sizeof text, "nan");
    else
        snprintf(text, sizeof text, "%.17g", value);
    if (out->protocol != 3) {
        resp_text(out, text);
        return;
    }
    resp_raw(out, ",", 1);
    resp_raw(out, text, strlen(text));
    resp_raw(out, "\r\n", 2);
}

void resp_verbatim(struct resp_out *out, const char *format, struct slice s)
{
    if (out->protocol != 3) {
        resp_bulk(out, s);
        return;
    }
    header(out, '=', (int64_t)s.len + 4);
    resp_raw(out, format, 3);
    resp_raw(out, ":", 1);
    resp_raw(out, s.data, s.len);
    resp_raw(out, "\r\n", 2);
}

void resp_printf(struct resp_out *text, const char *format, ...)
{
    char stack[1024], *line = stack;
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(stack, sizeof stack, format, args);
    va_end(args);
    if (len >= (int)sizeof stack) {
        line = (char *)reserve(text, (size_t)len + 1);
        if (line != NULL) {
            vsnprintf(line, (size_t)len + 1, format, again);
            text->buf.end += (size_t)len;
        }
    } else if (len > 0) {
        resp_raw(text, line, (size_t)len);
    }
    va_end(again);
}

void resp_take_text(struct resp_out *out, struct resp_out *text)
{
    resp_verbatim(out, "txt", slice_of(buf_head(&text->buf), buf_len(&text->buf)));
    out->failed |= text->failed;
    resp_free(text);
}

void resp_take(struct resp_out *out, struct resp_out *elements)
{
    resp_raw(out, buf_head(&elements->buf), buf_len(&elements->buf));
    out->failed |= elements->failed;
    resp_free(elements);
}

void resp_array(struct resp_out *out, size_t count)
{
    header(out, '*', (int64_t)count);
}

void resp_map(struct resp_out *out, size_t pairs)
{
    if (out->protocol == 3)
        header(out, '%', (int64_t)pairs);
    else
        header(out, '*', (int64_t)pairs * 2);
}

void resp_set(struct resp_out *out, size_t count)
{
    header(out, out->protocol == 3 ? '~' : '*', (int64_t)count);
}
