/* The ring in the words of Redis Cluster: which worker is the master of which slots, and which workers are
 * its replicas, where those are advertised. Used by the CLUSTER commands; one thread; nothing is kept. */
#ifndef CLOCKWISE_WORKERS_CLUSTER_MAP_H
#define CLOCKWISE_WORKERS_CLUSTER_MAP_H

#include "workers/engine.h"

#define CLUSTER_MAP_NONE    UINT16_MAX
#define CLUSTER_MAP_ID      41 /* 40 hex digits and a final 0 */
#define CLUSTER_MAP_WORKERS (LIMIT_MEMBERS * LIMIT_WORKERS)

/* Who serves each partition, as lists by worker. A worker's index is member * LIMIT_WORKERS + worker. */
struct cluster_map {
    const struct ring_view *view;
    uint32_t partitions;
    uint32_t slots_each;
    uint16_t member[LIMIT_PARTITIONS], worker[LIMIT_PARTITIONS];
    uint16_t next[LIMIT_PARTITIONS]; /* the next partition of the same worker */
    uint16_t first[CLUSTER_MAP_WORKERS], last[CLUSTER_MAP_WORKERS];
};

/* The map of this moment, valid until the next call; NULL if there is no ring yet. */
const struct cluster_map *cluster_map_now(const struct engine *e);

/* Those who are not are left out of the map. */
static inline bool cluster_map_is_up(const struct member *m)
{
    return m->state <= MEMBER_SUSPECT;
}

/* The id of a worker; and of one in its part as a replica of the master of partition p. */
void cluster_map_worker_id(const struct member *m, uint16_t worker, char out[CLUSTER_MAP_ID]);
void cluster_map_replica_id(const struct cluster_map *map, uint32_t p, const struct member *m,
                            uint16_t worker, char out[CLUSTER_MAP_ID]);

/* The worker's runs of slots: *partition is the start of a run and becomes that of the next one. */
bool cluster_map_next_run(const struct cluster_map *map, uint16_t *partition, uint32_t *start,
                          uint32_t *end);

/* The next of the other workers that serve reads of a partition, if they are told at all; *i is where
 * to look on. */
bool cluster_map_next_replica(const struct engine *e, const struct cluster_map *map, uint32_t p,
                              unsigned *i, uint16_t *member, uint16_t *worker);

/* Call back for each replica of a worker: once, with a partition that it holds, however many it does. */
typedef void cluster_map_replica_fn(void *arg, const struct cluster_map *map, uint32_t p,
                                    uint16_t member, uint16_t worker);
void cluster_map_each_replica(const struct engine *e, const struct cluster_map *map, uint32_t at,
                              cluster_map_replica_fn *fn, void *arg);

#endif
