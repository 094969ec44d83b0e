/* One exchange under way: core/exchange.h bound to a peer's connection, the own worker and a snapshot
 * of the vnode. A fixed number of them, for exchanges that this node has begun and for those that it
 * was asked for. */
#ifndef CLOCKWISE_ANTIENTROPYD_SESSION_H
#define CLOCKWISE_ANTIENTROPYD_SESSION_H

#include "antientropyd/local.h"
#include "antientropyd/peers.h"
#include "antientropyd/vnodes.h"
#include "core/exchange.h"

struct antientropyd;

#define SESSIONS 128 /* of both kinds */

enum session_state {
    SESSION_FREE,
    SESSION_ASKING, /* the worker is asked for the state of the vnode */
    SESSION_RUNNING
};

struct session {
    struct antientropyd *owner;
    enum session_state state;
    bool ours;    /* begun here */
    bool settled; /* its end is to be dealt with */
    uint32_t partition;
    uint16_t member; /* of the view when it began */
    struct node_id peer_id;
    struct peer *peer;
    struct exchange *exchange; /* kept from one use to the next */
    void *memory;
    struct exchange_side mine;
    struct repair_STATE_DONE vnode; /* as told at the beginning; borrowed slices none */
    struct repair_OPEN open;        /* of the other side, which has begun */
    uint64_t asked_ms, heard_us, bytes_before;
};

/* Begin to compare a partition with a member. -ERR_AGAIN: it is being compared already; -ERR_BUSY: as many as may be are under way;
 * -ERR_UNAVAILABLE: the peer cannot be called, or the worker is away. */
int session_begin(struct antientropyd *a, uint32_t partition, uint16_t member);

/* A message of another antientropyd; as struct peers_events' on_message. */
int session_message(void *arg, struct peer *p, const struct repair *m);
/* Its connection is gone. */
void session_peer_lost(void *arg, struct peer *p);

/* Give up what has been silent for too long. */
void session_tick(struct antientropyd *a);

#endif
