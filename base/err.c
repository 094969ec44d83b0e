/* Texts and names of errors, made from err.def. Used by every process. */
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>

const char *err_text(int err)
{
    switch (abs(err)) {
    case ERR_OK:
        return "ok";
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return text;
#include "base/err.def"
#undef X
    }
    return "unknown error";
}

const char *err_name(int err)
{
    switch (abs(err)) {
    case ERR_OK:
        return "OK";
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return #name;
#include "base/err.def"
#undef X
    }
    return "UNNAMED";
}

int err_from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOMEM:
        return -ERR_NOMEM;
    case EINVAL:
        return -ERR_INVAL;
    case ENOENT:
        return -ERR_NOTFOUND;
    case EEXIST:
        return -ERR_EXISTS;
    case EAGAIN:
        return -ERR_AGAIN;
    case ENOSPC:
    case EDQUOT:
        return -ERR_DISKFULL;
    case EACCES:
    case EPERM:
        return -ERR_DENIED;
    case ETIMEDOUT:
        return -ERR_TIMEOUT;
    case EPIPE:
    case ECONNRESET:
        return -ERR_CLOSED;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return -ERR_UNAVAILABLE;
    default:
        return -ERR_IO;
    }
}
