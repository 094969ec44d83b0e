/* Glob patterns as Redis has them: '*', '?', "[a-z]", "[^x]" and '\\'. Used by workers. */
#ifndef CLOCKWISE_WORKERS_GLOB_H
#define CLOCKWISE_WORKERS_GLOB_H

#include "base/slice.h"

/* Does the whole text match? Takes at most pattern length times text length steps. */
bool glob_match(struct slice pattern, struct slice text, bool any_case);

#endif
