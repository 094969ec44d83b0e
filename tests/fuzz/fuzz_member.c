/* Fuzz target: what other gossipds say, behind the envelope. The input is a sequence of gossip messages,
 * said by one of a few members, with time passing in between. Whatever it is, the view made of it
 * is valid and nothing grows beyond its bounds. */
#include "core/member.h"
#include "ipc/msg_codec.h"

#include <stdio.h>
#include <stdlib.h>

#define FEW 12 /* rows: so few that they are soon all taken */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct msg_codec *codec;
static struct membership members;
static void *memory;
static struct ring_view view;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static unsigned hear(void *arg, const char *address, uint16_t port, const struct gossip *list,
                     unsigned must, unsigned count)
{
    struct buf b = {0};

    (void)arg, (void)port;
    require(memchr(address, 0, LIMIT_ADDR) != NULL && must <= count);
    for (unsigned i = 0; i < count; i++)
        require(msg_codec_encode_gossip(&list[i], &b) == 0);
    buf_free(&b);
    return must + (count - must) / 2;
}

static void no_sync(void *arg, const char *address, uint16_t port)
{
    (void)arg, (void)address;
    require(port != 0);
}

static void stream(void *arg, const char *address, uint16_t port, const struct gossip *list,
                   unsigned count)
{
    require(hear(arg, address, port, list, count, count) == count);
}

static void told(void *arg, const struct gossip *g)
{
    require(hear(arg, "10.0.0.2", 1, g, 1, 1) == 1);
}

static void no_change(void *arg, bool ring)
{
    (void)arg, (void)ring;
}

static void no_refusal(void *arg, const char *text)
{
    (void)arg, (void)text;
}

static void begin(void)
{
    const struct member_host host = {.send = hear,
                                     .sync = no_sync,
                                     .stream = stream,
                                     .changed = no_change,
                                     .refused = no_refusal};
    struct member_conf conf = {.q_bits = 3,
                               .n = 3,
                               .probe_interval_us = 1000000,
                               .probe_timeout_us = 300000,
                               .suspicion_us = 5000000,
                               .seed_count = 2};
    struct member self = {.id = {{1}}, .port = 1, .gossip_port = 1, .workers = 2, .weight = 100};

    for (uint16_t i = 0; i < 2; i++) {
        snprintf(conf.seeds[i].address, sizeof conf.seeds[i].address, "10.0.0.%u", i + 1u);
        conf.seeds[i].port = 1;
    }
    snprintf(self.name, sizeof self.name, "a");
    snprintf(self.address, sizeof self.address, "10.0.0.1");
    free(memory);
    memory = malloc(member_memory(FEW));
    member_init(&members, memory, FEW, &conf, &host, &self, 1000, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    uint64_t now_us = 1000000;
    struct gossip g;

    if (codec == NULL)
        codec = msg_codec_new();
    begin();
    while (in.len > 2) {
        uint8_t who = in.data[0];
        struct node_id sender = {{(uint8_t)(who & 7)}};
        struct member_endpoint from = {.address = "10.0.0.2", .port = (uint16_t)(who >> 6)};

        now_us += (uint64_t)in.data[1] * 10000;
        in.data += 2;
        in.len -= 2;
        if (who & 8)
            member_step(&members, now_us);
        if (who & 32)
            member_tell(&members, who % 3, told, NULL);
        if (who & 16)
            member_hint_down(&members, &sender, now_us);
        if (msg_codec_next_gossip(codec, &in, &g) != 0)
            break;
        (void)member_receive(&members, &sender, &from, &g, now_us);
        require(members.count >= 1 && members.count <= FEW);
        require(members.row[0].m.state == MEMBER_ALIVE);
    }
    for (int i = 0; i < 10; i++) {
        uint64_t next = member_step(&members, now_us);

        require(next > now_us);
        now_us = next;
    }
    memset(&view, 0, sizeof view);
    member_view(&members, &view);
    require(members.ring.epoch == 0 || ring_view_valid(&view));
    return 0;
}
