/* Names of messages. */
#include "core/msg.h"

const char *msg_name(int kind)
{
    switch (kind) {
#define MSG(name, number, text)                                                                    \
    case number:                                                                                   \
        return #name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/msg.def"
    }
    return "?";
}
