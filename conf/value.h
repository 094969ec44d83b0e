/* Values of single keys: text to field and back, and the checks between keys. Used inside conf/
 * only. */
#ifndef CLOCKWISE_CONF_VALUE_H
#define CLOCKWISE_CONF_VALUE_H

#include "conf/conf.h"

/* The index of a key, or -ERR_NOTFOUND; section NULL-terminated. */
int conf_key_find(const char *section, const char *key);
bool conf_section_exists(const char *section);

/* Parse text into the field of key index. 0, or -ERR_INVAL with a reason (without file and line).
 * The text of a secret never appears in the reason. */
int conf_value_set(struct conf *c, unsigned index, const char *text, char reason[CONF_ERROR]);

/* Parse one number for a key that is not in the table (prefix sections). */
int conf_value_number(const char *text, int64_t min, int64_t max, int64_t *out);

/* Where a field lies: pointer and size in bytes. */
void *conf_field(struct conf *c, unsigned index, size_t *size);

/* Fill what may be left open: directories, workers, ports, name, announced address. Reads the
 * environment and the CPU set. 0 or -ERR_INVAL; *blame is then the key at fault. */
int conf_resolve(struct conf *c, unsigned *blame, char reason[CONF_ERROR]);

/* The checks that concern more than one key. 0 or -ERR_INVAL; *blame is then the key at fault. */
int conf_check(const struct conf *c, unsigned *blame, char reason[CONF_ERROR]);

/* Is this numeric address one of the loopback, one that stands for all, one that no host has? */
bool conf_address_loopback(const char *address);
bool conf_address_wildcard(const char *address);

#endif
