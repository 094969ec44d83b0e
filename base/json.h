/* JSON (RFC 8259), written as it goes: commas, quoting and nesting are seen to here. Used by
 * tools and by gossipd. */
#ifndef CLOCKWISE_BASE_JSON_H
#define CLOCKWISE_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH 16

struct json {
    FILE *out;
    uint32_t depth;
    bool any[JSON_DEPTH];    /* is there a value at this depth already? */
    char closer[JSON_DEPTH]; /* what ends this depth */
};

void json_begin(struct json *j, FILE *out);

/* name: the member's name inside an object, NULL inside an array and at the top. */
void json_object(struct json *j, const char *name);
void json_array(struct json *j, const char *name);
void json_end(struct json *j); /* the innermost object or array; a final newline after the last */

void json_number(struct json *j, const char *name, uint64_t n);
void json_bool(struct json *j, const char *name, bool b);
/* Bytes that are no UTF-8 become the characters U+0080 to U+00FF of the same number. */
void json_text(struct json *j, const char *name, const char *text);
/* 64 random bits lose precision in most readers of JSON, so they are written as hex text. */
void json_hex(struct json *j, const char *name, uint64_t n);

#endif
