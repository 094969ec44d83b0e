/* Changing the ring: what administrators stage, the plan that follows from it, its commit, and how far
 * the members have come. Part of membership (core/member.h), which carries all of it between members;
 * what the phases mean is in core/ring_change.h. Pure.
 *
 * Staged changes are a list that any node takes, adds to and passes on; the greatest (version, by)
 * wins. A plan is computed anew by whoever is asked for it, from the list and the ring; its id is a
 * hash of both and of the table that comes out, so that what is committed is what was looked at:
 * another ring, another list or another table has another id.
 *
 * A commit makes the next ring document. It replaces the one in force wherever it is heard; of two
 * that were committed on two sides of a partition the greater (epoch, proposer) wins, and whoever had
 * the other remembers what was lost with it. Each document names the versions before it, by which a
 * successor is told from a rival. */
#ifndef CLOCKWISE_CORE_MEMBER_CHANGE_H
#define CLOCKWISE_CORE_MEMBER_CHANGE_H

#include "core/member.h"

#define MEMBER_LOST 4 /* lost changes that are remembered */

struct member_staged {
    uint64_t version; /* 0: nobody has staged anything yet */
    struct node_id by;
    uint32_t count;
    struct ring_change list[LIMIT_STAGED];
};

/* A change that another one has won over. */
struct member_lost {
    struct member_version version, winner;
    uint64_t wall_ms;
    uint32_t count;
    struct ring_change list[LIMIT_STAGED];
};

struct member_change {
    struct member_staged staged;
    uint32_t lost; /* in all; the last ones are kept, by lost % MEMBER_LOST */
    struct member_lost last_lost[MEMBER_LOST];
    struct ring_progress progress[LIMIT_MEMBERS]; /* in the order of the ring's members */
    uint64_t steps_hash[LIMIT_MEMBERS];           /* of these; 0: nothing said yet */
    struct ring_view now, then;                   /* of the last plan */
    struct member known[LIMIT_MEMBERS];
};

struct member_plan {
    uint64_t id;
    uint32_t at;                        /* the change at fault, if there is one */
    const struct ring_view *now, *then; /* valid until the next plan */
    struct ring_moves moves;
    struct ring_proof proof;
    bool sound; /* ring_change_check() */
};

/* Let m take part in changes. c is borrowed for the life of m. Call after member_init(). */
void member_change_init(struct membership *m, struct member_change *c);

/* Add to the staged changes, or forget them, and let everybody know. A change of a member that is
 * staged already replaces that one; but a weight is given to one that joins. What is staged together is planned, to see whether it can be:
 * errors as of member_plan(), and -ERR_LIMIT for more than LIMIT_STAGED; then nothing is staged. */
int member_stage(struct membership *m, const struct ring_change *c, uint32_t *at);
void member_unstage(struct membership *m);

/* What would follow from a list of changes. Errors as of ring_change_plan(); -ERR_NOTFOUND with *at =
 * count if there are none. A plan that is not sound is a plan all the same. O(Q * members * n). */
int member_plan_changes(struct membership *m, const struct ring_change *list, uint32_t count,
                        struct member_plan *out);

/* Make the staged changes the next ring, if their plan has this id, and unstage them.
 *   -ERR_STALE    the plan is another one by now
 *   -ERR_DENIED   it is not sound
 *   -ERR_VERSION  a member's build does not know how rings are changed
 * and the errors of member_plan_changes(). */
int member_commit(struct membership *m, uint64_t plan, struct member_plan *out);

/* The same of a list that nobody has staged, whatever its plan's id. */
int member_commit_list(struct membership *m, const struct ring_change *list, uint32_t count,
                       struct member_plan *out);

/* Go on with the change under way. `taken` is the view that every worker of this node acts by, of the
 * ring in force, or NULL; `copied` what this node's replicas have come to (1 << q_bits entries) or NULL.
 * Returns true if there is something new to be saved: before anything else is sent. */
bool member_change_step(struct membership *m, const struct ring_view *taken, const uint8_t *copied);

/* After such a step has been saved and published: tell a few. */
void member_change_tell(struct membership *m);

/* The lowest protocol version that a member of the ring, who has not left, announces. */
uint8_t member_common_protocol(const struct membership *m);

#endif
