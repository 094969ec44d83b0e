/* What the supervisor tells people: node.seg for tools, STATUS for systemd. */
#ifndef CLOCKWISE_SUPERVISOR_REPORT_H
#define CLOCKWISE_SUPERVISOR_REPORT_H

#include "supervisor/node.h"

/* Make node.seg. 0 or an error with a reason in error. */
int report_open(struct node *n, char *error, size_t error_size);

/* Publish at the end of this turn of the loop; publish now. */
void report_later(struct node *n);
void report_now(struct node *n);

#endif
