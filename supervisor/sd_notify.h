/* What systemd is told (sd_notify(3)): datagrams to the socket that NOTIFY_SOCKET names. Without it
 * every function does nothing. Never blocks; a datagram that cannot be sent is dropped. */
#ifndef CLOCKWISE_SUPERVISOR_SD_NOTIFY_H
#define CLOCKWISE_SUPERVISOR_SD_NOTIFY_H

#include <stdint.h>

/* Read the environment and remove the variables from it, so that no child speaks for us. */
void sd_notify_setup(void);

/* Send assignments, one per line, as "READY=1\nSTATUS=...". */
void sd_notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How often to send WATCHDOG=1: half of what systemd expects, in microseconds; 0: not at all. */
uint64_t sd_notify_watchdog_us(void);

#endif
