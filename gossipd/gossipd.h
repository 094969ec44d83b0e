/* The state of the gossipd process, shared between its files. One thread. */
#ifndef CLOCKWISE_GOSSIPD_GOSSIPD_H
#define CLOCKWISE_GOSSIPD_GOSSIPD_H

#include "conf/conf.h"
#include "core/member.h"
#include "gossipd/packet.h"
#include "gossipd/stream.h"
#include "gossipd/verdict.h"
#include "ipc/child.h"
#include "ipc/loop.h"
#include "ipc/msg_codec.h"
#include "shm/gossip_seg.h"
#include "shm/node_seg.h"
#include "shm/ring_seg.h"

struct gossipd {
    struct child child;
    struct conf conf;
    struct loop *loop;
    struct msg_codec *codec;
    struct packet_box box;
    struct membership members;
    void *member_memory;
    struct verdict_table verdicts;
    struct stream_set *streams;
    struct tls_context *tls; /* of the streams; NULL: plain */
    struct buf out;          /* the datagram being made */

    struct ring_seg ring_seg;
    struct gossip_seg gossip_seg;
    struct counter_block *counters;
    struct ring_view view;              /* as published last */
    struct gossip_view gossip_view;     /* likewise */
    bool changed, ring_changed;         /* since then */
    uint64_t ahead_said, ahead_said_us; /* news ignored, as last logged, and when */

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

/* saved.c: members and ring of earlier runs, in DATA_DIR/ring. gossipd_save() writes a temporary
 * file, syncs and renames it: it blocks, which gossipd may do when the ring or a member changes. */
void gossipd_load(struct gossipd *g);
void gossipd_save(struct gossipd *g);

#endif
