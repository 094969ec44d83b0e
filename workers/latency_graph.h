/* LATENCY GRAPH: the spikes of one event as a picture of characters, in the form of Redis's
 * (https://redis.io/docs/latest/commands/latency-graph/). Runs in workers; pure. */
#ifndef CLOCKWISE_WORKERS_LATENCY_GRAPH_H
#define CLOCKWISE_WORKERS_LATENCY_GRAPH_H

#include "workers/resp_reply.h"

struct latency_sample {
    int event; /* enum activity_event */
    uint64_t wall_s;
    uint32_t ms, max_ms; /* of this second, and of all time */
};

/* Append title and picture to text: at least one sample, oldest first. */
void latency_graph_write(struct resp_out *text, const char *event,
                         const struct latency_sample *samples, size_t count, uint64_t wall_s);

#endif
