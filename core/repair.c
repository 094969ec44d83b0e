/* Names of the messages of anti-entropy. */
#include "core/repair.h"

const char *repair_name(int kind)
{
    switch (kind) {
#define MESSAGE(name, number, text)                                                                \
    case number:                                                                                   \
        return #name;
#include "core/repair.def"
    }
    return "?";
}
