/* Sorted write-back: what the flush thread does with one vnode. Everything a flush changes (data,
 * expiry index, leaf hashes, hints, id) is in one transaction, or, when the flush is large, in a few
 * over consecutive ranges of positions, each of which leaves data and leaves in agreement. */
#ifndef CLOCKWISE_STORE_FLUSH_H
#define CLOCKWISE_STORE_FLUSH_H

#include "store/vnode.h"

struct flush_conf {
    const char *data_dir;
    uint32_t worker;
    const struct vnode_conf *vnode; /* to replace a damaged one */
    bool leaves;                    /* keep Merkle leaves; off only to measure what they cost */
};

/* Do v->work.todo. Blocks for writes and syncs. A full disk is reported in v->work.err and leaves
 * everything as it was; any other failure to write ends the process. A damaged file makes it
 * -ERR_CORRUPT: then VNODE_REPLACE is to be asked for, when nobody reads. */
void flush_work(struct vnode *v, const struct flush_conf *conf);

#endif
