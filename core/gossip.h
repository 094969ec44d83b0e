/* Structures of the messages between gossipds, made from gossip.def. Pure. */
#ifndef CLOCKWISE_CORE_GOSSIP_H
#define CLOCKWISE_CORE_GOSSIP_H

#include "base/slice.h"

/* struct gossip_PROBE and its like; BYTES are borrowed slices. */
#define GOSSIP(name, number, text) struct gossip_##name {
#define U64(field)                 uint64_t field;
#define U32(field)                 uint32_t field;
#define U8(field)                  uint8_t field;
#define BYTES(field)               struct slice field;
#define END(name)                                                                                  \
    }                                                                                              \
    ;
#include "core/gossip.def"
#undef GOSSIP
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END

enum gossip_kind {
#define GOSSIP(name, number, text) GOSSIP_##name = number,
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/gossip.def"
#undef GOSSIP
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
};

/* One message of any kind. */
struct gossip {
    enum gossip_kind kind;
    union {
#define GOSSIP(name, number, text) struct gossip_##name name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/gossip.def"
#undef GOSSIP
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
    } u;
};

enum gossip_refusal {
    GOSSIP_REFUSED_NAME = 1,    /* a member at another address has this name */
    GOSSIP_REFUSED_ID = 2,      /* a living member at another address has this id */
    GOSSIP_REFUSED_CLUSTER = 3, /* another Q or another cluster name */
    GOSSIP_REFUSED_VERSION = 4  /* no common protocol version */
};

#endif
