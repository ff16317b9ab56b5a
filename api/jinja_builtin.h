/* jinja_builtin.h - filters, tests, methods and global functions: one shape, one
 * table row each.
 *
 * A row names its parameters, so `x|indent(4, first=true)` and `s.split(sep=",")`
 * are sorted out once, before the function sees them: it gets one value a
 * parameter, J_ABSENT where none was given. Rows without a parameter list get the
 * arguments raw.
 */
#ifndef CORDEE_API_JINJA_BUILTIN_H
#define CORDEE_API_JINJA_BUILTIN_H

#include "api/jinja_value.h"

enum { JBUILTIN_MAX_PARAMS = 6 };

struct jkwarg {
    const struct jstr *name;
    struct jval value;
};
struct jargs {
    struct jval *pos; /* [n] */
    size_t n;
    struct jkwarg *kw; /* [n_kw], names differ */
    size_t n_kw;
};

/* self  what is filtered, tested, or has the method
 * arg   [number of parameters]
 * raw   all arguments, as they were written */
typedef err jbuiltin_fn(struct jrun *r, struct jval self, const struct jval *arg, const struct jargs *raw,
                        struct jval *out);

struct jbuiltin {
    const char *name;
    jbuiltin_fn *fn;
    const char *params; /* "width first blank"; NULL: raw */
    size_t n_required;
    bool lazy; /* a generator in Jinja: what goes wrong shows when it is walked */
};
#define JBUILTIN(fn_name)                                                                                 \
    static err fn_name(struct jrun *r, struct jval self, const struct jval *arg, const struct jargs *raw, \
                       struct jval *out)
#define JUNUSED_ARGS ((void)r, (void)self, (void)arg, (void)raw, (void)out)

MUST_CHECK err jbuiltin_call(struct jrun *r, const struct jbuiltin *b, struct jval self,
                             const struct jargs *args, struct jval *out);

/* NULL: there is no such thing. */
const struct jbuiltin *jbuiltin_filter(const struct jstr *name);
const struct jbuiltin *jbuiltin_test(const struct jstr *name);
const struct jbuiltin *jbuiltin_global(const struct jstr *name);
const struct jbuiltin *jbuiltin_method(struct jval self, const struct jstr *name);
/* A method that would change its object: the sandbox has it and refuses it. */
bool jbuiltin_is_mutator(struct jval self, const struct jstr *name);

/* The tables behind jbuiltin_filter(): each file of filters has one, ended by name NULL. */
extern const struct jbuiltin jfilters_text[], jfilters_seq[], jfilters_pick[], jfilters_number[];
/* Likewise the methods of strings. */
extern const struct jbuiltin jmethods_str[];

/* An argument as the type a function wants; complains like Python. ABSENT gives `fallback`. */
MUST_CHECK err jarg_int(struct jrun *r, struct jval v, int64_t fallback, int64_t *out);
MUST_CHECK err jarg_str(struct jrun *r, struct jval v, const struct jstr **out);

/* a.b.0 of `v`, where `path` is a string or an integer; with `fallback` for what is
 * undefined (ABSENT: stays so). */
MUST_CHECK err jattr_path(struct jrun *r, struct jval v, struct jval path, struct jval fallback,
                          struct jval *out);

#endif
