/* Structures of the messages between workers, made from msg.def. Pure. */
#ifndef CLOCKWISE_CORE_MSG_H
#define CLOCKWISE_CORE_MSG_H

#include "base/slice.h"

/* struct msg_PUT and its like: plain fields in the order of msg.def; BYTES are borrowed slices. */
#define MSG(name, number, text) struct msg_##name {
#define U64(field)              uint64_t field;
#define U32(field)              uint32_t field;
#define U8(field)               uint8_t field;
#define BYTES(field)            struct slice field;
#define END(name)                                                                                  \
    }                                                                                              \
    ;
#include "core/msg.def"
#undef MSG
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END

enum msg_kind {
#define MSG(name, number, text) MSG_##name = number,
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/msg.def"
#undef MSG
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
};

/* One message of any kind. */
struct msg {
    enum msg_kind kind;
    union {
#define MSG(name, number, text) struct msg_##name name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/msg.def"
#undef MSG
#undef U64
#undef U32
#undef U8
#undef BYTES
#undef END
    } u;
};

enum put_op {
    PUT_SET = 0,    /* store the value */
    PUT_DELETE = 1, /* store a tombstone */
    PUT_EXPIRE = 2  /* keep the winner's value, set its expiry (0: PERSIST) */
};

enum put_flags {
    PUT_HAS_CONTEXT = 1,  /* use `context`; without it the write covers what the coordinator sees */
    PUT_KEEP_TTL = 2,     /* SET ... KEEPTTL: the winner's expiry */
    PUT_RETURN_OLD = 4,   /* SET ... GET, GETDEL, GETEX */
    PUT_IF_EXISTS = 8,    /* write nothing if the coordinator sees no live value (DEL, EXPIRE) */
    PUT_IF_NO_TTL = 16,   /* EXPIRE NX */
    PUT_IF_TTL = 32,      /* EXPIRE XX */
    PUT_IF_LATER = 64,    /* EXPIRE GT */
    PUT_IF_EARLIER = 128, /* EXPIRE LT */
    PUT_WANT_CONTEXT = 256 /* answer a context (costs time; CW.* commands) */
};

enum put_result_flags {
    PUT_EXISTED = 1, /* there was a live value before */
    PUT_APPLIED = 2  /* something was written (conditions held) */
};

enum get_flags {
    GET_ALL = 1 /* the whole object is wanted (siblings, context), not only the winner */
};

enum merge_flags {
    MERGE_REPAIR = 1, /* read repair or anti-entropy, not a client's write */
    MERGE_HANDOFF = 2 /* delivery of a hint */
};

enum read_flags { READ_DIGEST = 1 };

/* "PUT_DONE" and its like; "?" for a number that is no message. */
const char *msg_name(int kind);

#endif
