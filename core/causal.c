/* Dots and causal contexts. Runs wherever versions are compared: workers, antientropyd, simulator.
 * Only the entries in use are ever touched. */
#include "core/causal.h"

#include "base/base64url.h"
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/varint.h"

enum { TEXT_FORMAT = 2, TEXT_HEAD = 1 + 4 + 8, TEXT_SUM = 4 };
#define TEXT_BYTES_MAX (TEXT_HEAD + CAUSAL_BYTES_MAX + TEXT_SUM)

_Static_assert((TEXT_BYTES_MAX + 2) / 3 * 4 <= LIMIT_CONTEXT_TEXT, "a full context must fit");

int dot_compare(struct dot a, struct dot b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return a.vnode == b.vnode ? 0 : a.vnode < b.vnode ? -1 : 1;
}

int dot_order(struct dot a, struct dot b)
{
    if (a.vnode != b.vnode)
        return a.vnode < b.vnode ? -1 : 1;
    return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

void causal_clear(struct causal *c)
{
    c->vector_count = 0;
    c->cloud_count = 0;
    c->time = 0;
}

void causal_copy(struct causal *to, const struct causal *from)
{
    ASSERT(from->vector_count <= LIMIT_VECTOR && from->cloud_count <= LIMIT_CLOUD);
    to->vector_count = from->vector_count;
    to->cloud_count = from->cloud_count;
    to->time = from->time;
    memcpy(to->vector, from->vector, from->vector_count * sizeof to->vector[0]);
    memcpy(to->cloud, from->cloud, from->cloud_count * sizeof to->cloud[0]);
}

bool causal_is_empty(const struct causal *c)
{
    return c->vector_count == 0 && c->cloud_count == 0;
}

/* Index of the first entry of a list sorted by dot_order() that is not before d. */
static uint32_t lower_bound(const struct dot *list, uint32_t count, struct dot d)
{
    uint32_t low = 0;

    while (count > 0) {
        uint32_t half = count / 2;

        if (dot_order(list[low + half], d) < 0) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

/* Index of the vnode in the vector, or of the place where it would go. */
static uint32_t vector_index(const struct causal *c, uint64_t vnode)
{
    return lower_bound(c->vector, c->vector_count, (struct dot){vnode, 0});
}

uint64_t causal_seen_up_to(const struct causal *c, uint64_t vnode)
{
    uint32_t i = vector_index(c, vnode);

    return i < c->vector_count && c->vector[i].vnode == vnode ? c->vector[i].n : 0;
}

uint64_t causal_highest(const struct causal *c, uint64_t vnode)
{
    uint32_t i = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, UINT64_MAX});

    if (i > 0 && c->cloud[i - 1].vnode == vnode)
        return c->cloud[i - 1].n;
    return causal_seen_up_to(c, vnode);
}

bool causal_valid(const struct causal *c)
{
    if (c->vector_count > LIMIT_VECTOR || c->cloud_count > LIMIT_CLOUD)
        return false;
    for (uint32_t i = 0; i < c->vector_count; i++)
        if (!dot_valid(c->vector[i]) || (i > 0 && c->vector[i - 1].vnode >= c->vector[i].vnode))
            return false;
    for (uint32_t i = 0; i < c->cloud_count; i++)
        if (!dot_valid(c->cloud[i]) || (i > 0 && dot_order(c->cloud[i - 1], c->cloud[i]) >= 0) ||
            c->cloud[i].n <= causal_seen_up_to(c, c->cloud[i].vnode))
            return false;
    return true;
}

bool causal_covers(const struct causal *c, struct dot d)
{
    if (d.n <= causal_seen_up_to(c, d.vnode))
        return true;
    uint32_t i = lower_bound(c->cloud, c->cloud_count, d);

    return i < c->cloud_count && dot_equal(c->cloud[i], d);
}

/* Does c cover every dot of the vnode up to n, be it by single dots that leave no gap? */
static bool covers_up_to(const struct causal *c, uint64_t vnode, uint64_t n)
{
    uint64_t have = causal_seen_up_to(c, vnode);

    if (have >= n)
        return true;
    uint32_t first = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, have + 1});
    uint32_t beyond = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, n + 1});

    return beyond - first == n - have;
}

bool causal_includes(const struct causal *a, const struct causal *b)
{
    for (uint32_t i = 0; i < b->vector_count; i++)
        if (!covers_up_to(a, b->vector[i].vnode, b->vector[i].n))
            return false;
    for (uint32_t i = 0; i < b->cloud_count; i++)
        if (!causal_covers(a, b->cloud[i]))
            return false;
    return true;
}

bool causal_equal(const struct causal *a, const struct causal *b)
{
    return causal_includes(a, b) && causal_includes(b, a);
}

static void insert(struct dot *list, uint32_t *count, uint32_t at, struct dot d)
{
    memmove(&list[at + 1], &list[at], (*count - at) * sizeof list[0]);
    list[at] = d;
    (*count)++;
}

static void remove_at(struct dot *list, uint32_t *count, uint32_t at)
{
    memmove(&list[at], &list[at + 1], (*count - at - 1) * sizeof list[0]);
    (*count)--;
}

int causal_add_dot(struct causal *c, struct dot d)
{
    ASSERT(dot_valid(d));
    if (causal_covers(c, d))
        return 0;
    if (c->cloud_count == LIMIT_CLOUD)
        return -ERR_LIMIT;
    insert(c->cloud, &c->cloud_count, lower_bound(c->cloud, c->cloud_count, d), d);
    return 0;
}

int causal_raise(struct causal *c, uint64_t vnode, uint64_t n)
{
    ASSERT(dot_valid((struct dot){vnode, n}));
    uint32_t i = vector_index(c, vnode);

    if (i < c->vector_count && c->vector[i].vnode == vnode) {
        if (c->vector[i].n >= n)
            return 0;
        c->vector[i].n = n;
    } else {
        if (c->vector_count == LIMIT_VECTOR)
            return -ERR_LIMIT;
        insert(c->vector, &c->vector_count, i, (struct dot){vnode, n});
    }
    if (c->cloud_count > 0) {
        uint32_t first = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, 0});
        uint32_t beyond = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, n + 1});

        memmove(&c->cloud[first], &c->cloud[beyond],
                (c->cloud_count - beyond) * sizeof c->cloud[0]);
        c->cloud_count -= beyond - first;
    }
    return 0;
}

static int join_vector(struct causal *a, const struct causal *b)
{
    uint32_t added = 0;

    for (uint32_t i = 0, j = 0; j < b->vector_count; j++) {
        while (i < a->vector_count && a->vector[i].vnode < b->vector[j].vnode)
            i++;
        added += i == a->vector_count || a->vector[i].vnode != b->vector[j].vnode;
    }
    if (a->vector_count + added > LIMIT_VECTOR)
        return -ERR_LIMIT;
    /* From the back, so that nothing is overwritten before it has moved. */
    uint32_t i = a->vector_count, j = b->vector_count, to = a->vector_count + added;

    a->vector_count = to;
    while (j > 0) {
        if (i > 0 && a->vector[i - 1].vnode > b->vector[j - 1].vnode) {
            a->vector[--to] = a->vector[--i];
        } else if (i > 0 && a->vector[i - 1].vnode == b->vector[j - 1].vnode) {
            struct dot x = a->vector[--i], y = b->vector[--j];

            a->vector[--to] = x.n > y.n ? x : y;
        } else {
            a->vector[--to] = b->vector[--j];
        }
    }
    ASSERT(to == i);
    return 0;
}

/* Remove the lowest dot, but not `but`, of the vnode that has the most. */
static void forget_one(struct dot *list, uint32_t *count, struct dot but)
{
    uint32_t most = 0, victim = 0;

    for (uint32_t first = 0, i = 0; first < *count; first = i) {
        while (i < *count && list[i].vnode == list[first].vnode)
            i++;
        if (i - first <= most)
            continue;
        if (!dot_equal(list[first], but) || i - first > 1) {
            most = i - first;
            victim = dot_equal(list[first], but) ? first + 1 : first;
        }
    }
    ASSERT(most > 0);
    remove_at(list, count, victim);
}

static int join_cloud(struct causal *a, const struct causal *b)
{
    struct dot both[2 * LIMIT_CLOUD];
    uint32_t count = 0, i = 0, j = 0;
    int forgotten = 0;

    while (i < a->cloud_count || j < b->cloud_count) {
        int order = i == a->cloud_count   ? 1
                    : j == b->cloud_count ? -1
                                          : dot_order(a->cloud[i], b->cloud[j]);
        struct dot d = order <= 0 ? a->cloud[i] : b->cloud[j];

        i += order <= 0;
        j += order >= 0;
        if (d.n > causal_seen_up_to(a, d.vnode))
            both[count++] = d;
    }
    for (; count > LIMIT_CLOUD; forgotten++)
        forget_one(both, &count, (struct dot){0, 0});
    memcpy(a->cloud, both, count * sizeof both[0]);
    a->cloud_count = count;
    return forgotten;
}

int causal_join(struct causal *a, const struct causal *b)
{
    int rc = join_vector(a, b);

    if (rc == 0 && a->time < b->time)
        a->time = b->time;
    if (rc != 0 || (a->cloud_count == 0 && b->cloud_count == 0))
        return rc;
    return join_cloud(a, b);
}

void causal_see(struct causal *c, struct dot d)
{
    int rc = causal_add_dot(c, d);

    if (rc == 0)
        return;
    forget_one(c->cloud, &c->cloud_count, d);
    rc = causal_add_dot(c, d);
    ASSERT(rc == 0);
}

void causal_shed(struct causal *c, uint32_t keep, struct dot but)
{
    ASSERT(keep > 0);
    while (c->cloud_count > keep)
        forget_one(c->cloud, &c->cloud_count, but);
}

void causal_fold(struct causal *c, uint64_t vnode, uint64_t up_to)
{
    uint32_t beyond = lower_bound(c->cloud, c->cloud_count, (struct dot){vnode, up_to});

    if (beyond < c->cloud_count && dot_equal(c->cloud[beyond], (struct dot){vnode, up_to}))
        beyond++;
    if (beyond > 0 && c->cloud[beyond - 1].vnode == vnode)
        (void)causal_raise(c, vnode, c->cloud[beyond - 1].n); /* no room: the dots stay single */
}

static uint8_t *encode_list(const struct dot *list, uint32_t count, uint8_t *p)
{
    p = varint_store(p, count);
    for (uint32_t i = 0; i < count; i++) {
        p = store_le64(p, list[i].vnode);
        p = varint_store(p, list[i].n);
    }
    return p;
}

uint8_t *causal_encode(const struct causal *c, uint8_t *p)
{
    return encode_list(c->cloud, c->cloud_count, encode_list(c->vector, c->vector_count, p));
}

static const uint8_t *decode_list(struct dot *list, uint32_t *count, uint32_t limit,
                                  const uint8_t *p, const uint8_t *end)
{
    uint64_t n;

    p = varint_load(p, end, &n);
    if (p == NULL || n > limit)
        return NULL;
    *count = (uint32_t)n;
    for (uint32_t i = 0; i < *count; i++) {
        if (end - p < 8)
            return NULL;
        list[i].vnode = load_le64(p);
        p = varint_load(p + 8, end, &list[i].n);
        if (p == NULL)
            return NULL;
    }
    return p;
}

const uint8_t *causal_decode(struct causal *c, const uint8_t *p, const uint8_t *end)
{
    c->time = 0;
    p = decode_list(c->vector, &c->vector_count, LIMIT_VECTOR, p, end);
    if (p != NULL)
        p = decode_list(c->cloud, &c->cloud_count, LIMIT_CLOUD, p, end);
    return p != NULL && causal_valid(c) ? p : NULL;
}

int causal_to_text(const struct causal *c, struct slice key, char *out, size_t out_size)
{
    uint8_t raw[TEXT_BYTES_MAX];
    uint8_t *p = raw;

    ASSERT(causal_valid(c));
    *p++ = TEXT_FORMAT;
    p = store_le32(p, (uint32_t)hash64(key.data, key.len));
    p = store_le64(p, c->time);
    p = causal_encode(c, p);
    p = store_le32(p, (uint32_t)hash64(raw, (size_t)(p - raw)));
    size_t len = (size_t)(p - raw);

    if (base64url_encoded_size(len) > out_size)
        return -ERR_LIMIT;
    return (int)base64url_encode(raw, len, out);
}

static bool decode_text(struct causal *c, struct slice key, struct slice text)
{
    uint8_t raw[TEXT_BYTES_MAX];

    if (base64url_decoded_size(text.len) > sizeof raw)
        return false;
    long len = base64url_decode(text.data, text.len, raw);

    if (len < TEXT_HEAD + TEXT_SUM || raw[0] != TEXT_FORMAT)
        return false;
    const uint8_t *sum = raw + len - TEXT_SUM;

    if (load_le32(sum) != (uint32_t)hash64(raw, (size_t)(len - TEXT_SUM)) ||
        load_le32(raw + 1) != (uint32_t)hash64(key.data, key.len) ||
        causal_decode(c, raw + TEXT_HEAD, sum) != sum)
        return false;
    c->time = load_le64(raw + 5);
    return true;
}

int causal_from_text(struct causal *c, struct slice key, struct slice text)
{
    if (text.len == 0 || !decode_text(c, key, text)) {
        causal_clear(c);
        return text.len == 0 ? 0 : -ERR_BADCTX;
    }
    return 0;
}
