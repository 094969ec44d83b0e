/* etcd's gRPC for the load generator: KV/Put and KV/Range over HTTP/2 without TLS, by nghttp2. */
#include "load.h"

#if __has_include(<nghttp2/nghttp2.h>)
#include "base/check.h"
#include "base/varint.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct etcd_session {
    nghttp2_session *h2;
    struct conn *conn;
};

/* What belongs to one stream: its request on the way out, its answer on the way in. */
struct call {
    struct op *op;
    uint8_t *request;
    size_t sent, len;
    struct buf answer;
    int status; /* of gRPC; -1: not said */
};

static uint8_t *field(uint8_t *p, uint8_t number, const void *data, size_t len)
{
    *p++ = (uint8_t)(number << 3 | 2);
    p = varint_store(p, len);
    memcpy(p, data, len);
    return p + len;
}

/* The body: one byte 0 (not compressed), length (4, big-endian), protobuf. PutRequest: key 1, value 2.
 * RangeRequest: key 1, serializable 7. */
static void encode(struct load *l, const struct op *op, struct call *call)
{
    char key[40];
    size_t key_len = lane_key(l, op->number, key);
    uint8_t *base = malloc(key_len + l->value_bytes + 64), *p = base + 5;
    uint32_t len;

    ASSERT(base != NULL);
    p = field(p, 1, key, key_len);
    if (op->kind == OP_SET) {
        lane_fill_value(l, op->number);
        p = field(p, 2, l->value, l->value_bytes);
    } else {
        *p++ = 7 << 3;
        *p++ = !l->verifying;
    }
    len = (uint32_t)(p - base - 5);
    base[0] = 0;
    base[1] = (uint8_t)(len >> 24);
    base[2] = (uint8_t)(len >> 16);
    base[3] = (uint8_t)(len >> 8);
    base[4] = (uint8_t)len;
    call->request = base;
    call->len = len + 5;
}

static ssize_t on_read_body(nghttp2_session *h2, int32_t stream, uint8_t *out, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct call *call = source->ptr;
    size_t n = call->len - call->sent < room ? call->len - call->sent : room;

    (void)h2, (void)stream, (void)arg;
    memcpy(out, call->request + call->sent, n);
    call->sent += n;
    if (call->sent == call->len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static ssize_t on_send(nghttp2_session *h2, const uint8_t *data, size_t len, int flags, void *arg)
{
    struct etcd_session *s = arg;

    (void)h2, (void)flags;
    return buf_append(&s->conn->out, data, len) == 0 ? (ssize_t)len : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);

    (void)flags, (void)arg, (void)value_len;
    if (call != NULL && name_len == 11 && memcmp(name, "grpc-status", 11) == 0)
        call->status = atoi((const char *)value);
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t len, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(h2, stream);

    (void)flags, (void)arg;
    if (call != NULL)
        buf_append(&call->answer, data, len);
    return 0;
}

/* A RangeResponse has its first KeyValue in field 2, the value in field 5 of that: rather than parse
 * protobuf, look for the value that must be there. */
static bool has_value(struct load *l, const struct op *op, const struct call *call)
{
    size_t len = buf_len(&call->answer);

    lane_fill_value(l, op->number);
    return len >= l->value_bytes &&
           memmem(buf_head(&call->answer), len, l->value, l->value_bytes) != NULL;
}

static void unlink_op(struct conn *c, struct op *op)
{
    struct op **at = &c->head;

    while (*at != NULL && *at != op)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = op->next;
    if (*at == NULL)
        c->tail = at;
}

static void drop(struct call *call)
{
    free(call->request);
    buf_free(&call->answer);
    free(call);
}

static int on_stream_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(h2, stream);
    struct etcd_session *s = arg;
    struct op *op;
    enum op_result result = RESULT_OK;

    if (call == NULL)
        return 0;
    op = call->op;
    nghttp2_session_set_stream_user_data(h2, stream, NULL);
    if (op != NULL) {
        if (error != 0 || call->status != 0)
            result = RESULT_RETRY;
        else if (op->kind == OP_GET && !has_value(s->conn->load, op, call))
            result = RESULT_MISSING;
        unlink_op(s->conn, op);
        lane_done(op, result);
    }
    drop(call);
    return 0;
}

#define HEADER(n, v)                                                                               \
    {                                                                                              \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1,                              \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

static void send_op(struct conn *c, struct op *op)
{
    struct etcd_session *s = c->session;
    struct call *call = calloc(1, sizeof *call);
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_read_body};
    nghttp2_nv put[] = {HEADER(":method", "POST"),
                        HEADER(":scheme", "http"),
                        HEADER(":path", "/etcdserverpb.KV/Put"),
                        HEADER(":authority", "etcd"),
                        HEADER("content-type", "application/grpc"),
                        HEADER("te", "trailers")};
    nghttp2_nv range[] = {HEADER(":method", "POST"),
                          HEADER(":scheme", "http"),
                          HEADER(":path", "/etcdserverpb.KV/Range"),
                          HEADER(":authority", "etcd"),
                          HEADER("content-type", "application/grpc"),
                          HEADER("te", "trailers")};

    ASSERT(call != NULL);
    call->op = op;
    call->status = -1;
    encode(c->load, op, call);
    conn_push(c, op);
    op->stream =
        nghttp2_submit_request(s->h2, NULL, op->kind == OP_SET ? put : range, 6, &body, call);
    ASSERT(op->stream > 0);
    nghttp2_session_send(s->h2);
}

static bool receive(struct conn *c)
{
    struct etcd_session *s = c->session;
    ssize_t n = nghttp2_session_mem_recv(s->h2, buf_head(&c->in), buf_len(&c->in));

    if (n < 0)
        return false;
    buf_consume(&c->in, (size_t)n);
    return nghttp2_session_send(s->h2) == 0;
}

static bool opened(struct conn *c)
{
    struct etcd_session *s = calloc(1, sizeof *s);
    nghttp2_session_callbacks *callbacks;
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LOAD_DEPTH},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24}};

    ASSERT(s != NULL && nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    s->conn = c;
    ASSERT(nghttp2_session_client_new(&s->h2, callbacks, s) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(s->h2, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(s->h2, NGHTTP2_FLAG_NONE, 0, 1 << 28);
    nghttp2_session_send(s->h2);
    c->session = s;
    return true;
}

static void closed(struct conn *c)
{
    struct etcd_session *s = c->session;

    /* The operations are sent again by conn_close(); their calls must not speak for them. */
    for (struct op *op = c->head; op != NULL; op = op->next) {
        struct call *call = nghttp2_session_get_stream_user_data(s->h2, op->stream);

        if (call != NULL) {
            nghttp2_session_set_stream_user_data(s->h2, op->stream, NULL);
            drop(call);
        }
    }
    nghttp2_session_del(s->h2);
    free(s);
    c->session = NULL;
}

static const struct protocol the_protocol = {send_op, receive, opened, closed};

const struct protocol *protocol_etcd(void)
{
    return &the_protocol;
}

#else

const struct protocol *protocol_etcd(void)
{
    return NULL;
}

#endif
