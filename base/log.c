/* Log lines. Runs in every process. */
#include "base/log.h"

#include "base/clock.h"
#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *log_name = "clockwise";
static enum log_level log_max = LOG_INFO;
static bool log_to_journal;

void log_setup(const char *process_name, enum log_level level)
{
    log_name = process_name;
    log_max = level;
    log_to_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_at(enum log_level level, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;

    if (level > log_max)
        return;
    if (log_to_journal) {
        n = snprintf(text, sizeof text, "<%d>%s: ", (int)level, log_name);
    } else {
        static const char letters[] = "EEEEWNID";
        uint64_t ms = clock_wall_ms();
        time_t seconds = (time_t)(ms / 1000);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        n = snprintf(text, sizeof text, "%02d:%02d:%02d.%03u %c %s: ", tm.tm_hour, tm.tm_min,
                     tm.tm_sec, (unsigned)(ms % 1000), letters[level & 7], log_name);
    }
    va_start(args, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, text, (size_t)n);
    (void)ignored;
}

int log_level_parse(const char *name)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_ERROR},
                  {"warn", LOG_WARN},
                  {"notice", LOG_NOTICE},
                  {"info", LOG_INFO},
                  {"debug", LOG_DEBUG}};

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (strcmp(levels[i].name, name) == 0)
            return (int)levels[i].level;
    return -ERR_INVAL;
}
