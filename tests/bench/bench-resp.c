/* What a command costs on the client side of a worker, with an engine that is a map: a pipeline of 16
 * over a socket pair, and the parser alone. Prints nanoseconds of CPU per operation. */
#include "tests/unit/fake_engine.h"

#include "ipc/loop.h"
#include "workers/conn.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEPTH  16
#define ROUNDS 100000

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static size_t commands(char *to, const char *name, bool with_value)
{
    size_t len = 0;

    for (int i = 0; i < DEPTH; i++) {
        len += (size_t)sprintf(to + len, "*%d\r\n$3\r\n%s\r\n$16\r\nkey:%012d\r\n",
                               with_value ? 3 : 2, name, i);
        if (with_value)
            len += (size_t)sprintf(to + len, "$100\r\n%0100d\r\n", i);
    }
    return len;
}

static void over_socket(const char *name, const char *request, size_t len)
{
    static char sink[65536];
    struct loop *loop = loop_new();
    struct fake *fake = fake_new(loop);
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        return;
    clients_adopt(fake->clients, pair[1], CLIENTS_FRONT);
    double start = cpu_seconds();
    for (int i = 0; i < ROUNDS; i++) {
        if (write(pair[0], request, len) != (ssize_t)len)
            return;
        loop_turn(loop, 0);
        while (read(pair[0], sink, sizeof sink) > 0) {
        }
    }
    printf("%-28s %6.0f ns/op, both ends\n", name,
           1e9 * (cpu_seconds() - start) / (ROUNDS * DEPTH));
    close(pair[0]);
    fake_free(fake);
    loop_free(loop);
}

static void parser_alone(const char *name, char *request, size_t len)
{
    const struct resp_limits limits = {
        .max_args = LIMIT_ARGS, .max_bulk = LIMIT_VALUE, .max_command = LIMIT_CLIENT_INPUT};
    struct resp_parser parser;
    uint64_t count = 0;

    resp_parse_init(&parser);
    double start = cpu_seconds();
    for (int i = 0; i < ROUNDS; i++) {
        for (size_t at = 0; at < len; at += parser.consumed) {
            if (resp_parse(&parser, (uint8_t *)request + at, len - at, &limits) != RESP_COMMAND)
                return;
            count += parser.argc;
        }
    }
    printf("%-28s %6.1f ns/op (%llu arguments)\n", name,
           1e9 * (cpu_seconds() - start) / (ROUNDS * DEPTH), (unsigned long long)count);
    resp_parse_free(&parser);
}

int main(void)
{
    static char request[8192];

    size_t len = commands(request, "SET", true);
    parser_alone("parse SET of 100 B", request, len);
    over_socket("SET of 100 B, pipeline 16", request, len);
    len = commands(request, "GET", false);
    parser_alone("parse GET", request, len);
    over_socket("GET of nothing, pipeline 16", request, len);
    len = (size_t)sprintf(request, "%s", "*1\r\n$4\r\nPING\r\n");
    for (int i = 1; i < DEPTH; i++)
        memcpy(request + (size_t)i * len, request, len);
    over_socket("PING, pipeline 16", request, len * DEPTH);
    return 0;
}
