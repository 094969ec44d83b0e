/* Inside of a flush, shared by flush.c (transactions), flush_row.c (rows and their leaves) and flush_due.c
 * (what time has made void) alone. All of it runs where flush_work() runs. */
#ifndef CLOCKWISE_STORE_FLUSH_IMPL_H
#define CLOCKWISE_STORE_FLUSH_IMPL_H

#include "store/bucket.h"
#include "store/flush.h"

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
    bool amnesia; /* something is lost: a damaged record was met, say */
    bool renew;   /* a new id is wanted, amnesia or not */
    bool early;   /* more transactions of this flush follow, whose commits bring this one to disk */
    bool rebuild; /* all leaf hashes must be made anew */
    uint64_t *rebuilt; /* the new ones, until they are committed */
};

static inline struct slice flush_position(const struct position *pos)
{
    return slice_of(pos->b, sizeof pos->b);
}

/* flush.c: complete the open transaction and commit it. */
int flush_commit(struct flush *f);

/* flush_row.c. All in the open transaction. */

/* Write an entry of the frozen buffer. */
int flush_write_entry(struct flush *f, const struct wbuf_entry *e);
/* Replace a bucket; before is what was there (empty: nothing). */
int flush_replace_bucket(struct flush *f, const struct position *pos, struct slice before,
                         struct slice after);
/* Write a leaf hash. */
int flush_put_leaf(struct vnode *v, uint32_t index, uint64_t hash);
/* Make all leaf hashes anew from the data. */
int flush_rebuild_leaves(struct flush *f);

/* flush_due.c. */

/* Drop the values that have expired: one transaction's worth. */
int flush_expire(struct flush *f);
/* Remove the tombstones that the horizon has passed: one transaction's worth. */
int flush_purge(struct flush *f);
/* Note where the indexes by time begin, seen from a fresh transaction that changes nothing. */
void flush_note_next_times(struct vnode *v);

#endif
