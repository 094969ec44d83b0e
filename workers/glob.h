/* Glob patterns as Redis has them: '*', '?', "[a-z]", "[^x]" and '\\'. Used by workers. */
#ifndef CLOCKWISE_WORKERS_GLOB_H
#define CLOCKWISE_WORKERS_GLOB_H

#include "base/slice.h"

/* Bounds of one comparison. Redis stops after as many stars, too. */
#define GLOB_STARS 1000u
#define GLOB_STEPS (1u << 22)

/* Does the whole text match? A text for which the bounds do not suffice does not: only patterns that
 * are made to be slow get there. */
bool glob_match(struct slice pattern, struct slice text, bool any_case);

#endif
