/* Structures of the messages between gossipds, made from gossip.def. Pure. */
#ifndef CLOCKWISE_CORE_GOSSIP_H
#define CLOCKWISE_CORE_GOSSIP_H

#define MESSAGES           "core/gossip.def"
#define MESSAGE_ONE(name)  gossip_##name
#define MESSAGE_KIND(name) GOSSIP_##name
#define MESSAGE_KINDS      gossip_kind
#define MESSAGE_ANY        gossip
#include "base/message_types.def"

enum gossip_refusal {
    GOSSIP_REFUSED_NAME = 1,    /* a member at another address has this name */
    GOSSIP_REFUSED_ID = 2,      /* a living member at another address has this id */
    GOSSIP_REFUSED_CLUSTER = 3, /* another Q or another cluster name */
    GOSSIP_REFUSED_VERSION = 4  /* no common protocol version */
};

#endif
