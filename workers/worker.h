/* The state of one worker process: every part that lives as long as the process. Filled by main.c;
 * coord_host.c, worker_info.c and worker_turn.c use it. One thread. */
#ifndef CLOCKWISE_WORKERS_WORKER_H
#define CLOCKWISE_WORKERS_WORKER_H

#include "base/buf.h"
#include "conf/conf.h"
#include "core/coord.h"
#include "ipc/child.h"
#include "ipc/loop.h"
#include "shm/node_seg.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"
#include "store/store.h"
#include "workers/admin.h"
#include "workers/clients.h"
#include "workers/engine.h"
#include "workers/link_set.h"

struct worker {
    struct child child;
    struct conf conf;
    struct loop *loop;
    uint16_t index;   /* own */
    uint16_t workers; /* of this node */

    struct worker_seg seg;     /* own segment: counters, latencies, vnode table */
    struct ring_seg ring;      /* gossipd's */
    struct repair_seg repairs; /* antientropyd's: for INFO */
    struct node_seg node;      /* the supervisor's: pid and start for INFO */
    struct node_id node_id;
    struct worker_seg sibling[LIMIT_WORKERS]; /* other workers' segments, for INFO and DBSIZE */

    struct store *store;
    struct coord *coord;
    void *coord_memory;
    struct buf scratch_a, scratch_b;
    struct handoff_state *handoff; /* see handoff_host.h */
    struct repair_host *repair;    /* see repair_host.h */
    int dead_fd;                   /* what was dropped as dead; -1: none yet */
    uint64_t dead_bytes;
    struct quorum_rule rules[CONF_PREFIXES + 1];
    struct tls_context *client_tls, *peer_tls; /* NULL: plain */
    struct link_set *links;
    int wake_fd[LIMIT_WORKERS];
    struct clients *clients;
    struct acl_store *acl_store;
    struct ask_table *asks; /* see ask.h */
    struct object show;     /* scratch of show.c */
    struct admin *admin;
    struct engine engine;

    struct ring_view view; /* the newest one; epoch 0: none yet */
    struct ring_index ring_index;
    uint32_t open_at; /* the next partition whose vnode may have to be opened */

    struct loop_watch store_watch;
    struct loop_hook turn_hook;
    struct loop_timer coord_timer, handoff_timer, slow_timer, drain_timer, ring_timer, open_timer;
    uint64_t coord_deadline_us;
    uint64_t durable; /* what the coordination has been told */
    uint64_t started_us;
    uint64_t turn_started_us;
    struct {
        int fd; /* what the kernel counts of this thread; -1: nothing */
        uint64_t seen_us, waited_ns;
    } cpu; /* see worker_cpu.c */
    uint64_t drain_deadline_us;
    bool draining;
};

/* worker_turn.c: what happens in every turn of the loop and every second. Registers hook, timers and
 * the store's descriptor; call once everything else is open. */
int worker_turn_start(struct worker *w);
/* Take over a new ring view if gossipd has published one. Returns true if so. */
bool worker_turn_ring(struct worker *w);
/* Stop accepting, finish what is in flight, then stop the loop. */
void worker_turn_drain(struct worker *w);

/* worker_cpu.c: call the first before threads are made, they inherit its policy; the second ten times a
 * second. */
void worker_cpu_open(struct worker *w);
void worker_cpu_turn(struct worker *w);

/* worker_tls.c: certificates and keys. The first time everything must be there: -ERR_INVAL or
 * -ERR_NOMEM with a reason. Later, what cannot be used is logged and the old stays in force;
 * connections keep what they began with. */
int worker_tls_open(struct worker *w, char why[TLS_WHY]);
void worker_tls_reload(struct worker *w);

/* worker_config.c: settings of the coordination (rules are borrowed from w) and of the client side, as the
 * configuration has them; what follows from a changed one; the engine's config_set. */
void worker_fill_coord_conf(struct worker *w, struct coord_conf *conf);
void worker_fill_engine_conf(struct worker *w);
void worker_apply_conf(struct worker *w);
int worker_config_set(void *arg, const struct engine_setting *pairs, uint32_t count, bool dry,
                      uint32_t *bad, char why[ENGINE_WHY]);

/* worker_acl.c: the users. The first is called once the clients are open and before they are listened
 * for; errors come with a reason. Then every turn: what siblings have changed. Then on reload, when
 * requirepass is another one: it becomes the default user's password. */
int worker_acl_open(struct worker *w, char why[ACL_WHY]);
void worker_acl_turn(struct worker *w);
void worker_acl_require(struct worker *w);
void worker_acl_close(struct worker *w);

/* worker_info.c: fill what INFO and CONFIG GET want; the engine's callbacks. */
void worker_info_fill(void *arg, struct worker_info *info);
bool worker_info_config(void *arg, unsigned i, const char **name, char *value, size_t size);
/* Publish how many clients this worker has; how many have the others, by their latest word? */
uint64_t worker_info_clients(void *arg, uint64_t mine);
/* Copy store, link and client numbers to the counters in shared memory. */
void worker_info_publish(struct worker *w);

#endif
