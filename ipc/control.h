/* Structures of the messages inside one node, made from control.def. Encoded and decoded by
 * ipc/msg_codec.h. */
#ifndef CLOCKWISE_IPC_CONTROL_H
#define CLOCKWISE_IPC_CONTROL_H

#include "base/slice.h"

/* struct control_STATUS and its like; BYTES are borrowed slices. */
#define CONTROL(name, number, text) struct control_##name {
#define U64(field)                  uint64_t field;
#define U32(field)                  uint32_t field;
#define U8(field)                   uint8_t field;
#define BYTES(field)                struct slice field;
#define END(name)                                                                                  \
    }                                                                                              \
    ;
#include "ipc/control.def"
#undef CONTROL
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END

enum control_kind {
#define CONTROL(name, number, text) CONTROL_##name = number,
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "ipc/control.def"
#undef CONTROL
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
};

/* One message of any kind. */
struct control {
    enum control_kind kind;
    union {
#define CONTROL(name, number, text) struct control_##name name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "ipc/control.def"
#undef CONTROL
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
    } u;
};

#endif
