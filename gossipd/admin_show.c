/* Plans and the state of the cluster, for people and as JSON. Runs in gossipd; changes nothing. */
#include "base/err.h"
#include "base/json.h"
#include "base/table.h"
#include "gossipd/admin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SECOND_US 1000000u

static const char *const phase_names[] = {"settled", "moving",   "joint", "guarded",
                                          "fenced",  "switched", "closed"};
#define PHASES (sizeof phase_names / sizeof phase_names[0])

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {"alive", "suspect", "faulty", "left"};

    return state < sizeof names / sizeof names[0] ? names[state] : "?";
}

static const char *going_name(uint8_t going)
{
    return going == MEMBER_LEAVES ? "leaving" : going == MEMBER_GONE ? "removed" : "";
}

static void place_of(const struct member *m, char *out, size_t size)
{
    snprintf(out, size, strchr(m->address, ':') != NULL ? "[%s]:%u" : "%s:%u", m->address,
             m->gossip_port);
}

const char *admin_name(struct gossipd *g, const struct node_id *id, char *out, size_t size)
{
    const struct member_row *row = member_find(&g->members, id);
    char hex[2 * NODE_ID_BYTES + 1];

    node_id_format(id, hex);
    snprintf(out, size, "%s", row != NULL ? row->m.name : hex);
    return out;
}

void admin_describe(struct gossipd *g, const struct ring_change *c, char *out, size_t size)
{
    char node[LIMIT_NAME], with[LIMIT_NAME];

    admin_name(g, &c->node, node, sizeof node);
    switch ((enum ring_change_kind)c->kind) {
    case RING_JOIN:
        if (c->weight != 0)
            snprintf(out, size, "join %s with weight %u", node, c->weight);
        else
            snprintf(out, size, "join %s", node);
        return;
    case RING_LEAVE:
        snprintf(out, size, "leave %s", node);
        return;
    case RING_REPLACE:
        snprintf(out, size, "replace %s by %s", node, admin_name(g, &c->with, with, sizeof with));
        return;
    case RING_REMOVE:
        snprintf(out, size, "force-remove %s", node);
        return;
    case RING_WEIGHT:
        snprintf(out, size, "weight of %s: %u", node, c->weight);
        return;
    }
    snprintf(out, size, "?");
}

static void list_changes(struct gossipd *g, const struct ring_change *list, uint32_t count,
                         FILE *out)
{
    char what[256];

    for (uint32_t i = 0; i < count; i++) {
        admin_describe(g, &list[i], what, sizeof what);
        fprintf(out, "  %s\n", what);
    }
}

static void json_changes(struct gossipd *g, struct json *j, const char *name,
                         const struct ring_change *list, uint32_t count)
{
    char what[256];

    json_array(j, name);
    for (uint32_t i = 0; i < count; i++) {
        admin_describe(g, &list[i], what, sizeof what);
        json_text(j, NULL, what);
    }
    json_end(j);
}

/* ---- plans ---- */

/* Keys and bytes that one replica of a partition has, judging by this node's: files and write buffers. */
struct estimate {
    uint64_t vnodes, keys, bytes;
};

static uint64_t size_on_disk(struct gossipd *g, uint32_t partition)
{
    char path[CONF_PATH + 64];
    struct stat st;

    snprintf(path, sizeof path, "%s/vnodes/%u/data.mdb", g->conf.node.data_dir, partition);
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static struct estimate judge_by_own(struct gossipd *g)
{
    struct estimate e = {0};

    gossipd_map_workers(g);
    for (uint32_t i = 0; i < g->conf.node.workers; i++) {
        const struct worker_seg *w = &g->watch.workers[i];

        for (uint32_t p = 0; segment_mapped(&w->segment) && p < w->body->partitions; p++) {
            const struct worker_vnode *v = &w->body->vnodes[p];

            if (atomic_load_explicit(&v->state, memory_order_acquire) != WORKER_VNODE_OPEN)
                continue;
            e.vnodes++;
            e.keys += atomic_load_explicit(&v->keys, memory_order_relaxed) +
                      atomic_load_explicit(&v->buffered_keys, memory_order_relaxed);
            e.bytes +=
                size_on_disk(g, p) + atomic_load_explicit(&v->buffered_bytes, memory_order_relaxed);
        }
    }
    return e;
}

static uint64_t share(uint64_t of, const struct estimate *e, uint32_t replicas)
{
    return e->vnodes == 0 ? 0 : of * replicas / e->vnodes;
}

/* What the administrator should know before saying yes. */
static void print_proof(const struct member_plan *p, FILE *out)
{
    const struct ring_proof *f = &p->proof;
    uint32_t q = 1u << p->then->q_bits;

    if (f->short_lists == 0 && f->short_zones == 0)
        fprintf(out, "proof: each of the %u preference lists has %u distinct nodes", q, f->least);
    else
        fprintf(out, "NOT SOUND: %u of %u preference lists lack distinct nodes", f->short_lists, q);
    if (f->zones > 1)
        fprintf(out, " and %u distinct zones", f->least_zones);
    fputs("\n", out);
    if (f->short_zones > 0)
        fprintf(out, "NOT SOUND: %u preference lists could have more distinct zones\n",
                f->short_zones);
    if (f->fewer_than_before)
        fprintf(out, "NOT SOUND: keys would have %u replicas, fewer than now\n", f->want);
    else if (f->fewer_than_n)
        fprintf(out, "note: there are not enough nodes for N=%u replicas\n", p->then->n);
}

static void print_plan(struct gossipd *g, const struct member_plan *p, FILE *out)
{
    const struct estimate e = judge_by_own(g);
    char bytes[TABLE_NUMBER], keys[TABLE_NUMBER];
    struct table t;

    fprintf(out, "plan %016llx, from ring epoch %llu:\n", (unsigned long long)p->id,
            (unsigned long long)p->now->epoch);
    list_changes(g, g->change->staged.list, g->change->staged.count, out);
    table_begin(&t, "node|zone|state|>weight|>partitions|>after|>receives|>gives away|>keys, about|"
                    ">bytes, about");
    for (uint16_t i = 0; i < p->then->member_count; i++) {
        const struct member *m = &p->then->members[i];

        if (m->state == MEMBER_LEFT)
            continue;
        table_add(&t, "%s", m->name);
        table_add(&t, "%s", m->zone);
        table_add(&t, "%s", m->going != MEMBER_STAYS ? going_name(m->going) : state_name(m->state));
        table_add(&t, "%u", m->weight);
        table_add(&t, "%u", p->moves.before[i]);
        table_add(&t, "%u", p->moves.after[i]);
        table_add(&t, "%u", p->moves.gains[i]);
        table_add(&t, "%u", p->moves.losses[i]);
        table_add(&t, "%s", number_count(keys, share(e.keys, &e, p->moves.gains[i])));
        table_add(&t, "%s", number_bytes(bytes, share(e.bytes, &e, p->moves.gains[i])));
    }
    table_print(&t, out, NULL);
    for (uint16_t i = 0; i < p->then->member_count; i++)
        if (p->then->members[i].going == MEMBER_GONE && p->then->members[i].state < MEMBER_FAULTY)
            fprintf(out,
                    "note: %s is alive, and will be removed without giving away what it has; "
                    "leave would wait for that\n",
                    p->then->members[i].name);
    fprintf(out, "receives, gives away: replicas of partitions; %u of %u partitions change hands\n",
            p->moves.moving, 1u << p->then->q_bits);
    print_proof(p, out);
    if (p->sound)
        fprintf(out, "carry it out: clockwise cluster commit %016llx\n", (unsigned long long)p->id);
    else
        fputs("this plan will not be committed\n", out);
}

/* Who has what to give to whom. */
static void json_moves(struct json *j, const struct ring_view *v)
{
    struct ring_walker now, then;
    struct ring_walk old, next;

    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&then, v, v->next);
    json_array(j, "moves");
    for (uint32_t p = 0; p < 1u << v->q_bits; p++) {
        ring_walker_walk(&now, p, v->n, &old);
        ring_walker_walk(&then, p, v->n, &next);
        if (old.print == next.print)
            continue;
        json_object(j, NULL);
        json_number(j, "partition", p);
        json_array(j, "from");
        for (uint8_t i = 0; i < old.primaries; i++)
            json_text(j, NULL, v->members[old.member[i]].name);
        json_end(j);
        json_array(j, "to");
        for (uint8_t i = 0; i < next.primaries; i++)
            json_text(j, NULL, v->members[next.member[i]].name);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

static void json_plan(struct gossipd *g, const struct member_plan *p, FILE *out)
{
    const struct estimate e = judge_by_own(g);
    struct json j;

    json_begin(&j, out);
    json_object(&j, NULL);
    json_hex(&j, "plan", p->id);
    json_number(&j, "epoch", p->now->epoch);
    json_bool(&j, "sound", p->sound);
    json_changes(g, &j, "changes", g->change->staged.list, g->change->staged.count);
    json_number(&j, "partitions", 1u << p->then->q_bits);
    json_number(&j, "partitions_moving", p->moves.moving);
    json_array(&j, "nodes");
    for (uint16_t i = 0; i < p->then->member_count; i++) {
        const struct member *m = &p->then->members[i];

        if (m->state == MEMBER_LEFT)
            continue;
        json_object(&j, NULL);
        json_text(&j, "name", m->name);
        json_text(&j, "zone", m->zone);
        json_text(&j, "state", state_name(m->state));
        json_text(&j, "going", going_name(m->going));
        json_number(&j, "weight", m->weight);
        json_number(&j, "partitions_before", p->moves.before[i]);
        json_number(&j, "partitions_after", p->moves.after[i]);
        json_number(&j, "replicas_received", p->moves.gains[i]);
        json_number(&j, "replicas_given_away", p->moves.losses[i]);
        json_number(&j, "keys_received", share(e.keys, &e, p->moves.gains[i]));
        json_number(&j, "bytes_received", share(e.bytes, &e, p->moves.gains[i]));
        json_end(&j);
    }
    json_end(&j);
    json_object(&j, "proof");
    json_number(&j, "distinct_nodes_wanted", p->proof.want);
    json_number(&j, "distinct_nodes_least", p->proof.least);
    json_number(&j, "distinct_zones_wanted", p->proof.want_zones);
    json_number(&j, "distinct_zones_least", p->proof.least_zones);
    json_number(&j, "short_lists", p->proof.short_lists + p->proof.short_zones);
    json_bool(&j, "fewer_replicas_than_n", p->proof.fewer_than_n);
    json_bool(&j, "fewer_replicas_than_before", p->proof.fewer_than_before);
    json_end(&j);
    json_moves(&j, p->then);
    json_end(&j);
}

void admin_show_plan(struct gossipd *g, const struct member_plan *plan, bool json, FILE *out)
{
    if (json)
        json_plan(g, plan, out);
    else
        print_plan(g, plan, out);
}

/* ---- status ---- */

/* How far the change under way has come: replicas to be filled, and those that are. */
struct transfers {
    uint32_t phases[PHASES];
    uint32_t to_fill, filled;
    uint32_t member_to_fill[LIMIT_MEMBERS], member_filled[LIMIT_MEMBERS];
    /* Of those that are faulty: replicas that the change goes on without, or waits for. */
    uint32_t member_excused[LIMIT_MEMBERS], member_awaited[LIMIT_MEMBERS];
    uint64_t elapsed_s;
    uint64_t eta_s; /* 0: not known */
};

static void follow_faulty(struct gossipd *g, const struct ring_view *v, const struct ring_walk *old,
                          const struct ring_walk *next, uint32_t p, struct transfers *t)
{
    uint16_t faulty[LIMIT_REPLICAS];
    bool waits;
    unsigned count = ring_change_excused(v, old, next, g->change->progress, p,
                                         g->members.conf.quorum, faulty, &waits);

    for (unsigned i = 0; i < count; i++)
        (waits ? t->member_awaited : t->member_excused)[faulty[i]]++;
}

static void follow(struct gossipd *g, const struct ring_view *v, struct transfers *t)
{
    struct ring_walker now, then;
    struct ring_walk old, next;

    memset(t, 0, sizeof *t);
    ring_walker_init(&now, v, v->owner);
    ring_walker_init(&then, v, v->next);
    for (uint32_t p = 0; p < 1u << v->q_bits; p++) {
        t->phases[v->phase[p] < PHASES ? v->phase[p] : 0]++;
        ring_walker_walk(&now, p, v->n, &old);
        ring_walker_walk(&then, p, v->n, &next);
        for (uint8_t i = 0; i < next.primaries; i++) {
            uint16_t m = next.member[i];

            if (ring_walk_primary(&old, m) >= 0)
                continue;
            bool filled = g->change->progress[m].step[p] >= STEP_WHOLE;
            t->to_fill++;
            t->filled += filled;
            t->member_to_fill[m]++;
            t->member_filled[m] += filled;
        }
        follow_faulty(g, v, &old, &next, p, t);
    }
    t->elapsed_s = (loop_now_us(g->loop) - g->watch.started_us) / SECOND_US;
    if (t->filled > 0 && t->filled < t->to_fill)
        t->eta_s = (t->elapsed_s + 1) * (t->to_fill - t->filled) / t->filled + 1;
}

static void print_members(struct gossipd *g, const struct ring_view *v, const struct transfers *f,
                          FILE *out)
{
    static struct ring_moves moves;
    char place[LIMIT_ADDR + 8];
    struct table t;

    ring_change_moves(v, &moves);
    table_begin(&t, "node|gossip address|zone|state|>weight|>partitions|>after|>replicas|>received|"
                    "protocol");
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        place_of(m, place, sizeof place);
        table_add(&t, "%s%s", m->name, i == v->self ? " (this node)" : "");
        table_add(&t, "%s", place);
        table_add(&t, "%s", m->zone);
        table_add(&t, m->going == MEMBER_STAYS ? "%s" : "%s, %s", state_name(m->state),
                  going_name(m->going));
        table_add(&t, "%u", m->weight);
        table_add(&t, "%u", moves.before[i]);
        table_add(&t, "%u", moves.after[i]);
        table_add(&t, "%u", moves.replicas[i]);
        if (f->member_to_fill[i] > 0)
            table_add(&t, "%u of %u", f->member_filled[i], f->member_to_fill[i]);
        else
            table_add(&t, "-");
        table_add(&t, "%u", m->protocol);
    }
    for (uint16_t k = 0; k < g->members.count; k++) {
        const struct member *m = &g->members.row[k].m;

        if (ring_find(v, &m->id) != RING_NO_OWNER || m->state == MEMBER_LEFT)
            continue;
        place_of(m, place, sizeof place);
        table_add(&t, "%s%s", m->name, k == 0 ? " (this node)" : "");
        table_add(&t, "%s", place);
        table_add(&t, "%s", m->zone);
        table_add(&t, "%s, not in the ring", state_name(m->state));
        table_add(&t, "%u", m->weight);
        for (int column = 0; column < 4; column++)
            table_add(&t, "-");
        table_add(&t, "%u", m->protocol);
    }
    table_print(&t, out, NULL);
}

static void print_change(struct gossipd *g, const struct ring_view *v, const struct transfers *f,
                         FILE *out)
{
    const struct member_ring *r = &g->members.ring;
    char text[TABLE_NUMBER];

    fprintf(out, "\nchange under way for %s:\n", number_duration(text, f->elapsed_s * 1000));
    list_changes(g, r->change, r->change_count, out);
    fprintf(out, "  replicas filled: %u of %u", f->filled, f->to_fill);
    if (f->filled > 0)
        fprintf(out, ", %.1f a second", (double)f->filled / (double)(f->elapsed_s + 1));
    if (f->eta_s > 0)
        fprintf(out, ", about %s to go", number_duration(text, f->eta_s * 1000));
    fputs("\n  partitions:", out);
    for (unsigned i = 0; i < PHASES; i++)
        fprintf(out, "%s %u %s", i == 0 ? "" : ",", f->phases[i], phase_names[i]);
    fputs("\n", out);
    for (uint16_t i = 0; i < v->member_count; i++) {
        if (f->member_awaited[i] > 0)
            fprintf(
                out,
                "  waits for %s, which is faulty, in %u partitions: the others are not whole yet, "
                "or too few. Start it, or force-remove it\n",
                v->members[i].name, f->member_awaited[i]);
        if (f->member_excused[i] > 0)
            fprintf(out,
                    "  goes on without %s, which is faulty, in %u partitions: it is filled when it "
                    "comes back\n",
                    v->members[i].name, f->member_excused[i]);
    }
    if (v->self != RING_NO_OWNER && g->watch.copied.epoch == r->epoch && g->watch.copied.keys > 0)
        fprintf(out, "  this node has received %llu keys, %s\n",
                (unsigned long long)g->watch.copied.keys,
                number_bytes(text, g->watch.copied.bytes));
}

static void print_status(struct gossipd *g, const struct ring_view *v, const struct transfers *f,
                         FILE *out)
{
    const struct member_staged *s = &g->change->staged;
    /* Founding, and a wiped disk, make rings that nobody has committed. */
    const struct member_row *by = member_find(&g->members, &v->proposer);
    char name[LIMIT_NAME], when[TABLE_NUMBER];

    if (v->epoch == 0)
        fprintf(out, "cluster %s: no ring yet\n", g->members.conf.cluster);
    else
        fprintf(out, "cluster %s: ring epoch %llu%s%s, %u partitions, N=%u, protocol %u, %s\n",
                g->members.conf.cluster, (unsigned long long)v->epoch, by != NULL ? " by " : "",
                by != NULL ? by->m.name : "", 1u << v->q_bits, v->n,
                member_common_protocol(&g->members),
                ring_change_is_open(v) ? "being changed" : "nothing moves");
    print_members(g, v, f, out);
    if (v->epoch != 0 && ring_change_is_open(v))
        print_change(g, v, f, out);
    if (s->count > 0) {
        fprintf(out, "\nstaged by %s, not committed:\n", admin_name(g, &s->by, name, sizeof name));
        list_changes(g, s->list, s->count, out);
    }
    for (uint32_t i = g->change->lost > MEMBER_LOST ? g->change->lost - MEMBER_LOST : 0;
         i < g->change->lost; i++) {
        const struct member_lost *l = &g->change->last_lost[i % MEMBER_LOST];

        fprintf(out,
                "\nlost %s: the change of epoch %llu, against that of epoch %llu; plan it again if "
                "it is still wanted:\n",
                number_time(when, l->wall_ms), (unsigned long long)l->version.epoch,
                (unsigned long long)l->winner.epoch);
        list_changes(g, l->list, l->count, out);
    }
}

static void json_members(struct gossipd *g, struct json *j, const struct ring_view *v,
                         const struct transfers *f)
{
    static struct ring_moves moves;
    char id[2 * NODE_ID_BYTES + 1], place[LIMIT_ADDR + 8];

    ring_change_moves(v, &moves);
    json_array(j, "members");
    for (uint16_t i = 0; i < v->member_count; i++) {
        const struct member *m = &v->members[i];

        node_id_format(&m->id, id);
        place_of(m, place, sizeof place);
        json_object(j, NULL);
        json_text(j, "id", id);
        json_text(j, "name", m->name);
        json_text(j, "gossip_address", place);
        json_text(j, "zone", m->zone);
        json_text(j, "state", state_name(m->state));
        json_text(j, "going", going_name(m->going));
        json_bool(j, "in_ring", m->state != MEMBER_LEFT);
        json_number(j, "weight", m->weight);
        json_number(j, "protocol", m->protocol);
        json_number(j, "partitions", moves.before[i]);
        json_number(j, "partitions_after", moves.after[i]);
        json_number(j, "replicas", moves.replicas[i]);
        json_number(j, "replicas_to_fill", f->member_to_fill[i]);
        json_number(j, "replicas_filled", f->member_filled[i]);
        json_number(j, "replicas_excused", f->member_excused[i]);
        json_number(j, "replicas_awaited", f->member_awaited[i]);
        json_end(j);
    }
    for (uint16_t k = 0; k < g->members.count; k++) {
        const struct member *m = &g->members.row[k].m;

        if (ring_find(v, &m->id) != RING_NO_OWNER || m->state == MEMBER_LEFT)
            continue;
        node_id_format(&m->id, id);
        place_of(m, place, sizeof place);
        json_object(j, NULL);
        json_text(j, "id", id);
        json_text(j, "name", m->name);
        json_text(j, "gossip_address", place);
        json_text(j, "zone", m->zone);
        json_text(j, "state", state_name(m->state));
        json_bool(j, "in_ring", false);
        json_number(j, "weight", m->weight);
        json_number(j, "protocol", m->protocol);
        json_end(j);
    }
    json_end(j);
}

static void json_status(struct gossipd *g, const struct ring_view *v, const struct transfers *f,
                        FILE *out)
{
    const struct member_staged *s = &g->change->staged;
    struct json j;

    json_begin(&j, out);
    json_object(&j, NULL);
    json_text(&j, "cluster", g->members.conf.cluster);
    json_number(&j, "epoch", v->epoch);
    json_number(&j, "partitions", v->epoch == 0 ? 0 : 1u << v->q_bits);
    json_number(&j, "n", v->n);
    json_number(&j, "protocol", member_common_protocol(&g->members));
    json_bool(&j, "changing", v->epoch != 0 && ring_change_is_open(v));
    json_members(g, &j, v, f);
    json_object(&j, "phases");
    for (unsigned i = 0; i < PHASES; i++)
        json_number(&j, phase_names[i], f->phases[i]);
    json_end(&j);
    json_number(&j, "replicas_to_fill", f->to_fill);
    json_number(&j, "replicas_filled", f->filled);
    json_number(&j, "elapsed_s", f->elapsed_s);
    json_number(&j, "eta_s", f->eta_s);
    json_changes(g, &j, "last_change", g->members.ring.change, g->members.ring.change_count);
    json_changes(g, &j, "staged", s->list, s->count);
    json_array(&j, "lost");
    for (uint32_t i = g->change->lost > MEMBER_LOST ? g->change->lost - MEMBER_LOST : 0;
         i < g->change->lost; i++) {
        const struct member_lost *l = &g->change->last_lost[i % MEMBER_LOST];

        json_object(&j, NULL);
        json_number(&j, "epoch", l->version.epoch);
        json_number(&j, "winner_epoch", l->winner.epoch);
        json_number(&j, "wall_ms", l->wall_ms);
        json_changes(g, &j, "changes", l->list, l->count);
        json_end(&j);
    }
    json_end(&j);
    json_end(&j);
}

void admin_show_status(struct gossipd *g, bool json, FILE *out)
{
    static struct ring_view v;
    static struct transfers f;

    member_view(&g->members, &v);
    memset(&f, 0, sizeof f);
    if (v.epoch != 0)
        follow(g, &v, &f);
    if (json)
        json_status(g, &v, &f, out);
    else
        print_status(g, &v, &f, out);
}
