/* The ring in the words of Redis Cluster. Runs in workers; only reads the ring view. */
#include "workers/cluster_map.h"

#include "base/hash.h"
#include "workers/route.h"

#include <stdio.h>
#include <string.h>

static bool build_map(const struct engine *e, struct cluster_map *map)
{
    if (e->view == NULL || e->view->epoch == 0)
        return false;
    map->view = e->view;
    map->partitions = 1u << e->view->q_bits;
    map->slots_each = LIMIT_SLOTS >> e->view->q_bits;
    memset(map->first, 0xff, sizeof map->first);
    for (uint32_t p = 0; p < map->partitions; p++) {
        uint16_t slot = (uint16_t)(p * map->slots_each);

        if (!route_slot(e, slot, &map->member[p], &map->worker[p]))
            return false;
        uint32_t at = map->member[p] * LIMIT_WORKERS + map->worker[p];
        map->next[p] = CLUSTER_MAP_NONE;
        if (map->first[at] == CLUSTER_MAP_NONE)
            map->first[at] = (uint16_t)p;
        else
            map->next[map->last[at]] = (uint16_t)p;
        map->last[at] = (uint16_t)p;
    }
    return true;
}

const struct cluster_map *cluster_map_now(const struct engine *e)
{
    static struct cluster_map map;

    return build_map(e, &map) ? &map : NULL;
}

void cluster_map_worker_id(const struct member *m, uint16_t worker, char out[CLUSTER_MAP_ID])
{
    char node[2 * NODE_ID_BYTES + 1];

    node_id_format(&m->id, node);
    snprintf(out, CLUSTER_MAP_ID, "%s%08x", node, worker);
}

bool cluster_map_next_run(const struct cluster_map *map, uint16_t *partition, uint32_t *start,
                          uint32_t *end)
{
    uint16_t p = *partition;

    if (p == CLUSTER_MAP_NONE)
        return false;
    *start = p * map->slots_each;
    while (map->next[p] == p + 1)
        p++;
    *end = (p + 1u) * map->slots_each - 1;
    *partition = map->next[p];
    return true;
}

void cluster_map_replica_id(const struct cluster_map *map, uint32_t p, const struct member *m,
                            uint16_t worker, char out[CLUSTER_MAP_ID])
{
    char both[2 * CLUSTER_MAP_ID];

    cluster_map_worker_id(m, worker, both);
    cluster_map_worker_id(&map->view->members[map->member[p]], map->worker[p],
                          both + CLUSTER_MAP_ID);
    struct hash128 h = hash128(both, sizeof both);
    snprintf(out, CLUSTER_MAP_ID, "%016llx%016llx%08x", (unsigned long long)h.high,
             (unsigned long long)h.low, (uint32_t)hash64(both, sizeof both));
}

bool cluster_map_next_replica(const struct engine *e, const struct cluster_map *map, uint32_t p,
                              unsigned *i, uint16_t *member, uint16_t *worker)
{
    const struct ring_walk *walk = &e->index->walk[p];

    while (e->conf.advertise_replicas && *i < walk->primaries) {
        *member = walk->member[(*i)++];
        if (*member == map->member[p] || !cluster_map_is_up(&map->view->members[*member]))
            continue;
        *worker = ring_worker_of(p, map->view->members[*member].workers);
        return true;
    }
    return false;
}

void cluster_map_each_replica(const struct engine *e, const struct cluster_map *map, uint32_t at,
                              cluster_map_replica_fn *fn, void *arg)
{
    static uint64_t met[CLUSTER_MAP_WORKERS / 64];
    uint16_t member, worker;

    if (!e->conf.advertise_replicas)
        return;
    memset(met, 0, sizeof met);
    for (uint16_t p = map->first[at]; p != CLUSTER_MAP_NONE; p = map->next[p]) {
        for (unsigned i = 0; cluster_map_next_replica(e, map, p, &i, &member, &worker);) {
            uint32_t one = member * LIMIT_WORKERS + worker;

            if (met[one / 64] & 1ull << one % 64)
                continue;
            met[one / 64] |= 1ull << one % 64;
            fn(arg, map, p, member, worker);
        }
    }
}
