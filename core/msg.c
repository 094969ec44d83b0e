/* Names of messages. */
#include "core/msg.h"

const char *msg_name(int kind)
{
    switch (kind) {
#define MESSAGE(name, number, text)                                                                \
    case number:                                                                                   \
        return #name;
#include "core/msg.def"
    }
    return "?";
}
