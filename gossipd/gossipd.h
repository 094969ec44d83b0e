/* The state of the gossipd process, shared between its files. One thread. */
#ifndef CLOCKWISE_GOSSIPD_GOSSIPD_H
#define CLOCKWISE_GOSSIPD_GOSSIPD_H

#include "conf/conf.h"
#include "core/member_change.h"
#include "gossipd/packet.h"
#include "gossipd/stream.h"
#include "gossipd/verdict.h"
#include "ipc/child.h"
#include "ipc/loop.h"
#include "ipc/msg_codec.h"
#include "shm/gossip_seg.h"
#include "shm/node_seg.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"

struct admin_set;

/* The change of the ring that is under way, as this node sees it. */
struct change_watch {
    struct repair_seg repair;
    struct repair_copied copied; /* as read last */
    struct worker_seg workers[LIMIT_WORKERS];
    uint32_t lost_said;
    struct member_version version; /* what the numbers below are about */
    uint64_t started_us, done_us;  /* mono; when it was first seen, and when `done` last rose */
    uint32_t done;                 /* steps to WHOLE that have been announced */
    bool was_in;                   /* this node was in the ring when it was looked at last */
    uint64_t not_removed;          /* whom auto_remove_after cannot remove, hashed; 0: nobody */
    uint64_t drained_us;           /* since when it has nothing left to give; 0: it has */
    struct loop_timer timer;
};

struct gossipd {
    struct child child;
    struct conf conf;
    struct loop *loop;
    struct msg_codec *codec;
    struct packet_box box;
    struct membership members;
    void *member_memory;
    struct member_change *change;
    struct change_watch watch;
    struct admin_set *admin;
    struct verdict_table verdicts;
    struct stream_set *streams;
    struct tls_context *tls; /* of the streams; NULL: plain */
    struct buf out;          /* the datagram being made */

    struct ring_seg ring_seg;
    struct gossip_seg gossip_seg;
    struct counter_block *counters;
    struct ring_view view;          /* as published last */
    struct gossip_view gossip_view; /* likewise */
    bool changed, ring_changed;     /* since then */
    /* News ignored, as last logged, and when. */
    struct ignored {
        uint64_t said, said_us;
    } ahead, incompatible, foreign;

    int udp_fd, notify_fd;
    struct loop_watch udp_watch, notify_watch;
    struct loop_timer step_timer, publish_timer;
    struct loop_task publish_task;
};

/* Hand the messages of a verified packet to the membership. -ERR_FORMAT if one is malformed. */
int gossipd_take(struct gossipd *g, const struct node_id *sender,
                 const struct member_endpoint *from, struct slice messages);

/* publish.c: queue a publication of ring and gossip views for the end of this turn; ring: also save
 * the members and the ring, and publish a new ring view. */
void gossipd_changed(struct gossipd *g, bool ring);
/* Create the segments with what is known. Exits on failure. */
void gossipd_open_segments(struct gossipd *g);

/* Publish a new ring view at once. */
void gossipd_publish_ring(struct gossipd *g);

/* Map the segments of those workers that are there, in watch.workers. */
void gossipd_map_workers(struct gossipd *g);

/* change.c: go on with a change of the ring, as far as workers and antientropyd have come. */
void gossipd_change_open(struct gossipd *g);
void gossipd_change_step(struct gossipd *g);
/* Has this node left the ring in an earlier run? Says so and exits. */
void gossipd_refuse_spent_id(struct gossipd *g);

/* saved.c: members and ring of earlier runs, in DATA_DIR/ring. gossipd_save() writes a temporary
 * file, syncs and renames it: it blocks, which gossipd may do when the ring or a member changes. */
void gossipd_load(struct gossipd *g);
void gossipd_save(struct gossipd *g);

#endif
