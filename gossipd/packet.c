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
#define AT_PLACE    28
#define AT_RUN      36
#define AT_SEQUENCE 44
#define AT_CODE     52
#define CODE_BYTES  16

static const uint8_t magic[4] = {'C', 'W', 'G', '1'};

void packet_init(struct packet_box *b, const char *cluster, const struct member *self, uint64_t run,
                 struct slice secret)
{
    memset(b, 0, sizeof *b);
    b->cluster_hash = hash64(cluster, strlen(cluster));
    b->self = self->id;
    b->place = hash64_seed(self->address, strlen(self->address), self->gossip_port);
    b->run = run;
    b->secret = secret;
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
    store_le64(p + AT_PLACE, b->place);
    store_le64(p + AT_RUN, b->run);
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

/* Senders hash to a slot and the few behind it; a stranger takes over the slot of the one heard least
 * recently, so that the table cannot be filled up. Only packets with a right code get here. */
static struct packet_sender *sender_of(struct packet_box *b, const struct node_id *id,
                                       uint64_t place)
{
    uint64_t at = hash64_seed(id->b, NODE_ID_BYTES, place);
    struct packet_sender *oldest = NULL;

    for (unsigned i = 0; i < 8; i++) {
        struct packet_sender *s = &b->sender[(at + i) % PACKET_SENDERS];

        if (s->place == place && node_id_equal(&s->id, id))
            return s;
        if (oldest == NULL || s->heard < oldest->heard)
            oldest = s;
    }
    *oldest = (struct packet_sender){.id = *id, .place = place};
    return oldest;
}

/* Note a sequence; false if it was seen before, or is too old to know. Packets may overtake each
 * other by up to 63 places (the window of IPsec, RFC 4303 §3.4.3). */
static bool take_sequence(struct packet_window *w, uint64_t sequence)
{
    if (sequence > w->last) {
        uint64_t ahead = sequence - w->last;

        w->seen = (ahead < 64 ? w->seen << ahead : 0) | 1;
        w->last = sequence;
        return true;
    }
    uint64_t behind = w->last - sequence;

    if (behind >= 64 || (w->seen >> behind & 1))
        return false;
    w->seen |= 1ull << behind;
    return true;
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
    uint64_t place = load_le64(bytes.data + AT_PLACE), run = load_le64(bytes.data + AT_RUN);
    memcpy(sender->b, bytes.data + AT_SENDER, NODE_ID_BYTES);
    if (node_id_is_zero(sender) || (node_id_equal(sender, &b->self) && place == b->place))
        return -ERR_DENIED;
    struct packet_sender *s = sender_of(b, sender, place);
    if (run < s->run)
        return -ERR_DENIED;
    if (run > s->run) {
        memset(s->window, 0, sizeof s->window);
        s->run = run;
    }
    if (!take_sequence(&s->window[way], load_le64(bytes.data + AT_SEQUENCE)))
        return -ERR_DENIED;
    s->heard = ++b->clock;
    *messages = slice_of(bytes.data + PACKET_HEADER, bytes.len - PACKET_HEADER);
    return 0;
}
