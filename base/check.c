/* The obituary: what a process says before it dies of its own fault. Only async-signal-safe calls
 * are made from the signal handler. Runs in every process. */
#include "base/check.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int panic_fd = -1;
static const char *panic_name = "clockwise";

void check_set_panic(int fd, const char *process_name)
{
    panic_fd = fd;
    panic_name = process_name;
}

/* The result is ignored on purpose: there is nobody left to tell. */
static void say(const char *text, size_t len)
{
    ssize_t ignored = write(STDERR_FILENO, text, len);

    if (panic_fd >= 0)
        ignored = write(panic_fd, text, len);
    (void)ignored;
}

_Noreturn void check_fail(const char *kind, const char *condition, const char *file, int line)
{
    check_panic("%s failed: %s at %s:%d", kind, condition, file, line);
}

_Noreturn void check_panic(const char *format, ...)
{
    char text[1024];
    va_list args;
    int n = snprintf(text, sizeof text, "%s: PANIC: ", panic_name);

    va_start(args, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n++] = '\n';
    say(text, (size_t)n);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void (*on_crash)(const void *address);

static void on_fatal_signal(int sig, siginfo_t *info, void *context)
{
    (void)context;

    static const char hex[] = "0123456789";
    char text[96];
    size_t n = strlen(panic_name);

    if (n > 48)
        n = 48;
    memcpy(text, panic_name, n);
    memcpy(text + n, ": PANIC: died of signal ", 24);
    n += 24;
    text[n++] = hex[sig / 10 % 10];
    text[n++] = hex[sig % 10];
    text[n++] = '\n';
    say(text, n);
    signal(sig, SIG_DFL);
    if (on_crash != NULL)
        on_crash(info->si_code > 0 ? info->si_addr : NULL);
    raise(sig);
}

void check_on_crash(void (*crash)(const void *address))
{
    on_crash = crash;
}

void check_install_handlers(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fatal_signal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        sigaction(fatal[i], &action, NULL);
}
