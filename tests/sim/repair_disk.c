/* What antientropyd sees of a node's disk: the tree and the rows as of the newest flush. */
#include "tests/sim/repair.h"

#include "base/check.h"
#include "base/hash.h"

static struct object opened;

static struct disk *disk_of(const struct run *r)
{
    return &r->owner->sim->node[r->owner->node].disk;
}

static uint64_t sum_of(const struct position *pos, uint64_t digest)
{
    return hash64_seed(pos->b, sizeof pos->b, digest);
}

/* The row of a key, if the tree has it. */
static bool entry_of(struct sim *s, unsigned node, unsigned k, const struct blob *b,
                     struct exchange_entry *e)
{
    bool tombstone;

    if (b == NULL)
        return false;
    ASSERT(object_open(&opened, slice_of(b->bytes, b->len)) == 0);
    *e = (struct exchange_entry){.pos = s->key[k].position, .digest = object_digest(&opened)};
    e->sum = sum_of(&e->pos, e->digest);
    e->time_ms = horizon_time(&opened, node_wall_ms(s, node), &tombstone);
    e->flags = tombstone ? ENTRY_TOMBSTONE : 0;
    return true;
}

int repair_leaves(void *arg, uint32_t partition, const uint64_t **leaves, unsigned *leaf_bits)
{
    static uint64_t table[1 << 10];
    struct run *r = arg;
    struct sim *s = r->owner->sim;
    struct exchange_entry e;

    /* Each node has a depth of its own. */
    *leaf_bits = 6 + (unsigned)(hash64(&r->owner->node, sizeof r->owner->node) + s->options.seed +
                                partition) %
                         5;
    *leaves = table;
    memset(table, 0, sizeof table);
    for (unsigned k = 0; k < s->keys; k++) {
        uint64_t high = 0;

        if (s->key[k].partition != partition ||
            !entry_of(s, r->owner->node, k, disk_of(r)->flushed[k], &e))
            continue;
        for (int i = 0; i < 8; i++)
            high = high << 8 | e.pos.b[i];
        table[high << s->q_bits >> (64 - *leaf_bits)] += e.sum;
    }
    return 0;
}

/* The flushed key with the lowest position from `at` to last; -1: none. */
static int next_key(const struct run *r, uint32_t partition, const struct position *at, bool past,
                    const struct position *last)
{
    const struct sim *s = r->owner->sim;
    int best = -1;

    for (unsigned k = 0; k < s->keys; k++) {
        const struct position *pos = &s->key[k].position;

        if (s->key[k].partition != partition || disk_of(r)->flushed[k] == NULL ||
            position_compare(pos, at) < (past ? 1 : 0) || position_compare(pos, last) > 0)
            continue;
        if (best < 0 || position_compare(pos, &s->key[best].position) < 0)
            best = (int)k;
    }
    return best;
}

int repair_rows(void *arg, uint32_t partition, const struct position *first,
                const struct position *last, uint32_t max, struct exchange_entry *out)
{
    struct run *r = arg;
    uint32_t count = 0;
    int k = next_key(r, partition, first, false, last);

    while (k >= 0 && count < max) {
        ASSERT(entry_of(r->owner->sim, r->owner->node, (unsigned)k, disk_of(r)->flushed[k],
                        &out[count]));
        k = next_key(r, partition, &out[count].pos, true, last);
        count++;
    }
    return (int)count;
}

int repair_objects(void *arg, uint32_t partition, struct position *cursor,
                   const struct position *last, uint32_t max_bytes, struct buf *out)
{
    struct run *r = arg;
    int k = next_key(r, partition, cursor, false, last);

    while (k >= 0) {
        const struct blob *b = disk_of(r)->flushed[k];

        *cursor = r->owner->sim->key[k].position;
        if (buf_len(out) >= max_bytes)
            return 0;
        ASSERT(buf_append(out, b->bytes, b->len) == 0);
        k = next_key(r, partition, cursor, true, last);
    }
    return 1;
}

bool repair_is_primary(const struct sim *s, unsigned node, unsigned partition)
{
    return ring_keeps(&s->node[node].index, partition, (uint16_t)node);
}

struct exchange_side repair_side(struct sim *s, unsigned node, unsigned partition)
{
    const struct disk *d = &s->node[node].disk;
    const struct vnode *v = &d->vnode[partition];
    bool primary = repair_is_primary(s, node, partition);
    struct exchange_side side = {.partition = partition,
                                 .q_bits = (uint8_t)s->q_bits,
                                 .epoch = 1,
                                 .vnode = v->id,
                                 .now_ms = node_wall_ms(s, node),
                                 .as_of_ms = node_wall_ms(s, node)};
    struct exchange_entry e;

    if (!primary)
        side.flags = EXCHANGE_SURPLUS;
    else if (v->standing == STANDING_WHOLE)
        side.flags = EXCHANGE_WHOLE;
    if (side.flags == EXCHANGE_WHOLE)
        side.horizon_ms = v->horizon_ms;
    for (unsigned k = 0; k < s->keys; k++) {
        if (s->key[k].partition != partition)
            continue;
        if (d->dirty_ms[k] != 0 && d->dirty_ms[k] < side.as_of_ms)
            side.as_of_ms = d->dirty_ms[k];
        if (entry_of(s, node, k, d->flushed[k], &e))
            side.root += e.sum;
    }
    return side;
}

void repair_look_at_tree(struct sim *s, unsigned node, const struct repair_LOOK *m,
                         struct repair_LOOKED *answer, struct buf *out)
{
    buf_clear(out);
    for (size_t at = 0; at < m->positions.len; at += POSITION_BYTES) {
        uint8_t bytes[REPAIR_ENTRY_BYTES];
        struct exchange_entry e = {.time_ms = 0};

        memcpy(e.pos.b, m->positions.data + at, POSITION_BYTES);
        for (unsigned k = 0; k < s->keys; k++)
            if (position_compare(&s->key[k].position, &e.pos) == 0)
                entry_of(s, node, k, s->node[node].disk.flushed[k], &e);
        exchange_entry_encode(&e, bytes);
        ASSERT(buf_append(out, bytes, sizeof bytes) == 0);
    }
    answer->entries = slice_of(buf_head(out), buf_len(out));
}
