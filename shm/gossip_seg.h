/* gossip.seg: how gossipd sees the health of every member. Written by gossipd alone; for workers
 * (which members to try first), tools and INFO. What routing depends on is in ring.seg.
 *
 *   offset field     who changes it; why a stale read is harmless
 *   0      slots     gossipd, through slot_publish(): one struct gossip_view; it is a belief anyway
 *   ...    counters  gossipd; see counter.h
 *
 * Offsets from the start of the body. */
#ifndef CLOCKWISE_SHM_GOSSIP_SEG_H
#define CLOCKWISE_SHM_GOSSIP_SEG_H

#include "core/limits.h"
#include "core/ring.h"
#include "shm/counter.h"
#include "shm/segment.h"
#include "shm/slot.h"

struct gossip_member {
    struct node_id id;
    char name[LIMIT_NAME];
    char address[LIMIT_ADDR];
    uint16_t gossip_port;
    uint8_t state; /* enum member_state */
    uint8_t zero[5];
    uint64_t incarnation;   /* SWIM incarnation */
    uint64_t since_ms;      /* wall time of the last change of state */
    uint64_t last_heard_ms; /* wall time of the last packet that came from it, 0: none yet */
    uint32_t rtt_us;        /* of the last answer */
    uint32_t suspicions;    /* so far */
    uint32_t verdicts_down; /* workers of this node that report it down now */
    uint32_t zero2;
};

struct gossip_view {
    uint32_t member_count;
    uint32_t health;     /* Lifeguard's local health multiplier; 0: healthy */
    uint64_t updated_ms; /* wall time */
    struct gossip_member members[LIMIT_MEMBERS];
};

struct gossip_seg {
    struct segment segment;
};

/* Writer: make and publish gossip.seg. Errors as of segment_create(). */
int gossip_seg_create(struct gossip_seg *g, const char *dir, uint64_t incarnation);
void gossip_seg_publish(struct gossip_seg *g, const struct gossip_view *v);
struct counter_block *gossip_seg_counters(const struct gossip_seg *g);

/* Reader. Errors as of segment_attach(). */
int gossip_seg_attach(struct gossip_seg *g, const char *dir);
int gossip_seg_refresh(struct gossip_seg *g);
/* 0, -ERR_NOTFOUND, -ERR_CORRUPT; texts end with a 0 and member_count is within bounds. */
int gossip_seg_read(const struct gossip_seg *g, struct gossip_view *out);

void gossip_seg_close(struct gossip_seg *g);

#endif
