/* An exchange: beginning, end, and what both sides need. See exchange.h. Runs in antientropyd and in the
 * simulator. */
#include "core/exchange_impl.h"

#include "core/coord_repair.h"
#include "core/object.h"

size_t exchange_size(void)
{
    return sizeof(struct exchange);
}

struct exchange *exchange_init(void *memory, const struct exchange_host *host)
{
    struct exchange *x = memory;
    struct exchange_host copy = *host; /* it may be the present one */

    ASSERT(((uintptr_t)memory & 15) == 0);
    /* The tables are long and begin empty. */
    memset(x, 0, offsetof(struct exchange, stack));
    x->magic = EXCHANGE_MAGIC;
    x->host = copy;
    x->outcome = EXCHANGE_FAILED;
    x->state = XSTATE_OVER;
    return x;
}

void exchange_fini(struct exchange *x)
{
    ASSERT(x->magic == EXCHANGE_MAGIC);
    buf_free(&x->wire);
    buf_free(&x->batch);
}

int exchange_fail(struct exchange *x, int error)
{
    if (x->state == XSTATE_OVER)
        return error;
    x->state = XSTATE_OVER;
    x->outcome = EXCHANGE_FAILED;
    x->error = error;
    /* The other end must not wait for what will not come. Who broke the rules is not told. */
    if (error != -ERR_FORMAT && error != -ERR_CLOSED)
        x->host.send(x->host.arg, &(struct repair){.kind = REPAIR_CLOSE,
                                                   .u.CLOSE = {.exchange = x->number,
                                                               .status = (uint32_t)-error}});
    return error;
}

void exchange_abort(struct exchange *x, int error)
{
    exchange_fail(x, error);
}

void exchange_send(struct exchange *x, const struct repair *m)
{
    if (x->state == XSTATE_OVER)
        return;
    int rc = x->host.send(x->host.arg, m);

    if (rc != 0)
        exchange_fail(x, rc);
}

void exchange_ask(struct exchange *x, enum exchange_state state, const struct repair *m)
{
    if (x->state == XSTATE_OVER)
        return;
    x->state = state;
    int rc = x->host.ask(x->host.arg, m);

    if (rc != 0)
        exchange_fail(x, rc);
}

bool exchange_put(struct exchange *x, const void *bytes, size_t len)
{
    int rc = buf_append(&x->wire, bytes, len);

    if (rc != 0)
        exchange_fail(x, rc);
    return rc == 0;
}

uint32_t exchange_load32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void exchange_store32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t load64(const uint8_t *p)
{
    return exchange_load32(p) | (uint64_t)exchange_load32(p + 4) << 32;
}

static void store64(uint8_t *p, uint64_t v)
{
    exchange_store32(p, (uint32_t)v);
    exchange_store32(p + 4, (uint32_t)(v >> 32));
}

void exchange_entry_encode(const struct exchange_entry *e, uint8_t out[REPAIR_ENTRY_BYTES])
{
    memcpy(out, e->pos.b, POSITION_BYTES);
    store64(out + 16, e->digest);
    store64(out + 24, e->time_ms);
    out[32] = e->flags;
}

void exchange_entry_decode(const uint8_t in[REPAIR_ENTRY_BYTES], struct exchange_entry *e)
{
    memcpy(e->pos.b, in, POSITION_BYTES);
    e->digest = load64(in + 16);
    e->sum = 0;
    e->time_ms = load64(in + 24);
    e->flags = in[32];
}

/* --- checks of what comes from the peer --- */

static bool in_partition(const struct exchange *x, const struct position *pos)
{
    return position_partition(pos, x->mine.q_bits) == x->mine.partition;
}

/* Records of `size` bytes that begin with a position: ascending, within the partition? */
static bool records_valid(const struct exchange *x, struct slice bytes, size_t size, uint32_t max)
{
    struct position last, pos;

    if (bytes.len % size != 0 || bytes.len / size > max)
        return false;
    for (size_t at = 0; at < bytes.len; at += size) {
        memcpy(pos.b, bytes.data + at, POSITION_BYTES);
        if (!in_partition(x, &pos) || (at > 0 && position_compare(&last, &pos) >= 0))
            return false;
        last = pos;
    }
    return true;
}

int exchange_entries(const struct exchange *x, struct slice bytes, struct exchange_entry *out,
                     uint32_t max)
{
    int count = 0;

    if (!records_valid(x, bytes, REPAIR_ENTRY_BYTES, max))
        return -1;
    for (size_t at = 0; at < bytes.len; at += REPAIR_ENTRY_BYTES)
        exchange_entry_decode(bytes.data + at, &out[count++]);
    return count;
}

bool exchange_positions_valid(const struct exchange *x, struct slice bytes, uint32_t max)
{
    return records_valid(x, bytes, POSITION_BYTES, max);
}

bool exchange_drops_valid(const struct exchange *x, struct slice bytes, uint32_t max)
{
    return records_valid(x, bytes, REPAIR_DROP_BYTES, max);
}

/* Cut the first object off: its length stands at offset 4. */
static bool cut_object(struct slice *bytes, struct slice *object)
{
    uint32_t len;

    if (bytes->len < 16)
        return false;
    len = exchange_load32(bytes->data + 4);
    if (len < 16 || len > bytes->len || len > LIMIT_OBJECT)
        return false;
    *object = slice_of(bytes->data, len);
    *bytes = slice_of(bytes->data + len, bytes->len - len);
    return true;
}

bool exchange_objects_valid(struct slice bytes, const struct position *first,
                            const struct position *last, uint32_t *count)
{
    struct slice object, key;

    *count = 0;
    while (bytes.len > 0) {
        if (!cut_object(&bytes, &object) || object_peek_key(object, &key) != 0 ||
            ++*count > COORD_REPAIR_MAX)
            return false;
        struct position pos = position_of(key);

        if (position_compare(&pos, first) < 0 || position_compare(&pos, last) > 0)
            return false;
    }
    return true;
}

bool exchange_next_object(struct slice *bytes, struct slice *object)
{
    if (bytes->len == 0)
        return false;
    ASSERT(cut_object(bytes, object));
    return true;
}

uint64_t exchange_count_objects(struct slice bytes)
{
    struct slice object;
    uint64_t count = 0;

    while (exchange_next_object(&bytes, &object))
        count++;
    return count;
}

static int put_drop(struct exchange *x, struct slice bytes)
{
    /* Rare, and some KiB: not kept in every exchange. */
    struct object o;
    uint8_t drop[REPAIR_DROP_BYTES];
    size_t len = buf_len(&x->wire);
    int rc = object_open(&o, bytes);

    if (rc != 0)
        return exchange_fail(x, rc);
    struct position pos = position_of(o.key);

    /* Two keys at one position: the second is dropped another time. */
    if (len > 0 && memcmp(buf_head(&x->wire) + len - REPAIR_DROP_BYTES, pos.b, POSITION_BYTES) == 0)
        return 0;

    memcpy(drop, pos.b, POSITION_BYTES);
    store64(drop + POSITION_BYTES, object_digest(&o));
    return exchange_put(x, drop, sizeof drop) ? 0 : -ERR_NOMEM;
}

int exchange_collect(struct exchange *x, struct slice took, uint64_t *news)
{
    struct slice rest = exchange_bytes(&x->batch), object;
    size_t at = 0;
    int dead = 0;

    buf_clear(&x->wire);
    while (exchange_next_object(&rest, &object)) {
        if (at == took.len)
            return -1;
        switch (took.data[at++]) {
        case REPAIR_TOOK_NEWS:
            ++*news;
            break;
        case REPAIR_TOOK_SAME:
            break;
        case REPAIR_TOOK_DEAD:
            if (put_drop(x, object) != 0)
                return -1;
            dead++;
            break;
        case REPAIR_TOOK_FAILED:
            x->stats.failed++;
            x->partial |= !COORD_BUG(AGREED_WITH_SKIPPED);
            break;
        default:
            return -1;
        }
    }
    x->stats.dead += (uint64_t)dead;
    return at == took.len ? dead : -1;
}

/* --- the outside --- */

static void begin(struct exchange *x, uint32_t number, const struct exchange_side *mine)
{
    struct buf wire = x->wire, batch = x->batch;

    ASSERT(x->magic == EXCHANGE_MAGIC && x->state == XSTATE_OVER);
    ASSERT(number != 0 && mine->partition >> mine->q_bits == 0);
    exchange_init(x, &x->host);
    x->wire = wire;
    x->batch = batch;
    buf_clear(&x->wire);
    buf_clear(&x->batch);
    x->number = number;
    x->mine = *mine;
    x->outcome = EXCHANGE_RUNNING;
}

static uint64_t behind(const struct exchange_side *side)
{
    return side->now_ms > side->as_of_ms ? side->now_ms - side->as_of_ms : 0;
}

uint64_t exchange_as_of(const struct exchange *x)
{
    const struct exchange_side *mine = &x->mine;
    uint64_t theirs = mine->now_ms > x->theirs_behind_ms ? mine->now_ms - x->theirs_behind_ms : 0;

    return theirs < mine->as_of_ms && !COORD_BUG(BUFFERS_COUNT) ? theirs : mine->as_of_ms;
}

void exchange_begin(struct exchange *x, uint32_t number, const struct exchange_side *mine)
{
    begin(x, number, mine);
    x->state = XSTATE_OPENING;
    exchange_send(x, &(struct repair){.kind = REPAIR_OPEN,
                                      .u.OPEN = {.exchange = number,
                                                 .partition = mine->partition,
                                                 .epoch = mine->epoch,
                                                 .flags = mine->flags,
                                                 .root = mine->root,
                                                 .horizon = mine->horizon_ms,
                                                 .behind = behind(mine)}});
}

void exchange_serve(struct exchange *x, const struct exchange_side *mine,
                    const struct repair_OPEN *open)
{
    struct repair m = {
        .kind = REPAIR_OPENED,
        .u.OPENED = {.exchange = open->exchange, .flags = mine->flags, .behind = behind(mine)}};

    ASSERT(open->partition == mine->partition);
    begin(x, open->exchange, mine);
    x->state = XSTATE_SERVING;
    x->theirs_flags = open->flags;
    x->theirs_horizon_ms = open->horizon;
    x->theirs_behind_ms = open->behind;
    if (open->root == mine->root)
        m.u.OPENED.flags |= EXCHANGE_AGREED;
    else
        m.u.OPENED.horizon = mine->horizon_ms;
    exchange_send(x, &m);
    if (open->root != mine->root || x->state == XSTATE_OVER)
        return;
    x->state = XSTATE_OVER;
    x->outcome = EXCHANGE_AGREEMENT;
}

static bool is_initiator(const struct exchange *x)
{
    return x->state < XSTATE_SERVING;
}

int exchange_receive(struct exchange *x, const struct repair *m)
{
    int rc;

    ASSERT(x->magic == EXCHANGE_MAGIC && exchange_of(m) == x->number);
    if (x->state == XSTATE_OVER)
        return 0;
    rc = is_initiator(x) ? exchange_lead(x, m) : exchange_follow(x, m);
    if (rc != 0)
        exchange_fail(x, rc);
    return rc == -ERR_FORMAT ? rc : 0;
}

static uint64_t vnode_of(const struct repair *m, uint32_t *status)
{
    switch (m->kind) {
    case REPAIR_LOOKED:
        *status = m->u.LOOKED.status;
        return m->u.LOOKED.vnode;
    case REPAIR_FETCHED:
        *status = m->u.FETCHED.status;
        return m->u.FETCHED.vnode;
    case REPAIR_MERGED:
        *status = m->u.MERGED.status;
        return m->u.MERGED.vnode;
    case REPAIR_DROPPED:
        *status = m->u.DROPPED.status;
        return m->u.DROPPED.vnode;
    default:
        UNREACHABLE();
    }
}

void exchange_answer(struct exchange *x, const struct repair *m)
{
    uint32_t status;

    ASSERT(x->magic == EXCHANGE_MAGIC);
    if (x->state == XSTATE_OVER)
        return;
    ASSERT(exchange_waits_for_worker(x));
    uint64_t vnode = vnode_of(m, &status);

    if (status != 0)
        exchange_fail(x, -(int)status);
    else if (vnode != x->mine.vnode)
        exchange_fail(x, -ERR_STALE); /* it has forgotten something meanwhile */
    else if (is_initiator(x))
        exchange_lead_answer(x, m);
    else
        exchange_follow_answer(x, m);
}

enum exchange_outcome exchange_outcome(const struct exchange *x)
{
    return x->outcome;
}

int exchange_error(const struct exchange *x)
{
    return x->error;
}

uint32_t exchange_number(const struct exchange *x)
{
    return x->number;
}

void exchange_stats(const struct exchange *x, struct exchange_stats *out)
{
    *out = x->stats;
}

bool exchange_waits_for_worker(const struct exchange *x)
{
    return (x->state >= XSTATE_LOOKING && x->state <= XSTATE_DROPPING_SENT) ||
           (x->state >= XSTATE_SERVE_LOOK && x->state <= XSTATE_SERVE_DROP);
}

uint32_t exchange_of(const struct repair *m)
{
    switch (m->kind) {
#define ONE(name)                                                                                  \
    case REPAIR_##name:                                                                            \
        return m->u.name.exchange;
        ONE(OPEN)
        ONE(OPENED)
        ONE(COMPARE)
        ONE(COMPARED)
        ONE(LIST)
        ONE(LISTED)
        ONE(PULL)
        ONE(PULLED)
        ONE(PUSH)
        ONE(PUSHED)
        ONE(DEAD)
        ONE(BURIED)
        ONE(CLOSE)
#undef ONE
    default:
        return 0;
    }
}
