/* Error numbers shared by every process and spoken between nodes. A function that can fail returns
 * 0 or a negated enum err; there is no errno outside the files that make system calls. */
#ifndef CLOCKWISE_BASE_ERR_H
#define CLOCKWISE_BASE_ERR_H

enum err {
    ERR_OK = 0,
#define X(name, number, text) ERR_##name = number,
#include "base/err.def"
#undef X
};

/* The text of an error, for people. Accepts either sign. Never NULL; the string is static. */
const char *err_text(int err);

/* The name of an error ("NOQUORUM"), for protocols and logs. Accepts either sign. Never NULL. */
const char *err_name(int err);

/* Translate an errno value of a file or socket call to a negated enum err (never 0). */
int err_from_errno(int errno_value);

#endif
