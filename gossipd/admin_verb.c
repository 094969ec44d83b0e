/* What administrators may ask for. The rules are in core/member_change.c; here are the words. Runs in
 * gossipd. */
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "gossipd/admin.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct request {
    struct gossipd *g;
    const struct admin_words *words;
    FILE *out;
};

/* A short answer, in words or as JSON; errors are words always. */
static bool say(const struct request *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool say(const struct request *r, const char *format, ...)
{
    char text[1024];
    struct json j;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!r->words->json) {
        fprintf(r->out, "%s\n", text);
        return true;
    }
    json_begin(&j, r->out);
    json_object(&j, NULL);
    json_text(&j, "done", text);
    json_number(&j, "staged", r->g->change->staged.count);
    json_end(&j);
    return true;
}

static bool fail(const struct request *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool fail(const struct request *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(r->out, format, args);
    va_end(args);
    return false;
}

/* ---- whom is it about ---- */

/* Is this how one may call a member: by name, id (or at least six digits of it), ADDRESS:PORT of its
 * gossip or of its clients? */
static bool is_called(const struct member *m, const char *text)
{
    char place[LIMIT_ADDR + 8], id[2 * NODE_ID_BYTES + 1];

    node_id_format(&m->id, id);
    if (strcmp(m->name, text) == 0 ||
        (strlen(text) >= 6 && strncasecmp(id, text, strlen(text)) == 0))
        return true;
    const char *form = strchr(m->address, ':') != NULL ? "[%s]:%u" : "%s:%u";
    snprintf(place, sizeof place, form, m->address, m->gossip_port);
    if (strcmp(place, text) == 0)
        return true;
    snprintf(place, sizeof place, form, m->address, m->port);
    return strcmp(place, text) == 0;
}

/* The id of whoever is called so; false if that is nobody, or not one alone. Members of the ring that
 * gossip does not know any more can be named by their id. */
static bool find(const struct request *r, const char *text, struct node_id *id)
{
    const struct membership *m = &r->g->members;
    unsigned found = 0;

    for (uint16_t i = 0; i < m->count; i++) {
        if (!is_called(&m->row[i].m, text))
            continue;
        found += found == 0 || !node_id_equal(id, &m->row[i].m.id);
        *id = m->row[i].m.id;
    }
    if (found > 1)
        return fail(r, "'%s' is the name of more than one member: give its id", text);
    if (found == 1)
        return true;
    return node_id_parse(id, text) == 0 ? true : fail(r, "there is no member '%s'", text);
}

/* A numeric ADDRESS:PORT; IPv6 addresses in brackets. */
static bool read_place(const char *text, struct member_endpoint *out)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);
    char *end = NULL;

    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof out->address)
        return false;
    memcpy(out->address, text, len);
    out->address[len] = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    out->port = (uint16_t)port;
    return isdigit((unsigned char)colon[1]) && *end == 0 && port > 0 && port < 65536;
}

static bool was_in_ring(const struct gossipd *g, const struct node_id *id)
{
    for (uint16_t i = 0; i < g->members.ring.count; i++)
        if (node_id_equal(&g->members.ring.id[i], id))
            return true;
    return false;
}

/* Like find(), for one that is to join: who is not known yet is asked to introduce itself. */
static bool find_joiner(const struct request *r, const char *text, struct node_id *id)
{
    struct gossipd *g = r->g;
    struct member_endpoint place;
    char nothing[1];
    FILE *quiet = fmemopen(nothing, 1, "w");
    struct request silent = *r;

    silent.out = quiet != NULL ? quiet : r->out;
    bool found = find(&silent, text, id);
    if (quiet != NULL)
        fclose(quiet);
    const struct member_row *row = found ? member_find(&g->members, id) : NULL;
    if (row != NULL && was_in_ring(g, id))
        return true; /* the plan will say why not */
    if (row != NULL && row->m.state < MEMBER_FAULTY)
        return member_ring_known(&g->members, row)
                   ? true
                   : fail(r,
                          "TRYAGAIN %s is in a ring of its own: it was started without this "
                          "cluster's seeds. Start it with them and an empty data directory",
                          row->m.name);
    if (row != NULL)
        return fail(r, "%s is %s: it must run to join", row->m.name,
                    row->m.state == MEMBER_FAULTY ? "faulty" : "gone");
    if (!read_place(text, &place))
        return fail(r,
                    "there is no node '%s'; a node that is not known here is named by its "
                    "ADDRESS:GOSSIP_PORT",
                    text);
    g->members.host.sync(g, place.address, place.port);
    return fail(r,
                "TRYAGAIN nobody is known at %s yet: it has been asked who it is. It must run "
                "with this cluster's name, secret and number of partitions",
                text);
}

/* ---- errors of plans ---- */

static bool explain(const struct request *r, int rc, const struct ring_change *list, uint32_t count,
                    uint32_t at)
{
    char what[256] = "", joiner[LIMIT_NAME] = "it";

    if (at < count)
        admin_describe(r->g, &list[at], what, sizeof what);
    if (at < count && list[at].kind == RING_REPLACE)
        admin_name(r->g, &list[at].with, joiner, sizeof joiner);
    const char *sep = what[0] != 0 ? ": " : "";
    switch (-rc) {
    case ERR_NOTFOUND:
        return fail(r, "%s%s%s", what, sep,
                    count == 0 ? "no changes are staged"
                               : "it is not a member of the ring, or not known");
    case ERR_EXISTS:
        return fail(r, "%s%s%s is a member of the ring already", what, sep, joiner);
    case ERR_DENIED:
        return fail(r, "%s%s%s has left the ring under this id: it needs an empty data directory",
                    what, sep, joiner);
    case ERR_INVAL:
        return fail(r, "%s%sthat cannot be: it is going already, or the number is out of range",
                    what, sep);
    case ERR_LIMIT:
        return fail(r, "%s%stoo many members or changes", what, sep);
    case ERR_UNAVAILABLE:
        return fail(r, "%s%s%s", what, sep,
                    r->g->members.ring.epoch == 0 ? "there is no ring yet"
                                                  : "nobody would be left to own anything");
    default:
        return fail(r, "%s%s%s", what, sep, err_text(rc));
    }
}

/* ---- verbs ---- */

static bool stage(const struct request *r, const struct ring_change *c)
{
    struct member_staged list = r->g->change->staged;
    char what[256];
    uint32_t at;

    for (at = 0; at < list.count && !node_id_equal(&list.list[at].node, &c->node);)
        at++; /* as member_stage() does */
    if (at < LIMIT_STAGED)
        list.list[at] = *c;
    list.count += at == list.count && at < LIMIT_STAGED;
    int rc = member_stage(&r->g->members, c, &at);
    if (rc != 0)
        return explain(r, rc, list.list, list.count, at);
    admin_describe(r->g, c, what, sizeof what);
    log_notice("staged: %s", what);
    return say(r, "staged: %s; %u in all. See what follows: clockwise cluster plan", what,
               r->g->change->staged.count);
}

static bool verb_join(const struct request *r)
{
    struct ring_change c = {.kind = RING_JOIN};

    return find_joiner(r, r->words->at[1], &c.node) && stage(r, &c);
}

static bool verb_leave(const struct request *r)
{
    struct ring_change c = {.kind = RING_LEAVE, .node = r->g->members.row[0].m.id};

    return (r->words->count < 2 || find(r, r->words->at[1], &c.node)) && stage(r, &c);
}

static bool verb_replace(const struct request *r)
{
    struct ring_change c = {.kind = RING_REPLACE};

    return find(r, r->words->at[1], &c.node) && find_joiner(r, r->words->at[2], &c.with) &&
           stage(r, &c);
}

static bool verb_remove(const struct request *r)
{
    struct ring_change c = {.kind = RING_REMOVE};

    return find(r, r->words->at[1], &c.node) && stage(r, &c);
}

static bool verb_weight(const struct request *r)
{
    struct ring_change c = {.kind = RING_WEIGHT};
    char *end = NULL;
    long weight = strtol(r->words->at[2], &end, 10);

    if (*end != 0 || weight < 1 || weight > 65535)
        return fail(r, "a weight is a number from 1 to 65535");
    c.weight = (uint16_t)weight;
    return find(r, r->words->at[1], &c.node) && stage(r, &c);
}

static bool verb_plan(const struct request *r)
{
    const struct member_staged *s = &r->g->change->staged;
    struct member_plan plan;
    int rc = member_plan_changes(&r->g->members, s->list, s->count, &plan);

    if (rc != 0)
        return explain(r, rc, s->list, s->count, plan.at);
    admin_show_plan(r->g, &plan, r->words->json, r->out);
    return true;
}

static bool verb_commit(const struct request *r)
{
    const struct member_staged before = r->g->change->staged;
    struct member_plan plan;
    char *end = NULL;
    uint64_t id = strtoull(r->words->at[1], &end, 16);

    if (*end != 0 || end == r->words->at[1])
        return fail(r, "'%s' is not the id of a plan", r->words->at[1]);
    int rc = member_commit(&r->g->members, id, &plan);
    if (rc == -ERR_STALE)
        return fail(r,
                    "the ring, or what is staged, is not what plan %s was made from (it would be "
                    "%016llx now): plan again",
                    r->words->at[1], (unsigned long long)plan.id);
    if (rc == -ERR_VERSION)
        return fail(r,
                    "a member speaks protocol version %u, which does not know how a ring is "
                    "changed: upgrade it first",
                    member_common_protocol(&r->g->members));
    if (rc == -ERR_DENIED && plan.then != NULL)
        return fail(r,
                    "refused: not every key would have its replicas on distinct nodes and zones, "
                    "see clockwise cluster plan");
    if (rc != 0)
        return explain(r, rc, before.list, before.count, plan.at);
    log_notice("committed plan %s: ring epoch %llu", r->words->at[1],
               (unsigned long long)r->g->members.ring.epoch);
    return say(r,
               "committed: ring epoch %llu, %u of %u partitions move. Follow it: clockwise "
               "cluster status",
               (unsigned long long)r->g->members.ring.epoch, plan.moves.moving,
               1u << r->g->members.ring.q_bits);
}

static bool verb_clear(const struct request *r)
{
    member_unstage(&r->g->members);
    return say(r, "nothing is staged any more");
}

static bool verb_status(const struct request *r)
{
    admin_show_status(r->g, r->words->json, r->out);
    return true;
}

bool admin_run(struct gossipd *g, const struct admin_words *w, FILE *out)
{
    static const struct {
        const char *name;
        unsigned least, most; /* words */
        bool (*run)(const struct request *r);
    } verbs[] = {
        {"join", 2, 2, verb_join},       {"leave", 1, 2, verb_leave},
        {"replace", 3, 3, verb_replace}, {"force-remove", 2, 2, verb_remove},
        {"weight", 3, 3, verb_weight},   {"plan", 1, 1, verb_plan},
        {"commit", 2, 2, verb_commit},   {"clear", 1, 1, verb_clear},
        {"status", 1, 1, verb_status},
    };
    const struct request r = {.g = g, .words = w, .out = out};

    for (unsigned i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcasecmp(w->at[0], verbs[i].name) == 0)
            return w->count >= verbs[i].least && w->count <= verbs[i].most
                       ? verbs[i].run(&r)
                       : fail(&r, "wrong number of words for %s", verbs[i].name);
    return fail(&r,
                "unknown verb '%s'; join, leave, replace, force-remove, weight, plan, commit, "
                "clear and status are known",
                w->at[0]);
}
