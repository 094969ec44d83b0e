/* Which boot of the machine a journal belongs to. Runs in a worker when it opens its store. */
#include "store/boot.h"

#include "base/log.h"
#include "store/file.h"

#include <stdio.h>

static const char source[] = "/proc/sys/kernel/random/boot_id";
static const char prefix[] = "clockwise-boot ";

void boot_read_id(char out[BOOT_ID])
{
    size_t got = 0;
    FILE *f = fopen(source, "re"); /* its size is said to be 0: read to the end */

    if (f != NULL) {
        got = fread(out, 1, BOOT_ID - 1, f);
        fclose(f);
    }
    out[got] = 0;
    out[strcspn(out, "\n")] = 0;
    if (out[0] == 0)
        log_warn("%s cannot be read: vnodes take new ids after every unclean end", source);
}

bool boot_is_same(const char *journal_dir, const char *id)
{
    char path[FILE_PATH], line[sizeof prefix + BOOT_ID], want[sizeof prefix + BOOT_ID];
    size_t got;
    int n = snprintf(want, sizeof want, "%s%s\n", prefix, id);

    file_path(path, "%s/boot", journal_dir);
    return id[0] != 0 && file_load(path, line, sizeof line, &got) == 0 && got == (size_t)n &&
           memcmp(line, want, got) == 0;
}

int boot_note(const char *journal_dir, const char *id)
{
    char line[sizeof prefix + BOOT_ID];
    int n = snprintf(line, sizeof line, "%s%s\n", prefix, id);

    if (boot_is_same(journal_dir, id))
        return 0;
    return file_replace(journal_dir, "boot", slice_of(line, (size_t)n));
}
