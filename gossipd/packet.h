/* The envelope of everything that gossipds say to each other, in datagrams and in streams:
 *
 *   offset size field
 *   0      4    "CWG1"
 *   4      8    hash64 of the cluster's name, little-endian like all numbers here
 *   12     16   node id of the sender
 *   28     8    sequence: rises with every packet of this sender (starts from its wall clock)
 *   36     16   first half of HMAC-SHA-256 under the cluster secret over everything else
 *   52          messages of core/gossip.def, one after the other
 *
 * A packet is judged by these bytes alone, before anything in it is parsed: another cluster, a wrong
 * code, a sequence not above the last one of its sender (a replay) end there. An empty secret makes
 * the code a checksum; nodes on other than loopback addresses are refused without one. */
#ifndef CLOCKWISE_GOSSIPD_PACKET_H
#define CLOCKWISE_GOSSIPD_PACKET_H

#include "base/buf.h"
#include "core/gossip.h"
#include "core/ring.h"

#define PACKET_HEADER  52
#define PACKET_SENDERS 1024 /* senders whose sequences are remembered; a power of two */

enum packet_way { PACKET_DATAGRAM, PACKET_STREAM };

struct packet_box {
    uint64_t cluster_hash;
    struct node_id self;
    struct slice secret; /* borrowed */
    uint64_t sequence;
    struct packet_sender {
        struct node_id id;
        uint64_t last[2]; /* by enum packet_way */
    } sender[PACKET_SENDERS];
};

void packet_init(struct packet_box *b, const char *cluster, const struct node_id *self,
                 struct slice secret, uint64_t wall_us);

/* Begin a packet in an empty buffer, then append messages, then seal it. packet_append() is 0, or
 * -ERR_LIMIT if the message would make the packet longer than max (the packet stays as it was). */
int packet_begin(struct packet_box *b, struct buf *out);
int packet_append(struct buf *out, const struct gossip *g, size_t max);
void packet_seal(struct packet_box *b, struct buf *out);

/* Judge a packet. 0: *sender and *messages (borrowed) are set. -ERR_FORMAT: not a packet;
 * -ERR_DENIED: another cluster, a wrong code, our own, or a replay. */
int packet_open(struct packet_box *b, enum packet_way way, struct slice bytes,
                struct node_id *sender, struct slice *messages);

#endif
