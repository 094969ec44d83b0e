/* The order in which the processes of a node start and stop. */
#ifndef CLOCKWISE_SUPERVISOR_STAGES_H
#define CLOCKWISE_SUPERVISOR_STAGES_H

#include "supervisor/node.h"

/* Fill the child table and start the first stage. recover: journals of another number of workers must
 * be replayed first. */
void stages_start(struct node *n, bool recover);

/* A process became READY: tell the others, go on with the next stage. */
void stages_process_ready(struct process *p);

/* A worker died while the node runs: its siblings keep what they have for it until the next one is
 * there. */
void stages_worker_died(struct process *p);

/* A process ended for good: the node is stopping, or it runs only once. */
void stages_process_ended(struct process *p, bool ok);

/* Start the next stage if everything before it has had its chance; tell systemd READY at the end. */
void stages_advance(struct node *n);

/* Drain all processes, then insist; the loop stops when the last is gone. Again: SIGKILL at once. */
void stages_stop(struct node *n);

#endif
