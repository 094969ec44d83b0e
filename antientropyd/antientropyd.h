/* The state of antientropyd, shared by its files. One thread. */
#ifndef CLOCKWISE_ANTIENTROPYD_ANTIENTROPYD_H
#define CLOCKWISE_ANTIENTROPYD_ANTIENTROPYD_H

#include "antientropyd/session.h"
#include "base/hist.h"
#include "base/rand.h"
#include "conf/conf.h"
#include "ipc/child.h"
#include "shm/node_seg.h"
#include "shm/pace.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"

struct antientropyd {
    struct child child;
    struct conf conf;
    struct loop *loop;
    struct repair_seg repair;
    struct counter_block *counters;
    struct ring_seg ring;
    struct ring_view view; /* epoch 0: none yet */
    struct ring_index index;
    struct node_id self;
    struct worker_seg workers[LIMIT_WORKERS];
    struct tls_context *tls; /* NULL: plain */
    struct rand rand;

    struct local *local;
    struct peers *peers;
    struct vnodes vnodes;
    struct session sessions[SESSIONS];
    uint32_t next_number; /* of exchanges begun here */

    struct loop_timer second, round;
    struct loop_task round_task;
    uint32_t round_at; /* partition to look at next */

    /* pace.c */
    struct hist before[LIMIT_WORKERS]; /* of requests, when last looked at */
    struct pace pace;
    bool may_idle, idle; /* the scheduling class (base/cpu.h): may be, is the lowest */
    int competed;        /* looks since it is not */
    bool cpu_short;      /* workers wait for a CPU */

    /* verify.c */
    struct loop_timer verify;
    uint32_t verify_partition, verify_leaf;
    bool verified_once;
    uint64_t verify_errors;

    /* change.c */
    struct repair_copied copied;
    uint64_t change_since_ms;

    struct {
        uint64_t here, there, dead; /* keys mended that people have not been told of yet */
        uint64_t since_us;
        uint64_t not_whole; /* as told last */
    } told;

    uint64_t started_us, touched_us, seen_epoch, seen_ms;
    bool touch_known;
};

/* round.c: whom to compare with when. */
void round_view(struct antientropyd *a); /* the view is another */
void round_start(struct antientropyd *a);
void round_soon(struct antientropyd *a); /* something has become possible */
/* An exchange of a partition with a peer that was begun here has ended, or (not `asked`) did not come to
 * asking the peer. */
void round_ended(struct antientropyd *a, uint32_t partition, const struct node_id *peer, bool asked,
                 bool agreed, int error);

/* standing.c: what follows from an agreement. */
void standing_agreed(struct antientropyd *a, uint32_t partition, const struct node_id *peer,
                     const struct repair_STATE_DONE *vnode, uint64_t as_of_ms);
/* A surplus vnode has nothing that the peer asked last lacks. */
void standing_given(struct antientropyd *a, uint32_t partition,
                    const struct repair_STATE_DONE *vnode);
/* This node is no member of the ring any more: all that it has is to be given away. */
bool standing_has_left(const struct antientropyd *a);
void standing_tick(struct antientropyd *a);
/* Has the vnode (with this state) anything to do with exchanges now? Looks after those that have no
 * other replicas. */
void standing_heard(struct antientropyd *a, uint32_t partition,
                    const struct repair_STATE_DONE *vnode);

/* change.c: how far the replicas that are new in a ring change have come. */
void change_view(struct antientropyd *a);
/* Is this node waiting to be filled, or to become sure, with a partition that moves? */
bool change_wants(const struct antientropyd *a, uint32_t partition);
void change_agreed(struct antientropyd *a, uint32_t partition);
void change_received(struct antientropyd *a, uint32_t partition, uint64_t keys, uint64_t bytes);

/* pace.c: the budget, less while clients have to wait. Every 100 ms. */
void pace_tick(struct antientropyd *a);

/* verify.c: read and check every record, slowly. */
void verify_start(struct antientropyd *a);
/* The row at this position, or its leaf, is damaged: tell the worker. */
void verify_report(struct antientropyd *a, uint32_t partition, const struct position *pos,
                   bool leaf);

#endif
