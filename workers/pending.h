/* Replies that are owed to clients: answers arrive in any order, replies leave in the order of the
 * commands. Each command whose answer must be waited for has one struct pending in its connection's
 * list; replies that are ready before their turn wait in it. Each request given to the engine has
 * one entry in the table of requests, and its number is the engine's token.
 *
 * Both tables are of fixed size and allocated once. Used by workers; one thread. */
#ifndef CLOCKWISE_WORKERS_PENDING_H
#define CLOCKWISE_WORKERS_PENDING_H

#include "core/coord.h"
#include "workers/resp_reply.h"

#define PENDING_TEXT 64

struct conn;
struct pending;

/* Turn an answer into (a part of) the reply. Called once for each request of the pending reply;
 * `part` is what was given to pending_request(). */
typedef void pending_answer_fn(struct pending *p, uint32_t part, const struct coord_reply *answer,
                               struct resp_out *out);

/* Write the reply of a command of many keys, after its last answer. */
typedef void pending_finish_fn(struct pending *p, struct resp_out *out);

struct pending {
    struct pending *next; /* in the connection's list, or the free list */
    struct conn *conn;    /* NULL once the connection is gone: answers are dropped */
    pending_answer_fn *answer;
    pending_finish_fn *finish; /* commands of many keys; else NULL */
    uint32_t waiting;          /* answers to come, plus one while requests are being issued */
    uint32_t commands;         /* of the pipeline that this stands for */
    size_t held;               /* bytes of `out` that the connection has counted */
    bool ready;
    bool silent; /* CLIENT REPLY OFF or SKIP: run, but say nothing */
    bool failed; /* a key of many failed; `error` says how */
    bool write;  /* the request may change something: how errors are worded */
    bool read;   /* each of its answers may be as large as a value */
    /* For the log of slow commands. */
    uint16_t command; /* index into the command table */
    uint16_t text_size;
    uint32_t argc, cut; /* bytes of the first argument that are not in text */
    uint64_t started_us;
    char text[PENDING_TEXT]; /* the beginning of the first argument */
    struct resp_out out;
    int64_t arg[2]; /* the command's own */
    /* Commands of many keys. */
    uint32_t count, issued;
    int64_t sum;
    struct coord_reply error;
    struct resp_out parts; /* what the answers said, in the order in which they came */
    struct buf index;      /* where in `parts` each key's part is: struct pending_part */
};

struct pending_part {
    size_t offset, len;
};

struct pending_request {
    struct pending *pending; /* NULL: free */
    uint32_t part;
    uint32_t generation;
    uint32_t next_free;
};

struct pending_table {
    struct pending *slots;
    struct pending *free_slots;
    uint32_t used_slots, max_slots, taken_slots;
    struct pending_request *requests;
    uint32_t free_request; /* index plus 1, or 0 */
    uint32_t used_requests, max_requests, taken_requests;
    size_t kept_bytes; /* of memory that free slots hold for the next reply */
};

/* requests: how many may be in flight. -ERR_NOMEM. */
int pending_open(struct pending_table *t, uint32_t requests);
void pending_close(struct pending_table *t);

/* Is there room for another reply and another request? Ask before running a command. */
static inline bool pending_room(const struct pending_table *t)
{
    return t->taken_slots < t->max_slots && t->taken_requests < t->max_requests;
}

/* A cleared reply; there must be room. */
struct pending *pending_take(struct pending_table *t);
void pending_release(struct pending_table *t, struct pending *p);

/* Enter a request for a part of p; returns its token. There must be room. */
uint64_t pending_request(struct pending_table *t, struct pending *p, uint32_t part);

/* The request of a token has been answered or refused: free its entry. NULL for a token that is not
 * (any more) in the table. */
struct pending *pending_answered(struct pending_table *t, uint64_t token, uint32_t *part);

#endif
