/* What a configuration leaves open is filled here, and what must hold between keys is checked. Runs
 * wherever a configuration is loaded. */
#include "conf/value.h"

#include "base/check.h"
#include "base/err.h"
#include "base/paths.h"

#include <ctype.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOO_LONG "the path made from the environment is too long, set it here"

static int blame_key(unsigned *blame, unsigned key, char reason[CONF_ERROR], const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

static int blame_key(unsigned *blame, unsigned key, char reason[CONF_ERROR], const char *format,
                     ...)
{
    va_list args;

    *blame = key;
    va_start(args, format);
    vsnprintf(reason, CONF_ERROR, format, args);
    va_end(args);
    return -ERR_INVAL;
}

/* CPUs that this process may run on, at most LIMIT_WORKERS. */
static uint32_t usable_cpus(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

    if (count < 1)
        return 1;
    return count > LIMIT_WORKERS ? LIMIT_WORKERS : (uint32_t)count;
}

/* The host name up to its first dot, what a name may not contain replaced, and the front port. */
static void resolve_name(struct conf *c)
{
    char host[LIMIT_NAME - 8] = "node";

    if (c->node.name[0] != 0)
        return;
    gethostname(host, sizeof host);
    host[sizeof host - 1] = 0;
    host[strcspn(host, ".")] = 0;
    for (char *p = host; *p != 0; p++)
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
            *p = '-';
    snprintf(c->node.name, sizeof c->node.name, "%s-%u", host, c->node.port);
}

int conf_resolve(struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    if (c->node.workers == 0)
        c->node.workers = usable_cpus();
    if (c->node.worker_port == 0)
        c->node.worker_port = c->node.port + 1;
    if (c->node.peer_port == 0)
        c->node.peer_port = c->node.port + 10001;
    if (c->node.gossip_port == 0)
        c->node.gossip_port = c->node.port + 10000;
    if (c->node.repair_port == 0)
        c->node.repair_port = c->node.port + 9999;
    if (c->cluster.protocol_max == 0)
        c->cluster.protocol_max = PROTOCOL_NEWEST;
    if (c->node.announce[0] == 0)
        memcpy(c->node.announce, c->node.bind, sizeof c->node.announce);
    resolve_name(c);
    if (c->node.data_dir[0] == 0 &&
        paths_state_default(c->node.data_dir, sizeof c->node.data_dir) != 0)
        return blame_key(blame, CONF_node_data_dir, reason, TOO_LONG);
    if (c->node.runtime_dir[0] == 0 &&
        paths_runtime_default(c->node.runtime_dir, sizeof c->node.runtime_dir) != 0)
        return blame_key(blame, CONF_node_runtime_dir, reason, TOO_LONG);
    return 0;
}

static int check_ports(const struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    const struct {
        unsigned key;
        uint32_t first, count;
    } ranges[] = {{CONF_node_port, c->node.port, 1},
                  {CONF_node_worker_port, c->node.worker_port, c->node.workers},
                  {CONF_node_peer_port, c->node.peer_port, c->node.workers},
                  {CONF_node_gossip_port, c->node.gossip_port, 1},
                  {CONF_node_repair_port, c->node.repair_port, 1}};

    for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        uint32_t end = ranges[i].first + ranges[i].count;

        if (end > 65536)
            return blame_key(blame, ranges[i].key, reason,
                             "ports %u to %u of %u workers go beyond 65535", ranges[i].first,
                             end - 1, c->node.workers);
        for (unsigned j = 0; j < i; j++)
            if (ranges[i].first < ranges[j].first + ranges[j].count && ranges[j].first < end)
                return blame_key(blame, ranges[i].key, reason,
                                 "ports %u to %u overlap those of %s (%u to %u)", ranges[i].first,
                                 end - 1, conf_key_at(ranges[j].key)->key, ranges[j].first,
                                 ranges[j].first + ranges[j].count - 1);
    }
    return 0;
}

static int check_quorums(const struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    const struct {
        unsigned key;
        uint32_t value, most;
        const char *than;
    } rules[] = {{CONF_cluster_r, c->cluster.r, c->cluster.n, "n"},
                 {CONF_cluster_w, c->cluster.w, c->cluster.n, "n"},
                 {CONF_cluster_pr, c->cluster.pr, c->cluster.r, "r"},
                 {CONF_cluster_pw, c->cluster.pw, c->cluster.w, "w"},
                 {CONF_cluster_dw, c->cluster.dw, c->cluster.w, "w"}};

    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].value > rules[i].most)
            return blame_key(blame, rules[i].key, reason, "%u is more than %s (%u)", rules[i].value,
                             rules[i].than, rules[i].most);
    return 0;
}

bool conf_is_local(const struct conf *c)
{
    return conf_address_loopback(c->node.bind);
}

/* On any address but the loopback, clients need a password and nodes a secret. */
static int check_exposure(const struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    if (conf_address_wildcard(c->node.announce)) {
        /* Unless it was set, announce is what bind says, and bind has the line in the file. */
        bool from_bind = strcmp(c->node.announce, c->node.bind) == 0;

        return blame_key(blame, from_bind ? CONF_node_bind : CONF_node_announce, reason,
                         "%s is no address to reach this node at: set announce", c->node.announce);
    }
    if (conf_address_loopback(c->node.bind))
        return 0;
    if (c->security.requirepass[0] == 0)
        return blame_key(blame, CONF_node_bind, reason,
                         "%s is not a loopback address: set [security] requirepass first",
                         c->node.bind);
    if (c->cluster.secret[0] == 0)
        return blame_key(blame, CONF_node_bind, reason,
                         "%s is not a loopback address: set [cluster] secret first", c->node.bind);
    return 0;
}

/* TLS needs the files that it works with. */
static int check_tls(const struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    bool judges = c->security.tls_cluster ||
                  (c->security.tls && c->security.tls_auth_clients != CONF_AUTH_NO);

    if (!c->security.tls && !c->security.tls_cluster)
        return 0;
    unsigned asked = c->security.tls ? CONF_security_tls : CONF_security_tls_cluster;
    if (c->security.tls_cert[0] == 0)
        return blame_key(blame, asked, reason, "needs tls_cert");
    if (c->security.tls_key[0] == 0)
        return blame_key(blame, asked, reason, "needs tls_key");
    if (judges && c->security.tls_ca[0] == 0)
        return blame_key(blame,
                         c->security.tls_cluster ? CONF_security_tls_cluster
                                                 : CONF_security_tls_auth_clients,
                         reason, "needs tls_ca");
    return 0;
}

int conf_check(const struct conf *c, unsigned *blame, char reason[CONF_ERROR])
{
    int rc;

    if ((c->cluster.partitions & (c->cluster.partitions - 1)) != 0)
        return blame_key(blame, CONF_cluster_partitions, reason, "%u is not a power of two",
                         c->cluster.partitions);
    if (c->storage.segment_size_bytes > c->storage.write_buffer_total_bytes)
        return blame_key(blame, CONF_storage_segment_size, reason,
                         "a segment is larger than write_buffer_total");
    if (strcmp(c->node.data_dir, c->node.runtime_dir) == 0)
        return blame_key(blame, CONF_node_runtime_dir, reason, "is the same as data_dir");
    if (c->cluster.protocol_min > c->cluster.protocol_max)
        return blame_key(blame, CONF_cluster_protocol_min, reason,
                         "%u is more than protocol_max (%u)", c->cluster.protocol_min,
                         c->cluster.protocol_max);
    if ((rc = check_ports(c, blame, reason)) != 0)
        return rc;
    if ((rc = check_quorums(c, blame, reason)) != 0)
        return rc;
    if ((rc = check_tls(c, blame, reason)) != 0)
        return rc;
    return check_exposure(c, blame, reason);
}
