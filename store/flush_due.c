/* Indexes by time: values that have expired, tombstones that the horizon has passed. Part of a flush
 * (flush_impl.h). */
#include "store/flush_impl.h"

#include "base/err.h"

#include <stdlib.h>

enum {
    EXPIRE_ROWS = 512, /* rows dropped in one transaction */
    EXPIRY_KEY = 8 + POSITION_BYTES,
};

/* Turn the expired values of one bucket into tombstones. */
static int expire_row(struct flush *f, const struct position *pos)
{
    struct slice before;
    size_t at = 0;
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, flush_position(pos), &before);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    buf_clear(&f->bucket);
    while ((rc = bucket_next(before, &at, &f->reader)) == 1 && err == 0) {
        int changed = object_drop_expired(&f->reader.object, f->v->work.now_ms, &f->bucket);

        if (changed < 0)
            return changed;
        f->v->work.dropped += (uint64_t)changed;
        if (changed == 0)
            err =
                buf_append(&f->bucket, f->reader.object.encoded.data, f->reader.object.encoded.len);
    }
    if (err != 0)
        return err;
    if (rc < 0) {
        f->amnesia = f->rebuild = true;
        f->v->work.corrupt++;
        return lmdb_write_del(f->v->env, LMDB_DATA, flush_position(pos));
    }
    return flush_replace_bucket(f, pos, before,
                                slice_of(buf_head(&f->bucket), buf_len(&f->bucket)));
}

static uint64_t expiry_of_key(struct slice key)
{
    uint64_t ms = 0;

    for (int i = 0; i < 8; i++)
        ms = ms << 8 | key.data[i];
    return ms;
}

static int compare_positions(const void *a, const void *b)
{
    return position_compare(a, b);
}

/* Take due rows out of an index by time, at most EXPIRE_ROWS, those up to now_ms. Sorts them by
 * position, as the leaf hashes want it. */
static int take_due(struct flush *f, enum lmdb_db db, uint64_t now_ms, struct position *due,
                    uint32_t *count)
{
    struct slice key = {0}, row;
    uint8_t first[EXPIRY_KEY];
    int err = 0;

    *count = 0;
    while (*count < EXPIRE_ROWS && err == 0) {
        err = lmdb_write_seek(f->v->env, db, (struct slice){0}, &key, &row);
        if (err != 0 || key.len != EXPIRY_KEY || expiry_of_key(key) > now_ms)
            break;
        memcpy(first, key.data, sizeof first);
        memcpy(due[(*count)++].b, first + 8, POSITION_BYTES);
        err = lmdb_write_del(f->v->env, db, slice_of(first, sizeof first));
    }
    qsort(due, *count, sizeof *due, compare_positions);
    return err == -ERR_NOTFOUND ? 0 : err;
}

/* Remove a row in which nothing is alive. The index is right about it but for damage. */
static int purge_row(struct flush *f, const struct position *pos)
{
    struct slice before;
    size_t at = 0;
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, flush_position(pos), &before);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    while ((rc = bucket_next(before, &at, &f->reader)) == 1)
        if (!horizon_purges(&f->reader.object, 0, f->v->work.meta.horizon_ms))
            return 0;
    f->v->work.purged += rc == 0;
    return flush_replace_bucket(f, pos, before, (struct slice){0});
}

/* Work off one transaction's worth of an index by time. */
static int work_off(struct flush *f, enum lmdb_db db, uint64_t now_ms,
                    int (*each)(struct flush *, const struct position *))
{
    struct position *due = malloc(EXPIRE_ROWS * sizeof *due);
    uint32_t count = 0;
    int err;

    if (due == NULL)
        return -ERR_NOMEM;
    err = lmdb_write_begin(f->v->env);
    if (err != 0) {
        free(due);
        return err;
    }
    f->change_count = 0;
    err = take_due(f, db, now_ms, due, &count);
    for (uint32_t i = 0; err == 0 && i < count; i++)
        if (i == 0 || position_compare(&due[i], &due[i - 1]) != 0)
            err = each(f, &due[i]);
    free(due);
    if (err != 0) {
        lmdb_write_abort(f->v->env);
        return err;
    }
    return flush_commit(f);
}

static uint64_t first_of(struct vnode *v, enum lmdb_db db)
{
    struct slice key, row;

    return lmdb_write_seek(v->env, db, (struct slice){0}, &key, &row) == 0 && key.len == EXPIRY_KEY
               ? expiry_of_key(key)
               : 0;
}

void flush_note_next_times(struct vnode *v)
{
    v->work.next_expiry = v->work.next_tomb = 0;
    if (lmdb_write_begin(v->env) != 0)
        return;
    v->work.next_expiry = first_of(v, LMDB_EXPIRY);
    v->work.next_tomb = first_of(v, LMDB_TOMBS);
    lmdb_write_abort(v->env);
}

int flush_expire(struct flush *f)
{
    return work_off(f, LMDB_EXPIRY, f->v->work.now_ms, expire_row);
}

int flush_purge(struct flush *f)
{
    return work_off(f, LMDB_TOMBS, f->v->work.meta.horizon_ms, purge_row);
}
