/* The state of one supervisor, shared by its files. */
#ifndef CLOCKWISE_SUPERVISOR_NODE_H
#define CLOCKWISE_SUPERVISOR_NODE_H

#include "conf/conf.h"
#include "core/ring.h"
#include "ipc/channel.h"
#include "ipc/loop.h"
#include "shm/node_seg.h"
#include "supervisor/listeners.h"
#include "supervisor/roles.h"

#include <sys/types.h>

struct node;

/* One entry of the child table. It lives as long as the node; the process in it comes and goes. */
struct process {
    struct node *node;
    const struct role *role;
    uint32_t index;
    char name[24]; /* "worker 1", "gossipd" */
    pid_t pid;     /* 0: none */
    enum node_child_state state;
    int channel, panic; /* -1: none */
    struct loop_watch channel_watch;
    struct loop_timer timer; /* what happens next by itself: patience ends, a restart, a kill */
    uint64_t incarnation;
    uint64_t started_us, since_ms;
    uint64_t asked_us;   /* when the oldest PING that is not answered was sent; 0: none */
    uint64_t kill_score; /* restarts after kills from outside that have not been forgotten yet */
    uint64_t kill_score_us;
    uint32_t restarts; /* in all */
    uint32_t row;      /* in a row, without a decent life between them */
    bool attempted;    /* has been READY or has died since the node started */
    bool hung;         /* killed by us for not answering */
    char status[CHANNEL_TEXT];
    char last_exit[NODE_SEG_REASON];
};

enum node_phase { NODE_STARTING, NODE_RUNNING, NODE_STOPPING };

struct node {
    struct loop *loop;
    const char *config_file; /* NULL: defaults */
    struct conf conf;
    char effective[CONF_RUNTIME_PATH + 32];
    char program_dir[CONF_PATH];
    struct node_id id;
    int data_lock, runtime_lock;
    uint64_t started_ms;
    uint64_t next_incarnation; /* wall clock of the start << 20, plus a count */
    struct listeners listeners;
    enum node_phase phase;
    unsigned stage; /* roles up to this stage have been started */
    int exit_status;
    uint32_t process_count;
    struct process processes[NODE_SEG_CHILDREN];
    struct loop_timer tick, stop_timer;
    uint64_t tick_us, notified_us; /* when the last tick and the last WATCHDOG=1 were */
    struct loop_watch signal_watch;
    int signal_fd;
    unsigned stop_step;
    struct loop_task report_task;
    struct node_seg seg;
    struct node_view view;
    char status[NODE_SEG_REASON]; /* as last told to systemd */
};

#endif
