/* The reply side of the Redis protocol, version 2 and 3: writers that append to a buffer. In RESP2 a
 * map is a flat array, a set an array, a double, a big number and a verbatim string are bulk
 * strings, a boolean is 1 or 0. Source: redis.io, "Redis serialization protocol specification". */
#ifndef CLOCKWISE_WORKERS_RESP_REPLY_H
#define CLOCKWISE_WORKERS_RESP_REPLY_H

#include "base/buf.h"

/* Where replies go. failed: there was no memory and something is missing; the connection must be
 * closed. The buffer is owned. */
struct resp_out {
    struct buf buf;
    uint8_t protocol; /* 2 or 3 */
    bool failed;
};

void resp_init(struct resp_out *out);
void resp_free(struct resp_out *out);

/* Bytes as they are, already in the protocol. */
void resp_raw(struct resp_out *out, const void *data, size_t len);

/* A simple string; text has no line ends. */
void resp_simple(struct resp_out *out, const char *text);
void resp_ok(struct resp_out *out);

/* An error: "-" text. Line ends in the text become spaces, as in Redis. */
void resp_error(struct resp_out *out, const char *text);
void resp_errorf(struct resp_out *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void resp_integer(struct resp_out *out, int64_t n);
void resp_bulk(struct resp_out *out, struct slice s);
void resp_text(struct resp_out *out, const char *text); /* a bulk string */
void resp_null(struct resp_out *out);
void resp_null_array(struct resp_out *out);
void resp_bool(struct resp_out *out, bool value);
void resp_double(struct resp_out *out, double value);

/* Verbatim text: format is three letters, "txt" or "mkd". */
void resp_verbatim(struct resp_out *out, const char *format, struct slice s);

/* Text that is put together in a buffer of its own before its length is known: printf into it, then
 * reply it as verbatim text; or elements collected before their number is known: then append them.
 * Both free what they take from. */
void resp_printf(struct resp_out *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void resp_take_text(struct resp_out *out, struct resp_out *text);
void resp_take(struct resp_out *out, struct resp_out *elements);

/* Headers: the elements follow. A map has `pairs` keys, each followed by its value. */
void resp_array(struct resp_out *out, size_t count);
void resp_map(struct resp_out *out, size_t pairs);
void resp_set(struct resp_out *out, size_t count);

#endif
