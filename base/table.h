/* Text tables with aligned columns, and numbers as people read them. Used by tools and gossipd; prints
 * to a FILE and owns nothing else. */
#ifndef CLOCKWISE_BASE_TABLE_H
#define CLOCKWISE_BASE_TABLE_H

#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS 80
#define TABLE_NUMBER  48 /* bytes of a number as text */

struct table {
    uint32_t columns;
    uint32_t cells;
    uint32_t capacity;
    char **texts; /* owned, row by row; the first row is the heading */
    char right[TABLE_COLUMNS];
};

/* Begin a table. The heading names the columns, separated by '|'; a name that begins with '>' makes
 * its column right-aligned. */
void table_begin(struct table *t, const char *heading);

/* Next cell, row by row. */
void table_add(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print the title (unless it is NULL) after an empty line, then the rows with two blanks before each,
 * and forget everything. A table without rows prints nothing at all. */
void table_print(struct table *t, FILE *out, const char *title);

/* Each writes a number as text into out (TABLE_NUMBER bytes) and returns it. */
const char *number_count(char *out, uint64_t n);      /* 1,234,567 */
const char *number_bytes(char *out, uint64_t n);      /* 1.2 MiB */
const char *number_us(char *out, uint64_t us);        /* 1.23 ms */
const char *number_duration(char *out, uint64_t ms);  /* 2h 05m */
const char *number_time(char *out, uint64_t wall_ms); /* 2026-01-31 12:00:00 UTC, "never" for 0 */

#endif
