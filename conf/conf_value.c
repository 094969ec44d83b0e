/* Text to field and back, by the types of conf.def. Runs wherever a configuration is loaded or shown;
 * opens no file. */
#include "conf/value.h"

#include "base/check.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum type { INT, AUTO, SIZE, DURATION, BOOL, ENUM, STRING, NAME, PATH, ADDRESS, ENDPOINTS };

#define MEMBER_INT(section, key)       section.key
#define MEMBER_AUTO(section, key)      section.key
#define MEMBER_SIZE(section, key)      section.key##_bytes
#define MEMBER_DURATION(section, key)  section.key##_ms
#define MEMBER_BOOL(section, key)      section.key
#define MEMBER_ENUM(section, key)      section.key
#define MEMBER_STRING(section, key)    section.key
#define MEMBER_NAME(section, key)      section.key
#define MEMBER_PATH(section, key)      section.key
#define MEMBER_ADDRESS(section, key)   section.key
#define MEMBER_ENDPOINTS(section, key) section.key

/* Only an ENUM has choices where others have their minimum. */
#define CHOICES_INT(min)       NULL, min
#define CHOICES_AUTO(min)      NULL, min
#define CHOICES_SIZE(min)      NULL, min
#define CHOICES_DURATION(min)  NULL, min
#define CHOICES_BOOL(min)      NULL, min
#define CHOICES_ENUM(min)      min, 0
#define CHOICES_STRING(min)    NULL, min
#define CHOICES_NAME(min)      NULL, min
#define CHOICES_PATH(min)      NULL, min
#define CHOICES_ADDRESS(min)   NULL, min
#define CHOICES_ENDPOINTS(min) NULL, min

#define YES true
#define NO  false

static const struct conf_key keys[CONF_KEYS] = {
#define SECTION(name, text)
#define X(section, key, type, def, min, max, reloadable, text)                                     \
    {#section, #key, #type, text, def, CHOICES_##type(min), max, reloadable},
#define END(name)
#include "conf/conf.def"
#undef SECTION
#undef X
#undef END
};

static const struct place {
    enum type type;
    size_t offset, size;
} places[CONF_KEYS] = {
#define SECTION(name, text)
#define X(section, key, type, def, min, max, reloadable, text)                                     \
    {type, offsetof(struct conf, MEMBER_##type(section, key)),                                     \
     sizeof(((struct conf *)0)->MEMBER_##type(section, key))},
#define END(name)
#include "conf/conf.def"
#undef SECTION
#undef X
#undef END
};

#define ADDRESS_TEXT "not a numeric address that a host can have"

struct unit {
    const char *name;
    int64_t factor;
};
static const struct unit size_units[] = {
    {"tb", 1ll << 40}, {"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"b", 1}, {"", 1}, {0}};
static const struct unit time_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                         {"s", 1000},     {"ms", 1},      {0}};

const struct conf_key *conf_key_at(unsigned index)
{
    ASSERT(index < CONF_KEYS);
    return &keys[index];
}

int conf_key_find(const char *section, const char *key)
{
    for (int i = 0; i < CONF_KEYS; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].key, key) == 0)
            return i;
    return -ERR_NOTFOUND;
}

bool conf_section_exists(const char *section)
{
    for (int i = 0; i < CONF_KEYS; i++)
        if (strcmp(keys[i].section, section) == 0)
            return true;
    return false;
}

void *conf_field(struct conf *c, unsigned index, size_t *size)
{
    ASSERT(index < CONF_KEYS);
    if (size != NULL)
        *size = places[index].size;
    return (char *)c + places[index].offset;
}

/* Digits, then one of the units; units NULL: digits alone. */
static int parse_number(const char *text, const struct unit *units, int64_t *out)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -ERR_INVAL;
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    if (errno != 0)
        return -ERR_INVAL;
    if (units == NULL) {
        *out = value;
        return *end == 0 ? 0 : -ERR_INVAL;
    }
    for (; units->name != NULL; units++)
        if (strcasecmp(end, units->name) == 0)
            return __builtin_mul_overflow(value, units->factor, out) ? -ERR_INVAL : 0;
    return -ERR_INVAL;
}

int conf_value_number(const char *text, int64_t min, int64_t max, int64_t *out)
{
    return parse_number(text, NULL, out) == 0 && *out >= min && *out <= max ? 0 : -ERR_INVAL;
}

static void format_number(int64_t value, const struct unit *units, char out[CONF_VALUE])
{
    for (; units->factor != 1; units++)
        if (value != 0 && value % units->factor == 0)
            break;
    snprintf(out, CONF_VALUE, "%" PRId64 "%s", value / units->factor, units->name);
}

/* An address that a socket can be bound to or a peer be reached at: no multicast, no broadcast. */
static bool address_valid(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, text, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);

        return a == 0 || (a >= 0x01000000u && a < 0xe0000000u);
    }
    return inet_pton(AF_INET6, text, &v6) == 1 && !IN6_IS_ADDR_MULTICAST(&v6);
}

bool conf_address_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

bool conf_address_wildcard(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, address, &v4) == 1)
        return v4.s_addr == 0;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

/* "address:port" or "[address]:port". */
static int parse_endpoint(const char *text, size_t len, struct conf_endpoint *out)
{
    char copy[LIMIT_ADDR + 8];
    int64_t port;

    if (len >= sizeof copy)
        return -ERR_INVAL;
    memcpy(copy, text, len);
    copy[len] = 0;
    char *colon = strrchr(copy, ':');
    char *address = copy;

    if (colon == NULL || conf_value_number(colon + 1, 1, 65535, &port) != 0)
        return -ERR_INVAL;
    *colon = 0;
    if (address[0] == '[') {
        size_t n = strlen(++address);

        if (n == 0 || address[n - 1] != ']')
            return -ERR_INVAL;
        address[n - 1] = 0;
    } else if (strchr(address, ':') != NULL) {
        return -ERR_INVAL;
    }
    if (!address_valid(address) || conf_address_wildcard(address) ||
        strlen(address) >= sizeof out->address)
        return -ERR_INVAL;
    memcpy(out->address, address, strlen(address) + 1);
    out->port = (uint16_t)port;
    return 0;
}

static int parse_endpoints(const char *text, int64_t max, struct conf_endpoints *out,
                           char reason[CONF_ERROR])
{
    memset(out, 0, sizeof *out);
    while (*text != 0) {
        size_t skip = strspn(text, ", \t");

        text += skip;
        size_t len = strcspn(text, ", \t");
        if (len == 0)
            break;
        if (out->count == (uint32_t)max) {
            snprintf(reason, CONF_ERROR, "more than %" PRId64 " addresses", max);
            return -ERR_INVAL;
        }
        if (parse_endpoint(text, len, &out->at[out->count]) != 0) {
            snprintf(reason, CONF_ERROR, "not a numeric address:port: \"%.*s\"",
                     (int)(len < 80 ? len : 80), text);
            return -ERR_INVAL;
        }
        out->count++;
        text += len;
    }
    return 0;
}

static int parse_choice(const char *text, const char *choices, uint8_t *out)
{
    size_t len = strlen(text);

    for (uint8_t i = 0; len > 0; i++) {
        size_t n = strcspn(choices, "|");

        if (n == len && strncmp(choices, text, n) == 0) {
            *out = i;
            return 0;
        }
        if (choices[n] == 0)
            break;
        choices += n + 1;
    }
    return -ERR_INVAL;
}

static int parse_text(enum type type, const struct conf_key *k, const char *text, char *out,
                      size_t size, char reason[CONF_ERROR])
{
    size_t len = strlen(text);

    if (len >= size) {
        snprintf(reason, CONF_ERROR, "longer than %zu bytes", size - 1);
        return -ERR_INVAL;
    }
    if (len == 0 && k->min > 0) {
        snprintf(reason, CONF_ERROR, "must not be empty");
        return -ERR_INVAL;
    }
    if (type == NAME && text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789._-")] != 0) {
        snprintf(reason, CONF_ERROR, "only letters, digits, '.', '_' and '-' are allowed");
        return -ERR_INVAL;
    }
    if (type == PATH && len > 0 && text[0] != '/') {
        snprintf(reason, CONF_ERROR, "not an absolute path: \"%.200s\"", text);
        return -ERR_INVAL;
    }
    if (type == ADDRESS && len > 0 && !address_valid(text)) {
        snprintf(reason, CONF_ERROR, ADDRESS_TEXT ": \"%s\"", text);
        return -ERR_INVAL;
    }
    memset(out, 0, size);
    memcpy(out, text, len);
    return 0;
}

/* INT, AUTO, SIZE, DURATION. */
static int parse_amount(const struct place *p, const struct conf_key *k, const char *text,
                        void *field, char reason[CONF_ERROR])
{
    const struct unit *units = p->type == SIZE       ? size_units
                               : p->type == DURATION ? time_units
                                                     : NULL;
    char low[CONF_VALUE], high[CONF_VALUE];
    int64_t value;

    if (p->type == AUTO && strcmp(text, "auto") == 0) {
        *(uint32_t *)field = 0;
        return 0;
    }
    if (parse_number(text, units, &value) == 0 && value >= k->min && value <= k->max) {
        if (p->type == SIZE)
            *(uint64_t *)field = (uint64_t)value;
        else
            *(uint32_t *)field = (uint32_t)value;
        return 0;
    }
    static const struct unit plain[] = {{"", 1}};
    format_number(k->min, units != NULL ? units : plain, low);
    format_number(k->max, units != NULL ? units : plain, high);
    snprintf(reason, CONF_ERROR, "not %s between %.40s and %.40s%s: \"%.80s\"",
             p->type == SIZE       ? "a size"
             : p->type == DURATION ? "a duration"
                                   : "a number",
             low, high, p->type == AUTO ? ", or auto" : "", text);
    return -ERR_INVAL;
}

int conf_value_set(struct conf *c, unsigned index, const char *text, char reason[CONF_ERROR])
{
    const struct conf_key *k = conf_key_at(index);
    const struct place *p = &places[index];
    void *field = conf_field(c, index, NULL);
    uint8_t choice;

    switch (p->type) {
    case INT:
    case AUTO:
    case SIZE:
    case DURATION:
        return parse_amount(p, k, text, field, reason);
    case BOOL:
        if (parse_choice(text, "no|yes", &choice) != 0) {
            snprintf(reason, CONF_ERROR, "neither yes nor no: \"%.80s\"", text);
            return -ERR_INVAL;
        }
        *(bool *)field = choice == 1;
        return 0;
    case ENUM:
        if (parse_choice(text, k->choices, field) != 0) {
            snprintf(reason, CONF_ERROR, "not one of %s: \"%.80s\"", k->choices, text);
            return -ERR_INVAL;
        }
        return 0;
    case STRING:
    case NAME:
    case PATH:
    case ADDRESS:
        return parse_text(p->type, k, text, field, p->size, reason);
    case ENDPOINTS:
        return parse_endpoints(text, k->max, field, reason);
    }
    UNREACHABLE();
}

static void format_endpoints(const struct conf_endpoints *e, char out[CONF_VALUE])
{
    size_t n = 0;

    for (uint32_t i = 0; i < e->count; i++) {
        bool v6 = strchr(e->at[i].address, ':') != NULL;

        n += (size_t)snprintf(out + n, CONF_VALUE - n, "%s%s%s%s:%u", i > 0 ? ", " : "",
                              v6 ? "[" : "", e->at[i].address, v6 ? "]" : "", e->at[i].port);
        ASSERT(n < CONF_VALUE);
    }
}

void conf_format(const struct conf *c, unsigned index, char out[CONF_VALUE])
{
    const struct place *p = &places[index];
    const void *field = (const char *)c + p->offset;
    const char *choice = keys[index].choices;

    out[0] = 0;
    switch (p->type) {
    case INT:
        snprintf(out, CONF_VALUE, "%" PRIu32, *(const uint32_t *)field);
        break;
    case AUTO:
        if (*(const uint32_t *)field == 0)
            snprintf(out, CONF_VALUE, "auto");
        else
            snprintf(out, CONF_VALUE, "%" PRIu32, *(const uint32_t *)field);
        break;
    case SIZE:
        format_number((int64_t) * (const uint64_t *)field, size_units, out);
        break;
    case DURATION:
        format_number(*(const uint32_t *)field, time_units, out);
        break;
    case BOOL:
        snprintf(out, CONF_VALUE, "%s", *(const bool *)field ? "yes" : "no");
        break;
    case ENUM:
        for (uint8_t i = *(const uint8_t *)field; i > 0; i--)
            choice += strcspn(choice, "|") + 1;
        snprintf(out, CONF_VALUE, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    case STRING:
    case NAME:
    case PATH:
    case ADDRESS:
        snprintf(out, CONF_VALUE, "%s", (const char *)field);
        break;
    case ENDPOINTS:
        format_endpoints(field, out);
        break;
    }
}
