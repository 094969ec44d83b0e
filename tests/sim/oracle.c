/* What causality permits. The oracle knows each write by its value (or, for deletes, by its request
 * id) and each dot by the write it was issued for. What a dot supersedes is an explicit set: for a
 * write with a context the dots that its client had really seen, for one without the dots that the
 * coordinator held. It is compared with what objects and contexts claim. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"

#include <stdlib.h>

/* A context answered to a writer with fewer single dots has left nothing out. */
enum { FEW_SINGLE_DOTS = 8 };

uint32_t oracle_write(struct sim *s, const struct write *w)
{
    if (s->write_count == s->write_capacity) {
        s->write_capacity = s->write_capacity ? 2 * s->write_capacity : 512;
        s->write = realloc(s->write, s->write_capacity * sizeof s->write[0]);
        ASSERT(s->write != NULL);
    }
    s->write[s->write_count] = *w;
    return s->write_count++;
}

struct slice oracle_value(struct sim *s, uint32_t write)
{
    static uint8_t value[16384];
    uint32_t length = s->write[write].length;

    ASSERT(length >= 16 && length <= sizeof value);
    memset(value, 'a' + (int)(write % 26), length);
    int used = snprintf((char *)value, length, "w%u:", write);

    value[used] = '.';
    return slice_of(value, length);
}

/* --- dots --- */

static uint32_t find_dot(const struct sim *s, struct dot d)
{
    uint32_t at = (uint32_t)hash64(&d, sizeof d) & (s->dots_capacity - 1);

    while (s->dots[at].dot.vnode != 0 && !dot_equal(s->dots[at].dot, d))
        at = (at + 1) & (s->dots_capacity - 1);
    return at;
}

static void grow_dots(struct sim *s)
{
    uint32_t old_capacity = s->dots_capacity;
    struct issued *old = s->dots;

    s->dots_capacity = old_capacity ? 2 * old_capacity : 4096;
    s->dots = calloc(s->dots_capacity, sizeof s->dots[0]);
    ASSERT(s->dots != NULL);
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i].dot.vnode != 0)
            s->dots[find_dot(s, old[i].dot)] = old[i];
    free(old);
}

void oracle_dot_issued(struct sim *s, struct dot d)
{
    if (2 * s->dots_count >= s->dots_capacity)
        grow_dots(s);
    uint32_t at = find_dot(s, d);

    if (s->dots[at].dot.vnode != 0)
        sim_fail(s, "dot (%llx, %llu) was issued twice", (unsigned long long)d.vnode,
                 (unsigned long long)d.n);
    s->dots[at] = (struct issued){d, -1, -1};
    s->dots_count++;
    sim_trace(s, "dot", d.vnode, d.n, 0);
}

/* --- objects --- */

static unsigned events_of(const struct write *w)
{
    unsigned count = 0;

    for (int i = 0; i < SIM_WORDS; i++)
        count += (unsigned)__builtin_popcountll(w->events.w[i]);
    return count;
}

/* The newest delete of a key that nobody has been told of, and that has not got a dot yet (`fresh`). */
static uint64_t unknown_delete(const struct sim *s, unsigned key, bool fresh)
{
    for (uint32_t i = s->write_count; i-- > 0;)
        if (s->write[i].key == key && s->write[i].kind == WRITE_DELETE && !s->write[i].acked &&
            (!fresh || events_of(&s->write[i]) == 0))
            return i;
    return UINT64_MAX;
}

static uint32_t write_of_sibling(struct sim *s, unsigned key, const struct object *o,
                                 const struct sibling *x)
{
    uint64_t write = UINT64_MAX;

    if ((x->flags & SIBLING_TOMBSTONE) != 0) {
        for (uint32_t i = 0; i < o->id_count; i++)
            if (dot_equal(o->ids[i].dot, x->dot))
                write = o->ids[i].id - 1;
        /* An id older than those remembered is forgotten at once (clocks are skewed); the write may have
         * been parked by its coordinator for a while. */
        if (write == UINT64_MAX)
            write = s->current_write;
        if (write == UINT64_MAX)
            write = unknown_delete(s, key, true);
        if (write == UINT64_MAX)
            write = unknown_delete(s, key, false);
    } else if (x->value.len >= 16 && x->value.data[0] == 'w') {
        write = strtoull((const char *)x->value.data + 1, NULL, 10);
    }
    if (write >= s->write_count || s->write[write].key != key ||
        (s->write[write].kind == WRITE_DELETE) != ((x->flags & SIBLING_TOMBSTONE) != 0))
        sim_fail(s, "a sibling of %s that nobody has written", s->key[key].name);
    return (uint32_t)write;
}

static void close_over(const struct key *key, const struct bits *events, struct bits *seen)
{
    bits_join(seen, events);
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(events, e))
            bits_join(seen, &key->event[e].past);
}

/* All that somebody who sees these events need not miss: what they supersede, and, of a write that was
 * carried out twice with one request id, both: only one of the two stays a sibling. */
static void account_for(const struct sim *s, const struct key *key, struct bits *seen)
{
    bool more = true;

    while (more) {
        struct bits before = *seen;

        for (unsigned e = 0; e < key->event_count; e++) {
            if (!bits_has(seen, e))
                continue;
            bits_join(seen, &key->event[e].past);
            if (s->write[key->event[e].write].request_id != 0)
                bits_join(seen, &s->write[key->event[e].write].events);
        }
        more = memcmp(&before, seen, sizeof before) != 0;
    }
}

/* The siblings of an object as events; those just issued become events here, with what they
 * supersede taken from `before`, the coordinator's siblings. */
static void siblings_of(struct sim *s, unsigned k, const struct object *o,
                        const struct bits *before, struct bits *out)
{
    struct key *key = &s->key[k];
    struct sibling x;

    memset(out, 0, sizeof *out);
    for (size_t cursor = 0; object_next(o, &cursor, &x);) {
        struct issued *issued = &s->dots[find_dot(s, x.dot)];

        if (issued->dot.vnode == 0)
            sim_fail(s, "%s has a sibling with a dot that was never issued", key->name);
        if (issued->event < 0) {
            if (before == NULL)
                sim_fail(s, "%s was answered with a write that was never stored", key->name);
            if (key->event_count == SIM_EVENTS)
                sim_fail(s, "the simulator has too few events for %s", key->name);
            struct write_event *e = &key->event[key->event_count];
            uint32_t write = write_of_sibling(s, k, o, &x);

            /* Its client has asked once: those without an id are not sent again once they were taken. */
            if (s->write[write].request_id == 0 && events_of(&s->write[write]) > 0)
                sim_fail(s, "write %u of %s was carried out twice", write, key->name);
            *e = (struct write_event){
                .dot = x.dot, .write = write, .node = (uint8_t)s->storing, .at_us = s->now};
            e->direct = s->write[write].has_context ? s->write[write].seen : *before;
            close_over(key, &e->direct, &e->past);
            bits_join(&key->past, &e->past);
            bits_add(&s->write[write].events, key->event_count);
            issued->key = (int32_t)k;
            issued->event = (int32_t)key->event_count++;
            if (s->options.log)
                printf("           write %u of %s gets dot (%llx, %llu)\n", write, key->name,
                       (unsigned long long)x.dot.vnode, (unsigned long long)x.dot.n);
        }
        if (issued->key != (int32_t)k)
            sim_fail(s, "a dot of one key shows up in %s", key->name);
        const struct write_event *e = &key->event[issued->event];

        if ((x.flags & SIBLING_TOMBSTONE) == 0 && !slice_equal(x.value, oracle_value(s, e->write)))
            sim_fail(s, "%s has a damaged value", key->name);
        bits_add(out, (unsigned)issued->event);
    }
}

bool oracle_stranded(struct sim *s, unsigned k, unsigned e)
{
    struct key *key = &s->key[k];
    const struct write_event *event = &key->event[e];
    /* Clocks differ by up to two seconds. */
    uint64_t patience_us = 1000 * s->conf.late_after_ms - SEC(2);

    if (!s->repair || (event->primary_us != 0 && event->primary_us < event->at_us + patience_us))
        return false;
    bits_add(&key->stranded, e);
    return true;
}

/* What must hold for every object, anywhere, at any time. Only what a sibling's own context covered is
 * judged here: contexts leave out old dots (see object_put()), which the writes between supersede
 * when those arrive. */
static void check_object(struct sim *s, unsigned k, const struct object *o,
                         const struct bits *siblings)
{
    const struct key *key = &s->key[k];
    struct bits superseded = {{0}};
    bool full = o->causal.cloud_count >= LIMIT_CLOUD;

    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(siblings, e))
            bits_join(&superseded, &key->event[e].direct);
    for (unsigned e = 0; e < key->event_count; e++) {
        uint32_t write = key->event[e].write;
        bool covered = causal_covers(&o->causal, key->event[e].dot);

        if (bits_has(siblings, e) && !covered)
            sim_fail(s, "%s: a sibling that its own context does not cover", key->name);
        if (bits_has(siblings, e) && bits_has(&superseded, e) && !full)
            sim_fail(s, "%s: write %u is a sibling of a write that has superseded it", key->name,
                     write);
        if (!covered && bits_has(&superseded, e) && !full)
            sim_fail(s, "%s: an object does not cover write %u, which a sibling of it supersedes",
                     key->name, write);
        if (!bits_has(siblings, e) && covered && (s->write[write].acked || key->event[e].orphan) &&
            !bits_has(&key->past, e) && !bits_has(&key->buried, e) &&
            events_of(&s->write[write]) == 1 && !oracle_stranded(s, k, e))
            sim_fail(s,
                     "%s: an object claims to have seen write %u, which nothing supersedes, and "
                     "does not have it",
                     key->name, write);
    }
}

static void open_checked(struct sim *s, unsigned k, struct slice bytes, struct object *o)
{
    int rc = object_open(o, bytes);

    if (rc != 0)
        sim_fail(s, "%s: an object that cannot be opened: %s", s->key[k].name, err_name(rc));
    if (!slice_equal(o->key, s->key[k].slice))
        sim_fail(s, "an object of another key than %s", s->key[k].name);
}

/* Of a set of events, those that a context covers. */
static void keep_covered(const struct key *key, const struct causal *c, struct bits *set)
{
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(set, e) && !causal_covers(c, key->event[e].dot))
            set->w[e / 64] &= ~(1ull << (e % 64));
}

void oracle_seen(struct sim *s, unsigned k, struct slice bytes, struct bits *seen,
                 struct bits *siblings, struct bits *covered)
{
    static struct object o;

    memset(seen, 0, sizeof *seen);
    memset(siblings, 0, sizeof *siblings);
    memset(covered, 0, sizeof *covered);
    if (bytes.len == 0)
        return;
    open_checked(s, k, bytes, &o);
    siblings_of(s, k, &o, NULL, siblings);
    check_object(s, k, &o, siblings);
    close_over(&s->key[k], siblings, seen);
    *covered = *seen;
    keep_covered(&s->key[k], &o.causal, covered);
}

static void note_primary(struct sim *s, unsigned node, unsigned k, const struct bits *siblings)
{
    const struct ring_walk *walk = &s->node[0].index.walk[s->key[k].partition];
    const struct ring_walk *other = &s->node[0].index.other[s->key[k].partition];
    bool primary = false;

    for (unsigned i = 0; i < s->key[k].n; i++)
        primary |= walk->member[i] == node && (s->amnesiacs >> node & 1) == 0;
    /* One that will be none when the partition has moved does not hold back the horizons of the others. */
    primary &= other->count == 0 || ring_walk_primary(other, (uint16_t)node) >= 0;
    for (unsigned e = 0; primary && e < s->key[k].event_count; e++)
        if (bits_has(siblings, e) && s->key[k].event[e].primary_us == 0)
            s->key[k].event[e].primary_us = s->now;
}

void oracle_stored(struct sim *s, unsigned node, unsigned k, struct slice before,
                   struct slice bytes)
{
    static struct object o;
    struct bits old, old_siblings, covered, siblings;

    oracle_seen(s, k, before, &old, &old_siblings, &covered);
    open_checked(s, k, bytes, &o);
    s->storing = node;
    if (s->coordinating)
        s->key[k].coordinated_at[node] = s->now;
    siblings_of(s, k, &o, &covered, &siblings);
    note_primary(s, node, k, &siblings);
    check_object(s, k, &o, &siblings);
    sim_trace(s, "store", node, k, hash64(bytes.data, bytes.len));
}

/* --- replies --- */

bool oracle_node_has(struct sim *s, unsigned node, unsigned k, uint32_t write)
{
    static struct object o;
    const struct key *key = &s->key[k];
    const struct blob *b = s->node[node].disk.durable.object[k];

    if (b == NULL || object_open(&o, slice_of(b->bytes, b->len)) != 0)
        return false;
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(&s->write[write].events, e) && causal_covers(&o.causal, key->event[e].dot))
            return true;
    return false;
}

/* Nodes with a write on disk, or with something that has superseded it. Nodes that may lose their disk
 * count anyway. */
static unsigned count_durable(struct sim *s, const struct write *w, unsigned from, unsigned to)
{
    static struct object o;
    const struct key *key = &s->key[w->key];
    const struct ring_walk *walk = &s->node[s->reference].index.walk[key->partition];
    unsigned count = 0;

    for (unsigned i = from; i < to; i++) {
        const struct disk *d = &s->node[walk->member[i]].disk;
        const struct blob *b = d->durable.object[w->key];
        bool has = (s->amnesiacs >> walk->member[i] & 1) != 0;

        if (b != NULL && object_open(&o, slice_of(b->bytes, b->len)) == 0)
            for (unsigned e = 0; e < key->event_count; e++)
                has |= bits_has(&w->events, e) && causal_covers(&o.causal, key->event[e].dot);
        count += has;
    }
    return count;
}

static void note_acked(struct sim *s, uint32_t write)
{
    struct key *key = &s->key[s->write[write].key];

    if (s->write[write].acked)
        return;
    s->write[write].acked = true;
    if (key->acked_count == key->acked_capacity) {
        key->acked_capacity = key->acked_capacity ? 2 * key->acked_capacity : 64;
        key->acked = realloc(key->acked, key->acked_capacity * sizeof key->acked[0]);
        ASSERT(key->acked != NULL);
    }
    key->acked[key->acked_count++] = write;
}

/* What a writer knows after its write, as far as the context answered speaks of it: what it had
 * seen, and the dots issued for its write. (A retried write may have got two.) */
static void seen_after(const struct sim *s, const struct request *r, const struct causal *c,
                       struct bits *seen)
{
    const struct write *w = &s->write[r->write];
    const struct key *key = &s->key[r->key];

    *seen = w->seen;
    for (unsigned e = 0; e < key->event_count; e++) {
        if (!bits_has(&w->events, e) || !causal_covers(c, key->event[e].dot))
            continue;
        bits_add(seen, e);
        bits_join(seen, &key->event[e].past);
    }
    keep_covered(key, c, seen);
}

static void open_context(struct sim *s, const struct request *r, struct slice text,
                         struct causal *c)
{
    if (causal_from_text(c, s->key[r->key].slice, text) != 0)
        sim_fail(s, "%s: the context of a reply cannot be read", s->key[r->key].name);
}

static void log_context(struct sim *s, const struct request *r, const char *what, struct slice text)
{
    static struct causal c;

    open_context(s, r, text, &c);
    printf("           write %u context %s:", r->write, what);
    for (uint32_t i = 0; i < c.vector_count; i++)
        printf(" %llx<=%llu", (unsigned long long)c.vector[i].vnode,
               (unsigned long long)c.vector[i].n);
    for (uint32_t i = 0; i < c.cloud_count; i++)
        printf(" %llx:%llu", (unsigned long long)c.cloud[i].vnode,
               (unsigned long long)c.cloud[i].n);
    printf("\n");
}

void oracle_after_write(struct sim *s, const struct request *r, struct slice text,
                        struct bits *seen)
{
    static struct causal c;

    open_context(s, r, text, &c);
    seen_after(s, r, &c, seen);
}

static void check_write_context(struct sim *s, const struct request *r, struct slice text)
{
    static struct causal c;
    const struct write *w = &s->write[r->write];
    const struct key *key = &s->key[r->key];
    bool covers_own = false;
    struct bits seen;

    if (s->options.log) {
        log_context(s, r, "sent", r->context);
        log_context(s, r, "answered", text);
    }
    open_context(s, r, text, &c);
    seen_after(s, r, &c, &seen);
    for (unsigned e = 0; e < key->event_count; e++) {
        const struct write *other = &s->write[key->event[e].write];
        bool covered = causal_covers(&c, key->event[e].dot);

        covers_own |= covered && bits_has(&w->events, e);
        if (!covered && bits_has(&w->seen, e) && c.cloud_count < FEW_SINGLE_DOTS)
            sim_fail(s, "%s: the context after write %u lacks write %u, which the writer had seen",
                     key->name, r->write, key->event[e].write);
        if (covered && !bits_has(&seen, e) && !bits_has(&key->past, e) &&
            !bits_has(&key->buried, e) && !bits_has(&key->stranded, e) && events_of(other) == 1 &&
            other->acked)
            sim_fail(s,
                     "%s: the context after write %u covers write %u, which the writer has never "
                     "seen",
                     key->name, r->write, key->event[e].write);
    }
    if (!covers_own)
        sim_fail(s, "%s: the context after write %u does not cover it", key->name, r->write);
}

static void accept(struct sim *s, const struct request *r, const struct coord_reply *reply)
{
    note_acked(s, r->write);
    if (reply->context.len > 0)
        check_write_context(s, r, reply->context);
    else if (r->want_all)
        sim_fail(s, "%s: no context although one was wanted", s->key[r->key].name);
}

void oracle_write_replied(struct sim *s, struct request *r, const struct coord_reply *reply)
{
    struct write *w = &s->write[r->write];
    const struct key *key = &s->key[r->key];
    const struct ring_walk *walk = &s->node[s->reference].index.walk[key->partition];
    unsigned needed = r->w != 0 ? r->w : s->rule[key->strict].w;

    if (reply->status == -ERR_BADCTX)
        sim_fail(s, "%s: a context of ours was refused", key->name);
    if (reply->status != 0)
        return;
    if (w->conditional && (reply->flags & PUT_APPLIED) == 0)
        return;
    if (events_of(w) == 0)
        sim_fail(s, "%s: write %u was acknowledged and never stored", key->name, r->write);
    if (s->ring != NULL) {
        /* Which of them counted depends on what the coordinator knew. */
        unsigned copies = 0;

        for (unsigned n = 0; n < s->nodes; n++)
            copies += oracle_node_has(s, n, r->key, r->write);
        if (copies < needed)
            sim_fail(s, "%s: write %u was acknowledged with %u durable copies instead of %u",
                     key->name, r->write, copies, needed);
        accept(s, r, reply);
        return;
    }
    if (count_durable(s, w, 0, walk->count) < needed)
        sim_fail(s, "%s: write %u was acknowledged with %u durable copies instead of %u", key->name,
                 r->write, count_durable(s, w, 0, walk->count), needed);
    if (key->strict && count_durable(s, w, 0, key->n) < needed)
        sim_fail(s, "%s: strict write %u was acknowledged with copies at fallbacks", key->name,
                 r->write);
    if (count_durable(s, w, 0, key->n) < r->pw)
        sim_fail(s, "%s: write %u was acknowledged with too few copies at primaries", key->name,
                 r->write);
    accept(s, r, reply);
}

static bool overlaps(const struct bits *a, const struct bits *b)
{
    for (int i = 0; i < SIM_WORDS; i++)
        if ((a->w[i] & b->w[i]) != 0)
            return true;
    return false;
}

void oracle_read_replied(struct sim *s, struct request *r, const struct coord_reply *reply)
{
    struct key *key = &s->key[r->key];
    struct bits seen, siblings, covered;

    if (reply->status != 0)
        return;
    oracle_seen(s, r->key, reply->object, &seen, &siblings, &covered);
    if (!key->strict || r->r != 0)
        return;
    bits_join(&seen, &key->buried);
    bits_join(&seen, &key->stranded);
    account_for(s, key, &seen);
    for (uint32_t i = 0; i < r->acked_before; i++)
        if (!overlaps(&s->write[key->acked[i]].events, &seen))
            sim_fail(s, "%s: a strict read does not see write %u, acknowledged before it began",
                     key->name, key->acked[i]);
}

/* --- hints --- */

void oracle_worker_gone(struct sim *s, const struct worker *w)
{
    for (unsigned k = 0; k < s->keys; k++)
        if (worker_of_key(s, w->node, k) == w->index && s->key[k].coordinated_at[w->node] != 0 &&
            s->now - s->key[k].coordinated_at[w->node] < SEC(10))
            s->key[k].forgetful = true;
}

/* Does a node's object cover this dot? */
static bool node_covers(struct sim *s, unsigned node, unsigned k, struct dot d)
{
    static struct object o;
    const struct blob *b = s->node[node].disk.live.object[k];

    return b != NULL && object_open(&o, slice_of(b->bytes, b->len)) == 0 &&
           causal_covers(&o.causal, d);
}

void oracle_tail_lost(struct sim *s, const struct worker *w)
{
    for (unsigned k = 0; k < s->keys; k++) {
        for (unsigned e = 0; e < s->key[k].event_count; e++) {
            struct write_event *event = &s->key[k].event[e];

            if (event->node != w->node || worker_of_key(s, w->node, k) != w->index ||
                node_covers(s, w->node, k, event->dot))
                continue;
            for (unsigned n = 0; n < s->nodes; n++)
                event->orphan |= n != w->node && node_covers(s, n, k, event->dot);
        }
    }
}

/* Does one object cover all siblings of another? */
bool oracle_covers(struct sim *s, unsigned k, const struct blob *of, const struct blob *by)
{
    static struct object o, holder;
    struct sibling x;

    open_checked(s, k, slice_of(of->bytes, of->len), &o);
    if (by != NULL)
        open_checked(s, k, slice_of(by->bytes, by->len), &holder);
    for (size_t cursor = 0; object_next(&o, &cursor, &x);)
        if (by == NULL || !causal_covers(&holder.causal, x.dot))
            return false;
    return true;
}

/* Has somebody else taken over what is owed: the object, and the hint unless it knows better? */
static bool is_entrusted(struct sim *s, unsigned node, unsigned target, unsigned key)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        const struct image *has = &s->node[n].disk.durable;

        if (n != node && n != target &&
            (has->hint[target][key] ||
             !ring_keeps(&s->node[n].index, s->key[key].partition, (uint16_t)target)) &&
            oracle_covers(s, key, s->node[node].disk.live.object[key], has->object[key]))
            return true;
    }
    return false;
}

void oracle_hint_gone(struct sim *s, unsigned node, unsigned target, unsigned key)
{
    const struct image *from = &s->node[node].disk.live;

    if ((s->amnesiacs >> target & 1) != 0 || from->object[key] == NULL ||
        from->damaged[key] != SOUND)
        return;
    if (!ring_keeps(&s->node[node].index, s->key[key].partition, (uint16_t)target))
        return; /* it is not owed to it any more */
    if (s->node[node].view.members[node].state == MEMBER_LEFT && is_entrusted(s, node, target, key))
        return;
    if (!oracle_covers(s, key, from->object[key], s->node[target].disk.durable.object[key]))
        sim_fail(s, "%s: node %u removes its hint for node %u, which does not have the object",
                 s->key[key].name, node, target);
}

/* --- failures --- */

/* Nodes that can have served a request all the time: they and everything between them were well, and
 * whoever is not among them was known to be down. 0 if that cannot be said. */
static uint32_t well_connected(const struct sim *s, unsigned node, uint64_t since)
{
    uint32_t well = 0;

    if (!node_well_since(s, node, since))
        return 0;
    for (unsigned i = 0; i < s->nodes; i++) {
        unsigned n = (node + i) % s->nodes;
        bool all = node_well_since(s, n, since);

        for (unsigned o = 0; o < s->nodes && all; o++)
            all = (o != n && (well >> o & 1) == 0) || net_well_since(s, n, o, since);
        well |= (uint32_t)all << n;
        if (well == 0)
            return 0; /* the first one, where the request came to, is not */
    }
    for (unsigned n = 0; n < s->nodes; n++)
        for (unsigned o = 0; o < s->nodes; o++)
            if ((well >> n & 1) == 0 && (well >> o & 1) != 0 && !net_down_since(s, o, n, since))
                return 0;
    return well;
}

/* Has the node been able to answer for the key since then? A damaged record is no answer, and what a read
 * puts in its place while it runs is the answer of another replica once more, not a second one. */
static bool answers(const struct sim *s, unsigned node, const struct request *r)
{
    const struct disk *d = &s->node[node].disk;

    return d->live.damaged[r->key] == SOUND && d->mended_us[r->key] < r->accepted_at &&
           repair_serves(s, node, r->key, r->is_write, r->accepted_at);
}

void oracle_failed(struct sim *s, const struct request *r, const struct coord_reply *reply)
{
    const struct key *key = &s->key[r->key];
    const struct quorum_rule *rule = &s->rule[key->strict];
    const struct ring_walk *walk = &s->node[s->reference].index.walk[key->partition];
    unsigned need = r->is_write ? (r->w != 0 ? r->w : rule->w) : (r->r != 0 ? r->r : rule->r);
    unsigned all = 0, primaries = 0;

    if (s->ring != NULL || reply->status == -ERR_BUSY || reply->status == -ERR_SIBLINGS ||
        (reply->status == -ERR_NOTWHOLE && !r->is_write) || s->net.loss > 0 ||
        r->accepted_at < MS(600))
        return;
    uint32_t well = well_connected(s, r->node, r->accepted_at - MS(500));

    for (unsigned i = 0; i < walk->count; i++) {
        bool in = (well >> walk->member[i] & 1) != 0 && answers(s, walk->member[i], r);

        all += in;
        primaries += in && i < key->n;
    }
    if (primaries >= r->pw && (key->strict ? primaries : all) >= need && well != 0)
        sim_fail(s,
                 "%s: request %u failed with %s (need %u got %u) although %u nodes, %u of them "
                 "primaries, were there for it",
                 key->name, r->token, err_name(reply->status), reply->need, reply->got, all,
                 primaries);
}

/* --- read repair --- */

struct stale { /* a replica that a read has found */
    unsigned key, reader, replica;
    uint64_t found_at;
    struct blob *whole; /* what the reader had */
};

void oracle_read_sent(struct sim *s, const struct worker *from, uint64_t request)
{
    for (unsigned i = 0; i < 256; i++)
        if (s->reads[i].worker == from && s->reads[i].request == request)
            return;
    s->reads[s->reads_at].worker = from;
    s->reads[s->reads_at].request = request;
    s->reads[s->reads_at].at = s->now;
    s->reads_at = (s->reads_at + 1) % 256;
}

static bool is_away(const struct sim *s, unsigned node, unsigned k)
{
    uint64_t horizon_ms;

    return repair_standing(&s->node[node].worker[worker_of_key(s, node, k)], s->key[k].partition,
                           &horizon_ms) == STANDING_AWAY;
}

static void check_repaired(struct sim *s, const struct event *e)
{
    struct stale *stale = e->p;
    const struct image *image = &s->node[stale->replica].disk.live;
    bool well = node_well_since(s, stale->reader, stale->found_at) &&
                node_well_since(s, stale->replica, stale->found_at) &&
                net_well_since(s, stale->reader, stale->replica, stale->found_at);

    if (well && image->damaged[stale->key] == SOUND && !is_away(s, stale->replica, stale->key) &&
        !check_buried(s, stale->key, stale->whole) &&
        !oracle_covers(s, stale->key, stale->whole, image->object[stale->key]))
        sim_fail(s, "%s: a read by node %u has found node %u stale and has not repaired it",
                 s->key[stale->key].name, stale->reader, stale->replica);
    free(stale->whole);
    free(stale);
}

static struct blob *copy_of(const struct blob *b)
{
    struct blob *copy = malloc(sizeof *b + b->len);

    ASSERT(copy != NULL);
    memcpy(copy, b, sizeof *b + b->len);
    return copy;
}

void oracle_read_done(struct sim *s, struct worker *to, unsigned from,
                      const struct msg_READ_DONE *m)
{
    static struct object o;
    struct slice key;
    unsigned i = 0, k = 0;

    /* Only full answers name their key. Those that come in time for the reader, whatever it does. */
    if (s->ring != NULL || m->status != 0 || m->object.len == 0 || s->net.loss > 0 ||
        s->net.duplicate > 0 || object_peek_key(m->object, &key) != 0)
        return;
    while (i < 256 && (s->reads[i].worker != to || s->reads[i].request != m->request))
        i++;
    if (i == 256 || s->now - s->reads[i].at > s->conf.replica_ms * 1800ull)
        return;
    while (!slice_equal(s->key[k].slice, key))
        k++;
    const struct ring_walk *walk = &s->node[s->reference].index.walk[s->key[k].partition];
    const struct image *image = &s->node[to->node].disk.live;
    bool primary = false;

    for (unsigned p = 0; p < s->key[k].n; p++)
        primary |= walk->member[p] == from;
    if (!primary || image->object[k] == NULL || image->damaged[k] != SOUND ||
        is_away(s, to->node, k) || is_away(s, from, k))
        return;
    open_checked(s, k, slice_of(image->object[k]->bytes, image->object[k]->len), &o);
    if (object_digest(&o) == m->digest)
        return;
    struct stale *stale = malloc(sizeof *stale);

    ASSERT(stale != NULL);
    *stale = (struct stale){k, to->node, from, s->now, copy_of(image->object[k])};
    sim_after(s, SEC(2), check_repaired, stale, 0, 0);
}

/* --- the end --- */

/* What a replica holds: a damaged record is nothing. */
static const struct blob *replica(const struct sim *s, unsigned k, unsigned i)
{
    unsigned node = s->node[s->reference].index.walk[s->key[k].partition].member[i];
    const struct image *image = &s->node[node].disk.durable;

    return image->damaged[k] == SOUND ? image->object[k] : NULL;
}

/* By hints alone: as long as nobody has lost what it owed, hints bring each write to all of its
 * primaries without any read. */
void oracle_converged(struct sim *s, bool by_hints_alone)
{
    for (unsigned k = 0; k < s->keys; k++) {
        static struct object o;
        uint64_t first = 0;

        if (by_hints_alone && (s->forgetful || s->key[k].forgetful))
            continue;

        for (unsigned i = 0; i < s->key[k].n; i++) {
            const struct blob *b = replica(s, k, i);
            uint64_t digest = 0;

            if (b != NULL) {
                open_checked(s, k, slice_of(b->bytes, b->len), &o);
                digest = object_digest(&o);
            }
            if (i == 0)
                first = digest;
            if (digest != first)
                sim_fail(s, "%s: replicas 0 and %u differ after %s", s->key[k].name, i,
                         by_hints_alone ? "all hints were delivered" : "healing and repair");
        }
    }
}

static void list_events(const struct sim *s, const struct key *key, const struct bits *siblings,
                        const struct bits *seen)
{
    for (unsigned e = 0; e < key->event_count; e++) {
        printf("           event %u: write %u, dot (%llx, %llu)%s%s, supersedes", e,
               key->event[e].write, (unsigned long long)key->event[e].dot.vnode,
               (unsigned long long)key->event[e].dot.n,
               bits_has(siblings, e) ? ", a sibling"
               : bits_has(seen, e)   ? ", superseded"
                                     : "",
               s->write[key->event[e].write].acked ? ", acknowledged" : "");
        for (unsigned p = 0; p < key->event_count; p++)
            if (bits_has(&key->event[e].direct, p))
                printf(" %u", p);
        printf("\n");
    }
}

static void check_key(struct sim *s, unsigned k)
{
    struct key *key = &s->key[k];
    const struct blob *b = replica(s, k, 0);
    struct bits seen, siblings, covered;
    uint64_t items = 0;

    oracle_seen(s, k, b == NULL ? slice_of(NULL, 0) : slice_of(b->bytes, b->len), &seen, &siblings,
                &covered);
    for (unsigned e = 0; e < key->event_count; e++)
        for (unsigned other = 0; other < key->event_count; other++)
            if (bits_has(&siblings, e) && bits_has(&siblings, other) &&
                bits_has(&key->event[other].past, e))
                sim_fail(s, "%s: write %u is still there beside write %u, which supersedes it",
                         key->name, key->event[e].write, key->event[other].write);
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(&siblings, e))
            items |= s->write[key->event[e].write].items;
    for (unsigned e = 0; e < key->event_count; e++)
        if (!bits_has(&siblings, e) && oracle_stranded(s, k, e))
            items |= s->write[key->event[e].write].items;
    bits_join(&seen, &key->buried);
    bits_join(&seen, &key->stranded);
    account_for(s, key, &seen);
    /* A delete may: beside a value that is alive it is kept by whoever had not purged it, and taken in again by
     * one who has since forgotten its horizon. It hides nothing but what it has superseded. */
    for (unsigned e = 0; e < key->event_count; e++)
        if (bits_has(&siblings, e) && bits_has(&key->buried, e) &&
            s->write[key->event[e].write].kind != WRITE_DELETE)
            sim_fail(s, "%s: write %u has come back after it was deleted and purged", key->name,
                     key->event[e].write);
    for (uint32_t i = 0; i < key->acked_count; i++) {
        const struct write *w = &s->write[key->acked[i]];
        unsigned alive = 0;

        if (!overlaps(&w->events, &seen) && s->options.log)
            list_events(s, key, &siblings, &seen);
        if (!overlaps(&w->events, &seen))
            sim_fail(s, "%s: acknowledged write %u is lost", key->name, key->acked[i]);
        for (unsigned e = 0; e < key->event_count; e++)
            alive += bits_has(&w->events, e) && bits_has(&siblings, e);
        if (alive > 1 && w->request_id != 0 && key->id_writes <= LIMIT_IDS)
            sim_fail(s, "%s: write %u is there twice although its request id is the same",
                     key->name, key->acked[i]);
        if (key->cart && (w->items & ~items) != 0)
            sim_fail(s, "%s: items %llx of write %u are not in the cart", key->name,
                     (unsigned long long)(w->items & ~items), key->acked[i]);
    }
}

void oracle_final(struct sim *s)
{
    for (unsigned k = 0; k < s->keys; k++)
        check_key(s, k);
}
