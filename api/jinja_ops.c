/* jinja_ops.c - operators, with Python's rules and Python's complaints. */
#include <math.h>
#include <string.h>

#include "api/jinja_eval.h"

static const char *op_text(enum jnode_kind kind)
{
    switch (kind) {
    case JN_ADD:
        return "+";
    case JN_SUB:
        return "-";
    case JN_MUL:
        return "*";
    case JN_DIV:
        return "/";
    case JN_FLOORDIV:
        return "//";
    case JN_MOD:
        return "%";
    default:
        return "** or pow()";
    }
}

static bool repeatable(struct jval v)
{
    return v.kind == J_STR || v.kind == J_LIST || v.kind == J_TUPLE;
}

static err no_such_op(struct jrun *r, enum jnode_kind kind, struct jval a, struct jval b)
{
    if (kind == JN_ADD && (a.kind == J_STR || a.kind == J_LIST || a.kind == J_TUPLE))
        return jfail(r, "can only concatenate %s (not \"%s\") to %s", jtype_name(a), jtype_name(b),
                     jtype_name(a));
    if (kind == JN_MUL && (repeatable(a) || repeatable(b)))
        return jfail(r, "can't multiply sequence by non-int of type '%s'", jtype_name(repeatable(a) ? b : a));
    return jfail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(kind), jtype_name(a),
                 jtype_name(b));
}

/* ---- numbers --------------------------------------------------------------------- */

static err too_big(struct jrun *r)
{
    return jfail(r, "an integer beyond 64 bits");
}

static err int_power(struct jrun *r, int64_t a, int64_t b, struct jval *out)
{
    int64_t x = 1;
    if (b < 0) {
        if (a == 0)
            return jfail(r, "0.0 cannot be raised to a negative power");
        *out = jfloat(pow((double)a, (double)b));
        return ERR_OK;
    }
    if (a == 0 || a == 1 || a == -1) { /* the only ones that stay small for any b */
        *out = jint(b == 0 ? 1 : a < 0 && b % 2 == 0 ? 1 : a);
        return ERR_OK;
    }
    for (; b > 0; b--)
        if (__builtin_mul_overflow(x, a, &x))
            return too_big(r);
    *out = jint(x);
    return ERR_OK;
}

static err int_divide(struct jrun *r, enum jnode_kind kind, int64_t a, int64_t b, struct jval *out)
{
    if (b == 0)
        return jfail(r, kind == JN_DIV ? "division by zero" : "integer division or modulo by zero");
    if (kind == JN_DIV) {
        *out = jfloat((double)a / (double)b);
        return ERR_OK;
    }
    if (b == -1) { /* the one case where the quotient overflows */
        if (kind == JN_FLOORDIV && a == INT64_MIN)
            return too_big(r);
        *out = jint(kind == JN_MOD ? 0 : -a);
        return ERR_OK;
    }
    int64_t q = a / b, m = a % b;
    if (m != 0 && (m < 0) != (b < 0)) { /* C cuts, Python floors */
        q--;
        m += b;
    }
    *out = jint(kind == JN_MOD ? m : q);
    return ERR_OK;
}

static err int_arith(struct jrun *r, enum jnode_kind kind, int64_t a, int64_t b, struct jval *out)
{
    int64_t x;
    bool over;
    switch (kind) {
    case JN_ADD:
        over = __builtin_add_overflow(a, b, &x);
        break;
    case JN_SUB:
        over = __builtin_sub_overflow(a, b, &x);
        break;
    case JN_MUL:
        over = __builtin_mul_overflow(a, b, &x);
        break;
    case JN_POW:
        return int_power(r, a, b, out);
    default:
        return int_divide(r, kind, a, b, out);
    }
    if (over)
        return too_big(r);
    *out = jint(x);
    return ERR_OK;
}

static err float_arith(struct jrun *r, enum jnode_kind kind, double a, double b, struct jval *out)
{
    double x, m;
    if (b == 0 && (kind == JN_DIV || kind == JN_FLOORDIV || kind == JN_MOD))
        return jfail(r, kind == JN_DIV   ? "float division by zero"
                        : kind == JN_MOD ? "float modulo"
                                         : "float floor division by zero");
    switch (kind) {
    case JN_ADD:
        x = a + b;
        break;
    case JN_SUB:
        x = a - b;
        break;
    case JN_MUL:
        x = a * b;
        break;
    case JN_DIV:
        x = a / b;
        break;
    case JN_POW:
        x = pow(a, b);
        break;
    default:
        m = fmod(a, b);
        if (m != 0 && (m < 0) != (b < 0))
            m += b;
        x = kind == JN_MOD ? m : floor((a - m) / b + 0.5);
    }
    *out = jfloat(x);
    return ERR_OK;
}

/* ---- strings and lists --------------------------------------------------------------- */

static err add_str(struct jrun *r, struct jval a, struct jval b, struct jval *out)
{
    if (a.s->markup && !b.s->markup)
        JTRY(jstr_escape(r, b.s, &b));
    else if (b.s->markup && !a.s->markup)
        JTRY(jstr_escape(r, a.s, &a));
    bool markup = a.s->markup;
    JTRY(jstr_concat(r, a.s, b.s, out));
    return markup ? jstr_as_markup(r, out->s, true, out) : ERR_OK;
}

static err add_seq(struct jrun *r, struct jval a, struct jval b, struct jval *out)
{
    struct jseq *s;
    JTRY(jseq_open(r, a.seq->n + b.seq->n, &s));
    JTRY(jstep(r, (a.seq->n + b.seq->n) / 4));
    if (a.seq->n)
        memcpy(s->v, a.seq->v, a.seq->n * sizeof *s->v);
    if (b.seq->n)
        memcpy(s->v + a.seq->n, b.seq->v, b.seq->n * sizeof *s->v);
    s->n = a.seq->n + b.seq->n;
    *out = jseqval(a.kind, s);
    return ERR_OK;
}

static err repeat(struct jrun *r, struct jval v, int64_t times, struct jval *out)
{
    struct jout o;
    struct jseq *s;
    if (v.kind == J_STR) {
        jout_init(&o, r);
        for (int64_t i = 0; i < times && v.s->len && !o.failed; i++)
            jout_str(&o, v.s);
        return jout_take(&o, out);
    }
    JTRY(jseq_open(r, 0, &s));
    for (int64_t i = 0; i < times && v.seq->n; i++)
        for (size_t k = 0; k < v.seq->n; k++)
            JTRY(jseq_push(r, s, v.seq->v[k]));
    *out = jseqval(v.kind, s);
    return ERR_OK;
}

err jarith(struct jrun *r, enum jnode_kind kind, struct jval a, struct jval b, struct jval *out)
{
    if (kind == JN_MOD && a.kind == J_STR) /* formats even what is undefined */
        return jformat_percent(r, a.s, b, out);
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED)
        return jfail(r, "%s", (a.kind == J_UNDEFINED ? a : b).undef->text);
    if (jis_number(a) && jis_number(b)) {
        if (jis_integral(a) && jis_integral(b))
            return int_arith(r, kind, jto_int(a), jto_int(b), out);
        return float_arith(r, kind, jto_float(a), jto_float(b), out);
    }
    if (kind == JN_ADD && a.kind == J_STR && b.kind == J_STR)
        return add_str(r, a, b, out);
    if (kind == JN_ADD && a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE))
        return add_seq(r, a, b, out);
    if (kind == JN_MUL && repeatable(a) && jis_integral(b))
        return repeat(r, a, jto_int(b), out);
    if (kind == JN_MUL && repeatable(b) && jis_integral(a))
        return repeat(r, b, jto_int(a), out);
    return no_such_op(r, kind, a, b);
}

err jnegate(struct jrun *r, struct jval a, bool minus, struct jval *out)
{
    if (a.kind == J_UNDEFINED)
        return jfail(r, "%s", a.undef->text);
    if (!jis_number(a))
        return jfail(r, "bad operand type for unary %s: '%s'", minus ? "-" : "+", jtype_name(a));
    if (a.kind == J_FLOAT)
        *out = jfloat(minus ? -a.f : a.f);
    else if (minus && a.kind == J_INT && a.i == INT64_MIN)
        return too_big(r);
    else
        *out = jint(minus ? -jto_int(a) : jto_int(a));
    return ERR_OK;
}

/* ---- comparisons ------------------------------------------------------------------------ */

err jcontains(struct jrun *r, struct jval item, struct jval in, bool *out)
{
    const struct jseq *s;
    struct jval *hit;
    *out = false;
    if (in.kind == J_STR) {
        if (item.kind != J_STR)
            return jfail(r, "'in <string>' requires string as left operand, not %s", jtype_name(item));
        JTRY(jstep(r, in.s->len / 16));
        *out = jstr_find(in.s, item.s, 0) != SIZE_MAX;
        return ERR_OK;
    }
    if (in.kind == J_DICT) {
        JTRY(jdict_get(r, in.dict, item, &hit));
        *out = hit != NULL;
        return ERR_OK;
    }
    if (in.kind != J_UNDEFINED && !jis_seq(in))
        return jfail(r, "argument of type '%s' is not iterable", jtype_name(in));
    JTRY(jiterate(r, in, &s));
    for (size_t i = 0; i < s->n && !*out; i++)
        JTRY(jequal(r, item, s->v[i], out));
    return ERR_OK;
}

err jcompare_by(struct jrun *r, enum jcompare_op op, struct jval a, struct jval b, bool *out)
{
    static const char *const text[] = {[JC_LT] = "<", [JC_LE] = "<=", [JC_GT] = ">", [JC_GE] = ">="};
    int order;
    if (op == JC_EQ || op == JC_NE) {
        JTRY(jequal(r, a, b, out));
        *out ^= op == JC_NE;
        return ERR_OK;
    }
    if (op == JC_IN || op == JC_NOT_IN) {
        JTRY(jcontains(r, a, b, out));
        *out ^= op == JC_NOT_IN;
        return ERR_OK;
    }
    JTRY(jcompare(r, a, b, text[op], &order));
    if (jis_number(a) && (isnan(jto_float(a)) || isnan(jto_float(b)))) {
        *out = false;
        return ERR_OK;
    }
    *out = op == JC_LT ? order < 0 : op == JC_LE ? order <= 0 : op == JC_GT ? order > 0 : order >= 0;
    return ERR_OK;
}

/* ---- slices ------------------------------------------------------------------------------- */

static err slice_bound(struct jrun *r, struct jval v, int64_t fallback, int64_t n, int64_t low, int64_t high,
                       int64_t *out)
{
    if (v.kind == J_NONE) {
        *out = fallback;
        return ERR_OK;
    }
    if (!jis_integral(v))
        return jfail(r, "slice indices must be integers or None or have an __index__ method");
    int64_t i = jto_int(v);
    if (i < 0)
        i = i < -n ? low : i + n;
    *out = i < low ? low : i > high ? high : i;
    return ERR_OK;
}

/* Whole characters [start, stop) without making a list of them. */
static err slice_str(struct jrun *r, const struct jstr *s, int64_t start, int64_t stop, struct jval *out)
{
    size_t from = jstr_byte_of(s, (size_t)start), to = from;
    uint32_t cp;
    for (int64_t i = start; i < stop; i++)
        to += jstr_char(s, to, &cp);
    return jstr_slice(r, s, from, to, out);
}

err jslice(struct jrun *r, struct jval v, const struct jval part[3], struct jval *out)
{
    const struct jseq *s;
    struct jseq *taken;
    size_t n;
    if (v.kind == J_UNDEFINED)
        return jfail(r, "%s", v.undef->text);
    if (v.kind != J_STR && v.kind != J_LIST && v.kind != J_TUPLE && v.kind != J_RANGE)
        return v.kind == J_DICT ? jfail(r, "unhashable type: 'slice'")
                                : jfail(r, "'%s' object is not subscriptable", jtype_name(v));
    JTRY(jlength(r, v, &n));
    int64_t len = (int64_t)n, step = 1, start, stop;
    if (part[2].kind != J_NONE) {
        if (!jis_integral(part[2]))
            return jfail(r, "slice indices must be integers or None or have an __index__ method");
        step = jto_int(part[2]);
    }
    if (step == 0)
        return jfail(r, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    JTRY(slice_bound(r, part[0], step < 0 ? high : low, len, low, high, &start));
    JTRY(slice_bound(r, part[1], step < 0 ? low : high, len, low, high, &stop));
    if (v.kind == J_STR && step == 1)
        return slice_str(r, v.s, start, stop, out);

    JTRY(jiterate(r, v, &s));
    JTRY(jseq_open(r, 0, &taken));
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        JTRY(jseq_push(r, taken, s->v[i]));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    if (v.kind != J_STR) {
        const int64_t *was = v.seq->range; /* at most 100000 long: no overflow that matters but in step */
        if (v.kind == J_RANGE && __builtin_mul_overflow(was[2], step, &taken->range[2]))
            return too_big(r);
        taken->range[0] = was[0] + start * was[2];
        taken->range[1] = was[0] + stop * was[2];
        *out = jseqval(v.kind, taken);
        return ERR_OK;
    }
    struct jout o;
    jout_init(&o, r);
    for (size_t i = 0; i < taken->n; i++)
        jout_str(&o, taken->v[i].s);
    return jout_take(&o, out);
}
