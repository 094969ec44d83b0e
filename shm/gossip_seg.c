/* gossip.seg: written by gossipd, read by workers, INFO and tools. */
#include "shm/gossip_seg.h"

#include "base/err.h"

#include <string.h>

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct gossip_view, member_count),
    SEGMENT_FIELD(struct gossip_view, health),
    SEGMENT_FIELD(struct gossip_view, updated_ms),
    SEGMENT_FIELD(struct gossip_view, members),
    SEGMENT_FIELD(struct gossip_member, id),
    SEGMENT_FIELD(struct gossip_member, name),
    SEGMENT_FIELD(struct gossip_member, address),
    SEGMENT_FIELD(struct gossip_member, gossip_port),
    SEGMENT_FIELD(struct gossip_member, state),
    SEGMENT_FIELD(struct gossip_member, incarnation),
    SEGMENT_FIELD(struct gossip_member, since_ms),
    SEGMENT_FIELD(struct gossip_member, last_heard_ms),
    SEGMENT_FIELD(struct gossip_member, rtt_us),
    SEGMENT_FIELD(struct gossip_member, suspicions),
    SEGMENT_FIELD(struct gossip_member, verdicts_down),
};

#define VIEW_BYTES  SLOT_BYTES(sizeof(struct gossip_view))
#define COUNTERS_AT (sizeof(struct segment_header) + VIEW_BYTES)

static struct segment_spec spec(void)
{
    return (struct segment_spec){
        .kind = SEGMENT_GOSSIP,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct gossip_view), counter_fingerprint()),
        .length = COUNTERS_AT + sizeof(struct counter_block),
        .counters_at = COUNTERS_AT,
    };
}

static struct slot_pair *slots(const struct gossip_seg *g)
{
    return segment_body(&g->segment);
}

struct counter_block *gossip_seg_counters(const struct gossip_seg *g)
{
    return (struct counter_block *)((uint8_t *)segment_body(&g->segment) + VIEW_BYTES);
}

int gossip_seg_create(struct gossip_seg *g, const char *dir, uint64_t incarnation)
{
    struct segment_spec s = spec();
    int err = segment_create(&g->segment, dir, "gossip.seg", &s, incarnation);

    if (err < 0)
        return err;
    counter_init(gossip_seg_counters(g));
    err = segment_publish(&g->segment);
    if (err < 0)
        gossip_seg_close(g);
    return err;
}

void gossip_seg_publish(struct gossip_seg *g, const struct gossip_view *v)
{
    slot_publish(slots(g), sizeof *v, v, sizeof *v);
}

int gossip_seg_attach(struct gossip_seg *g, const char *dir)
{
    struct segment_spec s = spec();

    return segment_attach(&g->segment, dir, "gossip.seg", &s);
}

int gossip_seg_refresh(struct gossip_seg *g)
{
    return segment_reattach_if_replaced(&g->segment);
}

int gossip_seg_read(const struct gossip_seg *g, struct gossip_view *out)
{
    uint64_t generation;
    size_t len;

    if (!segment_mapped(&g->segment))
        return -ERR_NOTFOUND;
    int err = slot_read(slots(g), sizeof *out, out, &len, &generation);
    if (err < 0)
        return err;
    if (len != sizeof *out || out->member_count > LIMIT_MEMBERS)
        return -ERR_CORRUPT;
    for (uint32_t i = 0; i < out->member_count; i++) {
        struct gossip_member *m = &out->members[i];

        m->name[sizeof m->name - 1] = 0;
        m->address[sizeof m->address - 1] = 0;
    }
    return 0;
}

void gossip_seg_close(struct gossip_seg *g)
{
    segment_close(&g->segment);
}
