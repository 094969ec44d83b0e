/* Anti-entropy in the simulator: see sim.h. Shared by repair*.c alone. */
#ifndef CLOCKWISE_TESTS_SIM_REPAIR_H
#define CLOCKWISE_TESTS_SIM_REPAIR_H

#include "core/coord_repair.h"
#include "core/exchange.h"
#include "core/horizon.h"
#include "tests/sim/sim.h"

enum { REPAIR_RUNS = 8, REPAIR_LED = 3 }; /* exchanges of a node at a time; of them begun by it */

/* One end of one exchange. */
struct run {
    bool used;
    bool leads;
    struct repairer *owner;
    unsigned peer, partition;
    uint32_t number;
    uint64_t serial;     /* of all runs of the simulation */
    uint64_t generation; /* of the connection */
    uint64_t active_at;
    struct exchange_side side;
    struct exchange *x;
    uint64_t peer_vnode; /* when it began */
    uint64_t began_us;
    bool same[SIM_KEYS];          /* both trees had the key then, and both workers the same of it */
    struct blob *begin[SIM_KEYS]; /* what the tree had then: the oracle's */
};

struct repairer {
    struct sim *sim;
    unsigned node;
    bool up;
    uint64_t incarnation;
    uint32_t numbers;
    struct horizon agreed[SIM_PARTITIONS];
    uint64_t next_us[SIM_PARTITIONS][SIM_NODES];
    struct run run[REPAIR_RUNS];
};

/* --- repair_net.c --- */

/* A message with its own copy of all bytes. */
struct letter {
    unsigned from, to;
    bool by_leader; /* the sender leads the connection */
    uint64_t generation;
    struct repair m;
    uint8_t bytes[];
};

struct letter *letter_make(const struct repair *m);
void repair_net_init(struct sim *s);
uint64_t repair_generation(const struct sim *s, unsigned leader, unsigned follower);
/* 0, or -ERR_CLOSED if that connection is gone. */
int repair_send(struct run *r, const struct repair *m);
void repair_break(struct sim *s, unsigned leader, unsigned follower);
void repair_node_gone(struct sim *s, unsigned node);

/* --- repair.c --- */

void repair_deliver(struct sim *s, const struct letter *l);
/* The connection has another generation now: whoever had an exchange on it hears of it. */
void repair_broken(struct sim *s, unsigned node, unsigned leader, unsigned follower);

/* --- repair_disk.c --- */

/* Host callbacks; arg is a struct run. */
int repair_leaves(void *arg, uint32_t partition, const uint64_t **leaves, unsigned *leaf_bits);
int repair_rows(void *arg, uint32_t partition, const struct position *first,
                const struct position *last, uint32_t max, struct exchange_entry *out);
int repair_objects(void *arg, uint32_t partition, struct position *cursor,
                   const struct position *last, uint32_t max_bytes, struct buf *out);
/* How a vnode is at this moment, for an exchange. */
struct exchange_side repair_side(struct sim *s, unsigned node, unsigned partition);
bool repair_is_primary(const struct sim *s, unsigned node, unsigned partition);
/* LOOK of the planted bug: what the tree says, as if no buffers existed. */
void repair_look_at_tree(struct sim *s, unsigned node, const struct repair_LOOK *m,
                         struct repair_LOOKED *answer, struct buf *out);

/* --- repair_check.c --- */

/* What the tree has, for check_agreed(). */
void check_begin(struct run *r);
void check_forget(struct run *r);
/* Both ends have what this one had when it began. */
void check_agreed(struct run *r);
/* The objects of a MERGE are on the disk of the node whose answer goes out; run: what it was for, or NULL
 * if that has been given up. */
void check_merged(struct sim *s, unsigned node, const struct run *run, struct slice objects,
                  struct slice took);
/* A surplus vnode is about to go. */
void check_surplus(struct sim *s, unsigned node, unsigned partition);

#endif
