/* repair.seg: the progress of anti-entropy. Written by antientropyd alone; for tools and INFO.
 *
 *   offset field       who changes it; why a stale read is harmless
 *   0      partitions  antientropyd at creation; constant
 *   4      replicas    antientropyd at creation; constant (rows per partition)
 *   64     counters    antientropyd; see counter.h
 *   ...    copied      antientropyd, through slot_publish(): one struct repair_copied. gossipd reads
 *                      it and tells everybody; a stale one is a step behind, never ahead
 *   ...    rows[]      antientropyd; row partition * replicas + k is the k-th peer of a partition.
 *                      Numbers are stored one by one: a reader may see those of different moments in
 *                      one row, and only displays them. last_agreement_ms is stored last, with
 *                      release
 *
 * Offsets from the start of the body. */
#ifndef CLOCKWISE_SHM_REPAIR_SEG_H
#define CLOCKWISE_SHM_REPAIR_SEG_H

#include "core/limits.h"
#include "core/ring.h"
#include "shm/counter.h"
#include "shm/segment.h"
#include "shm/slot.h"

enum repair_row_state {
    REPAIR_ROW_NONE = 0,
    REPAIR_ROW_IDLE = 1, /* compared before, nothing going on */
    REPAIR_ROW_COMPARING = 2,
    REPAIR_ROW_FAILED = 3
};

struct repair_row {
    _Atomic uint64_t peer_high, peer_low; /* node id of the peer, big-endian halves */
    _Atomic uint64_t keys_repaired;
    _Atomic uint64_t bytes;
    _Atomic uint64_t rounds;
    _Atomic uint64_t last_agreement_ms; /* wall time, 0: never */
    _Atomic uint32_t state;             /* enum repair_row_state */
    _Atomic uint32_t differences;       /* keys that the newest round has mended */
    uint64_t zero1;
};

/* How far this node's replicas have come in the ring change of one document: what gossipd announces of
 * them, by ring_change_announce(). A partition that this node is not a new member of is STEP_NONE. */
struct repair_copied {
    uint64_t epoch; /* of the document; 0: nothing copied yet */
    struct node_id proposer;
    uint64_t keys, bytes;           /* received for the sake of this document so far */
    uint8_t step[LIMIT_PARTITIONS]; /* STEP_NONE, STEP_WHOLE or STEP_SURE of core/ring_change.h */
};

struct repair_body {
    uint32_t partitions;
    uint32_t replicas;
    uint64_t zero[7];
    struct counter_block counters __attribute__((aligned(64)));
    uint8_t copied[SLOT_BYTES(sizeof(struct repair_copied))] __attribute__((aligned(64)));
    struct repair_row rows[];
};

struct repair_seg {
    struct segment segment;
    struct repair_body *body; /* changes with every reattachment; read-only for readers */
};

/* Writer: make and publish repair.seg. Errors as of segment_create(). */
int repair_seg_create(struct repair_seg *r, const char *dir, uint64_t incarnation,
                      uint32_t partitions);

/* Writer: what is being done with a partition and its k-th peer. */
void repair_seg_state(struct repair_seg *r, uint32_t partition, uint32_t k,
                      const struct node_id *peer, enum repair_row_state state);

/* Writer: what has come of comparing a partition with its k-th peer (k below LIMIT_REPLICAS).
 * keys and bytes are added to the row; agreed_ms is wall time or 0 for "no agreement this time". */
void repair_seg_update(struct repair_seg *r, uint32_t partition, uint32_t k,
                       const struct node_id *peer, enum repair_row_state state, uint64_t keys,
                       uint64_t bytes, uint64_t agreed_ms);

/* Writer: what has been copied. Steps must only rise within one document. */
void repair_seg_publish_copied(struct repair_seg *r, const struct repair_copied *c);
/* Reader: 0; -ERR_NOTFOUND if nothing has been published; -ERR_CORRUPT. */
int repair_seg_read_copied(const struct repair_seg *r, struct repair_copied *out);

/* Reader. Errors as of segment_attach(). */
int repair_seg_attach(struct repair_seg *r, const char *dir);
int repair_seg_refresh(struct repair_seg *r);

void repair_seg_close(struct repair_seg *r);

/* Static text; never NULL. */
const char *repair_seg_row_state_name(uint32_t state);

#endif
