/* base64url without padding (RFC 4648, sections 3.2 and 5). Pure. */
#ifndef CLOCKWISE_BASE_BASE64URL_H
#define CLOCKWISE_BASE_BASE64URL_H

#include <stddef.h>
#include <stdint.h>

/* Characters that len bytes become. */
static inline size_t base64url_encoded_size(size_t len)
{
    return len / 3 * 4 + (len % 3 == 0 ? 0 : len % 3 + 1);
}

/* Bytes that len characters become at most. */
static inline size_t base64url_decoded_size(size_t len)
{
    return len / 4 * 3 + (len % 4 == 0 ? 0 : len % 4 - 1);
}

/* Write base64url_encoded_size(len) characters, no final 0; returns that number. */
size_t base64url_encode(const void *data, size_t len, char *out);

/* Write base64url_decoded_size(len) bytes and return that number, or -1 (out is then undefined) for
 * anything that base64url_encode() does not produce: foreign characters, padding, an impossible
 * length, spare bits that are not zero. */
long base64url_decode(const void *text, size_t len, uint8_t *out);

#endif
