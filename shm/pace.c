/* Work in the background yields to clients. */
#include "shm/pace.h"

#include <string.h>

enum {
    ENOUGH = 50,    /* requests that say something */
    NOISE_US = 500, /* what is quicker than this is at rest */
};

static const enum worker_hist watched[] = {
    WORKER_HIST_GET_LOCAL, WORKER_HIST_GET_COORDINATED, WORKER_HIST_GET_FORWARDED,
    WORKER_HIST_PUT_LOCAL, WORKER_HIST_PUT_COORDINATED, WORKER_HIST_PUT_FORWARDED,
};

void pace_recent(struct hist *before, const struct worker_body *body, struct hist *out)
{
    static struct hist now, difference;

    memset(&now, 0, sizeof now);
    for (size_t h = 0; h < sizeof watched / sizeof watched[0]; h++)
        hist_merge(&now, &body->hists[watched[h]].hist);
    /* A worker that has been replaced begins anew. */
    if (atomic_load(&now.count) >= atomic_load(&before->count)) {
        hist_difference(&difference, &now, before);
        hist_merge(out, &difference);
    }
    memcpy(before, &now, sizeof now);
}

bool pace_step(struct pace *p, const struct hist *recent, bool working, uint64_t least,
               uint64_t most)
{
    uint64_t p99 = hist_percentile_us(recent, 0.99);

    if (p->budget == 0 || p->budget > most)
        p->budget = most;
    if (atomic_load(&recent->count) < ENOUGH) {
        p->budget = most;
    } else if (!working) {
        p->rest_us = p->rest_us == 0 ? p99 : (3 * p->rest_us + p99) / 4;
        p->budget = most;
    } else if (p99 > NOISE_US && p->rest_us > 0 && 2 * p99 > 3 * p->rest_us) {
        p->budget = p->budget / 2 > least ? p->budget / 2 : least < most ? least : most;
        return true;
    } else {
        /* What is quick in spite of the work was at rest before it at the latest. */
        if (p99 < p->rest_us)
            p->rest_us = (3 * p->rest_us + p99) / 4;
        p->budget = p->budget + p->budget / 4 < most ? p->budget + p->budget / 4 : most;
    }
    return false;
}
