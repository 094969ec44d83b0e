/* The event queue of the simulator (a binary heap), its random numbers and its trace. */
#include "tests/sim/sim.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void sim_after(struct sim *s, uint64_t after, void (*fn)(struct sim *, const struct event *),
               void *p, uint64_t a, uint64_t b)
{
    struct event e = {s->now + after, s->event_number++, fn, p, a, b};
    uint32_t at;

    if (s->heap_count == s->heap_capacity) {
        s->heap_capacity = s->heap_capacity ? 2 * s->heap_capacity : 1024;
        s->heap = realloc(s->heap, s->heap_capacity * sizeof s->heap[0]);
        ASSERT(s->heap != NULL);
    }
    for (at = s->heap_count++; at > 0 && before(&e, &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = e;
}

static struct event pop(struct sim *s)
{
    struct event first = s->heap[0], last = s->heap[--s->heap_count];
    uint32_t at = 0;

    for (uint32_t child; (child = 2 * at + 1) < s->heap_count; at = child) {
        if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(&s->heap[child], &last))
            break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = last;
    return first;
}

void sim_run_until(struct sim *s, uint64_t until)
{
    while (s->heap_count > 0 && s->heap[0].at <= until) {
        struct event e = pop(s);

        ASSERT(e.at >= s->now);
        s->now = e.at;
        e.fn(s, &e);
    }
    s->now = until;
}

void sim_trace(struct sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t words[5] = {s->now, hash64(what, strlen(what)), a, b, c};

    s->trace = hash64_seed(words, sizeof words, s->trace);
    if (s->options.log)
        printf("%10.6f %-12s %llu %llu %llx\n", (double)s->now / 1e6, what, (unsigned long long)a,
               (unsigned long long)b, (unsigned long long)c);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "seed %llu at %.6f s: ", (unsigned long long)s->options.seed,
            (double)s->now / 1e6);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    _exit(1);
}

uint64_t sim_range(struct sim *s, uint64_t low, uint64_t high)
{
    return low + rand_below(&s->rand, high - low + 1);
}

bool sim_percent(struct sim *s, unsigned percent)
{
    return rand_below(&s->rand, 100) < percent;
}
