/* Questions to other workers and answers to theirs. Runs in a worker. */
#include "workers/ask.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/err.h"
#include "core/object.h"
#include "workers/coord_host.h"
#include "workers/glob.h"
#include "workers/packed.h"
#include "workers/show.h"

#include <stdlib.h>
#include <string.h>

#define ASK_MAX        512
#define ASK_LOOK_US    100000u      /* timeouts are noticed so often */
#define ASK_SHOW_US    500000u      /* whoever wants to see what is wrong shall not wait for it */
#define ASK_OWN        4            /* own questions answered in one turn */
#define ASK_FIRST_ROWS 32u          /* rows read before it is known how large they are */
#define ASK_LARGE      (256u << 10) /* bytes of these beyond which no more are read */

struct ask {
    uint64_t id, token, due_us;
    uint16_t member, worker;
    bool used;
    bool own; /* this worker asks itself: `scan` waits for its turn */
    struct engine_scan scan;
    struct buf pattern; /* behind scan.pattern */
    uint32_t next_own;  /* index plus 1, or 0 */
};

struct ask_table {
    struct worker *w;
    uint32_t used;
    uint64_t numbers;
    uint32_t first_own, last_own; /* index plus 1, or 0 */
    struct loop_timer own_timer, look_timer;
    struct object object; /* scratch */
    struct buf keys;      /* scratch of answers */
    struct ask asks[ASK_MAX];
};

static void look_due(void *arg);
static void own_due(void *arg);

int ask_open(struct worker *w)
{
    w->asks = calloc(1, sizeof *w->asks);
    if (w->asks == NULL)
        return -ERR_NOMEM;
    w->asks->w = w;
    buf_init(&w->asks->keys, LIMIT_OBJECT);
    return 0;
}

void ask_close(struct worker *w)
{
    struct ask_table *t = w->asks;

    loop_disarm(w->loop, &t->own_timer);
    loop_disarm(w->loop, &t->look_timer);
    for (uint32_t i = 0; i < ASK_MAX; i++)
        buf_free(&t->asks[i].pattern);
    buf_free(&t->keys);
    free(t);
    w->asks = NULL;
}

/* --- asking --- */

static struct ask *take(struct ask_table *t, uint64_t token, uint16_t member, uint16_t worker)
{
    struct ask *a = t->asks;

    if (t->used == ASK_MAX)
        return NULL;
    while (a->used)
        a++;
    if (t->used++ == 0)
        loop_arm(t->w->loop, &t->look_timer, t->w->engine.now_us + ASK_LOOK_US, look_due, t);
    a->used = true;
    a->own = false;
    a->id = ++t->numbers * ASK_MAX + (uint64_t)(a - t->asks);
    a->token = token;
    a->member = member;
    a->worker = worker;
    a->due_us = t->w->engine.now_us + t->w->conf.cluster.request_timeout_ms * 1000ull;
    return a;
}

static void give(struct ask_table *t, struct ask *a)
{
    a->used = false;
    buf_free(&a->pattern);
    t->used--;
}

static void answer(struct ask_table *t, struct ask *a, const struct coord_reply *reply)
{
    uint64_t token = a->token;

    give(t, a);
    clients_reply(t->w->clients, token, reply);
}

/* The question with this number that was put to this worker, or NULL. */
static struct ask *find(struct ask_table *t, uint64_t id, uint16_t member, uint16_t worker)
{
    struct ask *a = &t->asks[id % ASK_MAX];

    return a->used && a->id == id && !a->own && a->member == member && a->worker == worker ? a
                                                                                           : NULL;
}

/* Answered by own_due() when the loop turns again. */
static int queue_own(struct ask_table *t, struct ask *a, const struct engine_scan *s)
{
    uint32_t index = (uint32_t)(a - t->asks) + 1;

    a->scan = *s;
    buf_init(&a->pattern, LIMIT_CLIENT_INPUT);
    if (buf_append(&a->pattern, s->pattern.data, s->pattern.len) != 0) {
        give(t, a);
        return -ERR_BUSY;
    }
    a->scan.pattern = slice_of(buf_head(&a->pattern), s->pattern.len);
    a->own = true;
    a->next_own = 0;
    if (t->last_own != 0)
        t->asks[t->last_own - 1].next_own = index;
    else
        t->first_own = index;
    t->last_own = index;
    if (!t->own_timer.armed)
        loop_arm(t->w->loop, &t->own_timer, t->w->engine.now_us, own_due, t);
    return 0;
}

int ask_scan(void *arg, uint64_t token, const struct engine_scan *s)
{
    struct worker *w = arg;
    struct ask_table *t = w->asks;

    if (w->engine.index == NULL)
        return -ERR_NOTFOUND;
    const struct ring_walk *walk = &w->ring_index.walk[s->partition];
    if (s->replica >= walk->primaries)
        return -ERR_NOTFOUND;
    uint16_t member = walk->member[s->replica];
    uint16_t worker = ring_worker_of(s->partition, w->view.members[member].workers);
    bool own = member == w->view.self && worker == w->index;

    if (!own && (w->view.members[member].state >= MEMBER_FAULTY ||
                 !link_set_reachable(w->links, member, worker)))
        return -ERR_UNAVAILABLE;
    struct ask *a = take(t, token, member, worker);
    if (a == NULL)
        return -ERR_BUSY;
    if (own)
        return queue_own(t, a, s);
    struct msg m = {.kind = MSG_SCAN,
                    .u.SCAN = {.request = a->id,
                               .epoch = w->view.epoch,
                               .partition = s->partition,
                               .from = slice_of(s->from.b, POSITION_BYTES),
                               .to = slice_of(s->to.b, POSITION_BYTES),
                               .rows = s->rows,
                               .pattern = s->pattern}};
    int rc = link_set_send(w->links, member, worker, &m);
    if (rc != 0)
        give(t, a);
    return rc == -ERR_LIMIT ? -ERR_UNAVAILABLE : rc;
}

int ask_run(void *arg, uint64_t token, uint16_t worker, struct slice words)
{
    struct worker *w = arg;

    if (w->view.epoch == 0 || worker == w->index ||
        !link_set_reachable(w->links, w->view.self, worker))
        return -ERR_UNAVAILABLE;
    struct ask *a = take(w->asks, token, w->view.self, worker);
    if (a == NULL)
        return -ERR_BUSY;
    struct msg m = {.kind = MSG_RUN, .u.RUN = {.request = a->id, .words = words}};
    int rc = link_set_send(w->links, w->view.self, worker, &m);
    if (rc != 0)
        give(w->asks, a);
    return rc == -ERR_LIMIT ? -ERR_UNAVAILABLE : rc;
}

/* What this worker holds itself, as the answer to be given. */
static struct coord_reply own_shown(struct worker *w, struct slice key, struct engine_shown *shown,
                                    char text[LIMIT_CONTEXT_TEXT])
{
    struct coord_reply reply = {.object = slice_of(shown, sizeof *shown)};

    reply.status = show_own(w, key, shown, text, &reply.context);
    return reply;
}

int ask_show(void *arg, uint64_t token, uint16_t member, struct slice key)
{
    struct worker *w = arg;
    struct position pos = position_of(key);

    if (w->view.epoch == 0 || member >= w->view.member_count)
        return -ERR_UNAVAILABLE;
    uint32_t partition = position_partition(&pos, w->view.q_bits);
    uint16_t worker = ring_worker_of(partition, w->view.members[member].workers);

    if (member == w->view.self && worker == w->index) {
        struct engine_shown shown;
        char text[LIMIT_CONTEXT_TEXT];
        struct coord_reply reply = own_shown(w, key, &shown, text);

        clients_reply(w->clients, token, &reply);
        return 0;
    }
    if (!link_set_reachable(w->links, member, worker))
        return -ERR_UNAVAILABLE;
    struct ask *a = take(w->asks, token, member, worker);
    if (a == NULL)
        return -ERR_BUSY;
    uint64_t due_us = w->engine.now_us + ASK_SHOW_US;
    if (due_us < a->due_us)
        a->due_us = due_us;
    struct msg m = {.kind = MSG_SHOW, .u.SHOW = {.request = a->id, .key = key}};
    int rc = link_set_send(w->links, member, worker, &m);
    if (rc != 0)
        give(w->asks, a);
    return rc == -ERR_LIMIT ? -ERR_UNAVAILABLE : rc;
}

static void look_due(void *arg)
{
    struct ask_table *t = arg;
    struct coord_reply late = {.status = -ERR_TIMEOUT};

    for (uint32_t i = 0; i < ASK_MAX && t->used > 0; i++) {
        struct ask *a = &t->asks[i];

        if (a->used && !a->own && a->due_us <= t->w->engine.now_us)
            answer(t, a, &late);
    }
    if (t->used > 0)
        loop_arm(t->w->loop, &t->look_timer, t->w->engine.now_us + ASK_LOOK_US, look_due, t);
}

void ask_link_down(struct worker *w, uint16_t member, uint16_t worker)
{
    struct coord_reply lost = {.status = -ERR_UNAVAILABLE};

    for (uint32_t i = 0; i < ASK_MAX && w->asks->used > 0; i++) {
        struct ask *a = &w->asks->asks[i];

        if (a->used && !a->own && a->member == member && a->worker == worker)
            answer(w->asks, a, &lost);
    }
}

/* --- answering --- */

/* What an answer has said is not kept. */
static void forget_answer(struct ask_table *t)
{
    buf_clear(&t->keys);
    buf_shrink(&t->keys, ASK_LARGE);
}

struct look {
    struct ask_table *t;
    const struct position *to;
    struct slice pattern;
    uint32_t rows, most;
    size_t bytes;
    bool beyond; /* a position after `to` was met */
    bool cut;    /* one more than wanted was met, at `next` */
    struct position next;
    int status;
};

static void each_row(void *arg, const struct position *pos, struct slice encoded)
{
    struct look *look = arg;
    struct ask_table *t = look->t;
    struct sibling winner;

    if (look->cut || look->rows == look->most) {
        if (!look->cut)
            look->next = *pos;
        look->cut = true;
        return;
    }
    look->rows++;
    look->bytes += encoded.len;
    if (look->beyond || position_compare(pos, look->to) > 0) {
        look->beyond = true;
        return;
    }
    if (object_open(&t->object, encoded) != 0 ||
        !object_winner(&t->object, t->w->engine.wall_ms, &winner, NULL))
        return;
    if (look->pattern.len > 0 && !glob_match(look->pattern, t->object.key, false))
        return;
    if (packed_add(&t->keys, t->object.key) != 0)
        look->status = -ERR_NOMEM;
}

/* Look into the own vnode. One row more than wanted is read, so that the place to go on from is that of
 * a row: callers keep its beginning alone, and would meet the row before it again. The keys are in t->keys until the next look; *next is where to go on,
 * *ended says that nothing is left. */
static int look_into(struct ask_table *t, const struct engine_scan *s, struct position *next,
                     bool *ended, uint32_t *rows)
{
    struct look look = {.t = t,
                        .to = &s->to,
                        .pattern = s->pattern,
                        .most = s->rows < ASK_ROWS ? s->rows : ASK_ROWS};
    int rc = 0;

    buf_clear(&t->keys);
    *next = s->from;
    if (ring_worker_of(s->partition, t->w->workers) != t->w->index)
        return -ERR_STALE;
    if (!coord_host_whole(t->w, s->partition))
        return -ERR_NOTWHOLE;
    while (rc == 0 && !look.cut && look.bytes < ASK_LARGE && !look.beyond) {
        uint32_t left = look.most + 1 - look.rows, before = look.rows;
        uint32_t step = before == 0 && left > ASK_FIRST_ROWS ? ASK_FIRST_ROWS : left;

        rc = store_scan(t->w->store, s->partition, next, step, each_row, &look);
        if (look.rows == before)
            break;
    }
    if (rc < 0)
        return rc;
    if (look.cut)
        *next = look.next;
    *ended = (rc == 1 && !look.cut) || look.beyond;
    *rows = look.rows;
    return look.status;
}

static void own_due(void *arg)
{
    struct ask_table *t = arg;

    for (int i = 0; i < ASK_OWN && t->first_own != 0; i++) {
        struct ask *a = &t->asks[t->first_own - 1];
        struct coord_reply reply = {0};
        struct position next;
        bool ended = false;

        t->first_own = a->next_own;
        if (t->first_own == 0)
            t->last_own = 0;
        reply.status = look_into(t, &a->scan, &next, &ended, &reply.flags);
        reply.object = slice_of(buf_head(&t->keys), buf_len(&t->keys));
        if (!ended)
            reply.context = slice_of(next.b, POSITION_BYTES);
        answer(t, a, &reply);
    }
    forget_answer(t);
    if (t->first_own != 0)
        loop_arm(t->w->loop, &t->own_timer, t->w->engine.now_us, own_due, t);
}

static void serve_scan(struct worker *w, uint16_t member, uint16_t worker, const struct msg_SCAN *m)
{
    struct msg out = {.kind = MSG_SCANNED, .u.SCANNED = {.request = m->request}};
    struct msg_SCANNED *done = &out.u.SCANNED;
    struct engine_scan s = {.partition = m->partition, .rows = m->rows, .pattern = m->pattern};
    struct position next;
    bool ended = false;
    int rc = -ERR_INVAL;

    if (m->from.len == POSITION_BYTES && m->to.len == POSITION_BYTES && w->view.epoch != 0 &&
        m->partition < w->ring_index.partitions) {
        memcpy(s.from.b, m->from.data, POSITION_BYTES);
        memcpy(s.to.b, m->to.data, POSITION_BYTES);
        rc = look_into(w->asks, &s, &next, &ended, &done->rows);
    }
    done->status = (uint32_t)-rc;
    if (rc == 0) {
        done->keys = slice_of(buf_head(&w->asks->keys), buf_len(&w->asks->keys));
        if (!ended)
            done->next = slice_of(next.b, POSITION_BYTES);
    }
    /* If it cannot be sent, the asker's patience ends. */
    link_set_send(w->links, member, worker, &out);
    forget_answer(w->asks);
}

static void serve_run(struct worker *w, uint16_t member, uint16_t worker, const struct msg_RUN *m)
{
    struct msg out = {.kind = MSG_RAN, .u.RAN = {.request = m->request}};
    struct buf *text = &w->asks->keys;

    buf_clear(text);
    if (member != w->view.self) {
        out.u.RAN.status = ERR_DENIED;
    } else {
        out.u.RAN.status = (uint32_t)-clients_run(w->clients, m->words, text);
        out.u.RAN.text = slice_of(buf_head(text), buf_len(text));
    }
    link_set_send(w->links, member, worker, &out);
    forget_answer(w->asks);
}

static void serve_show(struct worker *w, uint16_t member, uint16_t worker, const struct msg_SHOW *m)
{
    struct engine_shown shown;
    char text[LIMIT_CONTEXT_TEXT];
    struct coord_reply own = own_shown(w, m->key, &shown, text);
    struct msg out = {
        .kind = MSG_SHOWN,
        .u.SHOWN = {.request = m->request,
                    .status = (uint32_t)-own.status,
                    .vnode = shown.vnode_id,
                    .standing = shown.standing,
                    .siblings = shown.siblings,
                    .digest = shown.digest,
                    .context = own.context,
                    .owed = slice_of(shown.owed_to, shown.owed * sizeof shown.owed_to[0])}};

    link_set_send(w->links, member, worker, &out);
}

static void take_shown(struct worker *w, struct ask *a, const struct msg_SHOWN *m)
{
    struct engine_shown shown = {.vnode_id = m->vnode,
                                 .digest = m->digest,
                                 .siblings = m->siblings,
                                 .standing = m->standing,
                                 .owed = (uint8_t)(m->owed.len / sizeof shown.owed_to[0])};
    struct coord_reply reply = {
        .status = -(int)m->status, .context = m->context, .object = slice_of(&shown, sizeof shown)};

    if (m->owed.len > sizeof shown.owed_to || m->owed.len % sizeof shown.owed_to[0] != 0 ||
        m->context.len > LIMIT_CONTEXT_TEXT)
        reply = (struct coord_reply){.status = -ERR_FORMAT};
    else
        memcpy(shown.owed_to, m->owed.data, m->owed.len);
    answer(w->asks, a, &reply);
}

static void take_scanned(struct worker *w, struct ask *a, const struct msg_SCANNED *m)
{
    struct coord_reply reply = {
        .status = -(int)m->status, .flags = m->rows, .object = m->keys, .context = m->next};

    if (m->next.len != 0 && m->next.len != POSITION_BYTES)
        reply.status = -ERR_FORMAT;
    answer(w->asks, a, &reply);
}

bool ask_receive(struct worker *w, uint16_t member, uint16_t worker, const struct msg *m)
{
    struct ask *a;

    switch (m->kind) {
    case MSG_SCAN:
        serve_scan(w, member, worker, &m->u.SCAN);
        return true;
    case MSG_SCANNED:
        a = find(w->asks, m->u.SCANNED.request, member, worker);
        if (a != NULL)
            take_scanned(w, a, &m->u.SCANNED);
        return true;
    case MSG_SHOW:
        serve_show(w, member, worker, &m->u.SHOW);
        return true;
    case MSG_SHOWN:
        a = find(w->asks, m->u.SHOWN.request, member, worker);
        if (a != NULL)
            take_shown(w, a, &m->u.SHOWN);
        return true;
    case MSG_RUN:
        serve_run(w, member, worker, &m->u.RUN);
        return true;
    case MSG_RAN:
        a = find(w->asks, m->u.RAN.request, member, worker);
        if (a != NULL)
            answer(w->asks, a,
                   &(struct coord_reply){.status = -(int)m->u.RAN.status, .object = m->u.RAN.text});
        return true;
    default:
        return false;
    }
}
