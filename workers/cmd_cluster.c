/* CLUSTER: the ring in the words of Redis Cluster, where each worker of each node is a master of the
 * slots whose first replica it holds. Where replicas are advertised, a worker is told of once more, by
 * another id, for each master of which it holds slots. Runs in workers; only reads the ring view. */
#include "workers/cluster_map.h"
#include "workers/cmd.h"

#include <stdio.h>

static size_t count_runs(const struct cluster_map *map, uint32_t at)
{
    uint16_t p = map->first[at];
    uint32_t start, end;
    size_t n = 0;

    while (cluster_map_next_run(map, &p, &start, &end))
        n++;
    return n;
}

static size_t count_replicas(const struct engine *e, const struct cluster_map *map, uint32_t p)
{
    uint16_t member, worker;
    unsigned i = 0;
    size_t count = 0;

    while (cluster_map_next_replica(e, map, p, &i, &member, &worker))
        count++;
    return count;
}

static void write_worker(struct resp_out *out, const struct member *m, uint16_t worker,
                         const char *id)
{
    resp_array(out, 4);
    resp_text(out, m->address);
    resp_integer(out, m->worker_port + worker);
    resp_text(out, id);
    resp_array(out, 0);
}

/* The partitions from p on that are told as one run; returns where the next begins. With replicas each
 * is told by itself: theirs differ. */
static uint32_t run_end(const struct engine *e, const struct cluster_map *map, uint32_t p)
{
    uint32_t end = p + 1;

    while (!e->conf.advertise_replicas && end < map->partitions &&
           map->member[end] == map->member[p] && map->worker[end] == map->worker[p])
        end++;
    return end;
}

enum call_result cmd_cluster_slots(struct call *call)
{
    const struct engine *e = call->engine;
    const struct cluster_map *map = cluster_map_now(e);
    struct resp_out *out = call_out(call);
    struct resp_out list;
    uint16_t member, worker;
    char id[CLUSTER_MAP_ID];
    size_t runs = 0;
    uint32_t end;

    resp_init(&list);
    for (uint32_t p = 0; map != NULL && p < map->partitions; p = end) {
        const struct member *m = &map->view->members[map->member[p]];

        end = run_end(e, map, p);
        resp_array(&list, 3 + count_replicas(e, map, p));
        resp_integer(&list, p * map->slots_each);
        resp_integer(&list, (int64_t)end * map->slots_each - 1);
        cluster_map_worker_id(m, map->worker[p], id);
        write_worker(&list, m, map->worker[p], id);
        for (unsigned i = 0; cluster_map_next_replica(e, map, p, &i, &member, &worker);) {
            m = &map->view->members[member];
            cluster_map_replica_id(map, p, m, worker, id);
            write_worker(&list, m, worker, id);
        }
        runs++;
    }
    resp_array(out, runs);
    resp_take(out, &list);
    return CALL_DONE;
}

static void write_shard_node(struct resp_out *out, const struct member *m, uint16_t worker,
                             const char *id, const char *role)
{
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
    resp_text(out, role);
    resp_text(out, "replication-offset");
    resp_integer(out, 0);
    resp_text(out, "health");
    resp_text(out, "online");
}

static void write_shard(struct resp_out *out, const struct cluster_map *map, const struct member *m,
                        uint16_t worker, uint32_t at)
{
    uint16_t p = map->first[at];
    uint32_t start, end;
    char id[CLUSTER_MAP_ID];

    cluster_map_worker_id(m, worker, id);
    resp_map(out, 2);
    resp_text(out, "slots");
    resp_array(out, 2 * count_runs(map, at));
    while (cluster_map_next_run(map, &p, &start, &end)) {
        resp_integer(out, start);
        resp_integer(out, end);
    }
    resp_text(out, "nodes");
    resp_array(out, 1);
    write_shard_node(out, m, worker, id, "master");
}

/* A partition by itself, with its replicas. */
static void write_partition(struct resp_out *out, const struct engine *e,
                            const struct cluster_map *map, uint32_t p)
{
    const struct member *m = &map->view->members[map->member[p]];
    uint16_t member, worker;
    char id[CLUSTER_MAP_ID];

    resp_map(out, 2);
    resp_text(out, "slots");
    resp_array(out, 2);
    resp_integer(out, p * map->slots_each);
    resp_integer(out, (p + 1u) * map->slots_each - 1);
    resp_text(out, "nodes");
    resp_array(out, 1 + count_replicas(e, map, p));
    cluster_map_worker_id(m, map->worker[p], id);
    write_shard_node(out, m, map->worker[p], id, "master");
    for (unsigned i = 0; cluster_map_next_replica(e, map, p, &i, &member, &worker);) {
        m = &map->view->members[member];
        cluster_map_replica_id(map, p, m, worker, id);
        write_shard_node(out, m, worker, id, "replica");
    }
}

enum call_result cmd_cluster_shards(struct call *call)
{
    const struct engine *e = call->engine;
    const struct cluster_map *map = cluster_map_now(e);
    struct resp_out list;
    size_t shards = 0;

    resp_init(&list);
    for (uint16_t i = 0; map != NULL && i < map->view->member_count; i++) {
        const struct member *m = &map->view->members[i];

        for (uint16_t w = 0; cluster_map_is_up(m) && w < m->workers; w++) {
            uint32_t at = i * LIMIT_WORKERS + w;

            if (e->conf.advertise_replicas && map->first[at] != CLUSTER_MAP_NONE)
                continue;
            write_shard(&list, map, m, w, at);
            shards++;
        }
    }
    for (uint32_t p = 0; map != NULL && e->conf.advertise_replicas && p < map->partitions; p++) {
        write_partition(&list, e, map, p);
        shards++;
    }
    resp_array(call_out(call), shards);
    resp_take(call_out(call), &list);
    return CALL_DONE;
}

/* What CLUSTER NODES says of a replica; no line end. */
static void describe_replica(struct resp_out *text, const struct cluster_map *map, uint32_t p,
                             uint16_t member, uint16_t worker)
{
    const struct member *m = &map->view->members[member];
    char id[CLUSTER_MAP_ID], master[CLUSTER_MAP_ID];

    cluster_map_replica_id(map, p, m, worker, id);
    cluster_map_worker_id(&map->view->members[map->member[p]], map->worker[p], master);
    resp_printf(text, "%s %s:%u@%u slave %s 0 0 %llu connected", id, m->address,
                m->worker_port + worker, m->peer_port + worker, master,
                (unsigned long long)map->view->epoch);
}

static void write_replica_line(void *arg, const struct cluster_map *map, uint32_t p,
                               uint16_t member, uint16_t worker)
{
    describe_replica(arg, map, p, member, worker);
    resp_raw(arg, "\n", 1);
}

enum call_result cmd_cluster_nodes(struct call *call)
{
    const struct cluster_map *map = cluster_map_now(call->engine);
    struct resp_out text;

    call->conn->knows_nodes = true;
    resp_init(&text);
    for (uint16_t i = 0; map != NULL && i < map->view->member_count; i++) {
        const struct member *m = &map->view->members[i];

        for (uint16_t w = 0; cluster_map_is_up(m) && w < m->workers; w++) {
            bool myself = i == map->view->self && w == call->engine->worker;
            uint32_t at = i * LIMIT_WORKERS + w;
            uint16_t p = map->first[at];
            uint32_t start, end;
            char id[CLUSTER_MAP_ID];

            cluster_map_worker_id(m, w, id);
            resp_printf(&text, "%s %s:%u@%u %smaster - 0 0 %llu connected", id, m->address,
                        m->worker_port + w, m->peer_port + w, myself ? "myself," : "",
                        (unsigned long long)map->view->epoch);
            while (cluster_map_next_run(map, &p, &start, &end))
                resp_printf(&text, start == end ? " %u" : " %u-%u", start, end);
            resp_raw(&text, "\n", 1);
            cluster_map_each_replica(call->engine, map, at, write_replica_line, &text);
        }
    }
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

static void count_one(void *arg, const struct cluster_map *map, uint32_t p, uint16_t member,
                      uint16_t worker)
{
    (void)map;
    (void)p;
    (void)member;
    (void)worker;
    ++*(unsigned *)arg;
}

enum call_result cmd_cluster_info(struct call *call)
{
    const struct ring_view *v = call->engine->view;
    const struct cluster_map *map = cluster_map_now(call->engine);
    bool ready = map != NULL;
    unsigned workers = 0, replicas = 0;
    unsigned long long epoch = ready ? v->epoch : 0;
    char text[512];

    for (uint16_t i = 0; ready && i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        for (uint16_t w = 0; cluster_map_is_up(m) && w < m->workers; w++, workers++)
            cluster_map_each_replica(call->engine, map, i * LIMIT_WORKERS + w, count_one,
                                     &replicas);
    }
    snprintf(text, sizeof text,
             "cluster_state:%s\r\ncluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\n"
             "cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:%u\r\n"
             "cluster_size:%u\r\ncluster_current_epoch:%llu\r\ncluster_my_epoch:%llu\r\n"
             "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
             "total_cluster_links_buffer_limit_exceeded:0\r\n",
             ready ? "ok" : "fail", ready ? LIMIT_SLOTS : 0, ready ? LIMIT_SLOTS : 0,
             workers + replicas, workers, epoch, epoch);
    resp_verbatim(call_out(call), "txt", slice_str(text));
    return CALL_DONE;
}

enum call_result cmd_cluster_myid(struct call *call)
{
    const struct ring_view *v = call->engine->view;
    char id[CLUSTER_MAP_ID];

    if (v == NULL || v->self >= v->member_count)
        return call_error(call, "CLUSTERDOWN there is no ring yet");
    cluster_map_worker_id(&v->members[v->self], call->engine->worker, id);
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
static bool known_worker(struct call *call, uint32_t *at)
{
    const struct ring_view *v = call->engine->view;
    char id[CLUSTER_MAP_ID];

    for (uint16_t i = 0; v != NULL && i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        for (uint16_t w = 0; cluster_map_is_up(m) && w < m->workers; w++) {
            cluster_map_worker_id(m, w, id);
            *at = i * LIMIT_WORKERS + w;
            if (slice_equal(call->argv[2], slice_str(id)))
                return true;
        }
    }
    call_errorf(call, "ERR Unknown node %.*s",
                (int)(call->argv[2].len < 64 ? call->argv[2].len : 64), call->argv[2].data);
    return false;
}

struct replica_list {
    struct resp_out out;
    size_t count;
};

static void list_replica(void *arg, const struct cluster_map *map, uint32_t p, uint16_t member,
                         uint16_t worker)
{
    struct replica_list *list = arg;
    struct resp_out text;

    resp_init(&text);
    describe_replica(&text, map, p, member, worker);
    resp_bulk(&list->out, slice_of(buf_head(&text.buf), buf_len(&text.buf)));
    list->out.failed |= text.failed;
    resp_free(&text);
    list->count++;
}

enum call_result cmd_cluster_replicas(struct call *call)
{
    const struct cluster_map *map = cluster_map_now(call->engine);
    struct replica_list list = {.count = 0};
    uint32_t at;

    if (!known_worker(call, &at))
        return CALL_DONE;
    resp_init(&list.out);
    if (map != NULL)
        cluster_map_each_replica(call->engine, map, at, list_replica, &list);
    resp_array(call_out(call), list.count);
    resp_take(call_out(call), &list.out);
    return CALL_DONE;
}

enum call_result cmd_cluster_failure_reports(struct call *call)
{
    uint32_t at;

    if (known_worker(call, &at))
        resp_integer(call_out(call), 0);
    return CALL_DONE;
}
