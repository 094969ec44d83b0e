/* One coordinated write: see put.h. Runs in workers and in the simulator. */
#include "core/put.h"

#include "base/check.h"
#include "core/planted.h"

#include <string.h>

void put_init(struct put *p, const struct put_setup *setup)
{
    ASSERT(setup->count <= LIMIT_WALK && setup->primaries >= 1);
    ASSERT(setup->primaries <= setup->count && setup->self < setup->count && setup->w >= 1);
    memset(p, 0, sizeof *p);
    p->setup = *setup;
    memset(p->holds_for, PUT_NOBODY, sizeof p->holds_for);
    p->slow_us = UINT64_MAX;
}

static struct put_action *add(struct put_actions *actions, enum put_action_kind kind)
{
    ASSERT(actions->count < PUT_ACTIONS);
    struct put_action *a = &actions->list[actions->count++];

    *a = (struct put_action){.kind = (uint8_t)kind, .target = PUT_NOBODY, .primary = PUT_NOBODY};
    return a;
}

static void send_to(struct put *p, uint8_t target, uint8_t primary, uint64_t now_us,
                    struct put_actions *actions)
{
    struct put_action *a = add(actions, PUT_DO_SEND);

    ASSERT(p->state[target] == PUT_TARGET_IDLE && target != p->setup.self);
    p->state[target] = PUT_TARGET_SENT;
    p->holds_for[target] = primary;
    a->target = target;
    a->primary = primary;
    p->slow_us = now_us + p->setup.replica_us;
}

/* The next fallback that nothing has been sent to, or PUT_NOBODY. */
static uint8_t next_fallback(const struct put *p)
{
    if (p->setup.sloppy)
        for (uint8_t i = p->setup.primaries; i < p->setup.count; i++)
            if (i != p->setup.self && p->state[i] == PUT_TARGET_IDLE)
                return i;
    return PUT_NOBODY;
}

/* Target did not do its part: let another node stand in for the primary it was, or stood for. */
static void replace(struct put *p, uint8_t target, uint64_t now_us, struct put_actions *actions)
{
    uint8_t primary = target < p->setup.primaries ? target : p->holds_for[target];
    uint8_t fallback = next_fallback(p);
    bool served = p->state[primary] == PUT_TARGET_ACKED || p->holds_for[p->setup.self] == primary;

    if (fallback != PUT_NOBODY && !served)
        send_to(p, fallback, primary, now_us, actions);
}

/* Is the object safe with a fallback that will deliver it to this primary? */
static bool is_held(const struct put *p, uint8_t primary)
{
    for (uint8_t i = p->setup.primaries; i < p->setup.count; i++)
        if (i != p->setup.self && p->state[i] == PUT_TARGET_ACKED && p->holds_for[i] == primary)
            return true;
    return false;
}

struct tally {
    uint8_t got, got_primaries; /* durable copies that count */
    uint8_t may, may_primaries; /* that could still come */
    bool sent;                  /* is any target in that state? */
    bool late;                  /* is any primary, and nobody holds the object for it? */
};

static struct tally count(const struct put *p)
{
    struct tally t = {0};

    for (uint8_t i = 0; i < p->setup.count; i++) {
        bool primary = i < p->setup.primaries;
        bool waiting = p->state[i] == PUT_TARGET_SENT || p->state[i] == PUT_TARGET_LATE;
        bool have = p->state[i] == PUT_TARGET_ACKED;

        if (i == p->setup.self) {
            have = p->durable;
            waiting = !have;
        } else {
            t.sent |= p->state[i] == PUT_TARGET_SENT;
            t.late |= primary && p->state[i] == PUT_TARGET_LATE && !is_held(p, i);
        }
        if (!primary && !p->setup.sloppy)
            continue;
        t.got += have;
        t.got_primaries += have && primary;
        t.may += waiting;
        t.may_primaries += waiting && primary;
    }
    return t;
}

static void answer(struct put *p, bool ok, const struct tally *t, struct put_actions *actions)
{
    struct put_action *a = add(actions, PUT_DO_REPLY);

    a->ok = ok;
    a->need = p->setup.w;
    a->got = t->got;
    if (!ok && t->got >= p->setup.w && p->durable) {
        /* There are copies enough, but too few of them at primaries. */
        a->need = p->setup.pw;
        a->got = t->got_primaries;
    } else if (!ok && t->got >= p->setup.w) {
        /* Without the own copy no number of others will do. */
        a->got = p->setup.w - 1;
    }
    p->answered = true;
}

static void close_it(struct put *p, struct put_actions *actions)
{
    for (uint8_t i = 0; i < p->setup.primaries; i++) {
        if (i == p->setup.self || p->state[i] == PUT_TARGET_ACKED || is_held(p, i))
            continue;
        if (p->holds_for[p->setup.self] == i || COORD_BUG(HINT_FORGOTTEN))
            continue;
        add(actions, PUT_DO_HINT)->primary = i;
    }
    add(actions, PUT_DO_CLOSE);
    p->closed = true;
}

/* Answer if that can be done, close if nothing is worth waiting for. */
static void check(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    struct tally t = count(p);
    uint8_t w = p->setup.w;
    bool durable = p->durable || COORD_BUG(ACK_BEFORE_DURABLE);

    if (COORD_BUG(ACK_BEFORE_DURABLE) && !p->durable)
        t.got++, t.may--;
    if (COORD_BUG(W_MINUS_ONE) && w > 1)
        w--;
    if (!p->answered && durable && t.got >= w && t.got_primaries >= p->setup.pw)
        answer(p, true, &t, actions);
    bool hopeless = t.got + t.may < w || t.got_primaries + t.may_primaries < p->setup.pw;

    if (!p->answered && now_us >= p->setup.deadline_us)
        answer(p, false, &t, actions);
    else if (!p->answered && durable && hopeless && (!t.sent || next_fallback(p) == PUT_NOBODY))
        answer(p, false, &t, actions);
    if (!p->answered || t.sent || (t.late && now_us < p->linger_us))
        return;
    if (p->durable || now_us >= p->setup.deadline_us)
        close_it(p, actions);
}

static void start(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    p->linger_us = now_us + p->setup.linger_us;
    if (p->setup.self >= p->setup.primaries)
        p->holds_for[p->setup.self] = 0;
    for (uint8_t i = 0; i < p->setup.primaries; i++) {
        if (i == p->setup.self)
            continue;
        send_to(p, i, PUT_NOBODY, now_us, actions);
        if ((p->setup.suspects >> i & 1) != 0) {
            p->state[i] = PUT_TARGET_LATE;
            replace(p, i, now_us, actions);
        }
    }
    /* A fallback's copy is nobody's business without a hint: it is stored with the object, so that a
     * crash cannot part them. */
    if (p->setup.self >= p->setup.primaries)
        add(actions, PUT_DO_HINT)->primary = 0;
}

static void pass_time(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    uint32_t silent = 0;

    if (now_us < p->slow_us)
        return;
    p->slow_us = UINT64_MAX;
    /* Those that replace() sends to lie in the same list and have their own time to answer. */
    for (uint8_t i = 0; i < p->setup.count; i++)
        silent |= (uint32_t)(p->state[i] == PUT_TARGET_SENT) << i;
    for (uint8_t i = 0; silent != 0; i++, silent >>= 1) {
        if ((silent & 1) == 0)
            continue;
        p->state[i] = PUT_TARGET_LATE;
        add(actions, PUT_DO_BLAME)->target = i;
        replace(p, i, now_us, actions);
    }
}

void put_step(struct put *p, struct put_event event, uint64_t now_us, struct put_actions *actions)
{
    uint8_t i = event.target;

    actions->count = 0;
    if (p->closed)
        return;
    switch ((enum put_event_kind)event.kind) {
    case PUT_ON_START:
        start(p, now_us, actions);
        break;
    case PUT_ON_DURABLE:
        p->durable = true;
        break;
    case PUT_ON_ACK:
        if (p->state[i] == PUT_TARGET_SENT || p->state[i] == PUT_TARGET_LATE)
            p->state[i] = PUT_TARGET_ACKED;
        break;
    case PUT_ON_FAIL:
        if (p->state[i] == PUT_TARGET_SENT) {
            p->state[i] = PUT_TARGET_FAILED;
            replace(p, i, now_us, actions);
        } else if (p->state[i] == PUT_TARGET_LATE) {
            p->state[i] = PUT_TARGET_FAILED;
        }
        break;
    case PUT_ON_TIME:
        pass_time(p, now_us, actions);
        break;
    }
    check(p, now_us, actions);
}

uint64_t put_due(const struct put *p)
{
    uint64_t due = p->slow_us;

    if (p->closed)
        return UINT64_MAX;
    if (!p->answered)
        return p->setup.deadline_us < due ? p->setup.deadline_us : due;
    if (due != UINT64_MAX)
        return due;
    return p->durable || p->linger_us > p->setup.deadline_us ? p->linger_us : p->setup.deadline_us;
}
