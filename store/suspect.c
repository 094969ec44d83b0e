/* Vnodes of which a process has died. Runs in a worker, in its last moments also in a signal handler. */
#include "store/suspect.h"

#include "base/check.h"
#include "base/err.h"
#include "base/log.h"
#include "store/file.h"
#include "store/vnode.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { NOTES = 64 /* read at a time; more are not needed: each is followed by a start */ };

static int notes_fd = -1; /* of the process: it has one store */
static _Thread_local volatile uint32_t working = SUSPECT_NONE, read_last = SUSPECT_NONE;

uint32_t suspect_working(uint32_t partition)
{
    uint32_t before = working;

    working = partition;
    return before;
}

void suspect_reading(uint32_t partition)
{
    read_last = partition;
}

void suspect_note(uint32_t partition)
{
    if (partition == SUSPECT_NONE || notes_fd < 0)
        return;
    ssize_t ignored = write(notes_fd, &partition, sizeof partition);
    (void)ignored;
}

/* One line of /proc/self/maps: FROM-TO ... /PATH/vnodes/PARTITION/data.mdb */
struct line {
    uintptr_t number[2];
    int numbers; /* how many are complete */
    uint32_t partition;
    size_t matched; /* characters of "/vnodes/" */
    bool digits;    /* of the partition are being read */
};

/* The partition of the line that ends here, if the address lies in it. */
static uint32_t partition_at(const struct line *l, uintptr_t address)
{
    return l->numbers == 2 && address >= l->number[0] && address < l->number[1] ? l->partition
                                                                                : SUSPECT_NONE;
}

static void take_number(struct line *l, char c)
{
    if (c == '-' || c == ' ')
        l->numbers++;
    else
        l->number[l->numbers] =
            l->number[l->numbers] << 4 | (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void take_character(struct line *l, char c)
{
    static const char folder[] = "/vnodes/";

    if (l->numbers < 2) {
        take_number(l, c);
    } else if (l->digits && c >= '0' && c <= '9') {
        l->partition = (l->partition == SUSPECT_NONE ? 0 : l->partition * 10) + (uint32_t)(c - '0');
    } else {
        l->digits = false;
        l->matched = c == folder[l->matched] ? l->matched + 1 : c == folder[0];
        if (folder[l->matched] == 0) {
            l->digits = true;
            l->partition = SUSPECT_NONE;
            l->matched = 0;
        }
    }
}

/* Whose map is it that the address lies in? Async-signal-safe. */
static uint32_t find_partition(uintptr_t address)
{
    static const struct line fresh = {.partition = SUSPECT_NONE};
    struct line l = fresh;
    uint32_t found = SUSPECT_NONE;
    char some[512];
    ssize_t n;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return SUSPECT_NONE;
    while (found == SUSPECT_NONE && (n = read(fd, some, sizeof some)) > 0)
        for (ssize_t i = 0; i < n && found == SUSPECT_NONE; i++) {
            if (some[i] != '\n') {
                take_character(&l, some[i]);
                continue;
            }
            found = partition_at(&l, address);
            l = fresh;
        }
    close(fd);
    return found;
}

static void on_crash(const void *address)
{
    uint32_t found;

    if (working != SUSPECT_NONE) {
        suspect_note(working);
        return;
    }
    found = address == NULL ? SUSPECT_NONE : find_partition((uintptr_t)address);
    if (found != SUSPECT_NONE)
        suspect_note(read_last != SUSPECT_NONE ? read_last : found);
}

int suspect_take(const char *journal_dir, const char *data_dir, uint64_t *count)
{
    uint32_t notes[NOTES];
    char path[FILE_PATH];
    size_t got = 0;
    int err;

    file_path(path, "%s/suspects", journal_dir);
    if (notes_fd >= 0)
        close(notes_fd);
    notes_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (notes_fd < 0) {
        err = err_from_errno(errno);
        log_error("cannot open %s: %s", path, err_text(err));
        return err;
    }
    err = file_read_at(notes_fd, notes, sizeof notes, 0, &got);
    for (size_t i = 0; err == 0 && i < got / sizeof notes[0]; i++) {
        err = notes[i] <= UINT16_MAX ? vnode_set_aside(data_dir, notes[i]) : 0;
        (*count)++;
    }
    if (err == 0 && got > 0 && (ftruncate(notes_fd, 0) != 0 || file_sync(notes_fd) != 0))
        err = err_from_errno(errno);
    check_on_crash(on_crash);
    return err;
}
