/* CW.CLUSTER: what administrators ask gossipd for. Runs in workers; only carries words. */
#include "base/err.h"
#include "workers/cmd.h"

#define WORDS_MAX 1024

static void answer_admin(struct pending *p, uint32_t part, const struct coord_reply *answer,
                         struct resp_out *out)
{
    struct slice text = answer->object;

    (void)part;
    if (answer->status != 0 || text.len == 0)
        call_fail(p, out, "ERR gossipd has not answered: %s",
                  err_text(answer->status != 0 ? answer->status : -ERR_FORMAT));
    else if (text.data[0] == '-')
        call_fail(p, out, "ERR %.*s", (int)(text.len - 1), (const char *)text.data + 1);
    else
        resp_verbatim(out, "txt", slice_of(text.data + 1, text.len - 1));
}

enum call_result cmd_cw_cluster(struct call *call)
{
    const struct engine *e = call->engine;
    char words[WORDS_MAX];
    size_t len = 0;

    for (uint32_t i = 1; i < call->argc; i++) {
        struct slice word = call->argv[i];

        if (word.len >= sizeof words - len || memchr(word.data, 0, word.len) != NULL)
            return call_syntax_error(call);
        memcpy(words + len, word.data, word.len);
        len += word.len;
        words[len++] = 0;
    }
    if (e->admin == NULL)
        return call_error(call, "ERR this worker has no gossipd");
    uint64_t token = call_wait(call, answer_admin);
    int rc = e->admin(e->arg, token, slice_of(words, len));
    if (rc != 0) {
        struct coord_reply failed = {.status = rc};

        clients_reply(call->clients, token, &failed);
    }
    return CALL_DONE;
}
