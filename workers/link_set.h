/* All links of one worker to other workers: TCP connections to every worker of every other member,
 * accepted connections from them, mailboxes to the sibling workers of this node. Knows no request.
 *
 * Each ordered pair of workers has one outgoing link; all messages A -> B, requests and answers
 * alike, go by A's link to B. A link connects by itself when a view names its target. What was sent
 * in a turn of the loop is written just before the loop sleeps: one write for each link.
 *
 * Failure is judged here first. A worker is unreachable when its connection is refused or reset, or
 * when it has been silent for peer_timeout_ms although something was sent to it (an idle link is
 * pinged every second, a waiting one after half the timeout). It is tried again by itself, and
 * reachable again as soon as it answers. gossipd is told of both.
 *
 * One thread; nothing blocks. Callbacks come from the loop and from link_set_set_view() and
 * link_set_sibling_up(), never from link_set_send(), and may call link_set_send(). */
#ifndef CLOCKWISE_WORKERS_LINK_SET_H
#define CLOCKWISE_WORKERS_LINK_SET_H

#include "core/msg.h"
#include "core/protocol.h"
#include "core/ring.h"
#include "ipc/loop.h"
#include "ipc/tls.h"
#include "shm/worker_seg.h"

struct link_set;

struct link_set_events {
    void *arg;
    /* A message from a worker. member is an index into the newest view; member == self: a sibling of
     * this node. The message's slices are valid during the call. */
    void (*on_message)(void *arg, uint16_t member, uint16_t worker, const struct msg *m);
    /* What was sent to this worker and is not answered yet will not be answered. Called at most once
     * for each thing sent. The worker may be reachable (again) already. */
    void (*on_down)(void *arg, uint16_t member, uint16_t worker);
    /* Asked before anything queued leaves, wherever in a turn that is: does what it tells of survive
     * this process? false: everything stays queued until the next turn. NULL: always. */
    bool (*may_leave)(void *arg);
};

struct link_set_conf {
    struct node_id self;
    char cluster[LIMIT_NAME];
    char secret[LIMIT_NAME * 2];    /* empty: peers prove nothing */
    uint16_t worker;                /* own index */
    uint16_t workers;               /* of this node */
    struct protocol_range protocol; /* zeros: what this build speaks */
    uint64_t incarnation;           /* of this process */
    uint32_t peer_timeout_ms;       /* 0: 500 */
    int listen_fd;           /* peer port, non-blocking, listening; stays the caller's; or -1 */
    const char *runtime_dir; /* mailboxes and gossip.sock; NULL: neither */
    struct tls_context *tls; /* see link_set_set_tls() */
    const int *wake_fd;      /* eventfd of each worker [workers]; NULL without mailboxes */
    struct worker_seg *seg;  /* own segment, open for writing: mailboxes live on it; borrowed */
};

/* Plain counts since the start. */
struct link_set_stats {
    uint64_t sent, received;        /* messages, mailboxes included */
    uint64_t bytes_out, bytes_in;   /* TCP */
    uint64_t writes;                /* write calls that carried bytes_out */
    uint64_t connects, accepts;     /* handshakes finished */
    uint64_t downs;                 /* verdicts "down" */
    uint64_t dropped_format;        /* connections dropped for malformed bytes */
    uint64_t dropped_handshake;     /* wrong cluster, version, proof, receiver, or too slow */
    uint64_t backed_up;             /* sends refused with -ERR_BUSY */
    uint32_t links_up, links_known; /* outgoing, now */
    uint32_t
        links_older; /* of those that are up: they speak an older protocol version than we could */
};

/* Watches, a timer and a hook go into the loop. conf is copied, except runtime_dir and wake_fd, which are
 * borrowed for the life of the set.
 * -ERR_NOMEM, -ERR_IO; mailbox errors as in shm/mailbox.h. */
int link_set_open(struct link_set **out, const struct link_set_conf *conf,
                  const struct link_set_events *events, struct loop *loop);

/* Close everything; no callbacks. The loop must not turn again: its hooks live as long as it. */
void link_set_close(struct link_set *s);

/* From now on connections to and from other nodes begin with a TLS handshake; NULL: they are plain.
 * Borrowed until the next call; those that are open keep what they have. */
void link_set_set_tls(struct link_set *s, struct tls_context *tls);

/* A new ring view, borrowed during the call. Links to members that are new connect; links to slots
 * whose member, address or port changed are closed (on_down) and made anew. */
void link_set_set_view(struct link_set *s, const struct ring_view *view);

/* Encode a message for a worker of a member; written before the loop sleeps. -ERR_UNAVAILABLE: it is down,
 * not in the view, or speaks a version that does not know this message; nothing is sent; -ERR_BUSY: its output is backed up; -ERR_LIMIT: longer than
 * a frame may be. A worker cannot send to itself (assertion). */
int link_set_send(struct link_set *s, uint16_t member, uint16_t worker, const struct msg *m);

/* Is it worth sending to? True for a link that is up, or that was never tried. */
bool link_set_reachable(const struct link_set *s, uint16_t member, uint16_t worker);

/* It has not answered a request in time: ask at once whether it is there, so that its link is given up
 * the sooner if it is not. */
void link_set_doubt(struct link_set *s, uint16_t member, uint16_t worker);

/* The supervisor says that a sibling runs (again): its mailboxes start anew; what was in flight to
 * an earlier incarnation is reported by on_down. */
void link_set_sibling_up(struct link_set *s, uint16_t worker, uint64_t incarnation);

/* The supervisor says that a sibling died: what was in flight to it is reported by on_down; what is
 * sent from now on waits for its successor. */
void link_set_sibling_down(struct link_set *s, uint16_t worker);

void link_set_stats(const struct link_set *s, struct link_set_stats *out);

#endif
