/* Walks over the keys of the cluster. Runs in workers; makes no system call but for random numbers. */
#include "workers/key_walk.h"

#include "base/check.h"
#include "base/err.h"
#include "base/rand.h"
#include "workers/packed.h"
#include "workers/route.h"

#define LANES        4
#define STEP_ROWS    32u             /* of a walk that does something for each key */
#define MOST_ROWS    256u            /* asked for at once */
#define MOST_STEPS   512u            /* of a resumable walk that finds nothing */
#define MOST_PATTERN (2 * LIMIT_KEY) /* each byte of a key may stand behind a backslash */
#define MOST_BYTES   ((size_t)1 << 20)

/* One partition that is being walked. */
struct lane {
    struct position at;
    uint32_t partition;
    uint8_t replica;  /* the one to ask */
    bool busy;        /* asked and not yet answered */
    bool open;        /* there is something left from `at` on */
    uint32_t deletes; /* not yet answered */
};

struct key_walk {
    struct key_walk_setup setup;
    struct lane lane[LANES];
    struct lane *current;  /* whose keys are being passed on, or NULL */
    struct position to;    /* last position wanted */
    uint32_t next, claims; /* the next partition to open, and how many may still be opened */
    uint32_t steps;
    bool mine_only, stopped, held;
    bool nameless; /* the pattern is empty: the empty key alone matches */
    uint8_t q_bits;
    /* the pattern follows */
};

static struct key_walk *walk_of(struct pending *p)
{
    return (struct key_walk *)(void *)buf_head(&p->index);
}

static struct engine *engine_of(const struct pending *p)
{
    return p->conn->clients->engine;
}

static struct position at_cursor(uint64_t cursor)
{
    struct position pos = {{0}};

    cursor <<= 64 - KEY_WALK_CURSOR_BITS;
    for (int i = 0; i < 8; i++)
        pos.b[i] = (uint8_t)(cursor >> (56 - 8 * i));
    return pos;
}

static uint64_t cursor_at(const struct position *pos)
{
    uint64_t n = 0;

    for (int i = 0; i < 8; i++)
        n = n << 8 | pos->b[i];
    return n >> (64 - KEY_WALK_CURSOR_BITS);
}

static uint64_t partition_cursor(const struct key_walk *walk, uint32_t partition)
{
    return (uint64_t)partition << (KEY_WALK_CURSOR_BITS - walk->q_bits);
}

/* --- partitions --- */

static bool is_mine(const struct engine *e, const struct key_walk *walk, uint32_t partition)
{
    uint16_t member, worker;
    uint16_t slot = (uint16_t)(partition << (14 - walk->q_bits));

    return !walk->mine_only || (route_slot(e, slot, &member, &worker) && member == e->view->self &&
                                worker == e->worker);
}

/* The next partition that is wanted becomes the lane's; false if there is none. */
static bool claim(const struct engine *e, struct key_walk *walk, struct lane *lane)
{
    while (walk->claims > 0) {
        uint32_t partition = walk->next;

        walk->claims--;
        walk->next = (partition + 1) & ((1u << walk->q_bits) - 1);
        if (!is_mine(e, walk, partition))
            continue;
        *lane = (struct lane){.partition = partition,
                              .open = true,
                              .at = at_cursor(partition_cursor(walk, partition))};
        return true;
    }
    return false;
}

bool key_walk_complete(struct pending *p)
{
    const struct key_walk *walk = walk_of(p);

    for (int i = 0; i < LANES; i++)
        if (walk->lane[i].open)
            return false;
    return walk->claims == 0;
}

uint64_t key_walk_cursor(struct pending *p)
{
    struct key_walk *walk = walk_of(p);
    struct lane *lane = &walk->lane[0];

    if (!lane->open && !claim(engine_of(p), walk, lane))
        return 0;
    return cursor_at(&lane->at);
}

uint64_t key_walk_most(const struct key_walk *walk)
{
    return walk->setup.most;
}

bool key_walk_stopped(struct pending *p)
{
    return walk_of(p)->stopped;
}

/* --- steps --- */

static void fail(struct pending *p, int status)
{
    if (!p->failed)
        p->error = (struct coord_reply){.status = status};
    p->failed = true;
}

/* A resumable walk has done enough, and its cursor has moved. */
static bool enough(struct pending *p, struct key_walk *walk)
{
    const struct lane *lane = &walk->lane[0];

    if (!walk->setup.resumable || (lane->open && cursor_at(&lane->at) <= walk->setup.cursor))
        return false;
    return walk->setup.rows == 0 || walk->steps >= MOST_STEPS ||
           buf_len(&p->parts.buf) > MOST_BYTES;
}

/* Put a question for this lane, to the first replica that takes it. */
static void ask(struct pending *p, struct key_walk *walk, struct lane *lane)
{
    struct clients *c = p->conn->clients;
    struct engine *e = c->engine;
    uint32_t rows = walk->setup.resumable && walk->setup.rows < MOST_ROWS ? walk->setup.rows
                    : p->write                                            ? STEP_ROWS
                                                                          : MOST_ROWS;

    for (;; lane->replica++) {
        struct engine_scan scan = {.partition = lane->partition,
                                   .replica = lane->replica,
                                   .from = lane->at,
                                   .to = walk->to,
                                   .rows = rows > 0 ? rows : 1,
                                   .pattern =
                                       slice_of((uint8_t *)(walk + 1), walk->setup.pattern.len)};
        uint32_t part = (uint32_t)(lane - walk->lane);

        if (!pending_room(&c->pending))
            return;
        uint64_t token = pending_request(&c->pending, p, part);
        int rc = e->scan(e->arg, token, &scan);
        if (rc == 0) {
            lane->busy = true;
            walk->steps++;
            conn_ask(p->conn, p);
            return;
        }
        pending_answered(&c->pending, token, &part);
        if (rc != -ERR_UNAVAILABLE) {
            if (rc != -ERR_BUSY)
                fail(p, -ERR_UNAVAILABLE);
            return;
        }
    }
}

/* Whatever may go on goes on. Where there is no room for a question, an answer that is still to come
 * tries again. */
static void drive(struct pending *p)
{
    struct key_walk *walk = walk_of(p);

    for (int i = 0; i < walk->setup.lanes; i++) {
        struct lane *lane = &walk->lane[i];

        if (p->failed || walk->stopped || enough(p, walk))
            return;
        if (lane->busy || lane->deletes > 0)
            continue;
        if (lane->open || claim(engine_of(p), walk, lane))
            ask(p, walk, lane);
    }
}

static void take_keys(struct pending *p, struct key_walk *walk, struct lane *lane,
                      const struct coord_reply *answer)
{
    struct slice list = answer->object, key;

    lane->replica = 0;
    if (answer->context.len == POSITION_BYTES)
        memcpy(lane->at.b, answer->context.data, POSITION_BYTES);
    else
        lane->open = false;
    walk->setup.rows -= answer->flags < walk->setup.rows ? answer->flags : walk->setup.rows;
    walk->current = lane;
    walk->held = false;
    while (!walk->stopped && !walk->held && !p->failed && packed_take(&list, &key))
        if (key.len == 0 || !walk->nameless)
            walk->stopped = !walk->setup.each(p, walk, key);
    walk->current = NULL;
}

static void walk_answer(struct pending *p, uint32_t part, const struct coord_reply *answer,
                        struct resp_out *out)
{
    struct key_walk *walk = walk_of(p);
    struct lane *lane = &walk->lane[part % LANES];

    (void)out;
    /* Deletes may be answered while keys are still being passed on: no end before that. */
    p->waiting++;
    if (part >= LANES) {
        lane->deletes--;
        call_part_failed(p, answer);
    } else {
        if (answer->status != 0)
            lane->replica++;
        else if (!walk->stopped && !p->failed)
            take_keys(p, walk, lane, answer);
        lane->busy = false;
    }
    if (walk->current == NULL)
        drive(p);
    p->waiting--;
}

bool key_walk_delete(struct pending *p, struct key_walk *walk, struct slice key)
{
    struct clients *c = p->conn->clients;
    struct engine *e = c->engine;
    struct lane *lane = walk->current;
    struct msg_PUT put = {.key = key, .op = PUT_DELETE, .flags = PUT_IF_EXISTS};
    uint32_t part = LANES + (uint32_t)(lane - walk->lane);
    int rc = -ERR_BUSY;

    if (pending_room(&c->pending)) {
        uint64_t token = pending_request(&c->pending, p, part);

        lane->deletes++;
        conn_ask(p->conn, p);
        rc = e->put(e->arg, token, &put);
        if (rc != 0) {
            pending_answered(&c->pending, token, &part);
            lane->deletes--;
            conn_answered(p->conn, p);
        }
    }
    if (rc == -ERR_BUSY) { /* from here on once more, when answers have made room */
        lane->at = position_of(key);
        lane->open = true;
        walk->held = true;
    } else if (rc != 0) {
        fail(p, rc);
    }
    return true;
}

/* --- the beginning --- */

static void place(struct key_walk *walk, const struct engine *e)
{
    const struct key_walk_setup *s = &walk->setup;
    uint64_t cursor = s->cursor;
    struct lane *lane = &walk->lane[0];

    walk->q_bits = e->view->q_bits;
    walk->claims = 1u << walk->q_bits;
    memset(walk->to.b, 0xff, POSITION_BYTES);
    if (s->slot >= 0) {
        cursor = (uint64_t)s->slot << (KEY_WALK_CURSOR_BITS - 14);
        walk->to.b[0] = (uint8_t)(s->slot >> 6);
        walk->to.b[1] = (uint8_t)(s->slot << 2 | 3);
    } else if (s->round) {
        cursor = rand_id() >> (64 - KEY_WALK_CURSOR_BITS);
    }
    walk->next = (uint32_t)(cursor >> (KEY_WALK_CURSOR_BITS - walk->q_bits));
    if (s->slot >= 0)
        walk->claims = 1;
    else if (!s->round)
        walk->claims -= walk->next;
    else
        walk->claims++; /* the part of the first one that lies before the beginning */
    uint32_t first = walk->next;
    if (claim(e, walk, lane) && lane->partition == first)
        lane->at = at_cursor(cursor);
}

enum call_result key_walk_begin(struct call *call, const struct key_walk_setup *setup)
{
    const struct engine *e = call->engine;

    if (e->view == NULL || e->view->epoch == 0)
        return call_error(call, "CLUSTERDOWN there is no ring yet");
    if (setup->pattern.len > MOST_PATTERN)
        return call_errorf(call, "ERR pattern exceeds maximum allowed size (%u bytes)",
                           MOST_PATTERN);
    if (call->conn->in_flight > 0) {
        conn_stall(call->conn, CONN_ORDER);
        return CALL_AGAIN;
    }
    struct pending *p = call_many(call, 1, setup->write, walk_answer, setup->finish);
    size_t size = sizeof(struct key_walk) + setup->pattern.len;
    uint8_t *room = buf_reserve(&p->index, size);
    p->issued = p->count;
    if (room == NULL) {
        conn_doom(call->conn);
        p->finish = call_finish_error;
        fail(p, -ERR_NOMEM);
        return call_many_issued(call, p);
    }
    buf_filled(&p->index, size);
    struct key_walk *walk = walk_of(p);
    *walk = (struct key_walk){.setup = *setup};
    if (setup->pattern.len > 0)
        memcpy(walk + 1, setup->pattern.data, setup->pattern.len);
    ASSERT(setup->lanes >= 1 && setup->lanes <= LANES && (!setup->resumable || setup->lanes == 1));
    walk->nameless = setup->pattern.data != NULL && setup->pattern.len == 0;
    walk->mine_only = (setup->mine || call->conn->port == CLIENTS_WORKER) && setup->slot < 0;
    place(walk, e);
    drive(p);
    if (call->conn->in_flight > 0)
        conn_stall(call->conn, CONN_ORDER);
    return call_many_issued(call, p);
}
