/* repair.seg: written by antientropyd, read by tools and INFO. */
#include "shm/repair_seg.h"

#include "base/check.h"
#include "base/err.h"

#include <stdio.h>

static const struct segment_field fields[] = {
    SEGMENT_FIELD(struct repair_body, partitions),
    SEGMENT_FIELD(struct repair_body, replicas),
    SEGMENT_FIELD(struct repair_body, counters),
    SEGMENT_FIELD(struct repair_body, copied),
    SEGMENT_FIELD(struct repair_copied, epoch),
    SEGMENT_FIELD(struct repair_copied, proposer),
    SEGMENT_FIELD(struct repair_copied, keys),
    SEGMENT_FIELD(struct repair_copied, bytes),
    SEGMENT_FIELD(struct repair_copied, step),
    SEGMENT_FIELD(struct repair_row, peer_high),
    SEGMENT_FIELD(struct repair_row, peer_low),
    SEGMENT_FIELD(struct repair_row, keys_repaired),
    SEGMENT_FIELD(struct repair_row, bytes),
    SEGMENT_FIELD(struct repair_row, rounds),
    SEGMENT_FIELD(struct repair_row, last_agreement_ms),
    SEGMENT_FIELD(struct repair_row, state),
};

_Static_assert(sizeof(struct repair_row) == 64, "one cache line for each row");

static struct segment_spec spec_of(uint32_t partitions)
{
    return (struct segment_spec){
        .kind = SEGMENT_REPAIR,
        .fingerprint = segment_fingerprint(fields, sizeof fields / sizeof fields[0],
                                           sizeof(struct repair_body), counter_fingerprint()),
        .length = sizeof(struct segment_header) + sizeof(struct repair_body) +
                  (size_t)partitions * LIMIT_REPLICAS * sizeof(struct repair_row),
        .counters_at =
            (uint32_t)(sizeof(struct segment_header) + offsetof(struct repair_body, counters)),
    };
}

int repair_seg_create(struct repair_seg *r, const char *dir, uint64_t incarnation,
                      uint32_t partitions)
{
    struct segment_spec spec = spec_of(partitions);

    ASSERT(partitions <= LIMIT_PARTITIONS);
    int err = segment_create(&r->segment, dir, "repair.seg", &spec, incarnation);
    if (err < 0)
        return err;
    r->body = segment_body(&r->segment);
    r->body->partitions = partitions;
    r->body->replicas = LIMIT_REPLICAS;
    counter_init(&r->body->counters);
    err = segment_publish(&r->segment);
    if (err < 0)
        repair_seg_close(r);
    return err;
}

static uint64_t half_of_id(const struct node_id *id, int from)
{
    uint64_t n = 0;

    for (int i = 0; i < 8; i++)
        n = n << 8 | id->b[from + i];
    return n;
}

/* The row of a peer. Another peer in it begins from nothing. */
static struct repair_row *row_of(struct repair_seg *r, uint32_t partition, uint32_t k,
                                 const struct node_id *peer)
{
    ASSERT(partition < r->body->partitions && k < r->body->replicas);
    struct repair_row *row = &r->body->rows[(size_t)partition * r->body->replicas + k];
    uint64_t high = half_of_id(peer, 0), low = half_of_id(peer, 8);
    _Atomic uint64_t *numbers[] = {&row->keys_repaired, &row->bytes, &row->rounds,
                                   &row->last_agreement_ms};

    if (atomic_load_explicit(&row->peer_high, memory_order_relaxed) == high &&
        atomic_load_explicit(&row->peer_low, memory_order_relaxed) == low)
        return row;
    for (int i = 0; i < 4; i++)
        atomic_store_explicit(numbers[i], 0, memory_order_relaxed);
    atomic_store_explicit(&row->differences, 0, memory_order_relaxed);
    atomic_store_explicit(&row->peer_high, high, memory_order_relaxed);
    atomic_store_explicit(&row->peer_low, low, memory_order_relaxed);
    return row;
}

static void add(_Atomic uint64_t *number, uint64_t more)
{
    uint64_t old = atomic_load_explicit(number, memory_order_relaxed);

    atomic_store_explicit(number, old + more, memory_order_relaxed);
}

void repair_seg_state(struct repair_seg *r, uint32_t partition, uint32_t k,
                      const struct node_id *peer, enum repair_row_state state)
{
    struct repair_row *row = row_of(r, partition, k, peer);

    atomic_store_explicit(&row->state, (uint32_t)state, memory_order_relaxed);
}

void repair_seg_update(struct repair_seg *r, uint32_t partition, uint32_t k,
                       const struct node_id *peer, enum repair_row_state state, uint64_t keys,
                       uint64_t bytes, uint64_t agreed_ms)
{
    struct repair_row *row = row_of(r, partition, k, peer);

    add(&row->keys_repaired, keys);
    add(&row->bytes, bytes);
    add(&row->rounds, 1);
    atomic_store_explicit(&row->differences, keys < UINT32_MAX ? (uint32_t)keys : UINT32_MAX,
                          memory_order_relaxed);
    atomic_store_explicit(&row->state, (uint32_t)state, memory_order_relaxed);
    if (agreed_ms != 0)
        atomic_store_explicit(&row->last_agreement_ms, agreed_ms, memory_order_release);
}

void repair_seg_publish_copied(struct repair_seg *r, const struct repair_copied *c)
{
    slot_publish((struct slot_pair *)r->body->copied, sizeof *c, c, sizeof *c);
}

int repair_seg_read_copied(const struct repair_seg *r, struct repair_copied *out)
{
    uint64_t generation;
    size_t len;

    if (r->body == NULL)
        return -ERR_NOTFOUND;
    int rc =
        slot_read((const struct slot_pair *)r->body->copied, sizeof *out, out, &len, &generation);

    return rc == 0 && len != sizeof *out ? -ERR_CORRUPT : rc;
}

static int accept(struct repair_seg *r)
{
    const struct repair_body *body = segment_body(&r->segment);

    if (body->partitions > LIMIT_PARTITIONS || body->replicas != LIMIT_REPLICAS ||
        r->segment.length < spec_of(body->partitions).length) {
        snprintf(r->segment.why, sizeof r->segment.why, "a table of %u x %u rows does not fit",
                 body->partitions, body->replicas);
        repair_seg_close(r);
        return -ERR_CORRUPT;
    }
    r->body = segment_body(&r->segment);
    return 0;
}

int repair_seg_attach(struct repair_seg *r, const char *dir)
{
    struct segment_spec spec = spec_of(0);
    int err = segment_attach(&r->segment, dir, "repair.seg", &spec);

    return err < 0 ? err : accept(r);
}

int repair_seg_refresh(struct repair_seg *r)
{
    int changed = segment_reattach_if_replaced(&r->segment);

    if (changed != 1)
        return changed;
    int err = accept(r);
    return err < 0 ? err : 1;
}

void repair_seg_close(struct repair_seg *r)
{
    segment_close(&r->segment);
    r->body = NULL;
}

const char *repair_seg_row_state_name(uint32_t state)
{
    static const char *const names[] = {"none", "idle", "comparing", "failed"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
