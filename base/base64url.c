/* base64url. Runs in every process. */
#include "base/base64url.h"

static const char digits[64] = {
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
    'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
    'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
    'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-', '_',
};

size_t base64url_encode(const void *data, size_t len, char *out)
{
    const uint8_t *p = data;
    char *start = out;

    for (; len >= 3; len -= 3, p += 3) {
        uint32_t x = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

        *out++ = digits[x >> 18];
        *out++ = digits[x >> 12 & 63];
        *out++ = digits[x >> 6 & 63];
        *out++ = digits[x & 63];
    }
    if (len > 0) {
        uint32_t x = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);

        *out++ = digits[x >> 18];
        *out++ = digits[x >> 12 & 63];
        if (len == 2)
            *out++ = digits[x >> 6 & 63];
    }
    return (size_t)(out - start);
}

static int digit_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

long base64url_decode(const void *text, size_t len, uint8_t *out)
{
    const uint8_t *p = text;
    uint8_t *start = out;
    uint32_t bits = 0;
    unsigned have = 0; /* bits not yet written out */

    if (len % 4 == 1)
        return -1;
    for (size_t i = 0; i < len; i++) {
        int value = digit_value(p[i]);

        if (value < 0)
            return -1;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(bits >> have);
            bits &= (1u << have) - 1;
        }
    }
    return bits != 0 ? -1 : (long)(out - start);
}
