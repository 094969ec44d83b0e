/* Sorted write-back of one vnode. Runs in the flush thread, and in the loop thread while a worker
 * recovers, before the flush thread exists. Touches v->work, v->env's writer and the frozen buffers,
 * nothing else of the vnode. */
#include "store/flush_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/merkle_leaf.h"
#include "store/suspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TXN_FILE_SHARE = 28,   /* a transaction may rewrite this part of the pages of a file, */
    TXN_HURRY = 4,         /* ... times this when buffers fill faster than they are emptied, */
    TXN_PAGES_MIN = 16,    /* ... but at least so many, */
    TXN_PAGES_MAX = 128,   /* ... and at most so many, */
    TXN_PAGES_ALL = 12288, /* ... in one transaction of each vnode, together */
    TXN_BYTES = 4 << 20,   /* bytes of objects in one transaction */
    PAGE = 4096,
    NEW_ID = VNODE_RENEW | VNODE_NEW_ID,
};

static int write_hint(struct flush *f, const struct wbuf_entry *e)
{
    uint8_t key[16 + POSITION_BYTES];
    int err;

    memcpy(key, e->data, 16);
    memcpy(key + 16, e->pos.b, POSITION_BYTES);
    if (e->data[24] != 0)
        return lmdb_write_put(f->v->env, LMDB_HINTS, slice_of(key, sizeof key),
                              slice_of(e->data + 16, 8));
    err = lmdb_write_del(f->v->env, LMDB_HINTS, slice_of(key, sizeof key));
    return err == -ERR_NOTFOUND ? 0 : err;
}

/* The leaf hashes of a transaction that has been committed become those of the vnode. */
static void adopt_leaves(struct flush *f)
{
    struct vnode_work *work = &f->v->work;

    if (f->rebuilt != NULL) {
        free(work->leaves);
        work->leaves = f->rebuilt;
        f->rebuilt = NULL;
    } else {
        for (uint32_t i = 0; i < f->change_count; i++)
            work->leaves[f->changes[i].index] = f->changes[i].hash;
    }
    f->change_count = 0;
}

int flush_commit(struct flush *f)
{
    struct vnode *v = f->v;
    struct vnode_meta before = v->work.meta;
    bool renew = f->amnesia || f->renew;
    int err = 0;

    if (f->conf->leaves && merkle_leaf_bits(lmdb_write_count(v->env, LMDB_DATA),
                                            v->work.meta.leaf_bits) != v->work.meta.leaf_bits)
        f->rebuild = true;
    if (renew) {
        v->work.meta.id = rand_id();
        v->work.meta.reserved = VNODE_DOT_BLOCK;
        v->work.meta.horizon_ms = 0;
        if (f->amnesia && v->work.meta.standing == STANDING_WHOLE)
            v->work.meta.standing = STANDING_MISSING;
    }
    if (f->rebuild && f->conf->leaves)
        err = flush_rebuild_leaves(f);
    for (uint32_t i = 0; err == 0 && !f->rebuild && i < f->change_count; i++)
        err = flush_put_leaf(v, f->changes[i].index, f->changes[i].hash);
    if (err == 0 && memcmp(&before, &v->work.meta, sizeof before) != 0)
        err = vnode_put_meta(v, &v->work.meta);
    v->work.tombs = lmdb_write_count(v->env, LMDB_TOMBS);
    v->work.keys = lmdb_write_count(v->env, LMDB_DATA) - v->work.tombs;
    if (err == 0)
        err = f->early && !renew ? lmdb_write_commit_early(v->env) : lmdb_write_commit(v->env);
    else
        lmdb_write_abort(v->env);
    if (err != 0) {
        free(f->rebuilt);
        f->rebuilt = NULL;
        v->work.meta = before;
        return err;
    }
    adopt_leaves(f);
    f->rebuild = f->amnesia = f->renew = false;
    if (renew) {
        log_notice("vnode %" PRIu32 " takes a new id", v->partition);
        v->work.renewed = true;
        if (!atomic_load(&v->unlinked))
            err = vnode_write_id(f->conf->data_dir, v, f->conf->worker);
        if (err == -ERR_DISKFULL)
            err = 0; /* the next start finds another id expected and takes a new one again */
        if (err != 0)
            check_panic("cannot write the id of vnode %" PRIu32 ": %s", v->partition,
                        err_text(err));
    }
    return 0;
}

/* How many pages one transaction may rewrite. What it replaces cannot be used again before the
 * transaction after next, so large transactions make large files; and LMDB keeps for ever the memory
 * of an environment's largest. Small ones cost a sync each. */
static uint64_t pages_allowed(const struct flush *f)
{
    uint64_t share = TXN_PAGES_ALL / (f->v->work.vnodes > 0 ? f->v->work.vnodes : 1);
    uint64_t allowed =
        f->v->work.file_bytes / PAGE / TXN_FILE_SHARE * (f->v->work.hurry ? TXN_HURRY : 1);

    if (allowed > share)
        allowed = share;
    return allowed > TXN_PAGES_MAX   ? TXN_PAGES_MAX
           : allowed < TXN_PAGES_MIN ? TXN_PAGES_MIN
                                     : allowed;
}

/* How many of `count` entries go into one transaction. They are spread evenly over the whole file, and
 * touch at most every page. */
static uint32_t chunk_of(const struct flush *f, uint32_t count)
{
    uint64_t pages = f->v->work.file_bytes / PAGE;
    uint64_t per_page = pages == 0 ? 16 : count / pages;

    if (per_page < 1)
        per_page = 1;
    return (uint32_t)(pages_allowed(f) * per_page);
}

/* Write a run of the entries that are left in one transaction, `chunk` at most; *done is how many. */
static int flush_run(struct flush *f, const struct wbuf_sorted *entries, uint32_t left,
                     uint32_t chunk, uint32_t *done)
{
    uint32_t count = left < chunk ? left : chunk;
    uint64_t bytes = 0, leaf_bytes = 0, leaf_room = pages_allowed(f) * PAGE / 2;
    int err = lmdb_write_begin(f->v->env);

    if (err != 0)
        return err;
    f->change_count = 0;
    for (*done = 0; *done < count && bytes < TXN_BYTES && leaf_bytes < leaf_room; (*done)++) {
        uint32_t len = entries[*done].entry->len;

        bytes += len;
        leaf_bytes += len < PAGE / 2 ? len : 0; /* larger ones lie in overflow pages */
        err = flush_write_entry(f, entries[*done].entry);
        if (err != 0) {
            lmdb_write_abort(f->v->env);
            return err;
        }
    }
    f->early = *done < left;
    err = flush_commit(f);
    f->early = false;
    return err;
}

static int flush_objects(struct flush *f)
{
    const struct wbuf *b = &f->v->frozen;
    uint32_t at = 0, done, chunk = chunk_of(f, b->count);
    int err = 0;

    if (b->count == 0)
        return 0;
    f->sorted = malloc(b->count * sizeof *f->sorted);
    if (f->sorted == NULL)
        return -ERR_NOMEM;
    wbuf_sort(b, f->sorted);
    while (err == 0 && at < b->count) {
        err = flush_run(f, f->sorted + at, b->count - at, chunk, &done);
        if (err == 0)
            at += done;
        f->v->work.file_bytes = lmdb_env_bytes(f->v->env);
    }
    if (err == -ERR_DISKFULL && at > 0) /* it ends here for now, with what is committed */
        err = lmdb_write_sync(f->v->env) == 0 ? -ERR_DISKFULL : -ERR_IO;
    free(f->sorted);
    return err;
}

static int flush_hints(struct flush *f)
{
    uint32_t cursor = 0;
    struct wbuf_entry *e;
    int err;

    if (f->v->hints_frozen.count == 0)
        return 0;
    err = lmdb_write_begin(f->v->env);
    if (err != 0)
        return err;
    while (err == 0 && (e = wbuf_next(&f->v->hints_frozen, &cursor)) != NULL)
        err = write_hint(f, e);
    if (err != 0) {
        lmdb_write_abort(f->v->env);
        return err;
    }
    f->change_count = 0;
    return flush_commit(f);
}

static int wipe(struct flush *f)
{
    static const enum lmdb_db wiped[] = {LMDB_DATA, LMDB_EXPIRY, LMDB_TOMBS, LMDB_LEAVES,
                                         LMDB_HINTS};
    int err = lmdb_write_begin(f->v->env);

    if (err != 0)
        return err;
    for (size_t i = 0; err == 0 && i < sizeof wiped / sizeof wiped[0]; i++)
        err = lmdb_write_clear(f->v->env, wiped[i]);
    if (err != 0) {
        lmdb_write_abort(f->v->env);
        return err;
    }
    f->change_count = 0;
    f->rebuild = true;
    return flush_commit(f);
}

/* Remove a row that was found damaged, if it is still: it may have been written anew since. */
static int remove_damaged(struct flush *f, const struct position *pos)
{
    struct slice row;
    size_t at = 0;
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, flush_position(pos), &row);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    while ((rc = bucket_next(row, &at, &f->reader)) == 1)
        continue;
    if (rc == 0)
        return 0;
    return lmdb_write_del(f->v->env, LMDB_DATA, flush_position(pos));
}

/* Reserve numbers, or take a new id and remove the rows that were found damaged. */
static int change_meta(struct flush *f)
{
    struct vnode *v = f->v;
    int err = lmdb_write_begin(v->env);

    if (err != 0)
        return err;
    f->change_count = 0;
    if (v->work.todo & NEW_ID) {
        f->renew = true;
        f->amnesia = (v->work.todo & VNODE_RENEW) != 0;
        f->rebuild = v->work.bad_count > 0 || (v->work.todo & VNODE_REBUILD) != 0;
        for (uint32_t i = 0; err == 0 && i < v->work.bad_count; i++)
            err = remove_damaged(f, &v->work.bad[i]);
    } else {
        v->work.meta.reserved += VNODE_DOT_BLOCK;
        err = vnode_put_meta(v, &v->work.meta);
    }
    if (err != 0) {
        lmdb_write_abort(v->env);
    } else {
        err = flush_commit(f);
    }
    if (err != 0 && !(v->work.todo & NEW_ID))
        v->work.meta.reserved -= VNODE_DOT_BLOCK;
    if (err == 0)
        v->work.bad_count = 0;
    return err;
}

/* Take over the standing and the horizon that were asked for, if they are meant for this id still. */
static int mark(struct flush *f)
{
    struct vnode_work *w = &f->v->work;
    struct vnode_meta before = w->meta;
    int err;

    if (w->mark_id != w->meta.id)
        return 0;
    err = lmdb_write_begin(f->v->env);
    if (err != 0)
        return err;
    w->meta.standing = w->mark_standing;
    w->meta.horizon_ms = w->mark_horizon_ms;
    f->change_count = 0;
    err = vnode_put_meta(f->v, &w->meta);
    if (err == 0)
        err = lmdb_write_commit(f->v->env);
    else
        lmdb_write_abort(f->v->env);
    if (err != 0)
        w->meta = before;
    return err;
}

static void note_commits(struct vnode *v, const struct flush_conf *conf)
{
    if (v->env != NULL && !atomic_load(&v->unlinked))
        commits_note(conf->vnode->commits, v->partition, v->work.meta.id, lmdb_env_commits(v->env));
}

void flush_work(struct vnode *v, const struct flush_conf *conf)
{
    static _Thread_local struct flush f;
    int err = 0;

    buf_free(&f.bucket);
    free(f.changes);
    memset(&f, 0, sizeof f);
    f.v = v;
    f.conf = conf;
    suspect_working(v->partition);
    if (v->work.todo & VNODE_REPLACE) {
        err = vnode_replace(v, conf->vnode);
        if (err != 0 && err != -ERR_DISKFULL)
            check_panic("vnode %" PRIu32 ": it is damaged and cannot be replaced: %s", v->partition,
                        err_text(err));
        v->work.err = err;
        note_commits(v, conf);
        suspect_working(SUSPECT_NONE);
        return;
    }
    lmdb_env_check_readers(
        v->env); /* one forgotten snapshot would make the file grow without end */
    if (v->work.todo & VNODE_WIPE)
        err = wipe(&f);
    if (err == 0 && v->work.todo & (NEW_ID | VNODE_RESERVE))
        err = change_meta(&f);
    if (err == 0 && v->work.todo & VNODE_FLUSH) {
        err = flush_objects(&f);
        if (err == 0)
            err = flush_hints(&f);
    }
    if (err == 0 && v->work.todo & VNODE_EXPIRE)
        err = flush_expire(&f);
    if (err == 0 && v->work.todo & VNODE_MARK)
        err = mark(&f);
    if (err == 0 && v->work.todo & VNODE_PURGE && v->work.meta.standing == STANDING_WHOLE)
        err = flush_purge(&f);
    if (err == -ERR_VERSION || err == -ERR_INVAL)
        err = -ERR_CORRUPT; /* LMDB met what it never wrote */
    if (err != 0 && err != -ERR_DISKFULL && err != -ERR_CORRUPT)
        check_panic("vnode %" PRIu32 ": write-back failed: %s", v->partition, err_text(err));
    if (err != -ERR_CORRUPT)
        flush_note_next_times(v);
    v->work.err = err;
    v->work.flushed_records = f.records;
    v->work.flushed_bytes = f.bytes;
    v->work.file_bytes = lmdb_env_bytes(v->env);
    if (err != -ERR_CORRUPT)
        note_commits(v, conf);
    buf_free(&f.bucket);
    free(f.changes);
    f.changes = NULL;
    suspect_working(SUSPECT_NONE);
}
