/* Walking a vnode in position order, buffers included. Buffers have no order, so each call picks
 * from them the few smallest positions it needs (a bounded heap) and merges these with LMDB's rows.
 * Loop thread. */
#include "store/engine.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

enum { PICK_MIN = 32, PICK_MAX = 4096 };

/* One buffered entry and its age: live entries hide frozen ones. */
struct pick {
    const struct wbuf_entry *entry;
    bool live;
};

/* The smallest entries at or after a position, as a max-heap. */
struct picks {
    struct pick *items;
    uint32_t count, capacity;
    bool cut;               /* some entries did not fit ... */
    struct position beyond; /* ... the smallest of which is here */
};

static int compare_picks(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;
    int order = position_compare(&x->entry->pos, &y->entry->pos);

    if (order != 0)
        return order;
    return (int)y->live - (int)x->live;
}

static void sift_down(struct picks *p)
{
    uint32_t at = 0;

    for (;;) {
        uint32_t largest = at;

        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < p->count; child++)
            if (compare_picks(&p->items[child], &p->items[largest]) > 0)
                largest = child;
        if (largest == at)
            return;
        struct pick swap = p->items[at];
        p->items[at] = p->items[largest];
        p->items[largest] = swap;
        at = largest;
    }
}

static void sift_up(struct picks *p)
{
    uint32_t at = p->count - 1;

    while (at > 0 && compare_picks(&p->items[at], &p->items[(at - 1) / 2]) > 0) {
        struct pick swap = p->items[at];

        p->items[at] = p->items[(at - 1) / 2];
        p->items[(at - 1) / 2] = swap;
        at = (at - 1) / 2;
    }
}

static void note_beyond(struct picks *p, const struct position *pos)
{
    if (!p->cut || position_compare(pos, &p->beyond) < 0)
        p->beyond = *pos;
    p->cut = true;
}

static void offer(struct picks *p, struct pick pick)
{
    if (p->count < p->capacity) {
        p->items[p->count++] = pick;
        sift_up(p);
    } else if (compare_picks(&pick, &p->items[0]) < 0) {
        note_beyond(p, &p->items[0].entry->pos);
        p->items[0] = pick;
        sift_down(p);
    } else {
        note_beyond(p, &pick.entry->pos);
    }
}

/* Offer all entries of a buffer from a position on; target NULL: any. */
static void offer_all(struct picks *p, const struct wbuf *b, bool live, const struct position *from,
                      const uint8_t *target)
{
    uint32_t cursor = 0;
    const struct wbuf_entry *e;

    while ((e = wbuf_next(b, &cursor)) != NULL)
        if (position_compare(&e->pos, from) >= 0 &&
            (target == NULL || memcmp(e->data, target, 16) == 0))
            offer(p, (struct pick){e, live});
}

static struct slice pick_key(const struct pick *p)
{
    return slice_of(p->entry->data + p->entry->key_at, p->entry->key_len);
}

/* Sort, drop frozen entries that a live one of the same key hides, and what may be incomplete. */
static void settle(struct picks *p)
{
    uint32_t kept = 0;

    if (p->count > 0)
        qsort(p->items, p->count, sizeof *p->items, compare_picks);
    for (uint32_t i = 0; i < p->count; i++) {
        bool hidden = false;

        if (p->cut && position_compare(&p->items[i].entry->pos, &p->beyond) >= 0)
            break;
        for (uint32_t j = kept; j > 0 && !hidden; j--) {
            if (position_compare(&p->items[j - 1].entry->pos, &p->items[i].entry->pos) != 0)
                break;
            hidden = slice_equal(pick_key(&p->items[j - 1]), pick_key(&p->items[i]));
        }
        if (!hidden)
            p->items[kept++] = p->items[i];
    }
    p->count = kept;
}

static int pick(struct picks *p, const struct wbuf *live, const struct wbuf *frozen,
                const struct position *from, uint32_t max, const uint8_t *target)
{
    memset(p, 0, sizeof *p);
    p->capacity = max < PICK_MIN ? PICK_MIN : max > PICK_MAX ? PICK_MAX : max;
    p->items = malloc(p->capacity * sizeof *p->items);
    if (p->items == NULL)
        return -ERR_NOMEM;
    offer_all(p, live, true, from, target);
    offer_all(p, frozen, false, from, target);
    settle(p);
    return 0;
}

/* The position after this one; false if there is none. */
static bool next_position(struct position *pos)
{
    for (int i = POSITION_BYTES - 1; i >= 0; i--)
        if (++pos->b[i] != 0)
            return true;
    return false;
}

/* The state of one call: rows of LMDB and picks, both in order, merged. */
struct merge {
    struct store *s;
    struct vnode *v;
    struct picks picks;
    uint32_t at; /* next pick */
    uint32_t emitted;
    bool row; /* a row is at hand */
    struct position row_pos;
    struct slice row_value;
    bool damaged;
    struct position damaged_at;
    int err;
};

static void take_row(struct merge *m, int err, size_t prefix, struct slice key, struct slice value)
{
    m->row = err == 0 && key.len == prefix + POSITION_BYTES;
    if (err != 0 && err != -ERR_NOTFOUND)
        m->err = err;
    if (m->row) {
        memcpy(m->row_pos.b, key.data + prefix, POSITION_BYTES);
        m->row_value = value;
    }
}

/* The position to emit next, or false at the end of what is known. */
static bool merge_next(const struct merge *m, struct position *pos)
{
    bool buffered = m->at < m->picks.count;

    if (m->err != 0 || (!buffered && !m->row))
        return false;
    if (!buffered)
        *pos = m->row_pos;
    else if (!m->row)
        *pos = m->picks.items[m->at].entry->pos;
    else
        *pos = position_compare(&m->row_pos, &m->picks.items[m->at].entry->pos) < 0
                   ? m->row_pos
                   : m->picks.items[m->at].entry->pos;
    return !m->picks.cut || position_compare(pos, &m->picks.beyond) < 0;
}

/* Does a pick at this position have the key? Picks of one position lie together from m->at on. */
static bool is_buffered(const struct merge *m, const struct position *pos, struct slice key)
{
    for (uint32_t i = m->at; i < m->picks.count; i++) {
        if (position_compare(&m->picks.items[i].entry->pos, pos) != 0)
            return false;
        if (slice_equal(pick_key(&m->picks.items[i]), key))
            return true;
    }
    return false;
}

typedef void object_fn(void *arg, const struct position *pos, struct slice object);

static void emit_position(struct merge *m, const struct position *pos, object_fn *each, void *arg)
{
    if (m->row && position_compare(&m->row_pos, pos) == 0) {
        struct bucket_reader *r = &m->s->reader;
        struct slice key, value;
        size_t at = 0;
        int rc;

        while ((rc = bucket_next(m->row_value, &at, r)) == 1)
            if (!is_buffered(m, pos, r->object.key)) {
                each(arg, pos, r->object.encoded);
                m->emitted++;
            }
        if (rc == -ERR_CORRUPT && !m->damaged) { /* reported at the end: the walk still reads */
            m->damaged = true;
            m->damaged_at = *pos;
        }
        rc = lmdb_reader_step(m->v->env, LMDB_DATA, &key, &value);
        take_row(m, rc, 0, key, value);
    }
    for (; m->at < m->picks.count; m->at++) {
        const struct wbuf_entry *e = m->picks.items[m->at].entry;

        if (position_compare(&e->pos, pos) != 0)
            break;
        if (bucket_is_void(slice_of(e->data, e->len), pick_key(&m->picks.items[m->at])))
            continue;
        each(arg, pos, slice_of(e->data, e->len));
        m->emitted++;
    }
}

int store_scan(struct store *s, uint32_t partition, struct position *cursor, uint32_t max,
               void (*each)(void *arg, const struct position *pos, struct slice object), void *arg)
{
    struct merge m = {.s = s, .v = engine_vnode(s, partition)};
    struct position pos = *cursor;
    struct slice key, value;
    bool more;

    if (m.v == NULL)
        return -ERR_NOTFOUND;
    if (m.v->ruined)
        return -ERR_CORRUPT;
    m.err = pick(&m.picks, &m.v->live, &m.v->frozen, cursor, max, NULL);
    if (m.err != 0)
        return m.err;
    engine_note_reader(s, m.v);
    take_row(
        &m,
        lmdb_reader_seek(m.v->env, LMDB_DATA, slice_of(cursor->b, sizeof cursor->b), &key, &value),
        0, key, value);
    while ((more = merge_next(&m, &pos)) && m.emitted < max) {
        emit_position(&m, &pos, each, arg);
        *cursor = pos;
        if (!next_position(cursor)) {
            more = false;
            break;
        }
    }
    free(m.picks.items);
    if (m.damaged)
        engine_damaged(s, m.v, &m.damaged_at);
    if (m.err != 0)
        return engine_read_failed(s, m.v, m.err);
    return !more && !m.picks.cut;
}

typedef void hint_fn(void *arg, const struct position *pos, uint64_t time_ms);

static void emit_hint(struct merge *m, const uint8_t target[16], const struct position *pos,
                      hint_fn *each, void *arg)
{
    bool row = m->row && position_compare(&m->row_pos, pos) == 0;
    bool buffered =
        m->at < m->picks.count && position_compare(&m->picks.items[m->at].entry->pos, pos) == 0;
    uint64_t time_ms = 0;

    if (buffered) {
        const struct wbuf_entry *e = m->picks.items[m->at++].entry;

        memcpy(&time_ms, e->data + 16, sizeof time_ms);
        if (e->data[24] != 0) {
            each(arg, pos, time_ms);
            m->emitted++;
        }
    } else if (row && m->row_value.len == sizeof time_ms) {
        memcpy(&time_ms, m->row_value.data, sizeof time_ms);
        each(arg, pos, time_ms);
        m->emitted++;
    }
    if (row) {
        struct slice key, value;
        int err = lmdb_reader_step(m->v->env, LMDB_HINTS, &key, &value);

        if (err == 0 && (key.len != 32 || memcmp(key.data, target, 16) != 0))
            err = -ERR_NOTFOUND;
        take_row(m, err, 16, key, value);
    }
}

int store_hint_scan(struct store *s, uint32_t partition, const uint8_t target[16],
                    struct position *cursor, uint32_t max,
                    void (*each)(void *arg, const struct position *pos, uint64_t time_ms),
                    void *arg)
{
    struct merge m = {.s = s, .v = engine_vnode(s, partition)};
    struct position pos = *cursor;
    struct slice key, value;
    uint8_t from[32];
    bool more;
    int err;

    if (m.v == NULL)
        return -ERR_NOTFOUND;
    if (m.v->ruined)
        return -ERR_CORRUPT;
    m.err = pick(&m.picks, &m.v->hints_live, &m.v->hints_frozen, cursor, max, target);
    if (m.err != 0)
        return m.err;
    engine_note_reader(s, m.v);
    memcpy(from, target, 16);
    memcpy(from + 16, cursor->b, sizeof cursor->b);
    err = lmdb_reader_seek(m.v->env, LMDB_HINTS, slice_of(from, sizeof from), &key, &value);
    if (err == 0 && (key.len != 32 || memcmp(key.data, target, 16) != 0))
        err = -ERR_NOTFOUND;
    take_row(&m, err, 16, key, value);
    while ((more = merge_next(&m, &pos)) && m.emitted < max) {
        emit_hint(&m, target, &pos, each, arg);
        *cursor = pos;
        if (!next_position(cursor)) {
            more = false;
            break;
        }
    }
    free(m.picks.items);
    if (m.err != 0)
        return engine_read_failed(s, m.v, m.err);
    return !more && !m.picks.cut;
}

/* ---- single rows, found by position ---- */

int store_get_at(struct store *s, uint32_t partition, const struct position *pos, struct slice *out)
{
    struct vnode *v = engine_vnode(s, partition);
    const struct wbuf_entry *e;
    struct slice bucket;
    size_t at = 0;
    int rc;

    if (v == NULL)
        return -ERR_NOTFOUND;
    e = wbuf_find_at(&v->live, pos);
    if (e == NULL)
        e = wbuf_find_at(&v->frozen, pos);
    if (e != NULL) {
        *out = slice_of(e->data, e->len);
        return bucket_is_void(*out, slice_of(e->data + e->key_at, e->key_len)) ? -ERR_NOTFOUND : 0;
    }
    if (v->ruined)
        return -ERR_CORRUPT;
    engine_note_reader(s, v);
    rc = lmdb_reader_get(v->env, LMDB_DATA, slice_of(pos->b, sizeof pos->b), &bucket);
    if (rc != 0)
        return engine_read_failed(s, v, rc);
    rc = bucket_next(bucket, &at, &s->reader);
    if (rc == -ERR_CORRUPT)
        engine_damaged(s, v, pos);
    if (rc == 1)
        *out = s->reader.object.encoded;
    return rc == 1 ? 0 : rc == 0 ? -ERR_NOTFOUND : rc;
}

int store_hint_get(struct store *s, uint32_t partition, const uint8_t target[16],
                   const struct position *pos, uint64_t *time_ms)
{
    struct vnode *v = engine_vnode(s, partition);
    struct slice key = slice_of(target, 16), value;
    const struct wbuf_entry *e;
    uint8_t row[32];
    int rc;

    if (v == NULL)
        return -ERR_NOTFOUND;
    e = wbuf_find(&v->hints_live, pos, key);
    if (e == NULL)
        e = wbuf_find(&v->hints_frozen, pos, key);
    if (e != NULL) {
        memcpy(time_ms, e->data + 16, sizeof *time_ms);
        return e->data[24] != 0 ? 0 : -ERR_NOTFOUND;
    }
    if (v->ruined)
        return -ERR_CORRUPT;
    engine_note_reader(s, v);
    memcpy(row, target, 16);
    memcpy(row + 16, pos->b, sizeof pos->b);
    rc = lmdb_reader_get(v->env, LMDB_HINTS, slice_of(row, sizeof row), &value);
    if (rc != 0)
        return engine_read_failed(s, v, rc);
    if (value.len != sizeof *time_ms)
        return -ERR_CORRUPT;
    memcpy(time_ms, value.data, sizeof *time_ms);
    return 0;
}
