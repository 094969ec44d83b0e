/* Inside of struct exchange, for the files exchange*.c alone: everyone else uses exchange.h. */
#ifndef CLOCKWISE_CORE_EXCHANGE_IMPL_H
#define CLOCKWISE_CORE_EXCHANGE_IMPL_H

#include "core/exchange.h"

#include "base/check.h"
#include "base/err.h"
#include "core/planted.h"

enum {
    EXCHANGE_MAGIC = 0x45584348,
    EXCHANGE_LEVELS = EXCHANGE_BITS / EXCHANGE_FAN + 1,
    /* Depth first: each level has at most the children of one batch on the stack. */
    EXCHANGE_STACK = EXCHANGE_LEVELS * EXCHANGE_NODES * EXCHANGE_CHILDREN,
    EXCHANGE_CHUNK = 256, /* rows read at once to make sums */
    EXCHANGE_NODE_BYTES = 4 + EXCHANGE_CHILDREN * EXCHANGE_SUM_BYTES
};

/* What is waited for. The initiator and the responder have states of their own. */
enum exchange_state {
    XSTATE_IDLE,
    /* Initiator, for the peer. */
    XSTATE_OPENING,
    XSTATE_COMPARING,
    XSTATE_LISTING,
    XSTATE_BURYING,
    XSTATE_PULLING,
    XSTATE_PUSHING,
    /* Initiator, for its worker. */
    XSTATE_LOOKING,
    XSTATE_DROPPING,
    XSTATE_MERGING,       /* what was pulled */
    XSTATE_FETCHING,      /* what is to be pushed */
    XSTATE_TAKING_BACK,   /* what came back from a push */
    XSTATE_DROPPING_SENT, /* what the peer calls dead */
    /* Responder, for the peer. */
    XSTATE_SERVING,
    /* Responder, for its worker. */
    XSTATE_SERVE_LOOK,
    XSTATE_SERVE_FETCH,
    XSTATE_SERVE_MERGE,
    XSTATE_SERVE_DROP,
    XSTATE_OVER
};

struct node {
    uint32_t index;
    uint8_t bits;
    bool empty_here, empty_there; /* this side, the other side has nothing in it */
};

enum diff_kind {
    DIFF_NONE,
    DIFF_DEAD_THERE,
    DIFF_DEAD_HERE,
    DIFF_PULL,
    DIFF_PUSH,
    DIFF_BOTH /* push, and take back what comes of it */
};

struct diff {
    struct position pos;
    uint64_t digest; /* of the version that is dead */
    uint8_t kind;    /* enum diff_kind */
};

/* A range that is moved without lists. */
struct range {
    bool pull, push; /* still to do */
    struct position pull_at, push_at, last;
};

struct exchange {
    uint32_t magic;
    uint32_t number;
    struct exchange_host host;
    struct exchange_side mine;
    uint32_t theirs_flags;
    uint64_t theirs_horizon_ms, theirs_behind_ms;
    enum exchange_state state;
    enum exchange_outcome outcome;
    int error;
    bool partial; /* something could not be mended */
    struct exchange_stats stats;

    uint32_t stack_count;
    uint32_t asked_count; /* nodes of the COMPARE or LIST under way */
    struct node asked[EXCHANGE_NODES];
    uint16_t asked_empty[EXCHANGE_NODES]; /* children with nothing here */
    struct range range;
    uint32_t diff_count;
    bool want_whole; /* of the push under way */
    uint32_t mine_count, theirs_count;
    bool range_push;  /* the push under way is one of the range */
    struct buf wire;  /* a message in the making */
    struct buf batch; /* the objects under way */
    struct node stack[EXCHANGE_STACK];
    struct diff diff[EXCHANGE_LIST]; /* ascending by position */
    struct exchange_entry mine_list[EXCHANGE_LIST], theirs_list[EXCHANGE_LIST];
    struct exchange_entry chunk[EXCHANGE_CHUNK];
};

/* --- exchange.c --- */

/* The exchange is over. Returns error, for who wants to pass it on. */
int exchange_fail(struct exchange *x, int error);
/* Send; an error of the host ends the exchange. */
void exchange_send(struct exchange *x, const struct repair *m);
/* Ask the own worker; likewise. `state` is what is waited for. */
void exchange_ask(struct exchange *x, enum exchange_state state, const struct repair *m);
/* Append to wire; false: no memory, and the exchange is over. */
bool exchange_put(struct exchange *x, const void *bytes, size_t len);
static inline struct slice exchange_bytes(const struct buf *b)
{
    return slice_of(b->data + b->start, b->end - b->start);
}
/* Decode entries into out (at most max): ascending, within the partition. Their number, or -1. */
int exchange_entries(const struct exchange *x, struct slice bytes, struct exchange_entry *out,
                     uint32_t max);
/* Are these positions, ascending, within the partition, at most max? */
bool exchange_positions_valid(const struct exchange *x, struct slice bytes, uint32_t max);
bool exchange_drops_valid(const struct exchange *x, struct slice bytes, uint32_t max);
/* Do bytes consist of encoded objects of this range, at most COORD_REPAIR_MAX? */
bool exchange_objects_valid(struct slice bytes, const struct position *first,
                            const struct position *last, uint32_t *count);
/* The next encoded object of a batch; false at its end. The batch has been checked. */
bool exchange_next_object(struct slice *bytes, struct slice *object);
uint64_t exchange_count_objects(struct slice bytes);
/* Of the objects of x->batch that took says are dead: their drops, into wire. Returns how many, counts
 * news and failures; -1 if took does not fit. */
int exchange_collect(struct exchange *x, struct slice took, uint64_t *news);
uint32_t exchange_load32(const uint8_t *p);
void exchange_store32(uint8_t *p, uint32_t v);

/* --- exchange_tree.c --- */

/* First and last position of a node. */
void exchange_node_range(const struct exchange *x, const struct node *n, struct position *first,
                         struct position *last);
/* Is the index of a node of this depth possible, and the depth too? */
bool exchange_node_valid(uint32_t index, unsigned bits);
/* Sums of the 16 children of a node, from leaves where they are deep enough, else from rows. 0 or an
 * error of the host, which has ended the exchange. */
int exchange_children(struct exchange *x, const struct node *n, uint64_t sums[EXCHANGE_CHILDREN]);
/* The rows of a node, at most max: their number, or an error. */
int exchange_rows(struct exchange *x, const struct node *n, uint32_t max,
                  struct exchange_entry *out);
/* Does the node lie deep enough that its sum takes rows? */
int exchange_leaf_bits(struct exchange *x, unsigned *leaf_bits);

static inline uint64_t exchange_cut(uint64_t sum)
{
    return sum & ((1ull << 8 * EXCHANGE_SUM_BYTES) - 1);
}

/* --- exchange_lead.c: the initiator --- */

int exchange_lead(struct exchange *x, const struct repair *m);
void exchange_lead_answer(struct exchange *x, const struct repair *m);

/* --- exchange_follow.c: the responder --- */

int exchange_follow(struct exchange *x, const struct repair *m);
void exchange_follow_answer(struct exchange *x, const struct repair *m);

#endif
