/* Text tables with aligned columns, and numbers as people read them. Runs in tools and gossipd. */
#include "base/table.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void add_text(struct table *t, char *text)
{
    if (text == NULL)
        check_panic("out of memory");
    if (t->cells == t->capacity) {
        t->capacity = t->capacity == 0 ? 256 : t->capacity * 2;
        t->texts = realloc(t->texts, t->capacity * sizeof *t->texts);
        if (t->texts == NULL)
            check_panic("out of memory");
    }
    t->texts[t->cells++] = text;
}

void table_begin(struct table *t, const char *heading)
{
    memset(t, 0, sizeof *t);
    for (const char *at = heading;; at++) {
        size_t len = strcspn(at, "|");
        bool right = *at == '>';

        ASSERT(t->columns < TABLE_COLUMNS);
        t->right[t->columns++] = right;
        add_text(t, strndup(at + right, len - right));
        at += len;
        if (*at == 0)
            return;
    }
}

void table_add(struct table *t, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    add_text(t, n < 0 ? NULL : text);
}

/* Width on the screen: bytes that continue a UTF-8 character take no column. */
static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text != 0; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_row(const struct table *t, FILE *out, char *const *row, const size_t *widths)
{
    fputs("  ", out);
    for (uint32_t c = 0; c < t->columns; c++) {
        int fill = (int)(widths[c] - width_of(row[c]));

        if (t->right[c])
            fprintf(out, "%*s%s", fill, "", row[c]);
        else if (c + 1 < t->columns)
            fprintf(out, "%s%*s", row[c], fill, "");
        else
            fputs(row[c], out);
        fputs(c + 1 < t->columns ? "  " : "\n", out);
    }
}

void table_print(struct table *t, FILE *out, const char *title)
{
    size_t widths[TABLE_COLUMNS] = {0};

    ASSERT(t->cells % t->columns == 0);
    for (uint32_t i = 0; i < t->cells; i++) {
        size_t width = width_of(t->texts[i]);
        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
    }
    if (t->cells > t->columns && title != NULL)
        fprintf(out, "\n%s\n", title);
    for (uint32_t i = 0; t->cells > t->columns && i < t->cells; i += t->columns)
        print_row(t, out, t->texts + i, widths);
    for (uint32_t i = 0; i < t->cells; i++)
        free(t->texts[i]);
    free(t->texts);
    memset(t, 0, sizeof *t);
}

const char *number_count(char *out, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *number_bytes(char *out, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)n;
    int unit = 0;

    while (value >= 1024 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(out, TABLE_NUMBER, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

const char *number_us(char *out, uint64_t us)
{
    if (us < 1000)
        snprintf(out, TABLE_NUMBER, "%llu us", (unsigned long long)us);
    else if (us < 1000000)
        snprintf(out, TABLE_NUMBER, "%.2f ms", (double)us / 1000);
    else
        snprintf(out, TABLE_NUMBER, "%.2f s", (double)us / 1000000);
    return out;
}

const char *number_duration(char *out, uint64_t ms)
{
    unsigned long long s = ms / 1000;

    if (s < 10)
        snprintf(out, TABLE_NUMBER, "%.1fs", (double)ms / 1000);
    else if (s < 60)
        snprintf(out, TABLE_NUMBER, "%llus", s);
    else if (s < 3600)
        snprintf(out, TABLE_NUMBER, "%llum %02llus", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, TABLE_NUMBER, "%lluh %02llum", s / 3600, s / 60 % 60);
    else
        snprintf(out, TABLE_NUMBER, "%llud %02lluh", s / 86400, s / 3600 % 24);
    return out;
}

const char *number_time(char *out, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (wall_ms == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(out, TABLE_NUMBER, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(out, TABLE_NUMBER, "never");
    return out;
}
