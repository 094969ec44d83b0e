/* What anti-entropy asks of the engine: standing, horizon, and the removal of rows. Loop thread. */
#include "store/engine.h"

#include "base/err.h"
#include "base/log.h"
#include "core/repair.h"

/* Numbers of this start are above those of all before. */
enum { GENERATION_BITS = 32 };

int store_vnode_state(const struct store *s, uint32_t partition, struct store_vnode_state *out)
{
    const struct vnode *v = engine_vnode(s, partition);
    uint64_t since = 0;

    if (v == NULL)
        return -ERR_NOTFOUND;
    if (v->listed)
        since = v->live_since_us;
    if (v->frozen_since_us != 0 && (since == 0 || v->frozen_since_us < since))
        since = v->frozen_since_us;
    *out = (struct store_vnode_state){
        .id = v->id,
        .generation = (s->vnode_conf.start << GENERATION_BITS) + v->writes,
        .last_write_ms = v->last_write_ms,
        .late_ms = v->late_ms,
        .root = v->root,
        .keys = v->keys,
        .tombstones = v->tombs,
        .buffered_keys =
            v->live.count + v->frozen.count + v->hints_live.count + v->hints_frozen.count,
        .buffered_bytes =
            v->live.bytes + v->frozen.bytes + v->hints_live.bytes + v->hints_frozen.bytes,
    };
    if (since != 0) {
        /* Times of writes are those of turns: none is later than it says. */
        uint64_t age_ms = since < s->now_us ? (s->now_us - since) / 1000 : 0;

        out->dirty_since_ms =
            !v->replayed && s->now_ms > age_ms + 1 ? s->now_ms - age_ms - 1 : REPAIR_DIRTY_REPLAYED;
    }
    out->standing = store_standing(s, partition, &out->horizon_ms);
    return 0;
}

uint8_t store_standing(const struct store *s, uint32_t partition, uint64_t *horizon_ms)
{
    const struct vnode *v = engine_vnode(s, partition);
    uint32_t standing = v == NULL ? STANDING_MISSING : v->standing;

    if (v != NULL && v->renewing && standing == STANDING_WHOLE)
        standing = STANDING_MISSING;
    *horizon_ms = standing == STANDING_WHOLE ? v->horizon_ms : 0;
    return (uint8_t)standing;
}

uint64_t store_start(const struct store *s)
{
    return s->vnode_conf.start;
}

void store_set_founding(struct store *s, bool founding)
{
    s->vnode_conf.fresh_standing = founding ? STANDING_WHOLE : STANDING_MISSING;
}

void store_set_away(struct store *s)
{
    s->away = true;
}

/* What was asked for last of this id is what holds or is on its way to. */
static void begin_mark(struct vnode *v)
{
    if (v->mark_id == v->id)
        return;
    v->mark_id = v->id;
    v->mark_standing = v->standing;
    v->mark_horizon_ms = v->horizon_ms;
}

int store_set_standing(struct store *s, uint32_t partition, uint64_t id, uint8_t standing)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL)
        return -ERR_NOTFOUND;
    if (v->id != id || v->renewing)
        return -ERR_STALE;
    if (v->standing == standing && !v->busy)
        return 0;
    begin_mark(v);
    v->mark_standing = standing;
    if (standing != STANDING_WHOLE) { /* at once: it is not to be believed */
        v->mark_horizon_ms = v->horizon_ms = 0;
        v->standing = standing;
    }
    engine_submit(s, v, VNODE_MARK);
    return 0;
}

void store_note_late(struct store *s, uint32_t partition)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL)
        return;
    v->purge = false;
    /* Never the same twice: who has seen the one before must notice. */
    v->late_ms = s->now_ms > v->late_ms ? s->now_ms : v->late_ms + 1;
}

int store_set_horizon(struct store *s, uint32_t partition, uint64_t id, uint64_t horizon_ms,
                      uint64_t late_ms)
{
    struct vnode *v = engine_vnode(s, partition);

    if (v == NULL)
        return -ERR_NOTFOUND;
    if (v->id != id || v->renewing || v->standing != STANDING_WHOLE || v->late_ms != late_ms)
        return -ERR_STALE;
    v->purge = true;
    if (horizon_ms <= v->horizon_ms)
        return 0;
    begin_mark(v);
    if (horizon_ms > v->mark_horizon_ms)
        v->mark_horizon_ms = horizon_ms;
    engine_submit(s, v, VNODE_MARK);
    return 0;
}

int store_remove(struct store *s, uint32_t partition, const struct position *pos, struct slice key,
                 uint64_t *lsn)
{
    int err;

    /* The key may lie in what the next write changes. */
    buf_clear(&s->nothing);
    err = bucket_void(key, &s->nothing);
    if (err != 0)
        return err;
    return store_put(s, partition, pos, slice_of(buf_head(&s->nothing), buf_len(&s->nothing)), true,
                     lsn);
}

int store_verify(struct store *s, uint32_t partition, const struct position *pos, bool leaf)
{
    struct vnode *v = engine_vnode(s, partition);
    struct slice bucket;
    size_t at = 0;
    int rc;

    if (v == NULL)
        return -ERR_NOTFOUND;
    if (v->ruined)
        return 0;
    engine_note_reader(s, v);
    rc = lmdb_reader_get(v->env, LMDB_DATA, slice_of(pos->b, sizeof pos->b), &bucket);
    if (engine_read_failed(s, v, rc) == -ERR_CORRUPT)
        return 0;
    while (rc == 0 && (rc = bucket_next(bucket, &at, &s->reader)) == 1)
        rc = 0;
    if (rc == -ERR_CORRUPT) {
        engine_damaged(s, v, pos);
        return 0;
    }
    if (!leaf || v->renewing)
        return 0;
    log_error("vnode %u: rows are missing from a leaf of its tree", partition);
    v->renewing = true;
    engine_submit(s, v, VNODE_RENEW | VNODE_REBUILD);
    return 0;
}
