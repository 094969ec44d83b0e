/* The initiator of an exchange: it walks down the tree, depth first, and has what differs mended. At most
 * one request is under way; each answer leads to go_on(). See exchange.h. */
#include "core/exchange_impl.h"

#include "core/object.h"

static void go_on(struct exchange *x);

static bool only_gives(uint32_t flags)
{
    return (flags & EXCHANGE_SURPLUS) != 0;
}

static struct slice wire_of(const struct exchange *x)
{
    return exchange_bytes(&x->wire);
}

/* --- which nodes are looked at next, and how --- */

enum plan { PLAN_SKIP, PLAN_COMPARE, PLAN_LIST, PLAN_PUSH, PLAN_BOTH, PLAN_ERROR };

/* What to do with a node that differs. With PLAN_LIST its rows are in x->chunk. */
static enum plan plan_for(struct exchange *x, const struct node *n, unsigned leaf_bits, int *rows)
{
    bool give_only = only_gives(x->mine.flags);

    *rows = 0;
    if (n->empty_there && only_gives(x->theirs_flags))
        return PLAN_SKIP;
    if (n->empty_here)
        return give_only ? PLAN_SKIP : PLAN_LIST;
    /* Counting rows is worth it where there may be few. */
    if (n->bits < leaf_bits && !n->empty_there)
        return PLAN_COMPARE;
    *rows = exchange_rows(x, n, EXCHANGE_LIST_ROWS + 1, x->chunk);
    if (*rows < 0)
        return PLAN_ERROR;
    if (*rows == 0 && give_only)
        return PLAN_SKIP;
    if (*rows <= EXCHANGE_LIST_ROWS)
        return PLAN_LIST;
    if (n->empty_there)
        return PLAN_PUSH;
    return n->bits >= EXCHANGE_BITS ? PLAN_BOTH : PLAN_COMPARE;
}

static bool put_compared(struct exchange *x, const struct node *n)
{
    uint64_t sums[EXCHANGE_CHILDREN];
    uint8_t out[EXCHANGE_NODE_BYTES];
    uint16_t empty = 0;

    if (exchange_children(x, n, sums) != 0)
        return false;
    exchange_store32(out, n->index);
    for (unsigned i = 0; i < EXCHANGE_CHILDREN; i++) {
        empty |= (uint16_t)((unsigned)(sums[i] == 0) << i);
        for (unsigned b = 0; b < EXCHANGE_SUM_BYTES; b++)
            out[4 + i * EXCHANGE_SUM_BYTES + b] = (uint8_t)(sums[i] >> 8 * b);
    }
    x->asked_empty[x->asked_count] = empty;
    x->stats.nodes++;
    return exchange_put(x, out, sizeof out);
}

static void keep_listed(struct exchange *x, int rows)
{
    for (int i = 0; i < rows; i++)
        x->mine_list[x->mine_count++] = x->chunk[i];
}

static void send_compare(struct exchange *x)
{
    x->state = XSTATE_COMPARING;
    exchange_send(x, &(struct repair){.kind = REPAIR_COMPARE,
                                      .u.COMPARE = {.exchange = x->number,
                                                    .bits = x->asked[0].bits,
                                                    .nodes = wire_of(x)}});
}

static void send_list(struct exchange *x)
{
    struct repair m = {.kind = REPAIR_LIST,
                       .u.LIST = {.exchange = x->number, .bits = x->asked[0].bits}};
    size_t nodes = x->asked_count * 4u;

    buf_clear(&x->wire);
    for (uint32_t i = 0; i < x->asked_count; i++) {
        uint8_t index[4];

        exchange_store32(index, x->asked[i].index);
        if (!exchange_put(x, index, sizeof index))
            return;
    }
    for (uint32_t i = 0; i < x->mine_count; i++) {
        uint8_t entry[REPAIR_ENTRY_BYTES];

        exchange_entry_encode(&x->mine_list[i], entry);
        if (!exchange_put(x, entry, sizeof entry))
            return;
    }
    m.u.LIST.nodes = slice_of(buf_head(&x->wire), nodes);
    m.u.LIST.entries = slice_of(buf_head(&x->wire) + nodes, buf_len(&x->wire) - nodes);
    x->state = XSTATE_LISTING;
    exchange_send(x, &m);
}

static void set_range(struct exchange *x, const struct node *n, bool pull, bool push)
{
    struct range *r = &x->range;

    exchange_node_range(x, n, &r->pull_at, &r->last);
    r->push_at = r->pull_at;
    r->pull = pull && !only_gives(x->mine.flags);
    r->push = push && !only_gives(x->theirs_flags);
}

/* Take nodes of one depth that are to be treated alike from the stack, up to a message full, and ask.
 * Nothing is asked if all were to be skipped, or if a range comes first. */
static void ask_nodes(struct exchange *x)
{
    enum plan all = PLAN_SKIP;
    unsigned leaf_bits;

    x->asked_count = x->mine_count = 0;
    buf_clear(&x->wire);
    if (exchange_leaf_bits(x, &leaf_bits) != 0)
        return;
    while (x->stack_count > 0 && x->asked_count < EXCHANGE_NODES) {
        struct node n = x->stack[x->stack_count - 1];
        int rows;

        if (x->asked_count > 0 && n.bits != x->asked[0].bits)
            break;
        enum plan plan = plan_for(x, &n, leaf_bits, &rows);

        if (plan == PLAN_ERROR)
            return;
        if (plan != PLAN_SKIP && x->asked_count > 0 && plan != all)
            break;
        x->stack_count--;
        if (plan == PLAN_SKIP)
            continue;
        if (plan == PLAN_PUSH || plan == PLAN_BOTH) {
            set_range(x, &n, plan == PLAN_BOTH, true);
            return;
        }
        all = plan;
        if (plan == PLAN_LIST)
            keep_listed(x, rows);
        else if (!put_compared(x, &n))
            return;
        x->asked[x->asked_count++] = n;
    }
    if (all == PLAN_COMPARE)
        send_compare(x);
    else if (all == PLAN_LIST)
        send_list(x);
}

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void push_node(struct exchange *x, struct node n)
{
    ASSERT(x->stack_count < EXCHANGE_STACK);
    x->stack[x->stack_count++] = n;
}

static int take_compared(struct exchange *x, const struct repair_COMPARED *m)
{
    if (m->differ.len != 4 * (size_t)x->asked_count)
        return -ERR_FORMAT;
    /* Backwards, so that they leave the stack in order. */
    for (uint32_t i = x->asked_count; i-- > 0;) {
        uint16_t differ = load16(m->differ.data + 4 * (size_t)i);
        uint16_t empty = load16(m->differ.data + 4 * (size_t)i + 2);

        if ((empty & ~differ) != 0)
            return -ERR_FORMAT;
        for (unsigned child = EXCHANGE_CHILDREN; child-- > 0;) {
            if ((differ >> child & 1) == 0)
                continue;
            push_node(x, (struct node){.index = x->asked[i].index << EXCHANGE_FAN | child,
                                       .bits = (uint8_t)(x->asked[i].bits + EXCHANGE_FAN),
                                       .empty_here = (x->asked_empty[i] >> child & 1) != 0,
                                       .empty_there = (empty >> child & 1) != 0});
        }
    }
    go_on(x);
    return 0;
}

/* --- lists --- */

/* Is a position in one of the first `count` nodes asked for? *at goes on from where it stood. */
static bool in_asked(const struct exchange *x, const struct position *pos, uint32_t count,
                     uint32_t *at)
{
    for (; *at < count; ++*at) {
        struct position first, last;

        exchange_node_range(x, &x->asked[*at], &first, &last);
        if (position_compare(pos, &last) <= 0)
            return position_compare(pos, &first) >= 0;
    }
    return false;
}

static bool put_position(struct exchange *x, const struct position *pos)
{
    return exchange_put(x, pos->b, POSITION_BYTES);
}

static int take_listed(struct exchange *x, const struct repair_LISTED *m)
{
    int count = exchange_entries(x, m->entries, x->theirs_list, EXCHANGE_LIST);
    uint32_t at = 0;

    if (count < 0 || m->done > x->asked_count)
        return -ERR_FORMAT;
    buf_clear(&x->wire);
    for (int i = 0; i < count; i++) {
        if (!in_asked(x, &x->theirs_list[i].pos, m->done, &at))
            return -ERR_FORMAT;
        if (!put_position(x, &x->theirs_list[i].pos))
            return 0;
    }
    x->theirs_count = (uint32_t)count;
    x->stats.listed += (uint64_t)count;
    for (uint32_t i = x->asked_count; i-- > m->done + 1;)
        push_node(x, x->asked[i]);
    if (m->done < x->asked_count)
        set_range(x, &x->asked[m->done], true, true);
    if (count == 0)
        go_on(x);
    else
        exchange_ask(
            x, XSTATE_LOOKING,
            &(struct repair){.kind = REPAIR_LOOK,
                             .u.LOOK = {.partition = x->mine.partition, .positions = wire_of(x)}});
    return 0;
}

static bool is_dead(const struct exchange_entry *e, uint32_t flags, uint64_t horizon_ms)
{
    return (flags & EXCHANGE_WHOLE) != 0 && horizon_ms != 0 && e->time_ms <= horizon_ms &&
           !COORD_BUG(DEAD_COMES_BACK);
}

/* What is to become of one position, now that both have looked twice. */
static enum diff_kind judge(const struct exchange *x, const struct exchange_entry *mine,
                            const struct exchange_entry *theirs)
{
    bool i_give = only_gives(x->mine.flags), they_give = only_gives(x->theirs_flags);

    if (mine->digest == theirs->digest)
        return DIFF_NONE;
    if (mine->digest == 0) {
        if (is_dead(theirs, x->mine.flags, x->mine.horizon_ms))
            return DIFF_DEAD_THERE;
        return i_give ? DIFF_NONE : DIFF_PULL;
    }
    if (theirs->digest == 0) {
        if (is_dead(mine, x->theirs_flags, x->theirs_horizon_ms))
            return DIFF_DEAD_HERE;
        return they_give ? DIFF_NONE : DIFF_PUSH;
    }
    return i_give ? DIFF_PUSH : they_give ? DIFF_PULL : DIFF_BOTH;
}

static void take_looked(struct exchange *x, const struct repair_LOOKED *m)
{
    int count = exchange_entries(x, m->entries, x->mine_list, EXCHANGE_LIST);

    ASSERT(count == (int)x->theirs_count);
    x->diff_count = 0;
    for (uint32_t i = 0; i < x->theirs_count; i++) {
        const struct exchange_entry *mine = &x->mine_list[i], *theirs = &x->theirs_list[i];
        enum diff_kind kind = judge(x, mine, theirs);

        ASSERT(position_compare(&mine->pos, &theirs->pos) == 0);
        x->stats.in_flight += mine->digest == theirs->digest;
        if (kind == DIFF_NONE)
            continue;
        x->diff[x->diff_count++] =
            (struct diff){.pos = mine->pos,
                          .digest = kind == DIFF_DEAD_HERE ? mine->digest : theirs->digest,
                          .kind = (uint8_t)kind};
    }
    go_on(x);
}

/* --- mending --- */

static void send_dead(struct exchange *x)
{
    x->state = XSTATE_BURYING;
    exchange_send(x, &(struct repair){.kind = REPAIR_DEAD,
                                      .u.DEAD = {.exchange = x->number, .drops = wire_of(x)}});
}

static void ask_drop(struct exchange *x, enum exchange_state state)
{
    exchange_ask(x, state,
                 &(struct repair){.kind = REPAIR_DROP,
                                  .u.DROP = {.partition = x->mine.partition, .drops = wire_of(x)}});
}

static void send_pull(struct exchange *x)
{
    struct repair m = {.kind = REPAIR_PULL,
                       .u.PULL = {.exchange = x->number, .max_bytes = EXCHANGE_BATCH}};

    if (x->range.pull) {
        m.u.PULL.first = slice_of(x->range.pull_at.b, POSITION_BYTES);
        m.u.PULL.last = slice_of(x->range.last.b, POSITION_BYTES);
    } else {
        m.u.PULL.positions = wire_of(x);
    }
    x->state = XSTATE_PULLING;
    exchange_send(x, &m);
}

static void send_push(struct exchange *x)
{
    x->state = XSTATE_PUSHING;
    exchange_send(x, &(struct repair){.kind = REPAIR_PUSH,
                                      .u.PUSH = {.exchange = x->number,
                                                 .flags = x->want_whole ? REPAIR_WANT_WHOLE : 0,
                                                 .objects = exchange_bytes(&x->batch)}});
}

static void ask_merge(struct exchange *x, enum exchange_state state)
{
    exchange_ask(x, state,
                 &(struct repair){.kind = REPAIR_MERGE,
                                  .u.MERGE = {.partition = x->mine.partition,
                                              .objects = exchange_bytes(&x->batch)}});
}

/* The differences of one kind, into wire: positions, or drops for dead ones. These are done with. */
static uint32_t gather(struct exchange *x, enum diff_kind kind, bool forget)
{
    uint32_t count = 0;

    buf_clear(&x->wire);
    for (uint32_t i = 0; i < x->diff_count; i++) {
        struct diff *d = &x->diff[i];
        uint8_t digest[8];

        if (d->kind != kind)
            continue;
        if (!put_position(x, &d->pos))
            return 0;
        exchange_store32(digest, (uint32_t)d->digest);
        exchange_store32(digest + 4, (uint32_t)(d->digest >> 32));
        if ((kind == DIFF_DEAD_HERE || kind == DIFF_DEAD_THERE) &&
            !exchange_put(x, digest, sizeof digest))
            return 0;
        if (forget)
            d->kind = DIFF_NONE;
        count++;
    }
    return count;
}

/* Begin with the next kind of difference; false: none is left. */
static bool mend(struct exchange *x)
{
    if (gather(x, DIFF_DEAD_THERE, true) > 0) {
        x->stats.dead += buf_len(&x->wire) / REPAIR_DROP_BYTES;
        send_dead(x);
    } else if (gather(x, DIFF_DEAD_HERE, true) > 0) {
        x->stats.dead += buf_len(&x->wire) / REPAIR_DROP_BYTES;
        ask_drop(x, XSTATE_DROPPING);
    } else if (gather(x, DIFF_PULL, false) > 0) {
        send_pull(x);
    } else if (gather(x, DIFF_PUSH, false) > 0 || gather(x, DIFF_BOTH, false) > 0) {
        exchange_ask(x, XSTATE_FETCHING,
                     &(struct repair){.kind = REPAIR_FETCH,
                                      .u.FETCH = {.partition = x->mine.partition,
                                                  .positions = wire_of(x),
                                                  .max_bytes = EXCHANGE_BATCH}});
    } else {
        return false;
    }
    return true;
}

/* The kind that a FETCH or PULL under way is about. */
static enum diff_kind kind_under_way(const struct exchange *x, bool pull)
{
    bool push = false;

    if (pull)
        return DIFF_PULL;
    for (uint32_t i = 0; i < x->diff_count; i++)
        push |= x->diff[i].kind == DIFF_PUSH;
    return push ? DIFF_PUSH : DIFF_BOTH;
}

/* The first `count` of a kind are done with. */
static uint32_t forget(struct exchange *x, enum diff_kind kind, uint32_t count)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < x->diff_count; i++) {
        if (x->diff[i].kind != kind)
            continue;
        if (count > 0) {
            x->diff[i].kind = DIFF_NONE;
            count--;
        } else {
            left++;
        }
    }
    return left;
}

/* --- pulling --- */

/* The objects of a PULLED are of the positions that were asked for, and `next` is one of them. */
static int check_pulled(struct exchange *x, const struct repair_PULLED *m)
{
    struct slice rest = m->objects, object, key;
    uint32_t at = 0, first = 0;

    while (exchange_next_object(&rest, &object)) {
        if (object_peek_key(object, &key) != 0)
            return -ERR_FORMAT;
        struct position pos = position_of(key);

        while (at < x->diff_count &&
               (x->diff[at].kind != DIFF_PULL || position_compare(&x->diff[at].pos, &pos) < 0))
            at++;
        if (at == x->diff_count || position_compare(&x->diff[at].pos, &pos) != 0)
            return -ERR_FORMAT;
    }
    if (m->next.len == 0) {
        forget(x, DIFF_PULL, UINT32_MAX);
        return 0;
    }
    for (at = 0; at < x->diff_count; at++) {
        if (x->diff[at].kind != DIFF_PULL)
            continue;
        if (memcmp(x->diff[at].pos.b, m->next.data, POSITION_BYTES) == 0) {
            forget(x, DIFF_PULL, first);
            return first > 0 ? 0 : -ERR_FORMAT;
        }
        first++;
    }
    return -ERR_FORMAT;
}

static int check_pulled_range(struct exchange *x, const struct repair_PULLED *m)
{
    struct range *r = &x->range;

    if (m->next.len == 0) {
        r->pull = false;
        return 0;
    }
    struct position next;

    memcpy(next.b, m->next.data, POSITION_BYTES);
    if (position_compare(&next, &r->pull_at) <= 0 || position_compare(&next, &r->last) > 0)
        return -ERR_FORMAT;
    r->pull_at = next;
    return 0;
}

static int take_pulled(struct exchange *x, const struct repair_PULLED *m)
{
    struct position first, last;
    struct node root = {0};
    uint32_t count;
    int rc;

    if (m->status != 0)
        return exchange_fail(x, -(int)m->status);
    exchange_node_range(x, &root, &first, &last);
    if (x->range.pull) {
        first = x->range.pull_at;
        last = x->range.last;
    }
    if ((m->next.len != 0 && m->next.len != POSITION_BYTES) ||
        !exchange_objects_valid(m->objects, &first, &last, &count))
        return -ERR_FORMAT;
    rc = x->range.pull ? check_pulled_range(x, m) : check_pulled(x, m);
    if (rc != 0)
        return rc;
    x->stats.pulled += count;
    buf_clear(&x->batch);
    rc = buf_append(&x->batch, m->objects.data, m->objects.len);
    if (rc != 0)
        return rc;
    if (count == 0)
        go_on(x);
    else
        ask_merge(x, XSTATE_MERGING);
    return 0;
}

static void take_merged(struct exchange *x, const struct repair_MERGED *m)
{
    int dead = exchange_collect(x, m->took, &x->stats.news_here);

    if (x->state == XSTATE_OVER)
        return;
    ASSERT(dead >= 0);
    if (dead > 0)
        send_dead(x);
    else
        go_on(x);
}

/* --- pushing --- */

static void take_fetched(struct exchange *x, const struct repair_FETCHED *m)
{
    enum diff_kind kind = kind_under_way(x, false);

    ASSERT(m->done > 0);
    forget(x, kind, m->done);
    x->want_whole = kind == DIFF_BOTH;
    buf_clear(&x->batch);
    if (buf_append(&x->batch, m->objects.data, m->objects.len) != 0)
        exchange_fail(x, -ERR_NOMEM);
    else if (m->objects.len == 0)
        go_on(x); /* gone meanwhile */
    else
        send_push(x);
}

static void push_range(struct exchange *x)
{
    struct range *r = &x->range;
    int rc;

    buf_clear(&x->batch);
    rc = x->host.objects(x->host.arg, x->mine.partition, &r->push_at, &r->last, EXCHANGE_BATCH,
                         &x->batch);
    if (rc < 0) {
        exchange_fail(x, rc);
        return;
    }
    r->push = rc == 0;
    x->want_whole = false;
    if (buf_len(&x->batch) == 0)
        go_on(x);
    else
        send_push(x);
}

static int take_pushed(struct exchange *x, const struct repair_PUSHED *m)
{
    struct position first, last;
    struct node root = {0};
    uint32_t count;
    int dead;

    if (m->status != 0)
        return exchange_fail(x, -(int)m->status);
    exchange_node_range(x, &root, &first, &last);
    if (!exchange_objects_valid(m->objects, &first, &last, &count) ||
        (count > 0 && !x->want_whole) || m->took.len < count)
        return -ERR_FORMAT;
    x->stats.pushed += exchange_count_objects(exchange_bytes(&x->batch));
    dead = exchange_collect(x, m->took, &x->stats.news_there);
    if (x->state == XSTATE_OVER)
        return 0;
    if (dead < 0)
        return -ERR_FORMAT;
    buf_clear(&x->batch);
    if (buf_append(&x->batch, m->objects.data, m->objects.len) != 0)
        return -ERR_NOMEM;
    x->stats.pulled += count;
    if (dead > 0)
        ask_drop(x, XSTATE_DROPPING_SENT);
    else if (count > 0)
        ask_merge(x, XSTATE_TAKING_BACK);
    else
        go_on(x);
    return 0;
}

/* --- what is dead --- */

static void note_buried(struct exchange *x, struct slice took)
{
    for (size_t i = 0; i < took.len; i++)
        x->partial |= took.data[i] == REPAIR_TOOK_FAILED;
}

static int take_buried(struct exchange *x, const struct repair_BURIED *m)
{
    if (m->status != 0)
        return exchange_fail(x, -(int)m->status);
    note_buried(x, m->took);
    go_on(x);
    return 0;
}

/* --- the whole --- */

static void finish(struct exchange *x)
{
    exchange_send(
        x, &(struct repair){.kind = REPAIR_CLOSE,
                            .u.CLOSE = {.exchange = x->number, .agreed = x->partial ? 0 : 1}});
    if (x->state == XSTATE_OVER)
        return;
    x->state = XSTATE_OVER;
    /* One that only gives has not taken what this side has; what it has is here. */
    bool taken =
        only_gives(x->mine.flags) || !only_gives(x->theirs_flags) || COORD_BUG(AGREED_WITH_GIVER);

    x->outcome = x->partial || !taken ? EXCHANGE_PARTIAL : EXCHANGE_AGREEMENT;
}

static void go_on(struct exchange *x)
{
    /* Each turn asks for something, ends the exchange, or takes from the stack or the range. */
    x->state = XSTATE_IDLE;
    while (x->state == XSTATE_IDLE) {
        if (mend(x) || x->state == XSTATE_OVER)
            return;
        if (x->range.pull)
            send_pull(x);
        else if (x->range.push)
            push_range(x);
        else if (x->stack_count > 0)
            ask_nodes(x);
        else
            finish(x);
    }
}

static int take_opened(struct exchange *x, const struct repair_OPENED *m)
{
    if (m->status != 0) {
        x->state = XSTATE_OVER; /* over at the other end, too */
        x->outcome = EXCHANGE_FAILED;
        x->error = -(int)m->status;
        return 0;
    }
    x->theirs_flags = m->flags;
    x->theirs_horizon_ms = m->horizon;
    x->theirs_behind_ms = m->behind;
    if ((m->flags & EXCHANGE_AGREED) != 0) {
        x->state = XSTATE_OVER;
        x->outcome = EXCHANGE_AGREEMENT;
        return 0;
    }
    push_node(x, (struct node){.empty_here = x->mine.root == 0});
    go_on(x);
    return 0;
}

int exchange_lead(struct exchange *x, const struct repair *m)
{
    if (m->kind == REPAIR_CLOSE)
        return m->u.CLOSE.status == 0 ? -ERR_FORMAT : exchange_fail(x, -(int)m->u.CLOSE.status);
    if (m->kind == REPAIR_OPENED && x->state == XSTATE_OPENING)
        return take_opened(x, &m->u.OPENED);
    if (m->kind == REPAIR_COMPARED && x->state == XSTATE_COMPARING)
        return take_compared(x, &m->u.COMPARED);
    if (m->kind == REPAIR_LISTED && x->state == XSTATE_LISTING)
        return take_listed(x, &m->u.LISTED);
    if (m->kind == REPAIR_PULLED && x->state == XSTATE_PULLING)
        return take_pulled(x, &m->u.PULLED);
    if (m->kind == REPAIR_PUSHED && x->state == XSTATE_PUSHING)
        return take_pushed(x, &m->u.PUSHED);
    if (m->kind == REPAIR_BURIED && x->state == XSTATE_BURYING)
        return take_buried(x, &m->u.BURIED);
    return -ERR_FORMAT;
}

void exchange_lead_answer(struct exchange *x, const struct repair *m)
{
    switch (x->state) {
    case XSTATE_LOOKING:
        take_looked(x, &m->u.LOOKED);
        break;
    case XSTATE_FETCHING:
        take_fetched(x, &m->u.FETCHED);
        break;
    case XSTATE_MERGING:
    case XSTATE_TAKING_BACK:
        take_merged(x, &m->u.MERGED);
        break;
    case XSTATE_DROPPING:
        note_buried(x, m->u.DROPPED.took);
        go_on(x);
        break;
    case XSTATE_DROPPING_SENT:
        note_buried(x, m->u.DROPPED.took);
        if (buf_len(&x->batch) > 0)
            ask_merge(x, XSTATE_TAKING_BACK);
        else
            go_on(x);
        break;
    default:
        UNREACHABLE();
    }
}
