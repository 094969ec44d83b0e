/* What INFO, DBSIZE and CONFIG GET say, and the copy of the worker's numbers into shared memory.
 * Runs in a worker; reads the segments of its siblings. */
#include "base/err.h"
#include "workers/handoff_host.h"
#include "workers/worker.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t seconds_and_us(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Sum the counters of all workers of the node; this one's are as fresh as the last publication. */
static void sum_counters(const struct worker *w, uint64_t *sums)
{
    memset(sums, 0, COUNTER_COUNT * sizeof sums[0]);
    for (uint16_t i = 0; i < w->workers; i++) {
        const struct worker_seg *seg = i == w->index ? &w->seg : &w->sibling[i];

        if (segment_mapped(&seg->segment))
            counter_sum(&seg->body->counters, sums);
    }
}

static void fill_clients(const uint64_t *sums, struct client_stats *c)
{
    c->connected = sums[CTR_clients_current];
    c->accepted = sums[CTR_clients_accepted];
    c->rejected = sums[CTR_clients_rejected];
    c->commands = sums[CTR_commands];
    c->command_errors = sums[CTR_commands_failed];
    c->auth_failures = sums[CTR_auth_failures];
    c->denied_commands = sums[CTR_acl_denied_commands];
    c->denied_keys = sums[CTR_acl_denied_keys];
    c->protocol_errors = sums[CTR_protocol_errors];
    c->slow_readers = sums[CTR_clients_closed_by_limit];
    c->input_bytes = sums[CTR_client_bytes_in];
    c->output_bytes = sums[CTR_client_bytes_out];
    c->pauses = sums[CTR_client_pauses];
    c->hits = sums[CTR_keyspace_hits];
    c->misses = sums[CTR_keyspace_misses];
    c->moved = sums[CTR_moved_sent];
    c->buffer_bytes = sums[CTR_client_buffer_bytes];
}

static void fill_store(const struct worker *w, const uint64_t *sums, struct worker_info *info)
{
    static const char *const durability[] = {"always", "everysec", "never"};
    struct store_stats mine;

    store_stats(w->store, &mine);
    info->keys = sums[CTR_store_keys];
    info->store_buffer_bytes = sums[CTR_store_buffer_bytes];
    info->store_buffer_limit = sums[CTR_store_buffer_limit];
    info->journal_bytes = sums[CTR_store_journal_bytes];
    info->journal_syncs = sums[CTR_store_journal_syncs];
    info->journal_records = sums[CTR_store_journal_records];
    info->last_sync_us = mine.last_sync_us;
    info->max_sync_us = sums[CTR_store_sync_max];
    info->flushes = sums[CTR_store_flushes];
    info->flushed_records = sums[CTR_store_flushed_records];
    info->corrupt_records = sums[CTR_store_corrupt_records];
    info->quarantined_vnodes = sums[CTR_store_vnodes_quarantined];
    info->disk_full = sums[CTR_store_disk_full];
    info->pressure_us = sums[CTR_store_pressure];
    info->expired = sums[CTR_store_expired];
    info->vnodes_open = sums[CTR_store_vnodes];
    info->durability = durability[w->conf.storage.durability];
}

static void fill_coordination(const uint64_t *sums, struct worker_info *info)
{
    info->coordinated_puts = sums[CTR_puts_coordinated];
    info->coordinated_gets = sums[CTR_gets_coordinated];
    info->forwarded = sums[CTR_puts_forwarded] + sums[CTR_gets_forwarded];
    info->no_quorum = sums[CTR_quorum_failures];
    info->unknown = sums[CTR_outcomes_unknown];
    info->siblings_seen = sums[CTR_siblings_max];
    info->hints_stored = sums[CTR_hints_stored];
    info->hints_delivered = sums[CTR_hints_delivered];
    info->hints_pending = sums[CTR_hints_pending];
    info->hints_bytes = sums[CTR_hints_bytes];
    info->hints_oldest_s = sums[CTR_hints_oldest];
    info->hints_overflowed = sums[CTR_hints_overflowed];
    info->hints_expired = sums[CTR_hints_expired];
    info->read_repairs = sums[CTR_read_repairs];
    info->in_flight = sums[CTR_requests_in_flight];
}

static void fill_antientropy(const struct worker *w, const uint64_t *sums, struct worker_info *info)
{
    uint64_t theirs[COUNTER_COUNT] = {0};

    if (segment_mapped(&w->repairs.segment))
        counter_sum(&w->repairs.body->counters, theirs);
    info->not_whole = sums[CTR_store_not_whole];
    info->tombstones = sums[CTR_store_tombstones];
    info->tombstones_purged = sums[CTR_store_tombstones_purged];
    info->dead_dropped = sums[CTR_dead_dropped];
    info->repair_differences = theirs[CTR_repair_differences];
    info->repair_rounds = theirs[CTR_repair_rounds];
    info->repair_agreements = theirs[CTR_repair_agreements];
    info->repair_failures = theirs[CTR_repair_failures];
    info->repair_keys_mended = theirs[CTR_repair_keys_mended];
    info->repair_bytes = theirs[CTR_repair_bytes_out] + theirs[CTR_repair_bytes_in];
    info->repair_staleness_s = theirs[CTR_repair_staleness];
    info->repair_surplus = theirs[CTR_repair_surplus];
    info->verify_rows = theirs[CTR_verify_rows];
    info->verify_passes = theirs[CTR_verify_passes];
    info->verify_damaged = theirs[CTR_verify_damaged];
}

/* Workers have ids of their own in the cluster map: the node's id and the worker's index. */
static void fill_identity(const struct worker *w, struct worker_info *info)
{
    node_id_format(&w->node_id, info->node_id);
    snprintf(info->worker_id, sizeof info->worker_id, "%s%08x", info->node_id, w->index);
}

static void fill_node(const struct worker *w, struct worker_info *info)
{
    static struct node_view view;

    if (node_seg_read(&w->node, &view) != 0)
        return;
    info->node_pid = (uint32_t)view.supervisor_pid;
    if (w->engine.wall_ms > view.started_ms)
        info->uptime_s = (w->engine.wall_ms - view.started_ms) / 1000u;
    snprintf(info->config_file, sizeof info->config_file, "%s", view.config_file);
}

/* Do all workers of this node serve, and reach all workers of the members believed up? */
static bool ring_ready(const struct worker *w, const uint64_t *sums)
{
    uint64_t wanted = 0;

    if (w->view.epoch == 0)
        return false;
    for (uint16_t i = 0; i < w->view.member_count; i++)
        if (i != w->view.self && w->view.members[i].state < MEMBER_FAULTY)
            wanted += (uint64_t)w->view.members[i].workers * w->workers;
    for (uint16_t i = 0; i < w->workers; i++) {
        const struct worker_seg *seg = i == w->index ? &w->seg : &w->sibling[i];

        if (!segment_mapped(&seg->segment) ||
            atomic_load_explicit(&seg->body->state, memory_order_relaxed) != WORKER_SERVING)
            return false;
    }
    return sums[CTR_peer_links_up] >= wanted;
}

void worker_info_fill(void *arg, struct worker_info *info)
{
    struct worker *w = arg;
    uint64_t sums[COUNTER_COUNT];
    struct mallinfo2 memory = mallinfo2();
    struct rusage usage;

    worker_info_publish(w);
    sum_counters(w, sums);
    fill_clients(sums, &info->clients);
    fill_store(w, sums, info);
    fill_coordination(sums, info);
    fill_antientropy(w, sums, info);
    info->ring_ready = ring_ready(w, sums);
    fill_identity(w, info);
    fill_node(w, info);
    info->max_clients = w->conf.node.max_clients;
    info->workers = w->workers;
    info->worker = w->index;
    info->tcp_port = (uint16_t)w->conf.node.port;
    info->rss_bytes = resident_bytes();
    info->memory_bytes = memory.uordblks + memory.hblkhd;
    if (info->memory_bytes > info->rss_bytes) /* tables are allocated whole and touched as needed */
        info->memory_bytes = info->rss_bytes;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        info->cpu_user = (double)seconds_and_us(usage.ru_utime) / 1e6;
        info->cpu_sys = (double)seconds_and_us(usage.ru_stime) / 1e6;
        info->memory_peak_bytes = (uint64_t)usage.ru_maxrss * 1024u;
    }
}

bool worker_info_config(void *arg, unsigned i, const char **name, char *value, size_t size)
{
    const struct worker *w = arg;
    static char text[CONF_VALUE];

    if (i >= CONF_KEYS)
        return false;
    *name = conf_key_at(i)->key;
    if (strcmp(*name, "secret") == 0 || strcmp(*name, "requirepass") == 0)
        text[0] = 0; /* never shown */
    else
        conf_format(&w->conf, i, text);
    snprintf(value, size, "%s", text);
    return true;
}

static void publish_store(struct worker *w)
{
    struct store_stats s;
    struct counter_block *c = &w->seg.body->counters;

    store_stats(w->store, &s);
    counter_set(c, CTR_store_keys, s.keys);
    counter_set(c, CTR_store_vnodes, s.vnodes_open);
    counter_set(c, CTR_store_vnodes_quarantined, s.quarantined_vnodes);
    counter_set(c, CTR_store_tombstones, s.tombstones);
    counter_set(c, CTR_store_tombstones_purged, s.tombstones_purged);
    counter_set(c, CTR_store_new_vnode_ids, s.new_vnode_ids);
    counter_set(c, CTR_store_buffer_bytes, s.buffer_bytes);
    counter_set(c, CTR_store_buffer_limit, s.buffer_limit);
    counter_set(c, CTR_store_journal_bytes, s.journal_bytes);
    counter_set(c, CTR_store_journal_segments, s.journal_segments);
    counter_set(c, CTR_store_journal_records, s.journal_records);
    counter_set(c, CTR_store_journal_syncs, s.journal_syncs);
    counter_set(c, CTR_store_sync_max, s.max_sync_us);
    counter_set(c, CTR_store_flushes, s.flushes);
    counter_set(c, CTR_store_flushed_records, s.flushed_records);
    counter_set(c, CTR_store_flushed_bytes, s.flushed_bytes);
    counter_set(c, CTR_store_pressure, s.pressure_us);
    counter_set(c, CTR_store_disk_full, s.disk_full);
    counter_set(c, CTR_store_corrupt_records, s.corrupt_records);
    counter_set(c, CTR_store_expired, s.expired_dropped);
    counter_set(c, CTR_store_recovered, s.recovered_records);
}

static void publish_links(struct worker *w)
{
    struct link_set_stats s;
    struct counter_block *c = &w->seg.body->counters;

    link_set_stats(w->links, &s);
    counter_set(c, CTR_peer_links_up, s.links_up);
    counter_set(c, CTR_peer_links_older, s.links_older);
    counter_set(c, CTR_peer_link_ups, s.connects);
    counter_set(c, CTR_peer_link_downs, s.downs);
    counter_set(c, CTR_peer_frames_sent, s.sent);
    counter_set(c, CTR_peer_frames_received, s.received);
    counter_set(c, CTR_peer_frames_bad, s.dropped_format);
    counter_set(c, CTR_peer_bytes_out, s.bytes_out);
    counter_set(c, CTR_peer_bytes_in, s.bytes_in);
    counter_set(c, CTR_peer_denied, s.dropped_handshake);
    counter_set(c, CTR_peer_output_overflows, s.backed_up);
}

uint64_t worker_info_clients(void *arg, uint64_t mine)
{
    struct worker *w = arg;
    uint64_t others = 0;

    counter_set(&w->seg.body->counters, CTR_clients_current, mine);
    for (uint16_t i = 0; i < w->workers; i++)
        if (i != w->index && segment_mapped(&w->sibling[i].segment))
            others += counter_get(&w->sibling[i].body->counters, CTR_clients_current);
    return others;
}

static void publish_clients(struct worker *w)
{
    const struct client_stats *s = clients_stats(w->clients);
    struct counter_block *c = &w->seg.body->counters;

    counter_set(c, CTR_clients_accepted, s->accepted);
    counter_set(c, CTR_clients_current, s->connected);
    counter_set(c, CTR_clients_rejected, s->rejected);
    counter_set(c, CTR_clients_closed_by_limit, s->slow_readers);
    counter_set(c, CTR_client_bytes_in, s->input_bytes);
    counter_set(c, CTR_client_bytes_out, s->output_bytes);
    counter_set(c, CTR_client_pauses, s->pauses);
    counter_set(c, CTR_client_buffer_bytes, s->buffer_bytes);
    counter_set(c, CTR_auth_failures, s->auth_failures);
    counter_set(c, CTR_acl_denied_commands, s->denied_commands);
    counter_set(c, CTR_acl_denied_keys, s->denied_keys);
    counter_set(c, CTR_tls_handshakes, s->tls_handshakes);
    counter_set(c, CTR_tls_failures, s->tls_failures);
    counter_set(c, CTR_protocol_errors, s->protocol_errors);
    counter_set(c, CTR_commands, s->commands);
    counter_set(c, CTR_commands_failed, s->command_errors);
    counter_set(c, CTR_keyspace_hits, s->hits);
    counter_set(c, CTR_keyspace_misses, s->misses);
    counter_set(c, CTR_moved_sent, s->moved);
}

static void publish_vnodes(struct worker *w)
{
    uint64_t not_whole = 0;

    for (uint32_t p = 0; p < w->ring_index.partitions; p++) {
        struct store_vnode_state s;

        if (store_vnode_state(w->store, p, &s) != 0) {
            worker_seg_vnode(&w->seg, p, WORKER_VNODE_NONE, 0, 0, 0);
            continue;
        }
        worker_seg_vnode(&w->seg, p, WORKER_VNODE_OPEN, s.id, s.keys, handoff_host_held(w, p));
        worker_seg_buffered(&w->seg, p, s.buffered_keys, s.buffered_bytes);
        worker_seg_tree(&w->seg, p, s.generation, s.root);
        not_whole += s.standing != STANDING_WHOLE && ring_keeps(&w->ring_index, p, w->view.self);
    }
    counter_set(&w->seg.body->counters, CTR_store_not_whole, not_whole);
}

void worker_info_publish(struct worker *w)
{
    publish_store(w);
    if (w->links != NULL)
        publish_links(w);
    if (w->clients != NULL)
        publish_clients(w);
    if (w->coord != NULL)
        counter_set(&w->seg.body->counters, CTR_requests_in_flight, coord_in_flight(w->coord));
    if (w->handoff != NULL) {
        handoff_host_publish(w);
        publish_vnodes(w);
    }
}
