/* Names and folders of vnodes (vnode.h says which there are), for vnode.c. What others call is in vnode.h. */
#ifndef CLOCKWISE_STORE_VNODE_FILE_H
#define CLOCKWISE_STORE_VNODE_FILE_H

#include "store/vnode.h"

/* What an .id file says. */
struct vnode_expected {
    uint64_t id, commits;
    uint32_t worker;
};

/* -ERR_NOTFOUND, or -ERR_CORRUPT if it is not an .id file. */
int vnode_load_id(const char *data_dir, uint32_t partition, struct vnode_expected *out);

/* The folder of a vnode, into a path buffer of FILE_PATH bytes. */
void vnode_folder(char *out, const char *data_dir, uint32_t partition);

#endif
