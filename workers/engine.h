/* What the client side of a worker (connections and commands) needs from the worker that hosts it.
 * main.c fills one struct engine over coord and store; unit tests fill one over a map. Everything
 * is called from the worker's one thread and nothing here blocks. */
#ifndef CLOCKWISE_WORKERS_ENGINE_H
#define CLOCKWISE_WORKERS_ENGINE_H

#include "core/coord.h"
#include "core/msg.h"
#include "core/ring.h"
#include "ipc/tls.h"
#include "workers/info.h"

/* Settings of the client side. Strings are borrowed; all may change between two turns (reload). */
struct engine_conf {
    uint32_t max_clients;    /* of all workers of the node */
    uint32_t timeout_s;      /* idle clients are closed after so long; 0: never */
    uint32_t keepalive_s;    /* TCP keepalive; 0: off */
    uint64_t input_limit;    /* kept bytes of one connection's command; 0: LIMIT_CLIENT_INPUT */
    uint64_t output_limit;   /* unsent bytes of one connection; 0: LIMIT_CLIENT_OUTPUT */
    uint64_t input_total;    /* the same of all connections of this worker: beyond it, those that */
                             /* are in the middle of a command are not read from; 0: no limit */
    uint64_t output_total;   /* beyond it the largest are closed; 0: no limit */
    struct tls_context *tls; /* connections begin with a handshake; NULL: they are plain */
    uint32_t handshake_ms;   /* it may take so long; 0: CLIENTS_HANDSHAKE_MS */
    uint32_t queue_limit;    /* commands of one connection that wait; 0: LIMIT_PIPELINE */
    uint32_t acl_log;        /* refusals remembered */
    uint32_t timeout_ms;     /* of a request that names none; for messages only */
    bool advertise_replicas; /* CLUSTER tells replicas, and they serve reads */
    bool allow_flush;        /* may clients delete everything? */
};

/* A configuration key and its new value. */
struct engine_setting {
    const char *name, *value;
};

#define ENGINE_WHY 512

/* A look at the keys of one partition, in the order of their positions. Borrowed. */
struct engine_scan {
    uint32_t partition;
    uint8_t replica;          /* whom to ask: the replica-th of those who serve its reads */
    struct position from, to; /* first and last position wanted */
    uint32_t rows;            /* records to look at, at most */
    struct slice pattern;     /* keys that match alone; empty: all */
};

/* What a worker knows of a key whose partition it owns. */
struct engine_shown {
    uint64_t vnode_id; /* 0: there is no vnode of this partition */
    uint64_t digest;   /* 0: nothing is known of the key */
    uint32_t siblings;
    uint8_t standing; /* enum standing */
    uint8_t owed;     /* hints held for the key, and for whom */
    struct node_id owed_to[LIMIT_WALK];
};

struct engine {
    void *arg;

    /* The time, refreshed by the owner at the start of each turn of the loop. */
    uint64_t now_us; /* monotonic */
    uint64_t wall_ms;

    /* The ring as this worker sees it; NULL before the first view. Replaced between turns. */
    const struct ring_view *view;
    const struct ring_index *index;
    uint16_t worker;  /* this worker's index */
    uint16_t workers; /* of this node; 0 means 1 */

    struct engine_conf conf;

    /* coord_put() and coord_get() with the engine's clock. The answer comes through
     * clients_reply(clients, token, reply), perhaps before the call returns. -ERR_BUSY: no answer
     * will come, try again in a later turn; -ERR_UNAVAILABLE: no ring yet. */
    int (*put)(void *arg, uint64_t token, const struct msg_PUT *put);
    int (*get)(void *arg, uint64_t token, const struct msg_GET *get);

    /* This worker has so many clients now; returns how many its siblings have. May be NULL: none. */
    uint64_t (*siblings_clients)(void *arg, uint64_t mine);

    /* Ask a replica of a partition for its keys. The answer comes later, never before the call
     * returns: object: the keys (packed.h); context: the position to go on from (16 bytes), empty if
     * nothing is left; flags: records looked at. Expired and deleted keys are left out.
     * -ERR_NOTFOUND: there is no replica-th replica; -ERR_UNAVAILABLE: it cannot be reached, ask the
     * next one; -ERR_BUSY. As a status of the answer, all but 0 mean: ask the next one. */
    int (*scan)(void *arg, uint64_t token, const struct engine_scan *scan);

    /* Have another worker of this node do something among its connections (clients_run()); its text
     * comes later as object. -ERR_UNAVAILABLE: it does not run; -ERR_BUSY. */
    int (*run)(void *arg, uint64_t token, uint16_t worker, struct slice words);

    /* True while clients must not be read from (store_pressure). Asked once per turn. */
    bool (*pressure)(void *arg);

    /* Fill what the client side does not know. *info comes zeroed but for `clients`. */
    void (*info)(void *arg, struct worker_info *info);

    /* Ask the worker of a member that owns the key's partition there what it holds of it; this worker
     * may be the one. The answer may come before the call returns, and comes soon in any case: object:
     * a struct engine_shown, unaligned; context: its context as text. -ERR_UNAVAILABLE: it cannot be
     * reached; -ERR_BUSY. May be NULL. */
    int (*show)(void *arg, uint64_t token, uint16_t member, struct slice key);

    /* Ask gossipd on behalf of an administrator (workers/admin.h). The answer comes through
     * clients_reply(), in a later turn, as `object`. Errors as of admin_ask(). May be NULL. */
    int (*admin)(void *arg, uint64_t token, struct slice request);

    /* Change configuration keys of this worker until it starts again: all or none. dry: only say whether
     * it could be done. -ERR_NOTFOUND, -ERR_DENIED (it needs a restart, or another process would have to
     * know), -ERR_INVAL with a reason; *bad is then the pair at fault. May be NULL. */
    int (*config_set)(void *arg, const struct engine_setting *pairs, uint32_t count, bool dry,
                      uint32_t *bad, char why[ENGINE_WHY]);

    /* The i-th configuration key with its value as text, for CONFIG GET; false past the end. */
    bool (*config)(void *arg, unsigned i, const char **name, char *value, size_t size);
};

#endif
