/* What build/gossip-sim measures, of clusters of one size. All times are virtual. */
#ifndef CLOCKWISE_TESTS_GOSSIP_MEASURE_H
#define CLOCKWISE_TESTS_GOSSIP_MEASURE_H

#include "tests/unit/member_kit.h"

#define DEAF_APART_US (5 * SECOND)
#define MEASURE_MOST  5000 /* samples of one kind */

struct measure_options {
    unsigned nodes;
    uint32_t loss;                     /* of datagrams, per million */
    uint64_t pause_us, pause_every_us; /* 0: none; mean time between two of one node */
    bool deaf; /* datagrams to frozen nodes are lost; each runs for DEAF_APART_US in between */
    double node_hours;
    unsigned kills, changes;
    uint64_t seed;
};

struct measure_samples {
    unsigned count;
    uint64_t us[MEASURE_MOST];
};

struct measure {
    /* At rest: bytes that a node sends in a second, envelopes included; in datagrams, in streams. */
    double datagram_bytes, stream_bytes, datagrams;
    struct measure_samples first, all; /* from a kill until somebody, until all, say faulty */
    struct measure_samples spread;     /* from a change at one node until all know of it */
    double node_hours;                 /* of all of these together, and of the long run */
    double long_hours;                 /* of the long run alone */
    uint64_t long_suspicions;          /* in it */
    uint64_t pauses, false_verdicts, suspicions, refutations, unhealed;
};

/* A cluster that is up and knows itself. NULL without memory. Ended by measure_end(). */
struct cluster;
struct cluster *measure_begin(const struct measure_options *o, struct measure *out);
void measure_end(struct cluster *c);

void measure_rest(struct cluster *c);
void measure_kills(struct cluster *c);
void measure_changes(struct cluster *c);
void measure_long_run(struct cluster *c);

/* The sample that `percent` of all do not exceed. */
uint64_t measure_percentile(struct measure_samples *s, unsigned percent);

#endif
