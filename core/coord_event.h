/* What a coordinator counts, as numbers: COORD_PUT and its like, from coord_event.def. Pure. */
#ifndef CLOCKWISE_CORE_COORD_EVENT_H
#define CLOCKWISE_CORE_COORD_EVENT_H

enum coord_event {
#define X(name, counter, text) COORD_##name,
#include "core/coord_event.def"
#undef X
    COORD_EVENTS
};

#endif
