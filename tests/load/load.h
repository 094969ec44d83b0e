/* The load generator behind scripts/bench: one program that puts the same load on a Redis, a Redis
 * Cluster, a Clockwise and an etcd, and counts the same way for all of them.
 *
 * A *lane* is one client: it sends a batch of `depth` operations and waits for all answers before
 * the next batch, as redis-benchmark does. A lane has a connection to each endpoint that it needs. An
 * operation whose connection breaks, times out or is told to try again is sent again through another
 * endpoint, as client libraries do (`retried`); it has failed when `patience` has passed. Latency
 * counts from the first attempt.
 *
 *   main.c   options, phases, report        lane.c   operations: making, routing, completing
 *   conn.c   a connection: connect, buffers, timeouts
 *   resp.c   Redis's protocol               etcd.c   etcd's gRPC over HTTP/2 */
#ifndef CLOCKWISE_TESTS_LOAD_H
#define CLOCKWISE_TESTS_LOAD_H

#include "base/buf.h"
#include "base/hist.h"
#include "base/rand.h"
#include "ipc/loop.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define LOAD_ENDPOINTS 32
#define LOAD_DEPTH     512
#define LOAD_VALUE     (256 * 1024)
#define LOAD_REASONS   16
#define SLOTS          16384

enum op_kind { OP_SET, OP_GET, OP_WAIT };

struct op {
    uint64_t number;   /* of the key */
    uint64_t start_us; /* first attempt */
    uint64_t sent_us;  /* this attempt */
    uint8_t kind;      /* enum op_kind */
    uint8_t attempts;
    bool listed; /* waits in the list of operations to be sent again */
    struct lane *lane;
    struct op *next; /* in a connection's queue, or in the list above */
    int32_t stream;  /* etcd: of this attempt */
};

enum op_result { RESULT_OK, RESULT_MISSING, RESULT_RETRY, RESULT_ERROR };

struct conn {
    struct load *load;
    struct lane *lane;
    uint16_t endpoint;
    bool open, connecting, queued;
    int fd;
    struct loop_watch watch;
    struct buf in, out;
    struct op *head, **tail; /* sent, not yet answered, oldest first */
    void *session;           /* etcd: struct etcd_session */
};

struct lane {
    struct load *load;
    uint32_t index;
    uint32_t in_flight, batch_left; /* operations of this batch: all, not yet sent */
    uint64_t last_success_us, longest_gap_us;
    bool stopped;
    struct conn *conns[LOAD_ENDPOINTS];
    struct op ops[LOAD_DEPTH + 1];
};

struct endpoint {
    char host[64];
    uint16_t port;
    uint64_t bad_until_us; /* not used before, after a failure */
};

struct counts {
    struct hist latency;
    uint64_t ok, missing, failed, retried, moved;
};

/* How often an error reply began with a word. */
struct reason {
    char word[32];
    uint64_t count;
};

struct protocol {
    /* Append the operation to conn's output. */
    void (*send)(struct conn *c, struct op *op);
    /* Take answers from conn's input; false: the connection is to be closed. */
    bool (*receive)(struct conn *c);
    bool (*opened)(struct conn *c);
    void (*closed)(struct conn *c);
};

struct load {
    /* options */
    const struct protocol *protocol;
    bool cluster, unique, retry;
    uint32_t lanes, depth, wait_replicas;
    uint32_t set_share; /* percent of operations that are SET */
    uint64_t keys, requests, rate, timeout_us, patience_us;
    double seconds;
    uint32_t value_bytes;

    struct loop *loop;
    struct endpoint endpoints[LOAD_ENDPOINTS];
    uint16_t endpoint_count;
    uint16_t slot_owner[SLOTS];
    struct lane *lane;
    struct rand rand;
    uint8_t *value;

    /* running */
    uint64_t start_us, end_us, issued, next_unique, next_fill;
    uint32_t lanes_running;
    double tokens;
    uint64_t tokens_us;
    struct op *again; /* to be sent again */
    struct loop_timer tick;
    bool filling, verifying, stopping;
    volatile sig_atomic_t enough; /* the load is to end now; what is verified after it is not */
    uint64_t last_success_us, longest_gap_us, longest_gap_at_us;
    struct counts set, get;
    struct reason reasons[LOAD_REASONS];
    uint64_t broken;       /* connections closed by the other side or after a timeout */
    uint8_t *acknowledged; /* unique: one bit for each number */
    uint64_t verify_next, lost;
};

/* conn.c */
struct conn *conn_get(struct lane *lane, uint16_t endpoint);
void conn_push(struct conn *c, struct op *op);
struct op *conn_pop(struct conn *c);
void conn_flush_later(struct conn *c);
void conn_close(struct conn *c);
void conn_check_timeouts(struct load *l);

/* lane.c */
void lane_start(struct lane *lane);
void lane_resume(struct lane *lane);
void lane_send(struct op *op);
/* The answer to an operation; it may be sent again, or its lane goes on. */
void lane_done(struct op *op, enum op_result result);
/* The slot of a key is at host:port now; endpoints that are new are added. */
void lane_moved(struct load *l, uint16_t slot, const char *host, uint16_t port);
uint16_t lane_slot(uint64_t number);
void lane_send_again(struct load *l);
size_t lane_key(const struct load *l, uint64_t number, char out[40]);
/* Does the value carry this number? */
bool lane_value_good(const struct load *l, uint64_t number, const uint8_t *value, size_t len);
void lane_fill_value(struct load *l, uint64_t number);

/* resp.c */
extern const struct protocol protocol_resp;
/* Ask an endpoint for the slot map, blocking. */
void resp_load_slots(struct load *l);

/* etcd.c: NULL where the program was built without nghttp2. */
const struct protocol *protocol_etcd(void);

#endif
