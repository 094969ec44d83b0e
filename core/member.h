/* Membership: who is in the cluster, who is alive, and which ring holds. Pure.
 *
 * SWIM (Das, Gupta, Motivala 2002): every interval one member is probed, in a shuffled round; a probe
 * without an answer is repeated through others (§3.1, §4.3); who does not answer then is suspect, and
 * faulty unless it refutes in time (§4.2); news rides on probes and answers, each item a bounded
 * number of times (§4.1). Lifeguard (Dadgar, Phillips, Currey 2018): a suspicion lasts shorter the
 * more members confirm it by probes of their own (§IV-B); a member that is slow itself waits longer
 * (§IV-A) and does not judge right after a pause of its own. Added to both: whoever hears of a
 * suspicion checks it at once (a few members, in large clusters), which brings confirmations in a
 * second where the member is dead, and brings it the accusation to refute where it is not.
 *
 * News about a member is ordered by its incarnation, which only the member itself raises; at equal
 * incarnations left > faulty > suspect > alive. An incarnation starts from the wall clock of the
 * process's start, so a restarted process overrides what was said of the one before.
 *
 * Two verdicts are kept apart: a faulty member is routed around, but stays an owner in the ring. The
 * ring is a document (epoch, proposer, members in order, owner table); the greatest by (epoch,
 * proposer) wins, and no two have the same: who commits signs with its id, what everybody derives by
 * himself bears a hash of what it is derived from. A ring that neither names this node nor has any
 * version in common with its own is that of another cluster, and not heard. How it is changed is in core/member_change.h. A cluster is founded when every founder
 * of the seed list has been met and none knows a ring: all compute the same document. A member that comes back with a new id, under the
 * name and address of an old one and with a newer incarnation, has lost its disk: it takes the old
 * one's place in the ring.
 *
 * Two members compare what they know by hashes over groups of members, and exchange the groups that
 * differ (anti-entropy as in Demers et al. 1987 §1.3, with checksums): what an exchange costs follows
 * from what differs, not from how many members there are.
 *
 * One thread; memory is the caller's; rows are bounded by what it gave. */
#ifndef CLOCKWISE_CORE_MEMBER_H
#define CLOCKWISE_CORE_MEMBER_H

#include "base/rand.h"
#include "core/gossip.h"
#include "core/protocol.h"
#include "core/ring_change.h"

#define MEMBER_SEEDS      32
#define MEMBER_HISTORY    16 /* versions of the ring that are remembered */
#define MEMBER_CONFIRMERS 4
#define MEMBER_CHECKS     8
#define MEMBER_RELAYS     16
#define MEMBER_NO_ROW     UINT16_MAX
#define MEMBER_MOST       65000 /* rows at most */
#define MEMBER_GROUPS     64    /* members are hashed in so many groups */
#define MEMBER_NEWS       64    /* news is passed on less often than that */

/* How far an incarnation may be ahead of this node's wall clock. Whoever starts with a clock that is
 * further ahead is not heard; nor can anybody push a member's incarnation so far that its own clock
 * would take years to catch up. */
#define MEMBER_AHEAD_MS (24ull * 3600 * 1000)

struct member_endpoint {
    char address[LIMIT_ADDR];
    uint16_t port;
};

struct member_conf {
    char cluster[LIMIT_NAME];
    uint8_t q_bits, n;
    uint64_t probe_interval_us, probe_timeout_us;
    uint64_t suspicion_us; /* a suspicion that nobody confirms; the shortest is a third of it */
    struct ring_quorum quorum;
    uint32_t seed_count;
    struct member_endpoint seeds[MEMBER_SEEDS]; /* founders, gossip addresses, in order */
};

/* One member as this node knows it. */
struct member_row {
    struct member m;       /* state and incarnation included */
    uint64_t since_us;     /* last change of state */
    uint64_t heard_us;     /* last packet that came from it, 0: none yet */
    uint64_t faulty_at_us; /* suspect: when it becomes faulty */
    uint64_t suspected_us; /* suspect: since when */
    uint64_t forgiven_us;  /* suspect: time added for pauses of our own */
    uint64_t ring_epoch;   /* of its last DIGEST */
    struct node_id ring_proposer;
    struct node_id before; /* whose place in the ring it has taken; zero: nobody's */
    uint32_t rtt_us;       /* of the last direct answer */
    uint32_t suspicions;   /* so far */
    bool ring_heard;       /* ring_epoch is known */
    uint8_t confirmers;    /* who suspects it by probes of their own, the first accuser included */
    uint8_t transmissions; /* how often news about it is still to be passed on */
    uint16_t confirmer[MEMBER_CONFIRMERS]; /* their rows; MEMBER_NO_ROW: somebody unknown here */

    /* member_index.c */
    uint64_t who_sum, how_sum; /* what it adds to the hashes */
    uint32_t told_in;          /* the exchange in which the other side told of it */
    uint16_t chain[3];         /* next of the same hash by id, name, place */
    uint8_t indexed_state;
    uint16_t listed;                   /* place among the suspect, or the faulty */
    uint16_t news_next, news_previous; /* of the same number of transmissions */
};

struct member_version {
    uint64_t epoch;
    struct node_id proposer;
};

struct member_ring {
    uint64_t epoch; /* 0: none yet */
    struct node_id proposer;
    uint8_t q_bits, n;
    uint16_t count;
    struct node_id id[LIMIT_MEMBERS];
    uint8_t left[LIMIT_MEMBERS];
    uint8_t going[LIMIT_MEMBERS];   /* enum member_going; of those that have left: how they went */
    uint16_t weight[LIMIT_MEMBERS]; /* 0: what the member announces */
    uint16_t owner[LIMIT_PARTITIONS];
    uint16_t next[LIMIT_PARTITIONS]; /* the same where nothing moves */
    uint8_t history_count, change_count;
    struct member_version history[MEMBER_HISTORY]; /* the versions before, newest first */
    struct ring_change change[LIMIT_STAGED];       /* what was committed last, */
    struct member_version changed;                 /* with which version */
};

/* What is counted, for gossipd's counters: X(name). */
#define MEMBER_COUNTS(X)                                                                           \
    X(probes)                                                                                      \
    X(acks)                                                                                        \
    X(indirect_probes)                                                                             \
    X(stream_probes)                                                                               \
    X(probes_failed)                                                                               \
    X(suspicions)                                                                                  \
    X(confirmations)                                                                               \
    X(verdicts)                                                                                    \
    X(faulty)                                                                                      \
    X(refutations)                                                                                 \
    X(own_pauses)                                                                                  \
    X(ahead)                                                                                       \
    X(incompatible)                                                                                \
    X(foreign)                                                                                     \
    X(lost)                                                                                        \
    X(bad)
enum member_count {
#define X(name) MEMBER_COUNT_##name,
    MEMBER_COUNTS(X)
#undef X
        MEMBER_COUNT_MAX
};

struct member_host {
    void *arg;
    /* Send a packet: the first `must` messages always (they fit), of the others as many as fit. Returns how
     * many were sent in all. Slices are borrowed during the call. */
    unsigned (*send)(void *arg, const char *address, uint16_t port, const struct gossip *list,
                     unsigned must, unsigned count);
    /* Exchange with this member over a stream: member_tell() gives what to say. */
    void (*sync)(void *arg, const char *address, uint16_t port);
    /* Send these messages over a stream; what comes back goes to member_receive(). */
    void (*stream)(void *arg, const char *address, uint16_t port, const struct gossip *list,
                   unsigned count);
    /* Rows, states or the ring have changed: publish. ring: the ring did, or a member's address. */
    void (*changed)(void *arg, bool ring);
    /* The cluster will not have this node and keeps saying so; text says why. */
    void (*refused)(void *arg, const char *text);
};

struct membership {
    struct member_conf conf;
    struct member_host host;
    struct rand rand;
    uint64_t wall_ms;         /* see member_set_wall() */
    uint16_t count, capacity; /* rows */
    struct member_row *row;   /* row 0 is this node */
    struct member_ring ring;
    struct member_change *change; /* core/member_change.h; NULL: what it holds is not heard */
    uint32_t health;              /* Lifeguard's multiplier minus one, 0 to 8 */

    uint16_t *order; /* shuffled round */
    uint16_t order_count, order_next;
    uint64_t tick_us, sync_us;
    uint64_t promised_us;                  /* when member_step() asked to be called; 0: never yet */
    uint64_t refused_us, refused_since_us; /* last and first of a series of refusals */

    /* The probe under way. */
    bool probing, indirect;
    uint8_t probe_asked, probe_nacks; /* relays asked, and how many of them are there */
    struct node_id probe_id;
    uint64_t probe_sequence, probe_sent_us, probe_indirect_us, probe_end_us;
    uint64_t probe_forgiven_us; /* time added for pauses of our own */

    /* Probes made for others: answers are passed on. */
    struct member_relay {
        uint64_t sequence, asked_sequence, until_us, nack_us;
        struct member_endpoint asker;
    } relay[MEMBER_RELAYS];
    uint32_t relay_next;

    /* Members under suspicion that this node checks itself, beside the round. */
    struct member_check {
        struct node_id id;
        uint64_t sequence; /* 0: the slot is free */
        uint64_t next_us, forgiven_us;
        uint32_t tries; /* so far without an answer */
    } check[MEMBER_CHECKS];
    uint64_t sequence;
    struct ring_view scratch; /* for founding */

    /* member_index.c: rows by id, name and place; by state; by what is still to be passed on. */
    uint16_t *bucket[3], *suspect, *faulty;
    uint32_t bucket_mask;
    uint16_t suspect_count, faulty_count, alive_count;
    uint16_t news_first[MEMBER_NEWS], news_last[MEMBER_NEWS];
    uint64_t news_levels;               /* bit i: there is news to be passed on i times */
    uint64_t who_hash;                  /* over who the members are and where */
    uint64_t group_hash[MEMBER_GROUPS]; /* and over how they are, too */

    /* member_sync.c: the exchange whose packet was received last. */
    uint64_t sync_groups;                    /* that differ, by bit */
    uint64_t sync_steps[LIMIT_MEMBERS / 64]; /* members of the ring whose steps differ, by bit */
    bool sync_ring;                          /* our ring is newer than theirs */
    bool sync_older;                         /* it is older */
    bool sync_staged;                        /* our staged changes are newer */
    struct node_id sync_sender;              /* whose packet it was */
    bool stream_asked;                       /* it was a probe */
    uint64_t stream_sequence;
    uint32_t sync_round;

    uint64_t counts[MEMBER_COUNT_MAX];
};

/* Bytes of memory that so many rows take. */
size_t member_memory(uint32_t rows);

/* memory: member_memory(rows) bytes, aligned as malloc() does, borrowed for good. rows: 1 to
 * MEMBER_MOST. self: id, name, addresses, workers, weight, zone, protocol versions (0: what this
 * build speaks); its incarnation is set from wall_ms. */
void member_init(struct membership *m, void *memory, uint32_t rows, const struct member_conf *conf,
                 const struct member_host *host, const struct member *self, uint64_t wall_ms,
                 uint64_t seed);

/* The wall clock, to be told anew about every minute: incarnations are measured by it. */
void member_set_wall(struct membership *m, uint64_t wall_ms);

/* Do what is due. Returns when to call again (at the latest). */
uint64_t member_step(struct membership *m, uint64_t now_us);

/* A message that came from `sender` (verified) at an address; port 0: over a stream that the other
 * side began. Messages of one packet are given in their order. What an earlier run has saved comes in
 * the same way, from a sender of zeros. -ERR_FORMAT for values that no member sends. */
int member_receive(struct membership *m, const struct node_id *sender,
                   const struct member_endpoint *from, const struct gossip *g, uint64_t now_us);

/* What to say over a stream: the one that begins asks; the other, having received that, answers; the
 * first, having received the answer, adds what the other lacks. emit is called for each message; not
 * at all if there is nothing to say. */
enum member_turn { MEMBER_ASKS, MEMBER_ANSWERS, MEMBER_ADDS };
void member_tell(struct membership *m, enum member_turn turn,
                 void (*emit)(void *arg, const struct gossip *g), void *arg);

/* Everything that this node knows, to be saved. */
void member_tell_all(const struct membership *m, void (*emit)(void *arg, const struct gossip *g),
                     void *arg);

/* The row of a member, or NULL. */
struct member_row *member_find(const struct membership *m, const struct node_id *id);

/* A worker of this node says that a member does not answer: it is checked at once. */
void member_hint_down(struct membership *m, const struct node_id *id, uint64_t now_us);

/* Is a member's ring, as far as it has said, one that this node knows or has known? If not, it is newer, or
 * that of a cluster that was founded apart. */
bool member_ring_known(const struct membership *m, const struct member_row *row);

/* The view for the workers, phases included. `version` is left alone. */
void member_view(const struct membership *m, struct ring_view *out);

#endif
