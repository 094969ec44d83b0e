/* Operations of the load generator: which key, which endpoint, what an answer means. */
#include "base/check.h"
#include "base/hash.h"
#include "load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

size_t lane_key(const struct load *l, uint64_t number, char out[40])
{
    (void)l;
    return (size_t)snprintf(out, 40, "key:%012llu", (unsigned long long)number);
}

uint16_t lane_slot(uint64_t number)
{
    char key[40];

    return hash_crc16(key, lane_key(NULL, number, key)) % SLOTS;
}

/* A value begins with its number, so that a reader can tell that it is the right one. */
void lane_fill_value(struct load *l, uint64_t number)
{
    char digits[17];

    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)number);
    memcpy(l->value, digits, l->value_bytes < 16 ? l->value_bytes : 16);
}

bool lane_value_good(const struct load *l, uint64_t number, const uint8_t *value, size_t len)
{
    char digits[17];

    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)number);
    return len == l->value_bytes && memcmp(value, digits, len < 16 ? len : 16) == 0;
}

void lane_moved(struct load *l, uint16_t slot, const char *host, uint16_t port)
{
    uint16_t e = 0;

    while (e < l->endpoint_count &&
           (l->endpoints[e].port != port || strcmp(l->endpoints[e].host, host) != 0))
        e++;
    if (e == l->endpoint_count) {
        if (e == LOAD_ENDPOINTS)
            return;
        snprintf(l->endpoints[e].host, sizeof l->endpoints[e].host, "%s", host);
        l->endpoints[e].port = port;
        l->endpoint_count++;
    }
    l->slot_owner[slot] = e;
}

/* The endpoint for an operation: the slot's owner, or the lane's own; another one while that is bad. */
static uint16_t route(const struct op *op)
{
    const struct load *l = op->lane->load;
    uint64_t now = loop_now_us(l->loop);
    uint16_t e = l->cluster ? l->slot_owner[lane_slot(op->number)]
                            : (uint16_t)(op->lane->index % l->endpoint_count);

    for (uint16_t i = 0; i < l->endpoint_count; i++) {
        uint16_t other = (uint16_t)((e + i * (1 + op->attempts % 2)) % l->endpoint_count);

        if (l->endpoints[other].bad_until_us <= now)
            return other;
    }
    return e;
}

static void list_again(struct op *op)
{
    struct load *l = op->lane->load;

    if (op->listed)
        return;
    op->listed = true;
    op->next = l->again;
    l->again = op;
}

void lane_send(struct op *op)
{
    struct load *l = op->lane->load;
    struct conn *c = conn_get(op->lane, route(op));

    op->sent_us = loop_now_us(l->loop);
    if (c == NULL) {
        list_again(op);
        return;
    }
    l->protocol->send(c, op);
    conn_flush_later(c);
}

void lane_send_again(struct load *l)
{
    struct op *op, *list = l->again;

    l->again = NULL;
    while ((op = list) != NULL) {
        list = op->next;
        op->listed = false;
        lane_send(op);
    }
}

static bool more(struct load *l)
{
    if (l->stopping)
        return false;
    if (l->filling)
        return l->next_fill < l->keys;
    if (l->verifying) {
        while (l->verify_next < l->next_unique &&
               !(l->acknowledged[l->verify_next / 8] & 1u << l->verify_next % 8))
            l->verify_next++;
        return l->verify_next < l->next_unique;
    }
    if (l->enough || (l->unique && l->next_unique >= l->keys))
        return false;
    if (l->requests != 0 && l->issued >= l->requests)
        return false;
    return l->seconds == 0 || loop_now_us(l->loop) < l->start_us + (uint64_t)(l->seconds * 1000000);
}

static bool take_token(struct load *l)
{
    if (l->rate == 0 || l->filling || l->verifying)
        return true;
    if (l->tokens < 1)
        return false;
    l->tokens -= 1;
    return true;
}

static void make(struct load *l, struct op *op)
{
    op->kind = OP_SET;
    op->attempts = 0;
    op->start_us = loop_now_us(l->loop);
    if (l->filling) {
        op->number = l->next_fill++;
    } else if (l->verifying) {
        op->number = l->verify_next++;
        op->kind = OP_GET;
    } else if (l->unique) {
        op->number = l->next_unique++;
    } else {
        op->number = rand_below(&l->rand, l->keys);
        if (rand_below(&l->rand, 100) >= l->set_share)
            op->kind = OP_GET;
    }
    l->issued++;
}

static void finish(struct lane *lane)
{
    if (lane->stopped)
        return;
    lane->stopped = true;
    if (--lane->load->lanes_running == 0)
        loop_stop(lane->load->loop);
}

void lane_resume(struct lane *lane)
{
    struct load *l = lane->load;
    struct op *batch[LOAD_DEPTH + 1];
    uint32_t n = 0;

    if (lane->stopped || lane->in_flight > 0)
        return;
    while (n < l->depth && more(l)) {
        if (!take_token(l))
            break;
        batch[n] = &lane->ops[n];
        make(l, batch[n++]);
    }
    if (n == 0) {
        if (!more(l))
            finish(lane);
        return;
    }
    if (l->wait_replicas > 0 && !l->filling && !l->verifying) {
        lane->ops[n] = lane->ops[n - 1];
        batch[n] = &lane->ops[n];
        batch[n++]->kind = OP_WAIT;
    }
    lane->in_flight = n;
    for (uint32_t i = 0; i < n; i++) {
        batch[i]->lane = lane;
        lane_send(batch[i]);
    }
}

void lane_start(struct lane *lane)
{
    lane->stopped = false;
    lane->in_flight = 0;
    lane->last_success_us = loop_now_us(lane->load->loop);
    lane_resume(lane);
}

static void succeeded(struct op *op, uint64_t now)
{
    struct load *l = op->lane->load;

    if (op->kind != OP_SET || l->filling || l->verifying)
        return;
    if (now - l->last_success_us > l->longest_gap_us) {
        l->longest_gap_us = now - l->last_success_us;
        l->longest_gap_at_us = l->last_success_us - l->start_us;
    }
    l->last_success_us = now;
    if (now - op->lane->last_success_us > op->lane->longest_gap_us)
        op->lane->longest_gap_us = now - op->lane->last_success_us;
    op->lane->last_success_us = now;
    if (l->unique)
        l->acknowledged[op->number / 8] |= (uint8_t)(1u << op->number % 8);
}

/* With WAIT, what the batch wrote counts when its WAIT is answered. */
static void count(struct op *op, enum op_result result, uint64_t now)
{
    struct load *l = op->lane->load;
    struct counts *c = op->kind == OP_GET ? &l->get : &l->set;

    if (l->filling)
        return;
    if (l->verifying) {
        l->lost += result == RESULT_MISSING;
        if (result == RESULT_ERROR)
            c->failed++;
        return;
    }
    if (result == RESULT_ERROR) {
        c->failed++;
        return;
    }
    if (op->kind == OP_SET && l->wait_replicas > 0)
        return;
    if (op->kind == OP_WAIT) {
        for (uint64_t i = 0; (int64_t)i < op - op->lane->ops; i++) {
            hist_add(&c->latency, now - op->start_us);
            c->ok++;
        }
        return;
    }
    hist_add(&c->latency, now - op->start_us);
    if (result == RESULT_MISSING)
        c->missing++;
    else
        c->ok++;
}

void lane_done(struct op *op, enum op_result result)
{
    struct lane *lane = op->lane;
    struct load *l = lane->load;
    uint64_t now = loop_now_us(l->loop);
    struct counts *c = op->kind == OP_GET ? &l->get : &l->set;

    if (result == RESULT_RETRY) {
        if (l->retry && op->kind != OP_WAIT && now < op->start_us + l->patience_us) {
            c->retried++;
            op->attempts++;
            list_again(op);
            return;
        }
        result = RESULT_ERROR;
    }
    if (result == RESULT_OK)
        succeeded(op, now);
    count(op, result, now);
    if (--lane->in_flight == 0)
        lane_resume(lane);
}
