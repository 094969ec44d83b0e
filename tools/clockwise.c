/* clockwise: administers a cluster through the client port of any of its nodes. What it asks for is
 * carried out by that node's gossipd; this tool only speaks and prints. */
#include "tools/lib_resp.h"

#include "base/err.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, REFUSED = 1, UNREACHABLE = 2, USAGE = 64 };

#define WORDS      8
#define TRIES      20
#define TRY_NS     250000000
#define TIMEOUT_MS 10000

struct wish {
    struct resp_client_conf conn;
    const char *user, *password;
    bool json;
    unsigned count; /* words behind "cluster" */
    char **words;
};

static void help(FILE *out)
{
    fputs("usage: clockwise [OPTION]... cluster VERB [ARGUMENT]...\n"
          "\n"
          "Administers a Clockwise cluster through any of its nodes. Changes of the ring are "
          "staged,\n"
          "looked at as a plan, and committed.\n"
          "\n"
          "  join NODE           a node is to join; it runs, but owns nothing yet. NODE is its "
          "name, id\n"
          "                      or ADDRESS:GOSSIP_PORT\n"
          "  leave [NODE]        a node (the one asked) is to give everything away and to end\n"
          "  replace OLD NEW     NEW is to take over what OLD has, which is not waited for\n"
          "  force-remove NODE   a node that will not come back is to be replaced by the others\n"
          "  weight NODE W       a node is to own a share in proportion to W\n"
          "  plan                what would follow from what is staged; gives the plan's id\n"
          "  commit PLAN         carry this plan out\n"
          "  clear               forget what is staged\n"
          "  status              members, what is under way and how far, what is staged, what was "
          "lost\n"
          "\n"
          "  -h, --host HOST     node to ask (default: 127.0.0.1)\n"
          "  -p, --port PORT     its client port (default: 7379)\n"
          "  -a, --password PW   log in; better: in the environment as CLOCKWISE_PASSWORD\n"
          "      --user NAME     as this user\n"
          "      --tls           speak TLS; --cacert FILE: and trust only this authority;\n"
          "                      --cert FILE --key FILE: show this certificate\n"
          "      --json          answers as JSON\n"
          "      --help, --version\n"
          "\n"
          "Exit status: 0; 1 if the request was refused, with the reason; 2 if the node cannot be\n"
          "asked; 64 for wrong usage.\n",
          out);
}

static int wrong(const char *what)
{
    fprintf(stderr, "clockwise: %s; see clockwise --help\n", what);
    return USAGE;
}

/* Like call(), again and again while the node waits for the one who is to join. */
static int call_patiently(struct resp_client *c, const char *const *words, unsigned count,
                          struct slice *text)
{
    static const char again[] = "ERR TRYAGAIN ";
    const struct timespec pause = {.tv_nsec = TRY_NS};
    int rc = -ERR_AGAIN;

    for (int i = 0; i < TRIES && rc == -ERR_AGAIN; i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        rc = resp_client_call(c, words, count, text);
        if (rc == -ERR_DENIED && text->len > sizeof again - 1 &&
            memcmp(text->data, again, sizeof again - 1) == 0) {
            *text = slice_of(text->data + sizeof again - 1, text->len - (sizeof again - 1));
            rc = -ERR_AGAIN;
        }
    }
    return rc == -ERR_AGAIN ? -ERR_DENIED : rc;
}

static int log_in(struct resp_client *c, const struct wish *w)
{
    const char *words[3] = {"AUTH"};
    unsigned count = 1;
    struct slice text;

    if (w->password == NULL)
        return 0;
    if (w->user != NULL)
        words[count++] = w->user;
    words[count++] = w->password;
    int rc = resp_client_call(c, words, count, &text);
    if (rc == -ERR_DENIED)
        snprintf(c->why, sizeof c->why, "%.*s", (int)text.len, (const char *)text.data);
    return rc;
}

static int unreachable(const struct wish *w, const struct resp_client *c, bool connected)
{
    fprintf(stderr, "clockwise: %s:%s: %s%s\n", w->conn.host, w->conn.port, c->why,
            connected && !w->conn.tls ? " (a port that speaks TLS needs --tls)" : "");
    return UNREACHABLE;
}

static int ask(const struct wish *w)
{
    const char *words[WORDS + 2] = {"CW.CLUSTER"};
    unsigned count = 1;
    struct resp_client c;
    struct slice text = slice_of(NULL, 0);
    int status = OK;

    for (unsigned i = 0; i < w->count; i++)
        words[count++] = w->words[i];
    if (w->json)
        words[count++] = "JSON";
    int rc = resp_client_open(&c, &w->conn);
    bool connected = rc == 0;
    if (rc == 0)
        rc = log_in(&c, w);
    if (rc != 0) {
        status = unreachable(w, &c, connected && rc != -ERR_DENIED);
        resp_client_close(&c);
        return status;
    }
    rc = call_patiently(&c, words, count, &text);
    if (rc == 0) {
        fwrite(text.data, 1, text.len, stdout);
    } else if (rc == -ERR_DENIED) {
        if (text.len > 4 && memcmp(text.data, "ERR ", 4) == 0)
            text = slice_of(text.data + 4, text.len - 4);
        fprintf(stderr, "clockwise: %.*s\n", (int)text.len, (const char *)text.data);
        status = REFUSED;
    } else {
        status = unreachable(w, &c, true);
    }
    resp_client_close(&c);
    if (fflush(stdout) != 0)
        status = UNREACHABLE;
    return status;
}

int main(int argc, char **argv)
{
    enum { JSON = 256, HELP, USER, TLS, CACERT, CERT, KEY };
    static const struct option options[] = {{"host", required_argument, NULL, 'h'},
                                            {"port", required_argument, NULL, 'p'},
                                            {"password", required_argument, NULL, 'a'},
                                            {"user", required_argument, NULL, USER},
                                            {"tls", no_argument, NULL, TLS},
                                            {"cacert", required_argument, NULL, CACERT},
                                            {"cert", required_argument, NULL, CERT},
                                            {"key", required_argument, NULL, KEY},
                                            {"json", no_argument, NULL, JSON},
                                            {"help", no_argument, NULL, HELP},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    struct wish w = {.conn = {.host = "127.0.0.1",
                              .port = "7379",
                              .timeout_ms = TIMEOUT_MS,
                              .cert = "",
                              .key = "",
                              .ca = ""},
                     .password = getenv("CLOCKWISE_PASSWORD")};
    int option;

    while ((option = getopt_long(argc, argv, "h:p:a:V", options, NULL)) != -1) {
        switch (option) {
        case 'h':
            w.conn.host = optarg;
            break;
        case 'p':
            w.conn.port = optarg;
            break;
        case 'a':
            w.password = optarg;
            break;
        case USER:
            w.user = optarg;
            break;
        case TLS:
            w.conn.tls = true;
            break;
        case CACERT:
            w.conn.ca = optarg;
            break;
        case CERT:
            w.conn.cert = optarg;
            break;
        case KEY:
            w.conn.key = optarg;
            break;
        case JSON:
            w.json = true;
            break;
        case HELP:
            help(stdout);
            return OK;
        case 'V':
            printf("clockwise %s\n", CLOCKWISE_VERSION);
            return OK;
        default:
            return wrong("unknown option");
        }
    }
    if (optind >= argc || strcmp(argv[optind], "cluster") != 0)
        return wrong("what to do? (cluster VERB)");
    w.words = argv + optind + 1;
    w.count = (unsigned)(argc - optind - 1);
    if (w.count == 0 || w.count > WORDS)
        return wrong("cluster needs a verb");
    return ask(&w);
}
