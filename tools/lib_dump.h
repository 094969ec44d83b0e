/* What clockwise-shmdump knows after it has looked at a runtime directory. Everything is mapped
 * read-only or copied; nobody is disturbed. lib_dump.c loads, lib_dump_text.c and lib_dump_json.c
 * print. */
#ifndef CLOCKWISE_TOOLS_LIB_DUMP_H
#define CLOCKWISE_TOOLS_LIB_DUMP_H

#include "core/position.h"
#include "core/ring.h"
#include "shm/gossip_seg.h"
#include "shm/mailbox.h"
#include "shm/node_seg.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"

#include <stdio.h>

#define DUMP_FILES (2 * LIMIT_WORKERS + 32)
#define DUMP_NAME  64

/* One *.seg file of the directory. */
struct dump_file {
    char name[DUMP_NAME];
    uint32_t kind; /* as its name says; 0: no name of ours */
    uint32_t index;
    int err;                   /* why it was refused, 0: it was not */
    char why[SEGMENT_WHY_MAX]; /* the reason in words */
    const struct segment *seg; /* NULL: not even its header can be believed */
    bool layout_known;         /* seg's body is as this build knows it */
    bool alive;                /* its writer runs */
    struct segment other;      /* holds a segment of another layout */
};

struct dump {
    char dir[SEGMENT_PATH_MAX];
    uint64_t now_ms, now_mono_us;
    uint32_t file_count, refused;
    struct dump_file files[DUMP_FILES];

    struct node_seg node;
    struct ring_seg ring;
    struct gossip_seg gossip;
    struct repair_seg repair;
    struct worker_seg workers[LIMIT_WORKERS]; /* body NULL: not there */
    struct segment mail[LIMIT_WORKERS];       /* not mapped: not there */
    bool worker_alive[LIMIT_WORKERS];

    int node_err, ring_err, gossip_err; /* of reading what is published inside; 0: it is there */
    struct node_view node_view;
    struct ring_view ring_view;
    struct gossip_view gossip_view;
};

/* What is asked for: everything, or some segments; and the place of a key. */
struct dump_wish {
    const char *const *names; /* "ring", "worker-1", with or without ".seg" */
    uint32_t name_count;      /* 0: all */
    const char *key;          /* NULL: none */
};

/* Look at all segments of dir that are wished for. -ERR_NOTFOUND if there is no such directory.
 * Segments that are refused are among files, with their reason, and counted. */
int dump_load(struct dump *d, const char *dir, const struct dump_wish *wish);
void dump_close(struct dump *d);

/* Print. */
void dump_text(const struct dump *d, const struct dump_wish *wish, FILE *out);
void dump_json(const struct dump *d, const struct dump_wish *wish, FILE *out);

/* Shared by both ways of printing. */

/* All workers' histograms of one kind together. */
void dump_latency(const struct dump *d, enum worker_hist h, struct hist *out);
/* The counters of a file, of any build, or NULL. */
const struct counter_block *dump_counters(const struct dump_file *f);
/* Bytes that lie unread in the ring between two workers; head is what the consumer has taken, and is
 * base unless the consumer has begun the epoch. */
struct dump_ring {
    struct mailbox_row row;
    uint64_t head, unread, ring_bytes;
    bool begun; /* the consumer reads this epoch */
};
/* false: there is no such ring. */
bool dump_mail(const struct dump *d, uint32_t from, uint32_t to, struct dump_ring *out);
const char *dump_member_state(uint32_t state);

#endif
