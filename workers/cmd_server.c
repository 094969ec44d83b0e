/* Commands about the node: INFO, ROLE, TIME. Runs in workers. */
#include "workers/cmd.h"
#include "workers/spread.h"

#include <stdio.h>
#include <strings.h>
#include <unistd.h>

typedef unsigned long long ull;

enum call_result cmd_time(struct call *call)
{
    struct resp_out *out = call_out(call);
    char text[24];

    resp_array(out, 2);
    snprintf(text, sizeof text, "%llu", (ull)(call->engine->wall_ms / 1000));
    resp_text(out, text);
    snprintf(text, sizeof text, "%llu", (ull)(call->engine->wall_ms % 1000 * 1000));
    resp_text(out, text);
    return CALL_DONE;
}

enum call_result cmd_lolwut(struct call *call)
{
    struct resp_out text;
    int64_t version;

    if (call->argc >= 3 && call_is(call, 1, "version") && !call_int64(call, 2, &version))
        return call_not_integer(call);
    resp_init(&text);
    resp_printf(&text,
                "     12\n  o  o  o\n o       o\n9o   ~>  o3\n o       o\n  o  o  o\n     6\n\n"
                "Clockwise ver. %s\n",
                CLOCKWISE_VERSION);
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}

enum call_result cmd_role(struct call *call)
{
    struct resp_out *out = call_out(call);

    resp_array(out, 3);
    resp_text(out, "master");
    resp_integer(out, 0);
    resp_array(out, 0);
    return CALL_DONE;
}

void cmd_get_info(struct call *call, struct worker_info *info)
{
    memset(info, 0, sizeof *info);
    info->clients = call->clients->stats;
    info->max_clients = call->engine->conf.max_clients;
    call->engine->info(call->engine->arg, info);
}

/* --- INFO --- */

static void human(uint64_t bytes, char out[16])
{
    static const char units[] = "BKMGT";
    double n = (double)bytes;
    int unit = 0;

    while (n >= 1024 && unit < 4) {
        n /= 1024;
        unit++;
    }
    snprintf(out, 16, unit == 0 ? "%.0f%c" : "%.2f%c", n, units[unit]);
}

static void info_server(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    resp_printf(b,
                "redis_version:%s\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\n"
                "redis_mode:cluster\r\nclockwise_version:%s\r\nos:Linux\r\narch_bits:%zu\r\n"
                "multiplexing_api:epoll\r\nprocess_id:%u\r\nworker_process_id:%d\r\n"
                "process_supervised:clockwised\r\nworkers:%u\r\nworker:%u\r\nrun_id:%s\r\n"
                "tcp_port:%u\r\nserver_time_usec:%llu\r\nuptime_in_seconds:%llu\r\n"
                "uptime_in_days:%llu\r\nhz:10\r\nexecutable:clockwise-worker\r\nconfig_file:%s\r\n",
                CMD_REDIS_VERSION, CLOCKWISE_VERSION, sizeof(void *) * 8, i->node_pid, getpid(),
                i->workers, i->worker, i->worker_id, i->tcp_port,
                (ull)(call->engine->wall_ms * 1000), (ull)i->uptime_s, (ull)(i->uptime_s / 86400),
                i->config_file);
}

static void info_clients(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    (void)call;
    resp_printf(b,
                "connected_clients:%llu\r\ncluster_connections:0\r\nmaxclients:%u\r\n"
                "blocked_clients:0\r\ntracking_clients:0\r\nclients_in_timeout_table:0\r\n"
                "paused_clients:%llu\r\n",
                (ull)i->clients.connected, i->max_clients, (ull)i->clients.paused);
}

static void info_memory(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    char used[16], peak[16], rss[16];

    (void)call;
    human(i->memory_bytes, used);
    human(i->memory_peak_bytes, peak);
    human(i->rss_bytes, rss);
    resp_printf(b,
                "used_memory:%llu\r\nused_memory_human:%s\r\nused_memory_rss:%llu\r\n"
                "used_memory_rss_human:%s\r\nused_memory_peak:%llu\r\nused_memory_peak_human:%s\r\n"
                "used_memory_dataset:%llu\r\nmem_fragmentation_ratio:%.2f\r\n"
                "allocator_frag_ratio:1.00\r\nmem_allocator:libc\r\nactive_defrag_running:0\r\n"
                "lazyfree_pending_objects:0\r\n"
                "maxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n"
                "mem_clients_normal:%llu\r\nwrite_buffer_bytes:%llu\r\nwrite_buffer_limit:%llu\r\n",
                (ull)i->memory_bytes, used, (ull)i->rss_bytes, rss, (ull)i->memory_peak_bytes, peak,
                (ull)i->store_buffer_bytes,
                i->memory_bytes > 0 ? (double)i->rss_bytes / (double)i->memory_bytes : 1.0,
                (ull)i->clients.buffer_bytes, (ull)i->store_buffer_bytes,
                (ull)i->store_buffer_limit);
}

static void info_persistence(struct resp_out *b, const struct call *call,
                             const struct worker_info *i)
{
    (void)call;
    resp_printf(b,
                "loading:0\r\nasync_loading:0\r\nrdb_changes_since_last_save:0\r\n"
                "rdb_last_save_time:0\r\naof_rewrite_in_progress:0\r\n"
                "aof_last_bgrewrite_status:ok\r\n"
                "rdb_bgsave_in_progress:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\n"
                "aof_last_write_status:ok\r\ndurability:%s\r\njournal_bytes:%llu\r\n"
                "journal_records:%llu\r\njournal_syncs:%llu\r\njournal_last_sync_us:%llu\r\n"
                "journal_max_sync_us:%llu\r\nflushes:%llu\r\nflushed_records:%llu\r\n"
                "corrupt_records:%llu\r\nquarantined_vnodes:%llu\r\nvnodes_open:%llu\r\n"
                "disk_full_refusals:%llu\r\npressure_us:%llu\r\n",
                i->durability != NULL ? i->durability : "always", (ull)i->journal_bytes,
                (ull)i->journal_records, (ull)i->journal_syncs, (ull)i->last_sync_us,
                (ull)i->max_sync_us, (ull)i->flushes, (ull)i->flushed_records,
                (ull)i->corrupt_records, (ull)i->quarantined_vnodes, (ull)i->vnodes_open,
                (ull)i->disk_full, (ull)i->pressure_us);
}

/* Of the node, since somebody asked a second ago or more. */
static uint64_t operations_per_second(uint64_t now_us, uint64_t commands)
{
    static uint64_t since_us, before, rate;

    if (now_us < since_us + 1000000)
        return rate;
    if (since_us != 0 && commands >= before)
        rate = (uint64_t)((double)(commands - before) * 1e6 / (double)(now_us - since_us));
    since_us = now_us;
    before = commands;
    return rate;
}

static void info_stats(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    const struct client_stats *s = &i->clients;

    resp_printf(b,
                "total_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
                "instantaneous_ops_per_sec:%llu\r\nsync_full:0\r\nsync_partial_ok:0\r\n"
                "sync_partial_err:0\r\nlatest_fork_usec:0\r\ntracking_total_keys:0\r\n"
                "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\n"
                "rejected_connections:%llu\r\nexpired_keys:%llu\r\nevicted_keys:0\r\n"
                "keyspace_hits:%llu\r\nkeyspace_misses:%llu\r\npubsub_channels:0\r\n"
                "pubsub_patterns:0\r\ntotal_error_replies:%llu\r\nprotocol_errors:%llu\r\n"
                "slow_readers:%llu\r\nauth_failures:%llu\r\nmoved:%llu\r\n"
                "total_reads_processed:%llu\r\ntotal_writes_processed:%llu\r\n"
                "client_pauses:%llu\r\n",
                (ull)s->accepted, (ull)s->commands,
                (ull)operations_per_second(call->engine->now_us, s->commands), (ull)s->input_bytes,
                (ull)s->output_bytes, (ull)s->rejected, (ull)i->expired, (ull)s->hits,
                (ull)s->misses, (ull)s->command_errors, (ull)s->protocol_errors,
                (ull)s->slow_readers, (ull)s->auth_failures, (ull)s->moved, (ull)s->reads,
                (ull)s->writes, (ull)s->pauses);
    resp_printf(b,
                "acl_access_denied_auth:%llu\r\nacl_access_denied_cmd:%llu\r\n"
                "acl_access_denied_key:%llu\r\nacl_access_denied_channel:0\r\n",
                (ull)s->auth_failures, (ull)s->denied_commands, (ull)s->denied_keys);
}

static void info_replication(struct resp_out *b, const struct call *call,
                             const struct worker_info *i)
{
    (void)call;
    (void)i;
    resp_printf(b, "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n"
                   "master_repl_offset:0\r\nrepl_backlog_active:0\r\n");
}

static void info_cpu(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    (void)call;
    resp_printf(b, "used_cpu_sys:%.6f\r\nused_cpu_user:%.6f\r\n", i->cpu_sys, i->cpu_user);
}

static void info_cluster(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    (void)call;
    (void)i;
    resp_printf(b, "cluster_enabled:1\r\n");
}

static void info_keyspace(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    (void)call;
    if (i->keys > 0)
        resp_printf(b, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n", (ull)i->keys, (ull)i->expires);
}

static void info_clockwise(struct resp_out *b, const struct call *call, const struct worker_info *i)
{
    const struct ring_view *v = call->engine->view;
    unsigned alive = 0;

    for (unsigned m = 0; v != NULL && m < v->member_count; m++)
        alive += v->members[m].state == MEMBER_ALIVE;
    resp_printf(b,
                "node_id:%s\r\nring_ready:%d\r\nring_epoch:%llu\r\nring_members:%u\r\nring_members_"
                "alive:%u\r\n"
                "partitions:%u\r\nreplicas:%u\r\nrequests_in_flight:%llu\r\n"
                "coordinated_puts:%llu\r\ncoordinated_gets:%llu\r\nforwarded:%llu\r\n"
                "no_quorum:%llu\r\nunknown_outcomes:%llu\r\nsiblings_seen:%llu\r\n"
                "hints_stored:%llu\r\nhints_delivered:%llu\r\nhints_pending:%llu\r\n"
                "hints_bytes:%llu\r\nhints_oldest_seconds:%llu\r\nhints_overflowed:%llu\r\n"
                "hints_expired:%llu\r\nread_repairs:%llu\r\n",
                i->node_id, i->ring_ready, v != NULL ? (ull)v->epoch : 0,
                v != NULL ? v->member_count : 0, alive, v != NULL ? 1u << v->q_bits : 0,
                v != NULL ? v->n : 0, (ull)i->in_flight, (ull)i->coordinated_puts,
                (ull)i->coordinated_gets, (ull)i->forwarded, (ull)i->no_quorum, (ull)i->unknown,
                (ull)i->siblings_seen, (ull)i->hints_stored, (ull)i->hints_delivered,
                (ull)i->hints_pending, (ull)i->hints_bytes, (ull)i->hints_oldest_s,
                (ull)i->hints_overflowed, (ull)i->hints_expired, (ull)i->read_repairs);
}

static double share(uint64_t part, uint64_t of)
{
    return of == 0 ? 0 : (double)part / (double)of;
}

static void info_antientropy(struct resp_out *b, const struct call *call,
                             const struct worker_info *i)
{
    (void)call;
    resp_printf(b,
                "vnodes_not_whole:%llu\r\nvnodes_surplus:%llu\r\ntombstones:%llu\r\n"
                "tombstones_purged:%llu\r\ndead_dropped:%llu\r\nrepair_rounds:%llu\r\n"
                "repair_agreements:%llu\r\nrepair_failures:%llu\r\nrepair_keys_mended:%llu\r\n"
                "repair_bytes:%llu\r\nrepair_differences:%llu\r\ndifferences_per_round:%.3f\r\n"
                "read_repairs:%llu\r\nread_repair_percent:%.3f\r\nhints_oldest_seconds:%llu\r\n"
                "staleness_seconds:%llu\r\n"
                "verified_records:%llu\r\nverify_passes:%llu\r\nverify_damaged:%llu\r\n",
                (ull)i->not_whole, (ull)i->repair_surplus, (ull)i->tombstones,
                (ull)i->tombstones_purged, (ull)i->dead_dropped, (ull)i->repair_rounds,
                (ull)i->repair_agreements, (ull)i->repair_failures, (ull)i->repair_keys_mended,
                (ull)i->repair_bytes, (ull)i->repair_differences,
                share(i->repair_differences, i->repair_rounds), (ull)i->read_repairs,
                100 * share(i->read_repairs, i->coordinated_gets), (ull)i->hints_oldest_s,
                (ull)i->repair_staleness_s, (ull)i->verify_rows, (ull)i->verify_passes,
                (ull)i->verify_damaged);
}

static const struct info_section {
    const char *name, *title;
    void (*write)(struct resp_out *b, const struct call *call, const struct worker_info *i);
} info_sections[] = {
    {"server", "Server", info_server},
    {"clients", "Clients", info_clients},
    {"memory", "Memory", info_memory},
    {"persistence", "Persistence", info_persistence},
    {"stats", "Stats", info_stats},
    {"replication", "Replication", info_replication},
    {"cpu", "CPU", info_cpu},
    {"cluster", "Cluster", info_cluster},
    {"keyspace", "Keyspace", info_keyspace},
    {"clockwise", "Clockwise", info_clockwise},
    {"antientropy", "Anti-entropy", info_antientropy},
};

/* Sections that tell of all workers; their bits are beyond those of the table. errorstats is one of the
 * usual ones, as in Redis. */
static const struct {
    const char *name, *title;
    void (*write)(const struct pending *p, struct resp_out *text);
    bool usual;
} node_sections[] = {
    {"commandstats", "Commandstats", cmd_write_commandstats, false},
    {"errorstats", "Errorstats", cmd_write_errorstats, true},
    {"latencystats", "Latencystats", cmd_write_latencystats, false},
};

#define NODE_SECTIONS (sizeof node_sections / sizeof *node_sections)
#define NODE_SECTION  32 /* the bit of the first */

/* Which sections are wanted, a bit each. */
static uint64_t sections_wanted(const struct call *call)
{
    size_t count = sizeof info_sections / sizeof *info_sections;
    uint64_t usual = (1ull << count) - 1, all = usual | ((1ull << NODE_SECTIONS) - 1)
                                                            << NODE_SECTION;

    for (size_t s = 0; s < NODE_SECTIONS; s++)
        usual |= (uint64_t)node_sections[s].usual << (NODE_SECTION + s);
    uint64_t wanted = call->argc == 1 ? usual : 0;
    for (uint32_t i = 1; i < call->argc; i++) {
        if (call_is(call, i, "default"))
            wanted |= usual;
        else if (call_is(call, i, "all") || call_is(call, i, "everything"))
            wanted |= all;
        for (size_t s = 0; s < count; s++)
            if (call_is(call, i, info_sections[s].name))
                wanted |= 1ull << s;
        for (size_t s = 0; s < NODE_SECTIONS; s++)
            if (call_is(call, i, node_sections[s].name))
                wanted |= 1ull << (NODE_SECTION + s);
    }
    return wanted;
}

static void write_title(struct resp_out *text, const char *title)
{
    resp_printf(text, "%s# %s\r\n", buf_len(&text->buf) > 0 ? "\r\n" : "", title);
}

static void write_sections(struct call *call, uint64_t wanted, struct resp_out *text)
{
    struct worker_info info;

    cmd_get_info(call, &info);
    for (size_t i = 0; i < sizeof info_sections / sizeof *info_sections; i++) {
        if (!(wanted & 1ull << i))
            continue;
        write_title(text, info_sections[i].title);
        info_sections[i].write(text, call, &info);
    }
}

/* p->arg[0]: the sections. */
static void finish_info(struct pending *p, struct resp_out *out)
{
    uint64_t wanted = (uint64_t)p->arg[0];
    struct clients *c = p->conn->clients;
    struct call call = {.conn = p->conn, .clients = c, .engine = c->engine};
    struct resp_out text;

    /* A worker that has not answered is left out: the rest is worth knowing all the more. */
    resp_init(&text);
    write_sections(&call, wanted, &text);
    for (size_t i = 0; i < NODE_SECTIONS; i++) {
        if (!(wanted & 1ull << (NODE_SECTION + i)))
            continue;
        write_title(&text, node_sections[i].title);
        node_sections[i].write(p, &text);
    }
    resp_take_text(out, &text);
}

enum call_result cmd_info(struct call *call)
{
    uint64_t wanted = sections_wanted(call);
    struct resp_out text;

    if (wanted >> NODE_SECTION)
        return spread_begin(call, SPREAD_commandstats, NULL, 0, (int64_t)wanted, 0, finish_info);
    resp_init(&text);
    write_sections(call, wanted, &text);
    resp_take_text(call_out(call), &text);
    return CALL_DONE;
}
