/* Redis's protocol for the load generator: SET, GET, WAIT and the slot map; redirections. */
#include "base/check.h"
#include "ipc/sockaddr.h"
#include "load.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void send_op(struct conn *c, struct op *op)
{
    struct load *l = c->load;
    char key[40];
    size_t len = lane_key(l, op->number, key);

    switch (op->kind) {
    case OP_SET:
        lane_fill_value(l, op->number);
        buf_printf(&c->out, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%u\r\n", len, key, l->value_bytes);
        buf_append(&c->out, l->value, l->value_bytes);
        buf_append(&c->out, "\r\n", 2);
        break;
    case OP_GET:
        buf_printf(&c->out, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", len, key);
        break;
    default:
        buf_printf(&c->out, "*3\r\n$4\r\nWAIT\r\n$1\r\n%u\r\n$4\r\n5000\r\n", l->wait_replicas);
        break;
    }
    conn_push(c, op);
}

static void follow(struct load *l, const char *text)
{
    unsigned slot, port;
    char host[64];

    if (sscanf(text, "MOVED %u %63[^:]:%u", &slot, host, &port) == 3 && slot < SLOTS)
        lane_moved(l, (uint16_t)slot, host, (uint16_t)port);
}

/* Count an error reply by its first word. */
static void note(struct load *l, const char *text)
{
    size_t len = strcspn(text, " ");

    for (struct reason *r = l->reasons; r < l->reasons + LOAD_REASONS; r++) {
        if (r->count == 0)
            snprintf(r->word, sizeof r->word, "%.*s", (int)len, text);
        if (strlen(r->word) == len && strncmp(r->word, text, len) == 0) {
            r->count++;
            return;
        }
    }
}

static enum op_result judge_error(struct conn *c, const struct op *op, const char *text)
{
    static const char *const retry[] = {"MOVED",    "ASK",  "CLUSTERDOWN", "TRYAGAIN", "LOADING",
                                        "NOQUORUM", "BUSY", "UNKNOWN",     "TIMEOUT"};

    note(c->load, text);
    if (strncmp(text, "MOVED", 5) == 0) {
        follow(c->load, text);
        (op->kind == OP_GET ? &c->load->get : &c->load->set)->moved++;
    }
    for (size_t i = 0; i < sizeof retry / sizeof *retry; i++)
        if (strncmp(text, retry[i], strlen(retry[i])) == 0)
            return RESULT_RETRY;
    fprintf(stderr, "bench-load: %s\n", text);
    return RESULT_ERROR;
}

/* Take one reply from [p, end): one past it, NULL if it is not all there, (uint8_t *)-1 if broken. */
static const uint8_t *take(struct conn *c, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *eol = memchr(p, '\n', (size_t)(end - p));
    struct op *op = c->head;
    enum op_result result = RESULT_OK;
    char line[256];
    size_t len;
    long n;

    if (eol == NULL)
        return NULL;
    if (op == NULL)
        return (const uint8_t *)-1;
    len = (size_t)(eol - p) - 1 < sizeof line - 1 ? (size_t)(eol - p) - 1 : sizeof line - 1;
    memcpy(line, p, len);
    line[len] = 0;
    p = eol + 1;
    switch (line[0]) {
    case '+':
        break;
    case '-':
        result = judge_error(c, op, line + 1);
        break;
    case ':':
        if (op->kind == OP_WAIT && (uint32_t)atoi(line + 1) < c->load->wait_replicas)
            result = RESULT_ERROR;
        break;
    case '$':
        n = atol(line + 1);
        if (n < 0) {
            result = RESULT_MISSING;
            break;
        }
        if (end - p < n + 2)
            return NULL;
        if (!lane_value_good(c->load, op->number, p, (size_t)n))
            result = c->load->verifying ? RESULT_MISSING : RESULT_ERROR;
        p += n + 2;
        break;
    case '_':
        result = RESULT_MISSING;
        break;
    default:
        return (const uint8_t *)-1;
    }
    conn_pop(c);
    lane_done(op, result);
    return p;
}

static bool receive(struct conn *c)
{
    for (;;) {
        const uint8_t *base = buf_head(&c->in), *end = base + buf_len(&c->in), *next;

        if (buf_len(&c->in) == 0)
            return true;
        next = take(c, base, end);
        if (next == NULL)
            return true;
        if (next == (const uint8_t *)-1)
            return false;
        if (!c->open)
            return true; /* closed by what the answer led to */
        buf_consume(&c->in, (size_t)(next - base));
    }
}

static bool opened(struct conn *c)
{
    (void)c;
    return true;
}

static void closed(struct conn *c)
{
    (void)c;
}

const struct protocol protocol_resp = {send_op, receive, opened, closed};

/* One whole reply of a blocking connection in out, ended by a 0; false if it does not come. CLUSTER
 * NODES answers with one bulk string, which says how long it is. */
static bool ask(const struct endpoint *e, const char *request, struct buf *out)
{
    struct pollfd p = {.fd = sockaddr_connect(e->host, e->port), .events = POLLOUT};
    bool whole = false;

    if (p.fd < 0)
        return false;
    if (poll(&p, 1, 2000) == 1 &&
        write(p.fd, request, strlen(request)) == (ssize_t)strlen(request)) {
        p.events = POLLIN;
        while (!whole && poll(&p, 1, 2000) == 1) {
            ssize_t n = read(p.fd, buf_reserve(out, 65536), 65535);
            const char *text = (const char *)buf_head(out), *body;

            if (n <= 0)
                break;
            buf_filled(out, (size_t)n);
            buf_head(out)[buf_len(out)] = 0;
            body = strchr(text, '\n');
            whole = text[0] == '$' && body != NULL &&
                    buf_len(out) >= (size_t)(body + 1 - text) + (size_t)atol(text + 1) + 2;
        }
    }
    close(p.fd);
    return whole;
}

/* A line of CLUSTER NODES: ID HOST:PORT@BUS FLAGS ... LINK FROM-TO FROM-TO ... */
static void take_node(struct load *l, char *line)
{
    char *save = NULL, *word = strtok_r(line, " ", &save), host[64];
    unsigned port, from, to;
    int field = 0;
    bool good = false;

    for (; word != NULL; word = strtok_r(NULL, " ", &save), field++) {
        if (field == 1 && sscanf(word, "%63[^:]:%u", host, &port) != 2)
            return;
        if (field == 2)
            good = strstr(word, "master") != NULL && strstr(word, "fail") == NULL;
        if (field < 8 || !good || word[0] == '[')
            continue;
        if (sscanf(word, "%u-%u", &from, &to) == 1)
            to = from;
        for (unsigned slot = from; slot <= to && slot < SLOTS; slot++)
            lane_moved(l, (uint16_t)slot, host, (uint16_t)port);
    }
}

void resp_load_slots(struct load *l)
{
    struct buf text = {0};
    char *save = NULL;

    for (uint16_t i = 0; i < l->endpoint_count; i++) {
        buf_clear(&text);
        if (!ask(&l->endpoints[i], "*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n", &text))
            continue;
        /* From now on the endpoints are those of the map. */
        l->endpoint_count = 0;
        for (char *line = strtok_r((char *)buf_head(&text), "\r\n", &save); line != NULL;
             line = strtok_r(NULL, "\r\n", &save))
            if (line[0] != '$')
                take_node(l, line);
        break;
    }
    buf_free(&text);
    if (l->endpoint_count == 0) {
        fprintf(stderr, "bench-load: no endpoint told its slot map\n");
        exit(1);
    }
}
