/* Writes that are kept whole. Those from other coordinators that came while this worker could take none
 * (a block of dots was on its way to the disk, say) wait here and are tried again shortly; its own clients'
 * writes are refused instead, and stay with the host. Runs in workers and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"

#define RETRY_US 1000

uint64_t coord_kept_blocks(const struct msg_PUT *put)
{
    return (uint64_t)hold_blocks(put->key.len) + hold_blocks(put->value.len) +
           hold_blocks(put->context.len);
}

void coord_keep_put(struct coord *c, struct request *r, struct kept *kept,
                    const struct msg_PUT *put)
{
    r->key = hold_keep(&c->holds, put->key);
    r->context = hold_keep(&c->holds, put->context);
    r->old = hold_keep(&c->holds, put->value);
    *kept = (struct kept){.expiry = put->expiry,
                          .request_id = put->request_id,
                          .flags = put->flags,
                          .op = put->op,
                          .w = put->w,
                          .pw = put->pw,
                          .dw = put->dw};
}

/* A copy of what is held, at the end of scratch_b, where there is room. */
static struct slice copy(struct coord *c, const struct hold *hold)
{
    struct slice s = hold_bytes(&c->holds, hold, c->scratch_b);

    if (hold->len == 0 || hold->len > HOLD_BLOCK)
        return s;
    uint8_t *to = buf_reserve(c->scratch_b, s.len);

    ASSERT(to != NULL);
    memcpy(to, s.data, s.len);
    buf_filled(c->scratch_b, s.len);
    return slice_of(to, s.len);
}

bool coord_kept_put(struct coord *c, const struct request *r, const struct kept *kept,
                    struct msg_PUT *out)
{
    buf_clear(c->scratch_b);
    if (buf_reserve(c->scratch_b, (size_t)r->key.len + r->context.len + r->old.len + 1) == NULL)
        return false;
    *out = (struct msg_PUT){.key = copy(c, &r->key),
                            .value = copy(c, &r->old),
                            .context = copy(c, &r->context),
                            .expiry = kept->expiry,
                            .request_id = kept->request_id,
                            .flags = kept->flags,
                            .op = kept->op,
                            .w = kept->w,
                            .pw = kept->pw,
                            .dw = kept->dw};
    return true;
}

int coord_park_put(struct coord *c, const struct asker *asker, const struct msg_PUT *put,
                   uint64_t deadline_us)
{
    struct request *r;

    if (coord_kept_blocks(put) > c->holds.free || c->now_us >= deadline_us)
        return -ERR_BUSY;
    r = table_take(&c->table, REQUEST_PARKED);
    if (r == NULL)
        return -ERR_BUSY;
    r->asker = *asker;
    r->start_us = c->now_us;
    r->deadline_us = deadline_us;
    coord_keep_put(c, r, &r->u.parked, put);
    table_schedule(&c->table, r, c->now_us + RETRY_US);
    return 0;
}

void coord_park_retry(struct coord *c, struct request *r)
{
    struct asker asker = r->asker;
    uint64_t deadline_us = r->deadline_us;
    struct msg_PUT put;
    struct place place;
    int rc = -ERR_BUSY;

    if (c->now_us >= deadline_us || !coord_kept_put(c, r, &r->u.parked, &put)) {
        coord_release(c, r);
        coord_answer_put(c, &asker, &(struct coord_reply){.status = rc});
        return;
    }
    put.timeout_ms = (uint32_t)((deadline_us - c->now_us + 999) / 1000);
    coord_release(c, r);
    if (!coord_place(c, put.key, &place) || !place.mine)
        rc = -ERR_STALE;
    else
        rc = coord_put_here(c, &asker, &place, &put);
    if (rc == -ERR_BUSY)
        rc = coord_park_put(c, &asker, &put, deadline_us);
    if (rc != 0)
        coord_answer_put(c, &asker, &(struct coord_reply){.status = rc});
}
