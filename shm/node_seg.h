/* node.seg: what the supervisor says about its node: identity, configuration in short, children.
 * Written by the supervisor alone; for tools and INFO. The supervisor reads no other segment.
 *
 *   offset field     who changes it; why a stale read is harmless
 *   0      slots     the supervisor, through slot_publish(): one struct node_view; nothing but
 *                    display depends on it
 *   ...    counters  the supervisor; see counter.h
 *
 * Offsets from the start of the body. Which worker owns a vnode is not in a table: it is
 * ring_worker_of(partition, workers). */
#ifndef CLOCKWISE_SHM_NODE_SEG_H
#define CLOCKWISE_SHM_NODE_SEG_H

#include "core/limits.h"
#include "core/ring.h"
#include "shm/counter.h"
#include "shm/segment.h"
#include "shm/slot.h"

#define NODE_SEG_CHILDREN (LIMIT_WORKERS + 4)
#define NODE_SEG_REASON   160
#define NODE_SEG_PATH     240

enum node_child_state {
    NODE_CHILD_NONE = 0,
    NODE_CHILD_STARTING = 1,
    NODE_CHILD_READY = 2,
    NODE_CHILD_STOPPING = 3,
    NODE_CHILD_WAITING = 4, /* dead, to be started again after a pause */
    NODE_CHILD_FAILED = 5,  /* died too often; given up */
    NODE_CHILD_STOPPED = 6
};

struct node_child {
    char role[24]; /* "worker", "gossipd", "antientropyd" */
    uint32_t index;
    int32_t pid;    /* 0: none */
    uint32_t state; /* enum node_child_state */
    uint32_t restarts;
    uint64_t incarnation;            /* as told by the child, 0: not known */
    uint64_t since_ms;               /* wall time of the last change of state */
    char status[NODE_SEG_REASON];    /* last STATUS text of the child */
    char last_exit[NODE_SEG_REASON]; /* how it ended last, with its obituary; empty: never */
};

struct node_view {
    struct node_id id;
    char name[LIMIT_NAME];
    char cluster[LIMIT_NAME];
    char zone[LIMIT_NAME];
    char address[LIMIT_ADDR];
    uint16_t port, worker_port, peer_port, gossip_port;
    uint32_t workers;
    uint32_t q_bits;
    uint32_t n, r, w;
    char durability[16];
    char data_dir[NODE_SEG_PATH];
    char runtime_dir[NODE_SEG_PATH];
    char config_file[NODE_SEG_PATH]; /* as given by the user; empty: none */
    char status[NODE_SEG_REASON];    /* as told to systemd */
    int32_t supervisor_pid;
    uint32_t child_count;
    uint64_t started_ms; /* wall time */
    struct node_child children[NODE_SEG_CHILDREN];
};

struct node_seg {
    struct segment segment;
};

/* Writer: make and publish node.seg with a first view. Errors as of segment_create(). */
int node_seg_create(struct node_seg *n, const char *dir, uint64_t incarnation,
                    const struct node_view *first);
void node_seg_publish(struct node_seg *n, const struct node_view *v);
/* The writer's (or, read-only, a reader's) counters. */
struct counter_block *node_seg_counters(const struct node_seg *n);

/* Reader. Errors as of segment_attach(). */
int node_seg_attach(struct node_seg *n, const char *dir);
int node_seg_refresh(struct node_seg *n);
/* 0, -ERR_NOTFOUND, -ERR_CORRUPT; all texts in *out end with a 0 and child_count is within bounds. */
int node_seg_read(const struct node_seg *n, struct node_view *out);

void node_seg_close(struct node_seg *n);

/* Static text; never NULL. */
const char *node_seg_child_state_name(uint32_t state);

#endif
