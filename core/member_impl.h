/* Shared between the files of core/member*.c and nobody else. */
#ifndef CLOCKWISE_CORE_MEMBER_IMPL_H
#define CLOCKWISE_CORE_MEMBER_IMPL_H

#include "core/member_change.h"

#define MEMBER_HEALTH_WORST 8 /* Lifeguard's bound of the local health multiplier */

/* member_index.c */
void member_index_init(struct membership *m, void *memory, uint32_t rows);
/* Enter a row under its id, name and place; take it out before any of these change. */
void member_index_add(struct membership *m, struct member_row *row);
void member_index_remove(struct membership *m, struct member_row *row);
/* State or incarnation have changed. */
void member_index_update(struct membership *m, struct member_row *row);
/* Some row of this name, or at this place (of those that have not left); NULL. */
struct member_row *member_find_name(const struct membership *m, const char *name);
struct member_row *member_find_place(const struct membership *m, const char *address,
                                     uint16_t port);
static inline uint16_t member_number(const struct membership *m, const struct member_row *row)
{
    return row == NULL ? MEMBER_NO_ROW : (uint16_t)(row - m->row);
}
/* The group in whose hash a row is. */
unsigned member_group(const struct member_row *row);
/* News about a row is to be passed on, or was once. */
void member_spread(struct membership *m, struct member_row *row);
void member_spread_less(struct membership *m, struct member_row *row);
void member_spread_no_more(struct membership *m, struct member_row *row);
/* Rows with news, freshest first, those told longest ago first among these: at most `size`. */
unsigned member_news_list(struct membership *m, struct member_row **out, unsigned size);

/* member.c: somebody says, or this node sees, that the cluster cannot have it (enum gossip_refusal). */
void member_note_refusal(struct membership *m, uint32_t reason, uint64_t now_us);

/* member_news.c */
bool member_same_place(const struct member *a, const struct member *b);
/* Take a row's state over and let everyone know. */
void member_set_state(struct membership *m, struct member_row *row, uint8_t state, uint64_t now_us);
struct gossip member_news_of(const struct membership *m, const struct member_row *row);
int member_take_news(struct membership *m, const struct node_id *sender,
                     const struct member_endpoint *from, const struct gossip_NEWS *news,
                     uint64_t now_us);

/* member_sync.c */
void member_take_sync(struct membership *m, const struct node_id *sender,
                      const struct gossip_SYNC *g);
int member_take_digest(struct membership *m, struct member_row *row,
                       const struct member_endpoint *from, const struct gossip_DIGEST *g,
                       uint64_t now_us);
struct gossip member_digest(const struct membership *m);

/* member_suspect.c */
/* Suspect a member, or confirm the suspicion, because the one in row `by` got no answer from it; direct:
 * it says so itself. */
void member_suspect(struct membership *m, struct member_row *row, uint16_t by, bool direct,
                    uint64_t now_us);
/* Probe a member that others suspect, or that a worker misses, beside the round. */
void member_check(struct membership *m, struct member_row *row, uint64_t now_us);
void member_check_ack(struct membership *m, uint64_t sequence);
/* What is due of checks and suspicions; returns when to come again. */
uint64_t member_suspect_step(struct membership *m, uint64_t now_us);
/* Speak up against what is said of this node: its incarnation becomes higher than `above`. */
void member_refute(struct membership *m, uint64_t above);

/* member_pause.c */
void member_notice_pause(struct membership *m, uint64_t now_us);

/* member_ring.c */
#define MEMBER_VERSION_BYTES (8 + NODE_ID_BYTES)
#define MEMBER_CHANGE_BYTES  (3 + 2 * NODE_ID_BYTES)
/* What the slices of a RING point to. */
struct member_ring_bytes {
    uint8_t owner[2 * LIMIT_PARTITIONS], next[2 * LIMIT_PARTITIONS];
    uint8_t weights[2 * LIMIT_MEMBERS];
    uint8_t history[MEMBER_HISTORY * MEMBER_VERSION_BYTES];
    uint8_t changes[LIMIT_STAGED * MEMBER_CHANGE_BYTES];
};
struct gossip member_ring_message(const struct membership *m, struct member_ring_bytes *bytes);
/* The ring is about to become the version (epoch, proposer): remember the one before, and begin the
 * steps anew. */
void member_ring_advance(struct membership *m, uint64_t epoch, const struct node_id *proposer);
int member_take_ring(struct membership *m, const struct gossip_RING *g);
/* <0, 0, >0: that version against the ring that is known here. */
int member_ring_compare(const struct membership *m, uint64_t epoch, const uint8_t *proposer);
void member_try_founding(struct membership *m);
/* Put members that took the place of others into the ring, where it still names those. */
void member_mend_ring(struct membership *m);
/* Is it in the ring, and has not left it? */
bool member_in_ring(const struct membership *m, const struct node_id *id);

/* member_change.c. All do nothing while m->change is NULL. */
size_t member_write_changes(const struct ring_change *list, uint32_t count, uint8_t *out);
/* The number of entries, or -ERR_FORMAT. */
int member_read_changes(struct slice bytes, struct ring_change *list);
int member_take_steps(struct membership *m, const struct gossip_STEPS *g);
int member_take_staged(struct membership *m, const struct gossip_STAGED *g);
uint64_t member_change_hash(const struct membership *m);
/* Which steps and staged changes does the other side lack? */
void member_compare_changes(struct membership *m, const struct gossip_SYNC *g);
/* A hash of each member's steps: 8 bytes for each member of the ring. Returns how many bytes. */
size_t member_steps_hashes(const struct membership *m, uint8_t *out);
/* What there is to say: of the members marked in `which` (NULL: of all that have said anything). */
void member_tell_changes(const struct membership *m, const uint64_t *which, bool staged,
                         void (*emit)(void *arg, const struct gossip *g), void *arg);
void member_forget_steps(struct membership *m);
/* A ring that is not a successor of the one here has won over it. */
void member_note_lost(struct membership *m, const struct gossip_RING *winner);

/* member_probe.c */
void member_send(struct membership *m, const struct member_endpoint *to, const struct gossip *first,
                 const struct member_row *about);
/* Try by a stream what datagrams did not bring about. */
void member_send_stream(struct membership *m, const struct member_row *row,
                        const struct gossip *probe);
struct gossip member_probe_message(uint64_t sequence, const struct node_id *target);
int member_take_probe(struct membership *m, const struct member_endpoint *from,
                      const struct gossip_PROBE *g);
void member_take_ack(struct membership *m, const struct node_id *sender, const struct gossip_ACK *g,
                     uint64_t now_us);
void member_take_nack(struct membership *m, const struct gossip_NACK *g);
int member_take_probe_for(struct membership *m, const struct member_endpoint *from,
                          const struct gossip_PROBE_FOR *g, uint64_t now_us);
/* A new row: it is to be probed in this round, at a random place. */
void member_enter_round(struct membership *m, uint16_t row);
struct member_endpoint member_endpoint_of(const struct member *m);

#endif
