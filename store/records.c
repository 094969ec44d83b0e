/* What the loop reads and writes, record by record. Reads look in the live buffer, the frozen buffer, then
 * LMDB; writes go to the live buffer and the journal. Runs in the loop thread. */
#include "store/engine.h"

#include "base/err.h"
#include "base/log.h"

enum {
    OVERDRAFT = 110, /* percent of the bound of buffers beyond which writes are refused, */
    LAST_ROOM =
        130, /* ... but deletes, while buffers cannot be flushed to a full disk, beyond this */
};

/* --- reading --- */

int engine_read_failed(struct store *s, struct vnode *v, int err)
{
    if (err == -ERR_VERSION || err == -ERR_INVAL)
        err = -ERR_CORRUPT; /* LMDB met what it never wrote */
    if (err != -ERR_CORRUPT || v->ruined)
        return err;
    log_error("vnode %u: its file is damaged", v->partition);
    s->stats.corrupt_records++;
    v->ruined = v->renewing = true;
    engine_submit(s, v, VNODE_REPLACE);
    return err;
}

void engine_damaged(struct store *s, struct vnode *v, const struct position *pos)
{
    s->stats.corrupt_records++;
    for (uint32_t i = 0; i < v->bad_count; i++)
        if (position_compare(&v->bad[i], pos) == 0)
            return;
    if (v->bad_count == VNODE_BAD)
        return;
    log_error("vnode %u: a record failed its checksum", v->partition);
    v->bad[v->bad_count++] = *pos;
    v->renewing = true;
    engine_submit(s, v, VNODE_RENEW);
}

/* --- reading --- */

/* A snapshot may be held as long as nobody writes: it is the newest, and keeps no page from being
 * used again. While the flush thread has the vnode, it is let go of at each turn. */
void engine_note_reader(struct store *s, struct vnode *v)
{
    if (v->reading)
        return;
    v->reading = true;
    if (v->busy) {
        v->reading_next = s->readers;
        s->readers = v;
    }
}

void engine_reset_readers(struct store *s)
{
    while (s->readers != NULL) {
        struct vnode *v = s->readers;

        s->readers = v->reading_next;
        v->reading = false;
        if (v->env != NULL)
            lmdb_reader_reset(v->env);
    }
}

int store_get(struct store *s, uint32_t partition, const struct position *pos, struct slice key,
              struct slice *out)
{
    struct vnode *v = engine_vnode(s, partition);
    const struct wbuf_entry *e;
    struct slice bucket;
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    e = wbuf_find(&v->live, pos, key);
    if (e == NULL)
        e = wbuf_find(&v->frozen, pos, key);
    if (e != NULL) {
        *out = slice_of(e->data, e->len);
        return bucket_is_void(*out, slice_of(e->data + e->key_at, e->key_len)) ? -ERR_NOTFOUND : 0;
    }
    if (v->ruined)
        return -ERR_CORRUPT;
    engine_note_reader(s, v);
    err = lmdb_reader_get(v->env, LMDB_DATA, slice_of(pos->b, sizeof pos->b), &bucket);
    if (err != 0)
        return engine_read_failed(s, v, err);
    err = bucket_find(bucket, key, &s->reader);
    if (err == -ERR_CORRUPT)
        engine_damaged(s, v, pos);
    if (err == 0)
        *out = s->reader.object.encoded;
    return err;
}

/* --- writing --- */

/* --- writing --- */

int engine_buffer_object(struct store *s, struct vnode *v, const struct position *pos,
                         struct slice object)
{
    struct slice key;
    int err = object_peek_key(object, &key);

    (void)s;
    if (err != 0)
        return err;
    return wbuf_put(&v->live, pos, object, (uint32_t)(key.data - object.data), (uint32_t)key.len);
}

int engine_buffer_hint(struct store *s, struct vnode *v, const uint8_t target[16],
                       const struct position *pos, uint64_t time_ms, bool add)
{
    uint8_t data[25];

    (void)s;
    memcpy(data, target, 16);
    memcpy(data + 16, &time_ms, 8);
    data[24] = add;
    return wbuf_put(&v->hints_live, pos, slice_of(data, sizeof data), 0, 16);
}

/* May a write of so many bytes be taken? On a full disk, the last of the room is for deletes. */
static int admit(struct store *s, size_t bytes, bool shrinks)
{
    uint64_t percent = s->conf.write_buffer_bytes / 100;
    int err = 0;

    if (s->pool.used + bytes > percent * ENGINE_PRESSURE_AT && s->pool.used > 0) {
        bool stuck = engine_flush_is_stuck(s);

        uint64_t most = percent * (stuck && shrinks ? LAST_ROOM : OVERDRAFT);

        if ((stuck && !shrinks) || s->pool.used + bytes > most)
            err = stuck ? -ERR_DISKFULL : -ERR_BUSY;
    }
    if (err == 0)
        err = journal_check(s->journal, bytes, shrinks);
    if (err == -ERR_DISKFULL)
        s->stats.disk_full++;
    return err;
}

int store_put(struct store *s, uint32_t partition, const struct position *pos, struct slice object,
              bool shrinks, uint64_t *lsn)
{
    struct vnode *v = engine_vnode(s, partition);
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    err = admit(s, object.len + sizeof *pos, shrinks);
    if (err == 0)
        err = engine_buffer_object(s, v, pos, object);
    if (err != 0)
        return err;
    *lsn = journal_append(s->journal, JOURNAL_PUT, partition, slice_of(pos->b, sizeof pos->b),
                          object, (struct slice){0});
    engine_note_write(s, v, *lsn);
    return 0;
}

static int put_hint(struct store *s, uint32_t partition, const uint8_t target[16],
                    const struct position *pos, uint64_t time_ms, bool add, uint64_t *lsn)
{
    struct vnode *v = engine_vnode(s, partition);
    int err;

    if (v == NULL)
        return -ERR_NOTFOUND;
    err = admit(s, 40, !add);
    if (err == 0)
        err = engine_buffer_hint(s, v, target, pos, time_ms, add);
    if (err != 0)
        return err;
    *lsn = journal_append(s->journal, add ? JOURNAL_HINT_ADD : JOURNAL_HINT_REMOVE, partition,
                          slice_of(target, 16), slice_of(pos->b, sizeof pos->b),
                          add ? slice_of(&time_ms, sizeof time_ms) : (struct slice){0});
    engine_note_write(s, v, *lsn);
    return 0;
}

int store_hint_add(struct store *s, uint32_t partition, const uint8_t target[16],
                   const struct position *pos, uint64_t time_ms, uint64_t *lsn)
{
    return put_hint(s, partition, target, pos, time_ms, true, lsn);
}

int store_hint_remove(struct store *s, uint32_t partition, const uint8_t target[16],
                      const struct position *pos)
{
    uint64_t lsn;

    return put_hint(s, partition, target, pos, 0, false, &lsn);
}
