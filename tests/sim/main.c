/* The simulator's command line. Each seed runs in a child process of its own, so that a failed assertion
 * of the code under test is a failed seed and no more. */
#include "tests/sim/sim.h"

#include "base/check.h"

#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int sim_bug = BUG_NONE;

static const struct {
    const char *name, *text;
} bugs[] = {
    {"NONE", ""},
#define X(name, text) {#name, text},
#include "core/planted.def"
#undef X
};
enum { BUGS = sizeof bugs / sizeof bugs[0] };

enum { MAX_JOBS = 64, BUG_SEEDS = 1500 };

struct result {
    bool failed;
    uint64_t trace;
};

struct job {
    pid_t pid; /* 0: none */
    int fd;
    uint64_t seed;
};

/* What one call runs. */
struct batch {
    struct sim_options options;
    uint64_t first, last;
    unsigned jobs;
    bool stop_at_failure, silent;
    const char *program;
    struct result *results; /* [last - first + 1] */
    uint64_t failed, ran, first_failed;
};

static void start_job(struct job *job, const struct batch *b, uint64_t seed)
{
    int fds[2];

    fflush(NULL);
    if (pipe(fds) != 0)
        check_panic("no pipe");
    job->pid = fork();
    if (job->pid < 0)
        check_panic("no fork");
    if (job->pid == 0) {
        struct sim_options options = b->options;

        close(fds[0]);
        if (b->silent && freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        alarm(120); /* a run that never ends has failed */
        options.seed = seed;
        uint64_t trace = sim_run(&options);

        fflush(stdout);
        _exit(write(fds[1], &trace, sizeof trace) == sizeof trace ? 0 : 2);
    }
    close(fds[1]);
    job->fd = fds[0];
    job->seed = seed;
}

static void say_failed(const struct batch *b, uint64_t seed, int status)
{
    if (b->silent)
        return;
    if (WIFSIGNALED(status))
        fprintf(stderr, "seed %llu: died of signal %d\n", (unsigned long long)seed,
                WTERMSIG(status));
    printf("FAILED seed %llu; again: %s --seeds %llu-%llu --log", (unsigned long long)seed,
           b->program, (unsigned long long)seed, (unsigned long long)seed);
    if (sim_bug != BUG_NONE)
        printf(" --bug %s", bugs[sim_bug].name);
    if (b->options.ring)
        printf(" --ring");
    if (b->options.repair)
        printf(" --repair");
    if (b->options.nodes != 0)
        printf(" --nodes %u", b->options.nodes);
    if (b->options.ops != 0)
        printf(" --ops %u", b->options.ops);
    printf("\n");
    fflush(stdout);
}

static void end_job(struct job *job, struct batch *b)
{
    struct result *result = &b->results[job->seed - b->first];
    int status;
    bool ok = read(job->fd, &result->trace, sizeof result->trace) == sizeof result->trace;

    close(job->fd);
    if (waitpid(job->pid, &status, 0) != job->pid)
        check_panic("a child is gone");
    job->pid = 0;
    b->ran++;
    result->failed = !ok || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (!result->failed)
        return;
    if (b->failed++ == 0 || job->seed < b->first_failed)
        b->first_failed = job->seed;
    say_failed(b, job->seed, status);
}

static void run_batch(struct batch *b)
{
    struct job jobs[MAX_JOBS] = {{0}};
    uint64_t next = b->first;

    b->results = calloc(b->last - b->first + 1, sizeof b->results[0]);
    if (b->results == NULL)
        check_panic("no memory");
    for (;;) {
        struct pollfd polled[MAX_JOBS];
        unsigned running = 0;

        for (unsigned i = 0; i < b->jobs; i++) {
            bool stop = b->stop_at_failure && b->failed > 0;

            if (jobs[i].pid == 0 && next <= b->last && !stop)
                start_job(&jobs[i], b, next++);
            polled[i] = (struct pollfd){jobs[i].pid != 0 ? jobs[i].fd : -1, POLLIN, 0};
            running += jobs[i].pid != 0;
        }
        if (running == 0)
            return;
        poll(polled, b->jobs, -1);
        for (unsigned i = 0; i < b->jobs; i++)
            if (jobs[i].pid != 0 && polled[i].revents != 0)
                end_job(&jobs[i], b);
        if (!b->silent && b->ran % 500 == 0 && b->last - b->first >= 999) {
            printf("%llu seeds, %llu failed\n", (unsigned long long)b->ran,
                   (unsigned long long)b->failed);
            fflush(stdout);
        }
    }
}

static int summary(uint64_t passed, uint64_t failed)
{
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed > 0 || passed == 0;
}

/* Each planted bug must be found, and the same seeds must pass without it. */
static int check_bugs(const struct batch *like)
{
    uint64_t found = 0;

    for (sim_bug = 1; sim_bug < BUGS; sim_bug++) {
        struct batch b = *like;

        b.first = 1;
        b.last = BUG_SEEDS;
        b.stop_at_failure = b.silent = true;
        run_batch(&b);
        free(b.results);
        if (b.failed == 0) { /* some show where the ring changes in every run */
            b.options.ring = true;
            run_batch(&b);
            free(b.results);
        }
        if (b.failed > 0)
            printf("found %s at seed %llu\n", bugs[sim_bug].name,
                   (unsigned long long)b.first_failed);
        else
            printf("MISSED %s in %llu seeds\n", bugs[sim_bug].name, (unsigned long long)b.ran);
        fflush(stdout);
        found += b.failed > 0;
    }
    return summary(found, BUGS - 1 - found);
}

/* The same seeds, once one by one and once side by side, give the same traces. */
static int check_replay(const struct batch *like)
{
    struct batch one = *like, two = *like;
    uint64_t equal = 0, total = like->last - like->first + 1;

    one.jobs = 1;
    two.jobs = 2;
    run_batch(&one);
    run_batch(&two);
    for (uint64_t i = 0; i < total; i++)
        equal += !one.results[i].failed && one.results[i].trace == two.results[i].trace;
    free(one.results);
    free(two.results);
    return summary(equal, total - equal);
}

static void usage(FILE *out)
{
    fprintf(out,
            "usage: sim --seeds A-B [--bug NAME] [--jobs J] [--nodes N] [--ops N] [--trace] "
            "[--log] [--ring] [--repair] [--until-failure]\n"
            "       sim --list-bugs | --check-bugs | --check-replay\n"
            "--ring changes the ring in every run, not in some of them; --repair likewise runs\n"
            "anti-entropy;\n"
            "--trace prints the trace hash of each seed, --log every event;\n"
            "--check-bugs plants one bug after the other and looks for a seed that finds it;\n"
            "--check-replay runs the seeds twice and compares the traces.\n");
}

static bool parse_seeds(const char *text, struct batch *b)
{
    char *end;

    b->first = b->last = strtoull(text, &end, 10);
    if (*end == '-')
        b->last = strtoull(end + 1, &end, 10);
    return *end == 0 && end != text && b->first <= b->last && b->last - b->first < 10000000;
}

static int find_bug(const char *name)
{
    for (int i = 1; i < BUGS; i++)
        if (strcmp(bugs[i].name, name) == 0)
            return i;
    fprintf(stderr, "sim: no bug is called %s; see --list-bugs\n", name);
    exit(2);
}

static int list_bugs(void)
{
    for (int i = 1; i < BUGS; i++)
        printf("%-24s %s\n", bugs[i].name, bugs[i].text);
    return 0;
}

static int report(const struct batch *b, bool trace)
{
    for (uint64_t seed = b->first; trace && seed <= b->last; seed++)
        if (!b->results[seed - b->first].failed)
            printf("seed %llu trace %016llx\n", (unsigned long long)seed,
                   (unsigned long long)b->results[seed - b->first].trace);
    return summary(b->ran - b->failed, b->failed);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 's'},
                                            {"bug", required_argument, NULL, 'b'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"nodes", required_argument, NULL, 'n'},
                                            {"ops", required_argument, NULL, 'o'},
                                            {"until-failure", no_argument, NULL, 'u'},
                                            {"trace", no_argument, NULL, 't'},
                                            {"ring", no_argument, NULL, 'r'},
                                            {"repair", no_argument, NULL, 'e'},
                                            {"log", no_argument, NULL, 'l'},
                                            {"list-bugs", no_argument, NULL, 'L'},
                                            {"check-bugs", no_argument, NULL, 'C'},
                                            {"check-replay", no_argument, NULL, 'R'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct batch b = {.first = 1, .last = 20, .jobs = 1, .program = argv[0]};
    bool trace = false;
    int mode = 0, c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 's' && parse_seeds(optarg, &b))
            continue;
        else if (c == 'b')
            sim_bug = find_bug(optarg);
        else if (c == 'j')
            b.jobs = (unsigned)atoi(optarg);
        else if (c == 'n')
            b.options.nodes = (unsigned)atoi(optarg);
        else if (c == 'o')
            b.options.ops = (unsigned)atoi(optarg);
        else if (c == 'r')
            b.options.ring = true;
        else if (c == 'e')
            b.options.repair = true;
        else if (c == 't')
            trace = true;
        else if (c == 'u')
            b.stop_at_failure = true;
        else if (c == 'l')
            b.options.log = true;
        else if (c == 'L' || c == 'C' || c == 'R')
            mode = c;
        else {
            usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (b.jobs < 1 || b.jobs > MAX_JOBS || b.options.nodes > SIM_NODES || b.options.nodes == 1 ||
        b.options.nodes == 2 || optind != argc) {
        usage(stderr);
        return 2;
    }
    if (mode == 'L')
        return list_bugs();
    if (mode == 'C')
        return check_bugs(&b);
    if (mode == 'R')
        return check_replay(&b);
    run_batch(&b);
    int code = report(&b, trace);

    free(b.results);
    return code;
}
