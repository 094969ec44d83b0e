/* How evenly tables of owners are spread, and how little moves when a member joins or leaves: for rings
 * of all sizes, founded and then grown and shrunk by one member, each judged by what core/claim.h
 * promises.
 *
 *   balance    each member's partitions are within one of its share by weight
 *   distinct   members of any N consecutive partitions differ, the wrap-around included, where the
 *              numbers allow it
 *   zones      likewise their zones, as far as there are zones
 *   movement   partitions that change hands, against the fewest that could: those that members above
 *              their target have too many
 *
 * A change may leave a few repeats, where keeping owners apart would move much more; lists have N members
 * all the same.
 *
 * usage: claim-sim [--nodes A-B] [--q A-B] [--n N] [--zones Z] [--weights] [--json] */
#include "base/check.h"
#include "core/claim.h"
#include "core/ring_change.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may move at most, of the least that must: a partition is not divided. */
#define MOVEMENT 1.15
/* Of all partitions: those that a change may leave too close to another of their owner. */
#define REPEATS_LEFT 0.08

struct options {
    unsigned nodes_low, nodes_high, q_low, q_high, n, zones;
    bool weights, json;
};

/* One ring, or one change of it. */
struct finding {
    double balance;                /* greatest distance of a member's partitions from its share */
    uint32_t repeats, unavoidable; /* members within n of themselves */
    uint32_t short_zones;          /* lists with fewer zones than there could be */
    uint32_t moved, least;         /* partitions */
    uint32_t filled;               /* replicas of partitions that somebody has to be filled with */
    uint32_t least_filled;         /* those that fall to members for growing */
};

struct row { /* all findings of some node counts of one Q */
    unsigned rings;
    double balance, join, leave;
    uint32_t repeats, short_zones, over;
};

static struct ring_view view, planned;

static unsigned q_of(const struct ring_view *v)
{
    return 1u << v->q_bits;
}

static void make_member(struct ring_view *v, unsigned m, const struct options *o)
{
    struct member *to = &v->members[m];

    memset(to, 0, sizeof *to);
    to->id.b[0] = (uint8_t)(m >> 8);
    to->id.b[1] = (uint8_t)m;
    to->id.b[2] = 1;
    to->workers = 1;
    to->weight = o->weights ? (uint16_t)(50 + 50 * (m % 4)) : 100;
    if (o->zones > 0)
        snprintf(to->zone, sizeof to->zone, "zone-%u", m % o->zones);
}

static void make_ring(struct ring_view *v, unsigned nodes, unsigned q_bits, const struct options *o)
{
    memset(v, 0, sizeof *v);
    v->epoch = 1;
    v->q_bits = (uint8_t)q_bits;
    v->n = (uint8_t)o->n;
    v->self = RING_NO_OWNER;
    v->member_count = (uint16_t)nodes;
    for (unsigned m = 0; m < nodes; m++)
        make_member(v, m, o);
    ASSERT(claim_found(v) == 0);
    memcpy(v->next, v->owner, sizeof v->next);
}

static bool may_own(const struct member *m)
{
    return m->state != MEMBER_LEFT && m->going == MEMBER_STAYS && m->weight > 0;
}

/* Shares by weight, nobody above Q / n: who is gets that, the rest is shared out again. */
static void shares_of(const struct ring_view *v, double *share)
{
    bool capped[LIMIT_MEMBERS] = {false};
    double left = q_of(v), weight = 0;
    unsigned owning = 0;
    bool again = true;

    for (unsigned m = 0; m < v->member_count; m++) {
        owning += may_own(&v->members[m]);
        weight += may_own(&v->members[m]) ? v->members[m].weight : 0;
    }
    unsigned n = v->n < owning ? v->n : owning;
    unsigned q = q_of(v);
    double cap = q / n * owning >= q ? q / n : (q + owning - 1) / owning;

    while (again) {
        double round_left = left, round_weight = weight;

        again = false;
        for (unsigned m = 0; m < v->member_count; m++) {
            if (capped[m])
                continue;
            share[m] = may_own(&v->members[m]) && round_weight > 0
                           ? round_left * v->members[m].weight / round_weight
                           : 0;
            if (share[m] <= cap + 1e-9)
                continue;
            share[m] = cap;
            capped[m] = again = true;
            left -= cap;
            weight -= v->members[m].weight;
        }
    }
}

/* A member with more than Q / n partitions comes too close to itself; that cannot be helped. */
static uint32_t unavoidable(const struct ring_view *v, const uint32_t *counts)
{
    uint32_t owning = 0, bound = 0;

    for (unsigned m = 0; m < v->member_count; m++)
        owning += may_own(&v->members[m]);
    uint32_t n = v->n < owning ? v->n : owning;

    for (unsigned m = 0; m < v->member_count; m++)
        bound += counts[m] > q_of(v) / n;
    /* Where there are no more members than replicas, every list has all of them in any case. */
    return owning <= v->n ? UINT32_MAX : bound;
}

/* Judge v->next as what follows v->owner. */
static struct finding judge(const struct ring_view *v)
{
    struct finding f = {0};
    struct claim_quality quality;
    struct ring_proof proof;
    static struct ring_moves moves;
    double share[LIMIT_MEMBERS] = {0};
    uint32_t target[LIMIT_MEMBERS];

    shares_of(v, share);
    ring_change_moves(v, &moves);
    ring_change_check(v, &proof);
    claim_judge(v, v->next, &quality);
    ASSERT(claim_targets(v, target) == 0);
    for (unsigned m = 0; m < v->member_count; m++) {
        double off = moves.after[m] - share[m];

        off = off < 0 ? -off : off;
        f.balance = off > f.balance ? off : f.balance;
        f.least += moves.before[m] > target[m] ? moves.before[m] - target[m] : 0;
        f.filled += moves.gains[m];
        f.least_filled += v->n * (moves.before[m] < target[m] ? target[m] - moves.before[m] : 0);
    }
    /* Where there are no more members than replicas each has everything, whoever owns it. */
    if (proof.members <= v->n)
        f.balance = 0;
    f.repeats = quality.repeats;
    f.unavoidable = unavoidable(v, moves.after);
    f.short_zones = proof.short_zones;
    f.moved = quality.moved;
    return f;
}

static struct finding change(enum ring_change_kind kind, unsigned m, const struct options *o)
{
    static struct ring_view known;
    struct ring_change c = {.kind = (uint8_t)kind};
    uint32_t at;

    make_member(&known, m, o);
    c.node = known.members[m].id;
    ASSERT(ring_change_plan(&view, &c, 1, &known.members[m], 1, &c.node, &planned, &at) == 0);
    return judge(&planned);
}

static double ratio(const struct finding *f)
{
    return f->least == 0 ? (f->moved == 0 ? 1 : 99) : (double)f->moved / f->least;
}

/* Does more move than may? Less than one partition is none. */
static bool moves_too_much(const struct finding *f)
{
    return f->moved > f->least + 1 && f->moved > MOVEMENT * f->least;
}

/* Repeats may stay, few of them, where there was no moving more. */
static bool is_sound(const struct finding *f, unsigned q)
{
    bool apart = f->repeats <= f->unavoidable || (f->least > 0 && f->repeats <= REPEATS_LEFT * q);

    return f->balance <= 1 + 1e-9 && apart && f->short_zones == 0;
}

static void note(struct row *row, unsigned q, const struct finding *f)
{
    row->rings++;
    row->balance = f->balance > row->balance ? f->balance : row->balance;
    row->repeats += f->repeats > f->unavoidable ? f->repeats - f->unavoidable : 0;
    row->short_zones += f->short_zones;
    row->over += !is_sound(f, q);
}

static void print_one(const struct options *o, unsigned q, unsigned nodes, const char *what,
                      const struct finding *f)
{
    if (o->json)
        printf("{\"q\":%u,\"nodes\":%u,\"what\":\"%s\",\"balance\":%.3f,\"repeats\":%u,"
               "\"unavoidable\":%u,\"short_zones\":%u,\"moved\":%u,\"least\":%u,\"filled\":%u,"
               "\"least_filled\":%u}\n",
               q, nodes, what, f->balance, f->repeats, f->unavoidable, f->short_zones, f->moved,
               f->least, f->filled, f->least_filled);
    else if (!is_sound(f, q) || moves_too_much(f))
        printf("  Q %u, %u nodes, %s: balance %.2f, %u repeats (%d cannot be helped), %u lists "
               "short of "
               "zones, %u moved of at least %u\n",
               q, nodes, what, f->balance, f->repeats, (int)f->unavoidable, f->short_zones,
               f->moved, f->least);
}

/* Found a ring, then a node joins, or one leaves. */
static void try_ring(const struct options *o, unsigned q_bits, unsigned nodes, struct row *row)
{
    struct finding f;

    make_ring(&view, nodes, q_bits, o);
    f = judge(&view);
    note(row, 1u << q_bits, &f);
    print_one(o, 1u << q_bits, nodes, "founded", &f);
    if (nodes < LIMIT_MEMBERS) {
        f = change(RING_JOIN, nodes, o);
        note(row, 1u << q_bits, &f);
        row->over += moves_too_much(&f);
        row->join = ratio(&f) > row->join ? ratio(&f) : row->join;
        print_one(o, 1u << q_bits, nodes, "one joins", &f);
    }
    if (nodes > 1) {
        f = change(RING_LEAVE, nodes / 2, o);
        note(row, 1u << q_bits, &f);
        row->over += moves_too_much(&f);
        row->leave = ratio(&f) > row->leave ? ratio(&f) : row->leave;
        print_one(o, 1u << q_bits, nodes, "one leaves", &f);
    }
}

static void print_row(unsigned q, unsigned low, unsigned high, const struct row *row)
{
    printf("%5u  %3u-%-3u  %6u  %8.2f  %8u  %11u  %9.3f  %10.3f  %s\n", q, low, high, row->rings,
           row->balance, row->repeats, row->short_zones, row->join, row->leave,
           row->over == 0 ? "ok" : "NOT OK");
}

/* Node counts are reported in groups. */
static unsigned group_end(unsigned from, unsigned high)
{
    static const unsigned ends[] = {1, 2, 3, 4, 5, 8, 16, 32, 64, 100, 150, 200, LIMIT_MEMBERS};

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] >= from)
            return ends[i] < high ? ends[i] : high;
    return high;
}

static unsigned sweep(const struct options *o)
{
    unsigned bad = 0;

    if (!o->json)
        printf(
            "    Q  nodes     tables   balance   repeats  short zones  worst join  worst leave\n");
    for (unsigned q_bits = 3; q_bits <= 12; q_bits++) {
        unsigned q = 1u << q_bits;

        if (q < o->q_low || q > o->q_high)
            continue;
        for (unsigned low = o->nodes_low; low <= o->nodes_high;) {
            unsigned high = group_end(low, o->nodes_high);
            struct row row = {0};

            for (unsigned nodes = low; nodes <= high; nodes++)
                try_ring(o, q_bits, nodes, &row);
            if (!o->json)
                print_row(q, low, high, &row);
            fflush(stdout);
            bad += row.over;
            low = high + 1;
        }
    }
    return bad;
}

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: claim-sim [--nodes A-B] [--q A-B] [--n N] [--zones Z] [--weights] [--json]\n"
        "Founds a ring of each size, lets a node join it and one leave it, and prints per group "
        "of\n"
        "sizes the greatest distance from a fair share (in partitions), windows of N partitions "
        "with\n"
        "a member twice that could be avoided, lists with fewer zones than possible, and how many\n"
        "partitions moved at worst, as a multiple of the least. Exits with 1 if any is not as\n"
        "core/claim.h promises: balance within 1, no repeats (after a change: few), movement at "
        "most %.2f.\n"
        "  --nodes A-B  sizes (1-200)        --q A-B    powers of two (64-4096)\n"
        "  --n N        replicas (3)         --zones Z  nodes spread over Z zones (0: none)\n"
        "  --weights    weights of 50 to 200 --json     every table as a line of JSON\n",
        MOVEMENT);
}

static bool parse_range(const char *text, unsigned *low, unsigned *high, unsigned most)
{
    char *end;

    *low = *high = (unsigned)strtoul(text, &end, 10);
    if (*end == '-')
        *high = (unsigned)strtoul(end + 1, &end, 10);
    return *end == 0 && *low >= 1 && *low <= *high && *high <= most;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"nodes", required_argument, NULL, 'm'}, {"q", required_argument, NULL, 'q'},
        {"n", required_argument, NULL, 'n'},     {"zones", required_argument, NULL, 'z'},
        {"weights", no_argument, NULL, 'w'},     {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    struct options o = {
        .nodes_low = 1, .nodes_high = 200, .q_low = 64, .q_high = LIMIT_PARTITIONS, .n = 3};
    bool ok = true;
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'm')
            ok &= parse_range(optarg, &o.nodes_low, &o.nodes_high, LIMIT_MEMBERS);
        else if (c == 'q')
            ok &= parse_range(optarg, &o.q_low, &o.q_high, LIMIT_PARTITIONS);
        else if (c == 'n')
            ok &= (o.n = (unsigned)atoi(optarg)) >= 1 && o.n <= LIMIT_REPLICAS;
        else if (c == 'z')
            ok &= (o.zones = (unsigned)atoi(optarg)) <= LIMIT_MEMBERS;
        else if (c == 'w')
            o.weights = true;
        else if (c == 'j')
            o.json = true;
        else {
            usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (!ok || optind != argc) {
        usage(stderr);
        return 2;
    }
    unsigned bad = sweep(&o);

    if (!o.json)
        printf("%s\n", bad == 0 ? "all as promised" : "NOT as promised");
    return bad != 0;
}
