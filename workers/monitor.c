/* MONITOR. Runs in workers; what it costs is bounded by LIMIT_MONITOR_RATE. */
#include "workers/monitor.h"

#include "base/err.h"
#include "workers/cmd.h"
#include "workers/packed.h"
#include "workers/spread.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BURST      100   /* commands shown at once after a pause */
#define GATHER_US  10000 /* lines are sent so often: each time wakes the watchers and the siblings */
#define LEASE_US   3000000 /* a sibling that does not ask again by then wants nothing more */
#define ARGS_SHOWN 16
#define ARG_SHOWN  64           /* bytes of one argument */
#define LINES_MAX  (64u << 10)  /* bytes gathered */
#define UNREAD_MAX (256u << 10) /* bytes that wait for a watcher before it misses lines */

typedef unsigned long long ull;

void monitor_open(struct monitor *m)
{
    memset(m, 0, sizeof *m);
    buf_init(&m->lines, LINES_MAX);
}

void monitor_close(struct clients *c)
{
    loop_disarm(c->loop, &c->monitor.timer);
    buf_free(&c->monitor.lines);
}

static void send_due(void *arg);

/* --- lines --- */

/* A line is put together here, then appended whole or not at all. */
struct line {
    char text[ARGS_SHOWN * (4 * ARG_SHOWN + 40) + 256];
    size_t len;
};

static void put(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct line *l, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(l->text + l->len, sizeof l->text - l->len, format, args);
    va_end(args);
    if (n > 0)
        l->len += (size_t)n < sizeof l->text - l->len ? (size_t)n : sizeof l->text - l->len - 1;
}

static void put_byte(struct line *l, uint8_t byte)
{
    static const char plain[] = "\n\r\t\a\b", names[] = "nrtab";
    const char *at = byte != 0 && byte < ' ' ? strchr(plain, byte) : NULL;

    if (byte == '"' || byte == '\\')
        put(l, "\\%c", byte);
    else if (at != NULL)
        put(l, "\\%c", names[at - plain]);
    else if (byte < ' ' || byte > '~')
        put(l, "\\x%02x", byte);
    else if (l->len < sizeof l->text - 1)
        l->text[l->len++] = (char)byte;
}

static void put_argument(struct line *l, struct slice s)
{
    put(l, " \"");
    for (size_t i = 0; i < s.len && i < ARG_SHOWN; i++)
        put_byte(l, s.data[i]);
    if (s.len > ARG_SHOWN)
        put(l, "... (%zu more bytes)", s.len - ARG_SHOWN);
    put(l, "\"");
}

static void put_time(struct line *l, uint64_t wall_ms)
{
    put(l, "+%llu.%06llu", (ull)(wall_ms / 1000), (ull)(wall_ms % 1000 * 1000));
}

static void put_missed(struct line *l, const struct clients *c, uint64_t missed)
{
    put_time(l, c->engine->wall_ms);
    put(l, " [0 clockwise:%u] \"missed\" \"%llu\"\r\n", c->engine->worker, (ull)missed);
}

/* May another command be shown? */
static bool pay(struct monitor *m, uint64_t now_us)
{
    uint64_t earned = (now_us - m->credited_us) * LIMIT_MONITOR_RATE / 1000000u;

    if (earned > 0) {
        m->credit = earned + m->credit < BURST ? m->credit + (uint32_t)earned : BURST;
        m->credited_us = now_us;
    }
    if (m->credit == 0)
        return false;
    m->credit--;
    return true;
}

static bool may_be_shown(const struct command *command)
{
    return command != NULL && !(command->flags & CMD_ADMIN) && command->run != cmd_auth;
}

void monitor_note(const struct call *call)
{
    struct monitor *m = &call->clients->monitor;
    uint32_t shown = call->argc < ARGS_SHOWN ? call->argc : ARGS_SHOWN;
    char address[80];
    struct line l;

    if (!may_be_shown(call->command))
        return;
    if (!m->timer.armed)
        loop_arm(call->clients->loop, &m->timer, loop_now_us(call->clients->loop) + GATHER_US,
                 send_due, call->clients);
    if (!pay(m, call->engine->now_us)) {
        m->missed++;
        return;
    }
    if (call->command->run == cmd_hello && shown > 2)
        shown = 2; /* a password may follow */
    conn_address(call->conn, false, address, sizeof address);
    l.len = 0;
    put_time(&l, call->engine->wall_ms);
    put(&l, " [0 %s]", address);
    for (uint32_t i = 0; i < shown; i++)
        put_argument(&l, call->argv[i]);
    if (call->argc > shown)
        put(&l, " \"... (%u more arguments)\"", call->argc - shown);
    put(&l, "\r\n");
    if (buf_append(&m->lines, l.text, l.len) != 0)
        m->missed++;
}

/* --- watchers --- */

static uint64_t count_lines(struct slice lines)
{
    uint64_t count = 0;

    for (size_t i = 0; i < lines.len; i++)
        count += lines.data[i] == '\n';
    return count;
}

/* Lines go behind what the connection has been replied; while it waits for a reply it misses them. */
static void show(struct clients *c, struct monitor_watcher *w, struct slice lines)
{
    struct resp_out *out = &w->conn->out;
    struct line l;

    if (lines.len == 0 && w->missed == 0)
        return;
    l.len = 0;
    if (w->conn->tail != NULL || buf_len(&out->buf) + lines.len > UNREAD_MAX) {
        w->missed += count_lines(lines);
        return;
    }
    if (w->missed > 0)
        put_missed(&l, c, w->missed);
    w->missed = 0;
    resp_raw(out, l.text, l.len);
    resp_raw(out, lines.data, lines.len);
    clients_dirty(c, w->conn);
}

static void show_all(struct clients *c, struct slice lines)
{
    for (uint32_t i = 0; i < c->monitor.count; i++)
        show(c, &c->monitor.watchers[i], lines);
}

/* Say words to a sibling; what it answers does not matter. */
static void tell(struct clients *c, uint16_t worker, const char *op, uint64_t id,
                 struct slice words)
{
    struct engine *e = c->engine;
    struct buf list;
    char text[24];

    if (e->run == NULL || worker == e->worker || worker >= e->workers)
        return;
    snprintf(text, sizeof text, "%llu", (ull)id);
    buf_init(&list, 2 * LINES_MAX);
    if (packed_add(&list, slice_str(op)) == 0 && packed_add(&list, slice_str(text)) == 0 &&
        packed_add(&list, words) == 0 &&
        e->run(e->arg, UINT64_MAX, worker, slice_of(buf_head(&list), buf_len(&list))) != 0)
        c->monitor.missed += count_lines(words);
    buf_free(&list);
}

static void send_due(void *arg)
{
    struct clients *c = arg;
    struct monitor *m = &c->monitor;
    struct line l;

    if (!monitor_wanted(m, c->engine->now_us)) {
        m->missed = 0;
        buf_clear(&m->lines);
        return;
    }
    l.len = 0;
    if (m->missed > 0) {
        put_missed(&l, c, m->missed);
        if (buf_append(&m->lines, l.text, l.len) == 0)
            m->missed = 0;
    }
    if (buf_len(&m->lines) == 0)
        return;
    struct slice lines = slice_of(buf_head(&m->lines), buf_len(&m->lines));
    show_all(c, lines);
    for (uint16_t i = 0; i < c->engine->workers; i++)
        if (m->wanted_us[i] > c->engine->now_us)
            tell(c, i, "monitor_lines", 0, lines);
    buf_clear(&m->lines);
}

void monitor_tick(struct clients *c)
{
    struct monitor *m = &c->monitor;

    show_all(c, slice_of(NULL, 0)); /* whoever has missed lines is told, though nothing comes */
    for (uint16_t i = 0; m->count > 0 && i < c->engine->workers; i++)
        tell(c, i, "monitor_watch", m->watchers[0].conn->id, slice_of(NULL, 0));
}

void monitor_leave(struct clients *c, struct conn *conn)
{
    struct monitor *m = &c->monitor;

    for (uint32_t i = 0; i < m->count; i++)
        if (m->watchers[i].conn == conn)
            m->watchers[i] = m->watchers[--m->count];
}

bool monitor_is_watcher(const struct clients *c, const struct conn *conn)
{
    for (uint32_t i = 0; i < c->monitor.count; i++)
        if (c->monitor.watchers[i].conn == conn)
            return true;
    return false;
}

/* --- all workers --- */

/* A connection of the asker's watches, and for a while others of its may. */
void spread_monitor_watch(struct clients *c, uint64_t asker, struct slice words,
                          struct resp_out *text)
{
    struct monitor *m = &c->monitor;
    uint16_t worker = asker % LIMIT_WORKERS;

    (void)words;
    (void)text;
    if (worker == c->engine->worker)
        return;
    m->wanted_until_us = m->wanted_us[worker] = c->engine->now_us + LEASE_US;
}

/* What a sibling's clients have run. */
void spread_monitor_lines(struct clients *c, uint64_t asker, struct slice words,
                          struct resp_out *text)
{
    struct slice lines;

    (void)asker;
    (void)text;
    if (packed_take(&words, &lines))
        show_all(c, lines);
}

static void finish_monitor(struct pending *p, struct resp_out *out)
{
    struct monitor *m = &p->conn->clients->monitor;

    if (p->failed) {
        call_status(p, &p->error, out);
    } else if (m->count == LIMIT_MONITORS) {
        call_fail(p, out, "ERR %d connections of this worker monitor it already", LIMIT_MONITORS);
    } else {
        if (!monitor_is_watcher(p->conn->clients, p->conn))
            m->watchers[m->count++] = (struct monitor_watcher){.conn = p->conn};
        resp_ok(out);
    }
}

enum call_result cmd_monitor(struct call *call)
{
    return spread_begin(call, SPREAD_monitor_watch, NULL, 0, 0, 0, finish_monitor);
}
