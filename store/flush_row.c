/* Rows of a vnode and what goes with them in one transaction: leaf hashes and the indexes by time. Part of
 * a flush (flush_impl.h). */
#include "store/flush_impl.h"

#include "base/check.h"
#include "base/err.h"
#include "store/merkle_leaf.h"

#include <stdlib.h>

enum { EXPIRY_KEY = 8 + POSITION_BYTES };

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

int flush_put_leaf(struct vnode *v, uint32_t index, uint64_t hash)
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

int flush_replace_bucket(struct flush *f, const struct position *pos, struct slice before,
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
        err = lmdb_write_put(f->v->env, LMDB_DATA, flush_position(pos),
                             bucket_pack(after, &f->reader));
    else
        err = lmdb_write_del(f->v->env, LMDB_DATA, flush_position(pos));
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

int flush_write_entry(struct flush *f, const struct wbuf_entry *e)
{
    struct slice object = slice_of(e->data, e->len), before = {0}, after = object;
    int err = lmdb_write_get(f->v->env, LMDB_DATA, flush_position(&e->pos), &before);

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
    return flush_replace_bucket(f, &e->pos, before, after);
}

int flush_rebuild_leaves(struct flush *f)
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
            err = flush_put_leaf(v, i, leaves[i]);
    meta->leaf_bits = bits;
    f->rebuilt = leaves;
    return err;
}
