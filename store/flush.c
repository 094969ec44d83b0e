/* Sorted write-back of one vnode. Runs in the flush thread, and in the loop thread while a worker
 * recovers, before the flush thread exists. Touches v->work, v->env's writer and the frozen buffers,
 * nothing else of the vnode. */
#include "store/flush.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/bucket.h"
#include "store/merkle_leaf.h"
#include "store/suspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TXN_PAGES_MAX = 256,   /* leaf pages that one transaction may rewrite */
    TXN_PAGES_MIN = 32,    /* ... however many vnodes there are */
    TXN_PAGES_ALL = 24576, /* ... in one transaction of each vnode, together */
    TXN_BYTES = 4 << 20,   /* bytes of objects in one transaction */
    PAGE = 4096,
    EXPIRE_ROWS = 512, /* rows dropped in one transaction */
    EXPIRY_KEY = 8 + POSITION_BYTES,
    NEW_ID = VNODE_RENEW | VNODE_NEW_ID,
};

struct leaf_change {
    uint32_t index;
    uint64_t hash;
};

struct flush {
    struct vnode *v;
    const struct flush_conf *conf;
    struct bucket_reader reader; /* scratch */
    struct buf bucket;           /* scratch */
    struct wbuf_sorted *sorted;
    struct leaf_change *changes; /* leaves that the open transaction has rewritten */
    uint32_t change_count, change_capacity;
    uint64_t records, bytes;
    bool amnesia;      /* something is lost: a damaged record was met, say */
    bool renew;        /* a new id is wanted, amnesia or not */
    bool rebuild;      /* all leaf hashes must be made anew */
    uint64_t *rebuilt; /* the new ones, until they are committed */
};

static struct slice position_slice(const struct position *pos)
{
    return slice_of(pos->b, sizeof pos->b);
}

static void put_be64(uint8_t *out, uint64_t n)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(n >> (56 - 8 * i));
}

static void put_be32(uint8_t *out, uint32_t n)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(n >> (24 - 8 * i));
}

/* What a bucket adds to its leaf, its earliest expiry and, if nothing in it is alive, its time as a
 * tombstone (0: none). */
struct weight {
    uint64_t sum, expiry, tomb;
};

/* A damaged object makes it -ERR_CORRUPT; the weight is then that of nothing. */
static int weigh_bucket(struct flush *f, const struct position *pos, struct slice bucket,
                        struct weight *w)
{
    size_t at = 0;
    bool dead = bucket.len > 0;
    int rc;

    memset(w, 0, sizeof *w);
    while ((rc = bucket_next(bucket, &at, &f->reader)) == 1) {
        uint64_t e = object_next_expiry(&f->reader.object);
        bool tombstone;
        uint64_t time_ms = horizon_time(&f->reader.object, 0, &tombstone);

        if (e != 0 && (w->expiry == 0 || e < w->expiry))
            w->expiry = e;
        if (f->conf->leaves)
            w->sum += merkle_leaf_mix(pos, object_digest(&f->reader.object));
        dead = dead && tombstone;
        if (time_ms > w->tomb)
            w->tomb = time_ms;
    }
    if (rc != 0)
        memset(w, 0, sizeof *w);
    else if (!dead)
        w->tomb = 0;
    else if (w->tomb == 0)
        w->tomb = 1;
    return rc;
}

/* Add to the hash of a leaf, in the changes of the open transaction. Positions come in order, so a
 * leaf that is met again is the newest change. */
static int add_to_leaf(struct flush *f, const struct position *pos, uint64_t delta)
{
    uint32_t index = merkle_leaf_index(pos, f->v->q_bits, f->v->work.meta.leaf_bits);
    struct leaf_change *change;

    if (delta == 0 || f->rebuild)
        return 0;
    if (f->change_count == 0 || f->changes[f->change_count - 1].index != index) {
        if (f->change_count == f->change_capacity) {
            uint32_t wanted = f->change_capacity == 0 ? 256 : f->change_capacity * 2;
            struct leaf_change *changes = realloc(f->changes, wanted * sizeof *changes);

            if (changes == NULL)
                return -ERR_NOMEM;
            f->changes = changes;
            f->change_capacity = wanted;
        }
        f->changes[f->change_count++] = (struct leaf_change){index, f->v->work.leaves[index]};
    }
    change = &f->changes[f->change_count - 1];
    change->hash += delta;
    return 0;
}

static int put_leaf(struct vnode *v, uint32_t index, uint64_t hash)
{
    uint64_t pair[2] = {hash, merkle_leaf_check(index, hash)};
    uint8_t key[4];

    put_be32(key, index);
    return lmdb_write_put(v->env, LMDB_LEAVES, slice_of(key, sizeof key),
                          slice_of(pair, sizeof pair));
}

/* Move a row in an index by time. */
static int move_time(struct vnode *v, enum lmdb_db db, const struct position *pos, uint64_t before,
                     uint64_t after)
{
    uint8_t key[EXPIRY_KEY];
    int err = 0;

    if (before == after)
        return 0;
    memcpy(key + 8, pos->b, sizeof pos->b);
    if (before != 0) {
        put_be64(key, before);
        err = lmdb_write_del(v->env, db, slice_of(key, sizeof key));
        if (err == -ERR_NOTFOUND)
            err = 0;
    }
    if (err == 0 && after != 0) {
        put_be64(key, after);
        err = lmdb_write_put(v->env, db, slice_of(key, sizeof key), (struct slice){0});
    }
    return err;
}

/* Replace a bucket in the open transaction; before is what was there (empty: nothing). */
static int replace_bucket(struct flush *f, const struct position *pos, struct slice before,
                          struct slice after)
{
    struct weight old, new;
    int err = weigh_bucket(f, pos, before, &old);

    if (err != 0) { /* its share of the leaf cannot be known any more */
        f->amnesia = f->rebuild = true;
        f->v->work.corrupt++;
    }
    err = weigh_bucket(f, pos, after, &new);
    if (err != 0)
        check_panic("an object in the write buffer is damaged: memory fault");
    if (after.len > 0)
        err = lmdb_write_put(f->v->env, LMDB_DATA, position_slice(pos),
                             bucket_pack(after, &f->reader));
    else
        err = lmdb_write_del(f->v->env, LMDB_DATA, position_slice(pos));
    if (err == -ERR_NOTFOUND)
        err = 0;
    if (err == 0)
        err = move_time(f->v, LMDB_EXPIRY, pos, old.expiry, new.expiry);
    if (err == 0)
        err = move_time(f->v, LMDB_TOMBS, pos, old.tomb, new.tomb);
    return err == 0 ? add_to_leaf(f, pos, new.sum - old.sum) : err;
}

/* The bucket without the object of a key, into f->bucket. */
static int bucket_without(struct flush *f, struct slice bucket, struct slice key)
{
    size_t at = 0;
    int rc, err = 0;

    buf_clear(&f->bucket);
    while (err == 0 && (rc = bucket_next(bucket, &at, &f->reader)) == 1)
        if (!slice_equal(f->reader.object.key, key))
            err =
                buf_append(&f->bucket, f->reader.object.encoded.data, f->reader.object.encoded.len);
    return err != 0 ? err : rc;
}

static int write_entry(struct flush *f, const struct wbuf_entry *e)
{
    struct slice object = slice_of(e->data, e->len), before = {0}, after = object;
    int err = lmdb_write_get(f->v->env, LMDB_DATA, position_slice(&e->pos), &before);

    struct slice key = slice_of(e->data + e->key_at, e->key_len);

    if (err != 0 && err != -ERR_NOTFOUND)
        return err;
    if (bucket_is_void(object, key)) {
        err = bucket_without(f, before, key);
        if (err != 0 && err != -ERR_CORRUPT && err != -ERR_VERSION)
            return err;
        after = slice_of(buf_head(&f->bucket), buf_len(&f->bucket));
    } else if (before.len > 0) {
        size_t at = 0;

        /* Nearly always the bucket holds just an older object of this very key. */
        if (bucket_next(before, &at, &f->reader) != 1 || at != before.len ||
            !slice_equal(f->reader.object.key, key)) {
            buf_clear(&f->bucket);
            err = bucket_replace(before, key, object, &f->reader, &f->bucket);
            if (err == 0)
                after = slice_of(buf_head(&f->bucket), buf_len(&f->bucket));
            else if (err != -ERR_CORRUPT && err != -ERR_VERSION)
                return err;
        }
    }
    f->records++;
    f->bytes += after.len;
    return replace_bucket(f, &e->pos, before, after);
}

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

/* Make all leaf hashes anew from the data of the open transaction. */
static int rebuild_leaves(struct flush *f)
{
    struct vnode *v = f->v;
    struct vnode_meta *meta = &v->work.meta;
    unsigned bits = merkle_leaf_bits(lmdb_write_count(v->env, LMDB_DATA), meta->leaf_bits);
    uint64_t *leaves = calloc((size_t)1 << bits, sizeof *leaves);
    struct slice key = {0}, row;
    int err;

    if (leaves == NULL)
        return -ERR_NOMEM;
    for (err = lmdb_write_seek(v->env, LMDB_DATA, key, &key, &row); err == 0;
         err = lmdb_write_step(v->env, LMDB_DATA, &key, &row)) {
        struct position pos;
        struct weight w;

        memcpy(pos.b, key.data, sizeof pos.b);
        if (weigh_bucket(f, &pos, row, &w) == 0)
            leaves[merkle_leaf_index(&pos, v->q_bits, bits)] += w.sum;
    }
    err = err == -ERR_NOTFOUND ? lmdb_write_clear(v->env, LMDB_LEAVES) : err;
    for (uint32_t i = 0; err == 0 && i < 1u << bits; i++)
        if (leaves[i] != 0)
            err = put_leaf(v, i, leaves[i]);
    meta->leaf_bits = bits;
    f->rebuilt = leaves;
    return err;
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

/* Complete the open transaction and commit it. */
static int commit(struct flush *f)
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
        err = rebuild_leaves(f);
    for (uint32_t i = 0; err == 0 && !f->rebuild && i < f->change_count; i++)
        err = put_leaf(v, f->changes[i].index, f->changes[i].hash);
    if (err == 0 && memcmp(&before, &v->work.meta, sizeof before) != 0)
        err = vnode_put_meta(v, &v->work.meta);
    v->work.tombs = lmdb_write_count(v->env, LMDB_TOMBS);
    v->work.keys = lmdb_write_count(v->env, LMDB_DATA) - v->work.tombs;
    if (err == 0)
        err = lmdb_write_commit(v->env);
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

/* How many of `left` entries go into one transaction: so many that it rewrites a bounded number of
 * pages. What it replaces cannot be used again before the transaction after next, so large
 * transactions make large files; and LMDB keeps for ever the memory of an environment's largest. */
static uint64_t pages_allowed(const struct flush *f)
{
    uint64_t allowed = TXN_PAGES_ALL / (f->v->work.vnodes > 0 ? f->v->work.vnodes : 1);

    return allowed > TXN_PAGES_MAX   ? TXN_PAGES_MAX
           : allowed < TXN_PAGES_MIN ? TXN_PAGES_MIN
                                     : allowed;
}

static uint32_t chunk_of(const struct flush *f, uint32_t left)
{
    uint64_t pages = f->v->work.file_bytes / PAGE, allowed = pages_allowed(f);
    uint64_t per_page = pages == 0 ? 16 : left / pages;

    /* Entries are spread evenly: `left` of them touch at most every page. */
    if (per_page < 1)
        per_page = 1;
    return allowed * per_page < left ? (uint32_t)(allowed * per_page) : left;
}

/* Write a run of entries in one transaction; *done is how many. */
static int flush_run(struct flush *f, const struct wbuf_sorted *entries, uint32_t count,
                     uint32_t *done)
{
    uint64_t bytes = 0, leaf_bytes = 0, leaf_room = pages_allowed(f) * PAGE / 2;
    int err = lmdb_write_begin(f->v->env);

    if (err != 0)
        return err;
    f->change_count = 0;
    for (*done = 0; *done < count && bytes < TXN_BYTES && leaf_bytes < leaf_room; (*done)++) {
        uint32_t len = entries[*done].entry->len;

        bytes += len;
        leaf_bytes += len < PAGE / 2 ? len : 0; /* larger ones lie in overflow pages */
        err = write_entry(f, entries[*done].entry);
        if (err != 0) {
            lmdb_write_abort(f->v->env);
            return err;
        }
    }
    return commit(f);
}

static int flush_objects(struct flush *f)
{
    const struct wbuf *b = &f->v->frozen;
    uint32_t at = 0, done;
    int err = 0;

    if (b->count == 0)
        return 0;
    f->sorted = malloc(b->count * sizeof *f->sorted);
    if (f->sorted == NULL)
        return -ERR_NOMEM;
    wbuf_sort(b, f->sorted);
    while (err == 0 && at < b->count) {
        err = flush_run(f, f->sorted + at, chunk_of(f, b->count - at), &done);
        at += done;
        f->v->work.file_bytes = lmdb_env_bytes(f->v->env);
    }
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
    return commit(f);
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
    return commit(f);
}

/* Remove a row that was found damaged, if it is still: it may have been written anew since. */
static int remove_damaged(struct flush *f, const struct position *pos)
{
    struct slice row;
    size_t at = 0;
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, position_slice(pos), &row);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    while ((rc = bucket_next(row, &at, &f->reader)) == 1)
        continue;
    if (rc == 0)
        return 0;
    return lmdb_write_del(f->v->env, LMDB_DATA, position_slice(pos));
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
        err = commit(f);
    }
    if (err != 0 && !(v->work.todo & NEW_ID))
        v->work.meta.reserved -= VNODE_DOT_BLOCK;
    if (err == 0)
        v->work.bad_count = 0;
    return err;
}

/* Turn the expired values of one bucket into tombstones. */
static int expire_row(struct flush *f, const struct position *pos)
{
    struct slice before;
    size_t at = 0;
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, position_slice(pos), &before);

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
        return lmdb_write_del(f->v->env, LMDB_DATA, position_slice(pos));
    }
    return replace_bucket(f, pos, before, slice_of(buf_head(&f->bucket), buf_len(&f->bucket)));
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
    int rc, err = lmdb_write_get(f->v->env, LMDB_DATA, position_slice(pos), &before);

    if (err != 0)
        return err == -ERR_NOTFOUND ? 0 : err;
    while ((rc = bucket_next(before, &at, &f->reader)) == 1)
        if (!horizon_purges(&f->reader.object, 0, f->v->work.meta.horizon_ms))
            return 0;
    f->v->work.purged += rc == 0;
    return replace_bucket(f, pos, before, (struct slice){0});
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
    return commit(f);
}

static uint64_t first_of(struct vnode *v, enum lmdb_db db)
{
    struct slice key, row;

    return lmdb_write_seek(v->env, db, (struct slice){0}, &key, &row) == 0 && key.len == EXPIRY_KEY
               ? expiry_of_key(key)
               : 0;
}

/* Where the indexes by time begin, seen from a fresh transaction that changes nothing. */
static void note_next_times(struct vnode *v)
{
    v->work.next_expiry = v->work.next_tomb = 0;
    if (lmdb_write_begin(v->env) != 0)
        return;
    v->work.next_expiry = first_of(v, LMDB_EXPIRY);
    v->work.next_tomb = first_of(v, LMDB_TOMBS);
    lmdb_write_abort(v->env);
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
        err = work_off(&f, LMDB_EXPIRY, v->work.now_ms, expire_row);
    if (err == 0 && v->work.todo & VNODE_MARK)
        err = mark(&f);
    if (err == 0 && v->work.todo & VNODE_PURGE && v->work.meta.standing == STANDING_WHOLE)
        err = work_off(&f, LMDB_TOMBS, v->work.meta.horizon_ms, purge_row);
    if (err == -ERR_VERSION || err == -ERR_INVAL)
        err = -ERR_CORRUPT; /* LMDB met what it never wrote */
    if (err != 0 && err != -ERR_DISKFULL && err != -ERR_CORRUPT)
        check_panic("vnode %" PRIu32 ": write-back failed: %s", v->partition, err_text(err));
    if (err != -ERR_CORRUPT)
        note_next_times(v);
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
