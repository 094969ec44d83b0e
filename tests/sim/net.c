/* Links between workers, as workers/link_set.h promises them: one stream for each ordered pair. A
 * stream keeps order and loses nothing while it lives; when it breaks, what was on its way is lost
 * and the sender is told, sooner or later. Some seeds are rougher: messages are lost without a word,
 * doubled (answers and merges, never what must not be carried out twice) and overtake each other. */
#include "tests/messages.h"
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"

#include <stdlib.h>

struct flight { /* a message on its way, with its own copy of all bytes */
    uint16_t from_node, from_worker, to_node, to_worker;
    uint64_t generation;
    bool copy; /* doubled by the network: the stream may have another generation by now */
    struct msg m;
    uint8_t bytes[];
};

/* A number that differs when what is sent differs, for the trace. */
static uint64_t msg_sum(struct msg *m)
{
    uint64_t sum = (uint64_t)m->kind;

    switch (m->kind) {
#define MESSAGE(name, number, text)                                                                \
    case MSG_##name: {                                                                             \
        struct msg_##name *x = &m->u.name;
#define U64(field)   sum = sum * 31 + x->field;
#define U32(field)   sum = sum * 31 + x->field;
#define U8(field)    sum = sum * 31 + x->field;
#define BYTES(field) sum = hash64_seed(x->field.data, x->field.len, sum);
#define END(name)                                                                                  \
    (void)x;                                                                                       \
    break;                                                                                         \
    }
#include "core/msg.def"
    }
    return sum;
}

static struct stream *stream_of(struct sim *s, const struct flight *f)
{
    return &s->net.stream[f->from_node][f->from_worker][f->to_node][f->to_worker];
}

static void deliver(struct sim *s, const struct event *e)
{
    struct flight *f = e->p;
    struct worker *to = &s->node[f->to_node].worker[f->to_worker];

    if (node_defer(s, f->to_node, e))
        return;
    if (stream_of(s, f)->generation != f->generation || !to->up) {
        free(f);
        return;
    }
    if (s->net.blocked[f->from_node][f->to_node]) { /* TCP sends it again until somebody gives up */
        if (s->net.loss > 0 && sim_percent(s, 50))
            free(f);
        else
            sim_after(s, sim_range(s, MS(20), MS(200)), deliver, f, 0, 0);
        return;
    }
    sim_trace(s, msg_name((int)f->m.kind), f->from_node * 10u + f->from_worker,
              f->to_node * 10u + f->to_worker, e->a);
    worker_message(to, f->from_node, f->from_worker, &f->m);
    free(f);
}

/* May this be carried out twice? */
static bool repeatable(int kind)
{
    return kind != MSG_PUT;
}

static uint64_t travel_time(struct sim *s, const struct flight *f)
{
    uint64_t slow = s->node[f->from_node].slow_us + s->node[f->to_node].slow_us;

    if (f->from_node == f->to_node)
        return sim_range(s, 3, 60);
    return s->net.latency_us + sim_range(s, 0, s->net.jitter_us) +
           (slow > 0 ? sim_range(s, 0, slow) : 0);
}

static void launch(struct sim *s, struct flight *f, uint64_t sum)
{
    struct stream *stream = stream_of(s, f);
    uint64_t at = s->now + travel_time(s, f);
    bool local = f->from_node == f->to_node;

    if (!local && rand_below(&s->rand, 1000) < s->net.loss) {
        free(f);
        return;
    }
    if (local || rand_below(&s->rand, 1000) >= s->net.reorder) {
        if (at <= stream->last_arrival)
            at = stream->last_arrival + 1;
        stream->last_arrival = at;
    }
    sim_after(s, at - s->now, deliver, f, sum, 0);
}

int net_send(struct worker *from, unsigned node, unsigned worker, const struct msg *m)
{
    struct sim *s = from->sim;
    struct stream *stream = &s->net.stream[from->node][from->index][node][worker];

    if (!stream->up)
        return -ERR_UNAVAILABLE;
    if (node != from->node && !s->calm && s->chaos && rand_below(&s->rand, 5000) == 0) {
        stream->changed_at = s->now;
        return -ERR_BUSY;
    }
    if (m->kind == MSG_READ)
        oracle_read_sent(s, from, m->u.READ.request);
    struct slice *slices[MESSAGE_SLICES];
    struct msg copy = *m;
    size_t bytes = slices_bytes(slices, msg_slices(&copy, slices));
    int copies = node != from->node && repeatable((int)m->kind) &&
                         rand_below(&s->rand, 1000) < s->net.duplicate
                     ? 2
                     : 1;

    s->net.messages++;
    if (m->kind == MSG_MERGE && (m->u.MERGE.flags & MERGE_REPAIR) != 0)
        s->net.repairs++;
    if (!stream->live)
        return 0; /* into the void: nobody has noticed yet */
    while (copies-- > 0) {
        struct flight *f = malloc(sizeof *f + bytes);

        ASSERT(f != NULL);
        f->from_node = from->node;
        f->from_worker = from->index;
        f->to_node = (uint16_t)node;
        f->to_worker = (uint16_t)worker;
        f->generation = stream->generation;
        f->m = *m;
        slices_move(slices, msg_slices(&f->m, slices), f->bytes);
        launch(s, f, msg_sum(&f->m));
    }
    return 0;
}

bool net_reachable(const struct worker *from, unsigned node, unsigned worker)
{
    return from->sim->net.stream[from->node][from->index][node][worker].up;
}

static uint64_t address(unsigned from_node, unsigned from_worker, unsigned node, unsigned worker)
{
    return (uint64_t)from_node << 24 | from_worker << 16 | node << 8 | worker;
}

static void notice(struct sim *s, const struct event *e);

static struct stream *stream_at(struct sim *s, uint64_t a)
{
    return &s->net.stream[a >> 24 & 255][a >> 16 & 255][a >> 8 & 255][a & 255];
}

/* Break a stream; the sender notices after a while. */
static void break_stream(struct sim *s, uint64_t a, uint64_t notice_after)
{
    struct stream *stream = stream_at(s, a);

    if (!stream->live)
        return;
    stream->live = false;
    stream->changed_at = s->now;
    stream->generation++;
    sim_after(s, notice_after, notice, NULL, a, stream->generation);
}

static bool can_talk(struct sim *s, unsigned a, unsigned b)
{
    return !s->net.blocked[a][b] && !s->net.blocked[b][a];
}

static void connect(struct sim *s, const struct event *e)
{
    unsigned from = e->a >> 24 & 255, to = e->a >> 8 & 255;
    struct stream *stream = stream_at(s, e->a);

    if (stream->up || stream->generation != e->b || !s->node[from].worker[e->a >> 16 & 255].up)
        return;
    if (s->node[to].worker[e->a & 255].up && can_talk(s, from, to) && !node_frozen(s, to) &&
        !node_frozen(s, from)) {
        stream->up = stream->live = true;
        stream->changed_at = s->now;
        stream->last_arrival = s->now;
        sim_trace(s, "connect", e->a, 0, 0);
        return;
    }
    sim_after(s, sim_range(s, MS(10), MS(100)), connect, NULL, e->a, e->b);
}

static void notice(struct sim *s, const struct event *e)
{
    unsigned from = e->a >> 24 & 255, from_worker = e->a >> 16 & 255;
    struct stream *stream = stream_at(s, e->a);
    struct worker *w = &s->node[from].worker[from_worker];

    if (node_defer(s, from, e))
        return;
    if (!w->up || !stream->up || stream->live || stream->generation != e->b)
        return;
    stream->up = false;
    stream->changed_at = s->now;
    sim_trace(s, "link down", e->a, 0, 0);
    sim_after(s, sim_range(s, MS(1), MS(50)), connect, NULL, e->a, e->b);
    worker_link_down(w, e->a >> 8 & 255, e->a & 255);
}

void net_worker_gone(struct sim *s, unsigned node, unsigned worker, bool silent)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        for (unsigned w = 0; w < s->workers; w++) {
            struct stream *out = &s->net.stream[node][worker][n][w];
            bool reset = n == node || (!silent && can_talk(s, n, node));

            if (n == node && w == worker)
                continue;
            out->up = out->live = false;
            out->changed_at = s->now;
            out->generation++;
            break_stream(s, address(n, w, node, worker),
                         reset ? sim_range(s, 20, MS(2)) : sim_range(s, MS(200), MS(700)));
        }
    }
}

void net_worker_back(struct sim *s, unsigned node, unsigned worker)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        for (unsigned w = 0; w < s->workers; w++) {
            uint64_t out = address(node, worker, n, w);

            if (n == node && w == worker)
                continue;
            sim_after(s, sim_range(s, 50, MS(5)), connect, NULL, out,
                      stream_at(s, out)->generation);
        }
    }
}

static void check_silence(struct sim *s, const struct event *e)
{
    unsigned from = e->a >> 24 & 255, to = e->a >> 8 & 255;
    struct stream *stream = stream_at(s, e->a);

    if (stream->generation == e->b && (!can_talk(s, from, to) || node_frozen(s, to)))
        break_stream(s, e->a, 0);
}

void net_suspect(struct sim *s, unsigned from, unsigned to)
{
    for (unsigned fw = 0; fw < s->workers; fw++) {
        for (unsigned tw = 0; tw < s->workers; tw++) {
            uint64_t a = address(from, fw, to, tw);

            sim_after(s, sim_range(s, MS(250), MS(1200)), check_silence, NULL, a,
                      stream_at(s, a)->generation);
        }
    }
}

void net_reset(struct sim *s, unsigned from, unsigned to)
{
    for (unsigned fw = 0; fw < s->workers; fw++)
        for (unsigned tw = 0; tw < s->workers; tw++)
            if (s->node[from].worker[fw].up)
                break_stream(s, address(from, fw, to, tw), sim_range(s, 0, MS(5)));
}

void net_heal(struct sim *s)
{
    memset(s->net.blocked, 0, sizeof s->net.blocked);
    s->net.loss = s->net.duplicate = s->net.reorder = 0;
}

bool net_well_since(const struct sim *s, unsigned a, unsigned b, uint64_t since)
{
    if (s->net.blocked[a][b] || s->net.blocked[b][a] || s->net.unblocked_at[a][b] >= since ||
        s->net.unblocked_at[b][a] >= since)
        return false;
    for (unsigned aw = 0; aw < s->workers; aw++) {
        for (unsigned bw = 0; bw < s->workers; bw++) {
            const struct stream *there = &s->net.stream[a][aw][b][bw];
            const struct stream *back = &s->net.stream[b][bw][a][aw];

            if (a == b && aw == bw)
                continue;
            if (!there->up || !there->live || there->changed_at >= since || !back->up ||
                !back->live || back->changed_at >= since)
                return false;
        }
    }
    return true;
}

bool net_down_since(const struct sim *s, unsigned from, unsigned to, uint64_t since)
{
    for (unsigned fw = 0; fw < s->workers; fw++) {
        for (unsigned tw = 0; tw < s->workers; tw++) {
            const struct stream *stream = &s->net.stream[from][fw][to][tw];

            if (stream->up || stream->changed_at >= since)
                return false;
        }
    }
    return true;
}
