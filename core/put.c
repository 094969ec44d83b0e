/* One coordinated write: see put.h. Runs in workers and in the simulator. */
#include "core/put.h"

#include "base/check.h"
#include "core/planted.h"

#include <string.h>

void put_init(struct put *p, const struct put_setup *setup)
{
    ASSERT(setup->count <= LIMIT_WALK && setup->primaries >= 1);
    ASSERT(setup->primaries <= setup->count && setup->self < setup->count && setup->w >= 1);
    ASSERT(((setup->counted | setup->also) >> setup->primaries) == 0);
    memset(p, 0, sizeof *p);
    p->setup = *setup;
    memset(p->holds_for, PUT_NOBODY, sizeof p->holds_for);
    p->slow_us = p->again_us = UINT64_MAX;
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

static uint32_t all_primaries(const struct put *p)
{
    return (1u << p->setup.primaries) - 1;
}

static uint32_t first_list(const struct put *p)
{
    return p->setup.counted != 0 ? p->setup.counted : all_primaries(p);
}

/* Target did not do its part: let another node stand in for the primary it was, or stood for. */
static void replace(struct put *p, uint8_t target, uint64_t now_us, struct put_actions *actions)
{
    uint8_t primary = target < p->setup.primaries ? target : p->holds_for[target];
    uint8_t fallback = next_fallback(p);
    bool served = p->state[primary] == PUT_TARGET_ACKED || p->holds_for[p->setup.self] == primary;
    bool counts = ((first_list(p) | p->setup.also) >> primary & 1) != 0;

    if (fallback != PUT_NOBODY && !served && counts)
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
};

/* Is it a primary that somebody has to stand in for, and nobody does? */
static bool is_lost(const struct put *p, uint8_t i)
{
    bool silent = p->state[i] == PUT_TARGET_FAILED || p->state[i] == PUT_TARGET_LATE;

    return i != p->setup.self && silent && !is_held(p, i) && p->holds_for[p->setup.self] != i;
}

/* What there is of a list; in a sloppy quorum with those who stand in for its members. */
static struct tally count(const struct put *p, uint32_t list)
{
    struct tally t = {0};
    uint8_t lost = 0, spare = 0, spare_may = 0; /* spare: primaries of the other list alone */

    for (uint8_t i = 0; i < p->setup.count; i++) {
        bool primary = i < p->setup.primaries;
        bool waiting = p->state[i] == PUT_TARGET_SENT || p->state[i] == PUT_TARGET_LATE;
        bool have = p->state[i] == PUT_TARGET_ACKED;
        uint8_t stands_for = primary ? i : p->holds_for[i];

        if (i == p->setup.self) {
            have = p->durable || COORD_BUG(ACK_BEFORE_DURABLE);
            waiting = !have;
        }
        if ((!primary && !p->setup.sloppy) || stands_for == PUT_NOBODY)
            continue;
        if ((list >> stands_for & 1) == 0) {
            spare += primary && have;
            spare_may += primary && waiting;
            continue;
        }
        lost += primary && is_lost(p, i);
        t.got += have;
        t.got_primaries += have && primary;
        t.may += waiting;
        t.may_primaries += waiting && primary;
    }
    /* In a sloppy quorum those of the other list are as good as fallbacks. */
    if (p->setup.sloppy) {
        uint8_t stand_in = spare < lost ? spare : lost;

        t.got += stand_in;
        lost -= stand_in;
        t.may += spare_may < lost ? spare_may : lost;
    }
    return t;
}

/* Is any target still to answer in time? late: or, late, a primary for whom nobody holds the object? */
static bool is_waiting(const struct put *p, bool late)
{
    for (uint8_t i = 0; i < p->setup.count; i++) {
        if (i == p->setup.self)
            continue;
        if (p->state[i] == PUT_TARGET_SENT)
            return true;
        if (late && i < p->setup.primaries && p->state[i] == PUT_TARGET_LATE && !is_held(p, i))
            return true;
    }
    return false;
}

/* One list's part of the outcome. */
struct verdict {
    bool enough;
    bool hopeless;
    uint8_t need, got; /* where it is not enough: of what */
};

static struct verdict judge(const struct put *p, uint32_t list, uint8_t w, uint8_t pw)
{
    struct tally t = count(p, list);
    uint8_t asked = COORD_BUG(W_MINUS_ONE) && w > 1 ? w - 1 : w;
    struct verdict v = {.enough = t.got >= asked && t.got_primaries >= pw,
                        .hopeless = t.got + t.may < w || t.got_primaries + t.may_primaries < pw,
                        .need = w,
                        .got = t.got};

    if (!v.enough && t.got >= w) {
        /* There are copies enough, but too few of them at primaries. */
        v.need = pw;
        v.got = t.got_primaries;
    }
    return v;
}

/* Both lists together: what is said of an outcome is said of the one that lacks something. */
static struct verdict judge_both(const struct put *p)
{
    struct verdict first = judge(p, first_list(p), p->setup.w, p->setup.pw);

    if (p->setup.also == 0 || COORD_BUG(JOINT_COUNTS_OLD))
        return first;
    struct verdict second = judge(p, p->setup.also, p->setup.also_w, p->setup.also_pw);
    struct verdict both = first.enough ? second : first;

    both.enough = first.enough && second.enough;
    both.hopeless = first.hopeless || second.hopeless;
    return both;
}

static void answer(struct put *p, bool ok, const struct verdict *v, struct put_actions *actions)
{
    struct put_action *a = add(actions, PUT_DO_REPLY);

    a->ok = ok;
    a->need = v->need;
    a->got = v->got;
    /* Without the own copy no number of others will do. */
    if (!ok && !p->durable && v->got >= v->need)
        a->got = v->need - 1;
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

/* Too few are left. Is it worth trying those who failed once more, later? */
static bool try_later(struct put *p, uint64_t now_us)
{
    bool failed = false;

    if (p->again_us != UINT64_MAX)
        return true;
    for (uint8_t i = 0; i < p->setup.count; i++)
        failed |= p->state[i] == PUT_TARGET_FAILED;
    if (!failed || now_us + p->setup.again_us >= p->patience_us)
        return false;
    p->again_us = now_us + p->setup.again_us;
    return true;
}

static void try_again(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    p->again_us = UINT64_MAX;
    for (uint8_t i = 0; i < p->setup.count; i++) {
        if (p->state[i] != PUT_TARGET_FAILED)
            continue;
        p->state[i] = PUT_TARGET_IDLE;
        send_to(p, i, p->holds_for[i], now_us, actions);
    }
}

/* Answer if that can be done, close if nothing is worth waiting for. */
static void check(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    struct verdict v = judge_both(p);
    bool durable = p->durable || COORD_BUG(ACK_BEFORE_DURABLE);
    bool sent = is_waiting(p, false);

    if (!p->answered && durable && v.enough)
        answer(p, true, &v, actions);
    else if (!p->answered && now_us >= p->setup.deadline_us)
        answer(p, false, &v, actions);
    else if (!p->answered && durable && v.hopeless && (!sent || next_fallback(p) == PUT_NOBODY) &&
             !try_later(p, now_us))
        answer(p, false, &v, actions);
    if (!p->answered || sent || (now_us < p->linger_us && is_waiting(p, true)))
        return;
    if (p->durable || now_us >= p->setup.deadline_us)
        close_it(p, actions);
}

/* The primary for which a coordinator that is none stands in: one that counts wherever it can. */
static uint8_t own_primary(const struct put *p)
{
    uint32_t best = p->setup.also != 0 ? first_list(p) & p->setup.also : first_list(p);

    if (best == 0)
        best = first_list(p);
    return (uint8_t)__builtin_ctz(best);
}

static void start(struct put *p, uint64_t now_us, struct put_actions *actions)
{
    uint8_t own = own_primary(p);

    p->linger_us = now_us + p->setup.linger_us;
    p->patience_us = now_us + p->setup.patience_us;
    if (p->setup.self >= p->setup.primaries)
        p->holds_for[p->setup.self] = own;
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
        add(actions, PUT_DO_HINT)->primary = own;
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
        if (now_us >= p->again_us && !p->answered)
            try_again(p, now_us, actions);
        break;
    }
    check(p, now_us, actions);
}

uint64_t put_due(const struct put *p)
{
    uint64_t due = p->slow_us;

    if (p->closed)
        return UINT64_MAX;
    if (!p->answered && p->again_us < due)
        due = p->again_us;
    if (!p->answered)
        return p->setup.deadline_us < due ? p->setup.deadline_us : due;
    if (due != UINT64_MAX)
        return due;
    return p->durable || p->linger_us > p->setup.deadline_us ? p->linger_us : p->setup.deadline_us;
}
