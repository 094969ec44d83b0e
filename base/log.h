/* Log lines to standard error: one line each, "<priority>process: text" under systemd (the prefix
 * is sd-daemon's), with a time stamp otherwise. Never blocks for longer than a write to standard
 * error does; never called per request. */
#ifndef CLOCKWISE_BASE_LOG_H
#define CLOCKWISE_BASE_LOG_H

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

/* Name of this process in every line and the least important level that is printed. The string
 * must stay valid. */
void log_setup(const char *process_name, enum log_level level);

void log_at(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)  log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)   log_at(LOG_WARN, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)   log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)  log_at(LOG_DEBUG, __VA_ARGS__)

/* The level named "error", "warn", "notice", "info" or "debug", or -ERR_INVAL. */
int log_level_parse(const char *name);

#endif
