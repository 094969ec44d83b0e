/* antientropyd: finds and mends differences between replicas in the background. This file brings the
 * process up: configuration, loop, its progress segment, read-only maps of the ring view and of the
 * workers' segments, which it follows across restarts of their writers. Writes nothing but
 * repair.seg. */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "ipc/child.h"
#include "ipc/loop.h"
#include "shm/repair_seg.h"
#include "shm/ring_seg.h"
#include "shm/worker_seg.h"

#include <stdlib.h>

#define LOOK_US 1000000u

struct antientropyd {
    struct child child;
    struct conf conf;
    struct loop *loop;
    struct repair_seg repair;
    struct ring_seg ring;
    struct ring_view view; /* epoch 0: none yet */
    struct worker_seg workers[LIMIT_WORKERS];
    uint32_t worker_count; /* rows of workers that were opened */
    struct loop_timer look;
};

static struct antientropyd the_antientropyd;

static _Noreturn void give_up(const char *what, int rc, const char *why)
{
    log_error("%s: %s: %s", what, err_text(rc), why);
    exit(1);
}

static void read_ring(struct antientropyd *a)
{
    static struct ring_view fresh; /* 90 KiB: not for the stack */

    if (!ring_seg_changed(&a->ring) || ring_seg_read(&a->ring, &fresh) != 0)
        return;
    if (fresh.epoch != 0 && fresh.epoch != a->view.epoch)
        log_info("ring epoch %llu: %u members", (unsigned long long)fresh.epoch,
                 fresh.member_count);
    a->view = fresh;
}

/* Restarted writers put new files in place; one stat call each while nothing has changed. */
static void on_look(void *arg)
{
    struct antientropyd *a = arg;

    ring_seg_refresh(&a->ring);
    for (uint32_t i = 0; i < a->worker_count; i++)
        worker_seg_refresh(&a->workers[i]);
    read_ring(a);
    child_status(&a->child, a->view.epoch == 0 ? "waiting for the ring" : "idle");
    loop_arm(a->loop, &a->look, loop_now_us(a->loop) + LOOK_US, on_look, a);
}

static void on_reload(void *arg)
{
    struct antientropyd *a = arg;
    static struct conf fresh;
    char error[CONF_ERROR];

    if (conf_load(&fresh, a->child.config, error) != 0 ||
        conf_take_reloadable(&a->conf, &fresh, NULL, NULL, error) < 0) {
        log_error("reload: %s", error);
        return;
    }
    log_setup(a->child.process_name, (enum log_level)conf_log_level(&a->conf));
}

static const struct child_ops child_ops = {.reload = on_reload};

static void open_segments(struct antientropyd *a)
{
    const char *dir = a->conf.node.runtime_dir;
    int rc = repair_seg_create(&a->repair, dir, a->child.incarnation, a->conf.cluster.partitions);

    if (rc != 0)
        give_up("shared memory", rc, a->repair.segment.why);
    /* The writers of these may start later; on_look() finds them then. */
    ring_seg_attach(&a->ring, dir);
    a->worker_count = a->conf.node.workers;
    for (uint32_t i = 0; i < a->worker_count; i++)
        worker_seg_attach(&a->workers[i], dir, i);
}

int main(int argc, char **argv)
{
    struct antientropyd *a = &the_antientropyd;
    char error[CONF_ERROR];

    child_start(&a->child, "antientropyd", false, argc, argv);
    if (conf_load(&a->conf, a->child.config, error) != 0)
        give_up("configuration", -ERR_INVAL, error);
    log_setup(a->child.process_name, (enum log_level)conf_log_level(&a->conf));
    a->loop = loop_new();
    if (a->loop == NULL)
        give_up("start", -ERR_NOMEM, "no event loop");
    open_segments(a);
    child_attach(&a->child, a->loop, &child_ops, a);
    on_look(a);
    child_ready(&a->child);
    loop_run(a->loop);
    repair_seg_close(&a->repair);
    return 0;
}
