/* Planted faults: COORD_BUG(NAME) is 0 and costs nothing, except in the simulator's own build of
 * core/ (-DCLOCKWISE_PLANTED_BUGS), where it asks the variable that the simulator defines. */
#ifndef CLOCKWISE_CORE_PLANTED_H
#define CLOCKWISE_CORE_PLANTED_H

enum planted_bug {
    BUG_NONE = 0,
#define X(name, text) BUG_##name,
#include "core/planted.def"
#include "core/planted_gossip.def"
#undef X
};

#ifdef CLOCKWISE_PLANTED_BUGS
extern int sim_bug; /* enum planted_bug; defined by the simulator */
#define COORD_BUG(name) (sim_bug == BUG_##name)
#else
#define COORD_BUG(name) 0
#endif

#endif
