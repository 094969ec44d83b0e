/* Strings in the format of Redis's DUMP. Runs in workers; pure. */
#include "workers/rdb_string.h"

#include "base/err.h"
#include "core/limits.h"

#include <stdio.h>

#define FOOTER     10 /* version and checksum */
#define TYPE_BYTES 1
#define TYPE       0 /* RDB's number for strings */

/* --- checksum --- */

#define POLYNOMIAL 0x95ac9329ac4bc9b5ull /* 0xad93d23594c935a9, reflected */

uint64_t rdb_crc64(struct slice bytes)
{
    static uint64_t table[256];
    static bool ready;
    uint64_t crc = 0;

    for (unsigned byte = 0; !ready && byte < 256; byte++) {
        uint64_t c = byte;

        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
        table[byte] = c;
    }
    ready = true;
    for (size_t i = 0; i < bytes.len; i++)
        crc = table[(crc ^ bytes.data[i]) & 0xff] ^ crc >> 8;
    return crc;
}

static uint64_t little(const uint8_t *at, int bytes)
{
    uint64_t n = 0;

    for (int i = bytes; i > 0; i--)
        n = n << 8 | at[i - 1];
    return n;
}

/* --- writing --- */

static int write_length(struct buf *out, size_t len)
{
    uint8_t head[5];
    size_t size = 1;

    if (len < 64) {
        head[0] = (uint8_t)len;
    } else if (len < 16384) {
        head[0] = (uint8_t)(0x40 | len >> 8);
        head[1] = (uint8_t)len;
        size = 2;
    } else {
        head[0] = 0x80;
        for (int i = 0; i < 4; i++)
            head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
        size = 5;
    }
    return buf_append(out, head, size);
}

int rdb_string_write(struct buf *out, struct slice value)
{
    size_t start = buf_len(out);
    uint8_t type = TYPE, version[2] = {RDB_VERSION, 0}, sum[8];
    int rc = buf_append(out, &type, TYPE_BYTES);

    rc = rc != 0 ? rc : write_length(out, value.len);
    rc = rc != 0 ? rc : buf_append(out, value.data, value.len);
    rc = rc != 0 ? rc : buf_append(out, version, sizeof version);
    if (rc != 0)
        return rc;
    uint64_t crc = rdb_crc64(slice_of(buf_head(out) + start, buf_len(out) - start));
    for (int i = 0; i < 8; i++)
        sum[i] = (uint8_t)(crc >> 8 * i);
    return buf_append(out, sum, sizeof sum);
}

/* --- reading --- */

bool rdb_string_intact(struct slice p)
{
    if (p.len < FOOTER)
        return false;
    const uint8_t *footer = p.data + p.len - FOOTER;
    uint64_t sum = little(footer + 2, 8);

    return little(footer, 2) <= RDB_VERSION_NEWEST &&
           (sum == 0 || sum == rdb_crc64(slice_of(p.data, p.len - 8)));
}

/* A length, or with *special set the number of an encoding. */
static int read_length(struct slice *p, uint64_t *len, bool *special)
{
    static const uint8_t sizes[] = {1, 2, 5, 1};
    uint8_t kind = p->len > 0 ? p->data[0] >> 6 : 0;
    size_t size = p->len > 0 && p->data[0] == 0x81 ? 9 : sizes[kind];

    if (p->len < size || (kind == 2 && p->data[0] != 0x80 && p->data[0] != 0x81))
        return -ERR_FORMAT;
    *special = kind == 3;
    *len = p->data[0] & 0x3f;
    if (kind == 2)
        *len = 0;
    for (size_t i = 1; i < size; i++)
        *len = *len << 8 | p->data[i];
    *p = slice_of(p->data + size, p->len - size);
    return 0;
}

static int read_integer(struct slice *p, int bytes, struct buf *out)
{
    int64_t n;

    if (p->len < (size_t)bytes)
        return -ERR_FORMAT;
    uint64_t raw = little(p->data, bytes);
    n = bytes == 1 ? (int8_t)raw : bytes == 2 ? (int16_t)raw : (int32_t)raw;
    *p = slice_of(p->data + bytes, p->len - (size_t)bytes);
    return buf_printf(out, "%lld", (long long)n);
}

/* LZF: literal runs and references to what was written before. */
static int unpack(struct slice in, uint8_t *out, size_t size)
{
    size_t at = 0, i = 0;

    while (i < in.len) {
        size_t control = in.data[i++];

        if (control < 32) {
            size_t run = control + 1;
            if (run > in.len - i || run > size - at)
                return -ERR_FORMAT;
            memcpy(out + at, in.data + i, run);
            i += run;
            at += run;
            continue;
        }
        size_t len = control >> 5, back = (control & 31) << 8;
        if (len == 7) {
            if (i == in.len)
                return -ERR_FORMAT;
            len += in.data[i++];
        }
        if (i == in.len)
            return -ERR_FORMAT;
        back += in.data[i++] + (size_t)1;
        len += 2;
        if (back > at || len > size - at)
            return -ERR_FORMAT;
        for (; len > 0; len--, at++) /* the two may overlap */
            out[at] = out[at - back];
    }
    return at == size ? 0 : -ERR_FORMAT;
}

static int read_packed(struct slice *p, struct buf *out)
{
    uint64_t packed, size;
    bool special;
    int rc = read_length(p, &packed, &special);

    if (rc == 0 && !special)
        rc = read_length(p, &size, &special);
    if (rc != 0 || special || packed > p->len)
        return -ERR_FORMAT;
    if (size > LIMIT_VALUE)
        return -ERR_LIMIT;
    uint8_t *to = buf_reserve(out, size > 0 ? size : 1);
    if (to == NULL)
        return -ERR_NOMEM;
    rc = unpack(slice_of(p->data, packed), to, size);
    if (rc == 0)
        buf_filled(out, size);
    *p = slice_of(p->data + packed, p->len - packed);
    return rc;
}

int rdb_string_read(struct slice payload, struct buf *out)
{
    struct slice p = slice_of(payload.data, payload.len - FOOTER);
    uint64_t len;
    bool special;
    int rc;

    if (p.len == 0)
        return -ERR_FORMAT;
    if (p.data[0] != TYPE)
        return -ERR_VERSION;
    p = slice_of(p.data + 1, p.len - 1);
    rc = read_length(&p, &len, &special);
    if (rc != 0)
        return rc;
    if (special && len <= 2) {
        rc = read_integer(&p, 1 << len, out);
    } else if (special && len == 3) {
        rc = read_packed(&p, out);
    } else if (special || len > p.len) {
        rc = -ERR_FORMAT;
    } else if (len > LIMIT_VALUE) {
        rc = -ERR_LIMIT;
    } else {
        rc = buf_append(out, p.data, len);
        p = slice_of(p.data + len, p.len - len);
    }
    return rc != 0 ? rc : p.len == 0 ? 0 : -ERR_FORMAT;
}
