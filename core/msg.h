/* Structures of the messages between workers, made from msg.def. Pure. */
#ifndef CLOCKWISE_CORE_MSG_H
#define CLOCKWISE_CORE_MSG_H

#define MESSAGES           "core/msg.def"
#define MESSAGE_ONE(name)  msg_##name
#define MESSAGE_KIND(name) MSG_##name
#define MESSAGE_KINDS      msg_kind
#define MESSAGE_ANY        msg
#include "base/message_types.def"

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
