/* What antientropyd keeps of each partition that this node has a vnode of: agreements with other
 * nodes, the open snapshot if there is one, and where its verification stands. Blocks for files when a
 * snapshot is opened. */
#ifndef CLOCKWISE_ANTIENTROPYD_VNODES_H
#define CLOCKWISE_ANTIENTROPYD_VNODES_H

#include "core/horizon.h"
#include "core/repair.h"
#include "store/snapshot.h"

/* A peer of a partition: when it is compared with next, and what came of it. */
struct vnode_peer {
    struct node_id id;
    uint64_t due_us;   /* monotonic */
    uint32_t failures; /* in a row */
    uint32_t refusals; /* for being busy, since the newest agreement; bounded */
    bool busy;         /* being compared now */
};

struct vnode_info {
    struct horizon agreed;
    struct snapshot *snapshot; /* NULL: not open */
    uint64_t used_us;          /* when it was used last */
    uint64_t generation;       /* surplus: agreements are about what was there then */
    uint64_t fenced_ms;        /* ring change: when the phase was first seen to be RING_FENCED */
    bool guarded;              /* ring change: the phase has come to RING_GUARDED here */
    bool hurried;              /* ring change: it was compared out of turn since it was fenced */
    uint64_t alone_us,
        alone_request;    /* without other replicas: when to look at it, and who asked */
    uint64_t reported_us; /* damage in it was told the worker last */
    uint8_t standing;     /* as last heard; enum standing */
    uint64_t
        filled_ms; /* something came in then that the tree may not show yet: comparing it would find
                           it again; 0: no */
    bool surplus;  /* this node is no replica of it */
    uint8_t peer_count;
    struct vnode_peer peer[2 * LIMIT_REPLICAS];
};

struct vnodes {
    const char *data_dir; /* borrowed */
    uint8_t q_bits;
    uint64_t map_bytes;
    uint32_t partitions, open;
    struct vnode_info *info; /* by partition */
};

/* -ERR_NOMEM. */
int vnodes_init(struct vnodes *v, const char *data_dir, uint8_t q_bits, uint64_t map_bytes);

/* The snapshot of a partition, opened if need be, and again if another vnode has taken its place.
 * Errors as of snapshot_open(). */
int vnodes_snapshot(struct vnodes *v, uint32_t partition, uint64_t now_us, struct snapshot **out);
/* Close those that have not been used for a while. Not while any is in use. */
void vnodes_tidy(struct vnodes *v, uint64_t now_us);
void vnodes_close(struct vnodes *v, uint32_t partition);

#endif
