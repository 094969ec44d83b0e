/* clockwised, the supervisor of one node: binds the sockets, starts the processes, replaces those
 * that die, stops them in order. It owns node.seg, effective.conf and the child table; it reads no
 * payload from shared memory and serves no client, so that no child can take it down. */
#include "base/check.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "ipc/tls.h"
#include "supervisor/node.h"
#include "supervisor/node_id.h"
#include "supervisor/process.h"
#include "supervisor/report.h"
#include "supervisor/sd_notify.h"
#include "supervisor/stages.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_US 1000000u

static struct node node;

static _Noreturn void usage(int status)
{
    fprintf(
        status == 0 ? stdout : stderr,
        "Usage: clockwised [-c FILE] [-t]\n"
        "Run one node of a Clockwise cluster in the foreground.\n\n"
        "  -c, --config FILE  configuration; without it: loopback, port 7379\n"
        "  -t, --test         check the configuration and exit: 0, or 78 with file:line: reason\n"
        "  -h, --help         this text\n"
        "  -V, --version      print the version\n\n"
        "SIGTERM and SIGINT drain and stop, SIGHUP reads the configuration again.\n");
    exit(status);
}

static bool parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"test", no_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    bool test = false;
    int option;

    while ((option = getopt_long(argc, argv, "c:thV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            node.config_file = optarg;
            break;
        case 't':
            test = true;
            break;
        case 'h':
            usage(0);
        case 'V':
            printf("clockwised %s\n", CLOCKWISE_VERSION);
            exit(0);
        default:
            usage(2);
        }
    }
    if (optind != argc)
        usage(2);
    return test;
}

/* Children are looked for beside this program, then in ../lib/clockwise as `make install` puts them.
 * CLOCKWISE_PROGRAMS overrides both (tests). */
static void find_programs(void)
{
    const char *override = getenv("CLOCKWISE_PROGRAMS");
    char self[CONF_PATH], path[CONF_PATH + 64];

    if (override != NULL) {
        snprintf(node.program_dir, sizeof node.program_dir, "%s", override);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = 0;
    snprintf(node.program_dir, sizeof node.program_dir, "%s", self);
    snprintf(path, sizeof path, "%s/clockwise-worker", self);
    if (access(path, X_OK) == 0 || (slash = strrchr(self, '/')) == NULL)
        return;
    *slash = 0;
    snprintf(path, sizeof path, "%s/lib/clockwise", self);
    if (strlen(path) < sizeof node.program_dir)
        memcpy(node.program_dir, path, strlen(path) + 1);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < node.process_count; i++)
            if (node.processes[i].pid == pid) {
                process_died(&node.processes[i], status);
                break;
            }
}

static void name_ignored(void *arg, const struct conf_key *key)
{
    (void)arg;
    log_warn("[%s] %s has changed; that needs a restart", key->section, key->key);
}

static void reload(void)
{
    static struct conf fresh;
    struct channel_msg msg = {.kind = CONTROL_RELOAD};
    char error[CONF_ERROR];

    if (node.phase == NODE_RUNNING)
        sd_notify_send("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_mono_us());
    int taken = conf_load(&fresh, node.config_file, error);
    if (taken == 0)
        taken = conf_take_reloadable(&node.conf, &fresh, name_ignored, NULL, error);
    if (taken < 0) {
        log_error("not reloaded: %s", error);
    } else if (taken > 0 && conf_write_effective(&node.conf, node.effective) != 0) {
        log_error("not reloaded: cannot write %s", node.effective);
    } else {
        log_setup("clockwised", conf_log_level(&node.conf));
        log_notice("configuration reloaded, %d changes", taken);
        for (uint32_t i = 0; i < node.process_count; i++)
            process_send(&node.processes[i], &msg);
        counter_add(node_seg_counters(&node.seg), CTR_reloads, 1);
    }
    report_now(&node);
    if (node.phase == NODE_RUNNING)
        sd_notify_send("READY=1\nSTATUS=%s", node.status);
}

static void on_signal(void *arg, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)arg;
    (void)events;
    while (read(node.signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload();
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            stages_stop(&node);
    }
    /* Signals of a kind are merged: always look, whatever the last one was. */
    reap();
}

static void watch_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    node.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    ASSERT(node.signal_fd >= 0);
    int rc = loop_add(node.loop, &node.signal_watch, node.signal_fd, EPOLLIN, on_signal, NULL);
    ASSERT(rc == 0);
}

/* Once a second, and often enough for systemd. If our own clock stood still (stopped, suspended),
 * nobody is blamed for not having answered meanwhile. */
static void tick(void *arg)
{
    uint64_t now_us = loop_now_us(node.loop);
    uint64_t every_us = TICK_US, watchdog_us = sd_notify_watchdog_us();

    (void)arg;
    if (watchdog_us != 0 && watchdog_us < every_us)
        every_us = watchdog_us;
    bool stood_still = now_us - node.tick_us > 2 * every_us;
    node.tick_us = now_us;
    for (uint32_t i = 0; i < node.process_count; i++)
        process_check(&node.processes[i], stood_still);
    if (watchdog_us != 0 && now_us - node.notified_us + every_us > watchdog_us) {
        sd_notify_send("WATCHDOG=1");
        node.notified_us = now_us;
    }
    loop_arm(node.loop, &node.tick, now_us + every_us, tick, NULL);
}

/* Everything that can fail before the first child, in order. */
static int prepare(bool *recover, char *error, size_t size)
{
    const struct conf *c = &node.conf;
    uint32_t workers;
    int rc;

    if ((rc = node_id_make_dir(c->node.data_dir, error, size)) != 0 ||
        (rc = node_id_make_dir(c->node.runtime_dir, error, size)) != 0 ||
        (rc = node_id_lock(c->node.data_dir, "data", &node.data_lock, &node.started_ms, error,
                           size)) != 0 ||
        (rc = node_id_lock(c->node.runtime_dir, "runtime", &node.runtime_lock, &node.started_ms,
                           error, size)) != 0 ||
        (rc = node_id_load(c->node.data_dir, &node.id, error, size)) != 0 ||
        (rc = node_id_read_workers(c->node.data_dir, &workers, error, size)) != 0)
        return rc;
    node.next_incarnation = (node.started_ms << 20) + 1;
    *recover = workers != 0 && workers != c->node.workers;
    if (workers == 0 &&
        (rc = node_id_write_workers(c->node.data_dir, c->node.workers, error, size)) != 0)
        return rc;
    if ((rc = listeners_open(&node.listeners, c, error, size)) != 0)
        return rc;
    snprintf(node.effective, sizeof node.effective, "%s/effective.conf", c->node.runtime_dir);
    if ((rc = conf_write_effective(c, node.effective)) != 0) {
        snprintf(error, size, "cannot write %s: %s", node.effective, err_text(rc));
        return rc;
    }
    return report_open(&node, error, size);
}

/* Before anything starts: can the files be used that every process will read? */
static bool tls_usable(const struct conf *c, char why[TLS_WHY])
{
    bool judges = c->security.tls_cluster || c->security.tls_auth_clients != CONF_AUTH_NO;
    struct tls_conf files = {.cert = c->security.tls_cert,
                             .key = c->security.tls_key,
                             .ca = c->security.tls_ca,
                             .verify = judges ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE};
    struct tls_context *context = NULL;

    if (!c->security.tls && !c->security.tls_cluster)
        return true;
    int rc = tls_context_new(&context, &files, why);
    tls_context_free(context);
    return rc == 0;
}

int main(int argc, char **argv)
{
    char error[CONF_ERROR];
    bool recover = false;
    bool test = parse_arguments(argc, argv);

    log_setup("clockwised", LOG_INFO);
    if (conf_load(&node.conf, node.config_file, error) != 0) {
        fprintf(stderr, "%s\n", error);
        return CONF_EXIT;
    }
    if (!tls_usable(&node.conf, error)) {
        fprintf(stderr, "%s\n", error);
        return CONF_EXIT;
    }
    if (test) {
        printf("%s: ok\n", node.config_file != NULL ? node.config_file : "defaults");
        return 0;
    }
    log_setup("clockwised", conf_log_level(&node.conf));
    check_set_panic(-1, "clockwised");
    check_install_handlers();
    sd_notify_setup();
    umask(077);
    raise_descriptor_limit();
    find_programs();
    node.started_ms = clock_wall_ms();
    node.loop = loop_new();
    ASSERT(node.loop != NULL);
    if (prepare(&recover, error, sizeof error) != 0) {
        log_error("%s", error);
        return 1;
    }
    watch_signals();
    node.tick_us = node.notified_us = loop_now_us(node.loop);
    tick(NULL);
    stages_start(&node, recover);
    loop_run(node.loop);
    report_now(&node);
    node_seg_close(&node.seg);
    listeners_close(&node.listeners);
    log_notice("stopped");
    return node.exit_status;
}
