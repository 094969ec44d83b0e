/* Names and sums of counters, made from counter.def. The owner of a block runs counter_init();
 * everything else here only reads. */
#include "shm/counter.h"

#include "base/check.h"
#include "base/hash.h"

#include <string.h>

enum { KIND_COUNTER, KIND_GAUGE };

static const struct {
    const char *name, *owner, *unit, *description;
    int kind;
} table[COUNTER_COUNT] = {
#define X(name, owner, kind, unit, description) {#name, #owner, unit, description, KIND_##kind},
#include "shm/counter.def"
#undef X
};

static void put_text(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);

    ASSERT(len < size);
    memcpy(out, text, len + 1);
}

void counter_init(struct counter_block *b)
{
    b->count = COUNTER_COUNT;
    b->desc_at = (uint32_t)offsetof(struct counter_block, descs);
    b->desc_bytes = (uint32_t)sizeof(struct counter_desc);
    for (uint32_t i = 0; i < COUNTER_COUNT; i++) {
        put_text(b->descs[i].name, sizeof b->descs[i].name, table[i].name);
        put_text(b->descs[i].unit, sizeof b->descs[i].unit, table[i].unit);
        put_text(b->descs[i].owner, sizeof b->descs[i].owner, table[i].owner);
        put_text(b->descs[i].kind, sizeof b->descs[i].kind,
                 table[i].kind == KIND_GAUGE ? "gauge" : "counter");
    }
    b->magic = COUNTER_MAGIC;
}

const char *counter_name(enum counter c)
{
    ASSERT(c < COUNTER_COUNT);
    return table[c].name;
}

const char *counter_unit(enum counter c)
{
    ASSERT(c < COUNTER_COUNT);
    return table[c].unit;
}

const char *counter_owner(enum counter c)
{
    ASSERT(c < COUNTER_COUNT);
    return table[c].owner;
}

const char *counter_description(enum counter c)
{
    ASSERT(c < COUNTER_COUNT);
    return table[c].description;
}

bool counter_is_gauge(enum counter c)
{
    ASSERT(c < COUNTER_COUNT);
    return table[c].kind == KIND_GAUGE;
}

void counter_sum(const struct counter_block *b, uint64_t *sums)
{
    for (uint32_t i = 0; i < COUNTER_COUNT; i++) {
        uint64_t value = counter_get(b, (enum counter)i);

        if (table[i].kind == KIND_GAUGE && strncmp(table[i].unit, "max", 3) == 0)
            sums[i] = value > sums[i] ? value : sums[i];
        else
            sums[i] += value;
    }
}

uint64_t counter_fingerprint(void)
{
    uint64_t h = sizeof(struct counter_block);

    for (uint32_t i = 0; i < COUNTER_COUNT; i++)
        h = hash64_seed(table[i].name, strlen(table[i].name), h);
    return h;
}

const char *counter_check(const struct counter_block *b, size_t space)
{
    if (space < offsetof(struct counter_block, values) || b->magic != COUNTER_MAGIC)
        return "no counter block";
    if (b->count > 65536 || b->desc_bytes < sizeof(struct counter_desc) || b->desc_bytes > 4096 ||
        b->desc_bytes % 8 != 0 || b->desc_at % 8 != 0)
        return "counter block with impossible sizes";
    if (b->desc_at < offsetof(struct counter_block, values) + 8 * (uint64_t)b->count ||
        b->desc_at + (uint64_t)b->desc_bytes * b->count > space)
        return "counter block longer than its segment";
    for (uint32_t i = 0; i < b->count; i++) {
        const struct counter_desc *d = counter_desc_at(b, i);

        if (d->name[sizeof d->name - 1] != 0 || d->unit[sizeof d->unit - 1] != 0 ||
            d->owner[sizeof d->owner - 1] != 0 || d->kind[sizeof d->kind - 1] != 0)
            return "counter description without an end";
    }
    return NULL;
}

uint64_t counter_value_at(const struct counter_block *b, uint32_t i)
{
    const _Atomic uint64_t *values =
        (const void *)((const uint8_t *)b + offsetof(struct counter_block, values));

    ASSERT(i < b->count);
    return atomic_load_explicit(values + i, memory_order_relaxed);
}

const struct counter_desc *counter_desc_at(const struct counter_block *b, uint32_t i)
{
    return (const void *)((const uint8_t *)b + b->desc_at + (size_t)b->desc_bytes * i);
}
