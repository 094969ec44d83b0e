/* File calls of the storage engine: whole writes, syncs, directories. Every failure is returned as
 * an enum err; nothing is retried except what a signal interrupted. All functions block.
 *
 * The engine makes its system calls through libc's own names (pwrite, fdatasync, ...), so a test
 * program that defines those names sees, records or fails every one of them, LMDB's included. */
#ifndef CLOCKWISE_STORE_FILE_H
#define CLOCKWISE_STORE_FILE_H

#include "base/slice.h"

#define FILE_PATH 1024 /* longest path, with the final 0 */

/* Write all bytes at the offset. -ERR_DISKFULL, -ERR_IO. */
int file_write_at(int fd, const void *data, size_t len, uint64_t offset);

/* Read up to len bytes at the offset; returns in *got how many there were before the end. */
int file_read_at(int fd, void *data, size_t len, uint64_t offset, size_t *got);

/* fdatasync. A failure must never be followed by another try on the same descriptor. */
int file_sync(int fd);

/* Make the entries of a directory durable. */
int file_sync_dir(const char *path);

/* Make a directory (existing is fine) and its entry in the parent durable. */
int file_make_dir(const char *path);

/* Create or replace a small file so that after any crash either the old or the new is there. */
int file_replace(const char *dir, const char *name, struct slice content);

/* The whole of a file of at most `size` bytes. -ERR_NOTFOUND, -ERR_LIMIT if it is longer. */
int file_load(const char *path, void *data, size_t size, size_t *got);

/* Remove a directory and the plain files in it. A missing directory is fine. */
int file_remove_dir(const char *path);

bool file_exists(const char *path);

/* Bytes of a file, 0 if there is none. */
uint64_t file_size(const char *path);

/* snprintf into a path buffer of FILE_PATH bytes; asserts that it fits (paths are checked when the
 * store is opened). */
void file_path(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
