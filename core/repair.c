/* Names of the messages of anti-entropy. */
#include "core/repair.h"

const char *repair_name(int kind)
{
    switch (kind) {
#define REPAIR(name, number, text)                                                                 \
    case number:                                                                                   \
        return #name;
#define U64(field)
#define U32(field)
#define U8(field)
#define BYTES(field)
#define END(name)
#include "core/repair.def"
    }
    return "?";
}
