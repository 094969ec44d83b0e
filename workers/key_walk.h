/* Walks over the keys of the cluster, for SCAN, KEYS and their relatives. A walk asks one replica of
 * each partition, the first that can be reached, a bounded number of records at a time, and goes on to
 * the next replica when one fails. It is a pending reply: the state lives in it and ends with it.
 *
 * Order and cursor are positions on the ring, so a walk that is resumed on another worker or node, or
 * after the ring has changed, misses no key that was there all the time. The cursor is the top 53 bits
 * of a position (some clients keep it as a double); a key may be reported twice.
 *
 * On a worker port a walk is over the keys whose slots the cluster map gives to that worker, so that
 * cluster clients that ask every worker see each key once. Used by workers; nothing blocks. */
#ifndef CLOCKWISE_WORKERS_KEY_WALK_H
#define CLOCKWISE_WORKERS_KEY_WALK_H

#include "workers/call.h"

#define KEY_WALK_CURSOR_BITS 53

struct key_walk;

/* Called for each key found; false: go no further. */
typedef bool key_walk_fn(struct pending *p, struct key_walk *walk, struct slice key);

struct key_walk_setup {
    key_walk_fn *each;
    pending_finish_fn *finish;
    bool write;
    uint8_t lanes;        /* partitions walked at once; 1: in the order of the ring */
    bool round;           /* from a random place once around */
    bool resumable;       /* may end early: `rows` records, or many steps without; has a cursor */
    uint64_t cursor;      /* where to begin */
    uint32_t rows;        /* resumable: look at so many records, roughly */
    int32_t slot;         /* this one alone; -1: all */
    bool mine;            /* all: those that the map gives this worker; at a worker port anyway */
    struct slice pattern; /* keys that match alone; empty: all. Copied */
    uint64_t most;        /* for the caller */
};

/* Begin a walk, when all earlier commands of the connection have been answered; later ones wait for it.
 * The command's reply comes from setup->finish. */
enum call_result key_walk_begin(struct call *call, const struct key_walk_setup *setup);

/* In finish: has everything been walked? If not, and it is not resumable, the engine was too busy. */
bool key_walk_complete(struct pending *p);

/* In finish: where to go on; 0 if everything has been walked. */
uint64_t key_walk_cursor(struct pending *p);

/* What the caller gave as `most`. */
uint64_t key_walk_most(const struct key_walk *walk);

/* In finish: has `each` ended it? */
bool key_walk_stopped(struct pending *p);

/* In `each`: delete this key. The walk waits for it, and the reply is an error if it fails. */
bool key_walk_delete(struct pending *p, struct key_walk *walk, struct slice key);

#endif
