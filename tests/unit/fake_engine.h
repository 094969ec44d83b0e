/* An engine over a map, for tests and benches of the client side: answers at once, or keeps answers
 * until the test delivers them in the order it likes. Not thread-safe; never frees a key. */
#ifndef CLOCKWISE_TESTS_FAKE_ENGINE_H
#define CLOCKWISE_TESTS_FAKE_ENGINE_H

#include "base/err.h"
#include "base/hash.h"
#include "core/object.h"
#include "workers/clients.h"
#include "workers/engine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define FAKE_SLOTS (1u << 16)

struct fake_entry {
    struct slice key;
    struct buf object;
    uint64_t dot;
};

struct fake_answer {
    uint64_t token;
    struct coord_reply reply;
    uint8_t *object;
};

struct fake {
    struct engine engine;
    struct clients *clients;
    struct fake_entry *entries;
    struct object view;
    struct buf context;
    bool defer;    /* keep answers in `queue` */
    uint32_t room; /* requests taken before -ERR_BUSY; UINT32_MAX: all */
    bool pressure;
    int status; /* every request fails so */
    uint64_t keys, puts, gets;
    struct msg_PUT last_put;
    struct msg_GET last_get;
    struct fake_answer queue[8192];
    uint32_t queued;
};

static inline struct fake_entry *fake_find(struct fake *f, struct slice key)
{
    uint32_t at = (uint32_t)hash64(key.data, key.len) % FAKE_SLOTS;

    while (f->entries[at].key.data != NULL && !slice_equal(f->entries[at].key, key))
        at = (at + 1) % FAKE_SLOTS;
    if (f->entries[at].key.data == NULL) {
        uint8_t *copy = malloc(key.len + 1);
        memcpy(copy, key.data, key.len);
        f->entries[at].key = slice_of(copy, key.len);
        f->keys++;
        assert(f->keys < FAKE_SLOTS / 2);
    }
    return &f->entries[at];
}

static inline void fake_answer(struct fake *f, uint64_t token, struct coord_reply *reply)
{
    if (f->room != UINT32_MAX)
        f->room--;
    if (!f->defer) {
        clients_reply(f->clients, token, reply);
        return;
    }
    assert(f->queued < sizeof f->queue / sizeof *f->queue);
    struct fake_answer *a = &f->queue[f->queued++];
    a->token = token;
    a->reply = *reply;
    a->object = malloc(reply->object.len + 1);
    if (reply->object.len > 0)
        memcpy(a->object, reply->object.data, reply->object.len);
    a->reply.object.data = a->object;
    a->reply.context = slice_of(NULL, 0);
}

/* Deliver the kept answer i; later ones move down. */
static inline void fake_deliver(struct fake *f, uint32_t i)
{
    assert(i < f->queued);
    struct fake_answer a = f->queue[i];
    memmove(&f->queue[i], &f->queue[i + 1], (--f->queued - i) * sizeof a);
    clients_reply(f->clients, a.token, &a.reply);
    free(a.object);
}

static inline bool fake_allowed(const struct msg_PUT *put, bool existed, uint64_t ttl)
{
    if (!existed && (put->op == PUT_EXPIRE || (put->flags & PUT_IF_EXISTS)))
        return false;
    if (((put->flags & PUT_IF_NO_TTL) && ttl != 0) || ((put->flags & PUT_IF_TTL) && ttl == 0))
        return false;
    if ((put->flags & PUT_IF_LATER) && (ttl == 0 || put->expiry <= ttl))
        return false;
    return !((put->flags & PUT_IF_EARLIER) && ttl != 0 && put->expiry >= ttl);
}

static inline int fake_put(void *arg, uint64_t token, const struct msg_PUT *put)
{
    static struct causal context;
    struct fake *f = arg;
    struct coord_reply reply = {.status = f->status};
    struct sibling winner = {0};
    static char text[LIMIT_CONTEXT_TEXT];

    f->last_put = *put;
    if (f->room == 0)
        return -ERR_BUSY;
    f->puts++;
    struct fake_entry *e = fake_find(f, put->key);
    struct slice stored = slice_of(buf_head(&e->object), buf_len(&e->object));
    if (stored.len == 0 || object_open(&f->view, stored) != 0)
        object_empty(&f->view, put->key);
    bool existed = object_winner(&f->view, f->engine.wall_ms, &winner, NULL);
    struct buf old = {0}, fresh = {0};
    buf_append(&old, stored.data, stored.len);
    if (f->status == 0 && existed)
        reply.flags |= PUT_EXISTED;
    if (f->status == 0 && fake_allowed(put, existed, winner.expiry_ms)) {
        struct causal seen;
        struct object_write w = {.dot = {1, ++e->dot},
                                 .time = e->dot << 16,
                                 .expiry_ms =
                                     put->flags & PUT_KEEP_TTL ? winner.expiry_ms : put->expiry,
                                 .tombstone = put->op == PUT_DELETE,
                                 .value = put->op == PUT_EXPIRE ? winner.value : put->value,
                                 .request_id = put->request_id,
                                 .sibling_limit = LIMIT_SIBLINGS};
        if (w.tombstone)
            w.value = slice_of(NULL, 0);
        if (put->flags & PUT_HAS_CONTEXT) {
            reply.status = causal_from_text(&seen, put->key, put->context);
            w.seen = &seen;
        }
        if (reply.status == 0)
            reply.status = object_put(&f->view, &w, &fresh, &context);
        if (reply.status >= 0) {
            reply.status = 0;
            reply.got = 1;
            reply.flags |= PUT_APPLIED;
            buf_free(&e->object);
            e->object = fresh;
            int n = causal_to_text(&context, put->key, text, sizeof text);
            assert(n >= 0);
            reply.context = slice_of(text, (size_t)n);
        }
    }
    if (put->flags & PUT_RETURN_OLD)
        reply.object = slice_of(buf_head(&old), buf_len(&old));
    fake_answer(f, token, &reply);
    buf_free(&old);
    return 0;
}

static inline int fake_get(void *arg, uint64_t token, const struct msg_GET *get)
{
    struct fake *f = arg;
    struct coord_reply reply = {.status = f->status, .need = 2, .got = 1};

    f->last_get = *get;
    if (f->room == 0)
        return -ERR_BUSY;
    f->gets++;
    struct fake_entry *e = fake_find(f, get->key);
    if (f->status == 0)
        reply.object = slice_of(buf_head(&e->object), buf_len(&e->object));
    fake_answer(f, token, &reply);
    return 0;
}

static inline bool fake_pressure(void *arg)
{
    return ((struct fake *)arg)->pressure;
}

static inline void fake_info(void *arg, struct worker_info *info)
{
    info->keys = ((struct fake *)arg)->keys;
    info->durability = "always";
}

static inline bool fake_config(void *arg, unsigned i, const char **name, char *value, size_t size)
{
    (void)arg;
    *name = i == 0 ? "durability" : "port";
    snprintf(value, size, "%s", i == 0 ? "always" : "7379");
    return i < 2;
}

static inline struct fake *fake_new(struct loop *loop)
{
    struct fake *f = calloc(1, sizeof *f);

    f->entries = calloc(FAKE_SLOTS, sizeof *f->entries);
    f->room = UINT32_MAX;
    f->engine = (struct engine){.arg = f,
                                .now_us = 1000000,
                                .wall_ms = 1700000000000u,
                                .conf = {.max_clients = 1000},
                                .put = fake_put,
                                .get = fake_get,
                                .pressure = fake_pressure,
                                .info = fake_info,
                                .config = fake_config};
    int rc = clients_open(&f->clients, loop, &f->engine);
    assert(rc == 0);
    return f;
}

static inline void fake_free(struct fake *f)
{
    clients_close(f->clients);
    for (uint32_t i = 0; i < FAKE_SLOTS; i++) {
        free((void *)(uintptr_t)f->entries[i].key.data);
        buf_free(&f->entries[i].object);
    }
    for (uint32_t i = 0; i < f->queued; i++)
        free(f->queue[i].object);
    free(f->entries);
    free(f);
}

#endif
