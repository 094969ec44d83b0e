/* Walks msgpack bytes without decoding them. Runs in every process that reads from a socket; it must
 * not allocate, and must not trust a single declared number. */
#include "ipc/msg_check.h"

#include "core/limits.h"

/* What the head of one value declares. */
struct head {
    uint8_t count_bytes; /* bytes of a length or count that follows the first byte */
    uint8_t extra;       /* bytes besides that: fixed payload, or the type of an ext */
    uint8_t children;    /* values for each unit of the count; 0: the count is bytes of payload */
    uint32_t count;      /* the count itself when count_bytes is 0 */
    bool valid;
};

static struct head head_of(uint8_t b)
{
    static const struct head by_byte[] = {
        /* 0xc0 nil, 0xc1 reserved, false, true */
        {0, 0, 0, 0, true},
        {0, 0, 0, 0, false},
        {0, 0, 0, 0, true},
        {0, 0, 0, 0, true},
        /* 0xc4 bin 8, 16, 32 */
        {1, 0, 0, 0, true},
        {2, 0, 0, 0, true},
        {4, 0, 0, 0, true},
        /* 0xc7 ext 8, 16, 32 */
        {1, 1, 0, 0, true},
        {2, 1, 0, 0, true},
        {4, 1, 0, 0, true},
        /* 0xca float 32, 64 */
        {0, 4, 0, 0, true},
        {0, 8, 0, 0, true},
        /* 0xcc uint 8, 16, 32, 64 and int 8, 16, 32, 64 */
        {0, 1, 0, 0, true},
        {0, 2, 0, 0, true},
        {0, 4, 0, 0, true},
        {0, 8, 0, 0, true},
        {0, 1, 0, 0, true},
        {0, 2, 0, 0, true},
        {0, 4, 0, 0, true},
        {0, 8, 0, 0, true},
        /* 0xd4 fixext 1, 2, 4, 8, 16 */
        {0, 2, 0, 0, true},
        {0, 3, 0, 0, true},
        {0, 5, 0, 0, true},
        {0, 9, 0, 0, true},
        {0, 17, 0, 0, true},
        /* 0xd9 str 8, 16, 32 */
        {1, 0, 0, 0, true},
        {2, 0, 0, 0, true},
        {4, 0, 0, 0, true},
        /* 0xdc array 16, 32, map 16, 32 */
        {2, 0, 1, 0, true},
        {4, 0, 1, 0, true},
        {2, 0, 2, 0, true},
        {4, 0, 2, 0, true},
    };

    if (b < 0x80 || b >= 0xe0) /* small numbers */
        return (struct head){0, 0, 0, 0, true};
    if (b < 0x90) /* small map */
        return (struct head){0, 0, 2, b & 15u, true};
    if (b < 0xa0) /* small array */
        return (struct head){0, 0, 1, b & 15u, true};
    if (b < 0xc0) /* small string */
        return (struct head){0, 0, 0, b & 31u, true};
    return by_byte[b - 0xc0];
}

size_t msg_check_value(struct slice in)
{
    uint64_t left[LIMIT_MSG_DEPTH + 1]; /* values still to come, for each level of nesting */
    unsigned depth = 0;
    uint64_t elements = 0;
    size_t at = 0;

    left[0] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0)
                return at;
            depth--;
        }
        left[depth]--;
        if (at == in.len)
            return 0;
        struct head h = head_of(in.data[at++]);
        uint64_t count = h.count;

        if (!h.valid || in.len - at < (size_t)h.count_bytes + h.extra)
            return 0;
        for (unsigned i = 0; i < h.count_bytes; i++)
            count = count << 8 | in.data[at++];
        at += h.extra;
        if (h.children == 0) {
            if (count > in.len - at)
                return 0;
            at += count;
            continue;
        }
        count *= h.children;
        elements += count;
        /* Each element takes at least a byte. */
        if (count > in.len - at || elements > MSG_CHECK_ELEMENTS || depth == LIMIT_MSG_DEPTH)
            return 0;
        left[++depth] = count;
    }
}
