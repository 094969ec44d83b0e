/* A vnode of a worker, read by another process of the node: its rows and its Merkle leaves, from LMDB
 * read transactions that last for one call here, well below a second (a snapshot that is held keeps
 * pages from being used again). Rows and leaves that one call returns agree exactly; those of different
 * calls may be of different moments. Used by antientropyd; blocks for page faults only. */
#ifndef CLOCKWISE_STORE_SNAPSHOT_H
#define CLOCKWISE_STORE_SNAPSHOT_H

#include "core/exchange.h"

struct snapshot;

/* Open the vnode of a partition in a data directory. One process opens a vnode once at a time.
 * -ERR_NOTFOUND: there is none; -ERR_CORRUPT, -ERR_VERSION, -ERR_INVAL (another Q), -ERR_NOMEM. */
int snapshot_open(struct snapshot **out, const char *data_dir, uint32_t partition, uint8_t q_bits,
                  uint64_t map_bytes);
void snapshot_close(struct snapshot *s);

/* Is it still the vnode that lies in its place? false: it was dropped, or put into quarantine. */
bool snapshot_is_current(const struct snapshot *s);

/* The newest leaves: 1 << *leaf_bits sums, valid until the next call here. Read anew when something
 * has been committed since, and only then. */
int snapshot_leaves(struct snapshot *s, const uint64_t **leaves, unsigned *leaf_bits);

/* As struct exchange_host's rows and objects. -ERR_CORRUPT: the row at snapshot_bad() is damaged. */
int snapshot_rows(struct snapshot *s, const struct position *first, const struct position *last,
                  uint32_t max, uint64_t now_ms, struct exchange_entry *out);
int snapshot_objects(struct snapshot *s, struct position *cursor, const struct position *last,
                     uint32_t max_bytes, struct buf *out);
const struct position *snapshot_bad(const struct snapshot *s);

/* What the check of one leaf has found. */
enum snapshot_finding {
    SNAPSHOT_SOUND = 0,
    SNAPSHOT_BAD_ROW,  /* the row at *bad is damaged */
    SNAPSHOT_BAD_LEAF, /* its rows are sound and do not add up to it; *bad is where it begins */
    SNAPSHOT_END       /* there is no such leaf */
};

/* Read all rows of leaf `index`, verify their checksums, and compare their sum with the leaf. *rows and
 * *bytes are what was read. Returns enum snapshot_finding or an error. */
int snapshot_verify(struct snapshot *s, uint32_t index, uint64_t *rows, uint64_t *bytes,
                    struct position *bad);

#endif
