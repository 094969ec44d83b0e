/* Hybrid logical clock. Runs in workers and in the simulator; reads no clock itself. */
#include "core/hlc.h"

#include "base/check.h"

uint64_t hlc_now(struct hlc *h, uint64_t wall_ms)
{
    uint64_t wall = wall_ms << 16;

    ASSERT(wall_ms < UINT64_C(1) << 47); /* the year 6429: whoever told us this is not a clock */
    ASSERT(h->last < UINT64_MAX);
    h->last = wall > h->last ? wall : h->last + 1;
    return h->last;
}

bool hlc_observe(struct hlc *h, uint64_t remote, uint64_t wall_ms)
{
    if (hlc_ms(remote) > wall_ms + HLC_MAX_AHEAD_MS)
        return false;
    if (remote > h->last)
        h->last = remote;
    return true;
}
