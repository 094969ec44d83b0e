/* Two replicas in memory and a wire between them, for tests of core/exchange.h. An object is a key number
 * and a version; the higher version wins. Versions that are not flushed are seen by workers alone. */
#ifndef CLOCKWISE_TESTS_UNIT_EXCHANGE_KIT_H
#define CLOCKWISE_TESTS_UNIT_EXCHANGE_KIT_H

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rand.h"
#include "core/exchange.h"
#include "core/horizon.h"
#include "core/object.h"
#include "tests/messages.h"

#include <stdio.h>
#include <stdlib.h>

enum { KIT_VALUE = 100 };

struct kit_row {
    struct position pos;
    uint32_t key, version; /* version 0: nothing */
    uint32_t flushed;      /* the version in the tree */
    bool tombstone;
    uint64_t time_ms;
};

struct kit_side {
    struct kit_row *rows; /* ascending by position; the same keys on both sides */
    uint32_t count;
    unsigned leaf_bits;
    uint64_t *leaves;
    uint64_t horizon_ms, vnode;
    uint64_t now_ms, behind_ms; /* its clock, and what may not be in its tree yet */
    uint32_t flags;
    uint32_t full_at; /* a key that cannot be stored; UINT32_MAX: none */
    bool ask_waits, broken;
    struct exchange *x;
    struct kit_side *other;
    struct kit *kit;
    uint64_t bytes, messages; /* sent to the other side */
    uint64_t merged, dropped, listed;
};

/* A message or an answer on its way, with its own copy of all bytes. */
struct kit_mail {
    struct kit_side *to;
    bool answer; /* of the worker */
    struct repair m;
    uint8_t *bytes;
};

struct kit {
    struct kit_side side[2];
    uint8_t q_bits;
    uint32_t partition;
    struct kit_mail queue[8];
    uint32_t queued;
    uint64_t steps, stop_at; /* cut the connection after so many steps; 0: never */
    void (*spoil)(struct kit *, struct repair *); /* change a message on its way; may be NULL */
    struct rand rand;
    bool bad; /* somebody called a message bad */
};

static uint64_t kit_digest(uint32_t key, uint32_t version)
{
    uint32_t both[2] = {key, version};

    return version == 0 ? 0 : hash64(both, sizeof both);
}

static struct slice kit_key(uint32_t key)
{
    static char text[24];

    snprintf(text, sizeof text, "user:%u", key);
    return slice_str(text);
}

/* Append the encoded object. Every fiftieth is large where sizes vary. */
static void kit_object(const struct kit_row *row, struct buf *out)
{
    static struct object empty;
    static uint8_t value[KIT_VALUE];
    struct object_write w = {.dot = {7, row->version},
                             .time = row->time_ms << 16,
                             .tombstone = row->tombstone,
                             .sibling_limit = LIMIT_SIBLINGS};

    memcpy(value, &row->key, sizeof row->key);
    if (!row->tombstone)
        w.value = slice_of(value, sizeof value);
    object_empty(&empty, kit_key(row->key));
    ASSERT(object_put(&empty, &w, out, NULL) == 0);
}

/* What an encoded object says. */
static void kit_open(struct slice bytes, uint32_t *key, uint32_t *version, bool *tombstone,
                     uint64_t *time_ms)
{
    static struct object o;
    struct sibling s;
    size_t cursor = 0;

    ASSERT(object_open(&o, bytes) == 0 && object_next(&o, &cursor, &s));
    *key = (uint32_t)strtoul((const char *)o.key.data + 5, NULL, 10);
    *version = (uint32_t)s.dot.n;
    *tombstone = (s.flags & SIBLING_TOMBSTONE) != 0;
    *time_ms = s.time >> 16;
}

static struct kit_row *kit_find(struct kit_side *s, const struct position *pos)
{
    uint32_t low = 0, high = s->count;

    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (position_compare(&s->rows[mid].pos, pos) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return &s->rows[low];
}

static uint64_t kit_sum(const struct kit_row *row)
{
    return row->flushed == 0
               ? 0
               : hash64_seed(row->pos.b, POSITION_BYTES, kit_digest(row->key, row->flushed));
}

/* Make the leaves anew; returns the root. */
static uint64_t kit_flush(struct kit_side *s)
{
    uint64_t root = 0;

    free(s->leaves);
    s->leaves = calloc(1u << s->leaf_bits, sizeof s->leaves[0]);
    ASSERT(s->leaves != NULL);
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t high = 0, sum = kit_sum(&s->rows[i]);

        for (int b = 0; b < 8; b++)
            high = high << 8 | s->rows[i].pos.b[b];
        s->leaves[high << s->kit->q_bits >> (64 - s->leaf_bits)] += sum;
        root += sum;
    }
    return root;
}

/* --- the host --- */

/* Bytes of a message as msgpack, with its frame. */
static size_t kit_size(const struct repair *m)
{
    size_t size = 8 + 2;

    switch (m->kind) {
#define MESSAGE(name, number, text)                                                                \
    case REPAIR_##name: {                                                                          \
        const struct repair_##name *x = &m->u.name;
#define NUMBER(v)    size += (v) < 128 ? 1 : (v) < 256 ? 2 : (v) < 65536 ? 3 : (v) >> 32 == 0 ? 5 : 9;
#define U64(field)   NUMBER((uint64_t)x->field)
#define U32(field)   NUMBER((uint64_t)x->field)
#define U8(field)    NUMBER((uint64_t)x->field)
#define BYTES(field) size += x->field.len + (x->field.len < 256 ? 2 : x->field.len < 65536 ? 3 : 5);
#define END(name)                                                                                  \
    break;                                                                                         \
    }
#include "core/repair.def"
#undef NUMBER
    }
    return size;
}

static void kit_post(struct kit_side *to, bool answer, const struct repair *m)
{
    struct kit *kit = to->kit;
    struct kit_mail *mail = &kit->queue[kit->queued++];
    struct slice *slices[MESSAGE_SLICES];
    unsigned count;

    ASSERT(kit->queued <= 8);
    *mail = (struct kit_mail){.to = to, .answer = answer, .m = *m};
    count = repair_slices(&mail->m, slices);
    mail->bytes = malloc(slices_bytes(slices, count) + 1);
    ASSERT(mail->bytes != NULL);
    slices_move(slices, count, mail->bytes);
}

static int kit_send(void *arg, const struct repair *m)
{
    struct kit_side *s = arg;

    if (s->broken)
        return -ERR_CLOSED;
    s->bytes += kit_size(m);
    s->messages++;
    if (m->kind == REPAIR_LIST)
        s->listed += m->u.LIST.entries.len / REPAIR_ENTRY_BYTES;
    if (m->kind == REPAIR_LISTED)
        s->listed += m->u.LISTED.entries.len / REPAIR_ENTRY_BYTES;
    kit_post(s->other, false, m);
    return 0;
}

static int kit_leaves(void *arg, uint32_t partition, const uint64_t **leaves, unsigned *leaf_bits)
{
    struct kit_side *s = arg;

    ASSERT(partition == s->kit->partition);
    *leaves = s->leaves;
    *leaf_bits = s->leaf_bits;
    return 0;
}

static struct exchange_entry kit_entry(const struct kit_row *row, uint32_t version)
{
    return (struct exchange_entry){.pos = row->pos,
                                   .digest = kit_digest(row->key, version),
                                   .sum = kit_sum(row),
                                   .time_ms = version == 0 ? 0 : row->time_ms,
                                   .flags = row->tombstone ? ENTRY_TOMBSTONE : 0};
}

static int kit_rows(void *arg, uint32_t partition, const struct position *first,
                    const struct position *last, uint32_t max, struct exchange_entry *out)
{
    struct kit_side *s = arg;
    uint32_t count = 0;

    ASSERT(partition == s->kit->partition);
    for (struct kit_row *row = kit_find(s, first);
         row < s->rows + s->count && count < max && position_compare(&row->pos, last) <= 0; row++)
        if (row->flushed != 0)
            out[count++] = kit_entry(row, row->flushed);
    return (int)count;
}

static int kit_objects(void *arg, uint32_t partition, struct position *cursor,
                       const struct position *last, uint32_t max_bytes, struct buf *out)
{
    struct kit_side *s = arg;

    ASSERT(partition == s->kit->partition);
    for (struct kit_row *row = kit_find(s, cursor);
         row < s->rows + s->count && position_compare(&row->pos, last) <= 0; row++) {
        if (buf_len(out) >= max_bytes) {
            *cursor = row->pos;
            return 0;
        }
        if (row->version != 0)
            kit_object(row, out);
    }
    return 1;
}

/* --- the worker --- */

static void kit_look(struct kit_side *s, const struct repair_LOOK *m, struct repair *answer,
                     struct buf *out)
{
    for (size_t at = 0; at < m->positions.len; at += POSITION_BYTES) {
        uint8_t bytes[REPAIR_ENTRY_BYTES];
        struct exchange_entry e = {.time_ms = 0};
        struct kit_row *row;

        memcpy(e.pos.b, m->positions.data + at, POSITION_BYTES);
        row = kit_find(s, &e.pos);
        if (row < s->rows + s->count && position_compare(&row->pos, &e.pos) == 0 &&
            row->version != 0)
            e = kit_entry(row, row->version);
        exchange_entry_encode(&e, bytes);
        buf_append(out, bytes, sizeof bytes);
    }
    answer->kind = REPAIR_LOOKED;
    answer->u.LOOKED =
        (struct repair_LOOKED){.vnode = s->vnode, .entries = slice_of(buf_head(out), buf_len(out))};
}

static void kit_fetch(struct kit_side *s, const struct repair_FETCH *m, struct repair *answer,
                      struct buf *out)
{
    uint32_t done = 0;

    for (size_t at = 0; at < m->positions.len; at += POSITION_BYTES, done++) {
        struct position pos;
        struct kit_row *row;

        memcpy(pos.b, m->positions.data + at, POSITION_BYTES);
        if (done > 0 && buf_len(out) >= m->max_bytes)
            break;
        row = kit_find(s, &pos);
        if (row < s->rows + s->count && position_compare(&row->pos, &pos) == 0 && row->version != 0)
            kit_object(row, out);
    }
    answer->kind = REPAIR_FETCHED;
    answer->u.FETCHED = (struct repair_FETCHED){
        .vnode = s->vnode, .done = done, .objects = slice_of(buf_head(out), buf_len(out))};
}

static void kit_merge(struct kit_side *s, const struct repair_MERGE *m, struct repair *answer,
                      struct buf *out)
{
    static uint8_t took[65536];
    struct slice rest = m->objects;
    uint32_t count = 0;

    while (rest.len > 0) {
        uint32_t len, key, version;
        uint64_t time_ms;
        bool tombstone;
        struct slice name;

        memcpy(&len, rest.data + 4, sizeof len);
        struct slice object = slice_of(rest.data, len);

        rest = slice_of(rest.data + len, rest.len - len);
        kit_open(object, &key, &version, &tombstone, &time_ms);
        ASSERT(object_peek_key(object, &name) == 0);
        struct position pos = position_of(name);
        struct kit_row *row = kit_find(s, &pos);

        ASSERT(row < s->rows + s->count && row->key == key && count < sizeof took);
        if (key == s->full_at) {
            took[count++] = REPAIR_TOOK_FAILED;
        } else if (row->version == 0 && s->horizon_ms != 0 && time_ms <= s->horizon_ms) {
            took[count++] = REPAIR_TOOK_DEAD;
        } else if (version > row->version) {
            took[count++] = REPAIR_TOOK_NEWS;
            *row = (struct kit_row){row->pos, key, version, row->flushed, tombstone, time_ms};
            s->merged++;
        } else {
            took[count++] = REPAIR_TOOK_SAME;
            if (version < row->version && (m->flags & REPAIR_WANT_WHOLE) != 0)
                kit_object(row, out);
        }
    }
    answer->kind = REPAIR_MERGED;
    answer->u.MERGED = (struct repair_MERGED){.vnode = s->vnode,
                                              .took = slice_of(took, count),
                                              .objects = slice_of(buf_head(out), buf_len(out))};
}

static void kit_drop(struct kit_side *s, const struct repair_DROP *m, struct repair *answer,
                     struct buf *out)
{
    for (size_t at = 0; at < m->drops.len; at += REPAIR_DROP_BYTES) {
        uint8_t took = REPAIR_TOOK_FAILED;
        struct position pos;
        struct kit_row *row;

        memcpy(pos.b, m->drops.data + at, POSITION_BYTES);
        row = kit_find(s, &pos);
        ASSERT(row < s->rows + s->count);
        /* The digest of a merged object is a real one, which the kit does not keep. */
        if (position_compare(&row->pos, &pos) == 0 && row->version != 0) {
            row->version = row->flushed = 0;
            took = REPAIR_TOOK_NEWS;
            s->dropped++;
        }
        buf_append(out, &took, 1);
    }
    answer->kind = REPAIR_DROPPED;
    answer->u.DROPPED =
        (struct repair_DROPPED){.vnode = s->vnode, .took = slice_of(buf_head(out), buf_len(out))};
}

static int kit_ask(void *arg, const struct repair *m)
{
    struct kit_side *s = arg;
    struct buf out = {0};
    struct repair answer = {0};

    switch (m->kind) {
    case REPAIR_LOOK:
        kit_look(s, &m->u.LOOK, &answer, &out);
        break;
    case REPAIR_FETCH:
        kit_fetch(s, &m->u.FETCH, &answer, &out);
        break;
    case REPAIR_MERGE:
        kit_merge(s, &m->u.MERGE, &answer, &out);
        break;
    default:
        ASSERT(m->kind == REPAIR_DROP);
        kit_drop(s, &m->u.DROP, &answer, &out);
    }
    kit_post(s, true, &answer);
    buf_free(&out);
    return 0;
}

/* --- runs --- */

static int kit_order(const void *a, const void *b)
{
    return position_compare(&((const struct kit_row *)a)->pos, &((const struct kit_row *)b)->pos);
}

/* Both sides get version 1 of so many keys of the partition. */
static void kit_fill(struct kit *kit, unsigned q_bits, uint32_t partition, uint32_t count)
{
    uint32_t got = 0;

    kit->q_bits = (uint8_t)q_bits;
    kit->partition = partition;
    for (int i = 0; i < 2; i++) {
        struct kit_side *s = &kit->side[i];

        s->rows = calloc(count + 1, sizeof s->rows[0]);
        ASSERT(s->rows != NULL);
        s->count = count;
        s->kit = kit;
        s->other = &kit->side[1 - i];
        s->leaf_bits = 6;
        s->vnode = (uint64_t)i + 1;
        s->full_at = UINT32_MAX;
        s->flags = EXCHANGE_WHOLE;
    }
    for (uint32_t key = 0; got < count; key++) {
        struct position pos = position_of(kit_key(key));

        if (position_partition(&pos, q_bits) == partition)
            kit->side[0].rows[got++] = (struct kit_row){pos, key, 1, 1, false, 1000};
    }
    qsort(kit->side[0].rows, count, sizeof(struct kit_row), kit_order);
    if (count > 0)
        memcpy(kit->side[1].rows, kit->side[0].rows, count * sizeof(struct kit_row));
}

static void kit_start(struct kit *kit)
{
    for (int i = 0; i < 2; i++) {
        struct kit_side *s = &kit->side[i];
        struct exchange_host host = {.arg = s,
                                     .send = kit_send,
                                     .ask = kit_ask,
                                     .leaves = kit_leaves,
                                     .rows = kit_rows,
                                     .objects = kit_objects};

        s->broken = false;
        if (s->x == NULL)
            s->x = exchange_init(aligned_alloc(16, (exchange_size() + 15) & ~(size_t)15), &host);
    }
}

static struct exchange_side kit_view(struct kit_side *s)
{
    return (struct exchange_side){.partition = s->kit->partition,
                                  .q_bits = s->kit->q_bits,
                                  .epoch = 1,
                                  .vnode = s->vnode,
                                  .flags = s->flags,
                                  .root = kit_flush(s),
                                  .horizon_ms = s->horizon_ms,
                                  .now_ms = s->now_ms,
                                  .as_of_ms = s->now_ms - s->behind_ms};
}

/* Deliver what is on its way, one by one; false: nothing was. */
static bool kit_step(struct kit *kit)
{
    if (kit->queued == 0)
        return false;
    struct kit_mail mail = kit->queue[0];

    memmove(kit->queue, kit->queue + 1, --kit->queued * sizeof kit->queue[0]);
    kit->steps++;
    if (kit->spoil != NULL && !mail.answer)
        kit->spoil(kit, &mail.m);
    if (mail.answer) {
        exchange_answer(mail.to->x, &mail.m);
    } else if (mail.m.kind == REPAIR_OPEN) {
        struct exchange_side mine = kit_view(mail.to);

        if (mail.m.u.OPEN.partition == mine.partition && mail.m.u.OPEN.exchange != 0)
            exchange_serve(mail.to->x, &mine, &mail.m.u.OPEN);
    } else if (exchange_of(&mail.m) == exchange_number(mail.to->x)) {
        kit->bad |= exchange_receive(mail.to->x, &mail.m) != 0;
    }
    free(mail.bytes);
    return true;
}

static void kit_cut(struct kit *kit)
{
    while (kit->queued > 0)
        free(kit->queue[--kit->queued].bytes);
    for (int i = 0; i < 2; i++) {
        kit->side[i].broken = true;
        exchange_abort(kit->side[i].x, -ERR_CLOSED);
    }
}

/* One exchange, begun by side 0. */
static enum exchange_outcome kit_run(struct kit *kit)
{
    struct exchange_side mine;

    kit_start(kit);
    mine = kit_view(&kit->side[0]);
    exchange_begin(kit->side[0].x, 1, &mine);
    for (uint64_t steps = 0; kit_step(kit); steps++) {
        ASSERT(steps < 10000000);
        if (kit->stop_at != 0 && steps + 1 == kit->stop_at)
            kit_cut(kit);
    }
    /* What a spoilt message has left waiting. */
    if (exchange_outcome(kit->side[0].x) == EXCHANGE_RUNNING ||
        exchange_outcome(kit->side[1].x) == EXCHANGE_RUNNING)
        kit_cut(kit);
    for (int i = 0; i < 2; i++)
        for (uint32_t r = 0; r < kit->side[i].count; r++)
            kit->side[i].rows[r].flushed = kit->side[i].rows[r].version;
    return exchange_outcome(kit->side[0].x);
}

static void kit_free(struct kit *kit)
{
    for (int i = 0; i < 2; i++) {
        if (kit->side[i].x != NULL)
            exchange_fini(kit->side[i].x);
        free(kit->side[i].x);
        free(kit->side[i].rows);
        free(kit->side[i].leaves);
    }
}

/* A version on one side, in the tree there. */
static void kit_set(struct kit *kit, int side, uint32_t row, uint32_t version)
{
    kit->side[side].rows[row].version = kit->side[side].rows[row].flushed = version;
}

static bool kit_equal(const struct kit *kit)
{
    for (uint32_t r = 0; r < kit->side[0].count; r++)
        if (kit->side[0].rows[r].version != kit->side[1].rows[r].version)
            return false;
    return true;
}

#endif
