/* Structures of the messages of anti-entropy, made from repair.def. Pure. */
#ifndef CLOCKWISE_CORE_REPAIR_H
#define CLOCKWISE_CORE_REPAIR_H

#define MESSAGES           "core/repair.def"
#define MESSAGE_ONE(name)  repair_##name
#define MESSAGE_KIND(name) REPAIR_##name
#define MESSAGE_KINDS      repair_kind
#define MESSAGE_ANY        repair
#include "base/message_types.def"

/* STATE_DONE.dirty_since: records of an earlier run, replayed from the journal, are not in the tree. */
#define REPAIR_DIRTY_REPLAYED 1u

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
