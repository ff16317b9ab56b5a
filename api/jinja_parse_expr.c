/* jinja_parse_expr.c - expressions, by recursive descent.
 *
 * Lowest first: x if y else z, or, and, not, comparisons, + -, ~, * / // %, **,
 * unary - +, then postfix (.a [b] (c)) and filters and tests. Jinja's order: `~`
 * binds tighter than `+`, and a filter tighter than any operator.
 */
#include "api/jinja_builtin.h"
#include "api/jinja_parse.h"

#include "api/jinja_str.h"

enum { MAX_LINKS = 1000 };

static err binary(struct jparser *p, enum jnode_kind kind, struct jnode *a, struct jnode *b,
                  struct jnode **out)
{
    JTRY(jparse_node(p, kind, out));
    (*out)->a = a;
    (*out)->b = b;
    return ERR_OK;
}

/* ---- primaries ------------------------------------------------------------------- */

static err constant(struct jparser *p, struct jval v, struct jnode **out)
{
    JTRY(jparse_node(p, JN_CONST, out));
    (*out)->constant = v;
    return ERR_OK;
}

static err name_or_word(struct jparser *p, struct jnode **out)
{
    static const struct {
        const char *word;
        struct jval value;
    } words[] = {{"true", {J_BOOL, {.b = true}}},   {"True", {J_BOOL, {.b = true}}},
                 {"false", {J_BOOL, {.b = false}}}, {"False", {J_BOOL, {.b = false}}},
                 {"none", {J_NONE, {0}}},           {"None", {J_NONE, {0}}}};
    const struct jstr *name = p->at->value.s;
    p->at++;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (jstr_is(name, words[i].word))
            return constant(p, words[i].value, out);
    p->uses |= jstr_is(name, "caller") ? JUSES_CALLER : 0;
    p->uses |= jstr_is(name, "kwargs") ? JUSES_KWARGS : 0;
    p->uses |= jstr_is(name, "varargs") ? JUSES_VARARGS : 0;
    JTRY(jparse_node(p, JN_NAME, out));
    return jparse_intern(p, name, &(*out)->name);
}

/* Neighbouring strings are one. */
static err literal(struct jparser *p, struct jnode **out)
{
    struct jval v = p->at->value;
    p->at++;
    while (v.kind == J_STR && p->at->kind == JT_CONST && p->at->value.kind == J_STR) {
        JTRY(jstr_concat(p->r, v.s, p->at->value.s, &v));
        p->at++;
    }
    if (v.kind == J_STR) /* constants are shared by threads: nothing may grow in place */
        ((struct jstr *)v.s)->tail = NULL;
    return constant(p, v, out);
}

static err list_display(struct jparser *p, struct jnode **out)
{
    p->at++;
    JTRY(jparse_node(p, JN_LIST, out));
    for (struct jnode **last = &(*out)->list; !jparse_op(p, JOP1(']')); last = &(*last)->next) {
        if ((*out)->list)
            JTRY(jparse_expect_op(p, JOP1(',')));
        if (jparse_op(p, JOP1(']')))
            break;
        JTRY(jparse_expr(p, false, last));
    }
    return jparse_expect_op(p, JOP1(']'));
}

static err dict_display(struct jparser *p, struct jnode **out)
{
    p->at++;
    JTRY(jparse_node(p, JN_DICT, out));
    for (struct jnode **last = &(*out)->list; !jparse_op(p, JOP1('}')); last = &(*last)->next) {
        if ((*out)->list)
            JTRY(jparse_expect_op(p, JOP1(',')));
        if (jparse_op(p, JOP1('}')))
            break;
        JTRY(jparse_expr(p, false, last));
        JTRY(jparse_expect_op(p, JOP1(':')));
        last = &(*last)->next;
        JTRY(jparse_expr(p, false, last));
    }
    return jparse_expect_op(p, JOP1('}'));
}

static err primary(struct jparser *p, struct jnode **out)
{
    if (p->at->kind == JT_NAME)
        return name_or_word(p, out);
    if (p->at->kind == JT_CONST)
        return literal(p, out);
    if (jparse_op(p, JOP1('[')))
        return list_display(p, out);
    if (jparse_op(p, JOP1('{')))
        return dict_display(p, out);
    if (!jparse_op(p, JOP1('(')))
        return jparse_fail(p, "an expression was expected");
    p->at++;
    if (jparse_op(p, JOP1(')'))) {
        JTRY(jparse_node(p, JN_TUPLE, out));
    } else {
        JTRY(jparse_tuple(p, false, NULL, out));
    }
    return jparse_expect_op(p, JOP1(')'));
}

/* ---- postfix ------------------------------------------------------------------------ */

static err slice_part(struct jparser *p, struct jnode **out)
{
    if (jparse_op(p, JOP1(':')) || jparse_op(p, JOP1(']')))
        return ERR_OK;
    return jparse_expr(p, false, out);
}

static err subscript(struct jparser *p, struct jnode **node)
{
    struct jnode *part[3] = {0};
    p->at++;
    JTRY(slice_part(p, &part[0]));
    if (!jparse_op(p, JOP1(':'))) {
        if (!part[0])
            return jparse_fail(p, "expected subscript expression");
        JTRY(binary(p, JN_ITEM, *node, part[0], node));
        return jparse_expect_op(p, JOP1(']'));
    }
    for (int i = 1; i < 3 && jparse_skip_op(p, JOP1(':')); i++)
        JTRY(slice_part(p, &part[i]));
    JTRY(binary(p, JN_SLICE, *node, part[0], node));
    (*node)->c = part[1];
    (*node)->d = part[2];
    return jparse_expect_op(p, JOP1(']'));
}

static err attribute(struct jparser *p, struct jnode **node)
{
    struct jnode *index;
    p->at++;
    if (p->at->kind == JT_NAME) {
        JTRY(binary(p, JN_ATTR, *node, NULL, node));
        return jparse_name(p, &(*node)->name);
    }
    if (p->at->kind != JT_CONST || p->at->value.kind != J_INT)
        return jparse_fail(p, "expected name or number");
    JTRY(constant(p, p->at->value, &index));
    p->at++;
    return binary(p, JN_ITEM, *node, index, node);
}

err jparse_call_args(struct jparser *p, struct jnode **list)
{
    JTRY(jparse_expect_op(p, JOP1('(')));
    for (struct jnode **last = list; !jparse_op(p, JOP1(')')); last = &(*last)->next) {
        if (*list)
            JTRY(jparse_expect_op(p, JOP1(',')));
        if (jparse_op(p, JOP1(')')))
            break;
        bool spread = jparse_skip_op(p, JOP1('*')),
             spread_dict = !spread && jparse_skip_op(p, JOP2('*', '*'));
        bool keyword = !spread && !spread_dict && p->at->kind == JT_NAME && p->at[1].kind == JT_OP &&
                       p->at[1].op == JOP1('=');
        if (!spread && !spread_dict && !keyword) {
            JTRY(jparse_expr(p, false, last));
            continue;
        }
        JTRY(jparse_node(p, keyword ? JN_KEYWORD : spread ? JN_SPREAD : JN_SPREAD_DICT, last));
        if (keyword) {
            JTRY(jparse_name(p, &(*last)->name));
            p->at++;
        }
        JTRY(jparse_expr(p, false, &(*last)->a));
    }
    return jparse_expect_op(p, JOP1(')'));
}

static err call(struct jparser *p, struct jnode **node)
{
    JTRY(binary(p, JN_CALL, *node, NULL, node));
    return jparse_call_args(p, &(*node)->list);
}

/* Chains are as deep as they are long once they are evaluated: count them as depth. */
static err link_limit(struct jparser *p, int n)
{
    return n < MAX_LINKS ? ERR_OK : jparse_fail(p, "a chain of too many operators");
}

err jparse_postfix(struct jparser *p, struct jnode **node)
{
    for (int n = 0;; n++) {
        JTRY(link_limit(p, n));
        if (jparse_op(p, JOP1('.')))
            JTRY(attribute(p, node));
        else if (jparse_op(p, JOP1('[')))
            JTRY(subscript(p, node));
        else if (jparse_op(p, JOP1('(')))
            JTRY(call(p, node));
        else
            return ERR_OK;
    }
}

/* ---- filters and tests ---------------------------------------------------------------- */

static err dotted_name(struct jparser *p, const struct jstr **out)
{
    JTRY(jparse_name(p, out));
    while (jparse_skip_op(p, JOP1('.'))) { /* no built-in has a dot; the name is for the complaint */
        const struct jstr *more;
        JTRY(jparse_name(p, &more));
        *out = more;
    }
    return ERR_OK;
}

static void note_unknown(struct jparser *p, const struct jnode *n)
{
    if (!n->builtin && !p->unknown)
        p->unknown = n;
}

err jparse_filters(struct jparser *p, struct jnode **node, bool first)
{
    for (int n = 0; first || jparse_skip_op(p, JOP1('|')); n++, first = false) {
        JTRY(link_limit(p, n));
        struct jnode *f;
        JTRY(jparse_node(p, JN_FILTER, &f));
        f->a = *node;
        JTRY(dotted_name(p, &f->word));
        f->builtin = jbuiltin_filter(f->word);
        note_unknown(p, f);
        if (jparse_op(p, JOP1('(')))
            JTRY(jparse_call_args(p, &f->list));
        *node = f;
    }
    return ERR_OK;
}

static bool test_argument_follows(const struct jparser *p)
{
    if (p->at->kind == JT_CONST || jparse_op(p, JOP1('(')) || jparse_op(p, JOP1('[')) ||
        jparse_op(p, JOP1('{')))
        return true;
    return p->at->kind == JT_NAME && !jparse_word(p, "else") && !jparse_word(p, "or") &&
           !jparse_word(p, "and");
}

static err test(struct jparser *p, struct jnode **node)
{
    struct jnode *t;
    p->at++;
    bool negated = jparse_skip_word(p, "not");
    JTRY(binary(p, JN_TEST, *node, NULL, &t));
    JTRY(dotted_name(p, &t->word));
    t->builtin = jbuiltin_test(t->word);
    note_unknown(p, t);
    if (jparse_op(p, JOP1('('))) {
        JTRY(jparse_call_args(p, &t->list));
    } else if (test_argument_follows(p)) {
        if (jparse_word(p, "is"))
            return jparse_fail(p, "You cannot chain multiple tests with is");
        JTRY(primary(p, &t->list));
        JTRY(jparse_postfix(p, &t->list));
    }
    *node = t;
    return negated ? binary(p, JN_NOT, t, NULL, node) : ERR_OK;
}

static err filters_and_tests(struct jparser *p, struct jnode **node)
{
    for (int n = 0;; n++) {
        JTRY(link_limit(p, n));
        if (jparse_op(p, JOP1('|')))
            JTRY(jparse_filters(p, node, false));
        else if (jparse_word(p, "is"))
            JTRY(test(p, node));
        else if (jparse_op(p, JOP1('(')))
            JTRY(call(p, node));
        else
            return ERR_OK;
    }
}

/* ---- operators ---------------------------------------------------------------------------- */

static err unary(struct jparser *p, bool filters, struct jnode **out)
{
    struct jnode *n;
    if (jparse_op(p, JOP1('-')) || jparse_op(p, JOP1('+'))) {
        enum jnode_kind kind = jparse_op(p, JOP1('-')) ? JN_NEG : JN_POS;
        p->at++;
        JTRY(jparse_unary(p, false, &n));
        JTRY(binary(p, kind, n, NULL, &n));
    } else {
        JTRY(primary(p, &n));
    }
    JTRY(jparse_postfix(p, &n));
    if (filters)
        JTRY(filters_and_tests(p, &n));
    *out = n;
    return ERR_OK;
}

err jparse_unary(struct jparser *p, bool filters, struct jnode **out)
{
    JTRY(jenter(p->r));
    err e = unary(p, filters, out);
    jleave(p->r);
    return e;
}

/* Left-associative levels, tightest last. CONCAT is one node with a list. */
struct op_row {
    unsigned op;
    enum jnode_kind kind;
};
static const struct op_row pow_ops[] = {{JOP2('*', '*'), JN_POW}, {0}};
static const struct op_row mul_ops[] = {
    {JOP1('*'), JN_MUL}, {JOP1('/'), JN_DIV}, {JOP2('/', '/'), JN_FLOORDIV}, {JOP1('%'), JN_MOD}, {0}};
static const struct op_row add_ops[] = {{JOP1('+'), JN_ADD}, {JOP1('-'), JN_SUB}, {0}};

static err left_assoc(struct jparser *p, const struct op_row *ops,
                      err (*operand)(struct jparser *, struct jnode **), struct jnode **out)
{
    struct jnode *n, *right;
    JTRY(operand(p, &n));
    for (int links = 0;; links++) {
        const struct op_row *o = ops;
        while (o->op && !jparse_op(p, o->op))
            o++;
        if (!o->op)
            break;
        JTRY(link_limit(p, links));
        p->at++;
        JTRY(operand(p, &right));
        JTRY(binary(p, o->kind, n, right, &n));
    }
    *out = n;
    return ERR_OK;
}

static err unary_with_filters(struct jparser *p, struct jnode **out)
{
    return jparse_unary(p, true, out);
}

static err power(struct jparser *p, struct jnode **out)
{
    return left_assoc(p, pow_ops, unary_with_filters, out);
}

static err product(struct jparser *p, struct jnode **out)
{
    return left_assoc(p, mul_ops, power, out);
}

static err concat(struct jparser *p, struct jnode **out)
{
    struct jnode *first, *all;
    JTRY(product(p, &first));
    *out = first;
    if (!jparse_op(p, JOP1('~')))
        return ERR_OK;
    JTRY(jparse_node(p, JN_CONCAT, &all));
    all->list = first;
    for (struct jnode **last = &first->next; jparse_skip_op(p, JOP1('~')); last = &(*last)->next)
        JTRY(product(p, last));
    *out = all;
    return ERR_OK;
}

static err sum(struct jparser *p, struct jnode **out)
{
    return left_assoc(p, add_ops, concat, out);
}

static bool compare_op(struct jparser *p, enum jcompare_op *op)
{
    static const struct {
        unsigned token;
        enum jcompare_op op;
    } rows[] = {{JOP2('=', '='), JC_EQ}, {JOP2('!', '='), JC_NE}, {JOP1('<'), JC_LT},
                {JOP2('<', '='), JC_LE}, {JOP1('>'), JC_GT},      {JOP2('>', '='), JC_GE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (jparse_skip_op(p, rows[i].token)) {
            *op = rows[i].op;
            return true;
        }
    *op = jparse_word(p, "in") ? JC_IN : JC_NOT_IN;
    if (jparse_skip_word(p, "in"))
        return true;
    if (!jparse_word(p, "not") || p->at[1].kind != JT_NAME || !jstr_is(p->at[1].value.s, "in"))
        return false;
    p->at += 2;
    return true;
}

static err comparison(struct jparser *p, struct jnode **out)
{
    struct jnode *first, *all = NULL;
    enum jcompare_op op;
    JTRY(sum(p, &first));
    *out = first;
    struct jnode **last = NULL;
    while (compare_op(p, &op)) {
        if (!all) {
            JTRY(binary(p, JN_COMPARE, first, NULL, &all));
            last = &all->list;
        }
        JTRY(jparse_node(p, JN_OPERAND, last));
        (*last)->op = op;
        JTRY(sum(p, &(*last)->a));
        last = &(*last)->next;
    }
    if (all)
        *out = all;
    return ERR_OK;
}

static err negation(struct jparser *p, struct jnode **out)
{
    if (!jparse_skip_word(p, "not"))
        return comparison(p, out);
    struct jnode *n;
    JTRY(jenter(p->r));
    err e = negation(p, &n);
    jleave(p->r);
    return e ? e : binary(p, JN_NOT, n, NULL, out);
}

static err conjunction(struct jparser *p, struct jnode **out)
{
    struct jnode *right;
    JTRY(negation(p, out));
    for (int links = 0; jparse_skip_word(p, "and"); links++) {
        JTRY(link_limit(p, links));
        JTRY(negation(p, &right));
        JTRY(binary(p, JN_AND, *out, right, out));
    }
    return ERR_OK;
}

static err disjunction(struct jparser *p, struct jnode **out)
{
    struct jnode *right;
    JTRY(conjunction(p, out));
    for (int links = 0; jparse_skip_word(p, "or"); links++) {
        JTRY(link_limit(p, links));
        JTRY(conjunction(p, &right));
        JTRY(binary(p, JN_OR, *out, right, out));
    }
    return ERR_OK;
}

static err conditional(struct jparser *p, struct jnode **out)
{
    const struct jnode *unknown = p->unknown;
    JTRY(disjunction(p, out));
    for (int links = 0; jparse_skip_word(p, "if"); links++) {
        struct jnode *n;
        JTRY(link_limit(p, links));
        JTRY(binary(p, JN_COND, *out, NULL, &n));
        JTRY(disjunction(p, &n->b));
        if (jparse_skip_word(p, "else"))
            JTRY(jparse_expr(p, false, &n->c));
        p->unknown = unknown;
        *out = n;
    }
    return ERR_OK;
}

err jparse_expr(struct jparser *p, bool no_cond, struct jnode **out)
{
    JTRY(jenter(p->r));
    err e = no_cond ? disjunction(p, out) : conditional(p, out);
    jleave(p->r);
    return e;
}

static bool tuple_ends(const struct jparser *p, const char *stop)
{
    return p->at->kind == JT_PRINT_END || p->at->kind == JT_BLOCK_END || jparse_op(p, JOP1(')')) ||
           (stop && jparse_word(p, stop));
}

err jparse_tuple(struct jparser *p, bool no_cond, const char *stop, struct jnode **out)
{
    struct jnode *first, *all;
    JTRY(jparse_expr(p, no_cond, &first));
    *out = first;
    if (!jparse_op(p, JOP1(',')))
        return ERR_OK;
    JTRY(jparse_node(p, JN_TUPLE, &all));
    all->list = first;
    for (struct jnode **last = &first->next; jparse_skip_op(p, JOP1(',')) && !tuple_ends(p, stop);
         last = &(*last)->next)
        JTRY(jparse_expr(p, no_cond, last));
    *out = all;
    return ERR_OK;
}
