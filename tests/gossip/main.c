/* build/gossip-sim: the rules of membership alone, as they ship, in virtual time and at any size. */
#include "tests/gossip/measure.h"

#include "core/planted.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int sim_bug = BUG_NONE;

static const struct {
    const char *name;
    int bug;
} bugs[] = {
#define X(name, text) {#name, BUG_##name},
#include "core/planted_gossip.def"
#undef X
};

#define SIZES 8 /* at most so many smaller clusters for the fit */

static const char usage[] =
    "usage: gossip-sim [OPTION]...\n"
    "Runs the membership of clusters in virtual time and prints how soon a killed node is known "
    "to\n"
    "be faulty, what gossip costs, how soon all know of a change, and how often it is wrong.\n"
    "  --nodes N       members, 2 to 5000 (default 5)\n"
    "  --hours H       node-hours of the long run (default 10; 0: none)\n"
    "  --loss P        percent of datagrams that are lost (default 0)\n"
    "  --pause MS      in the long run every node is frozen for so long now and then (default 0)\n"
    "  --every S       so many seconds apart in the mean, each by itself (default 60)\n"
    "  --deaf          what is sent to a frozen node is lost, not read later; at least 5 s apart\n"
    "  --kills K       nodes killed, one after the other (default by size)\n"
    "  --changes C     changes whose spread is timed (default by size)\n"
    "  --no-fit        no smaller clusters for the fit of the spread to log2(n)\n"
    "  --seed S        (default 1) the same seed gives the same output\n"
    "  --check         fail (exit 1), and say why, if that is worse than it should be\n"
    "  --bug NAME      with a fault planted, see core/planted_gossip.def\n"
    "  --json          one JSON object instead of text\n"
    "  --help\n";

struct options {
    struct measure_options m;
    bool fit, check, json;
};

/* Of the spread over sizes: seconds = a + b log2(n). */
struct fit {
    unsigned count;
    unsigned nodes[SIZES + 1];
    double p50[SIZES + 1], p99[SIZES + 1];
    double a, b, r2;
};

static void fit_line(struct fit *f)
{
    double n = f->count, sx = 0, sy = 0, sxx = 0, sxy = 0, rest = 0, all = 0;

    for (unsigned i = 0; i < f->count; i++) {
        double x = log2(f->nodes[i]);

        sx += x;
        sy += f->p50[i];
        sxx += x * x;
        sxy += x * f->p50[i];
    }
    f->b = f->count < 2 ? 0 : (n * sxy - sx * sy) / (n * sxx - sx * sx);
    f->a = (sy - f->b * sx) / n;
    for (unsigned i = 0; i < f->count; i++) {
        double e = f->p50[i] - f->a - f->b * log2(f->nodes[i]), d = f->p50[i] - sy / n;

        rest += e * e;
        all += d * d;
    }
    f->r2 = all == 0 ? 1 : 1 - rest / all;
}

static double seconds(struct measure_samples *s, unsigned percent)
{
    return (double)measure_percentile(s, percent) / 1e6;
}

static void add_size(struct fit *f, unsigned nodes, struct measure_samples *spread)
{
    f->nodes[f->count] = nodes;
    f->p50[f->count] = seconds(spread, 50);
    f->p99[f->count] = seconds(spread, 99);
    f->count++;
}

/* A quarter of the nodes, a quarter of that, down to eight. */
static void fit_smaller(const struct options *o, struct fit *f)
{
    for (unsigned n = o->m.nodes / 4; n >= 8 && f->count < SIZES; n /= 4) {
        struct measure_options smaller = o->m;
        struct measure *out = calloc(1, sizeof *out);

        smaller.nodes = n;
        smaller.changes = o->m.changes > 30 ? o->m.changes : 30;
        struct cluster *c = measure_begin(&smaller, out);
        measure_changes(c);
        measure_end(c);
        add_size(f, n, &out->spread);
        free(out);
    }
}

static void print_text(const struct options *o, struct measure *m, const struct fit *f)
{
    printf("%u nodes, %.1f %% of datagrams lost, seed %llu\n", o->m.nodes, o->m.loss / 1e4,
           (unsigned long long)o->m.seed);
    printf(
        "at rest: each node sends %.0f bytes a second: %.0f in %.1f datagrams, %.0f in streams\n",
        m->datagram_bytes + m->stream_bytes, m->datagram_bytes, m->datagrams, m->stream_bytes);
    printf("a killed node is faulty somewhere after p50 %.2f s, p99 %.2f s; everywhere after p50 "
           "%.2f s, p99 %.2f s, max %.2f s (%u kills)\n",
           seconds(&m->first, 50), seconds(&m->first, 99), seconds(&m->all, 50),
           seconds(&m->all, 99), seconds(&m->all, 100), m->all.count);
    printf("a change is known everywhere after p50 %.2f s, p99 %.2f s (%u changes)\n",
           seconds(&m->spread, 50), seconds(&m->spread, 99), m->spread.count);
    for (unsigned i = f->count; f->count > 1 && i > 0; i--)
        printf("  %5u nodes: p50 %.2f s, p99 %.2f s\n", f->nodes[i - 1], f->p50[i - 1],
               f->p99[i - 1]);
    if (f->count > 1)
        printf("  p50 = %.2f s + %.2f s * log2(n), R2 %.3f\n", f->a, f->b, f->r2);
    printf(
        "false verdicts: %llu in %.0f node-hours with %llu pauses of %.1f s; %llu suspicions, %llu "
        "refuted\n",
        (unsigned long long)m->false_verdicts, m->node_hours, (unsigned long long)m->pauses,
        (double)o->m.pause_us / 1e6, (unsigned long long)m->suspicions,
        (unsigned long long)m->refutations);
    if (m->unhealed > 0)
        printf("NOT KNOWN EVERYWHERE within minutes: %llu times\n",
               (unsigned long long)m->unhealed);
}

static void print_json(const struct options *o, struct measure *m, const struct fit *f)
{
    printf("{\"nodes\": %u, \"loss\": %.4f, \"seed\": %llu, ", o->m.nodes, o->m.loss / 1e6,
           (unsigned long long)o->m.seed);
    printf("\"bytes_per_node_second\": %.1f, \"datagram_bytes\": %.1f, \"stream_bytes\": %.1f, "
           "\"datagrams\": %.2f, ",
           m->datagram_bytes + m->stream_bytes, m->datagram_bytes, m->stream_bytes, m->datagrams);
    printf(
        "\"kills\": %u, \"first_p50\": %.3f, \"first_p99\": %.3f, \"all_p50\": %.3f, \"all_p99\": "
        "%.3f, \"all_max\": %.3f, ",
        m->all.count, seconds(&m->first, 50), seconds(&m->first, 99), seconds(&m->all, 50),
        seconds(&m->all, 99), seconds(&m->all, 100));
    printf("\"spread\": [");
    for (unsigned i = f->count; i > 0; i--)
        printf("%s{\"nodes\": %u, \"p50\": %.3f, \"p99\": %.3f}", i == f->count ? "" : ", ",
               f->nodes[i - 1], f->p50[i - 1], f->p99[i - 1]);
    printf("], \"fit\": {\"a\": %.3f, \"b\": %.3f, \"r2\": %.4f}, ", f->a, f->b, f->r2);
    printf("\"node_hours\": %.1f, \"pauses\": %llu, \"suspicions\": %llu, \"refutations\": %llu, "
           "\"false_verdicts\": %llu, \"unhealed\": %llu}\n",
           m->node_hours, (unsigned long long)m->pauses, (unsigned long long)m->suspicions,
           (unsigned long long)m->refutations, (unsigned long long)m->false_verdicts,
           (unsigned long long)m->unhealed);
}

static double number(const char *name, const char *text, double least, double most)
{
    char *end;
    double x = strtod(text, &end);

    if (*text == 0 || *end != 0 || !(x >= least && x <= most)) {
        fprintf(stderr, "gossip-sim: --%s takes a number from %g to %g, not '%s'\n", name, least,
                most, text);
        exit(2);
    }
    return x;
}

static int bug_named(const char *name)
{
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++)
        if (strcmp(bugs[i].name, name) == 0)
            return bugs[i].bug;
    fprintf(stderr, "gossip-sim: no planted fault is named '%s'\n", name);
    exit(2);
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"nodes", 1, 0, 'n'},  {"hours", 1, 0, 'h'}, {"loss", 1, 0, 'l'}, {"pause", 1, 0, 'p'},
        {"every", 1, 0, 'e'},  {"kills", 1, 0, 'k'}, {"seed", 1, 0, 's'}, {"changes", 1, 0, 'c'},
        {"no-fit", 0, 0, 'f'}, {"check", 0, 0, 'C'}, {"json", 0, 0, 'j'}, {"deaf", 0, 0, 'd'},
        {"bug", 1, 0, 'b'},    {"help", 0, 0, '?'},  {NULL, 0, NULL, 0},
    };
    int kills = -1, changes = -1, opt, index = 0;

    opterr = 0;
    while ((opt = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;

        switch (opt) {
        case 'n':
            o->m.nodes = (unsigned)number(name, optarg, 2, 5000);
            break;
        case 'h':
            o->m.node_hours = number(name, optarg, 0, 1e7);
            break;
        case 'l':
            o->m.loss = (uint32_t)(number(name, optarg, 0, 99) * 1e4);
            break;
        case 'p':
            o->m.pause_us = (uint64_t)(number(name, optarg, 0, 1e6) * 1e3);
            break;
        case 'e':
            o->m.pause_every_us = (uint64_t)(number(name, optarg, 0.1, 1e6) * 1e6);
            break;
        case 'k':
            kills = (int)number(name, optarg, 0, MEASURE_MOST);
            break;
        case 'c':
            changes = (int)number(name, optarg, 0, MEASURE_MOST);
            break;
        case 's':
            o->m.seed = (uint64_t)number(name, optarg, 0, 1e15);
            break;
        case 'f':
            o->fit = false;
            break;
        case 'C':
            o->check = true;
            break;
        case 'b':
            sim_bug = bug_named(optarg);
            break;
        case 'd':
            o->m.deaf = true;
            break;
        case 'j':
            o->json = true;
            break;
        default:
            if (optopt == 0 && optind > 0 && strcmp(argv[optind - 1], "--help") == 0) {
                fputs(usage, stdout);
                exit(0);
            }
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
    unsigned n = o->m.nodes;
    o->m.kills = kills >= 0 ? (unsigned)kills : n <= 20 ? 500 : n <= 1000 ? 50 : 10;
    o->m.changes = changes >= 0 ? (unsigned)changes : n <= 20 ? 200 : n <= 1000 ? 50 : 10;
}

/* The bounds that hold for every size, with as much as a tenth of all datagrams lost. */
static bool good(const struct options *o, struct measure *m)
{
    const struct {
        const char *what;
        double is, most;
        bool counts;
    } bound[] = {
        {"false verdicts", (double)m->false_verdicts, 0, true},
        {"changes not known everywhere", (double)m->unhealed, 0, true},
        {"seconds until a killed node is faulty everywhere, p50", seconds(&m->all, 50), 3,
         o->m.nodes <= 5 && m->all.count >= 100},
        {"the same, p99", seconds(&m->all, 99), 5, o->m.nodes <= 5},
        {"the same in a larger cluster, p50", seconds(&m->all, 50), 2.5 + log2(o->m.nodes) / 2,
         o->m.nodes > 5},
        {"seconds until all know of a change, p99", seconds(&m->spread, 99), 2 + log2(o->m.nodes),
         true},
        {"bytes a node sends in a second", m->datagram_bytes + m->stream_bytes, 1000,
         o->m.loss == 0},
        {"suspicions in a node-hour", (double)m->long_suspicions / (m->long_hours + 1e-9), 100,
         o->m.pause_us == 0 && m->long_hours > 0},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof bound / sizeof bound[0]; i++) {
        if (!bound[i].counts || bound[i].is <= bound[i].most)
            continue;
        fprintf(stderr, "FAILED: %s: %g, at most %g\n", bound[i].what, bound[i].is, bound[i].most);
        ok = false;
    }
    return ok;
}

int main(int argc, char **argv)
{
    struct options o = {
        .m = {.nodes = 5, .node_hours = 10, .pause_every_us = 60 * SECOND, .seed = 1}, .fit = true};
    static struct measure m;
    static struct fit f;

    parse(argc, argv, &o);
    struct cluster *c = measure_begin(&o.m, &m);
    measure_rest(c);
    measure_kills(c);
    measure_changes(c);
    measure_long_run(c);
    measure_end(c);
    add_size(&f, o.m.nodes, &m.spread);
    if (o.fit)
        fit_smaller(&o, &f);
    fit_line(&f);
    (o.json ? print_json : print_text)(&o, &m, &f);
    return o.check && !good(&o, &m);
}
