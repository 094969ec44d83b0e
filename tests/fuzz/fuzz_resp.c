/* Fuzz target: the command parser with random chunks. Checks that the chunks make no difference, that
 * arguments lie within the input, and that memory follows the bytes.
 *
 * The first bytes of the input choose the sizes of the chunks. */
#include "base/check.h"
#include "core/limits.h"
#include "workers/resp_parse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COMMANDS 64

struct outcome {
    enum resp_status last;
    uint32_t count;
    uint64_t hash[COMMANDS]; /* of each command's arguments */
};

static uint64_t digest(const struct resp_parser *p, enum resp_status status)
{
    uint64_t h = 14695981039346656037u ^ p->argc;

    for (uint32_t i = 0; status == RESP_COMMAND && i < p->argc; i++) {
        h = (h ^ p->argv[i].len) * 1099511628211u;
        for (size_t j = 0; j < p->argv[i].len; j++)
            h = (h ^ p->argv[i].data[j]) * 1099511628211u;
    }
    return h;
}

/* Feed the input so that `seed` decides how many bytes are seen at once; 0: all. Each call gets a
 * fresh copy of exactly the bytes that it may see, so that a sanitizer finds any step beyond. */
static void feed(const uint8_t *data, size_t size, uint64_t seed, const struct resp_limits *limits,
                 struct outcome *out)
{
    struct resp_parser parser;
    uint8_t *run = NULL;
    size_t held = 0, taken = 0;

    resp_parse_init(&parser);
    memset(out, 0, sizeof *out);
    while (out->count < COMMANDS) {
        enum resp_status status = resp_parse(&parser, run, held, limits);

        ASSERT(parser.consumed <= held);
        ASSERT(resp_parse_memory(&parser) <= 16 * (RESP_KEEP_ARGS + 2 * taken));
        for (uint32_t i = 0; status == RESP_COMMAND && i < parser.argc; i++)
            ASSERT(parser.argv[i].data >= run &&
                   parser.argv[i].data + parser.argv[i].len <= run + held);
        out->last = status;
        if (status == RESP_COMMAND || status == RESP_TOO_BIG)
            out->hash[out->count++] = digest(&parser, status);
        else if (status != RESP_MORE)
            break;
        if (status == RESP_MORE && taken == size && parser.consumed == 0)
            break;
        size_t step = 0;
        if (status == RESP_MORE) {
            step = size - taken;
            if (seed != 0) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                size_t piece = 1 + (seed >> 33) % 40;
                step = piece < step ? piece : step;
            }
        }
        held -= parser.consumed;
        uint8_t *next = malloc(held + step + 1);
        ASSERT(next != NULL);
        if (held > 0)
            memcpy(next, run + parser.consumed, held);
        if (step > 0)
            memcpy(next + held, data + taken, step);
        /* Arguments of the finished command must not be read from now on. */
        free(run);
        run = realloc(next, held + step > 0 ? held + step : 1);
        held += step;
        taken += step;
    }
    free(run);
    resp_parse_free(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct resp_limits limits = {.max_args = 1000, .max_bulk = 200, .max_command = 400};
    struct outcome whole, pieces;

    if (size < 9)
        return 0;
    uint64_t seed;
    memcpy(&seed, data, 8);
    limits.unauthenticated = data[8] & 1;
    if (data[8] & 2)
        limits.max_bulk = limits.max_command = LIMIT_CLIENT_INPUT;
    feed(data + 9, size - 9, 0, &limits, &whole);
    feed(data + 9, size - 9, seed | 2, &limits, &pieces);
    ASSERT(whole.count == pieces.count);
    ASSERT(whole.last == pieces.last);
    for (uint32_t i = 0; i < whole.count; i++)
        ASSERT(whole.hash[i] == pieces.hash[i]);
    return 0;
}
