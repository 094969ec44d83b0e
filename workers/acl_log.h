/* What the ACL has refused lately, at one worker: logins, commands, keys. Bounded; refusals that are
 * alike and close in time are one entry. Used by workers; one thread; no system call. */
#ifndef CLOCKWISE_WORKERS_ACL_LOG_H
#define CLOCKWISE_WORKERS_ACL_LOG_H

#include "base/buf.h"
#include "core/limits.h"
#include "workers/resp_reply.h"

#define ACL_LOG_TEXT 128 /* bytes kept of a name, with the final 0 */

enum acl_refusal { ACL_REFUSED_AUTH, ACL_REFUSED_COMMAND, ACL_REFUSED_KEY };

/* No pointers: workers of a node, which are of one build, hand each other entries as they are. */
struct acl_log_entry {
    uint64_t id, count;
    uint64_t created_ms, updated_ms; /* wall clock */
    uint64_t touched;                /* rises with every refusal of its worker */
    uint64_t reason;                 /* enum acl_refusal */
    char object[ACL_LOG_TEXT], user[ACL_LOG_TEXT];
    char client[512]; /* as CLIENT INFO shows it, without end of line */
};

struct acl_log {
    uint64_t next_id, touched;
    uint32_t most; /* how many may be kept */
    uint32_t count;
    struct acl_log_entry *entries[LIMIT_ACL_LOG]; /* newest first */
};

/* Note a refusal; without memory it is not noted. client: see above. */
void acl_log_note(struct acl_log *l, uint64_t now_ms, enum acl_refusal reason, struct slice object,
                  struct slice user, struct slice client);

void acl_log_clear(struct acl_log *l);

/* Append all entries as they are; and reply such, of any number of workers, the newest first and at
 * most so many. The entries are put in order. */
void acl_log_collect(const struct acl_log *l, struct resp_out *raw);
void acl_log_reply(struct acl_log_entry *entries, size_t count, uint64_t now_ms, uint64_t most,
                   struct resp_out *out);

#endif
