/* CLUSTER: the ring in the words of Redis Cluster, where each worker of each node is a master of the
 * slots whose first replica it holds. Runs in workers; only reads the ring view. */
#include "workers/cmd.h"
#include "workers/route.h"

#include <stdio.h>

#define NOBODY      UINT16_MAX
#define WORKER_ID   41 /* 40 hex digits and a final 0 */
#define WORKER_SLOT (LIMIT_MEMBERS * LIMIT_WORKERS)

/* Who serves each partition, as lists by worker. */
struct cluster_map {
    const struct ring_view *view;
    uint32_t partitions;
    uint32_t slots_each;
    uint16_t member[LIMIT_PARTITIONS], worker[LIMIT_PARTITIONS];
    uint16_t next[LIMIT_PARTITIONS]; /* the next partition of the same worker */
    uint16_t first[WORKER_SLOT], last[WORKER_SLOT];
};

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
        map->next[p] = NOBODY;
        if (map->first[at] == NOBODY)
            map->first[at] = (uint16_t)p;
        else
            map->next[map->last[at]] = (uint16_t)p;
        map->last[at] = (uint16_t)p;
    }
    return true;
}

static struct cluster_map *the_map(const struct engine *e)
{
    static struct cluster_map map;

    return build_map(e, &map) ? &map : NULL;
}

static void worker_id(const struct member *m, uint16_t worker, char out[WORKER_ID])
{
    char node[2 * NODE_ID_BYTES + 1];

    node_id_format(&m->id, node);
    snprintf(out, WORKER_ID, "%s%08x", node, worker);
}

static bool is_up(const struct member *m)
{
    return m->state <= MEMBER_SUSPECT;
}

/* The worker's runs of slots: *partition is the start of a run and becomes that of the next one. */
static bool next_run(const struct cluster_map *map, uint16_t *partition, uint32_t *start,
                     uint32_t *end)
{
    uint16_t p = *partition;

    if (p == NOBODY)
        return false;
    *start = p * map->slots_each;
    while (map->next[p] == p + 1)
        p++;
    *end = (p + 1u) * map->slots_each - 1;
    *partition = map->next[p];
    return true;
}

static size_t count_runs(const struct cluster_map *map, uint32_t at)
{
    uint16_t p = map->first[at];
    uint32_t start, end;
    size_t n = 0;

    while (next_run(map, &p, &start, &end))
        n++;
    return n;
}

static void write_worker(struct resp_out *out, const struct member *m, uint16_t worker)
{
    char id[WORKER_ID];

    worker_id(m, worker, id);
    resp_array(out, 4);
    resp_text(out, m->address);
    resp_integer(out, m->worker_port + worker);
    resp_text(out, id);
    resp_array(out, 0);
}

/* The other workers that serve reads of a partition, if they are told at all; returns how many. out may
 * be NULL: count only. */
static size_t write_replicas(const struct engine *e, const struct cluster_map *map, uint32_t p,
                             struct resp_out *out)
{
    const struct ring_walk *walk = &e->index->walk[p];
    size_t count = 0;

    for (unsigned i = 0; e->conf.advertise_replicas && i < walk->primaries; i++) {
        const struct member *m = &map->view->members[walk->member[i]];

        if (walk->member[i] == map->member[p] || !is_up(m))
            continue;
        count++;
        if (out != NULL)
            write_worker(out, m, ring_worker_of(p, m->workers));
    }
    return count;
}

enum call_result cmd_cluster_slots(struct call *call)
{
    const struct cluster_map *map = the_map(call->engine);
    struct resp_out *out = call_out(call);
    struct resp_out list;
    size_t runs = 0;
    uint32_t end;

    resp_init(&list);
    for (uint32_t p = 0; map != NULL && p < map->partitions; p = end) {
        const struct member *m = &map->view->members[map->member[p]];

        /* With replicas each partition is told by itself: theirs differ. */
        for (end = p + 1; !call->engine->conf.advertise_replicas && end < map->partitions &&
                          map->member[end] == map->member[p] && map->worker[end] == map->worker[p];)
            end++;
        size_t replicas = write_replicas(call->engine, map, p, NULL);
        resp_array(&list, 3 + replicas);
        resp_integer(&list, p * map->slots_each);
        resp_integer(&list, (int64_t)end * map->slots_each - 1);
        write_worker(&list, m, map->worker[p]);
        write_replicas(call->engine, map, p, &list);
        runs++;
    }
    resp_array(out, runs);
    resp_take(out, &list);
    return CALL_DONE;
}

static void write_shard(struct resp_out *out, const struct cluster_map *map, const struct member *m,
                        uint16_t worker, uint32_t at)
{
    uint16_t p = map->first[at];
    uint32_t start, end;
    char id[WORKER_ID];

    worker_id(m, worker, id);
    resp_map(out, 2);
    resp_text(out, "slots");
    resp_array(out, 2 * count_runs(map, at));
    while (next_run(map, &p, &start, &end)) {
        resp_integer(out, start);
        resp_integer(out, end);
    }
    resp_text(out, "nodes");
    resp_array(out, 1);
    resp_map(out, 7);
    resp_text(out, "id");
    resp_text(out, id);
    resp_text(out, "port");
    resp_integer(out, m->worker_port + worker);
    resp_text(out, "ip");
    resp_text(out, m->address);
    resp_text(out, "endpoint");
    resp_text(out, m->address);
    resp_text(out, "role");
    resp_text(out, "master");
    resp_text(out, "replication-offset");
    resp_integer(out, 0);
    resp_text(out, "health");
    resp_text(out, "online");
}

enum call_result cmd_cluster_shards(struct call *call)
{
    const struct cluster_map *map = the_map(call->engine);
    struct resp_out *out = call_out(call);
    size_t workers = 0;

    for (uint16_t i = 0; map != NULL && i < map->view->member_count; i++)
        workers += is_up(&map->view->members[i]) ? map->view->members[i].workers : 0;
    resp_array(out, workers);
    for (uint16_t i = 0; map != NULL && i < map->view->member_count; i++) {
        const struct member *m = &map->view->members[i];

        for (uint16_t w = 0; is_up(m) && w < m->workers; w++)
            write_shard(out, map, m, w, i * LIMIT_WORKERS + w);
    }
    return CALL_DONE;
}

enum call_result cmd_cluster_nodes(struct call *call)
{
    const struct cluster_map *map = the_map(call->engine);
    struct resp_out text;

    resp_init(&text);
    for (uint16_t i = 0; map != NULL && i < map->view->member_count; i++) {
        const struct member *m = &map->view->members[i];

        for (uint16_t w = 0; is_up(m) && w < m->workers; w++) {
            bool myself = i == map->view->self && w == call->engine->worker;
            uint16_t p = map->first[i * LIMIT_WORKERS + w];
            uint32_t start, end;
            char id[WORKER_ID];

            worker_id(m, w, id);
            resp_printf(&text, "%s %s:%u@%u %smaster - 0 0 %llu connected", id, m->address,
                        m->worker_port + w, m->peer_port + w, myself ? "myself," : "",
                        (unsigned long long)map->view->epoch);
            while (next_run(map, &p, &start, &end))
                resp_printf(&text, start == end ? " %u" : " %u-%u", start, end);
            resp_raw(&text, "\n", 1);
        }
    }
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

enum call_result cmd_cluster_info(struct call *call)
{
    const struct ring_view *v = call->engine->view;
    bool ready = the_map(call->engine) != NULL;
    unsigned workers = 0;
    unsigned long long epoch = ready ? v->epoch : 0;
    char text[512];

    for (uint16_t i = 0; ready && i < v->member_count; i++)
        workers += is_up(&v->members[i]) ? v->members[i].workers : 0;
    snprintf(text, sizeof text,
             "cluster_state:%s\r\ncluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\n"
             "cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:%u\r\n"
             "cluster_size:%u\r\ncluster_current_epoch:%llu\r\ncluster_my_epoch:%llu\r\n"
             "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
             "total_cluster_links_buffer_limit_exceeded:0\r\n",
             ready ? "ok" : "fail", ready ? LIMIT_SLOTS : 0, ready ? LIMIT_SLOTS : 0, workers,
             workers, epoch, epoch);
    resp_verbatim(call_out(call), "txt", slice_str(text));
    return CALL_DONE;
}

enum call_result cmd_cluster_myid(struct call *call)
{
    const struct ring_view *v = call->engine->view;
    char id[WORKER_ID];

    if (v == NULL || v->self >= v->member_count)
        return call_error(call, "CLUSTERDOWN there is no ring yet");
    worker_id(&v->members[v->self], call->engine->worker, id);
    resp_text(call_out(call), id);
    return CALL_DONE;
}

enum call_result cmd_cluster_keyslot(struct call *call)
{
    resp_integer(call_out(call), position_slot_of_key(call->argv[2]));
    return CALL_DONE;
}

enum call_result cmd_cluster_none(struct call *call)
{
    resp_array(call_out(call), 0);
    return CALL_DONE;
}

enum call_result cmd_cluster_managed(struct call *call)
{
    return call_error(call,
                      "ERR the ring is not managed by clients: use `clockwise cluster` on any "
                      "node");
}

/* Is argument 2 the id of a worker that is up? Replies Redis's error and returns false if not. */
static bool known_worker(struct call *call)
{
    const struct ring_view *v = call->engine->view;
    char id[WORKER_ID];

    for (uint16_t i = 0; v != NULL && i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        for (uint16_t w = 0; is_up(m) && w < m->workers; w++) {
            worker_id(m, w, id);
            if (slice_equal(call->argv[2], slice_str(id)))
                return true;
        }
    }
    call_errorf(call, "ERR Unknown node %.*s",
                (int)(call->argv[2].len < 64 ? call->argv[2].len : 64), call->argv[2].data);
    return false;
}

enum call_result cmd_cluster_replicas(struct call *call)
{
    return known_worker(call) ? cmd_cluster_none(call) : CALL_DONE;
}

enum call_result cmd_cluster_failure_reports(struct call *call)
{
    if (known_worker(call))
        resp_integer(call_out(call), 0);
    return CALL_DONE;
}
