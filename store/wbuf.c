/* The write buffer of one vnode. See wbuf.h. It knows nothing of objects, journals or files. */
#include "store/wbuf.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

enum { SLOTS_FIRST = 64, UNIT = 8 };

/* The tag of a position; its low bits say where in the table to begin, so that a larger table can be
 * filled without looking at entries. */
static uint32_t tag_of(const struct position *pos)
{
    uint64_t h;

    memcpy(&h, pos->b + 8, sizeof h);
    h *= 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 32 ^ h);
}

static struct wbuf_entry *entry_at(const struct wbuf *b, uint32_t ref)
{
    uint32_t per_chunk = WBUF_CHUNK / UNIT;

    ref--;
    ASSERT(ref / per_chunk < b->chunk_count);
    return (struct wbuf_entry *)(void *)(b->chunks[ref / per_chunk] +
                                         (size_t)(ref % per_chunk) * UNIT);
}

void wbuf_init(struct wbuf *b, struct wbuf_pool *pool)
{
    memset(b, 0, sizeof *b);
    b->pool = pool;
}

static void account(struct wbuf *b, int64_t bytes)
{
    b->bytes += (uint64_t)bytes;
    b->pool->used += (uint64_t)bytes;
}

static void *pool_take(struct wbuf_pool *pool)
{
    void *chunk = pool->free_chunks;

    if (chunk == NULL)
        return malloc(WBUF_CHUNK);
    memcpy(&pool->free_chunks, chunk, sizeof chunk);
    pool->free_count--;
    return chunk;
}

static void pool_give(struct wbuf_pool *pool, void *chunk)
{
    memcpy(chunk, &pool->free_chunks, sizeof chunk);
    pool->free_chunks = chunk;
    pool->free_count++;
}

void wbuf_pool_trim(struct wbuf_pool *pool, uint32_t keep)
{
    while (pool->free_count > keep) {
        void *chunk = pool_take(pool);

        free(chunk);
    }
}

void wbuf_clear(struct wbuf *b)
{
    uint32_t cursor = 0;
    struct wbuf_entry *e;

    while (b->big_count > 0 && (e = wbuf_next(b, &cursor)) != NULL)
        if (e->capacity > WBUF_BIG)
            free(e->data);
    for (uint32_t i = 0; i < b->chunk_count; i++)
        pool_give(b->pool, b->chunks[i]);
    free(b->chunks);
    free(b->slots);
    account(b, -(int64_t)b->bytes);
    wbuf_init(b, b->pool);
}

/* The slot where the key is, or the empty one where it would go. */
static struct wbuf_slot *slot_of(const struct wbuf *b, const struct position *pos, struct slice key)
{
    uint32_t mask = b->slot_count - 1, tag = tag_of(pos);

    for (uint32_t i = tag & mask;; i = (i + 1) & mask) {
        struct wbuf_slot *slot = &b->slots[i];
        struct wbuf_entry *e;

        if (slot->ref == 0)
            return slot;
        if (slot->tag != tag)
            continue;
        e = entry_at(b, slot->ref);
        if (position_compare(&e->pos, pos) == 0 &&
            slice_equal(slice_of(e->data + e->key_at, e->key_len), key))
            return slot;
    }
}

struct wbuf_entry *wbuf_find(const struct wbuf *b, const struct position *pos, struct slice key)
{
    struct wbuf_slot *slot;

    if (b->count == 0)
        return NULL;
    slot = slot_of(b, pos, key);
    return slot->ref == 0 ? NULL : entry_at(b, slot->ref);
}

struct wbuf_entry *wbuf_find_at(const struct wbuf *b, const struct position *pos)
{
    uint32_t mask = b->slot_count - 1, tag = tag_of(pos);

    if (b->count == 0)
        return NULL;
    for (uint32_t i = tag & mask; b->slots[i].ref != 0; i = (i + 1) & mask) {
        struct wbuf_entry *e = entry_at(b, b->slots[i].ref);

        if (b->slots[i].tag == tag && position_compare(&e->pos, pos) == 0)
            return e;
    }
    return NULL;
}

/* Make sure that one more entry fits at a load of at most three quarters. */
static int table_grow(struct wbuf *b)
{
    uint32_t wanted = b->slot_count == 0 ? SLOTS_FIRST : b->slot_count * 2;
    struct wbuf_slot *slots;

    if (b->slot_count != 0 && b->count + 1 <= b->slot_count / 4 * 3)
        return 0;
    slots = calloc(wanted, sizeof *slots);
    if (slots == NULL)
        return -ERR_NOMEM;
    for (uint32_t i = 0; i < b->slot_count; i++) {
        struct wbuf_slot old = b->slots[i];
        uint32_t at;

        if (old.ref == 0)
            continue;
        at = old.tag & (wanted - 1);
        while (slots[at].ref != 0)
            at = (at + 1) & (wanted - 1);
        slots[at] = old;
    }
    account(b, (int64_t)((uint64_t)(wanted - b->slot_count) * sizeof *slots));
    free(b->slots);
    b->slots = slots;
    b->slot_count = wanted;
    return 0;
}

/* Room for `len` bytes in the arena: its place in *ref, or -ERR_NOMEM. */
static int arena_take(struct wbuf *b, uint32_t len, uint32_t *ref)
{
    len = (len + UNIT - 1) & ~(uint32_t)(UNIT - 1);
    ASSERT(len <= WBUF_CHUNK);
    if (b->chunk_count == 0 || b->fill + len > WBUF_CHUNK) {
        uint8_t *chunk;

        if (b->chunk_count == b->chunk_capacity) {
            uint32_t wanted = b->chunk_capacity == 0 ? 8 : b->chunk_capacity * 2;
            uint8_t **chunks = realloc(b->chunks, wanted * sizeof *chunks);

            if (chunks == NULL)
                return -ERR_NOMEM;
            b->chunks = chunks;
            b->chunk_capacity = wanted;
        }
        chunk = pool_take(b->pool);
        if (chunk == NULL)
            return -ERR_NOMEM;
        b->chunks[b->chunk_count++] = chunk;
        b->fill = 0;
        account(b, WBUF_CHUNK);
    }
    *ref = (b->chunk_count - 1) * (WBUF_CHUNK / UNIT) + b->fill / UNIT + 1;
    b->fill += len;
    return 0;
}

/* Point the entry to room for len bytes: the room it has, an own allocation, or new arena room. */
static int data_room(struct wbuf *b, struct wbuf_entry *e, uint32_t len)
{
    uint8_t *big = NULL;
    uint32_t ref;

    if (e->data != NULL && len <= e->capacity && !(e->capacity > WBUF_BIG && len <= WBUF_BIG))
        return 0;
    if (len > WBUF_BIG) {
        big = malloc(len);
        if (big == NULL)
            return -ERR_NOMEM;
        account(b, len);
        b->big_count++;
    } else if (arena_take(b, len, &ref) != 0) {
        return -ERR_NOMEM;
    }
    if (e->data != NULL && e->capacity > WBUF_BIG) {
        account(b, -(int64_t)e->capacity);
        b->big_count--;
        free(e->data);
    }
    e->data = big != NULL ? big : (uint8_t *)entry_at(b, ref);
    e->capacity = len;
    return 0;
}

int wbuf_put(struct wbuf *b, const struct position *pos, struct slice data, uint32_t key_at,
             uint32_t key_len)
{
    struct slice key = slice_of(data.data + key_at, key_len);
    uint32_t inline_len = data.len > WBUF_BIG ? 0 : (uint32_t)data.len;
    struct wbuf_slot *slot;
    struct wbuf_entry *e;
    uint32_t ref;

    ASSERT(key_at + (uint64_t)key_len <= data.len && data.len < UINT32_MAX);
    if (table_grow(b) != 0)
        return -ERR_NOMEM;
    slot = slot_of(b, pos, key);
    if (slot->ref == 0) {
        if (arena_take(b, (uint32_t)sizeof *e + inline_len, &ref) != 0)
            return -ERR_NOMEM;
        e = entry_at(b, ref);
        memset(e, 0, sizeof *e);
        e->pos = *pos;
        if (inline_len > 0) {
            e->data = (uint8_t *)(e + 1);
            e->capacity = inline_len;
        }
        if (data_room(b, e, (uint32_t)data.len) != 0)
            return -ERR_NOMEM;
        slot->ref = ref;
        slot->tag = tag_of(pos);
        b->count++;
    } else {
        e = entry_at(b, slot->ref);
        if (data_room(b, e, (uint32_t)data.len) != 0)
            return -ERR_NOMEM;
    }
    memmove(e->data, data.data, data.len);
    e->len = (uint32_t)data.len;
    e->key_at = key_at;
    e->key_len = key_len;
    return 0;
}

struct wbuf_entry *wbuf_next(const struct wbuf *b, uint32_t *cursor)
{
    while (*cursor < b->slot_count) {
        uint32_t ref = b->slots[(*cursor)++].ref;

        if (ref != 0)
            return entry_at(b, ref);
    }
    return NULL;
}

static int compare_sorted(const void *a, const void *b)
{
    const struct wbuf_sorted *x = a, *y = b;
    int order;

    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    order = position_compare(&x->entry->pos, &y->entry->pos);
    if (order != 0)
        return order;
    order = memcmp(x->entry->data + x->entry->key_at, y->entry->data + y->entry->key_at,
                   x->entry->key_len < y->entry->key_len ? x->entry->key_len : y->entry->key_len);
    return order != 0
               ? order
               : (x->entry->key_len > y->entry->key_len) - (x->entry->key_len < y->entry->key_len);
}

void wbuf_sort(const struct wbuf *b, struct wbuf_sorted *out)
{
    uint32_t cursor = 0, n = 0;
    struct wbuf_entry *e;

    while ((e = wbuf_next(b, &cursor)) != NULL) {
        uint64_t prefix = 0;

        for (int i = 0; i < 8; i++)
            prefix = prefix << 8 | e->pos.b[i];
        out[n++] = (struct wbuf_sorted){prefix, e};
    }
    ASSERT(n == b->count);
    qsort(out, n, sizeof *out, compare_sorted);
}
