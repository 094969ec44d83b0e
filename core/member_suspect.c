/* Membership: suspicions, what confirms them, and what ends them. */
#include "base/check.h"
#include "core/member_impl.h"
#include "core/planted.h"

#include <string.h>

#define CONFIRMATIONS 3 /* beyond the first accuser, that make a suspicion shortest */
#define CHECKERS      4 /* members, about, that check a suspicion they hear of */
#define CHECK_TRIES   3
#define TOLD_AT_ONCE  3
#define REFUTED_TO    6 /* members that hear of a refutation from the suspect itself */

/* How long a suspicion lasts with so many confirmations out of those that can be had: from the whole
 * time to a third of it, by the logarithm (Lifeguard §IV-B). Where nobody else can confirm, half.
 * With the default of 5 s the shortest is 1.65 s: a member that is frozen for 1.5 s just when a lost
 * packet made it suspect still has the time to refute. */
static uint64_t lasts(const struct membership *m, unsigned confirmations)
{
    static const uint32_t percent[CONFIRMATIONS + 1][CONFIRMATIONS + 1] = {
        {50, 50, 50, 50}, {100, 33, 33, 33}, {100, 58, 33, 33}, {100, 67, 47, 33}};
    uint32_t others = m->alive_count - 1u; /* neither this node nor the suspect */

    if (others > CONFIRMATIONS)
        others = CONFIRMATIONS;
    if (confirmations > CONFIRMATIONS)
        confirmations = CONFIRMATIONS;
    if (COORD_BUG(SHORT_SUSPICION) && confirmations > 0)
        return m->conf.suspicion_us / 10;
    return m->conf.suspicion_us * percent[others][confirmations] / 100;
}

/* Tell a few members at once what is now known of this one. */
static void tell_some(struct membership *m, const struct member_row *row, unsigned most)
{
    uint16_t start = (uint16_t)rand_below(&m->rand, m->count);
    unsigned told = 0;

    for (uint16_t k = 0; k < m->count && told < most; k++) {
        const struct member_row *to = &m->row[(start + k) % m->count];
        struct gossip news = member_news_of(m, row);

        if (to == &m->row[0] || to == row || to->m.state != MEMBER_ALIVE)
            continue;
        struct member_endpoint at = member_endpoint_of(&to->m);
        member_send(m, &at, &news, NULL);
        told++;
    }
}

void member_refute(struct membership *m, uint64_t above)
{
    struct member_row *self = &m->row[0];

    if (COORD_BUG(NOBODY_REFUTES))
        return;
    m->counts[MEMBER_COUNT_refutations]++;
    if (self->m.incarnation <= above)
        self->m.incarnation = above + 1;
    member_index_update(m, self);
    if (m->health < MEMBER_HEALTH_WORST)
        m->health++; /* we were too slow for somebody */
    tell_some(m, self, REFUTED_TO);
    m->host.changed(m->host.arg, false);
}

/* ---- checks ---- */

static void send_check(struct membership *m, struct member_check *c, const struct member_row *row,
                       uint64_t now_us)
{
    struct gossip probe = member_probe_message(c->sequence, &row->m.id);
    struct member_endpoint to = member_endpoint_of(&row->m);

    c->next_us = now_us + m->conf.probe_timeout_us;
    member_send(m, &to, &probe, row);
    if (++c->tries == 2)
        member_send_stream(m, row, &probe);
}

void member_check(struct membership *m, struct member_row *row, uint64_t now_us)
{
    struct member_check *vacant = NULL;

    for (unsigned i = 0; i < MEMBER_CHECKS; i++) {
        if (m->check[i].sequence == 0)
            vacant = &m->check[i];
        else if (node_id_equal(&m->check[i].id, &row->m.id))
            return; /* under way */
    }
    if (vacant == NULL)
        return;
    *vacant = (struct member_check){.id = row->m.id, .sequence = ++m->sequence};
    m->counts[MEMBER_COUNT_probes]++;
    send_check(m, vacant, row, now_us);
}

void member_check_ack(struct membership *m, uint64_t sequence)
{
    for (unsigned i = 0; i < MEMBER_CHECKS; i++)
        if (m->check[i].sequence == sequence && sequence != 0) {
            m->counts[MEMBER_COUNT_acks]++;
            m->check[i].sequence = 0;
        }
}

/* Whoever has accused a member goes on asking: each question tells it what it has to refute. */
static void step_check(struct membership *m, struct member_check *c, uint64_t now_us)
{
    struct member_row *row = member_find(m, &c->id);

    if (row != NULL && c->tries == CHECK_TRIES) {
        m->counts[MEMBER_COUNT_probes_failed]++;
        member_suspect(m, row, 0, true, now_us);
    }
    if (row == NULL || row->m.state >= MEMBER_FAULTY ||
        (c->tries >= CHECK_TRIES && row->m.state == MEMBER_ALIVE))
        c->sequence = 0;
    else
        send_check(m, c, row, now_us);
}

/* ---- suspicions ---- */

/* False if it has been accused in this name already. */
static bool accuse(struct member_row *row, uint16_t by)
{
    for (unsigned i = 0; i < row->confirmers; i++)
        if (row->confirmer[i] == by)
            return false;
    if (row->confirmers == MEMBER_CONFIRMERS)
        return false;
    row->confirmer[row->confirmers++] = by;
    return true;
}

/* What we have found out ourselves is what we pass on. */
static void put_first(struct member_row *row, uint16_t by)
{
    for (unsigned i = 1; i < row->confirmers; i++)
        if (row->confirmer[i] == by) {
            row->confirmer[i] = row->confirmer[0];
            row->confirmer[0] = by;
        }
}

void member_suspect(struct membership *m, struct member_row *row, uint16_t by, bool direct,
                    uint64_t now_us)
{
    bool own = by == 0;
    bool first = row->m.state == MEMBER_ALIVE;

    if (row->m.state > MEMBER_SUSPECT || row == &m->row[0])
        return;
    if (first) {
        member_set_state(m, row, MEMBER_SUSPECT, now_us);
        row->suspicions++;
        row->suspected_us = now_us;
        row->forgiven_us = 0;
        m->counts[MEMBER_COUNT_suspicions]++;
    }
    if (!accuse(row, by))
        return;
    if (!first)
        m->counts[MEMBER_COUNT_confirmations]++;
    row->faulty_at_us = row->suspected_us + lasts(m, row->confirmers - 1u);
    member_spread(m, row);
    if (own) {
        put_first(row, by);
        tell_some(m, row, TOLD_AT_ONCE);
    }
    /* The suspect is to hear of it in any case. In large clusters those see to that whom an accuser has
     * told, which brings further accusers soon, and a few of those that hear of it later. */
    bool checks = direct || rand_below(&m->rand, m->count - 1u) <= CHECKERS;
    if (first && checks && !COORD_BUG(NOT_CHECKED))
        member_check(m, row, now_us);
}

uint64_t member_suspect_step(struct membership *m, uint64_t now_us)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < MEMBER_CHECKS; i++) {
        struct member_check *c = &m->check[i];

        if (c->sequence != 0 && now_us >= c->next_us)
            step_check(m, c, now_us);
        if (c->sequence != 0 && c->next_us < next)
            next = c->next_us;
    }
    for (uint16_t i = 0; i < m->suspect_count;) {
        struct member_row *row = &m->row[m->suspect[i]];

        if (now_us >= row->faulty_at_us &&
            !COORD_BUG(NEVER_FAULTY)) { /* which takes it from the list */
            m->counts[MEMBER_COUNT_verdicts]++;
            member_set_state(m, row, MEMBER_FAULTY, now_us);
            tell_some(m, row, TOLD_AT_ONCE);
            continue;
        }
        if (row->faulty_at_us < next && !COORD_BUG(NEVER_FAULTY))
            next = row->faulty_at_us;
        i++;
    }
    return next;
}

/* ---- pauses of our own ---- */

/* What of `more` may still be given to something that was given so much before. */
static uint64_t forgive(const struct membership *m, uint64_t *given, uint64_t more)
{
    uint64_t left = m->conf.suspicion_us > *given ? m->conf.suspicion_us - *given : 0;

    more = more < left ? more : left;
    *given += more;
    return more;
}

/* We did not run for a while: what others failed to answer meanwhile says nothing about them. What
 * was under way gets that time again, and some for answers that wait to be read; but not without end,
 * so that a machine that is always late still comes to an end with a dead member. */
void member_notice_pause(struct membership *m, uint64_t now_us)
{
    if (m->promised_us == 0 || COORD_BUG(PAUSE_UNFORGIVEN) ||
        now_us < m->promised_us + m->conf.probe_timeout_us / 2)
        return;
    uint64_t more = now_us - m->promised_us + m->conf.probe_timeout_us;

    m->counts[MEMBER_COUNT_own_pauses]++;
    uint64_t given = forgive(m, &m->probe_forgiven_us, more);
    m->probe_indirect_us += given;
    m->probe_end_us += given;
    for (unsigned i = 0; i < MEMBER_CHECKS; i++)
        m->check[i].next_us += forgive(m, &m->check[i].forgiven_us, more);
    for (uint16_t i = 0; i < m->suspect_count; i++) {
        struct member_row *row = &m->row[m->suspect[i]];

        given = forgive(m, &row->forgiven_us, more);
        row->suspected_us += given;
        row->faulty_at_us += given;
    }
}
