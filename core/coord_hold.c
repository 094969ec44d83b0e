/* Bytes kept for requests in flight, in chains of fixed blocks, so that memory is bounded and never
 * fragments. Runs in workers and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"

void hold_init(struct holds *h, struct hold_block *blocks, uint32_t count)
{
    h->blocks = blocks;
    h->count = h->free = count;
    h->first_free = count > 0 ? 0 : COORD_NOWHERE;
    for (uint32_t i = 0; i < count; i++)
        blocks[i].next = i + 1 < count ? i + 1 : COORD_NOWHERE;
}

struct hold hold_keep(struct holds *h, struct slice bytes)
{
    struct hold hold = {COORD_NOWHERE, (uint32_t)bytes.len};
    uint32_t *link = &hold.first;

    for (size_t done = 0; done < bytes.len;) {
        ASSERT(h->first_free != COORD_NOWHERE);
        uint32_t at = h->first_free;
        struct hold_block *b = &h->blocks[at];
        size_t n = bytes.len - done < HOLD_BLOCK ? bytes.len - done : HOLD_BLOCK;

        h->first_free = b->next;
        h->free--;
        memcpy(b->bytes, bytes.data + done, n);
        b->next = COORD_NOWHERE;
        *link = at;
        link = &b->next;
        done += n;
    }
    return hold;
}

void hold_drop(struct holds *h, struct hold *hold)
{
    while (hold->first != COORD_NOWHERE) {
        uint32_t at = hold->first;

        hold->first = h->blocks[at].next;
        h->blocks[at].next = h->first_free;
        h->first_free = at;
        h->free++;
    }
    hold->len = 0;
    ASSERT(h->free <= h->count);
}

struct slice hold_bytes(const struct holds *h, const struct hold *hold, struct buf *buf)
{
    if (hold->len == 0)
        return slice_of("", 0);
    if (hold->len <= HOLD_BLOCK)
        return slice_of(h->blocks[hold->first].bytes, hold->len);
    uint8_t *to = buf_reserve(buf, hold->len);
    size_t done = 0;

    if (to == NULL)
        return slice_of(NULL, 0);
    for (uint32_t at = hold->first; at != COORD_NOWHERE; at = h->blocks[at].next) {
        size_t n = hold->len - done < HOLD_BLOCK ? hold->len - done : HOLD_BLOCK;

        memcpy(to + done, h->blocks[at].bytes, n);
        done += n;
    }
    buf_filled(buf, hold->len);
    return slice_of(to, hold->len);
}
