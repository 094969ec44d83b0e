/* How a child ended, in words. */
#ifndef CLOCKWISE_SUPERVISOR_OBITUARY_H
#define CLOCKWISE_SUPERVISOR_OBITUARY_H

#include <stddef.h>
#include <stdint.h>

/* Write "exited with 1 after 3.2 s: <panic text>" or "died of signal 9 after 3.2 s" to out; status
 * is waitpid()'s. What the child left in its panic pipe (non-blocking, or -1) is read, its control
 * characters removed. Never blocks. */
void obituary_write(int status, uint64_t lived_us, int panic_fd, char *out, size_t size);

#endif
