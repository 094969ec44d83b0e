/* Little-endian integers and LEB128 numbers in byte strings. Pure, inline: these are on the path of
 * every record.
 *
 * A varint is unsigned LEB128 of minimal length, at most VARINT_MAX bytes: one number has exactly
 * one encoding, so that equal values have equal bytes. */
#ifndef CLOCKWISE_BASE_VARINT_H
#define CLOCKWISE_BASE_VARINT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VARINT_MAX 10

static inline uint32_t load_le32(const uint8_t *p)
{
    uint32_t x;

    memcpy(&x, p, sizeof x);
    return le32toh(x);
}

static inline uint64_t load_le64(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

static inline uint8_t *store_le32(uint8_t *p, uint32_t x)
{
    x = htole32(x);
    memcpy(p, &x, sizeof x);
    return p + sizeof x;
}

static inline uint8_t *store_le64(uint8_t *p, uint64_t x)
{
    x = htole64(x);
    memcpy(p, &x, sizeof x);
    return p + sizeof x;
}

/* Bytes that varint_store() will write. */
static inline size_t varint_size(uint64_t x)
{
    return (size_t)(70 - __builtin_clzll(x | 1)) / 7;
}

/* Write x at p, where VARINT_MAX bytes are free; returns one past the last byte written. */
static inline uint8_t *varint_store(uint8_t *p, uint64_t x)
{
    while (x >= 0x80) {
        *p++ = (uint8_t)(x | 0x80);
        x >>= 7;
    }
    *p++ = (uint8_t)x;
    return p;
}

/* Read a number from [p, end); returns one past it, or NULL if it is cut off, longer than it need
 * be or does not fit 64 bits. *x is then undefined. */
static inline const uint8_t *varint_load(const uint8_t *p, const uint8_t *end, uint64_t *x)
{
    uint64_t value = 0;

    for (unsigned shift = 0; p < end && shift < 7 * VARINT_MAX; shift += 7) {
        uint8_t byte = *p++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if ((byte == 0 && shift > 0) || (shift == 63 && byte > 1))
                return NULL;
            *x = value;
            return p;
        }
    }
    return NULL;
}

#endif
