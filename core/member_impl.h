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
void member_raise_incarnation(struct membership *m, uint64_t above);

/* member_ring.c */
struct gossip member_digest(const struct membership *m);
struct gossip member_ring_message(const struct membership *m, uint8_t *owner_bytes);
int member_take_ring(struct membership *m, const struct gossip_RING *g);
void member_try_founding(struct membership *m);
void member_replace_in_ring(struct membership *m, const struct node_id *old,
                            const struct node_id *new);
bool member_in_ring(const struct membership *m, const struct node_id *id);

/* member_probe.c */
void member_send(struct membership *m, const struct member_endpoint *to, const struct gossip *first,
                 const struct member_row *about);
int member_take_probe(struct membership *m, const struct member_endpoint *from,
                      const struct gossip_PROBE *g);
void member_take_ack(struct membership *m, const struct node_id *sender, const struct gossip_ACK *g,
                     uint64_t now_us);
int member_take_probe_for(struct membership *m, const struct member_endpoint *from,
                          const struct gossip_PROBE_FOR *g, uint64_t now_us);
struct member_endpoint member_endpoint_of(const struct member *m);

#endif
