/* Default directories. Used by the configuration and by tools; creates nothing. */
#include "base/paths.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* systemd lists several directories separated by colons; the first is ours. */
static int first_of(const char *list, char *out, size_t size)
{
    size_t len = strcspn(list, ":");

    if (len >= size || len >= PATHS_MAX)
        return -ERR_LIMIT;
    memcpy(out, list, len);
    out[len] = 0;
    return 0;
}

static int joined(char *out, size_t size, const char *dir, const char *rest)
{
    int n = snprintf(out, size, "%s%s", dir, rest);

    return n < 0 || (size_t)n >= size || n >= PATHS_MAX ? -ERR_LIMIT : 0;
}

static int in_tmp(char *out, size_t size, const char *suffix)
{
    int n = snprintf(out, size, "/tmp/clockwise-%u%s", (unsigned)getuid(), suffix);

    return n < 0 || (size_t)n >= size ? -ERR_LIMIT : 0;
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != 0 ? value : NULL;
}

int paths_runtime_default(char *out, size_t size)
{
    const char *value = setting("RUNTIME_DIRECTORY");

    if (value != NULL)
        return first_of(value, out, size);
    value = setting("XDG_RUNTIME_DIR");
    if (value != NULL)
        return joined(out, size, value, "/clockwise");
    return in_tmp(out, size, "");
}

int paths_state_default(char *out, size_t size)
{
    const char *value = setting("STATE_DIRECTORY");

    if (value != NULL)
        return first_of(value, out, size);
    value = setting("XDG_STATE_HOME");
    if (value != NULL)
        return joined(out, size, value, "/clockwise");
    value = setting("HOME");
    if (value != NULL)
        return joined(out, size, value, "/.local/state/clockwise");
    return in_tmp(out, size, "-data");
}
