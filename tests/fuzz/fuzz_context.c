/* Fuzz target: contexts as clients send them back. The first byte chooses: the rest is the text; or what a
 * text is made of, with the sums put right, so that it gets past them: any vnodes, any counters. Whatever
 * is believed is what causal_to_text() would have made, and a write with it costs no sibling that it does
 * not cover. */
#include "base/base64url.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "core/object.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct slice key = {(const uint8_t *)"key", 3};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static struct slice whole(const struct buf *b)
{
    return slice_of(buf_head(b), buf_len(b));
}

/* A key with three siblings of three vnodes. */
static struct slice old_object(void)
{
    static struct buf made[3];
    static struct object o;

    if (buf_len(&made[2]) > 0)
        return whole(&made[2]);
    object_empty(&o, key);
    for (uint64_t i = 0; i < 3; i++) {
        static const struct causal nothing;
        struct object_write w = {.dot = {i + 1, 5},
                                 .seen = &nothing,
                                 .time = 1000 + i,
                                 .value = slice_str("v"),
                                 .sibling_limit = LIMIT_SIBLINGS};

        require(object_put(&o, &w, &made[i], NULL) == 0);
        require(object_open(&o, whole(&made[i])) == 0);
    }
    return whole(&made[2]);
}

static bool has(const struct object *o, struct dot dot)
{
    struct sibling s;

    for (size_t cursor = 0; object_next(o, &cursor, &s);)
        if (dot_equal(s.dot, dot))
            return true;
    return false;
}

/* A write of vnode 1 with this context. */
static void write_with(const struct causal *seen)
{
    static struct object before, after;
    static struct causal reply;
    struct sibling s;
    struct buf out = {0}, merged = {0};
    struct object_write w = {.dot = {1, 6},
                             .seen = seen,
                             .time = 2000,
                             .value = slice_str("new"),
                             .sibling_limit = LIMIT_SIBLINGS};

    require(object_open(&before, old_object()) == 0);
    int rc = object_put(&before, &w, &out, &reply);

    require(rc == 0 || rc == -ERR_BADCTX || rc == -ERR_LIMIT);
    if (rc == 0) {
        require(object_open(&after, whole(&out)) == 0);
        require(has(&after, w.dot));
        for (size_t cursor = 0; object_next(&before, &cursor, &s);)
            require(has(&after, s.dot) != causal_covers(seen, s.dot));
        rc = object_merge(&before, &after, &merged);
        require(rc == 0 && object_open(&after, whole(&merged)) == 0 && has(&after, w.dot));
    }
    buf_free(&out);
    buf_free(&merged);
}

static void read_text(struct slice text)
{
    static struct causal c;
    char again[LIMIT_CONTEXT_TEXT];
    int rc = causal_from_text(&c, key, text);

    require(rc == 0 || rc == -ERR_BADCTX);
    if (rc != 0 || text.len == 0)
        return;
    int len = causal_to_text(&c, key, again, sizeof again);

    require(len == (int)text.len && memcmp(again, text.data, text.len) == 0);
    write_with(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t raw[4096];
    char text[sizeof raw * 2];
    uint64_t sum = hash64(key.data, key.len);

    if (size == 0)
        return 0;
    if ((data[0] & 1) == 0 || size > sizeof raw - 16) {
        read_text(slice_of(data + 1, size - 1));
        return 0;
    }
    raw[0] = 2;
    for (int i = 0; i < 4; i++)
        raw[1 + i] = (uint8_t)(sum >> 8 * i);
    memcpy(raw + 5, data + 1, size - 1);
    sum = hash64(raw, size + 4);
    for (int i = 0; i < 4; i++)
        raw[size + 4 + i] = (uint8_t)(sum >> 8 * i);
    read_text(slice_of((uint8_t *)text, base64url_encode(raw, size + 8, text)));
    return 0;
}
