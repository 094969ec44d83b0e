/* The budget of anti-entropy, cut while clients have to wait for its sake: requests' 99th percentile
 * of the last while against what it was at rest: half as much again is too much, so that it stays below
 * twice as much over all. Runs in antientropyd; reads the workers' segments. */
#include "antientropyd/antientropyd.h"

enum {
    ENOUGH = 50,     /* requests that say something */
    LEAST = 2 << 20, /* bytes a second that are left in any case */
    NOISE_US = 500,  /* what is quicker than this is at rest */
};

static const enum worker_hist watched[] = {
    WORKER_HIST_GET_LOCAL, WORKER_HIST_GET_COORDINATED, WORKER_HIST_GET_FORWARDED,
    WORKER_HIST_PUT_LOCAL, WORKER_HIST_PUT_COORDINATED, WORKER_HIST_PUT_FORWARDED,
};

static bool is_working(const struct antientropyd *a)
{
    for (int i = 0; i < SESSIONS; i++)
        if (a->sessions[i].state != SESSION_FREE)
            return true;
    return false;
}

/* The requests since the last look, all workers together. */
static void since_last(struct antientropyd *a, struct hist *out)
{
    static struct hist now, difference;

    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < a->conf.node.workers; i++) {
        if (!segment_mapped(&a->workers[i].segment))
            continue;
        memset(&now, 0, sizeof now);
        for (size_t h = 0; h < sizeof watched / sizeof watched[0]; h++)
            hist_merge(&now, &a->workers[i].body->hists[watched[h]].hist);
        /* A worker that has been replaced begins anew. */
        if (atomic_load(&now.count) >= atomic_load(&a->before[i].count)) {
            hist_difference(&difference, &now, &a->before[i]);
            hist_merge(out, &difference);
        }
        memcpy(&a->before[i], &now, sizeof now);
    }
}

void pace_tick(struct antientropyd *a)
{
    static struct hist recent;
    uint64_t most = a->conf.limits.repair_bandwidth_bytes, p99;

    since_last(a, &recent);
    p99 = hist_percentile_us(&recent, 0.99);
    if (a->budget == 0 || a->budget > most)
        a->budget = most;
    if (atomic_load(&recent.count) < ENOUGH) {
        a->budget = most;
    } else if (!is_working(a)) {
        a->rest_us = a->rest_us == 0 ? p99 : (3 * a->rest_us + p99) / 4;
        a->budget = most;
    } else if (p99 > NOISE_US && a->rest_us > 0 && 2 * p99 > 3 * a->rest_us) {
        a->budget = a->budget / 2 > LEAST ? a->budget / 2 : LEAST < most ? LEAST : most;
        counter_add(a->counters, CTR_repair_yields, 1);
    } else {
        a->budget = a->budget + a->budget / 4 < most ? a->budget + a->budget / 4 : most;
    }
    peers_budget(a->peers, a->budget);
}
