/* Where a node keeps its files when nobody says otherwise. Reads the environment only. */
#ifndef CLOCKWISE_BASE_PATHS_H
#define CLOCKWISE_BASE_PATHS_H

#include <stddef.h>

#define PATHS_MAX 240 /* bytes of a directory, with the final 0 */

/* The runtime directory: $RUNTIME_DIRECTORY (systemd's; the first if there are several), else
 * $XDG_RUNTIME_DIR/clockwise, else /tmp/clockwise-UID. 0, or -ERR_LIMIT if it does not fit. Makes
 * nothing. */
int paths_runtime_default(char *out, size_t size);

/* The data directory: $STATE_DIRECTORY (likewise), else $XDG_STATE_HOME/clockwise, else
 * $HOME/.local/state/clockwise, else /tmp/clockwise-UID-data. Results as above. */
int paths_state_default(char *out, size_t size);

#endif
