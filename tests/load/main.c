/* The load generator: options, phases (fill, load, verify), report. See load.h. */
#include "base/check.h"
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_US 1000u
#define EVENTS  8

extern char **environ;

static const char usage[] =
    "usage: bench-load [OPTION]... HOST:PORT...\n"
    "  --protocol resp|etcd   default resp\n"
    "  --cluster              learn the slot map, send each key to its owner, follow MOVED\n"
    "  --clients N            closed loops (50); --depth N operations in a batch of each (1)\n"
    "  --set PERCENT          share of SET, the rest is GET (100)\n"
    "  --keys N               uniformly from so many keys (1000000); --size BYTES of a value "
    "(100)\n"
    "  --requests N | --seconds S   how much, or how long (10 s); --rate N operations a second at "
    "most\n"
    "  --fill                 write every key once before\n"
    "  --unique               write every key once, in order, and note which were acknowledged;\n"
    "                         --from N: beginning with this one\n"
    "  --verify               after --unique, read all acknowledged keys back and count the lost;\n"
    "                         without it, read every key once instead of any other load\n"
    "  --wait N               after each batch WAIT for N replicas\n"
    "  --retry                send again elsewhere what broke, timed out or was told to try again\n"
    "  --timeout MS           of an attempt (100 with --retry, else 10000); --patience MS for all "
    "(10000)\n"
    "  --at SECONDS:COMMAND   run a shell command in the middle; up to 8 times\n"
    "  --json                 one line of JSON instead of a table\n"
    "SIGTERM ends the load early: what follows it, and the report, still come.\n";

struct happening {
    double at;
    const char *command;
    struct loop_timer timer;
    pid_t pid;
};

static struct load the_load;
static struct happening happenings[EVENTS];
static int happening_count;
static bool json, fill, verify;

static void on_terminate(int number)
{
    (void)number;
    the_load.enough = 1;
}

static void on_happening(void *arg)
{
    struct happening *h = arg;
    char *words[] = {"sh", "-c", (char *)h->command, NULL};

    if (posix_spawn(&h->pid, "/bin/sh", NULL, NULL, words, environ) != 0)
        fprintf(stderr, "bench-load: cannot run %s\n", h->command);
}

static void on_tick(void *arg)
{
    struct load *l = arg;
    uint64_t now = loop_now_us(l->loop);

    if (l->rate > 0) {
        l->tokens += (double)(now - l->tokens_us) * (double)l->rate / 1e6;
        if (l->tokens > (double)l->rate / 10)
            l->tokens = (double)l->rate / 10;
    }
    l->tokens_us = now;
    conn_check_timeouts(l);
    lane_send_again(l);
    for (uint32_t i = 0; i < l->lanes; i++)
        lane_resume(&l->lane[i]);
    if (l->lanes_running > 0)
        loop_arm(l->loop, &l->tick, now + TICK_US, on_tick, l);
}

static void run_phase(struct load *l)
{
    l->start_us = l->last_success_us = l->tokens_us = loop_now_us(l->loop);
    l->lanes_running = l->lanes;
    l->issued = 0;
    loop_arm(l->loop, &l->tick, l->start_us + TICK_US, on_tick, l);
    for (uint32_t i = 0; i < l->lanes; i++)
        lane_start(&l->lane[i]);
    if (l->lanes_running > 0)
        loop_run(l->loop);
    l->end_us = loop_now_us(l->loop);
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_counts(const char *name, const struct counts *c, double seconds)
{
    const char *form =
        json ? "\"%s\": {\"ops\": %.0f, \"ok\": %llu, \"missing\": %llu, \"failed\": %llu, "
               "\"retried\": %llu, \"moved\": %llu, \"p50_us\": %llu, \"p99_us\": %llu, "
               "\"p999_us\": %llu, \"max_us\": %llu}, "
             : "%s: %.0f/s, %llu ok, %llu missing, %llu failed, %llu retried, %llu moved, p50 %llu "
               "us, p99 %llu us, p99.9 %llu us, max %llu us\n";

    printf(form, name, seconds > 0 ? (double)(c->ok + c->missing) / seconds : 0,
           (unsigned long long)c->ok, (unsigned long long)c->missing, (unsigned long long)c->failed,
           (unsigned long long)c->retried, (unsigned long long)c->moved,
           (unsigned long long)hist_percentile_us(&c->latency, 0.5),
           (unsigned long long)hist_percentile_us(&c->latency, 0.99),
           (unsigned long long)hist_percentile_us(&c->latency, 0.999),
           (unsigned long long)c->latency.max_us);
}

static void report(const struct load *l, double seconds, double cpu)
{
    uint64_t lane_gap = 0;

    for (uint32_t i = 0; i < l->lanes; i++)
        if (l->lane[i].longest_gap_us > lane_gap)
            lane_gap = l->lane[i].longest_gap_us;
    if (json)
        printf("{");
    print_counts("set", &l->set, seconds);
    print_counts("get", &l->get, seconds);
    printf(
        json ? "\"seconds\": %.3f, \"client_cpu\": %.3f, \"gap_us\": %llu, \"gap_at_us\": %llu, "
               "\"lane_gap_us\": %llu, \"lost\": %lld"
             : "%.3f s, client CPU %.3f s; longest gap between successful writes %llu us (at %llu "
               "us), of one client %llu us; acknowledged writes lost: %lld\n",
        seconds, cpu, (unsigned long long)l->longest_gap_us,
        (unsigned long long)l->longest_gap_at_us, (unsigned long long)lane_gap,
        verify ? (long long)l->lost : -1LL);
    for (const struct reason *r = l->reasons; !json && r < l->reasons + LOAD_REASONS; r++)
        if (r->count > 0)
            printf("%llu times %s; ", (unsigned long long)r->count, r->word);
    if (!json) {
        printf("%llu connections broke\n", (unsigned long long)l->broken);
        return;
    }
    printf(", \"broken\": %llu, \"reasons\": {", (unsigned long long)l->broken);
    for (int i = 0, said = 0; i < LOAD_REASONS; i++)
        if (l->reasons[i].count > 0)
            printf("%s\"%s\": %llu", said++ > 0 ? ", " : "", l->reasons[i].word,
                   (unsigned long long)l->reasons[i].count);
    printf("}}\n");
}

static void add_endpoint(struct load *l, const char *text)
{
    struct endpoint *e = &l->endpoints[l->endpoint_count];
    unsigned port;

    if (l->endpoint_count == LOAD_ENDPOINTS || sscanf(text, "%63[^:]:%u", e->host, &port) != 2) {
        fputs(usage, stderr);
        exit(2);
    }
    e->port = (uint16_t)port;
    l->endpoint_count++;
}

static void add_happening(const char *text)
{
    char *colon;

    if (happening_count == EVENTS)
        return;
    happenings[happening_count].at = strtod(text, &colon);
    if (*colon != ':') {
        fputs(usage, stderr);
        exit(2);
    }
    happenings[happening_count++].command = colon + 1;
}

static const struct option options[] = {{"protocol", 1, 0, 'p'}, {"cluster", 0, 0, 'c'},
                                        {"clients", 1, 0, 'n'},  {"depth", 1, 0, 'd'},
                                        {"set", 1, 0, 's'},      {"keys", 1, 0, 'k'},
                                        {"size", 1, 0, 'z'},     {"requests", 1, 0, 'r'},
                                        {"seconds", 1, 0, 't'},  {"rate", 1, 0, 'a'},
                                        {"fill", 0, 0, 'f'},     {"unique", 0, 0, 'u'},
                                        {"verify", 0, 0, 'v'},   {"wait", 1, 0, 'w'},
                                        {"retry", 0, 0, 'y'},    {"timeout", 1, 0, 'o'},
                                        {"patience", 1, 0, 'P'}, {"at", 1, 0, 'A'},
                                        {"from", 1, 0, 'F'},     {"json", 0, 0, 'j'},
                                        {"help", 0, 0, 'h'},     {0, 0, 0, 0}};

static void set_number(struct load *l, int c, const char *text)
{
    unsigned long long n = strtoull(text, NULL, 10);

    switch (c) {
    case 'n':
        l->lanes = (uint32_t)n;
        break;
    case 'd':
        l->depth = n < LOAD_DEPTH ? (uint32_t)n : LOAD_DEPTH;
        break;
    case 's':
        l->set_share = (uint32_t)n;
        break;
    case 'k':
        l->keys = n;
        break;
    case 'z':
        l->value_bytes = n < LOAD_VALUE ? (uint32_t)n : LOAD_VALUE;
        break;
    case 'r':
        l->requests = n;
        break;
    case 'a':
        l->rate = n;
        break;
    case 'F':
        l->next_unique = l->verify_next = n;
        break;
    case 'w':
        l->wait_replicas = (uint32_t)n;
        break;
    case 'o':
        l->timeout_us = n * 1000;
        break;
    case 'P':
        l->patience_us = n * 1000;
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void parse(struct load *l, int argc, char **argv)
{
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            l->protocol = strcmp(optarg, "etcd") == 0 ? protocol_etcd() : &protocol_resp;
            break;
        case 'c':
            l->cluster = true;
            break;
        case 'f':
            fill = true;
            break;
        case 'u':
            l->unique = true;
            break;
        case 'v':
            verify = true;
            break;
        case 'y':
            l->retry = true;
            break;
        case 'j':
            json = true;
            break;
        case 't':
            l->seconds = atof(optarg);
            break;
        case 'A':
            add_happening(optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            set_number(l, c, optarg == NULL ? "" : optarg);
        }
    }
    while (optind < argc)
        add_endpoint(l, argv[optind++]);
    if (l->endpoint_count == 0 || l->lanes == 0 || l->depth == 0 || l->keys == 0) {
        fputs(usage, stderr);
        exit(2);
    }
    if (l->protocol == NULL) {
        fputs("bench-load: built without nghttp2 (libnghttp2-dev): no etcd\n", stderr);
        exit(77);
    }
    if (l->requests == 0 && l->seconds == 0 && !l->unique && !verify)
        l->seconds = 10;
    if (l->timeout_us == 0)
        l->timeout_us = l->retry ? 100000 : 10000000;
}

static void prepare(struct load *l)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_terminate);
    l->loop = loop_new();
    l->lane = calloc(l->lanes, sizeof *l->lane);
    l->value = malloc(LOAD_VALUE);
    l->acknowledged = calloc(1, l->keys / 8 + 1);
    ASSERT(l->loop != NULL && l->lane != NULL && l->value != NULL && l->acknowledged != NULL);
    rand_seed(&l->rand, 1);
    for (uint32_t i = 0; i < LOAD_VALUE; i++)
        l->value[i] = (uint8_t)('a' + rand_below(&l->rand, 26));
    for (uint32_t i = 0; i < l->lanes; i++) {
        l->lane[i].load = l;
        l->lane[i].index = i;
    }
    if (verify && !l->unique) {
        memset(l->acknowledged, 0xff, l->keys / 8 + 1);
        l->next_unique = l->keys;
    }
    if (l->cluster)
        resp_load_slots(l);
}

int main(int argc, char **argv)
{
    struct load *l = &the_load;
    double seconds, cpu;

    *l = (struct load){.protocol = &protocol_resp,
                       .lanes = 50,
                       .depth = 1,
                       .set_share = 100,
                       .keys = 1000000,
                       .value_bytes = 100,
                       .patience_us = 10000000};
    parse(l, argc, argv);
    prepare(l);
    loop_turn(l->loop, 0);
    if (fill) {
        l->filling = true;
        run_phase(l);
        l->filling = false;
    }
    for (int i = 0; i < happening_count; i++)
        loop_arm(l->loop, &happenings[i].timer,
                 loop_now_us(l->loop) + (uint64_t)(happenings[i].at * 1e6), on_happening,
                 &happenings[i]);
    cpu = cpu_seconds();
    if (l->unique || !verify)
        run_phase(l);
    seconds = (double)(l->end_us - l->start_us) / 1e6;
    cpu = cpu_seconds() - cpu;
    for (int i = 0; i < happening_count; i++)
        if (happenings[i].pid > 0)
            waitpid(happenings[i].pid, NULL, 0);
    if (verify) {
        l->verifying = true;
        l->retry = true;
        run_phase(l);
    }
    report(l, seconds, cpu);
    return l->set.failed + l->get.failed + l->lost > 0;
}
