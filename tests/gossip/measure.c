/* Clusters of memberships in virtual time, and what is measured of them. */
#include "tests/gossip/measure.h"

#include "base/check.h"

#include <math.h>

#define POLL_US  20000u        /* how exact times are */
#define WARM_US  (20 * SECOND) /* what is under way at the beginning has ended */
#define REST_US  (60 * SECOND)
#define AWAY_US  1600000u /* who is frozen for longer may be taken for dead */
#define PATIENCE (300 * SECOND)

struct cluster {
    const struct measure_options *o;
    struct measure *out;
    struct kit kit;
    uint64_t *judged;  /* verdicts of each node, as counted last */
    bool *dead;        /* killed, or not yet known to be back */
    uint16_t *pending; /* nodes that do not know yet */
    unsigned pending_count;
    unsigned subject;     /* what of: a node */
    uint64_t incarnation; /* and of what incarnation; 0: that it is faulty */
    uint64_t begun_us;
};

/* ---- building ---- */

/* May this node be taken for dead? It is, or was frozen for so long that nobody can tell, and if it is
 * running again, has not had the time to say so. */
static bool seems_dead(const struct cluster *c, unsigned who)
{
    const struct kit_node *n = &c->kit.node[who];
    uint64_t now = c->kit.now_us, until = n->paused ? now : n->woken_us;

    return c->dead[who] ||
           (until - n->paused_us > AWAY_US && (n->paused || now < n->woken_us + SECOND));
}

/* Called whenever a node changes its mind. */
static void on_changed(struct kit_node *n)
{
    struct cluster *c = n->kit->user;
    size_t i = (size_t)(n - n->kit->node);
    uint64_t verdicts = n->m.counts[MEMBER_COUNT_verdicts];

    if (verdicts == c->judged[i])
        return;
    c->judged[i] = verdicts;
    for (uint16_t k = 0; k < n->m.faulty_count; k++) {
        const struct member_row *row = &n->m.row[n->m.faulty[k]];
        unsigned who = row->m.gossip_port - 1000u;

        if (row->since_us == n->kit->now_us && !seems_dead(c, who))
            c->out->false_verdicts++;
    }
}

static void keep_news(void *arg, const struct gossip *g)
{
    if (g->kind == GOSSIP_NEWS)
        kit_append(arg, g);
}

/* Everybody has everybody from what an earlier run has saved: with thousands of members their first
 * meeting would take longer than all that is measured. */
static void introduce(struct kit *k)
{
    static const struct member_endpoint nowhere = {.address = "saved"};
    static const struct node_id nobody;
    struct buf *said = calloc(k->count, sizeof *said);
    struct gossip *news = calloc(k->count, sizeof *news);

    for (unsigned i = 0; i < k->count; i++) {
        member_tell_all(&k->node[i].m, keep_news, &said[i]);
        struct slice in = slice_of(buf_head(&said[i]), buf_len(&said[i]));
        ASSERT(msg_codec_next_gossip(k->codec, &in, &news[i]) == 0);
    }
    for (unsigned i = 0; i < k->count; i++)
        for (unsigned j = 1; j < k->count; j++)
            member_receive(&k->node[i].m, &nobody, &nowhere, &news[(i + j) % k->count], k->now_us);
    for (unsigned i = 0; i < k->count; i++)
        buf_free(&said[i]);
    free(said);
    free(news);
}

struct cluster *measure_begin(const struct measure_options *o, struct measure *out)
{
    struct cluster *c = calloc(1, sizeof *c);
    struct kit *k = &c->kit;

    c->o = o;
    c->out = out;
    kit_init_sized(k, o->nodes, o->nodes < 5 ? o->nodes : 5, o->seed);
    k->loss = o->loss;
    k->deaf = o->deaf;
    k->user = c;
    c->judged = calloc(o->nodes, sizeof *c->judged);
    c->dead = calloc(o->nodes, sizeof *c->dead);
    c->pending = calloc(o->nodes, sizeof *c->pending);
    kit_start_all(k, o->nodes);
    introduce(k);
    k->changed = on_changed;
    /* Nobody starts at the same moment as anybody else. */
    for (unsigned i = 0; i < o->nodes; i++)
        kit_step_at(k, i, k->now_us + rand_below(&k->rand, SECOND));
    c->begun_us = k->now_us;
    kit_run(k, WARM_US, NULL, NULL);
    return c;
}

static uint64_t suspicions(const struct kit *k)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < k->count; i++)
        n += k->node[i].m.counts[MEMBER_COUNT_suspicions];
    return n;
}

void measure_end(struct cluster *c)
{
    c->out->suspicions += suspicions(&c->kit);
    for (unsigned i = 0; i < c->kit.count; i++)
        c->out->refutations += c->kit.node[i].m.counts[MEMBER_COUNT_refutations];
    c->out->node_hours += (double)(c->kit.now_us - c->begun_us) / 3.6e9 * c->kit.count;
    kit_free(&c->kit);
    free(c->judged);
    free(c->dead);
    free(c->pending);
    free(c);
}

/* ---- at rest ---- */

void measure_rest(struct cluster *c)
{
    struct kit *k = &c->kit;
    double per = 1e6 / (double)REST_US / k->count;
    int64_t bytes = 0, streams = 0, datagrams = 0;

    for (int sign = -1; sign <= 1; sign += 2) {
        for (unsigned i = 0; i < k->count; i++) {
            bytes += sign * (int64_t)k->node[i].bytes;
            streams += sign * (int64_t)k->node[i].stream_bytes;
            datagrams += sign * (int64_t)k->node[i].datagrams;
        }
        if (sign < 0)
            kit_run(k, REST_US, NULL, NULL);
    }
    c->out->datagram_bytes = (double)bytes * per;
    c->out->stream_bytes = (double)streams * per;
    c->out->datagrams = (double)datagrams * per;
}

/* ---- until all know ---- */

static bool knows(struct cluster *c, unsigned who)
{
    const struct kit_node *subject = &c->kit.node[c->subject];
    const struct member_row *row = member_find(&c->kit.node[who].m, &subject->self.id);

    if (c->incarnation == 0)
        return row != NULL && row->m.state == MEMBER_FAULTY;
    return row != NULL && row->m.incarnation >= c->incarnation && row->m.state == MEMBER_ALIVE;
}

/* Run until all others know; when the first knew goes to *first. False: not in all patience. */
static bool until_all_know(struct cluster *c, uint64_t *first)
{
    struct kit *k = &c->kit;
    uint64_t begun = k->now_us;

    c->pending_count = 0;
    for (unsigned i = 0; i < k->count; i++)
        if (i != c->subject)
            c->pending[c->pending_count++] = (uint16_t)i;
    unsigned others = c->pending_count;
    for (*first = 0; c->pending_count > 0 && k->now_us < begun + PATIENCE;) {
        kit_run(k, POLL_US, NULL, NULL);
        for (unsigned i = 0; i < c->pending_count;) {
            if (knows(c, c->pending[i]))
                c->pending[i] = c->pending[--c->pending_count];
            else
                i++;
        }
        if (*first == 0 && c->pending_count < others)
            *first = k->now_us - begun;
    }
    return c->pending_count == 0;
}

static void sample(struct measure_samples *s, uint64_t us)
{
    if (s->count < MEASURE_MOST)
        s->us[s->count++] = us;
}

/* It comes back as the same node, with what it has saved, and is waited for. */
static void revive(struct cluster *c)
{
    struct kit *k = &c->kit;
    struct buf saved = {0};
    static const struct member_endpoint nowhere = {.address = "saved"};
    static const struct node_id nobody;
    struct kit_node *n = &k->node[c->subject];
    struct gossip g;
    uint64_t first;

    member_tell_all(&n->m, keep_news, &saved);
    kit_boot(k, c->subject);
    c->judged[c->subject] = 0;
    struct slice in = slice_of(buf_head(&saved), buf_len(&saved));
    while (in.len > 0 && msg_codec_next_gossip(k->codec, &in, &g) == 0)
        member_receive(&n->m, &nobody, &nowhere, &g, k->now_us);
    buf_free(&saved);
    c->incarnation = n->m.row[0].m.incarnation;
    if (!until_all_know(c, &first))
        c->out->unhealed++;
    c->dead[c->subject] = false;
}

void measure_kills(struct cluster *c)
{
    struct kit *k = &c->kit;

    for (unsigned i = 0; i < c->o->kills && k->count > 1; i++) {
        uint64_t first, begun;

        c->subject = (unsigned)rand_below(&k->rand, k->count);
        kit_run(k, 5 * SECOND + rand_below(&k->rand, 5 * SECOND), NULL, NULL);
        c->dead[c->subject] = true;
        k->node[c->subject].up = false;
        c->incarnation = 0;
        begun = k->now_us;
        if (until_all_know(c, &first)) {
            sample(&c->out->first, first);
            sample(&c->out->all, k->now_us - begun);
        } else {
            c->out->unhealed++;
        }
        revive(c);
    }
}

/* A member says something new about itself: it is accused by somebody, and refutes. */
void measure_changes(struct cluster *c)
{
    struct kit *k = &c->kit;

    for (unsigned i = 0; i < c->o->changes && k->count > 1; i++) {
        struct buf said = {0};
        struct gossip g;
        uint64_t first, begun;

        kit_run(k, 2 * SECOND + rand_below(&k->rand, SECOND), NULL, NULL);
        c->subject = (unsigned)rand_below(&k->rand, k->count);
        struct kit_node *n = &k->node[c->subject];
        struct kit_node *by = &k->node[(c->subject + 1) % k->count];
        struct member_endpoint from = {.port = by->self.gossip_port};
        memcpy(from.address, by->self.address, sizeof from.address);
        member_tell_all(&n->m, keep_news, &said);
        struct slice in = slice_of(buf_head(&said), buf_len(&said));
        ASSERT(msg_codec_next_gossip(k->codec, &in, &g) == 0);
        g.u.NEWS.state = MEMBER_FAULTY;
        member_receive(&n->m, &by->self.id, &from, &g, k->now_us);
        buf_free(&said);
        c->incarnation = n->m.row[0].m.incarnation;
        begun = k->now_us;
        if (until_all_know(c, &first))
            sample(&c->out->spread, k->now_us - begun);
        else
            c->out->unhealed++;
    }
}

/* ---- the long run ---- */

static uint64_t until_next_pause(struct cluster *c)
{
    double u = ((double)(rand_next(&c->kit.rand) >> 11) + 1) / 9007199254740993.0;

    return (c->o->deaf ? DEAF_APART_US : 0) + (uint64_t)(-log(u) * (double)c->o->pause_every_us);
}

/* Every node is frozen now and then, without regard to itself or others having just been. */
void measure_long_run(struct cluster *c)
{
    struct kit *k = &c->kit;
    uint64_t end = k->now_us + (uint64_t)(c->o->node_hours * 3.6e9 / k->count);
    uint64_t before = suspicions(k);
    uint64_t *at = calloc(k->count, sizeof *at); /* the next freezing, or waking, of each */

    for (unsigned i = 0; i < k->count; i++)
        at[i] = c->o->pause_us == 0 ? end : k->now_us + until_next_pause(c);
    while (k->now_us < end) {
        unsigned who = 0;

        for (unsigned i = 1; i < k->count; i++)
            if (at[i] < at[who])
                who = i;
        kit_run(k, (at[who] < end ? at[who] : end) - k->now_us, NULL, NULL);
        if (k->now_us >= end)
            break;
        if (k->node[who].paused) {
            kit_wake(k, who);
            at[who] = k->now_us + until_next_pause(c);
        } else {
            kit_pause(k, who);
            at[who] = k->now_us + c->o->pause_us;
            c->out->pauses++;
        }
    }
    for (unsigned i = 0; i < k->count; i++)
        if (k->node[i].paused)
            kit_wake(k, i);
    free(at);
    c->out->long_hours = c->o->node_hours;
    c->out->long_suspicions = suspicions(k) - before;
}

/* ---- samples ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t measure_percentile(struct measure_samples *s, unsigned percent)
{
    if (s->count == 0)
        return 0;
    qsort(s->us, s->count, sizeof s->us[0], by_size);
    unsigned at = (s->count * percent + 99) / 100;
    return s->us[at == 0 ? 0 : at - 1];
}
