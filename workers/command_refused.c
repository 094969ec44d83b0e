/* The index of refused commands, made from command_refused.def. Runs in workers; pure. */
#include "workers/command_refused.h"

#include "base/check.h"

#include <stdlib.h>
#include <strings.h>

#define MOST 256

struct refused {
    struct slice name;
    const char *why;
};

static const struct {
    const char *names, *why;
} groups[] = {
#define REFUSED(group, names, why) {names, why},
#include "workers/command_refused.def"
#undef REFUSED
};

static struct refused refused[MOST]; /* sorted by name */
static size_t refused_count;

static int by_name(const void *a, const void *b)
{
    const struct slice *x = &((const struct refused *)a)->name;
    const struct slice *y = &((const struct refused *)b)->name;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = strncasecmp((const char *)x->data, (const char *)y->data, len);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

void command_refused_setup(void)
{
    refused_count = 0;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        const char *at = groups[i].names;

        while (*at != '\0') {
            size_t len = strcspn(at, " ");

            ASSERT(refused_count < MOST);
            refused[refused_count++] = (struct refused){slice_of(at, len), groups[i].why};
            at += len + strspn(at + len, " ");
        }
    }
    qsort(refused, refused_count, sizeof *refused, by_name);
}

const char *command_refused_why(struct slice name)
{
    struct refused wanted = {.name = name};
    const struct refused *found =
        bsearch(&wanted, refused, refused_count, sizeof *refused, by_name);

    return found != NULL ? found->why : NULL;
}
