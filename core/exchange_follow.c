/* The responder of an exchange: it answers one request after the other. See exchange.h. */
#include "core/exchange_impl.h"

#include "core/coord_repair.h"

static void answer(struct exchange *x, const struct repair *m)
{
    if (x->state == XSTATE_OVER)
        return;
    x->state = XSTATE_SERVING;
    exchange_send(x, m);
}

static struct slice wire_of(const struct exchange *x)
{
    return exchange_bytes(&x->wire);
}

/* Nodes of a request, ascending, each record beginning with an index: into x->asked. */
static bool take_nodes(struct exchange *x, struct slice bytes, size_t size, unsigned bits)
{
    size_t count = bytes.len / size;

    if (bytes.len % size != 0 || count == 0 || count > EXCHANGE_NODES)
        return false;
    x->asked_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        uint32_t index = exchange_load32(bytes.data + i * size);

        if (!exchange_node_valid(index, bits) || (i > 0 && index <= x->asked[i - 1].index))
            return false;
        x->asked[i] = (struct node){.index = index, .bits = (uint8_t)bits};
    }
    return true;
}

/* --- COMPARE --- */

static int serve_compare(struct exchange *x, const struct repair_COMPARE *m)
{
    if (m->bits >= EXCHANGE_BITS || !take_nodes(x, m->nodes, EXCHANGE_NODE_BYTES, m->bits))
        return -ERR_FORMAT;
    buf_clear(&x->wire);
    for (uint32_t i = 0; i < x->asked_count; i++) {
        const uint8_t *theirs = m->nodes.data + (size_t)i * EXCHANGE_NODE_BYTES + 4;
        uint64_t sums[EXCHANGE_CHILDREN];
        uint32_t differ = 0, empty = 0;
        uint8_t out[4];
        int rc = exchange_children(x, &x->asked[i], sums);

        if (rc != 0)
            return rc;
        for (unsigned child = 0; child < EXCHANGE_CHILDREN; child++) {
            uint64_t sum = 0;

            for (unsigned b = 0; b < EXCHANGE_SUM_BYTES; b++)
                sum |= (uint64_t)*theirs++ << 8 * b;
            if (sum == exchange_cut(sums[child]))
                continue;
            differ |= 1u << child;
            empty |= (unsigned)(sums[child] == 0) << child;
        }
        exchange_store32(out, differ | empty << 16);
        if (!exchange_put(x, out, sizeof out))
            return 0;
    }
    x->stats.nodes += x->asked_count;
    answer(x, &(struct repair){.kind = REPAIR_COMPARED,
                               .u.COMPARED = {.exchange = x->number, .differ = wire_of(x)}});
    return 0;
}

/* --- LIST --- */

/* Note a position that is to be looked at: what the initiator says of it is kept beside. */
static void note_candidate(struct exchange *x, const struct position *pos, uint64_t digest)
{
    ASSERT(x->mine_count < EXCHANGE_LIST);
    x->mine_list[x->mine_count++] = (struct exchange_entry){.pos = *pos, .digest = digest};
}

/* Compare the initiator's entries [from, to) of a node with the rows here. false: too many rows. */
static bool compare_rows(struct exchange *x, const struct node *n, uint32_t from, uint32_t to)
{
    bool theirs_only = (x->theirs_flags & EXCHANGE_SURPLUS) != 0 || COORD_BUG(LISTED_ONLY_MINE);
    int rows = 0, at = 0;

    if (!theirs_only)
        rows = exchange_rows(x, n, EXCHANGE_LISTED_ROWS + 1, x->chunk);
    if (rows < 0 || rows > EXCHANGE_LISTED_ROWS)
        return false;
    while (at < rows || from < to) {
        const struct exchange_entry *mine = at < rows ? &x->chunk[at] : NULL;
        const struct exchange_entry *theirs = from < to ? &x->theirs_list[from] : NULL;
        int order = mine == NULL     ? 1
                    : theirs == NULL ? -1
                                     : position_compare(&mine->pos, &theirs->pos);

        if (order < 0)
            note_candidate(x, &mine->pos, 0);
        else if (order > 0 || mine->digest != theirs->digest)
            note_candidate(x, &theirs->pos, theirs->digest);
        at += order <= 0;
        from += order >= 0;
    }
    return true;
}

static void send_listed(struct exchange *x)
{
    answer(x,
           &(struct repair){
               .kind = REPAIR_LISTED,
               .u.LISTED = {.exchange = x->number, .done = x->diff_count, .entries = wire_of(x)}});
}

static void look(struct exchange *x)
{
    buf_clear(&x->wire);
    for (uint32_t i = 0; i < x->mine_count; i++)
        if (!exchange_put(x, x->mine_list[i].pos.b, POSITION_BYTES))
            return;
    if (x->mine_count == 0)
        send_listed(x);
    else
        exchange_ask(
            x, XSTATE_SERVE_LOOK,
            &(struct repair){.kind = REPAIR_LOOK,
                             .u.LOOK = {.partition = x->mine.partition, .positions = wire_of(x)}});
}

static int serve_list(struct exchange *x, const struct repair_LIST *m)
{
    int count =
        exchange_entries(x, m->entries, x->theirs_list, EXCHANGE_NODES * EXCHANGE_LIST_ROWS);
    uint32_t from = 0, to = 0;

    if (count < 0 || m->bits > EXCHANGE_BITS || !take_nodes(x, m->nodes, 4, m->bits))
        return -ERR_FORMAT;
    x->mine_count = 0;
    /* diff_count: nodes that are done. */
    x->diff_count = x->asked_count;
    for (uint32_t i = 0; i < x->asked_count; i++) {
        struct position first, last;

        exchange_node_range(x, &x->asked[i], &first, &last);
        for (from = to; to < (uint32_t)count; to++) {
            if (position_compare(&x->theirs_list[to].pos, &last) > 0)
                break;
            if (position_compare(&x->theirs_list[to].pos, &first) < 0 ||
                x->theirs_list[to].digest == 0)
                return -ERR_FORMAT;
        }
        if (to - from > EXCHANGE_LIST_ROWS)
            return -ERR_FORMAT;
        if (i < x->diff_count && !compare_rows(x, &x->asked[i], from, to))
            x->diff_count = i; /* go on checking what was sent */
        if (x->state == XSTATE_OVER)
            return 0;
    }
    if (to != (uint32_t)count)
        return -ERR_FORMAT;
    look(x);
    return 0;
}

static void serve_looked(struct exchange *x, const struct repair_LOOKED *m)
{
    int count = exchange_entries(x, m->entries, x->theirs_list, EXCHANGE_LIST);

    ASSERT(count == (int)x->mine_count);
    buf_clear(&x->wire);
    for (uint32_t i = 0; i < x->mine_count; i++) {
        if (x->theirs_list[i].digest == x->mine_list[i].digest)
            x->stats.in_flight++;
        else if (!exchange_put(x, m->entries.data + (size_t)i * REPAIR_ENTRY_BYTES,
                               REPAIR_ENTRY_BYTES))
            return;
    }
    x->stats.listed += buf_len(&x->wire) / REPAIR_ENTRY_BYTES;
    send_listed(x);
}

/* --- PULL --- */

static void send_pulled(struct exchange *x, struct slice objects, const struct position *next)
{
    struct repair m = {.kind = REPAIR_PULLED,
                       .u.PULLED = {.exchange = x->number, .objects = objects}};

    if (next != NULL)
        m.u.PULLED.next = slice_of(next->b, POSITION_BYTES);
    x->stats.pushed += exchange_count_objects(objects);
    answer(x, &m);
}

static int serve_pull_range(struct exchange *x, const struct repair_PULL *m, uint32_t max)
{
    struct position cursor, last;
    int rc;

    if (m->first.len != POSITION_BYTES || m->last.len != POSITION_BYTES || m->positions.len != 0)
        return -ERR_FORMAT;
    memcpy(cursor.b, m->first.data, POSITION_BYTES);
    memcpy(last.b, m->last.data, POSITION_BYTES);
    if (position_partition(&cursor, x->mine.q_bits) != x->mine.partition ||
        position_partition(&last, x->mine.q_bits) != x->mine.partition ||
        position_compare(&cursor, &last) > 0)
        return -ERR_FORMAT;
    buf_clear(&x->batch);
    rc = x->host.objects(x->host.arg, x->mine.partition, &cursor, &last, max, &x->batch);
    if (rc < 0)
        return rc;
    send_pulled(x, exchange_bytes(&x->batch), rc == 1 ? NULL : &cursor);
    return 0;
}

static int serve_pull(struct exchange *x, const struct repair_PULL *m)
{
    uint32_t max = m->max_bytes < EXCHANGE_BATCH ? m->max_bytes : EXCHANGE_BATCH;

    if (m->first.len != 0)
        return serve_pull_range(x, m, max);
    if (m->last.len != 0 || m->positions.len == 0 ||
        !exchange_positions_valid(x, m->positions, EXCHANGE_LIST))
        return -ERR_FORMAT;
    x->theirs_count = (uint32_t)(m->positions.len / POSITION_BYTES);
    for (uint32_t i = 0; i < x->theirs_count; i++)
        memcpy(x->theirs_list[i].pos.b, m->positions.data + (size_t)i * POSITION_BYTES,
               POSITION_BYTES);
    exchange_ask(x, XSTATE_SERVE_FETCH,
                 &(struct repair){.kind = REPAIR_FETCH,
                                  .u.FETCH = {.partition = x->mine.partition,
                                              .positions = m->positions,
                                              .max_bytes = max}});
    return 0;
}

static void serve_fetched(struct exchange *x, const struct repair_FETCHED *m)
{
    ASSERT(m->done > 0 && m->done <= x->theirs_count);
    send_pulled(x, m->objects, m->done < x->theirs_count ? &x->theirs_list[m->done].pos : NULL);
}

/* --- PUSH and DEAD --- */

static int serve_push(struct exchange *x, const struct repair_PUSH *m)
{
    struct position first, last;
    struct node root = {0};
    uint32_t count;

    exchange_node_range(x, &root, &first, &last);
    if ((m->flags & ~(uint32_t)REPAIR_WANT_WHOLE) != 0 ||
        m->objects.len > EXCHANGE_BATCH + (size_t)LIMIT_OBJECT ||
        !exchange_objects_valid(m->objects, &first, &last, &count) || count == 0)
        return -ERR_FORMAT;
    x->stats.pulled += count;
    exchange_ask(
        x, XSTATE_SERVE_MERGE,
        &(struct repair){
            .kind = REPAIR_MERGE,
            .u.MERGE = {.partition = x->mine.partition, .flags = m->flags, .objects = m->objects}});
    return 0;
}

static void serve_merged(struct exchange *x, const struct repair_MERGED *m)
{
    for (size_t i = 0; i < m->took.len; i++) {
        x->stats.news_here += m->took.data[i] == REPAIR_TOOK_NEWS;
        x->stats.failed += m->took.data[i] == REPAIR_TOOK_FAILED;
    }
    x->stats.pushed += exchange_count_objects(m->objects);
    answer(x, &(struct repair){
                  .kind = REPAIR_PUSHED,
                  .u.PUSHED = {.exchange = x->number, .took = m->took, .objects = m->objects}});
}

static int serve_dead(struct exchange *x, const struct repair_DEAD *m)
{
    if (m->drops.len == 0 || !exchange_drops_valid(x, m->drops, COORD_REPAIR_MAX))
        return -ERR_FORMAT;
    exchange_ask(x, XSTATE_SERVE_DROP,
                 &(struct repair){.kind = REPAIR_DROP,
                                  .u.DROP = {.partition = x->mine.partition, .drops = m->drops}});
    return 0;
}

static void serve_dropped(struct exchange *x, const struct repair_DROPPED *m)
{
    for (size_t i = 0; i < m->took.len; i++)
        x->stats.dead += m->took.data[i] == REPAIR_TOOK_NEWS;
    answer(x, &(struct repair){.kind = REPAIR_BURIED,
                               .u.BURIED = {.exchange = x->number, .took = m->took}});
}

/* --- the whole --- */

static void take_close(struct exchange *x, const struct repair_CLOSE *m)
{
    bool agreed = m->agreed != 0 && m->status == 0;

    x->state = XSTATE_OVER;
    x->error = -(int)m->status;
    /* One that only gives has not taken what this side has. */
    x->outcome = m->status != 0                                        ? EXCHANGE_FAILED
                 : agreed && (x->theirs_flags & EXCHANGE_SURPLUS) == 0 ? EXCHANGE_AGREEMENT
                                                                       : EXCHANGE_PARTIAL;
}

int exchange_follow(struct exchange *x, const struct repair *m)
{
    if (m->kind == REPAIR_CLOSE) {
        take_close(x, &m->u.CLOSE);
        return 0;
    }
    if (x->state != XSTATE_SERVING)
        return -ERR_FORMAT; /* it must wait for the answer */
    switch (m->kind) {
    case REPAIR_COMPARE:
        return serve_compare(x, &m->u.COMPARE);
    case REPAIR_LIST:
        return serve_list(x, &m->u.LIST);
    case REPAIR_PULL:
        return serve_pull(x, &m->u.PULL);
    case REPAIR_PUSH:
        return serve_push(x, &m->u.PUSH);
    case REPAIR_DEAD:
        return serve_dead(x, &m->u.DEAD);
    default:
        return -ERR_FORMAT;
    }
}

void exchange_follow_answer(struct exchange *x, const struct repair *m)
{
    switch (x->state) {
    case XSTATE_SERVE_LOOK:
        serve_looked(x, &m->u.LOOKED);
        break;
    case XSTATE_SERVE_FETCH:
        serve_fetched(x, &m->u.FETCHED);
        break;
    case XSTATE_SERVE_MERGE:
        serve_merged(x, &m->u.MERGED);
        break;
    case XSTATE_SERVE_DROP:
        serve_dropped(x, &m->u.DROPPED);
        break;
    default:
        UNREACHABLE();
    }
}
