/* The simulator: a whole cluster of real core/ code in one process, over virtual time. One seed is one
 * run: everything random is drawn from one generator, every event enters one trace hash.
 *
 *   event.c   the event queue, the trace
 *   net.c     links between workers: delay, loss, duplication, partitions, resets
 *   disk.c    what store.h promises, and what a crash, a lost disk or a backup leaves of it
 *   node.c    nodes and workers: the host of core/coord.h and core/handoff.h
 *   client.c  clients: plain, with contexts, sessions, shopping carts
 *   repair.c  antientropyd of each node: the host of core/exchange.h and core/horizon.h
 *   repair_net.c, repair_disk.c, repair_check.c  its connections, what it sees of the disk, what must hold
 *   oracle.c  what causality permits, from explicit sets of writes; the checkers
 *   fault.c   chaos
 *   ring.c    changes of the ring: gossip, copies of partitions, administrators
 *   run.c     the phases of a run: set-up, chaos, healing, final checks
 *   main.c    command line, one child process for each seed
 *
 * Times are microseconds of virtual time. A failed check prints the reason and ends the process. */
#ifndef CLOCKWISE_TESTS_SIM_SIM_H
#define CLOCKWISE_TESTS_SIM_SIM_H

#include "base/buf.h"
#include "base/rand.h"
#include "core/coord.h"
#include "core/handoff.h"
#include "core/msg.h"
#include "core/object.h"
#include "core/planted.h"

#include <stdio.h>

enum {
    SIM_NODES = 7,
    SIM_WORKERS = 3,
    SIM_PARTITIONS = 16,
    SIM_KEYS = 24,
    SIM_EVENTS = 512, /* dots issued for one key */
    SIM_WORDS = SIM_EVENTS / 64,
    SIM_CLIENTS = 16,
    SIM_FAULTS = 16
};

#define MS(n)  ((uint64_t)(n)*1000)
#define SEC(n) ((uint64_t)(n)*1000000)

struct sim;

/* A set of a key's events. */
struct bits {
    uint64_t w[SIM_WORDS];
};

static inline bool bits_has(const struct bits *b, unsigned i)
{
    return b->w[i / 64] >> (i % 64) & 1;
}

static inline void bits_add(struct bits *b, unsigned i)
{
    b->w[i / 64] |= 1ull << (i % 64);
}

static inline void bits_join(struct bits *a, const struct bits *b)
{
    for (int i = 0; i < SIM_WORDS; i++)
        a->w[i] |= b->w[i];
}

/* --- event.c --- */

struct event {
    uint64_t at, number;
    void (*fn)(struct sim *s, const struct event *e);
    void *p;
    uint64_t a, b;
};

/* Call fn after `after` microseconds. Events of one time are called in the order of these calls. */
void sim_after(struct sim *s, uint64_t after, void (*fn)(struct sim *, const struct event *),
               void *p, uint64_t a, uint64_t b);
/* Run the queue until virtual time `until`. */
void sim_run_until(struct sim *s, uint64_t until);
/* Let numbers enter the trace hash; with --log also print. */
void sim_trace(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c);
_Noreturn void sim_fail(struct sim *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A number in [low, high]. */
uint64_t sim_range(struct sim *s, uint64_t low, uint64_t high);
/* True in `percent` of 100 cases. */
bool sim_percent(struct sim *s, unsigned percent);

/* --- disk.c --- */

struct blob {
    uint32_t refs, len;
    uint8_t bytes[];
};

struct vnode {
    uint64_t id;       /* 0: it does not exist */
    uint64_t next;     /* the next dot */
    uint64_t reserved; /* durable: no dot above it has been issued */
    bool reserving;
    uint8_t standing; /* enum standing; with the next ones durable */
    uint64_t horizon_ms;
    uint64_t late_ms;    /* not durable: when something last came late */
    bool purges;         /* nothing has since the horizon last moved */
    uint64_t stamp_ms;   /* wall time when it was last in touch */
    uint64_t whole_us;   /* when it became whole */
    uint64_t written_us; /* when anybody but anti-entropy last wrote into it */
};

enum damage { SOUND, DAMAGED, DAMAGE_TOLD };

/* What is on disk, or as a worker sees it. */
struct image {
    struct blob *object[SIM_KEYS];
    struct blob *given[SIM_KEYS]; /* by others than anti-entropy: the newest such state */
    uint8_t hint[SIM_NODES][SIM_KEYS];
    uint8_t damaged[SIM_KEYS]; /* enum damage */
};

struct disk {
    struct image live, durable;
    struct blob *flushed[SIM_KEYS]; /* what trees are made of */
    uint64_t stored_us[SIM_KEYS];   /* when the record was last written */
    uint64_t mended_us[SIM_KEYS];   /* when a damaged record last went, or was written anew */
    uint64_t dirty_ms[SIM_KEYS];    /* wall time of the first write that is not flushed; 0: none */
    uint64_t hint_ms[SIM_NODES][SIM_KEYS];
    bool used[SIM_PARTITIONS]; /* there has been a vnode before */
    struct vnode vnode[SIM_PARTITIONS];
    bool has_backup;
    struct image backup;
    struct vnode backup_vnode[SIM_PARTITIONS];
};

enum op_kind { OP_PUT, OP_HINT_ADD, OP_HINT_REMOVE };

struct op { /* one journal record */
    uint8_t kind, target;
    bool given;
    uint16_t key;
    struct blob *object;
};

struct journal {
    struct op *ops; /* ops[i] has LSN first_lsn + i */
    uint32_t count, capacity;
    uint64_t first_lsn; /* of ops[0] */
    uint64_t syncing;   /* up to this LSN a sync is running; 0: none runs */
};

struct worker;

void disk_blob_drop(struct blob *b); /* one reference */
int disk_load(struct worker *w, unsigned key, struct slice *object);
int disk_store(struct worker *w, unsigned key, struct slice object, uint64_t *lsn);
/* Remove a key for good. */
int disk_drop(struct worker *w, unsigned key, uint64_t *lsn);
/* A vnode that does not exist begins. */
void disk_vnode_create(struct sim *s, unsigned node, unsigned partition);
/* Has there never been one, so that nothing can be missing in it? In a ring of later than the founding
 * others may have had what belongs into it. */
bool disk_is_fresh(const struct sim *s, unsigned node, unsigned partition);
/* The vnode goes with all that it has; nothing of it may be on its way to the disk. */
void disk_vnode_drop(struct sim *s, unsigned node, unsigned partition);
/* What is durable is written back. */
void disk_flush(struct sim *s, unsigned node, unsigned partition);
int disk_hint(struct worker *w, enum op_kind kind, unsigned key, unsigned target, uint64_t *lsn);
int disk_next_dot(struct worker *w, unsigned partition, struct dot *out);
int disk_witness(struct worker *w, unsigned partition, struct dot seen);
/* Begin a sync if there is something to sync and none runs. */
void disk_kick(struct worker *w);
/* The worker died. What it had written survives, unless the power was cut: then, of what was not
 * durable, a random prefix does. */
void disk_crashed(struct worker *w, bool power);
/* The worker starts: its vnodes resume above what they have reserved. */
void disk_started(struct worker *w);
/* The disk of a node that is down is lost, copied aside, replaced by the copy. */
void disk_wipe(struct sim *s, unsigned node);
void disk_backup(struct sim *s, unsigned node);
void disk_restore(struct sim *s, unsigned node);
/* Take one key out of a node's disk, which knows that it has forgotten something. */
void disk_forget(struct sim *s, unsigned node, unsigned key);
/* A vnode of the node takes a new id if its present one is still `id`. */
void disk_renew(struct sim *s, unsigned node, unsigned partition, uint64_t id);
/* One record of the node is damaged. */
void disk_damage(struct sim *s, unsigned node, unsigned key);
unsigned disk_hints(const struct sim *s, unsigned node);

/* --- node.c --- */

struct worker {
    struct sim *sim;
    uint16_t node, index;
    bool up;
    uint64_t incarnation;
    struct coord *coord; /* NULL while down */
    void *memory;
    struct buf scratch_a, scratch_b;
    struct handoff *handoff;
    void *handoff_memory;
    struct journal journal;
    bool tail_lost;    /* by a power cut; its vnodes need new ids */
    struct blob *lent; /* what the last load lent out */
    uint64_t durable;  /* LSN */
    uint64_t tick_at;  /* a tick is queued for then; UINT64_MAX: none */
    struct held *held; /* answers to anti-entropy that wait for the disk */
};

struct node {
    struct worker worker[SIM_WORKERS];
    struct disk disk;
    struct ring_view view;
    struct ring_index index;
    bool up;
    uint64_t frozen_until; /* events for it wait until then */
    uint64_t thawed_at;
    uint64_t trouble_at; /* when anything last happened to it */
    bool unnoticed;      /* restored from a backup in a way that its own files do not tell */
    uint64_t slow_us;    /* added to what it sends, receives and syncs */
    struct repairer *repairer;
    int64_t wall_offset_ms;
};

void node_init(struct sim *s, unsigned node);
void worker_crash(struct sim *s, unsigned node, unsigned worker);
void worker_start(struct sim *s, unsigned node, unsigned worker);
void node_crash(struct sim *s, unsigned node);
void node_start(struct sim *s, unsigned node);
void node_freeze(struct sim *s, unsigned node, uint64_t duration);
/* Every other node learns that this one is faulty, or alive. */
void node_gossip(struct sim *s, unsigned about, enum member_state state);
/* A client's request reaches a worker; false: it is not taken. */
struct request;
bool worker_request(struct worker *w, struct request *r);
/* What a worker does after each event: sync what is new, arm its next deadline. */
void worker_turn(struct worker *w);
void worker_message(struct worker *w, unsigned from_node, unsigned from_worker,
                    const struct msg *m);
void worker_link_down(struct worker *w, unsigned node, unsigned worker);
uint64_t node_wall_ms(const struct sim *s, unsigned node);
bool node_frozen(const struct sim *s, unsigned node);
/* Has the node been up, all its workers too, and at full speed since then? */
bool node_well_since(const struct sim *s, unsigned node, uint64_t since);
/* If the event is for a frozen node: queue it again for when it thaws, and say true. */
bool node_defer(struct sim *s, unsigned node, const struct event *e);
unsigned worker_of_key(const struct sim *s, unsigned node, unsigned key);

/* --- net.c --- */

struct stream { /* from one worker to another */
    bool up;    /* the sender thinks so */
    bool live;  /* it is so */
    uint64_t generation;
    uint64_t last_arrival; /* keeps order */
    uint64_t changed_at;   /* when it last broke, came back or was backed up */
};

struct net {
    struct stream stream[SIM_NODES][SIM_WORKERS][SIM_NODES][SIM_WORKERS];
    bool blocked[SIM_NODES][SIM_NODES]; /* from, to */
    uint64_t unblocked_at[SIM_NODES][SIM_NODES];
    uint64_t latency_us, jitter_us;
    unsigned loss, duplicate, reorder; /* per 1000 messages; only where links lose at all */
    uint64_t messages, repairs;
};

int net_send(struct worker *from, unsigned node, unsigned worker, const struct msg *m);
bool net_reachable(const struct worker *from, unsigned node, unsigned worker);
/* The worker is gone: its links break; others notice soon, or after a silence. */
void net_worker_gone(struct sim *s, unsigned node, unsigned worker, bool silent);
void net_worker_back(struct sim *s, unsigned node, unsigned worker);
/* Something now blocks a pair of nodes: whoever still waits in vain after a while gives the link up. */
void net_suspect(struct sim *s, unsigned from, unsigned to);
void net_reset(struct sim *s, unsigned from, unsigned to);
void net_heal(struct sim *s);
/* Has everything between two nodes worked since then? Has everything from one to the other been known
 * to be down? */
bool net_well_since(const struct sim *s, unsigned a, unsigned b, uint64_t since);
bool net_down_since(const struct sim *s, unsigned from, unsigned to, uint64_t since);

/* --- oracle.c --- */

enum write_kind { WRITE_PUT, WRITE_DELETE };

/* What one client once wanted to write: all attempts together. */
struct write {
    uint16_t key;
    uint8_t kind; /* enum write_kind */
    bool has_context, conditional;
    bool acked;
    uint64_t request_id;
    uint64_t items; /* of a shopping cart */
    struct bits seen;
    struct bits events; /* dots issued for it */
    uint32_t length;    /* of the value */
};

struct write_event { /* one dot */
    struct dot dot;
    uint32_t write;
    uint8_t node;               /* that coordinated it */
    uint64_t at_us, primary_us; /* when it was written, when a primary first had it; 0: none has */
    bool orphan;                /* that node has lost it, others have not */
    struct bits direct;         /* events that it supersedes by its own context */
    struct bits past;           /* and those that these supersede, and so on */
};

struct issued {
    struct dot dot;
    int32_t key, event; /* -1: not stored yet */
};

struct key {
    char name[24];
    struct slice slice;
    struct position position;
    unsigned partition;
    bool cart, strict;
    unsigned n;
    uint32_t event_count, id_writes;
    struct write_event event[SIM_EVENTS];
    struct bits past; /* of any event */
    uint32_t *acked;  /* writes in the order of their acknowledgement */
    uint32_t acked_count, acked_capacity;
    uint64_t items;                     /* of a cart: so far handed out */
    bool forgetful;                     /* a crash may have cost hints that were owed */
    uint64_t coordinated_at[SIM_NODES]; /* last write */
    struct bits buried;                 /* deletes that were purged, and all that they supersede */
    struct bits stranded;               /* see oracle_stranded() */
};

/* A request of a client, one attempt. */
struct request {
    int client;     /* -1: the checker's */
    uint32_t token; /* its index */
    bool is_write, want_all;
    uint32_t write;
    uint16_t key;
    uint16_t node, worker;
    uint64_t incarnation;
    uint64_t accepted_at, timeout_us;
    uint8_t r, w, pw;
    uint32_t acked_before; /* writes acknowledged when it was sent */
    bool accepted, replied, abandoned;
    struct slice context; /* owned */
    /* The reply, as it travels to the client. */
    int status;
    uint32_t flags;
    uint8_t got;
    struct blob *reply_context, *reply_object;
};

uint32_t oracle_write(struct sim *s, const struct write *w);
/* A write that no primary has heard of before its horizon could pass it: whoever was cut off with it for
 * longer than hints are kept cannot be told from one who has missed its deletion, and what it has
 * counts as deleted. That is what horizons cost; true if it may have happened to this event. */
bool oracle_stranded(struct sim *s, unsigned key, unsigned event);
/* Does one object cover all siblings of another? */
bool oracle_covers(struct sim *s, unsigned key, const struct blob *of, const struct blob *by);
/* The bytes of a write's value; valid until the next call. */
struct slice oracle_value(struct sim *s, uint32_t write);
void oracle_dot_issued(struct sim *s, struct dot d);
/* An object is stored at a node: `before` is what was there. */
void oracle_stored(struct sim *s, unsigned node, unsigned key, struct slice before,
                   struct slice object);
void oracle_write_replied(struct sim *s, struct request *r, const struct coord_reply *reply);
void oracle_read_replied(struct sim *s, struct request *r, const struct coord_reply *reply);
/* The events that a reader of this object has seen: siblings and all they supersede; and those of them
 * that its context covers. An empty slice: nothing. */
void oracle_seen(struct sim *s, unsigned key, struct slice object, struct bits *seen,
                 struct bits *siblings, struct bits *covered);
/* What a writer knows after an acknowledged write. */
void oracle_after_write(struct sim *s, const struct request *r, struct slice context,
                        struct bits *seen);
/* Does a node have a write on disk, or something that has superseded it? */
bool oracle_node_has(struct sim *s, unsigned node, unsigned key, uint32_t write);
/* After healing: replicas agree, nothing acknowledged is lost. */
void oracle_final(struct sim *s);
void oracle_converged(struct sim *s, bool by_hints_alone);
/* A node removes a hint: the target has the object, durably. */
void oracle_hint_gone(struct sim *s, unsigned node, unsigned target, unsigned key);
/* A worker died: what it coordinated of late may lack hints. */
void oracle_worker_gone(struct sim *s, const struct worker *w);
/* After a power cut: of what the worker has coordinated, what has it lost that others hold? */
void oracle_tail_lost(struct sim *s, const struct worker *w);
/* A request failed: was that necessary? */
void oracle_failed(struct sim *s, const struct request *r, const struct coord_reply *reply);
/* A replica's answer reaches a reading coordinator, which then has to repair what is stale. */
void oracle_read_sent(struct sim *s, const struct worker *from, uint64_t request);
void oracle_read_done(struct sim *s, struct worker *to, unsigned from,
                      const struct msg_READ_DONE *m);

/* --- client.c --- */

enum client_kind { CLIENT_PLAIN, CLIENT_RANDOM, CLIENT_SESSION, CLIENT_CART, CLIENT_KINDS };

struct session { /* what a client remembers of a key */
    bool known;
    struct bits seen;
    uint32_t context_len;
    uint64_t items;
    char context[LIMIT_CONTEXT_TEXT];
};

struct client {
    uint8_t kind;
    uint16_t home;
    bool idle;
    uint64_t request; /* waited for; index */
    uint32_t write;   /* current write, or UINT32_MAX */
    unsigned attempts;
    uint16_t key;
    struct session session[SIM_KEYS];
};

#define NO_WRITE UINT32_MAX

void client_start(struct sim *s, unsigned client);
/* A read of all replicas for the final checks. */
void client_check_read(struct sim *s, unsigned key);
/* A read of r replicas through the worker of a node that owns the key. It must see all writes acknowledged
 * so far. */
struct request *client_check_one(struct sim *s, unsigned key, unsigned node, unsigned r);
/* A plain write through a node. */
void client_check_write(struct sim *s, unsigned key, unsigned node, bool delete);
/* A read of two replicas through the worker of a node that owns the key. */
void client_check_pair(struct sim *s, unsigned key, unsigned node);
/* A worker died: its clients notice. */
void client_worker_gone(struct sim *s, const struct worker *w);
/* A reply leaves a worker. */
void client_reply(struct sim *s, struct request *r, const struct coord_reply *reply);

/* --- fault.c --- */

void fault_start(struct sim *s);
/* Nothing gets from one node to another for a while. */
void fault_block(struct sim *s, unsigned from, unsigned to, uint64_t duration);
void fault_stop(struct sim *s);

/* --- repair.c --- */

/* Anti-entropy of a node begins, ends. */
void repair_start(struct sim *s, unsigned node);
void repair_stop(struct sim *s, unsigned node);
/* The worker has carried out an event: what of its answers has become durable? */
void repair_turn(struct worker *w);
void repair_worker_gone(struct worker *w);
/* How far may the vnode be believed? As coord_host.standing. */
int repair_standing(const struct worker *w, uint32_t partition, uint64_t *horizon_ms);
/* Has the node been able to serve reads, or writes, of a key as a replica since then? */
bool repair_serves(const struct sim *s, unsigned node, unsigned key, bool write, uint64_t since);
/* Is the hint older than hints may be? */
/* The ring is another one. */
void repair_view(struct sim *s, unsigned node);
bool repair_hint_expired(const struct sim *s, unsigned node, unsigned target, unsigned key);
/* A connection between two antientropyds breaks. */
void repair_reset(struct sim *s, unsigned a, unsigned b);

/* --- repair_check.c --- */

/* A tombstone is purged at a node; an object is dropped there because it is dead. */
void check_purge(struct sim *s, unsigned node, unsigned key);
void check_drop(struct sim *s, unsigned node, unsigned key);
/* Has all that is alive in an object been deleted and purged since, or does it count as that? */
bool check_buried(struct sim *s, unsigned key, const struct blob *b);
/* After healing: replicas become equal by anti-entropy alone, tombstones and surplus vnodes go, and then
 * nothing moves any more. */
void check_repaired_by_itself(struct sim *s);
/* A replica that has lost its disk, one that was away: neither misleads a reader. */
void check_wiped(struct sim *s);
void check_away(struct sim *s);
void check_late(struct sim *s);

/* --- ring.c --- */

/* Does the ring change in this run? Sets s->nodes and s->spares; n is the number of replicas. */
void ring_set_up(struct sim *s, unsigned n);
void ring_start(struct sim *s);
/* The node is down: what its gossipd and antientropyd had not saved is gone. */
void ring_node_gone(struct sim *s, unsigned node);
void ring_heal(struct sim *s);
/* After healing: one ring, everything where it belongs. */
void ring_settle(struct sim *s);

/* --- run.c --- */

struct sim_options {
    uint64_t seed;
    unsigned nodes; /* 0: by seed */
    unsigned ops;   /* 0: by seed */
    bool log;
    bool repair; /* anti-entropy in every run */
    bool ring;   /* the ring changes in any case */
};

struct sim {
    struct sim_options options;
    struct rand rand;
    uint64_t now;
    uint64_t trace;
    /* event.c */
    struct event *heap;
    uint32_t heap_count, heap_capacity;
    uint64_t event_number;
    /* the cluster */
    unsigned nodes, workers, q_bits;
    struct node node[SIM_NODES];
    struct net net;
    struct coord_conf conf;
    struct quorum_rule rule[3]; /* loose, strict, carts where they have an N of their own */
    uint64_t sync_us;           /* longest sync of a healthy disk */
    unsigned block;             /* dots reserved at once */
    uint64_t think_us;
    bool handoff_always;
    bool repair;        /* anti-entropy runs */
    bool repair_paused; /* no exchange begins */
    uint64_t repair_interval_us, hint_age_ms, surplus_us;
    struct repair_net *repair_net;
    uint64_t moved; /* objects, by anti-entropy */
    uint64_t exchanges, agreements;
    bool merging;   /* a worker merges for anti-entropy: its disk may be full */
    bool calm;      /* nothing breaks in this run */
    bool amnesia;   /* disks may be lost, damaged or restored in this run */
    bool forgetful; /* a crash or a damaged disk may have cost hints that were owed */
    uint64_t fault_gap_us;
    unsigned fault_total, fault_weight[SIM_FAULTS];
    uint32_t amnesiacs;    /* bit per node: may lose its disk */
    struct ring_sim *ring; /* NULL: the ring does not change */
    bool rivals;           /* changes are made without regard to others under way */
    unsigned spares;       /* nodes that are in no ring at first */
    unsigned reference;    /* a node whose ring is everybody's in the end */
    uint32_t removed;      /* bit per node: taken out by force, never to come back */
    bool chaos, clients_stopped;
    /* the oracle */
    unsigned keys;
    struct key key[SIM_KEYS];
    struct write *write;
    uint32_t write_count, write_capacity;
    uint64_t current_write; /* that is being coordinated; UINT64_MAX: none */
    unsigned storing;       /* node that stores an object */
    bool coordinating;      /* a write is being coordinated */
    struct {
        const struct worker *worker;
        uint64_t request, at;
    } reads[256]; /* sent of late */
    unsigned reads_at;
    struct issued *dots; /* hash table of all dots issued */
    uint32_t dots_count, dots_capacity;
    /* clients */
    unsigned clients, ops_left;
    struct client client[SIM_CLIENTS];
    struct request **request;
    uint32_t request_count, request_capacity;
    uint32_t checks_waiting, checks_failed;
    uint64_t writes_ok, writes_failed, reads_ok, reads_failed, refused;
};

/* Run one seed; returns the trace hash, or ends the process. */
uint64_t sim_run(const struct sim_options *options);

#endif
