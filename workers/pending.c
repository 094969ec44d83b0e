/* Tables of owed replies and of requests in flight. Runs in workers; makes no system call. */
#include "workers/pending.h"

#include "base/check.h"
#include "base/err.h"

#include <stdlib.h>

/* A free slot keeps a reply buffer of up to KEEP_ONE bytes, all of them together KEEP_ALL. */
#define KEEP_ONE ((size_t)16 << 10)
#define KEEP_ALL ((size_t)8 << 20)

int pending_open(struct pending_table *t, uint32_t requests)
{
    memset(t, 0, sizeof *t);
    /* Behind each reply that waits there may be one that is ready. */
    t->max_slots = 2 * requests;
    t->max_requests = requests;
    t->slots = calloc(t->max_slots, sizeof *t->slots);
    t->requests = calloc(t->max_requests, sizeof *t->requests);
    if (t->slots == NULL || t->requests == NULL) {
        pending_close(t);
        return -ERR_NOMEM;
    }
    return 0;
}

void pending_close(struct pending_table *t)
{
    for (uint32_t i = 0; i < t->used_slots; i++) {
        resp_free(&t->slots[i].out);
        resp_free(&t->slots[i].parts);
        buf_free(&t->slots[i].index);
    }
    free(t->slots);
    free(t->requests);
    memset(t, 0, sizeof *t);
}

struct pending *pending_take(struct pending_table *t)
{
    struct pending *p = t->free_slots;

    if (p != NULL) {
        t->free_slots = p->next;
        t->kept_bytes -= p->out.buf.capacity;
    } else {
        ASSERT(t->used_slots < t->max_slots);
        p = &t->slots[t->used_slots++];
    }
    t->taken_slots++;
    p->next = NULL;
    p->conn = NULL;
    p->answer = NULL;
    p->finish = NULL;
    p->waiting = 0;
    p->commands = 1;
    p->held = 0;
    p->ready = p->silent = p->failed = p->write = p->read = false;
    p->out.failed = p->parts.failed = false;
    p->arg[0] = p->arg[1] = 0;
    p->count = p->issued = 0;
    p->sum = 0;
    return p;
}

void pending_release(struct pending_table *t, struct pending *p)
{
    ASSERT(t->taken_slots > 0 && p->waiting == 0);
    buf_clear(&p->out.buf);
    resp_free(&p->parts);
    buf_free(&p->index);
    if (p->out.buf.capacity > KEEP_ONE || t->kept_bytes + p->out.buf.capacity > KEEP_ALL)
        buf_free(&p->out.buf);
    t->kept_bytes += p->out.buf.capacity;
    t->taken_slots--;
    p->next = t->free_slots;
    t->free_slots = p;
}

uint64_t pending_request(struct pending_table *t, struct pending *p, uint32_t part)
{
    uint32_t index;

    if (t->free_request != 0) {
        index = t->free_request - 1;
        t->free_request = t->requests[index].next_free;
    } else {
        ASSERT(t->used_requests < t->max_requests);
        index = t->used_requests++;
    }
    t->taken_requests++;
    struct pending_request *r = &t->requests[index];
    ASSERT(r->pending == NULL);
    r->pending = p;
    r->part = part;
    p->waiting++;
    return (uint64_t)r->generation << 32 | index;
}

struct pending *pending_answered(struct pending_table *t, uint64_t token, uint32_t *part)
{
    uint32_t index = (uint32_t)token;

    if (index >= t->used_requests)
        return NULL;
    struct pending_request *r = &t->requests[index];
    struct pending *p = r->pending;
    if (p == NULL || r->generation != (uint32_t)(token >> 32))
        return NULL;
    *part = r->part;
    r->pending = NULL;
    r->generation++;
    r->next_free = t->free_request;
    t->free_request = index + 1;
    t->taken_requests--;
    ASSERT(p->waiting > 0);
    p->waiting--;
    return p;
}
