/* Assertions that stay on in production, in three classes, and the obituary they print.
 *
 *   ASSERT(c)      our own code is wrong if c is false: obituary, abort.
 *   INVARIANT(c)   the same, for statements about shared or stored state; the obituary says so.
 *   UNREACHABLE()  a place that no execution may reach.
 *   CHECK_MAGIC(p, m)  p is not NULL and p->magic == m: a checked pointer at a module boundary.
 *
 * Never use these on input from clients, peers or disks: those return errors. */
#ifndef CLOCKWISE_BASE_CHECK_H
#define CLOCKWISE_BASE_CHECK_H

#include <stdint.h>

#define ASSERT(c)                                                                                  \
    (__builtin_expect(!!(c), 1) ? (void)0 : check_fail("assertion", #c, __FILE__, __LINE__))
#define INVARIANT(c)                                                                               \
    (__builtin_expect(!!(c), 1) ? (void)0 : check_fail("invariant", #c, __FILE__, __LINE__))
#define UNREACHABLE()     check_fail("unreachable", "", __FILE__, __LINE__)
#define CHECK_MAGIC(p, m) ASSERT((p) != 0 && (p)->magic == (m))

/* Print an obituary to standard error and to the panic descriptor, then abort. Does not return. */
_Noreturn void check_fail(const char *kind, const char *condition, const char *file, int line);

/* Like check_fail with a formatted reason: for a fault that must stop the process although no code
 * is wrong (a failed sync, say). */
_Noreturn void check_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Where obituaries go besides standard error (a pipe that the supervisor reads on SIGCHLD), and the
 * name of this process in them. The string must stay valid. fd -1: nowhere. */
void check_set_panic(int fd, const char *process_name);

/* Install handlers that write an obituary for SIGSEGV, SIGBUS, SIGFPE and SIGILL before dying of
 * the signal. Call once per process. */
void check_install_handlers(void);

/* What to do before the process dies of SIGSEGV or the like: given the address that was touched, NULL if
 * it is not known. Called in the handler: only what is async-signal-safe. */
void check_on_crash(void (*crash)(const void *address));

#endif
