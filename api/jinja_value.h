/* jinja_value.h - what a template computes with: Python's values, as far as
 * templates can tell.
 *
 * A value is 16 bytes; what it points to lives in the arena of the rendering (or,
 * for constants, of the template) and is immutable, but for namespaces, loops,
 * cyclers and generators. So slices share bytes with their source, and nothing is
 * ever freed on its own.
 *
 * Functions that can fail take the running `struct jrun`, note the reason there
 * and return its code.
 */
#ifndef CORDEE_API_JINJA_VALUE_H
#define CORDEE_API_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/jinja_run.h"
#include "base/err.h"

/*       kind        Python's type name */
#define JKIND_MAP(X)          \
    X(ABSENT, "missing")      \
    X(UNDEFINED, "Undefined") \
    X(NONE, "NoneType")       \
    X(BOOL, "bool")           \
    X(INT, "int")             \
    X(FLOAT, "float")         \
    X(STR, "str")             \
    X(LIST, "list")           \
    X(TUPLE, "tuple")         \
    X(RANGE, "range")         \
    X(GENERATOR, "generator") \
    X(KEYS, "dict_keys")      \
    X(VALUES, "dict_values")  \
    X(ITEMS, "dict_items")    \
    X(DICT, "dict")           \
    X(NAMESPACE, "Namespace") \
    X(MACRO, "Macro")         \
    X(LOOP, "LoopContext")    \
    X(FUNC, "function")       \
    X(CYCLER, "Cycler")       \
    X(JOINER, "Joiner")

enum jkind {
#define JKIND_ENUM(name, text) J_##name,
    JKIND_MAP(JKIND_ENUM)
#undef JKIND_ENUM
        J_COUNT
};

/* Bytes and who wrote them. mark: one byte a byte, nonzero when it came from the
 * request; NULL: `user` holds for all of them. */
struct jstr {
    const char *text; /* UTF-8, not NUL-terminated */
    const char *mark;
    size_t len;
    struct jtail *tail; /* the growable block that the text ends, if any */
    bool user;
    bool markup; /* markupsafe.Markup: what is added to it is HTML-escaped */
};

struct jval {
    enum jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const struct jstr *s;
        struct jseq *seq;   /* LIST .. ITEMS */
        struct jdict *dict; /* DICT, NAMESPACE */
        const struct jundef *undef;
        struct jmacro *macro;
        struct jloop *loop;
        struct jfunc *fn;
        struct jcycle *cycle; /* CYCLER, JOINER */
    };
};

struct jseq {
    struct jval *v; /* [n] */
    size_t n, cap;
    int64_t range[3];      /* start, stop, step: RANGE prints them */
    bool spent;            /* a generator can be walked once */
    const char *complaint; /* a generator that failed: what to say when it is walked */
};

/* Ordered, as Python's. Small ones are searched in order, others by hash. */
struct jpair {
    struct jval key, value;
};
struct jdict {
    struct jpair *pair; /* [n] */
    size_t n, cap;
    uint32_t *index; /* [n_index] slots: 0 free, else 1 + position in pair; NULL while small */
    size_t n_index;
};

/* What a failed lookup leaves behind: it prints as nothing and complains when used. */
struct jundef {
    const char *text; /* the complaint */
};

/* A built-in function, or a method with its object. */
struct jfunc {
    const struct jbuiltin *builtin;
    struct jval self;
};

struct jcycle {
    struct jseq *items;
    const struct jstr *sep;
    size_t pos;
};

static inline struct jval jnone(void)
{
    return (struct jval){.kind = J_NONE};
}
static inline struct jval jbool(bool b)
{
    return (struct jval){.kind = J_BOOL, .b = b};
}
static inline struct jval jint(int64_t i)
{
    return (struct jval){.kind = J_INT, .i = i};
}
static inline struct jval jfloat(double f)
{
    return (struct jval){.kind = J_FLOAT, .f = f};
}
static inline struct jval jstrval(const struct jstr *s)
{
    return (struct jval){.kind = J_STR, .s = s};
}
static inline struct jval jseqval(enum jkind kind, struct jseq *seq)
{
    return (struct jval){.kind = kind, .seq = seq};
}
static inline struct jval jdictval(struct jdict *d)
{
    return (struct jval){.kind = J_DICT, .dict = d};
}
static inline bool jis_seq(struct jval v)
{
    return v.kind >= J_LIST && v.kind <= J_ITEMS;
}
static inline bool jis_number(struct jval v)
{
    return v.kind >= J_BOOL && v.kind <= J_FLOAT;
}
static inline bool jis_integral(struct jval v)
{
    return v.kind == J_BOOL || v.kind == J_INT;
}
/* Of BOOL, INT. */
static inline int64_t jto_int(struct jval v)
{
    return v.kind == J_BOOL ? v.b : v.i;
}
/* Of BOOL, INT, FLOAT. */
static inline double jto_float(struct jval v)
{
    return v.kind == J_FLOAT ? v.f : (double)jto_int(v);
}

/* "str"; jtype_object() is how Undefined's messages call it: "str object", "None". */
const char *jtype_name(struct jval v);
const char *jtype_object(struct jval v);

bool jtruth(struct jval v);
/* Python's ==, which never fails but can be too deep. */
MUST_CHECK err jequal(struct jrun *r, struct jval a, struct jval b, bool *out);
/* -1, 0, 1 by Python's <; complains when the types have no order. `op` is for the complaint. */
MUST_CHECK err jcompare(struct jrun *r, struct jval a, struct jval b, const char *op, int *out);
/* len(); complains about what has none. */
MUST_CHECK err jlength(struct jrun *r, struct jval v, size_t *out);

/* An Undefined with a formatted complaint. */
MUST_CHECK err jundefined(struct jrun *r, struct jval *out, const char *fmt, ...) PRINTF_LIKE(3, 4);

MUST_CHECK err jseq_open(struct jrun *r, size_t room, struct jseq **out);
MUST_CHECK err jseq_push(struct jrun *r, struct jseq *s, struct jval v);
/* The elements of anything that can be walked: characters, keys, items. A list's own
 * sequence is handed out as it is (do not push to it); a generator is spent. */
MUST_CHECK err jiterate(struct jrun *r, struct jval v, const struct jseq **out);

MUST_CHECK err jdict_open(struct jrun *r, size_t room, struct jdict **out);
/* Complains about keys that cannot be hashed. */
MUST_CHECK err jdict_set(struct jrun *r, struct jdict *d, struct jval key, struct jval value);
/* *out: the value's place, NULL when there is none. */
MUST_CHECK err jdict_get(struct jrun *r, const struct jdict *d, struct jval key, struct jval **out);
/* By name; no allocation, no complaint. */
struct jval *jdict_find(struct jrun *r, const struct jdict *d, const char *name, size_t len);

#endif
