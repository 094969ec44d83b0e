/* The byte fields of a message, whatever its kind: for those who keep, copy or spoil messages. */
#ifndef CLOCKWISE_TESTS_MESSAGES_H
#define CLOCKWISE_TESTS_MESSAGES_H

#include "core/msg.h"
#include "core/repair.h"

#include <string.h>

enum { MESSAGE_SLICES = 16 };

/* Where they are in the message; how many. */
#define END(name)                                                                                  \
    (void)x;                                                                                       \
    break;                                                                                         \
    }
#define BYTES(field) out[count++] = &x->field;
#define MESSAGE(name, number, text)                                                                \
    case number: {                                                                                 \
        struct msg_##name *x = &m->u.name;
static inline unsigned msg_slices(struct msg *m, struct slice *out[MESSAGE_SLICES])
{
    unsigned count = 0;

    switch (m->kind) {
#include "core/msg.def"
    }
    return count;
}

#define END(name)                                                                                  \
    (void)x;                                                                                       \
    break;                                                                                         \
    }
#define BYTES(field) out[count++] = &x->field;
#define MESSAGE(name, number, text)                                                                \
    case number: {                                                                                 \
        struct repair_##name *x = &m->u.name;
static inline unsigned repair_slices(struct repair *m, struct slice *out[MESSAGE_SLICES])
{
    unsigned count = 0;

    switch (m->kind) {
#include "core/repair.def"
    }
    return count;
}

static inline size_t slices_bytes(struct slice *const list[], unsigned count)
{
    size_t total = 0;

    for (unsigned i = 0; i < count; i++)
        total += list[i]->len;
    return total;
}

/* Copy what they borrow to `at`, which is large enough, and let them borrow that. */
static inline void slices_move(struct slice *const list[], unsigned count, uint8_t *at)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i]->len > 0)
            memcpy(at, list[i]->data, list[i]->len);
        list[i]->data = at;
        at += list[i]->len;
    }
}

#endif
