/* jinja_filter_number.c - int, float, round, abs. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/jinja_eval.h"

/* The text of a number without blanks around it and underscores inside. */
static bool number_text(struct jrun *r, const struct jstr *s, char text[64])
{
    struct jval cut;
    size_t n = 0;
    if (jstr_strip(r, s, NULL, JSTRIP_LEFT | JSTRIP_RIGHT, &cut) || !cut.s->len || cut.s->len > 60)
        return false;
    for (size_t i = 0; i < cut.s->len; i++) {
        char c = cut.s->text[i];
        bool inside = i > 0 && i + 1 < cut.s->len;
        if (c == '_' && inside && cut.s->text[i - 1] != '_')
            continue;
        if (!c || !strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", c))
            return false;
        text[n++] = c;
    }
    text[n] = 0;
    return n > 0;
}

static bool parse_float(struct jrun *r, const struct jstr *s, double *out)
{
    char text[64], *end;
    if (!number_text(r, s, text) || strpbrk(text, "xXpP")) /* Python reads no hexadecimal floats */
        return false;
    *out = strtod(text, &end);
    return *end == 0;
}

static bool parse_int(struct jrun *r, const struct jstr *s, int base, int64_t *out)
{
    char text[64], *end;
    if (!number_text(r, s, text))
        return false;
    char *digits = text + (text[0] == '-' || text[0] == '+');
    if (digits[0] == '0' && (base == 0 || base == 2 || base == 8)) { /* strtoll knows only 0x */
        char c = digits[1] | 32;
        int named = c == 'b' ? 2 : c == 'o' ? 8 : 0;
        if (named && (base == 0 || base == named)) {
            base = named;
            memmove(digits, digits + 2, strlen(digits + 2) + 1);
        }
    }
    errno = 0;
    *out = strtoll(text, &end, base);
    return *end == 0 && end > text && !errno;
}

static bool float_to_int(double f, struct jval *out)
{
    if (!(f > -9.2e18 && f < 9.2e18))
        return false;
    *out = jint((int64_t)f);
    return true;
}

JBUILTIN(filter_int)
{
    int64_t base, i;
    double f;
    JUNUSED_ARGS;
    JTRY(jarg_int(r, arg[1], 10, &base));
    *out = arg[0].kind == J_ABSENT ? jint(0) : arg[0];
    if (self.kind == J_UNDEFINED)
        return jfail(r, "%s", self.undef->text);
    if (jis_integral(self))
        *out = jint(jto_int(self));
    else if (self.kind == J_FLOAT)
        float_to_int(self.f, out);
    else if (self.kind == J_STR && (base == 0 || (base >= 2 && base <= 36)) &&
             parse_int(r, self.s, (int)base, &i))
        *out = jint(i);
    else if (self.kind == J_STR && parse_float(r, self.s, &f))
        float_to_int(f, out);
    return ERR_OK;
}

JBUILTIN(filter_float)
{
    double f;
    JUNUSED_ARGS;
    if (self.kind == J_UNDEFINED)
        return jfail(r, "%s", self.undef->text);
    *out = arg[0].kind == J_ABSENT ? jfloat(0) : arg[0];
    if (jis_number(self))
        *out = jfloat(jto_float(self));
    else if (self.kind == J_STR && parse_float(r, self.s, &f))
        *out = jfloat(f);
    return ERR_OK;
}

/* To the nearest, ties to even, on the exact decimal value: what printf does. */
static double round_to(double f, int64_t precision)
{
    char text[512];
    if (precision > 100 || !isfinite(f))
        return f;
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, f);
        return strtod(text, NULL);
    }
    double scale = pow(10, (double)-precision);
    return isinf(scale) ? 0 : nearbyint(f / scale) * scale;
}

JBUILTIN(filter_round)
{
    static const struct jstr common = {.text = "common", .len = 6};
    const struct jstr *method = &common;
    int64_t precision;
    JUNUSED_ARGS;
    JTRY(jarg_int(r, arg[0], 0, &precision));
    if (arg[1].kind != J_ABSENT)
        JTRY(jarg_str(r, arg[1], &method));
    if (!jis_number(self))
        return jfail(r, "type %s doesn't define __round__ method", jtype_name(self));
    if (jstr_is(method, "common")) {
        *out = jis_integral(self) && precision >= 0 ? jint(jto_int(self))
                                                    : jfloat(round_to(jto_float(self), precision));
        return ERR_OK;
    }
    double scale = pow(10, (double)precision), f = jto_float(self) * scale;
    if (!jstr_is(method, "ceil") && !jstr_is(method, "floor"))
        return jfail(r, "method must be common, ceil or floor");
    *out = jfloat((jstr_is(method, "ceil") ? ceil(f) : floor(f)) / scale);
    return ERR_OK;
}

JBUILTIN(filter_abs)
{
    JUNUSED_ARGS;
    if (!jis_number(self))
        return jfail(r, "bad operand type for abs(): '%s'", jtype_name(self));
    bool negative = self.kind == J_FLOAT ? self.f < 0 : jto_int(self) < 0;
    return jnegate(r, self, negative, out);
}

const struct jbuiltin jfilters_number[] = {
    {"int", filter_int, "default base", 0},
    {"float", filter_float, "default", 0},
    {"round", filter_round, "precision method", 0},
    {"abs", filter_abs, "", 0},
    {0},
};
