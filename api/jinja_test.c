/* jinja_test.c - `x is ...`. */
#include "api/jinja_eval.h"

#define TEST_OF_KIND(name, condition) \
    JBUILTIN(name)                    \
    {                                 \
        JUNUSED_ARGS;                 \
        *out = jbool(condition);      \
        return ERR_OK;                \
    }

TEST_OF_KIND(test_defined, self.kind != J_UNDEFINED)
TEST_OF_KIND(test_undefined, self.kind == J_UNDEFINED)
TEST_OF_KIND(test_none, self.kind == J_NONE)
TEST_OF_KIND(test_string, self.kind == J_STR)
TEST_OF_KIND(test_mapping, self.kind == J_DICT)
TEST_OF_KIND(test_number, jis_number(self))
TEST_OF_KIND(test_integer, self.kind == J_INT)
TEST_OF_KIND(test_float, self.kind == J_FLOAT)
TEST_OF_KIND(test_boolean, self.kind == J_BOOL)
TEST_OF_KIND(test_true, self.kind == J_BOOL && self.b)
TEST_OF_KIND(test_false, self.kind == J_BOOL && !self.b)
TEST_OF_KIND(test_escaped, self.kind == J_STR && self.s->markup)
TEST_OF_KIND(test_callable, self.kind == J_FUNC || self.kind == J_MACRO || self.kind == J_LOOP ||
                                self.kind == J_JOINER || self.kind == J_UNDEFINED)
/* An Undefined has a length of 0 and walks over nothing. */
TEST_OF_KIND(test_iterable, self.kind == J_STR || jis_seq(self) || self.kind == J_DICT ||
                                self.kind == J_UNDEFINED || self.kind == J_LOOP)
TEST_OF_KIND(test_sequence, self.kind == J_STR || self.kind == J_LIST || self.kind == J_TUPLE ||
                                self.kind == J_RANGE || self.kind == J_DICT || self.kind == J_UNDEFINED)

static err cased(struct jrun *r, struct jval v, bool (*is)(uint32_t), bool (*other)(uint32_t),
                 struct jval *out)
{
    const struct jstr *s;
    bool any = false, all = true;
    uint32_t cp;
    JTRY(jto_str(r, v, &s));
    for (size_t at = 0; at < s->len;) {
        at += jstr_char(s, at, &cp);
        any |= is(cp);
        all &= !other(cp);
    }
    *out = jbool(any && all);
    return ERR_OK;
}

JBUILTIN(test_lower)
{
    JUNUSED_ARGS;
    return cased(r, self, jchar_lower, jchar_upper, out);
}

JBUILTIN(test_upper)
{
    JUNUSED_ARGS;
    return cased(r, self, jchar_upper, jchar_lower, out);
}

static err remainder_is(struct jrun *r, struct jval a, struct jval b, int64_t want, struct jval *out)
{
    bool same;
    JTRY(jarith(r, JN_MOD, a, b, out));
    JTRY(jequal(r, *out, jint(want), &same));
    *out = jbool(same);
    return ERR_OK;
}

JBUILTIN(test_odd)
{
    JUNUSED_ARGS;
    return remainder_is(r, self, jint(2), 1, out);
}

JBUILTIN(test_even)
{
    JUNUSED_ARGS;
    return remainder_is(r, self, jint(2), 0, out);
}

JBUILTIN(test_divisibleby)
{
    JUNUSED_ARGS;
    return remainder_is(r, self, arg[0], 0, out);
}

#define TEST_BY_OPERATOR(name, op)                        \
    JBUILTIN(name)                                        \
    {                                                     \
        bool holds;                                       \
        JUNUSED_ARGS;                                     \
        JTRY(jcompare_by(r, (op), self, arg[0], &holds)); \
        *out = jbool(holds);                              \
        return ERR_OK;                                    \
    }

TEST_BY_OPERATOR(test_eq, JC_EQ)
TEST_BY_OPERATOR(test_ne, JC_NE)
TEST_BY_OPERATOR(test_lt, JC_LT)
TEST_BY_OPERATOR(test_le, JC_LE)
TEST_BY_OPERATOR(test_gt, JC_GT)
TEST_BY_OPERATOR(test_ge, JC_GE)
TEST_BY_OPERATOR(test_in, JC_IN)

JBUILTIN(test_sameas)
{
    bool same = self.kind == arg[0].kind;
    JUNUSED_ARGS;
    if (same && self.kind > J_STR)
        same = self.seq == arg[0].seq; /* the same object */
    else if (same)
        JTRY(jequal(r, self, arg[0], &same));
    *out = jbool(same);
    return ERR_OK;
}

JBUILTIN(test_filter)
{
    JUNUSED_ARGS;
    *out = jbool(self.kind == J_STR && jbuiltin_filter(self.s));
    return ERR_OK;
}

JBUILTIN(test_test)
{
    JUNUSED_ARGS;
    *out = jbool(self.kind == J_STR && jbuiltin_test(self.s));
    return ERR_OK;
}

const struct jbuiltin *jbuiltin_test(const struct jstr *name)
{
    static const struct jbuiltin table[] = {
        {"defined", test_defined, "", 0},    {"undefined", test_undefined, "", 0},
        {"none", test_none, "", 0},          {"string", test_string, "", 0},
        {"mapping", test_mapping, "", 0},    {"iterable", test_iterable, "", 0},
        {"sequence", test_sequence, "", 0},  {"number", test_number, "", 0},
        {"integer", test_integer, "", 0},    {"float", test_float, "", 0},
        {"boolean", test_boolean, "", 0},    {"true", test_true, "", 0},
        {"false", test_false, "", 0},        {"callable", test_callable, "", 0},
        {"escaped", test_escaped, "", 0},    {"lower", test_lower, "", 0},
        {"upper", test_upper, "", 0},        {"odd", test_odd, "", 0},
        {"even", test_even, "", 0},          {"divisibleby", test_divisibleby, "num", 1},
        {"sameas", test_sameas, "other", 1}, {"filter", test_filter, "", 0},
        {"test", test_test, "", 0},          {"in", test_in, "seq", 1},
        {"eq", test_eq, "other", 1},         {"equalto", test_eq, "other", 1},
        {"==", test_eq, "other", 1},         {"ne", test_ne, "other", 1},
        {"!=", test_ne, "other", 1},         {"lt", test_lt, "other", 1},
        {"lessthan", test_lt, "other", 1},   {"<", test_lt, "other", 1},
        {"le", test_le, "other", 1},         {"<=", test_le, "other", 1},
        {"gt", test_gt, "other", 1},         {"greaterthan", test_gt, "other", 1},
        {">", test_gt, "other", 1},          {"ge", test_ge, "other", 1},
        {">=", test_ge, "other", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (jstr_is(name, table[i].name))
            return &table[i];
    return NULL;
}
