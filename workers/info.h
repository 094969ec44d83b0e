/* What INFO, ROLE and DBSIZE say about this node. The command code fills what it knows (this
 * worker's clients); the engine adds the rest and the other workers' shares. Values only. */
#ifndef CLOCKWISE_WORKERS_INFO_H
#define CLOCKWISE_WORKERS_INFO_H

#include "core/ring.h"

#include <stdbool.h>
#include <stdint.h>

/* Counted by the client side of one worker. Written by its thread alone; the engine may copy it to
 * shared memory whenever it likes. */
struct client_stats {
    uint64_t connected; /* now */
    uint64_t paused;    /* now: not read from, for back-pressure */
    uint64_t accepted;
    uint64_t rejected; /* over max_clients */
    uint64_t commands;
    uint64_t command_errors;  /* error replies */
    uint64_t protocol_errors; /* connections closed for garbage */
    uint64_t auth_failures;
    uint64_t denied_commands, denied_keys; /* refused by the ACL */
    uint64_t tls_handshakes, tls_failures; /* finished; given up or refused */
    uint64_t slow_readers;                 /* connections closed for unread output */
    uint64_t input_bytes, output_bytes;
    uint64_t reads, writes; /* system calls on sockets */
    uint64_t pauses;        /* times a connection was stopped for back-pressure */
    uint64_t hits, misses;  /* keys found and not found by reads */
    uint64_t moved;         /* MOVED answers */
    uint64_t buffer_bytes;  /* now: memory in client buffers */
};

struct worker_info {
    struct client_stats clients; /* given: this worker's; the engine may add the others' */
    uint32_t max_clients;
    uint32_t workers;  /* of this node */
    uint32_t worker;   /* this one */
    uint32_t node_pid; /* of the supervisor */
    uint64_t uptime_s;
    uint16_t tcp_port; /* front port */
    char config_file[256];
    char node_id[2 * NODE_ID_BYTES + 1];
    char worker_id[41]; /* this worker's 40 hex digits in CLUSTER */
    /* memory */
    uint64_t memory_bytes, memory_peak_bytes, rss_bytes;
    /* storage */
    uint64_t keys, expires; /* live keys of this node's vnodes */
    uint64_t store_buffer_bytes, store_buffer_limit;
    uint64_t journal_bytes, journal_syncs, journal_records, last_sync_us, max_sync_us;
    uint64_t flushes, flushed_records, corrupt_records, quarantined_vnodes;
    uint64_t disk_full, pressure_us, expired, vnodes_open;
    const char *durability; /* "always", "everysec" or "never" */
    /* coordination */
    bool
        ring_ready; /* the ring is known, every worker of this node serves and reaches all workers of
                        the members believed up */
    uint64_t coordinated_puts, coordinated_gets, forwarded, no_quorum, unknown, siblings_seen;
    uint64_t hints_stored, read_repairs, in_flight;
    uint64_t hints_delivered, hints_pending, hints_bytes, hints_oldest_s;
    uint64_t hints_overflowed, hints_expired;
    /* anti-entropy; of antientropyd but for the first four */
    uint64_t not_whole, tombstones, tombstones_purged, dead_dropped;
    uint64_t repair_differences, repair_rounds, repair_agreements, repair_failures,
        repair_keys_mended;
    uint64_t repair_bytes, repair_staleness_s, repair_surplus;
    uint64_t verify_rows, verify_passes, verify_damaged;
    /* cpu, seconds */
    double cpu_user, cpu_sys;
};

#endif
