/* The write buffer of one vnode: what has been written since the last flush, newest state of each
 * key, found by (position, full key). An open-addressing table over an arena of fixed chunks, so
 * that a put costs no malloc; only what is too big for a chunk has an allocation of its own. Also
 * holds hints (position, target node). Used by one thread at a time: the loop's while it is live,
 * read by the flush thread while it is frozen, given back by the loop. */
#ifndef CLOCKWISE_STORE_WBUF_H
#define CLOCKWISE_STORE_WBUF_H

#include "base/slice.h"
#include "core/position.h"

#define WBUF_CHUNK 16384u /* bytes of an arena chunk */
#define WBUF_BIG   4096u  /* data longer than this is allocated by itself */

/* Chunks not in use, and the account of all memory of all buffers of one store. Loop thread only. */
struct wbuf_pool {
    void *free_chunks; /* linked through their first word */
    uint32_t free_count;
    uint64_t used; /* bytes held by buffers: chunks, tables, big data */
};

struct wbuf_entry {
    struct position pos;
    uint32_t len;      /* bytes of data */
    uint32_t capacity; /* bytes that data has room for; above WBUF_BIG it is an own allocation */
    uint32_t key_at, key_len; /* where in data the key is */
    uint8_t *data;
};

struct wbuf_slot {
    uint32_t tag; /* hash bits that save looking at most entries */
    uint32_t ref; /* place of the entry in the arena in units of 8 bytes, plus 1; 0: empty */
};

struct wbuf {
    struct wbuf_pool *pool;
    struct wbuf_slot *slots;
    uint32_t slot_count;       /* power of two, or 0 before the first entry */
    uint32_t count, big_count; /* entries; of these with data of their own allocation */
    uint8_t **chunks;
    uint32_t chunk_count, chunk_capacity;
    uint32_t fill;  /* bytes used of the newest chunk */
    uint64_t bytes; /* this buffer's share of pool->used */
};

void wbuf_init(struct wbuf *b, struct wbuf_pool *pool);

/* Give everything back to the pool; the buffer is then empty and usable. */
void wbuf_clear(struct wbuf *b);

/* Give the pool's cached chunks beyond `keep` back to the system. */
void wbuf_pool_trim(struct wbuf_pool *pool, uint32_t keep);

/* The entry of a key, or NULL. Valid until the next wbuf_put() or wbuf_clear(). */
struct wbuf_entry *wbuf_find(const struct wbuf *b, const struct position *pos, struct slice key);

/* Any entry at a position, or NULL; valid likewise. For objects: positions tell keys apart but for
 * chance. */
struct wbuf_entry *wbuf_find_at(const struct wbuf *b, const struct position *pos);

/* Insert or replace. `data` is copied; the key lies in it at key_at. -ERR_NOMEM (unchanged). */
int wbuf_put(struct wbuf *b, const struct position *pos, struct slice data, uint32_t key_at,
             uint32_t key_len);

/* Walk all entries in no order: start with *cursor = 0; NULL at the end. */
struct wbuf_entry *wbuf_next(const struct wbuf *b, uint32_t *cursor);

/* All entries in (position, key) order into `out`, which has room for b->count. */
struct wbuf_sorted {
    uint64_t prefix; /* first 8 bytes of the position as a number */
    struct wbuf_entry *entry;
};
void wbuf_sort(const struct wbuf *b, struct wbuf_sorted *out);

#endif
