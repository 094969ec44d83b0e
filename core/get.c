/* One coordinated read: see get.h. Runs in workers and in the simulator. */
#include "core/get.h"

#include "base/check.h"
#include "core/planted.h"

#include <string.h>

void get_init(struct get *g, const struct get_setup *setup, bool local, uint64_t digest,
              bool durable)
{
    ASSERT(setup->count <= LIMIT_WALK && setup->primaries >= 1);
    ASSERT(setup->primaries <= setup->count && setup->self < setup->count && setup->r >= 1);
    memset(g, 0, sizeof *g);
    g->setup = *setup;
    g->local = local;
    g->local_durable = local && durable;
    g->whole = local ? digest : 0;
    g->hedge_us = g->slow_us = g->again_us = UINT64_MAX;
}

static struct get_action *add(struct get_actions *actions, enum get_action_kind kind,
                              uint8_t target)
{
    ASSERT(actions->count < GET_ACTIONS);
    struct get_action *a = &actions->list[actions->count++];

    *a = (struct get_action){.kind = (uint8_t)kind, .target = target};
    return a;
}

static bool is_waiting(const struct get *g, uint8_t i)
{
    return g->state[i] == GET_TARGET_ASKED || g->state[i] == GET_TARGET_FETCHING ||
           g->state[i] == GET_TARGET_REPAIRING;
}

static bool is_late(const struct get *g, uint8_t i)
{
    return (g->late >> i & 1) != 0;
}

static bool has_failed(const struct get *g, uint8_t i)
{
    return g->state[i] == GET_TARGET_FAILED || g->state[i] == GET_TARGET_DAMAGED;
}

struct tally {
    uint8_t got, got_primaries;   /* replicas taken in (blocking: that hold the whole, durably) */
    uint8_t may, may_primaries;   /* those that could still come */
    uint8_t soon, soon_primaries; /* of them those that are not late */
    bool fetching;
};

static struct tally count(const struct get *g)
{
    struct tally t = {0};

    for (uint8_t i = 0; i < g->setup.count; i++) {
        bool primary = i < g->setup.primaries;
        bool waiting = is_waiting(g, i);
        bool have = g->state[i] == GET_TARGET_HAVE;

        t.fetching |= g->state[i] == GET_TARGET_FETCHING && !is_late(g, i);
        if (!primary && !g->setup.sloppy)
            continue;
        if (i == g->setup.self) {
            have = g->local && (g->local_durable || !g->setup.blocking);
            waiting = g->local && !have;
        } else if (have && g->setup.blocking && g->digest[i] != g->whole) {
            have = false;
            waiting = true;
        }
        t.got += have;
        t.got_primaries += have && primary;
        t.may += waiting;
        t.may_primaries += waiting && primary;
        t.soon += waiting && !is_late(g, i);
        t.soon_primaries += waiting && primary && !is_late(g, i);
    }
    return t;
}

static bool is_suspect(const struct get *g, uint8_t i)
{
    return (g->setup.suspects >> i & 1) != 0;
}

/* More primaries lost (failed, silent, or suspected of it) than fallbacks asked in their place? The
 * coordinator may itself be one of the fallbacks. */
static bool is_fallback_due(const struct get *g)
{
    int lost = 0;

    if (!g->setup.sloppy || COORD_BUG(FALLBACK_NOT_READ))
        return false;
    for (uint8_t i = 0; i < g->setup.count; i++) {
        bool here = i == g->setup.self, primary = i < g->setup.primaries;
        bool gone = here ? !g->local
                         : has_failed(g, i) || is_late(g, i) ||
                               (g->state[i] == GET_TARGET_IDLE && (!primary || is_suspect(g, i)));

        if (primary)
            lost += gone;
        else
            lost -= !gone;
    }
    return lost > 0;
}

static uint8_t first_idle(const struct get *g, uint8_t from, uint8_t to, bool suspects)
{
    for (uint8_t i = from; i < to; i++)
        if (i != g->setup.self && g->state[i] == GET_TARGET_IDLE && (suspects || !is_suspect(g, i)))
            return i;
    return g->setup.count;
}

/* Whom to ask next; count if nobody is left. */
static uint8_t next_target(const struct get *g)
{
    uint8_t none = g->setup.count;
    uint8_t i = first_idle(g, 0, g->setup.primaries, false);

    if (i == none && is_fallback_due(g))
        i = first_idle(g, g->setup.primaries, none, false);
    if (i == none)
        i = first_idle(g, 0, g->setup.primaries, true);
    if (i == none && is_fallback_due(g))
        i = first_idle(g, g->setup.primaries, none, true);
    return i;
}

static bool ask_next(struct get *g, bool hedge, uint64_t now_us, struct get_actions *actions)
{
    uint8_t i = next_target(g);

    if (i == g->setup.count)
        return false;
    struct get_action *a = add(actions, GET_DO_ASK, i);

    a->hedge = hedge;
    a->full = g->whole == 0; /* nothing to compare with: a digest would only cost a round more */
    g->state[i] = GET_TARGET_ASKED;
    g->hedge_us = now_us + g->setup.hedge_us;
    g->slow_us = now_us + g->setup.replica_us;
    return true;
}

/* Ask as many as are missing. */
static void top_up(struct get *g, uint64_t now_us, struct get_actions *actions)
{
    for (;;) {
        struct tally t = count(g);

        if ((t.got + t.soon >= g->setup.r && t.got_primaries + t.soon_primaries >= g->setup.pr) ||
            !ask_next(g, false, now_us, actions))
            return;
    }
}

/* Send the whole to every primary that is known to hold something else. With blocking, a fallback
 * that is to count must hold it too. */
static void repair_stale(struct get *g, uint64_t now_us, struct get_actions *actions)
{
    bool wait = g->setup.blocking && !g->answered;
    uint8_t end = wait ? g->setup.count : g->setup.primaries;

    if (COORD_BUG(NEVER_REPAIRED))
        return;
    for (uint8_t i = 0; i < end; i++) {
        bool have = g->state[i] == GET_TARGET_HAVE;

        if (i == g->setup.self || g->digest[i] == g->whole ||
            (!have && (g->state[i] != GET_TARGET_DAMAGED || i >= g->setup.primaries)))
            continue;
        add(actions, GET_DO_REPAIR, i)->full = wait && have;
        g->digest[i] = g->whole;
        if (wait && have) {
            g->state[i] = GET_TARGET_REPAIRING;
            g->slow_us = now_us + g->setup.replica_us;
        }
    }
}

static void answer(struct get *g, bool ok, const struct tally *t, struct get_actions *actions)
{
    struct get_action *a = add(actions, GET_DO_REPLY, 0);
    bool primaries = t->got >= g->setup.r; /* enough replicas, so it is the primaries that lack */

    a->ok = ok;
    a->need = ok || !primaries ? g->setup.r : g->setup.pr;
    a->got = ok || !primaries ? t->got : t->got_primaries;
    g->answered = true;
    g->hedge_us = UINT64_MAX;
    /* Repairs are on their way; from here on nobody waits for them. */
    for (uint8_t i = 0; i < g->setup.count; i++)
        if (g->state[i] == GET_TARGET_REPAIRING)
            g->state[i] = GET_TARGET_HAVE;
}

/* Is any answer still expected? */
static bool is_expecting(const struct get *g, bool late)
{
    for (uint8_t i = 0; i < g->setup.count; i++)
        if (is_waiting(g, i) && (late || !is_late(g, i)))
            return true;
    return false;
}

/* Too few are left. Is it worth asking those who failed once more, later? */
static bool try_later(struct get *g, uint64_t now_us)
{
    bool failed = false;

    if (g->again_us != UINT64_MAX)
        return true;
    for (uint8_t i = 0; i < g->setup.count; i++)
        failed |= g->state[i] == GET_TARGET_FAILED;
    if (!failed || now_us + g->setup.again_us >= g->patience_us)
        return false;
    g->again_us = now_us + g->setup.again_us;
    return true;
}

static void try_again(struct get *g, uint64_t now_us, struct get_actions *actions)
{
    g->again_us = UINT64_MAX;
    for (uint8_t i = 0; i < g->setup.count; i++)
        if (g->state[i] == GET_TARGET_FAILED) {
            g->state[i] = GET_TARGET_IDLE;
            g->late &= ~(1u << i);
        }
    top_up(g, now_us, actions);
}

/* Answer if that can be done, repair what is stale, close if nothing is worth waiting for. */
static void check(struct get *g, uint64_t now_us, struct get_actions *actions)
{
    struct tally t = count(g);
    bool late = g->answered;

    /* Blocking: when nobody is being fetched the whole is as whole as it gets before the reply. */
    if (g->setup.blocking && !g->answered && !t.fetching) {
        repair_stale(g, now_us, actions);
        t = count(g);
    }
    bool ok = t.got >= g->setup.r && t.got_primaries >= g->setup.pr;
    bool hopeless = t.got + t.may < g->setup.r || t.got_primaries + t.may_primaries < g->setup.pr;

    if (!g->answered && ok)
        answer(g, true, &t, actions);
    else if (!g->answered &&
             (now_us >= g->setup.deadline_us || (hopeless && !try_later(g, now_us))))
        answer(g, false, &t, actions);
    if (!g->answered)
        return;
    bool close = !is_expecting(g, false) && (now_us >= g->linger_us || !is_expecting(g, true));

    if ((!t.fetching || close) && !(COORD_BUG(LATE_NOT_REPAIRED) && late))
        repair_stale(g, now_us, actions);
    if (close) {
        add(actions, GET_DO_CLOSE, 0);
        g->closed = true;
    }
}

static void take_digest(struct get *g, uint8_t i, uint64_t digest, uint64_t now_us,
                        struct get_actions *actions)
{
    if (g->state[i] != GET_TARGET_ASKED)
        return;
    g->digest[i] = digest;
    if (digest == g->whole || digest == 0 || COORD_BUG(DIGEST_IGNORED)) {
        g->state[i] = GET_TARGET_HAVE;
        return;
    }
    g->state[i] = GET_TARGET_FETCHING;
    add(actions, GET_DO_ASK, i)->full = true;
    if (!is_late(g, i))
        g->slow_us = now_us + g->setup.replica_us;
}

static void take_object(struct get *g, const struct get_event *event)
{
    uint8_t i = event->target;

    if (!get_expects(g, i))
        return;
    g->state[i] = GET_TARGET_HAVE;
    g->digest[i] = event->digest;
    if (event->whole != g->whole || !g->local) {
        g->local_durable = false;
        g->whole = event->whole;
    }
}

static void pass_time(struct get *g, uint64_t now_us, struct get_actions *actions)
{
    if (!g->answered && now_us >= g->hedge_us) {
        g->hedge_us = UINT64_MAX;
        ask_next(g, true, now_us, actions);
    }
    if (now_us >= g->slow_us) {
        g->slow_us = UINT64_MAX;
        for (uint8_t i = 0; i < g->setup.count; i++) {
            if (!is_waiting(g, i) || is_late(g, i))
                continue;
            g->late |= 1u << i;
            add(actions, GET_DO_BLAME, i);
        }
        if (!g->answered)
            top_up(g, now_us, actions);
    }
}

void get_step(struct get *g, struct get_event event, uint64_t now_us, struct get_actions *actions)
{
    actions->count = 0;
    if (g->closed)
        return;
    switch ((enum get_event_kind)event.kind) {
    case GET_ON_START:
        g->linger_us = now_us + g->setup.linger_us;
        g->patience_us = now_us + g->setup.patience_us;
        top_up(g, now_us, actions);
        break;
    case GET_ON_DIGEST:
        take_digest(g, event.target, event.digest, now_us, actions);
        break;
    case GET_ON_OBJECT:
        take_object(g, &event);
        break;
    case GET_ON_REPAIRED:
        if (g->state[event.target] == GET_TARGET_REPAIRING)
            g->state[event.target] = GET_TARGET_HAVE;
        break;
    case GET_ON_DURABLE:
        g->local_durable = g->local;
        break;
    case GET_ON_FAIL:
    case GET_ON_DAMAGED:
        if (!is_waiting(g, event.target))
            return;
        g->state[event.target] = event.kind == GET_ON_FAIL ? GET_TARGET_FAILED : GET_TARGET_DAMAGED;
        g->digest[event.target] = 0;
        if (!g->answered)
            top_up(g, now_us, actions);
        break;
    case GET_ON_TIME:
        pass_time(g, now_us, actions);
        if (now_us >= g->again_us && !g->answered)
            try_again(g, now_us, actions);
        break;
    }
    check(g, now_us, actions);
}

uint64_t get_due(const struct get *g)
{
    uint64_t due = g->slow_us;

    if (g->closed)
        return UINT64_MAX;
    if (g->answered)
        return due != UINT64_MAX ? due : g->linger_us;
    if (g->hedge_us < due)
        due = g->hedge_us;
    if (g->again_us < due)
        due = g->again_us;
    return g->setup.deadline_us < due ? g->setup.deadline_us : due;
}
