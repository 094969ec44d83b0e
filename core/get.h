/* One coordinated read as a state machine (Dynamo §4.5, §4.6, and read repair of §5). Pure; holds no
 * object and no address: it counts in indices of the key's walk, like put.h.
 *
 * The coordinator has read its own replica (unless that is damaged); digests are asked from as many
 * others as R wants. One whose digest differs is asked for its object, and whoever drives this
 * (core/coord_get.c) merges each object that comes into its own vnode and tells the new digest of
 * the whole. When R replicas have been taken in, the answer goes out. Then every primary that
 * answered something staler than the whole is repaired, those that answer after the reply included;
 * with `blocking`, before the reply and with an acknowledgement.
 *
 * Those that have been silent lately come last, after fallbacks. A slow primary is hedged with the next one after hedge_us. A fallback is asked only in place of a
 * primary that failed or has been silent for replica_us, and not at all in a strict quorum: a
 * fallback asked for mere slowness would know nothing and count as an answer.
 *
 * Events that do not fit the state (late, doubled, of an index never asked) change nothing. */
#ifndef CLOCKWISE_CORE_GET_H
#define CLOCKWISE_CORE_GET_H

#include "core/limits.h"

#include <stdbool.h>
#include <stdint.h>

enum get_target_state {
    GET_TARGET_IDLE = 0,
    GET_TARGET_ASKED,     /* for a digest or for the object */
    GET_TARGET_FETCHING,  /* its digest differed; asked for the object */
    GET_TARGET_HAVE,      /* what it holds has been taken into account */
    GET_TARGET_REPAIRING, /* likewise, and its acknowledgement of a repair is waited for */
    GET_TARGET_FAILED,
    GET_TARGET_DAMAGED /* failed, and what it held is lost: it needs the whole */
};

struct get_setup {
    uint8_t count;     /* indices of the walk in use, at most LIMIT_WALK */
    uint8_t primaries; /* the first so many are the preference list; 1 to count */
    uint8_t self;      /* index of the coordinator */
    uint8_t r, pr;     /* replicas wanted (r at least 1), and how many of them primaries */
    bool sloppy;       /* fallbacks count, and are asked */
    bool blocking;     /* repair before the reply */
    uint32_t suspects; /* bits of indices silent lately: asked when nobody else is left */
    uint64_t hedge_us, replica_us;
    uint64_t again_us, patience_us; /* as in put.h: those who failed are asked again for a while */
    uint64_t linger_us; /* from the start: how long late answers are waited for, to repair */
    uint64_t deadline_us;
};

struct get {
    struct get_setup setup;
    bool local;         /* the own replica could be read, or has been made anew */
    bool local_durable; /* what it holds now is on disk (matters when blocking) */
    bool answered;      /* GET_DO_REPLY was given */
    bool closed;
    uint8_t state[LIMIT_WALK];   /* enum get_target_state */
    uint32_t late;               /* bit i: silent for replica_us; somebody else has been asked */
    uint64_t digest[LIMIT_WALK]; /* what the target holds, as far as is known */
    uint64_t whole;              /* digest of all that has been merged */
    uint64_t hedge_us, slow_us;  /* times; UINT64_MAX: not waiting */
    uint64_t again_us;           /* when failed targets are asked again; UINT64_MAX: not planned */
    uint64_t patience_us;        /* until when that is done */
    uint64_t linger_us;          /* until when late answers are waited for */
};

enum get_event_kind {
    GET_ON_START,    /* first event, once */
    GET_ON_DIGEST,   /* target: digest of what it holds, 0 if nothing */
    GET_ON_OBJECT,   /* target: its object, with `digest`, is merged; `whole` is the new digest */
    GET_ON_REPAIRED, /* target: the repair is durable there */
    GET_ON_DURABLE,  /* what the own replica holds now is on disk */
    GET_ON_FAIL,     /* target: cannot be sent to, refused, or its link broke */
    GET_ON_DAMAGED,  /* target: what it held is damaged; it counts as failed, and is repaired */
    GET_ON_TIME      /* now >= get_due() */
};

struct get_event {
    uint8_t kind;   /* enum get_event_kind */
    uint8_t target; /* index */
    uint64_t digest, whole;
};

enum get_action_kind {
    GET_DO_ASK,    /* target for its digest, or with `full` for its object. If that cannot be done:
                      GET_ON_FAIL for the target */
    GET_DO_REPAIR, /* the whole to target; with `full` and its acknowledgement wanted */
    GET_DO_BLAME, /* target has been silent for replica_us: whoever watches links may want to know */
    GET_DO_REPLY, /* answer: ok, or not enough: need and got say so */
    GET_DO_CLOSE  /* always last: nothing is waited for any more */
};

struct get_action {
    uint8_t kind; /* enum get_action_kind */
    uint8_t target;
    bool full;
    bool hedge; /* GET_DO_ASK: because another one is slow */
    bool ok;
    uint8_t need, got;
};

/* One event makes at most an ask, a repair and a blame per index, a reply and a close. */
#define GET_ACTIONS (3 * LIMIT_WALK + 2)

struct get_actions {
    uint32_t count;
    struct get_action list[GET_ACTIONS];
};

/* Begin: local says whether the own replica could be read, digest what it holds (0: nothing),
 * durable whether that is on disk. Follow with GET_ON_START. */
void get_init(struct get *g, const struct get_setup *setup, bool local, uint64_t digest,
              bool durable);

/* Take one event; actions is overwritten. */
void get_step(struct get *g, struct get_event event, uint64_t now_us, struct get_actions *actions);

/* Would GET_ON_OBJECT of this target change anything? Ask before merging what it sent. */
static inline bool get_expects(const struct get *g, uint8_t target)
{
    return !g->closed &&
           (g->state[target] == GET_TARGET_ASKED || g->state[target] == GET_TARGET_FETCHING);
}

/* When GET_ON_TIME is due, UINT64_MAX for never. */
uint64_t get_due(const struct get *g);

#endif
