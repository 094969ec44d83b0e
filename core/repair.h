/* Structures of the messages of anti-entropy, made from repair.def. Pure. */
#ifndef CLOCKWISE_CORE_REPAIR_H
#define CLOCKWISE_CORE_REPAIR_H

#include "base/slice.h"

/* struct repair_OPEN and its like; BYTES are borrowed slices. */
#define REPAIR(name, number, text) struct repair_##name {
#define U64(field)                 uint64_t field;
#define U32(field)                 uint32_t field;
#define U8(field)                  uint8_t field;
#define BYTES(field)               struct slice field;
#define END(name)                                                                                  \
    }                                                                                              \
    ;
#include "core/repair.def"
#undef REPAIR
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END

enum repair_kind {
#define REPAIR(name, number, text) REPAIR_##name = number,
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/repair.def"
#undef REPAIR
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
};

/* One message of any kind. */
struct repair {
    enum repair_kind kind;
    union {
#define REPAIR(name, number, text) struct repair_##name name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/repair.def"
#undef REPAIR
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
    } u;
};

enum repair_flags {
    REPAIR_WANT_WHOLE = 1 /* send back what holds more than was sent */
};

/* What has become of one object that was pushed, merged or to be dropped. */
enum repair_took {
    REPAIR_TOOK_NEWS = 0, /* it changed something */
    REPAIR_TOOK_SAME = 1, /* all of it was known */
    REPAIR_TOOK_DEAD = 2, /* it has been deleted for good: the sender should drop it */
    REPAIR_TOOK_FAILED = 3
};

/* "OPEN" and its like; "?" for a number that is no message. */
const char *repair_name(int kind);

#endif
