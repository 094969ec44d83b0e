/* Writes from other coordinators that came while this worker could take none (a block of dots was on
 * its way to the disk, say). Whoever sent one cannot send it again, so it waits here and is tried
 * again shortly; its own clients' writes are refused instead, and stay with the host. Runs in workers
 * and in the simulator. */
#include "core/coord_impl.h"

#include "base/check.h"
#include "base/err.h"

#define RETRY_US 1000

int coord_park_put(struct coord *c, const struct asker *asker, const struct msg_PUT *put,
                   uint64_t deadline_us)
{
    uint64_t blocks = (uint64_t)hold_blocks(put->key.len) + hold_blocks(put->value.len) +
                      hold_blocks(put->context.len);
    struct request *r;

    if (blocks > c->holds.free || c->now_us >= deadline_us)
        return -ERR_BUSY;
    r = table_take(&c->table, REQUEST_PARKED);
    if (r == NULL)
        return -ERR_BUSY;
    r->asker = *asker;
    r->start_us = c->now_us;
    r->deadline_us = deadline_us;
    r->key = hold_keep(&c->holds, put->key);
    r->context = hold_keep(&c->holds, put->context);
    r->old = hold_keep(&c->holds, put->value);
    r->u.parked = (struct parked){.expiry = put->expiry,
                                  .request_id = put->request_id,
                                  .flags = put->flags,
                                  .op = put->op,
                                  .w = put->w,
                                  .pw = put->pw,
                                  .dw = put->dw};
    table_schedule(&c->table, r, c->now_us + RETRY_US);
    return 0;
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

void coord_park_retry(struct coord *c, struct request *r)
{
    const struct parked *p = &r->u.parked;
    struct asker asker = r->asker;
    uint64_t deadline_us = r->deadline_us;
    struct place place;
    int rc = -ERR_BUSY;

    buf_clear(c->scratch_b);
    if (c->now_us >= deadline_us ||
        buf_reserve(c->scratch_b, (size_t)r->key.len + r->context.len + r->old.len + 1) == NULL) {
        coord_release(c, r);
        coord_answer_put(c, &asker, &(struct coord_reply){.status = rc});
        return;
    }
    struct msg_PUT put = {.key = copy(c, &r->key),
                          .value = copy(c, &r->old),
                          .context = copy(c, &r->context),
                          .expiry = p->expiry,
                          .request_id = p->request_id,
                          .flags = p->flags,
                          .op = p->op,
                          .w = p->w,
                          .pw = p->pw,
                          .dw = p->dw,
                          .timeout_ms = (uint32_t)((deadline_us - c->now_us + 999) / 1000)};

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
