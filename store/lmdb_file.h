/* What LMDB takes from a data file without a look of its own. Used by lmdb_env.c alone. */
#ifndef CLOCKWISE_STORE_LMDB_FILE_H
#define CLOCKWISE_STORE_LMDB_FILE_H

/* Before the environment in this folder is opened: do the meta pages of its data.mdb agree about the size
 * of a page, and is the file as long as they say? LMDB would divide by the one, map or read beyond the
 * end for the other. A file that is missing or empty, or that is not LMDB's, passes: LMDB says so itself.
 * -ERR_CORRUPT, also if they cannot be read at all; -ERR_DENIED and the like if this process cannot. Another process may be writing the file. Blocks for a read. */
int lmdb_file_check(const char *folder);

#endif
