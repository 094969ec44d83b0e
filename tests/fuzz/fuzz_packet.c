/* Fuzz target: packets between gossipds, envelope included. The first byte chooses: the rest is a packet
 * as it comes from the network; or the messages of a packet with a right code; or what to change in a
 * right packet. Nothing but a right packet is believed, once, and none keeps the next from being
 * believed. */
#include "core/member.h"
#include "gossipd/packet.h"
#include "ipc/msg_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct packet_box from, to;
static struct msg_codec *codec;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void begin(struct packet_box *b, uint8_t id)
{
    struct member self = {.id = {{id}}, .gossip_port = id};

    snprintf(self.address, sizeof self.address, "10.0.0.%u", id);
    packet_init(b, "fuzz", &self, 1, slice_str("a secret"));
}

static void make(struct buf *out, struct slice messages)
{
    buf_clear(out);
    require(packet_begin(&from, out) == 0);
    require(buf_append(out, messages.data, messages.len) == 0);
    packet_seal(&from, out);
}

static bool believed(struct slice packet, struct slice *messages)
{
    struct node_id sender;

    if (packet_open(&to, PACKET_DATAGRAM, packet, &sender, messages) != 0)
        return false;
    require(sender.b[0] == 1);
    return true;
}

static void take_right_one(struct buf *out, struct slice said)
{
    struct slice messages;
    struct gossip g;

    make(out, said);
    require(believed(slice_of(buf_head(out), buf_len(out)), &messages));
    require(messages.len == said.len && memcmp(messages.data, said.data, said.len) == 0);
    while (messages.len > 0 && msg_codec_next_gossip(codec, &messages, &g) == 0)
        ;
    require(!believed(slice_of(buf_head(out), buf_len(out)), &messages)); /* again */
}

/* Pairs of bytes: where, and what is added to the byte there; an odd length cuts the packet. */
static void take_changed(struct buf *out, struct slice changes)
{
    struct slice messages;
    struct buf right = {0};

    make(out, slice_str("\x92\x02\x07"));
    require(buf_append(&right, buf_head(out), buf_len(out)) == 0);
    for (size_t i = 0; i + 1 < changes.len; i += 2)
        buf_head(out)[changes.data[i] % buf_len(out)] += changes.data[i + 1];
    size_t len = buf_len(out);
    if (changes.len % 2 == 1)
        len = changes.data[changes.len - 1] % (len + 1);
    bool same = len == buf_len(&right) && memcmp(buf_head(out), buf_head(&right), len) == 0;
    require(believed(slice_of(buf_head(out), len), &messages) == same);
    buf_free(&right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = {0};
    struct slice rest, messages;

    if (size == 0)
        return 0;
    if (codec == NULL)
        codec = msg_codec_new();
    begin(&from, 1);
    begin(&to, 2);
    rest = slice_of(data + 1, size - 1);
    if (data[0] % 3 == 0)
        require(!believed(rest, &messages));
    else if (data[0] % 3 == 1)
        take_right_one(&out, rest);
    else
        take_changed(&out, rest);
    take_right_one(&out, slice_str("\x92\x02\x07"));
    buf_free(&out);
    return 0;
}
