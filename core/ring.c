/* The ring: walks and comparisons. */
#include "core/ring.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"

#include <string.h>

static bool text_ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static bool owner_valid(const struct ring_view *v, uint16_t owner)
{
    if (owner == RING_NO_OWNER)
        return v->epoch == 0;
    return owner < v->member_count && v->members[owner].state != MEMBER_LEFT;
}

bool ring_view_valid(const struct ring_view *v)
{
    if (v->q_bits < 3 || v->q_bits > 12 || v->n < 1 || v->n > LIMIT_REPLICAS ||
        v->member_count > LIMIT_MEMBERS || !text_ends(v->cluster, sizeof v->cluster))
        return false;
    if (v->self != RING_NO_OWNER && v->self >= v->member_count)
        return false;
    for (uint32_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        if (!text_ends(m->name, sizeof m->name) || !text_ends(m->zone, sizeof m->zone) ||
            !text_ends(m->address, sizeof m->address) || m->workers < 1 ||
            m->workers > LIMIT_WORKERS || m->state > MEMBER_LEFT || m->going > MEMBER_GONE)
            return false;
    }
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        if (!owner_valid(v, v->owner[p]) || !owner_valid(v, v->next[p]) ||
            v->phase[p] > RING_CLOSED)
            return false;
    return true;
}

bool ring_is_changing(const struct ring_view *v)
{
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        if (v->owner[p] != v->next[p])
            return true;
    return false;
}

int ring_compare(const struct ring_view *a, const struct ring_view *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    return memcmp(a->proposer.b, b->proposer.b, NODE_ID_BYTES);
}

/* ---- Walks. */

static bool zone_known(const struct ring_walker *w, uint16_t member, const bool *owns)
{
    for (uint16_t m = 0; m < member; m++)
        if (owns[m] && w->zone[m] == w->zone[member])
            return true;
    return false;
}

void ring_walker_init(struct ring_walker *w, const struct ring_view *v, const uint16_t *owner)
{
    bool owns[LIMIT_MEMBERS] = {false};

    w->view = v;
    w->owner = owner;
    w->owners = w->zones = 0;
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        if (owner[p] != RING_NO_OWNER)
            owns[owner[p]] = true;
    for (uint16_t m = 0; m < v->member_count; m++) {
        w->zone[m] = 0;
        while (strcmp(v->members[w->zone[m]].zone, v->members[m].zone) != 0)
            w->zone[m]++;
        w->owners += owns[m];
        w->zones += owns[m] && !zone_known(w, m, owns);
    }
}

/* Owners met clockwise from a partition, in their order. */
struct met {
    uint32_t count, zones; /* so many of them are of zones not met before */
    uint16_t member[LIMIT_MEMBERS];
    bool new_zone[LIMIT_MEMBERS]; /* of the entry at the same place in `member` */
};

static bool zone_met(const struct ring_walker *w, const struct met *met, uint16_t member)
{
    for (uint32_t i = 0; i < met->count; i++)
        if (w->zone[met->member[i]] == w->zone[member])
            return true;
    return false;
}

/* The distinct owners clockwise from a partition: all that could become part of a walk. */
static void meet_owners(const struct ring_walker *w, uint32_t partition, uint32_t zones,
                        struct met *met)
{
    uint32_t mask = (1u << w->view->q_bits) - 1;
    uint64_t seen[LIMIT_MEMBERS / 64] = {0};

    met->count = met->zones = 0;
    for (uint32_t step = 0; step <= mask; step++) {
        uint16_t m = w->owner[(partition + step) & mask];

        if (m == RING_NO_OWNER || (seen[m / 64] >> (m % 64) & 1))
            continue;
        seen[m / 64] |= 1ull << (m % 64);
        met->new_zone[met->count] = met->zones < zones && !zone_met(w, met, m);
        met->zones += met->new_zone[met->count];
        met->member[met->count++] = m;
        if (met->count == w->owners || (met->count >= LIMIT_WALK && met->zones == zones))
            return;
    }
}

/* A print of the set of primaries: the order does not count. */
static uint32_t print_of(const struct ring_view *v, const struct ring_walk *w)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < w->primaries; i++)
        sum += hash64(v->members[w->member[i]].id.b, NODE_ID_BYTES);
    return (uint32_t)(sum >> 32) | 1;
}

void ring_walker_walk(const struct ring_walker *w, uint32_t partition, unsigned n,
                      struct ring_walk *out)
{
    struct met met;
    bool used[LIMIT_MEMBERS] = {false};
    unsigned taken = 0;

    ASSERT(n >= 1 && n <= LIMIT_REPLICAS);
    n = n < w->owners ? n : w->owners;
    meet_owners(w, partition, n < w->zones ? n : w->zones, &met);
    /* First pass: a member in a zone not yet taken; second pass: whoever comes first. */
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < met.count && taken < n; i++) {
            if (used[i] || (pass == 0 && !met.new_zone[i]))
                continue;
            used[i] = true;
            out->member[taken++] = met.member[i];
        }
    }
    out->primaries = (uint8_t)taken;
    for (unsigned i = 0; i < met.count && taken < LIMIT_WALK; i++)
        if (!used[i])
            out->member[taken++] = met.member[i];
    out->count = (uint8_t)taken;
    out->print = print_of(w->view, out);
}

void ring_walk_partition(const struct ring_view *v, uint32_t partition, unsigned n,
                         struct ring_walk *out)
{
    struct ring_walker w;

    ring_walker_init(&w, v, v->owner);
    ring_walker_walk(&w, partition, n, out);
}

void ring_index_build(const struct ring_view *v, unsigned n, struct ring_index *out)
{
    struct ring_walker now, next;

    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&next, v, v->next);
    out->partitions = 1u << v->q_bits;
    for (uint32_t p = 0; p < out->partitions; p++) {
        bool switched = v->phase[p] >= RING_SWITCHED;

        ring_walker_walk(switched ? &next : &now, p, n, &out->walk[p]);
        if (v->phase[p] == RING_SETTLED)
            out->other[p] = (struct ring_walk){.count = 0};
        else
            ring_walker_walk(switched ? &now : &next, p, n, &out->other[p]);
    }
}

int ring_walk_primary(const struct ring_walk *walk, uint16_t member)
{
    for (uint8_t i = 0; i < walk->primaries; i++)
        if (walk->member[i] == member)
            return i;
    return -1;
}

uint16_t ring_find(const struct ring_view *v, const struct node_id *id)
{
    for (uint16_t i = 0; i < v->member_count; i++)
        if (node_id_equal(&v->members[i].id, id))
            return i;
    return RING_NO_OWNER;
}

void ring_count_owned(const struct ring_view *v, uint32_t *counts)
{
    memset(counts, 0, LIMIT_MEMBERS * sizeof counts[0]);
    for (uint32_t p = 0; p < (1u << v->q_bits); p++)
        if (v->owner[p] != RING_NO_OWNER)
            counts[v->owner[p]]++;
}

void node_id_format(const struct node_id *id, char out[2 * NODE_ID_BYTES + 1])
{
    static const char hex[] = "0123456789abcdef";

    for (int i = 0; i < NODE_ID_BYTES; i++) {
        out[2 * i] = hex[id->b[i] >> 4];
        out[2 * i + 1] = hex[id->b[i] & 15];
    }
    out[2 * NODE_ID_BYTES] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int node_id_parse(struct node_id *id, const char *text)
{
    for (int i = 0; i < NODE_ID_BYTES; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

        if (low < 0)
            return -ERR_INVAL;
        id->b[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * NODE_ID_BYTES] == 0 ? 0 : -ERR_INVAL;
}
