/* Connections between the antientropyds of nodes: TCP to a member's repair_port, under TLS if the
 * cluster speaks it, authenticated as workers' links are. One connection is made to each member when
 * there is something to ask; who has called asks, the called answers. What is sent and received is
 * paid for out of a budget of bytes a second. Nothing here blocks. */
#ifndef CLOCKWISE_ANTIENTROPYD_PEERS_H
#define CLOCKWISE_ANTIENTROPYD_PEERS_H

#include "core/protocol.h"
#include "core/repair.h"
#include "core/ring.h"
#include "ipc/loop.h"
#include "ipc/tls.h"

struct peers;
struct peer;

struct peers_conf {
    struct node_id self;
    uint64_t incarnation;
    const char *cluster, *secret; /* borrowed */
    struct protocol_range protocol;
    int listen_fd;           /* -1: nobody can call */
    struct tls_context *tls; /* NULL: plain */
};

struct peers_events {
    void *arg;
    /* A message on an authenticated connection. -ERR_FORMAT: drop it. */
    int (*on_message)(void *arg, struct peer *p, const struct repair *m);
    /* The connection is gone; it must not be used any more. */
    void (*on_lost)(void *arg, struct peer *p);
};

struct peers_stats {
    uint64_t bytes_out, bytes_in, dropped, denied;
    uint32_t older; /* connections, now, that speak an older protocol version than we could */
};

/* NULL without memory. */
struct peers *peers_new(const struct peers_conf *conf, const struct peers_events *events,
                        struct loop *loop);

/* Members who may call and be called; borrowed until the next call. */
void peers_set_view(struct peers *s, const struct ring_view *view);
void peers_set_tls(struct peers *s, struct tls_context *tls);

/* The connection to a member, made if there is none; NULL if that fails at once. What is sent before
 * it stands waits. */
struct peer *peers_call(struct peers *s, const struct member *m);

/* Queue a message. -ERR_LIMIT, -ERR_NOMEM. */
int peer_send(struct peer *p, const struct repair *m);
/* Break it off. on_lost() is called later, in the same turn. */
void peer_drop(struct peer *p);
const struct node_id *peer_id(const struct peer *p);
/* Did we call? */
bool peer_is_ours(const struct peer *p);
/* Bytes sent and received so far. */
uint64_t peer_bytes(const struct peer *p);

/* Bytes a second, from now on. */
void peers_budget(struct peers *s, uint64_t bytes);
void peers_stats(const struct peers *s, struct peers_stats *out);

/* Call about once a second: strangers and the silent are dropped. */
void peers_tick(struct peers *s);

#endif
