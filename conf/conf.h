/* The configuration of one node: plain fields made from conf.def, filled from an INI file.
 *
 * The supervisor loads what the user wrote, resolves what was left open and writes the result, the
 * effective file, into the runtime directory; children load that with the same functions. A loaded
 * struct conf is a value: copy it freely. */
#ifndef CLOCKWISE_CONF_CONF_H
#define CLOCKWISE_CONF_CONF_H

#include "core/limits.h"
#include "core/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONF_PATH         256
#define CONF_RUNTIME_PATH 88 /* leaves room for a socket's name within the 108 bytes of sun_path */
#define CONF_SECRET       128
#define CONF_SEEDS        32
#define CONF_PREFIXES     64
#define CONF_ERROR        512  /* bytes of an error text, with the final 0 */
#define CONF_VALUE        2304 /* bytes of any value as text, with the final 0 */

/* Exit status for a configuration that cannot be used (EX_CONFIG). */
#define CONF_EXIT 78

struct conf_endpoint {
    char address[LIMIT_ADDR]; /* numeric */
    uint16_t port;
};

struct conf_endpoints {
    uint32_t count;
    struct conf_endpoint at[CONF_SEEDS];
};

/* Quorums of the keys that begin with a prefix. What the section does not set is the cluster's. */
struct conf_prefix {
    char prefix[LIMIT_NAME];
    uint32_t n, r, w, pr, pw, dw;
};

enum conf_read_repair { CONF_REPAIR_ASYNC, CONF_REPAIR_BLOCKING };
enum conf_auth_clients { CONF_AUTH_NO, CONF_AUTH_OPTIONAL, CONF_AUTH_YES };
enum conf_durability { CONF_DURABILITY_ALWAYS, CONF_DURABILITY_EVERYSEC, CONF_DURABILITY_NEVER };

#define CONF_FIELD_INT(key, max)       uint32_t key
#define CONF_FIELD_AUTO(key, max)      uint32_t key
#define CONF_FIELD_SIZE(key, max)      uint64_t key##_bytes
#define CONF_FIELD_DURATION(key, max)  uint32_t key##_ms
#define CONF_FIELD_BOOL(key, max)      bool key
#define CONF_FIELD_ENUM(key, max)      uint8_t key
#define CONF_FIELD_STRING(key, max)    char key[max]
#define CONF_FIELD_NAME(key, max)      char key[max]
#define CONF_FIELD_PATH(key, max)      char key[max]
#define CONF_FIELD_ADDRESS(key, max)   char key[LIMIT_ADDR]
#define CONF_FIELD_ENDPOINTS(key, max) struct conf_endpoints key

/* The index of each key: CONF_node_port and so on, in the order of conf.def. */
enum conf_key_index {
#define SECTION(name, text)
#define X(section, key, type, def, min, max, reloadable, text) CONF_##section##_##key,
#define END(name)
#include "conf/conf.def"
#undef SECTION
#undef X
#undef END
    CONF_KEYS
};

struct conf {
#define SECTION(name, text)                                    struct {
#define X(section, key, type, def, min, max, reloadable, text) CONF_FIELD_##type(key, max);
#define END(name)                                                                                  \
    }                                                                                              \
    name;
#include "conf/conf.def"
#undef SECTION
#undef X
#undef END
    uint32_t prefix_count;
    struct conf_prefix prefix[CONF_PREFIXES]; /* longest prefix first */
    uint8_t q_bits;                           /* partitions == 1 << q_bits */
    uint16_t line[CONF_KEYS];                 /* where the key was set; 0: not in the file */
};

/* What is known of one key, for tools and documentation. Strings are static. */
struct conf_key {
    const char *section, *key, *type, *text, *def;
    const char *choices; /* "a|b|c" for ENUM, else NULL */
    int64_t min, max;
    bool reloadable;
};

/* Load a file and check it; path NULL: the defaults alone. Resolves everything that may be left open
 * (directories, workers, ports, name). Returns 0, or -ERR_INVAL with a text in error: "file:line:
 * reason", or "file: reason" where no line is to blame. Reads the environment; blocks for the file. */
int conf_load(struct conf *out, const char *path, char error[CONF_ERROR]);

/* Write a configuration as canonical INI, mode 0600, to a temporary name beside path, then rename it
 * into place. 0 or -ERR_IO or -ERR_DISKFULL. Blocks. */
int conf_write_effective(const struct conf *c, const char *path);

/* Take over from fresh what may change while running. Every other key that differs is passed to
 * ignored (may be NULL) and keeps its value. Returns how many keys were taken over, or -ERR_INVAL
 * with a text in error if the mixture would be wrong; then nothing has changed. */
int conf_take_reloadable(struct conf *current, const struct conf *fresh,
                         void (*ignored)(void *arg, const struct conf_key *key), void *arg,
                         char error[CONF_ERROR]);

/* Give a key that may change while running a new value; "section.key", or the key alone. What it means
 * together with other keys is checked when conf_take_reloadable() takes it over. -ERR_NOTFOUND; -ERR_DENIED:
 * it needs a restart; -ERR_INVAL with a reason. */
int conf_change(struct conf *c, const char *name, const char *text, char reason[CONF_ERROR]);

/* The description of key index (enum conf_key_index). */
const struct conf_key *conf_key_at(unsigned index);

/* The value of a key in the syntax of the file. Secrets are given in clear: mind who reads it. */
void conf_format(const struct conf *c, unsigned index, char out[CONF_VALUE]);

/* Is this node reached by loopback addresses alone? */
bool conf_is_local(const struct conf *c);

/* The level for log_setup(). */
int conf_log_level(const struct conf *c);

/* The most replicas that any key has, by the cluster's n and those of the prefix sections: so many nodes
 * keep a partition. */
uint32_t conf_replicas(const struct conf *c);

/* The quorums that hold for a key: the longest matching prefix section or the cluster's. The result
 * lives as long as *scratch and *c do; scratch is filled when no prefix matches. */
const struct conf_prefix *conf_quorums(const struct conf *c, const void *key, size_t key_len,
                                       struct conf_prefix *scratch);

#endif
