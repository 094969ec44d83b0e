/* Commands of Redis that are refused on purpose, and why. Used by workers. */
#ifndef CLOCKWISE_WORKERS_COMMAND_REFUSED_H
#define CLOCKWISE_WORKERS_COMMAND_REFUSED_H

#include "base/slice.h"

/* Build the index. Call once before anything else here. */
void command_refused_setup(void);

/* Why a command of this name (any case) is refused; NULL: Redis does not know it either, or it is not
 * refused. */
const char *command_refused_why(struct slice name);

#endif
