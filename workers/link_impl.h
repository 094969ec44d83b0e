/* Shared between the files of workers/link_*.c and nobody else. */
#ifndef CLOCKWISE_WORKERS_LINK_IMPL_H
#define CLOCKWISE_WORKERS_LINK_IMPL_H

#include "base/buf.h"
#include "ipc/frame.h"
#include "ipc/msg_codec.h"
#include "ipc/wire.h"
#include "shm/mailbox.h"
#include "workers/link_set.h"

#define LINK_NONCE      16
#define LINK_RETRY_MIN  10000u /* microseconds; doubles up to the next */
#define LINK_RETRY_MAX  1000000u
#define LINK_GRACE      2000000u /* a new link may be turned away for so long */
#define LINK_HELLO_TIME 2000000u /* a handshake that takes longer is given up */
#define LINK_STRANGERS  128      /* accepted connections that have not proved anything yet */
#define LINK_READ_BYTES (256u << 10)

/* ---- an outgoing connection: everything that this worker says to one worker of another node ---- */

enum link_state {
    LINK_WAITING,    /* not connected; tries again at retry_at_us */
    LINK_CONNECTING, /* and the TLS handshake, if there is one */
    LINK_GREETING,   /* HELLO sent, the answer is awaited */
    LINK_UP
};

struct link {
    struct link_set *set;
    struct node_id node;
    uint16_t member, worker; /* member in the newest view */
    uint8_t protocol;        /* that both speak; 0: never connected yet */
    char address[LIMIT_ADDR];
    uint16_t port;
    enum link_state state;
    bool failed; /* down since it was last up: not worth sending to */
    bool ever_up;
    bool queued; /* in set->dirty */
    struct wire wire;
    struct loop_watch watch;
    struct buf out;   /* frames */
    struct buf hello; /* handshake bytes, before everything in out */
    struct frame_reader in;
    uint8_t nonce[LINK_NONCE];
    uint64_t retry_at_us, retry_us;
    uint64_t made_us;
    uint64_t begun_us;   /* of the handshake */
    uint64_t heard_us;   /* anything from that worker, on any connection */
    uint64_t waiting_us; /* first thing sent since then; 0: nothing */
    uint64_t pinged_us;  /* last PING */
    uint64_t doubted_us; /* since when it is doubted, 0: it is not */
    struct link *next_dirty;
};

/* ---- an accepted connection: everything that one worker of another node says to this one ---- */

struct inlink {
    struct link_set *set;
    struct wire wire;
    struct loop_watch watch;
    struct frame_reader in;
    struct buf out; /* HELLO and PONG */
    bool known;     /* it has proved who it is */
    struct node_id node;
    uint16_t worker;
    uint64_t incarnation;
    uint8_t nonce[LINK_NONCE], their_nonce[LINK_NONCE];
    bool greeted;
    uint64_t begun_us;
    struct inlink *next, *previous;
};

/* ---- a sibling of this node ---- */

struct sibling {
    struct buf out;
    struct frame_reader in;
    bool down; /* dead, and no successor known: `out` is kept for that one */
};

struct link_set {
    struct link_set_conf conf;
    struct link_set_events events;
    struct loop *loop;
    struct msg_codec *codec;
    struct tls_context *tls; /* of new connections; NULL: plain */
    struct link_set_stats stats;

    uint16_t self, members; /* of the newest view; self RING_NO_OWNER: none yet */
    struct node_id member_id[LIMIT_MEMBERS];
    struct link *links[LIMIT_MEMBERS]; /* [worker], NULL for self and for members that left */
    uint16_t link_count[LIMIT_MEMBERS];
    struct link *dirty;

    struct loop_watch listener;
    struct inlink *inlinks; /* list */
    uint32_t strangers;

    struct mailbox_out *mail_out;
    struct mailbox_in *mail_in;
    struct sibling sibling[LIMIT_WORKERS];
    struct loop_watch wake_watch;
    uint64_t mail_refresh_us;

    struct loop_hook hook;
    struct loop_timer timer;
    uint64_t timer_us; /* last time it ran */
    int gossip_fd;
};

/* link_set.c */
bool link_set_may_leave(const struct link_set *s);

/* link_out.c */
void link_out_init(struct link *l, struct link_set *s, uint16_t member, uint16_t worker,
                   const struct member *m);
void link_out_close(struct link *l);
void link_out_connect(struct link *l);
int link_out_send(struct link *l, const struct msg *m);
void link_out_queue(struct link *l); /* have it flushed at the end of the turn */
void link_out_flush(struct link *l);
void link_out_expect(struct link *l); /* that worker has just called: it is there */
void link_out_fail(struct link *l);   /* close, tell of it, try again later */
void link_out_heard(struct link *l);
void link_out_doubt(struct link *l);
void link_out_tick(struct link *l, uint64_t now_us);

/* link_in.c */
int link_in_listen(struct link_set *s);
void link_in_close_all(struct link_set *s);
void link_in_tick(struct link_set *s, uint64_t now_us);

/* link_mail.c */
int link_mail_open(struct link_set *s);
void link_mail_close(struct link_set *s);
int link_mail_send(struct link_set *s, uint16_t worker, const struct msg *m);
void link_mail_take(struct link_set *s);
bool link_mail_before_sleep(struct link_set *s, bool may_leave);
void link_mail_after_sleep(struct link_set *s);
void link_mail_refresh(struct link_set *s, uint16_t worker);
void link_mail_down(struct link_set *s, uint16_t worker);

/* link_hello.c: the handshake's messages and proofs. */
enum link_role { LINK_CALLER = 'C', LINK_CALLED = 'D' };
/* proof: of `role` over both nonces; the caller's nonce first. */
int link_hello_append(const struct link_set *s, struct buf *out, enum link_role role,
                      const uint8_t *caller_nonce, const uint8_t *called_nonce, uint32_t to_worker,
                      bool with_proof);
/* Is this HELLO of a worker that speaks to us rightly? -ERR_DENIED, -ERR_VERSION, -ERR_FORMAT. */
int link_hello_check(const struct link_set *s, const struct msg_HELLO *h);
/* Does it prove to know the secret? -ERR_DENIED. */
int link_hello_verify(const struct link_set *s, const struct msg_HELLO *h, enum link_role role,
                      const uint8_t *caller_nonce, const uint8_t *called_nonce);

/* link_set.c */
uint16_t link_set_member(const struct link_set *s, const struct node_id *id);
void link_set_verdict(struct link_set *s, const struct node_id *node, uint16_t worker, bool up);
struct link *link_set_find(const struct link_set *s, uint16_t member, uint16_t worker);

#endif
