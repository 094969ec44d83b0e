/* msgpack encoding of every message table: core/msg.def (between workers), core/gossip.def (between
 * gossipds), core/repair.def (antientropyd), ipc/control.def (inside one node). The only module that knows msgpack-c.
 *
 * A message is a msgpack array [number, field, ...]. Decoders ignore fields past the ones they know
 * and set missing ones to zero or empty, so that a newer side may add fields at the end. Unknown
 * numbers, other types and values out of a field's range are -ERR_FORMAT. Input is walked by
 * ipc/msg_check.h before msgpack-c sees it.
 *
 * Nothing here blocks. Encoding allocates nothing but growth of the buffer; decoding allocates
 * nothing in the steady state. */
#ifndef CLOCKWISE_IPC_MSG_CODEC_H
#define CLOCKWISE_IPC_MSG_CODEC_H

#include "base/buf.h"
#include "core/gossip.h"
#include "core/msg.h"
#include "core/repair.h"
#include "ipc/control.h"

/* Decoder memory, reused from message to message. One per thread that decodes. */
struct msg_codec;

/* Never NULL: without memory the process has no use for going on and panics. */
struct msg_codec *msg_codec_new(void);
void msg_codec_free(struct msg_codec *c);

/* Append the encoded message to out. The bytes of BYTES fields are copied once, straight into out:
 * room for the whole message is reserved first. -ERR_LIMIT or -ERR_NOMEM leave out as it was. */
int msg_codec_encode(const struct msg *m, struct buf *out);
int msg_codec_encode_control(const struct control *m, struct buf *out);
int msg_codec_encode_gossip(const struct gossip *m, struct buf *out);
int msg_codec_encode_repair(const struct repair *m, struct buf *out);

/* No more than so many bytes are needed to encode it. */
size_t msg_codec_bound(const struct msg *m);
size_t msg_codec_bound_repair(const struct repair *m);

/* Decode a message that fills `in` exactly. BYTES fields point into `in` and stay valid as long as
 * its bytes do (they do not depend on the codec). -ERR_FORMAT; *out is then undefined. */
int msg_codec_decode(struct msg_codec *c, struct slice in, struct msg *out);
int msg_codec_decode_control(struct msg_codec *c, struct slice in, struct control *out);
int msg_codec_decode_repair(struct msg_codec *c, struct slice in, struct repair *out);

/* Decode the first of several messages that follow one another and move *in past it. */
int msg_codec_next_gossip(struct msg_codec *c, struct slice *in, struct gossip *out);

#endif
