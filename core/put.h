/* One coordinated write as a state machine (Dynamo §4.5, §4.6; Riak's PW and DW). Pure; holds no
 * value and no address: it counts in indices of the key's walk (core/ring.h), and whoever drives it
 * (core/coord_put.c) keeps the object, in the coordinator's own vnode.
 *
 * The object goes to every other primary at once. A primary that cannot be reached, fails, or stays
 * silent for replica_us is replaced by the next node of the walk, which keeps the object with a hint
 * (sloppy quorum; none of this in a strict one). The answer goes out when the coordinator's own copy
 * is durable and enough others have said that theirs are. After that acknowledgements are still
 * collected for a while; in the end the coordinator keeps a hint of its own for each primary that
 * never acknowledged and that no fallback holds the object for.
 *
 * While the ring changes (core/ring_change.h) the primaries are those of the old and of the next list
 * together: all are sent to, and get a hint if they stay silent, but W may be wanted in one of the lists
 * alone, or in each of the two. A fallback counts where the primary would for which it stands in; for one
 * that is not counted nobody stands in. In a sloppy quorum the primaries of the one list may stand in for
 * lost ones of the other: they have the object, and those it is owed to get hints in the end.
 *
 * When all that are left could not make W, the write does not fail at once: a link that breaks, or a
 * worker that is being replaced, is back in a moment. Those who failed are tried again for a while (a
 * merge may come twice); only then is it said that there are too few.
 *
 * Otherwise every index is sent to at most once. Events that do not fit the state (late, doubled, of an index
 * never sent to) change nothing. */
#ifndef CLOCKWISE_CORE_PUT_H
#define CLOCKWISE_CORE_PUT_H

#include "core/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define PUT_NOBODY UINT8_MAX

enum put_target_state {
    PUT_TARGET_IDLE = 0,
    PUT_TARGET_SENT,
    PUT_TARGET_LATE, /* silent for too long and replaced; may still acknowledge */
    PUT_TARGET_ACKED,
    PUT_TARGET_FAILED
};

struct put_setup {
    uint8_t count;     /* indices of the walk in use, at most LIMIT_WALK */
    uint8_t primaries; /* the first so many are the preference list; 1 to count */
    uint8_t self;      /* index of the coordinator; beyond the primaries: it is a fallback */
    uint8_t w, pw;     /* durable copies wanted (w at least 1), and how many of them at primaries */
    bool sloppy;       /* fallbacks count, and are used */
    uint32_t counted; /* bits of the primaries in whose list w and pw are counted; 0: all of them */
    uint32_t
        also; /* bits of those of a second list, in which also_w and also_pw are wanted; or 0 */
    uint8_t also_w, also_pw;
    uint32_t suspects;   /* bits of indices silent lately: sent to, but not waited for */
    uint64_t replica_us; /* silence after which a replica is replaced */
    uint64_t again_us; /* too few are left to make W: those who could not be reached are tried again
                            after so long, ... */
    uint64_t patience_us; /* ... for so long from the start, before the write fails; 0: never */
    uint64_t linger_us;   /* from the start: how long late acknowledgements are waited for, before
                            hints are kept instead */
    uint64_t deadline_us;
};

struct put {
    struct put_setup setup;
    bool durable;  /* the coordinator's own copy */
    bool answered; /* PUT_DO_REPLY was given */
    bool closed;
    uint8_t state[LIMIT_WALK];     /* enum put_target_state */
    uint8_t holds_for[LIMIT_WALK]; /* fallback: the primary in whose place it stands */
    uint64_t slow_us;              /* when silent targets are replaced; UINT64_MAX: none waits */
    uint64_t again_us;    /* when failed targets are tried again; UINT64_MAX: not planned */
    uint64_t patience_us; /* until when that is done */
    uint64_t linger_us;   /* until when late acknowledgements are waited for */
};

enum put_event_kind {
    PUT_ON_START,   /* first event, once */
    PUT_ON_DURABLE, /* the own copy is on disk */
    PUT_ON_ACK,     /* target: its copy is on disk */
    PUT_ON_FAIL,    /* target: cannot be sent to, refused, or its link broke */
    PUT_ON_TIME     /* now >= put_due() */
};

struct put_event {
    uint8_t kind;   /* enum put_event_kind */
    uint8_t target; /* index */
};

enum put_action_kind {
    PUT_DO_SEND,  /* the object to target; with a hint for primary `primary` unless PUT_NOBODY.
                     If that cannot be done: PUT_ON_FAIL for the target */
    PUT_DO_HINT,  /* keep a hint for primary `primary` in the own vnode */
    PUT_DO_BLAME, /* target has been silent for replica_us: whoever watches links may want to know */
    PUT_DO_REPLY, /* answer: ok, or not enough: need and got say so */
    PUT_DO_CLOSE  /* always last: nothing is waited for any more */
};

struct put_action {
    uint8_t kind; /* enum put_action_kind */
    uint8_t target;
    uint8_t primary;
    bool ok;
    uint8_t need, got;
};

/* One event makes at most a send, a hint and a blame per index, a reply and a close. */
#define PUT_ACTIONS (3 * LIMIT_WALK + 2)

struct put_actions {
    uint32_t count;
    struct put_action list[PUT_ACTIONS];
};

/* Begin; follow with PUT_ON_START. */
void put_init(struct put *p, const struct put_setup *setup);

/* Take one event; actions is overwritten. */
void put_step(struct put *p, struct put_event event, uint64_t now_us, struct put_actions *actions);

/* When PUT_ON_TIME is due, UINT64_MAX for never. */
uint64_t put_due(const struct put *p);

#endif
