/* A small mutation driver for fuzz targets where the compiler has no libFuzzer: mutates the files of
 * a corpus (and a few built-in seeds) for some seconds and calls LLVMFuzzerTestOneInput. A crash
 * leaves the input in crash-input.
 *
 *   driver [-max_total_time=SECONDS] [-seed=N] [CORPUS-DIR-OR-FILE...] */
#include "base/rand.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_INPUT ((size_t)1 << 16)
#define MAX_SEEDS 4096

struct seed {
    uint8_t *data;
    size_t len;
};

static struct seed seeds[MAX_SEEDS];
static size_t seed_count;
static uint8_t input[MAX_INPUT];
static size_t input_len;

static const char *const words[] = {"*1\r\n", "*3\r\n", "$3\r\n",     "$-1\r\n",
                                    "\r\n",   "\n",     "SET",        "\"",
                                    "'",      "\\x41",  "2147483648", "$200000000\r\n"};

static void on_crash(int number)
{
    int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd >= 0 && write(fd, input, input_len) == (ssize_t)input_len)
        close(fd);
    signal(number, SIG_DFL);
    raise(number);
}

static void add_seed(const void *data, size_t len)
{
    if (seed_count == MAX_SEEDS || len == 0)
        return;
    len = len < MAX_INPUT ? len : MAX_INPUT;
    uint8_t *copy = malloc(len);
    if (copy == NULL)
        return;
    memcpy(copy, data, len);
    seeds[seed_count++] = (struct seed){copy, len};
}

static void load(const char *path)
{
    static uint8_t data[MAX_INPUT];
    struct stat st;
    DIR *dir;

    if (stat(path, &st) != 0)
        return;
    if (S_ISDIR(st.st_mode) && (dir = opendir(path)) != NULL) {
        struct dirent *e;
        while ((e = readdir(dir)) != NULL) {
            char name[4096];
            snprintf(name, sizeof name, "%s/%s", path, e->d_name);
            if (e->d_name[0] != '.')
                load(name);
        }
        closedir(dir);
        return;
    }
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return;
    size_t len = fread(data, 1, sizeof data, f);
    add_seed(data, len);
    fclose(f);
}

static void insert(struct rand *r, const void *bytes, size_t len)
{
    size_t at = rand_below(r, input_len + 1);

    if (input_len + len > MAX_INPUT)
        return;
    memmove(input + at + len, input + at, input_len - at);
    memcpy(input + at, bytes, len);
    input_len += len;
}

static void mutate(struct rand *r)
{
    size_t at = input_len == 0 ? 0 : rand_below(r, input_len);
    size_t len = input_len == 0 ? 0 : 1 + rand_below(r, input_len - at);
    uint8_t bytes[16];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rand_next(r);
    switch (rand_below(r, 7)) {
    case 0:
        if (input_len > 0)
            input[at] ^= (uint8_t)(1u << rand_below(r, 8));
        break;
    case 1:
        if (input_len > 0)
            input[at] = bytes[0];
        break;
    case 2:
        insert(r, bytes, 1 + rand_below(r, sizeof bytes));
        break;
    case 3:
        memmove(input + at, input + at + len, input_len - at - len);
        input_len -= len;
        break;
    case 4: {
        const char *word = words[rand_below(r, sizeof words / sizeof *words)];
        insert(r, word, strlen(word));
        break;
    }
    case 5: {
        const struct seed *s = &seeds[rand_below(r, seed_count)];
        size_t from = rand_below(r, s->len);
        insert(r, s->data + from, 1 + rand_below(r, s->len - from));
        break;
    }
    default:
        input_len = at;
        break;
    }
}

int main(int argc, char **argv)
{
    unsigned long seconds = 10, seed = (unsigned long)time(NULL);
    unsigned long long runs = 0;
    struct rand r;

    for (int i = 1; i < argc; i++) {
        if (sscanf(argv[i], "-max_total_time=%lu", &seconds) == 1 ||
            sscanf(argv[i], "-seed=%lu", &seed) == 1 || argv[i][0] == '-')
            continue;
        load(argv[i]);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        add_seed(words[i], strlen(words[i]));
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    rand_seed(&r, seed);
    time_t end = time(NULL) + (time_t)seconds;
    for (size_t i = 0; i < seed_count; i++) {
        memcpy(input, seeds[i].data, input_len = seeds[i].len);
        LLVMFuzzerTestOneInput(input, input_len);
    }
    while (time(NULL) < end) {
        for (int i = 0; i < 500; i++, runs++) {
            const struct seed *s = &seeds[rand_below(&r, seed_count)];
            memcpy(input, s->data, input_len = s->len);
            for (uint64_t n = 1 + rand_below(&r, 12); n > 0; n--)
                mutate(&r);
            LLVMFuzzerTestOneInput(input, input_len);
        }
    }
    printf("%llu runs, seed %lu, no failure\n", runs, seed);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    return 0;
}
