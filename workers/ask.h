/* What a worker asks other workers on behalf of its clients, beside reads and writes of keys: the keys
 * of a partition (of any node), what replicas hold of a key, and things to do among the connections of its
 * siblings. And the
 * answering side of both. One table of fixed size; one thread; nothing blocks: what this worker asks
 * itself is answered in a later turn, and no answer looks at more than ASK_ROWS records. */
#ifndef CLOCKWISE_WORKERS_ASK_H
#define CLOCKWISE_WORKERS_ASK_H

#include "workers/worker.h"

#define ASK_ROWS 256u /* records looked at for one question */

struct ask_table;

/* -ERR_NOMEM. */
int ask_open(struct worker *w);
void ask_close(struct worker *w);

/* The engine's scan, show and run; see engine.h. */
int ask_scan(void *arg, uint64_t token, const struct engine_scan *scan);
int ask_show(void *arg, uint64_t token, uint16_t member, struct slice key);
int ask_run(void *arg, uint64_t token, uint16_t worker, struct slice words);

/* Is this message a question or an answer of ours? Then it is dealt with. */
bool ask_receive(struct worker *w, uint16_t member, uint16_t worker, const struct msg *m);

/* What was sent there and is not answered will not be. */
void ask_link_down(struct worker *w, uint16_t member, uint16_t worker);

#endif
