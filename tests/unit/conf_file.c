/* The configuration file: what is accepted, what is refused and how the refusal reads. */
#include "conf/conf.h"

#include "base/err.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/clockwise-conf-XXXXXX";
static struct conf conf;
static char error[CONF_ERROR];

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    setenv("HOME", "/home/someone", 1);
    unsetenv("STATE_DIRECTORY");
    unsetenv("RUNTIME_DIRECTORY");
    unsetenv("XDG_STATE_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put_bytes(const char *text, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
}

static int load(const char *text)
{
    put_bytes(text, strlen(text));
    return conf_load(&conf, path, error);
}

/* The file is refused with exactly "path:line: reason". */
static void refused(const char *text, unsigned line, const char *reason)
{
    char expected[CONF_ERROR];

    snprintf(expected, sizeof expected, "%s:%u: %s", path, line, reason);
    assert_int_equal(load(text), -ERR_INVAL);
    assert_string_equal(error, expected);
}

static void defaults_are_a_working_configuration(void **state)
{
    (void)state;
    assert_int_equal(conf_load(&conf, NULL, error), 0);
    assert_string_equal(conf.node.bind, "127.0.0.1");
    assert_string_equal(conf.node.announce, "127.0.0.1");
    assert_int_equal(conf.node.port, 7379);
    assert_int_equal(conf.node.worker_port, 7380);
    assert_int_equal(conf.node.gossip_port, 17379);
    assert_int_equal(conf.node.peer_port, 17380);
    assert_true(conf.node.workers >= 1);
    assert_string_equal(conf.node.data_dir, "/home/someone/.local/state/clockwise");
    assert_int_equal(conf.cluster.partitions, 128);
    assert_int_equal(conf.q_bits, 7);
    assert_int_equal(conf.storage.write_buffer_total_bytes, 256u << 20);
    assert_int_equal(conf.cluster.seeds.count, 0);
    assert_int_equal(conf_log_level(&conf), LOG_INFO);
}

static void systemd_directories_are_used(void **state)
{
    (void)state;
    setenv("STATE_DIRECTORY", "/var/lib/clockwise/a:/var/lib/other", 1);
    setenv("RUNTIME_DIRECTORY", "/run/clockwise/a", 1);
    assert_int_equal(conf_load(&conf, NULL, error), 0);
    assert_string_equal(conf.node.data_dir, "/var/lib/clockwise/a");
    assert_string_equal(conf.node.runtime_dir, "/run/clockwise/a");
    unsetenv("STATE_DIRECTORY");
    unsetenv("RUNTIME_DIRECTORY");
}

static void values_of_every_type_are_read(void **state)
{
    (void)state;
    assert_int_equal(load("# a comment\n; another\n\n[node]\nname=a-1\nport = 7100\nworkers=2\n"
                          "cpu_pin = no\nzone=rack_1\nlog_level=debug\ndata_dir=/x y/z\n"
                          "[cluster]\nseeds = 127.0.0.1:17100, [::1]:17200 10.0.0.1:1\n"
                          "request_timeout = 3s\nread_repair=blocking\nsecret = a ;b #c = d\n"
                          "[storage]\nwrite_buffer_total=1GB\nflush_age=1500ms\n"),
                     0);
    assert_string_equal(conf.node.name, "a-1");
    assert_int_equal(conf.node.worker_port, 7101);
    assert_int_equal(conf.node.peer_port, 17101);
    assert_false(conf.node.cpu_pin);
    assert_int_equal(conf_log_level(&conf), LOG_DEBUG);
    assert_string_equal(conf.node.data_dir, "/x y/z");
    assert_int_equal(conf.cluster.seeds.count, 3);
    assert_string_equal(conf.cluster.seeds.at[1].address, "::1");
    assert_int_equal(conf.cluster.seeds.at[1].port, 17200);
    assert_int_equal(conf.cluster.request_timeout_ms, 3000);
    assert_int_equal(conf.cluster.read_repair, CONF_REPAIR_BLOCKING);
    assert_string_equal(conf.cluster.secret, "a ;b #c = d");
    assert_int_equal(conf.storage.write_buffer_total_bytes, 1u << 30);
    assert_int_equal(conf.storage.flush_age_ms, 1500);
}

static void unknown_names_are_refused_with_their_line(void **state)
{
    (void)state;
    refused("[node]\nprot = 1\n", 2, "unknown key prot in section [node]");
    refused("\n[nodes]\n", 2, "unknown section [nodes]");
    refused("[nodes]\nport = 1\n", 1, "unknown section [nodes]");
    refused("port = 1\n", 1, "port stands before the first section");
    refused("[node\n", 1, "']' is missing");
    refused("[node] x\n", 1, "unexpected text after ']'");
    refused("[node]\nport\n", 2, "neither \"key = value\" nor a [section]");
    refused("[node]\nport = 1\n\n[node]\nport = 2\n", 5, "port was already set in line 2");
    refused("[prefix \"a\"]\nx = 1\n", 2, "unknown key x in a prefix section");
}

static void bad_numbers_are_refused(void **state)
{
    (void)state;
    refused("[node]\nport = 70000\n", 2, "port: not a number between 1 and 65535: \"70000\"");
    refused("[node]\nport = 7x\n", 2, "port: not a number between 1 and 65535: \"7x\"");
    refused("[node]\nport = -1\n", 2, "port: not a number between 1 and 65535: \"-1\"");
    refused("[node]\nport =\n", 2, "port: not a number between 1 and 65535: \"\"");
    refused("[node]\nworkers = 65\n", 2, "workers: not a number between 1 and 64, or auto: \"65\"");
    refused("[node]\nworkers = 0\n", 2, "workers: not a number between 1 and 64, or auto: \"0\"");
    refused("[node]\nport = 99999999999999999999\n", 2,
            "port: not a number between 1 and 65535: \"99999999999999999999\"");
    refused("[storage]\nmap_size = 9999999999gb\n", 2,
            "map_size: not a size between 16mb and 16tb: \"9999999999gb\"");
    refused("[storage]\nflush_age = 10\n", 2,
            "flush_age: not a duration between 100ms and 1h: \"10\"");
    refused("[node]\ncpu_pin = maybe\n", 2, "cpu_pin: neither yes nor no: \"maybe\"");
    refused("[storage]\ndurability = sometimes\n", 2,
            "durability: not one of always|everysec|never: \"sometimes\"");
    refused("[cluster]\npartitions = 100\n", 2, "partitions: 100 is not a power of two");
}

static void impossible_addresses_are_refused(void **state)
{
    static const char reason[] = "bind: not a numeric address that a host can have: ";
    static const char *const bad[] = {"1.2.3",   "1.2.3.256",       "localhost", "224.0.0.1",
                                      "ff02::1", "255.255.255.255", "::g",       "127.0.0.1:80"};
    char text[128], expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "[node]\nbind = %s\n", bad[i]);
        snprintf(expected, sizeof expected, "%s\"%s\"", reason, bad[i]);
        refused(text, 2, expected);
    }
    refused("[cluster]\nseeds = 10.0.0.1\n", 2, "seeds: not a numeric address:port: \"10.0.0.1\"");
    refused("[cluster]\nseeds = ::1:7000\n", 2, "seeds: not a numeric address:port: \"::1:7000\"");
    refused("[cluster]\nseeds = 10.0.0.1:0\n", 2,
            "seeds: not a numeric address:port: \"10.0.0.1:0\"");
    refused("[node]\ndata_dir = here\n", 2, "data_dir: not an absolute path: \"here\"");
    refused("[node]\nname = a b\n", 2, "name: only letters, digits, '.', '_' and '-' are allowed");
}

static void keys_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    refused("[cluster]\nn = 3\nr = 4\n", 3, "r: 4 is more than n (3)");
    refused("[cluster]\nn = 3\nw = 4\n", 3, "w: 4 is more than n (3)");
    refused("[cluster]\npw = 3\n", 2, "pw: 3 is more than w (2)");
    refused("[node]\nport=7000\nworkers=4\nworker_port=7100\npeer_port=7103\n", 5,
            "peer_port: ports 7103 to 7106 overlap those of worker_port (7100 to 7103)");
    refused("[node]\nworkers=8\nport=7000\nworker_port = 65530\n", 4,
            "worker_port: ports 65530 to 65537 of 8 workers go beyond 65535");
    refused("[node]\ndata_dir = /a\nruntime_dir = /a\n", 3, "runtime_dir: is the same as data_dir");
    refused("[prefix \"a:\"]\nn = 1\n", 1, "prefix \"a:\": r (2) is more than n (1)");
    refused("[prefix \"a:\"]\nn = 2\n\nw = 3\n", 4, "prefix \"a:\": w (3) is more than n (2)");
    refused("[prefix \"a:\"]\nn = 2\nn = 3\n", 3, "n was already set for \"a:\" in line 2");
}

static void an_open_address_needs_password_and_secret(void **state)
{
    (void)state;
    refused("[node]\nbind = 10.0.0.1\n", 2,
            "bind: 10.0.0.1 is not a loopback address: set [security] requirepass first");
    refused("[node]\nbind = 10.0.0.1\n[security]\nrequirepass=x\n", 2,
            "bind: 10.0.0.1 is not a loopback address: set [cluster] secret first");
    assert_int_equal(
        load("[node]\nbind = 10.0.0.1\n[security]\nrequirepass=x\n[cluster]\nsecret=y\n"), 0);
    assert_int_equal(load("[node]\nbind = ::1\n"), 0);
}

static void every_kind_of_address_is_judged(void **state)
{
    static const char *const local[] = {"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"};
    static const char *const open[] = {"10.0.0.1",  "192.168.1.2", "8.8.8.8",         "128.0.0.1",
                                       "126.0.0.1", "fe80::1",     "fd00::1",         "2001:db8::1",
                                       "::2",       "::127.0.0.1", "::ffff:126.0.0.1"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        snprintf(text, sizeof text, "[node]\nbind = %s\n", local[i]);
        assert_int_equal(load(text), 0);
    }
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        snprintf(text, sizeof text, "[node]\nbind = %s\n", open[i]);
        assert_int_equal(load(text), -ERR_INVAL);
        snprintf(text, sizeof text, "[node]\nbind = %s\n[security]\nrequirepass=x\n", open[i]);
        assert_int_equal(load(text), -ERR_INVAL);
        snprintf(text, sizeof text, "[node]\nbind = %s\n[cluster]\nsecret=x\n", open[i]);
        assert_int_equal(load(text), -ERR_INVAL);
        snprintf(text, sizeof text,
                 "[node]\nbind = %s\n[security]\nrequirepass=x\n[cluster]\nsecret=y\n", open[i]);
        assert_int_equal(load(text), 0);
    }
    for (int v6 = 0; v6 < 2; v6++) {
        snprintf(text, sizeof text, "[node]\nbind = %s\nannounce = 127.0.0.1\n",
                 v6 ? "::" : "0.0.0.0");
        assert_int_equal(load(text), -ERR_INVAL);
    }
}

static void tls_needs_the_files_that_it_works_with(void **state)
{
    (void)state;
    refused("[security]\ntls = yes\n", 2, "tls: needs tls_cert");
    refused("[security]\ntls_cert = /c\ntls = yes\n", 3, "tls: needs tls_key");
    refused("[security]\ntls_cluster = yes\ntls_cert = /c\ntls_key = /k\n", 2,
            "tls_cluster: needs tls_ca");
    refused("[security]\ntls = yes\ntls_cert = /c\ntls_key = /k\ntls_auth_clients = optional\n", 5,
            "tls_auth_clients: needs tls_ca");
    assert_int_equal(load("[security]\ntls = yes\ntls_cert = /c\ntls_key = /k\n"), 0);
    assert_int_equal(load("[security]\ntls = yes\ntls_cert = /c\ntls_key = /k\ntls_ca = /a\n"
                          "tls_auth_clients = yes\ntls_cluster = yes\n"),
                     0);
    assert_int_equal(load("[security]\ntls_auth_clients = yes\n"), 0);
}

static void a_wildcard_needs_an_address_to_announce(void **state)
{
    char expected[CONF_ERROR];

    (void)state;
    assert_int_equal(
        load("[node]\nbind = 0.0.0.0\n[security]\nrequirepass=x\n[cluster]\nsecret=y\n"),
        -ERR_INVAL);
    snprintf(expected, sizeof expected,
             "%s:2: bind: 0.0.0.0 is no address to reach this node at: set announce", path);
    assert_string_equal(error, expected);
    assert_int_equal(load("[node]\nbind = ::\nannounce=10.0.0.1\n[security]\nrequirepass=x\n"
                          "[cluster]\nsecret=y\n"),
                     0);
}

static void lines_that_the_parser_would_cut_are_refused(void **state)
{
    char text[6000];
    size_t n;

    (void)state;
    n = (size_t)sprintf(text, "[node]\nname = ");
    memset(text + n, 'a', 5000);
    strcpy(text + n + 5000, "\n");
    refused(text, 2, "line is longer than 4094 bytes");
    refused("[prefix \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]\nn=1\n", 1,
            "section name is longer than 49 bytes");
    put_bytes("[node]\nname = a\0b\n", 18);
    assert_int_equal(conf_load(&conf, path, error), -ERR_INVAL);
    assert_non_null(strstr(error, ":2: control character"));
    n = (size_t)sprintf(text, "[node]\nname = ");
    memset(text + n, 'a', 64);
    strcpy(text + n + 64, "\n");
    refused(text, 2, "name: longer than 63 bytes");
}

static void a_secret_is_never_repeated_in_an_error(void **state)
{
    char text[400];
    size_t n = (size_t)sprintf(text, "[cluster]\nsecret = ");

    (void)state;
    memset(text + n, 'S', 200);
    strcpy(text + n + 200, "\n");
    refused(text, 2, "secret: longer than 127 bytes");
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    assert_int_equal(conf_load(&conf, "/nowhere/at/all.conf", error), -ERR_INVAL);
    assert_string_equal(error, "/nowhere/at/all.conf: No such file or directory");
}

static void the_longest_prefix_decides_quorums(void **state)
{
    struct conf_prefix scratch;

    (void)state;
    assert_int_equal(load("[cluster]\nw=3\n[prefix \"c\"]\nr=1\n[prefix \"cart:\"]\nw=1\n"), 0);
    assert_int_equal(conf_quorums(&conf, "cart:7", 6, &scratch)->w, 1);
    assert_int_equal(conf_quorums(&conf, "cart:7", 6, &scratch)->r, 2);
    assert_int_equal(conf_quorums(&conf, "cart", 4, &scratch)->r, 1);
    assert_int_equal(conf_quorums(&conf, "cart", 4, &scratch)->w, 3);
    assert_int_equal(conf_quorums(&conf, "x", 1, &scratch)->r, 2);
    assert_int_equal(conf_quorums(&conf, "", 0, &scratch)->w, 3);
}

static void the_effective_file_loads_to_the_same_values(void **state)
{
    static struct conf again;
    char effective[64], a[CONF_VALUE], b[CONF_VALUE];

    (void)state;
    assert_int_equal(load("[node]\nport=7100\nbind=::1\n[cluster]\nseeds=[::1]:1,127.0.0.1:2\n"
                          "secret=x; y=[z] #\n[limits]\nclient_idle=90s\nhint_bytes=1000\n"
                          "[prefix \"a;b=c:\"]\nn=5\nw=1\nr=1\n[prefix \"b\"]\nr=1\n"),
                     0);
    snprintf(effective, sizeof effective, "%s.effective", path);
    assert_int_equal(conf_write_effective(&conf, effective), 0);
    int rc = conf_load(&again, effective, error);
    unlink(effective);
    assert_string_equal(error, "");
    assert_int_equal(rc, 0);
    for (unsigned i = 0; i < CONF_KEYS; i++) {
        conf_format(&conf, i, a);
        conf_format(&again, i, b);
        assert_string_equal(a, b);
    }
    assert_int_equal(again.prefix_count, 2);
    assert_memory_equal(again.prefix, conf.prefix, sizeof conf.prefix);
}

static unsigned ignored_keys;

static void count_ignored(void *arg, const struct conf_key *key)
{
    (void)arg;
    assert_string_equal(key->key, "zone");
    ignored_keys++;
}

static void reloading_takes_over_what_may_change(void **state)
{
    static struct conf running;

    (void)state;
    assert_int_equal(load("[node]\nname=a\n[cluster]\nn=2\n"), 0);
    running = conf;
    assert_int_equal(load("[node]\nname=a\nzone=z\nlog_level=warn\n[cluster]\nn=2\nr=1\n"), 0);
    assert_int_equal(conf_take_reloadable(&running, &conf, count_ignored, NULL, error), 2);
    assert_int_equal(ignored_keys, 1);
    assert_int_equal(running.cluster.r, 1);
    assert_int_equal(conf_log_level(&running), LOG_WARN);
    assert_string_equal(running.node.zone, "");
    assert_int_equal(load("[node]\nname=a\n[cluster]\nn=3\nr=3\n"), 0);
    assert_int_equal(conf_take_reloadable(&running, &conf, NULL, NULL, error), -ERR_INVAL);
    assert_string_equal(error, "r: 3 is more than n (2), with what cannot change while running");
    assert_int_equal(running.cluster.r, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_a_working_configuration),
        cmocka_unit_test(systemd_directories_are_used),
        cmocka_unit_test(values_of_every_type_are_read),
        cmocka_unit_test(unknown_names_are_refused_with_their_line),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(impossible_addresses_are_refused),
        cmocka_unit_test(keys_that_contradict_each_other_are_refused),
        cmocka_unit_test(an_open_address_needs_password_and_secret),
        cmocka_unit_test(every_kind_of_address_is_judged),
        cmocka_unit_test(tls_needs_the_files_that_it_works_with),
        cmocka_unit_test(a_wildcard_needs_an_address_to_announce),
        cmocka_unit_test(lines_that_the_parser_would_cut_are_refused),
        cmocka_unit_test(a_secret_is_never_repeated_in_an_error),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(the_longest_prefix_decides_quorums),
        cmocka_unit_test(the_effective_file_loads_to_the_same_values),
        cmocka_unit_test(reloading_takes_over_what_may_change),
    };

    return cmocka_run_group_tests_name("the configuration file", tests, make_file, remove_file);
}
