/* The child table: start, watch, replace, stop one process. */
#ifndef CLOCKWISE_SUPERVISOR_PROCESS_H
#define CLOCKWISE_SUPERVISOR_PROCESS_H

#include "supervisor/node.h"

/* Fill one entry of the table; starts nothing. */
void process_init(struct process *p, struct node *n, const struct role *role, uint32_t index);

/* Start the process of this entry. A failure is treated like its death. */
void process_start(struct process *p);

/* The process has died, as waitpid() said: log it, and arrange for its successor unless the node is
 * stopping. */
void process_died(struct process *p, int wait_status);

/* Send one message. A process that does not empty its channel is caught by the watchdog. */
void process_send(struct process *p, const struct channel_msg *msg);

/* PING, and kill it if it has been silent for too long. patient: our own clock stood still, forgive. */
void process_check(struct process *p, bool patient);

/* Stopping: ask it to drain, or send a signal if that did not help. */
void process_drain(struct process *p);
void process_signal(struct process *p, int signal_number);

#endif
