/* The envelope of everything that gossipds say to each other, in datagrams and in streams:
 *
 *   offset size field
 *   0      4    "CWG1"
 *   4      8    hash64 of the cluster's name, little-endian like all numbers here
 *   12     16   node id of the sender
 *   28     8    place: hash64 of the sender's gossip address and port, so that two processes with one
 *               id (a copied data directory) do not silence each other
 *   36     8    run: incarnation of the sending process; rises with every start
 *   44     8    sequence: rises with every packet of the run
 *   52     16   first half of HMAC-SHA-256 under the cluster secret over everything else
 *   68          messages of core/gossip.def, one after the other
 *
 * A packet is judged by these bytes alone, before anything in it is parsed: another cluster, a wrong
 * code, an older run, a sequence seen before or too long ago (a replay) end there. An empty secret
 * makes the code a checksum; nodes on other than loopback addresses are refused without one. */
#ifndef CLOCKWISE_GOSSIPD_PACKET_H
#define CLOCKWISE_GOSSIPD_PACKET_H

#include "base/buf.h"
#include "core/gossip.h"
#include "core/ring.h"

#define PACKET_HEADER  68
#define PACKET_SENDERS 1024 /* senders whose sequences are remembered; a power of two */

enum packet_way { PACKET_DATAGRAM, PACKET_STREAM };

struct packet_box {
    uint64_t cluster_hash;
    struct node_id self;
    uint64_t place, run, sequence;
    struct slice secret; /* borrowed */
    uint64_t clock;      /* counts packets taken, for the age of senders */
    struct packet_sender {
        struct node_id id;
        uint64_t place, run;
        uint64_t heard; /* clock */
        struct packet_window {
            uint64_t last; /* highest sequence taken */
            uint64_t seen; /* bit i: last - i was taken */
        } window[2];       /* by enum packet_way: a stream may be overtaken by datagrams */
    } sender[PACKET_SENDERS];
};

/* self: id, gossip address and port. run: see above. */
void packet_init(struct packet_box *b, const char *cluster, const struct member *self, uint64_t run,
                 struct slice secret);

/* Begin a packet in an empty buffer, then append messages, then seal it. packet_append() is 0, or
 * -ERR_LIMIT if the message would make the packet longer than max (the packet stays as it was). */
int packet_begin(struct packet_box *b, struct buf *out);
int packet_append(struct buf *out, const struct gossip *g, size_t max);
void packet_seal(struct packet_box *b, struct buf *out);

/* Judge a packet. 0: *sender and *messages (borrowed) are set. -ERR_FORMAT: not a packet;
 * -ERR_DENIED: another cluster, a wrong code, our own, or a replay. A packet of another process with
 * our id is not our own. */
int packet_open(struct packet_box *b, enum packet_way way, struct slice bytes,
                struct node_id *sender, struct slice *messages);

#endif
