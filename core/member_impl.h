/* Shared between the files of core/member*.c and nobody else. */
#ifndef CLOCKWISE_CORE_MEMBER_IMPL_H
#define CLOCKWISE_CORE_MEMBER_IMPL_H

#include "core/member.h"

/* member.c */
struct member_row *member_find(struct membership *m, const struct node_id *id);
bool member_same_place(const struct member *a, const struct member *b);
/* Take a row's state over and let everyone know. */
void member_set_state(struct membership *m, struct member_row *row, uint8_t state, uint64_t now_us);
void member_spread(struct membership *m, struct member_row *row);
struct gossip member_news_of(const struct member_row *row);
int member_take_news(struct membership *m, const struct node_id *sender,
                     const struct member_endpoint *from, const struct gossip_NEWS *news,
                     uint64_t now_us);

/* member_suspect.c */
/* Suspect a member, or confirm the suspicion, because `by` got no answer from it. */
void member_suspect(struct membership *m, struct member_row *row, const struct node_id *by,
                    uint64_t now_us);
/* Probe a member that others suspect, or that a worker misses, beside the round. */
void member_check(struct membership *m, struct member_row *row, uint64_t now_us);
void member_check_ack(struct membership *m, uint64_t sequence);
/* What is due of checks and suspicions; returns when to come again. */
uint64_t member_suspect_step(struct membership *m, uint64_t now_us);
/* Speak up against what is said of this node: its incarnation becomes higher than `above`. */
void member_refute(struct membership *m, uint64_t above);
/* Tell a few members at once what is now known of this one. */
void member_tell_some(struct membership *m, const struct member_row *row);

/* member_ring.c */
struct gossip member_digest(const struct membership *m);
struct gossip member_ring_message(const struct membership *m, uint8_t *owner_bytes);
int member_take_ring(struct membership *m, const struct gossip_RING *g);
void member_try_founding(struct membership *m);
/* Put members that took the place of others into the ring, where it still names those. */
void member_mend_ring(struct membership *m);
bool member_in_ring(const struct membership *m, const struct node_id *id);

/* member_probe.c */
void member_send(struct membership *m, const struct member_endpoint *to, const struct gossip *first,
                 const struct member_row *about);
struct gossip member_probe_message(uint64_t sequence, const struct node_id *target);
int member_take_probe(struct membership *m, const struct member_endpoint *from,
                      const struct gossip_PROBE *g);
void member_take_ack(struct membership *m, const struct node_id *sender, const struct gossip_ACK *g,
                     uint64_t now_us);
void member_take_nack(struct membership *m, const struct gossip_NACK *g);
int member_take_probe_for(struct membership *m, const struct member_endpoint *from,
                          const struct gossip_PROBE_FOR *g, uint64_t now_us);
struct member_endpoint member_endpoint_of(const struct member *m);

#endif
