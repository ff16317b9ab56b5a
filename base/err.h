/* err.h - errors as values: one enum, one reason, one exit label.
 *
 * 0 is success everywhere and nothing else is. Functions that can fail return
 * `err`, take a `struct why *` as their last parameter and leave their outputs
 * untouched on failure. Outside input (file, socket, peer) -> err; our own bug
 * -> assert. Nothing below main exits the process.
 */
#ifndef CORDEE_BASE_ERR_H
#define CORDEE_BASE_ERR_H

#define ERR_MAP(X)                                                        \
    X(OK, "ok")                                                           \
    X(AGAIN, "cannot take more now; drain results, then retry")           \
    X(CANCELLED, "the client went away")                                  \
    X(INVAL, "the request or argument is not valid")                      \
    X(FORMAT, "malformed file or message")                                \
    X(SHAPE, "tensor missing, or of the wrong type or dimensions")        \
    X(UNSUPPORTED, "well-formed, but not something this program can run") \
    X(NOMEM, "not enough memory for the configured limits")               \
    X(REFUSED, "refused by the plan: does not fit the cluster")           \
    X(FULL, "the queue is full; retry later")                             \
    X(NOTFOUND, "no such model, file or name")                            \
    X(LIMIT, "a limit of the server or of the model would be exceeded")   \
    X(IO, "the operating system refused")                                 \
    X(PEER, "a rank is gone or broke the protocol")                       \
    X(TIMEOUT, "no answer in time")

typedef enum {
#define ERR_ENUM(name, text) ERR_##name,
    ERR_MAP(ERR_ENUM)
#undef ERR_ENUM
    ERR_COUNT
} err;

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* Where the reason for a failure is written down, once, by whoever knew it.
 * Callers that cannot add anything pass the same pointer through. NULL is
 * allowed: the reason is then dropped. */
struct why {
    char text[512];
};

/* Formats the reason into `why` (cut to fit, never overrun) and returns `code`. */
err why_set(struct why *why, err code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "prefix: " in front of a reason already there and returns `code`. */
err why_prefix(struct why *why, err code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The compiler cannot look into these two, so it would have to assume that
 * `return why_set(why, ERR_IO, ...)` may return 0 with its outputs unset. The
 * wrappers let it see that the result is `code` (which they evaluate twice). */
static inline err why_code(err code, err same)
{
    (void)same;
    return code;
}
#define why_set(why, code, ...) why_code((code), (why_set)((why), (code), __VA_ARGS__))
#define why_prefix(why, code, ...) why_code((code), (why_prefix)((why), (code), __VA_ARGS__))

/* "NOMEM"; static storage. */
const char *err_name(err e);

/* "not enough memory for the configured limits"; static storage. */
const char *err_text(err e);

/* Both need `err e`, `struct why *why` and a label `out` in the function. */
#define TRY(call)                        \
    do {                                 \
        if ((e = (call)) != ERR_OK)      \
            goto out;                    \
    } while (0)
#define FAIL(code, ...)                 \
    do {                                \
        e = (code);                     \
        why_set(why, e, __VA_ARGS__);   \
        goto out;                       \
    } while (0)

#endif
