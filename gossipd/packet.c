/* The envelope of gossip packets. Runs in gossipd. */
#include "gossipd/packet.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mac.h"
#include "base/varint.h"
#include "ipc/msg_codec.h"

#define AT_CLUSTER  4
#define AT_SENDER   12
#define AT_SEQUENCE 28
#define AT_CODE     36
#define CODE_BYTES  16

static const uint8_t magic[4] = {'C', 'W', 'G', '1'};

void packet_init(struct packet_box *b, const char *cluster, const struct node_id *self,
                 struct slice secret, uint64_t wall_us)
{
    memset(b, 0, sizeof *b);
    b->cluster_hash = hash64(cluster, strlen(cluster));
    b->self = *self;
    b->secret = secret;
    b->sequence = wall_us;
}

int packet_begin(struct packet_box *b, struct buf *out)
{
    ASSERT(buf_len(out) == 0);
    uint8_t *p = buf_reserve(out, PACKET_HEADER);

    if (p == NULL)
        return -ERR_NOMEM;
    memset(p, 0, PACKET_HEADER);
    memcpy(p, magic, sizeof magic);
    store_le64(p + AT_CLUSTER, b->cluster_hash);
    memcpy(p + AT_SENDER, b->self.b, NODE_ID_BYTES);
    store_le64(p + AT_SEQUENCE, ++b->sequence);
    buf_filled(out, PACKET_HEADER);
    return 0;
}

int packet_append(struct buf *out, const struct gossip *g, size_t max)
{
    size_t before = buf_len(out);
    int rc = msg_codec_encode_gossip(g, out);

    if (rc == 0 && buf_len(out) > max) {
        out->end -= buf_len(out) - before;
        rc = -ERR_LIMIT;
    }
    return rc;
}

/* The code covers the packet with the code's own bytes as zeros. */
static void code_of(const struct packet_box *b, struct slice packet, uint8_t out[MAC_BYTES])
{
    uint8_t inner[2 * MAC_BYTES];

    mac_compute(b->secret, slice_of(packet.data, AT_CODE), inner);
    mac_compute(b->secret, slice_of(packet.data + PACKET_HEADER, packet.len - PACKET_HEADER),
                inner + MAC_BYTES);
    mac_compute(b->secret, slice_of(inner, sizeof inner), out);
}

void packet_seal(struct packet_box *b, struct buf *out)
{
    uint8_t code[MAC_BYTES];

    ASSERT(buf_len(out) >= PACKET_HEADER);
    code_of(b, slice_of(buf_head(out), buf_len(out)), code);
    memcpy(buf_head(out) + AT_CODE, code, CODE_BYTES);
}

/* Senders hash to a place and the few behind it; a stranger takes over the place of the one heard
 * least recently, so that the table cannot be filled up. Only packets with a right code get here. */
static struct packet_sender *sender_of(struct packet_box *b, const struct node_id *id)
{
    uint64_t at = hash64(id->b, NODE_ID_BYTES);
    struct packet_sender *oldest = NULL;

    for (unsigned i = 0; i < 8; i++) {
        struct packet_sender *s = &b->sender[(at + i) % PACKET_SENDERS];

        if (node_id_equal(&s->id, id))
            return s;
        if (oldest == NULL || s->last[0] + s->last[1] < oldest->last[0] + oldest->last[1])
            oldest = s;
    }
    *oldest = (struct packet_sender){.id = *id};
    return oldest;
}

int packet_open(struct packet_box *b, enum packet_way way, struct slice bytes,
                struct node_id *sender, struct slice *messages)
{
    uint8_t code[MAC_BYTES];

    if (bytes.len < PACKET_HEADER || memcmp(bytes.data, magic, sizeof magic) != 0)
        return -ERR_FORMAT;
    if (load_le64(bytes.data + AT_CLUSTER) != b->cluster_hash)
        return -ERR_DENIED;
    code_of(b, bytes, code);
    if (!mac_equal(code, bytes.data + AT_CODE, CODE_BYTES))
        return -ERR_DENIED;
    memcpy(sender->b, bytes.data + AT_SENDER, NODE_ID_BYTES);
    if (node_id_equal(sender, &b->self) || node_id_is_zero(sender))
        return -ERR_DENIED;
    struct packet_sender *s = sender_of(b, sender);
    uint64_t sequence = load_le64(bytes.data + AT_SEQUENCE);
    if (sequence <= s->last[way])
        return -ERR_DENIED;
    s->last[way] = sequence;
    *messages = slice_of(bytes.data + PACKET_HEADER, bytes.len - PACKET_HEADER);
    return 0;
}
