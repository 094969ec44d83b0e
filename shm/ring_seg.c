/* ring.seg: written by gossipd, read by everyone else. */
#include "shm/ring_seg.h"

#include "base/err.h"

#include <stdio.h>

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct ring_view, epoch),
    SEGMENT_FIELD(struct ring_view, proposer),
    SEGMENT_FIELD(struct ring_view, version),
    SEGMENT_FIELD(struct ring_view, cluster),
    SEGMENT_FIELD(struct ring_view, q_bits),
    SEGMENT_FIELD(struct ring_view, n),
    SEGMENT_FIELD(struct ring_view, member_count),
    SEGMENT_FIELD(struct ring_view, self),
    SEGMENT_FIELD(struct ring_view, members),
    SEGMENT_FIELD(struct ring_view, owner),
    SEGMENT_FIELD(struct ring_view, next),
    SEGMENT_FIELD(struct ring_view, phase),
    SEGMENT_FIELD(struct member, id),
    SEGMENT_FIELD(struct member, name),
    SEGMENT_FIELD(struct member, zone),
    SEGMENT_FIELD(struct member, address),
    SEGMENT_FIELD(struct member, port),
    SEGMENT_FIELD(struct member, worker_port),
    SEGMENT_FIELD(struct member, peer_port),
    SEGMENT_FIELD(struct member, gossip_port),
    SEGMENT_FIELD(struct member, workers),
    SEGMENT_FIELD(struct member, weight),
    SEGMENT_FIELD(struct member, state),
    SEGMENT_FIELD(struct member, protocol),
    SEGMENT_FIELD(struct member, repair_port),
    SEGMENT_FIELD(struct member, incarnation),
    SEGMENT_FIELD(struct member, going),
};

static struct segment_spec spec(void)
{
    return (struct segment_spec){
        .kind = SEGMENT_RING,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct ring_view), sizeof(struct member)),
        .length = sizeof(struct segment_header) + SLOT_BYTES(sizeof(struct ring_view)),
    };
}

static struct slot_pair *slots(const struct ring_seg *r)
{
    return segment_body(&r->segment);
}

int ring_seg_create(struct ring_seg *r, const char *dir, uint64_t incarnation,
                    const struct ring_view *first)
{
    struct segment_spec s = spec();
    int err = segment_create(&r->segment, dir, "ring.seg", &s, incarnation);

    if (err < 0)
        return err;
    if (first != NULL)
        ring_seg_publish(r, first);
    err = segment_publish(&r->segment);
    if (err < 0)
        ring_seg_close(r);
    return err;
}

void ring_seg_publish(struct ring_seg *r, const struct ring_view *v)
{
    slot_publish(slots(r), sizeof *v, v, sizeof *v);
}

int ring_seg_attach(struct ring_seg *r, const char *dir)
{
    struct segment_spec s = spec();

    r->seen = 0;
    return segment_attach(&r->segment, dir, "ring.seg", &s);
}

int ring_seg_refresh(struct ring_seg *r)
{
    int changed = segment_reattach_if_replaced(&r->segment);

    if (changed == 1)
        r->seen = 0;
    return changed;
}

int ring_seg_read(struct ring_seg *r, struct ring_view *out)
{
    uint64_t generation;
    size_t len;

    if (!segment_mapped(&r->segment))
        return -ERR_NOTFOUND;
    int err = slot_read(slots(r), sizeof *out, out, &len, &generation);
    if (err < 0)
        return err;
    r->seen = generation;
    return len == sizeof *out && ring_view_valid(out) ? 0 : -ERR_CORRUPT;
}

void ring_seg_close(struct ring_seg *r)
{
    segment_close(&r->segment);
    r->seen = 0;
}
