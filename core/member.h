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
 * proposer) wins. A cluster is founded when every founder of the seed list has been met and none
 * knows a ring: all compute the same document. A member that comes back with a new id, under the
 * name and address of an old one and with a newer incarnation, has lost its disk: it takes the old
 * one's place in the ring.
 *
 * One thread; memory is the caller's; bounded by LIMIT_MEMBERS. */
#ifndef CLOCKWISE_CORE_MEMBER_H
#define CLOCKWISE_CORE_MEMBER_H

#include "base/rand.h"
#include "core/gossip.h"
#include "core/ring.h"

#define MEMBER_SEEDS      32
#define MEMBER_PROTOCOL   1 /* highest protocol version that this build speaks */
#define MEMBER_CONFIRMERS 4
#define MEMBER_CHECKS     8
#define MEMBER_RELAYS     16
#define MEMBER_NO_ROW     UINT16_MAX

struct member_endpoint {
    char address[LIMIT_ADDR];
    uint16_t port;
};

struct member_conf {
    char cluster[LIMIT_NAME];
    uint8_t q_bits, n;
    uint64_t probe_interval_us, probe_timeout_us;
    uint64_t suspicion_us; /* a suspicion that nobody confirms; the shortest is a third of it */
    uint32_t seed_count;
    struct member_endpoint seeds[MEMBER_SEEDS]; /* founders, gossip addresses, in order */
};

/* One member as this node knows it. */
struct member_row {
    struct member m;       /* state and incarnation included */
    uint64_t since_us;     /* last change of state */
    uint64_t last_ack_us;  /* last direct answer, 0: none yet */
    uint64_t rtt_us;       /* of that answer */
    uint64_t faulty_at_us; /* suspect: when it becomes faulty */
    uint64_t suspected_us; /* suspect: since when */
    uint64_t ring_epoch;   /* of its last DIGEST */
    bool ring_heard;       /* ring_epoch is known */
    bool forgiven;         /* this suspicion was given time for a pause of our own */
    uint8_t confirmers;    /* who suspects it by probes of their own, the first accuser included */
    struct node_id confirmer[MEMBER_CONFIRMERS];
    struct node_id before;  /* whose place in the ring it has taken; zero: nobody's */
    uint32_t transmissions; /* how often news about it is still to be passed on */
    uint32_t suspicions;    /* so far */
};

struct member_ring {
    uint64_t epoch; /* 0: none yet */
    struct node_id proposer;
    uint8_t q_bits, n;
    uint16_t count;
    struct node_id id[LIMIT_MEMBERS];
    uint8_t left[LIMIT_MEMBERS];
    uint16_t owner[LIMIT_PARTITIONS];
};

/* What is counted, for gossipd's counters: X(name). */
#define MEMBER_COUNTS(X)                                                                           \
    X(probes)                                                                                      \
    X(acks)                                                                                        \
    X(indirect_probes)                                                                             \
    X(probes_failed)                                                                               \
    X(suspicions)                                                                                  \
    X(confirmations)                                                                               \
    X(faulty)                                                                                      \
    X(refutations)                                                                                 \
    X(own_pauses)                                                                                  \
    X(bad)
enum member_count {
#define X(name) MEMBER_COUNT_##name,
    MEMBER_COUNTS(X)
#undef X
        MEMBER_COUNT_MAX
};

struct member_host {
    void *arg;
    /* Send a packet: the first `must` messages always, of the others as many as fit. Returns how
     * many were sent in all. Slices are borrowed during the call. */
    unsigned (*send)(void *arg, const char *address, uint16_t port, const struct gossip *list,
                     unsigned must, unsigned count);
    /* Exchange everything with this member over a stream. */
    void (*sync)(void *arg, const char *address, uint16_t port);
    /* Rows, states or the ring have changed: publish. ring: the ring did, or a member's address. */
    void (*changed)(void *arg, bool ring);
    /* The cluster will not have this node and keeps saying so; text says why. */
    void (*refused)(void *arg, const char *text);
};

struct membership {
    struct member_conf conf;
    struct member_host host;
    struct rand rand;
    uint16_t count; /* rows; row 0 is this node */
    struct member_row row[LIMIT_MEMBERS];
    struct member_ring ring;
    uint32_t health; /* Lifeguard's multiplier minus one, 0 to 8 */

    uint16_t order[LIMIT_MEMBERS]; /* shuffled round */
    uint16_t order_count, order_next;
    uint64_t tick_us, sync_us;
    uint64_t promised_us;                  /* when member_step() asked to be called; 0: never yet */
    uint64_t refused_us, refused_since_us; /* last and first of a series of refusals */

    /* The probe under way. */
    bool probing, indirect;
    bool probe_forgiven;              /* it was given time for a pause of our own */
    uint8_t probe_asked, probe_nacks; /* relays asked, and how many of them are there */
    struct node_id probe_id;
    uint64_t probe_sequence, probe_sent_us, probe_indirect_us, probe_end_us;

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
        uint64_t next_us;
        uint32_t tries; /* left */
        bool forgiven;  /* as above */
    } check[MEMBER_CHECKS];
    uint64_t sequence;
    struct ring_view scratch; /* for founding */
    uint64_t counts[MEMBER_COUNT_MAX];
};

/* self: id, name, addresses, workers, weight, zone; its incarnation is set from wall_ms. */
void member_init(struct membership *m, const struct member_conf *conf,
                 const struct member_host *host, const struct member *self, uint64_t wall_ms,
                 uint64_t seed);

/* Do what is due. Returns when to call again (at the latest). */
uint64_t member_step(struct membership *m, uint64_t now_us);

/* A message that came from `sender` (verified) at an address. Messages of one packet are given in
 * their order. What an earlier run has saved comes in the same way, from a sender of zeros.
 * -ERR_FORMAT for values that no member sends. */
int member_receive(struct membership *m, const struct node_id *sender,
                   const struct member_endpoint *from, const struct gossip *g, uint64_t now_us);

/* Everything that this node knows, for a SYNC: emit is called for each message. */
void member_tell_all(const struct membership *m, bool answer,
                     void (*emit)(void *arg, const struct gossip *g), void *arg);

/* A worker of this node says that a member does not answer: it is checked at once. */
void member_hint_down(struct membership *m, const struct node_id *id, uint64_t now_us);

/* The view for the workers. `version` is left alone. */
void member_view(const struct membership *m, struct ring_view *out);

#endif
