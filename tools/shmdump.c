/* clockwise-shmdump: shows the shared memory of a node, whether it runs, hangs or has crashed. Maps
 * every segment read-only, talks to no process, changes nothing. */
#include "base/table.h"
#include "tools/lib_dump.h"

#include "base/check.h"
#include "base/err.h"
#include "base/paths.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OK = 0, REFUSED = 1, USAGE = 64 };

static void help(FILE *out)
{
    char dir[PATHS_MAX];

    if (paths_runtime_default(dir, sizeof dir) < 0)
        snprintf(dir, sizeof dir, "(the default path is too long)");
    fprintf(
        out,
        "usage: clockwise-shmdump [DIR] [--json] [--key KEY] [SEGMENT...]\n"
        "\n"
        "Prints what the processes of a Clockwise node have published in shared memory: ring,\n"
        "processes, workers, mailboxes, counters, latencies. Works while the node runs, hangs, or\n"
        "after it has crashed, and disturbs nobody.\n"
        "\n"
        "  DIR         the node's runtime directory (default: %s)\n"
        "  SEGMENT     node, ring, gossip, repair, worker-I or mail-I: these only; a named\n"
        "              worker's vnodes are listed too\n"
        "  --json      one JSON object\n"
        "  --key KEY   slot, partition and preference list of a key\n"
        "  --help, --version\n"
        "\n"
        "Exit status: 0; 1 if a segment was refused (foreign, damaged, of another build: the\n"
        "others are printed all the same) or there is none; 64 for wrong usage.\n",
        dir);
}

/* What every counter of this build means. */
static int explain_counters(FILE *out)
{
    struct table t;

    table_begin(&t, "counter|process|kind|unit|meaning");
    for (uint32_t i = 0; i < COUNTER_COUNT; i++) {
        enum counter c = (enum counter)i;

        table_add(&t, "%s", counter_name(c));
        table_add(&t, "%s", counter_owner(c));
        table_add(&t, "%s", counter_is_gauge(c) ? "gauge" : "counter");
        table_add(&t, "%s", counter_unit(c));
        table_add(&t, "%s", counter_description(c));
    }
    table_print(&t, out, NULL);
    return OK;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return strchr(path, '/') != NULL || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static int show(const char *dir, const struct dump_wish *wish, bool json)
{
    struct dump *d = malloc(sizeof *d);

    if (d == NULL)
        check_panic("out of memory");
    int err = dump_load(d, dir, wish);
    if (err < 0) {
        fprintf(stderr, "clockwise-shmdump: %s: no such directory, or not readable\n", dir);
        free(d);
        return REFUSED;
    }
    if (d->file_count == 0)
        fprintf(stderr, "clockwise-shmdump: %s: no segments in this directory\n", dir);
    if (json)
        dump_json(d, wish, stdout);
    else if (d->file_count > 0)
        dump_text(d, wish, stdout);
    for (uint32_t i = 0; json && i < d->file_count; i++) {
        if (d->files[i].err < 0)
            fprintf(stderr, "clockwise-shmdump: %s: %s\n", d->files[i].name, d->files[i].why);
    }
    int status = d->file_count == 0 || d->refused > 0 ? REFUSED : OK;
    dump_close(d);
    free(d);
    return fflush(stdout) == 0 ? status : REFUSED;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},     {"key", required_argument, NULL, 'k'},
        {"counters", no_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},  {NULL, 0, NULL, 0}};
    struct dump_wish wish = {0};
    char dir[SEGMENT_PATH_MAX];
    bool json = false;
    int option;

    check_set_panic(-1, "clockwise-shmdump");
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'j':
            json = true;
            break;
        case 'k':
            wish.key = optarg;
            break;
        case 'c':
            return explain_counters(stdout);
        case 'h':
            help(stdout);
            return OK;
        case 'v':
            printf("clockwise-shmdump %s\n", CLOCKWISE_VERSION);
            return OK;
        default:
            help(stderr);
            return USAGE;
        }
    }
    int err = paths_runtime_default(dir, sizeof dir);
    if (optind < argc && is_directory(argv[optind])) {
        int n = snprintf(dir, sizeof dir, "%s", argv[optind++]);
        err = n < 0 || (size_t)n >= sizeof dir ? -ERR_LIMIT : 0;
    }
    if (err < 0) {
        fprintf(stderr, "clockwise-shmdump: the path of the directory is too long\n");
        return USAGE;
    }
    wish.names = (const char *const *)argv + optind;
    wish.name_count = (uint32_t)(argc - optind);
    return show(dir, &wish, json);
}
