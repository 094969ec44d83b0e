/* Obituaries of children. Runs in the supervisor; what a child wrote is text to show, never to
 * interpret. */
#include "supervisor/obituary.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first line of the pipe, printable. */
static size_t last_words(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;

    while ((ssize_t)len < n && out[len] != '\n') {
        if ((unsigned char)out[len] < ' ' || out[len] == 127)
            out[len] = '?';
        len++;
    }
    out[len] = 0;
    return len;
}

void obituary_write(int status, uint64_t lived_us, int panic_fd, char *out, size_t size)
{
    char words[512];
    size_t len = last_words(panic_fd, words, sizeof words);
    double lived_s = (double)lived_us / 1e6;
    const char *colon = len > 0 ? ": " : "";

    if (WIFSIGNALED(status))
        snprintf(out, size, "died of signal %d after %.1f s%s%s", WTERMSIG(status), lived_s, colon,
                 words);
    else
        snprintf(out, size, "exited with %d after %.1f s%s%s", WEXITSTATUS(status), lived_s, colon,
                 words);
}
