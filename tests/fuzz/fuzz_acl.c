/* Fuzz target: users from text, as a file or another worker hands them over. What is accepted must be
 * printed so that it is read again as the same, and judging a command by it must not fail. */
#include "base/check.h"
#include "base/err.h"
#include "workers/acl.h"
#include "workers/command.h"

#include <stdlib.h>

static void judge(const struct acl *a)
{
    const struct slice argv[] = {slice_str("set"), slice_str("key"), slice_str("v"),
                                 slice_str("get")};
    uint32_t bad;

    for (uint32_t i = 0; i < a->count; i++) {
        const struct acl_user *u = a->users[i];
        enum acl_verdict verdict = acl_check(u, command_find(argv[0]), 4, argv, &bad);

        ASSERT(!acl_user_unlimited(u) || verdict == ACL_ALLOWED);
        ASSERT(verdict != ACL_NO_KEY || bad == 1);
        struct acl_user *copy = acl_user_copy(u);
        ASSERT(copy != NULL && acl_check(copy, command_find(argv[0]), 4, argv, &bad) == verdict);
        acl_user_unref(copy);
    }
}

static void read_again(const struct acl *a)
{
    struct acl again;
    struct buf once = {0}, twice = {0};
    char why[ACL_WHY];

    ASSERT(acl_open(&again, NULL) == 0 && acl_print(a, true, &once) == 0);
    struct slice text = slice_of(buf_head(&once), buf_len(&once));
    if (acl_parse(&again, text, "again", true, why) != 0)
        check_panic("%s in: %.*s", why, (int)text.len, (const char *)text.data);
    ASSERT(acl_print(&again, true, &twice) == 0);
    ASSERT(slice_equal(text, slice_of(buf_head(&twice), buf_len(&twice))));
    judge(&again);
    buf_free(&once);
    buf_free(&twice);
    acl_close(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct acl a;
    char why[ACL_WHY] = "";

    command_setup();
    ASSERT(acl_open(&a, NULL) == 0);
    int rc = acl_parse(&a, slice_of(data, size), "file", false, why);
    if (rc == 0) {
        judge(&a);
        read_again(&a);
    } else {
        ASSERT(why[0] != 0 && a.count == 1);
    }
    acl_close(&a);
    return 0;
}
