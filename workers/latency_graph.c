/* Spikes as columns of four lines of three steps each, and their age below, read downwards. */
#include "workers/latency_graph.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS   80
#define ROWS      4
#define STEPS     3 /* of a row */
#define AGE_CHARS 8

/* What is there of a column of this many steps in a row. */
static char cell(unsigned step, unsigned row)
{
    return step / STEPS > row ? '|' : step / STEPS < row ? ' ' : "_o#"[step % STEPS];
}

static unsigned step_of(uint32_t ms, uint32_t low, uint32_t high)
{
    unsigned step = high > low ? (unsigned)((uint64_t)(ms - low) * ROWS * STEPS / (high - low)) : 0;

    return step < ROWS * STEPS ? step : ROWS * STEPS - 1;
}

static void age_of(uint64_t seconds, char age[AGE_CHARS])
{
    static const struct {
        uint64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    unsigned i = 0;

    while (units[i].seconds > 1 && seconds < units[i].seconds)
        i++;
    uint64_t n = seconds / units[i].seconds;
    snprintf(age, AGE_CHARS, "%u%c", (unsigned)(n < 99999 ? n : 99999), units[i].unit);
}

static void write_ages(struct resp_out *text, const struct latency_sample *s, size_t count,
                       uint64_t wall_s)
{
    char ages[COLUMNS][AGE_CHARS] = {{0}}, line[COLUMNS];
    size_t longest = 0;

    for (size_t i = 0; i < count; i++) {
        age_of(wall_s > s[i].wall_s ? wall_s - s[i].wall_s : 0, ages[i]);
        longest = strlen(ages[i]) > longest ? strlen(ages[i]) : longest;
    }
    for (size_t row = 0; row < longest; row++) {
        for (size_t i = 0; i < count; i++)
            line[i] = row < strlen(ages[i]) ? ages[i][row] : ' ';
        resp_printf(text, "%.*s\n", (int)count, line);
    }
}

void latency_graph_write(struct resp_out *text, const char *event,
                         const struct latency_sample *samples, size_t count, uint64_t wall_s)
{
    uint32_t low = UINT32_MAX, high = 0, worst = 0;
    char line[COLUMNS];

    ASSERT(count > 0);
    for (size_t i = 0; i < count; i++) {
        low = samples[i].ms < low ? samples[i].ms : low;
        high = samples[i].ms > high ? samples[i].ms : high;
        worst = samples[i].max_ms > worst ? samples[i].max_ms : worst;
    }
    memset(line, '-', sizeof line);
    resp_printf(text, "%s - high %u ms, low %u ms (all time high %u ms)\n%.*s\n", event, high, low,
                worst, COLUMNS, line);
    for (size_t at = 0; at < count; at += COLUMNS) {
        size_t part = count - at < COLUMNS ? count - at : COLUMNS;

        for (unsigned row = ROWS; row-- > 0;) {
            for (size_t i = 0; i < part; i++)
                line[i] = cell(step_of(samples[at + i].ms, low, high), row);
            resp_printf(text, "%.*s\n", (int)part, line);
        }
        memset(line, ' ', part);
        resp_printf(text, "%.*s\n", (int)part, line);
        write_ages(text, samples + at, part, wall_s);
    }
}
