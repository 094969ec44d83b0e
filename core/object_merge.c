/* Merging two replicas' objects of one key. Runs in workers, antientropyd and the simulator. */
#include "core/object_codec.h"

#include "base/check.h"
#include "base/err.h"

/* Order by (time, dot): which write is newer. */
static int order_newer(uint64_t time_a, struct dot a, uint64_t time_b, struct dot b)
{
    if (time_a != time_b)
        return time_a < time_b ? -1 : 1;
    return dot_compare(a, b);
}

/* One object in a merge, stepped through sibling by sibling. */
struct side {
    const struct object *o;
    size_t before, after; /* cursor before and after the current sibling */
    struct sibling s;     /* the current one, if any */
    bool any;
};

static void advance(struct side *side)
{
    side->before = side->after;
    side->any = object_next(side->o, &side->after, &side->s);
}

static struct slice current_bytes(const struct side *side)
{
    return object_sibling_bytes(side->o, side->before, side->after);
}

/* The oldest sibling that stays, where there are more than a merge keeps. */
struct floor {
    uint64_t time;
    struct dot dot; /* {0, 0}: all stay */
};

/* What decides which siblings stay. */
struct merge {
    const struct object *a, *b;
    struct dot dead[LIMIT_IDS]; /* writes that were carried out twice, the older of the two */
    uint32_t dead_count;
    struct request_id ids[2 * LIMIT_IDS];
    uint32_t id_count;
    struct floor floor;
};

struct walk {
    const struct merge *m;
    struct side a, b;
};

static void walk_start(struct walk *w, const struct merge *m)
{
    w->m = m;
    w->a = (struct side){.o = m->a};
    w->b = (struct side){.o = m->b};
    advance(&w->a);
    advance(&w->b);
}

static bool is_dead(const struct merge *m, const struct sibling *s)
{
    for (uint32_t i = 0; i < m->dead_count; i++)
        if (dot_equal(m->dead[i], s->dot))
            return true;
    return m->floor.dot.vnode != 0 && order_newer(s->time, s->dot, m->floor.time, m->floor.dot) < 0;
}

/* Of two contents for one dot (one side has dropped an expired value), the same for both orders:
 * tombstones first, then whichever bytes are greater. */
static bool prefer_first(const struct side *x, const struct side *y)
{
    if (x->s.flags != y->s.flags)
        return x->s.flags > y->s.flags;
    struct slice p = current_bytes(x), q = current_bytes(y);
    int order = memcmp(p.data, q.data, p.len < q.len ? p.len : q.len);

    return order != 0 ? order > 0 : p.len >= q.len;
}

/* The next sibling that stays, in order; false at the end. */
static bool walk_next(struct walk *w, struct sibling *s, struct slice *bytes)
{
    while (w->a.any || w->b.any) {
        int order = !w->a.any ? 1 : !w->b.any ? -1 : dot_order(w->a.s.dot, w->b.s.dot);
        struct side *from = order < 0 || (order == 0 && prefer_first(&w->a, &w->b)) ? &w->a : &w->b;
        const struct object *other = from == &w->a ? w->m->b : w->m->a;
        bool stays =
            (order == 0 || !causal_covers(&other->causal, from->s.dot)) && !is_dead(w->m, &from->s);

        *s = from->s;
        *bytes = current_bytes(from);
        if (order <= 0)
            advance(&w->a);
        if (order >= 0)
            advance(&w->b);
        if (stays)
            return true;
    }
    return false;
}

void object_ids_forget(struct request_id *ids, uint32_t *count)
{
    while (*count > LIMIT_IDS) {
        uint32_t oldest = 0;

        for (uint32_t i = 1; i < *count; i++)
            if (order_newer(ids[i].time, ids[i].dot, ids[oldest].time, ids[oldest].dot) < 0)
                oldest = i;
        memmove(&ids[oldest], &ids[oldest + 1], (*count - oldest - 1) * sizeof ids[0]);
        (*count)--;
    }
}

/* Join the remembered ids. Where both sides carried out one request, the newer write counts and the
 * older one is dead. */
static void merge_ids(struct merge *m)
{
    const struct object *a = m->a, *b = m->b;
    uint32_t i = 0, j = 0;

    while (i < a->id_count || j < b->id_count) {
        const struct request_id *x = i < a->id_count ? &a->ids[i] : NULL;
        const struct request_id *y = j < b->id_count ? &b->ids[j] : NULL;

        if (y == NULL || (x != NULL && x->id < y->id)) {
            m->ids[m->id_count++] = *x;
            i++;
        } else if (x == NULL || y->id < x->id) {
            m->ids[m->id_count++] = *y;
            j++;
        } else {
            bool first = order_newer(x->time, x->dot, y->time, y->dot) >= 0;

            m->ids[m->id_count++] = first ? *x : *y;
            if (!dot_equal(x->dot, y->dot))
                m->dead[m->dead_count++] = first ? y->dot : x->dot;
            i++;
            j++;
        }
    }
    object_ids_forget(m->ids, &m->id_count);
}

/* How many siblings stay, and their encoded size. */
static uint32_t count_siblings(const struct merge *m, size_t *bytes)
{
    struct walk w;
    struct sibling s;
    struct slice encoded;
    uint32_t count = 0;

    *bytes = 0;
    walk_start(&w, m);
    while (walk_next(&w, &s, &encoded)) {
        count++;
        *bytes += encoded.len;
    }
    return count;
}

/* Put x into the heap of the newest, whose root is the oldest of them. */
static void heap_offer(struct floor *heap, uint32_t *count, struct floor x)
{
    uint32_t at;

    if (*count < LIMIT_SIBLINGS_MERGED) {
        for (at = (*count)++; at > 0; at = (at - 1) / 2) {
            struct floor parent = heap[(at - 1) / 2];

            if (order_newer(x.time, x.dot, parent.time, parent.dot) >= 0)
                break;
            heap[at] = parent;
        }
        heap[at] = x;
        return;
    }
    if (order_newer(x.time, x.dot, heap[0].time, heap[0].dot) <= 0)
        return;
    for (at = 0; 2 * at + 1 < *count;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < *count && order_newer(heap[child + 1].time, heap[child + 1].dot,
                                              heap[child].time, heap[child].dot) < 0)
            child++;
        if (order_newer(x.time, x.dot, heap[child].time, heap[child].dot) <= 0)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

/* Find the oldest of the LIMIT_SIBLINGS_MERGED newest. Its 24 KiB of stack are why it stands
 * alone. */
static __attribute__((noinline)) void find_floor(struct merge *m)
{
    struct floor heap[LIMIT_SIBLINGS_MERGED];
    uint32_t count = 0;
    struct walk w;
    struct sibling s;
    struct slice encoded;

    walk_start(&w, m);
    while (walk_next(&w, &s, &encoded))
        heap_offer(heap, &count, (struct floor){s.time, s.dot});
    ASSERT(count == LIMIT_SIBLINGS_MERGED);
    m->floor = heap[0];
}

static void encode_merged(const struct merge *m, const struct object_front *front, uint8_t *base,
                          struct buf *out)
{
    uint8_t *p = object_encode_front(base, front);
    struct walk w;
    struct sibling s;
    struct slice encoded;

    walk_start(&w, m);
    while (walk_next(&w, &s, &encoded)) {
        memcpy(p, encoded.data, encoded.len);
        p += encoded.len;
    }
    object_encode_finish(base, p);
    buf_filled(out, (size_t)(p - base));
}

int object_merge(const struct object *a, const struct object *b, struct buf *out)
{
    struct causal both;
    struct merge m;
    size_t bytes;
    uint8_t *base;

    if (!slice_equal(a->key, b->key))
        return -ERR_INVAL;
    m.a = a;
    m.b = b;
    m.dead_count = m.id_count = 0;
    m.floor = (struct floor){0, {0, 0}};
    causal_copy(&both, &a->causal);
    if (causal_join(&both, &b->causal) < 0)
        return -ERR_LIMIT;
    merge_ids(&m);
    uint32_t count = count_siblings(&m, &bytes);

    if (count > LIMIT_SIBLINGS_MERGED) {
        find_floor(&m);
        count = count_siblings(&m, &bytes);
    }
    struct object_front front = {a->key, &both, m.ids, m.id_count, count};
    int rc = object_reserve(out, object_bound(&front, bytes), &base);

    if (rc == 0)
        encode_merged(&m, &front, base, out);
    return rc;
}
