/* When this node was last in touch. See touch.h. */
#include "store/touch.h"

#include "base/err.h"
#include "store/file.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const name = "in-touch";

int store_touch_load(const char *data_dir, uint64_t *epoch, uint64_t *ms)
{
    char path[FILE_PATH], line[128];
    size_t got;
    int err;

    file_path(path, "%s/%s", data_dir, name);
    err = file_load(path, line, sizeof line - 1, &got);
    if (err != 0)
        return err == -ERR_LIMIT ? -ERR_CORRUPT : err;
    line[got] = 0;
    return sscanf(line, "clockwise-in-touch epoch %" SCNu64 " ms %" SCNu64, epoch, ms) == 2
               ? 0
               : -ERR_CORRUPT;
}

int store_touch_save(const char *data_dir, uint64_t epoch, uint64_t ms)
{
    char line[128];
    int n = snprintf(line, sizeof line, "clockwise-in-touch epoch %" PRIu64 " ms %" PRIu64 "\n",
                     epoch, ms);

    return file_replace(data_dir, name, slice_of(line, (size_t)n));
}
