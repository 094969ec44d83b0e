/* TLS by OpenSSL. The only file that includes its protocol headers. Runs in every process that speaks
 * TCP; blocks for files alone. */
#include "ipc/tls.h"

#include "base/check.h"
#include "base/err.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct tls_context {
    SSL_CTX *ssl;
};

/* ---- reasons ---- */

/* The oldest error in OpenSSL's queue is the cause; later ones are its consequences. */
static void explain(char why[TLS_WHY], const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    if (code != 0 && ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    snprintf(why, TLS_WHY, "%s: %s", what, reason != NULL ? reason : "not usable");
    ERR_clear_error();
}

/* ---- contexts ---- */

/* A key with a passphrase must fail and not ask at a terminal. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
    (void)to;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static int verify_mode(enum tls_verify verify)
{
    if (verify == TLS_VERIFY_NONE)
        return SSL_VERIFY_NONE;
    return SSL_VERIFY_PEER | (verify == TLS_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
}

static int load_files(SSL_CTX *ssl, const struct tls_conf *conf, char why[TLS_WHY])
{
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    bool shows = conf->cert[0] != 0;
    if (shows && SSL_CTX_use_certificate_chain_file(ssl, conf->cert) != 1) {
        explain(why, conf->cert);
        return -ERR_INVAL;
    }
    /* Checks that the key is the certificate's, too. */
    if (shows && SSL_CTX_use_PrivateKey_file(ssl, conf->key, SSL_FILETYPE_PEM) != 1) {
        explain(why, conf->key);
        return -ERR_INVAL;
    }
    if (conf->verify != TLS_VERIFY_NONE && SSL_CTX_load_verify_file(ssl, conf->ca) != 1) {
        explain(why, conf->ca);
        return -ERR_INVAL;
    }
    return 0;
}

int tls_context_new(struct tls_context **out, const struct tls_conf *conf, char why[TLS_WHY])
{
    struct tls_context *c = calloc(1, sizeof *c);

    *out = NULL;
    if (c != NULL)
        c->ssl = SSL_CTX_new(TLS_method());
    if (c == NULL || c->ssl == NULL || SSL_CTX_set_min_proto_version(c->ssl, TLS1_3_VERSION) != 1) {
        snprintf(why, TLS_WHY, "no memory for TLS");
        tls_context_free(c);
        return -ERR_NOMEM;
    }
    /* Streams give their buffers back between records; output may move while it waits. */
    SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Messages say themselves where they end: a stream cut off is as good as one closed. */
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(c->ssl, 0);
    SSL_CTX_set_verify(c->ssl, verify_mode(conf->verify), NULL);
    int rc = load_files(c->ssl, conf, why);
    if (rc != 0) {
        tls_context_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void tls_context_free(struct tls_context *c)
{
    if (c == NULL)
        return;
    SSL_CTX_free(c->ssl);
    free(c);
}

/* ---- streams; struct tls is OpenSSL's SSL, under a name of ours ---- */

static SSL *of(struct tls *t)
{
    return (SSL *)(void *)t;
}

struct tls *tls_new(struct tls_context *c, int fd, bool called)
{
    SSL *s = SSL_new(c->ssl);

    if (s != NULL && SSL_set_fd(s, fd) != 1) {
        SSL_free(s);
        s = NULL;
    }
    ERR_clear_error();
    if (s == NULL)
        return NULL;
    if (called)
        SSL_set_accept_state(s);
    else
        SSL_set_connect_state(s);
    return (struct tls *)(void *)s;
}

void tls_free(struct tls *t)
{
    ERR_clear_error();
    if (SSL_is_init_finished(of(t)))
        SSL_shutdown(of(t));
    SSL_free(of(t));
    ERR_clear_error();
}

int tls_handshake(struct tls *t, uint32_t *events, char why[TLS_WHY])
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(of(t));

    if (rc == 1)
        return 0;
    switch (SSL_get_error(of(t), rc)) {
    case SSL_ERROR_WANT_READ:
        *events = EPOLLIN;
        return -ERR_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *events = EPOLLOUT;
        return -ERR_AGAIN;
    case SSL_ERROR_SYSCALL:
    case SSL_ERROR_ZERO_RETURN:
        snprintf(why, TLS_WHY, "%s", errno != 0 ? strerror(errno) : "the connection was closed");
        ERR_clear_error();
        return -ERR_CLOSED;
    default: {
        long verdict = SSL_get_verify_result(of(t));
        explain(why, verdict == X509_V_OK ? "handshake" : X509_verify_cert_error_string(verdict));
        return -ERR_DENIED;
    }
    }
}

/* What recv() or send() would have said. After the handshake TLS 1.3 reads without having to write
 * and the other way round; a stream that wants it otherwise is given up. */
static ssize_t failed(SSL *s, int rc, int expected)
{
    int error = SSL_get_error(s, rc), saved = errno;

    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (error == expected)
        errno = EAGAIN;
    else if (error == SSL_ERROR_SYSCALL && saved != 0)
        errno = saved == EAGAIN ? ECONNRESET : saved;
    else
        errno = EPROTO;
    return -1;
}

ssize_t tls_recv(struct tls *t, void *to, size_t room)
{
    size_t got = 0;

    ASSERT(room >= TLS_RECORD);
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(of(t), to, room, &got);

    return rc == 1 ? (ssize_t)got : failed(of(t), rc, SSL_ERROR_WANT_READ);
}

ssize_t tls_send(struct tls *t, const void *data, size_t len)
{
    size_t sent = 0;

    while (sent < len) {
        size_t n = 0;

        ERR_clear_error();
        errno = 0;
        int rc = SSL_write_ex(of(t), (const char *)data + sent, len - sent, &n);
        if (rc != 1) {
            ssize_t verdict = failed(of(t), rc, SSL_ERROR_WANT_WRITE);
            if (verdict == 0)
                errno = EPIPE;
            return sent > 0 && verdict < 0 && errno == EAGAIN ? (ssize_t)sent : -1;
        }
        sent += n;
    }
    return (ssize_t)sent;
}
