/* What follows from the configuration of a worker, and CONFIG SET. Runs in a worker; touches no
 * file, so the configuration file is in force again after a restart or a reload. */
#include "base/err.h"
#include "base/log.h"
#include "workers/handoff_host.h"
#include "workers/worker.h"

#include <stdio.h>
#include <string.h>

static void fill_rules(struct worker *w)
{
    const struct conf *c = &w->conf;

    w->rules[0] = (struct quorum_rule){
        .prefix = slice_str(""),
        .n = (uint8_t)c->cluster.n,
        .r = (uint8_t)c->cluster.r,
        .w = (uint8_t)c->cluster.w,
        .pr = (uint8_t)c->cluster.pr,
        .pw = (uint8_t)c->cluster.pw,
        .dw = (uint8_t)c->cluster.dw,
        .sloppy = c->cluster.sloppy,
        .blocking_repair = c->cluster.read_repair == CONF_REPAIR_BLOCKING,
    };
    for (uint32_t i = 0; i < c->prefix_count; i++) {
        const struct conf_prefix *p = &c->prefix[i];

        w->rules[i + 1] = w->rules[0];
        w->rules[i + 1].prefix = slice_str(p->prefix);
        w->rules[i + 1].n = (uint8_t)p->n;
        w->rules[i + 1].r = (uint8_t)p->r;
        w->rules[i + 1].w = (uint8_t)p->w;
        w->rules[i + 1].pr = (uint8_t)p->pr;
        w->rules[i + 1].pw = (uint8_t)p->pw;
        w->rules[i + 1].dw = (uint8_t)p->dw;
    }
}

void worker_fill_coord_conf(struct worker *w, struct coord_conf *conf)
{
    fill_rules(w);
    *conf = (struct coord_conf){
        .requests = LIMIT_REQUESTS,
        .timeout_ms = w->conf.cluster.request_timeout_ms,
        .replica_ms = w->conf.cluster.fallback_after_ms,
        .patience_ms = w->conf.cluster.quorum_patience_ms,
        .hedge_min_ms = w->conf.cluster.hedge_min_ms,
        .sibling_limit = w->conf.limits.siblings,
        .late_after_ms = horizon_late_after(w->conf.limits.hint_age_ms),
        .rule_count = (uint16_t)(w->conf.prefix_count + 1),
        .rules = w->rules,
    };
}

void worker_fill_engine_conf(struct worker *w)
{
    const struct conf *c = &w->conf;

    w->engine.conf = (struct engine_conf){
        .max_clients = c->node.max_clients,
        .timeout_s = c->limits.client_idle_ms / 1000u,
        .keepalive_s = (c->limits.tcp_keepalive_ms + 999u) / 1000u,
        .input_limit = c->limits.client_input_bytes,
        .output_limit = c->limits.client_output_bytes,
        .input_total = c->limits.total_input_bytes / w->workers,
        .output_total = c->limits.total_output_bytes / w->workers,
        .acl_log = c->security.acllog_max_len,
        .tls = w->client_tls,
        .handshake_ms = c->limits.handshake_timeout_ms,
        .queue_limit = c->limits.client_queue,
        .timeout_ms = c->cluster.request_timeout_ms,
        .advertise_replicas = c->cluster.advertise_replicas,
        .allow_flush = c->security.allow_flush,
    };
}

void worker_apply_conf(struct worker *w)
{
    struct coord_conf coord_conf;

    log_setup(w->child.process_name, (enum log_level)conf_log_level(&w->conf));
    worker_fill_engine_conf(w);
    worker_fill_coord_conf(w, &coord_conf);
    coord_set_conf(w->coord, &coord_conf);
    handoff_host_reload(w);
}

/* Keys that may change while running, but that other processes, or files, would have to hear of. */
static bool belongs_elsewhere(const char *name)
{
    static const char *const names[] = {
        "ready_timeout",     "watchdog_timeout", "seeds",  "probe_interval", "probe_timeout",
        "suspicion_timeout", "tls_cert",         "tls_ca", "tls_key",        "tls_auth_clients",
    };
    const char *dot = strchr(name, '.');
    const char *key = dot != NULL ? dot + 1 : name;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return strncmp(key, "repair_", 7) == 0;
}

int worker_config_set(void *arg, const struct engine_setting *pairs, uint32_t count, bool dry,
                      uint32_t *bad, char why[ENGINE_WHY])
{
    static struct conf fresh, current;
    struct worker *w = arg;

    _Static_assert(ENGINE_WHY >= CONF_ERROR, "reasons fit");
    fresh = w->conf;
    current = w->conf;
    for (*bad = 0; *bad < count; ++*bad) {
        int rc = conf_change(&fresh, pairs[*bad].name, pairs[*bad].value, why);

        if (rc != 0)
            return rc;
        if (belongs_elsewhere(pairs[*bad].name))
            return -ERR_DENIED;
    }
    *bad = count > 0 ? count - 1 : 0;
    if (conf_take_reloadable(&current, &fresh, NULL, NULL, why) < 0)
        return -ERR_INVAL;
    if (dry)
        return 0;
    bool password = strcmp(current.security.requirepass, w->conf.security.requirepass) != 0;
    w->conf = current;
    if (password)
        worker_acl_require(w);
    worker_apply_conf(w);
    return 0;
}
