/* jinja_parse.c - statements, and the parser's entry. */
#include "api/jinja_parse.h"

#include <string.h>

#include "api/jinja_str.h"

err jparse_fail(struct jparser *p, const char *what)
{
    p->r->line = p->at->line;
    return why_set(p->r->why, ERR_FORMAT, "%s", what);
}

err jparse_node(struct jparser *p, enum jnode_kind kind, struct jnode **out)
{
    struct jnode *n = jalloc(p->r, 1, sizeof *n);
    if (!n)
        return jrun_nomem(p->r);
    n->kind = kind;
    n->line = p->at->line;
    *out = n;
    return ERR_OK;
}

static size_t name_slot(const struct jparser *p, const struct jstr *name)
{
    size_t h = 5381;
    for (size_t i = 0; i < name->len; i++)
        h = h * 33 + (unsigned char)name->text[i];
    for (h &= p->n_slots - 1; p->names[h] && !jstr_equal(p->names[h], name); h = (h + 1) & (p->n_slots - 1))
        ;
    return h;
}

err jparse_intern(struct jparser *p, const struct jstr *name, const struct jstr **out)
{
    if (4 * p->n_names >= 3 * p->n_slots) {
        const struct jstr **old = p->names;
        size_t n_old = p->n_slots;
        p->n_slots = n_old ? 2 * n_old : 256;
        p->names = jalloc(p->r, p->n_slots, sizeof *p->names);
        if (!p->names)
            return jrun_nomem(p->r);
        for (size_t i = 0; i < n_old; i++)
            if (old[i])
                p->names[name_slot(p, old[i])] = old[i];
    }
    size_t at = name_slot(p, name);
    if (!p->names[at]) {
        p->names[at] = name;
        p->n_names++;
    }
    *out = p->names[at];
    return ERR_OK;
}

bool jparse_word(const struct jparser *p, const char *word)
{
    return p->at->kind == JT_NAME && jstr_is(p->at->value.s, word);
}

bool jparse_skip_op(struct jparser *p, unsigned op)
{
    bool hit = jparse_op(p, op);
    p->at += hit;
    return hit;
}

bool jparse_skip_word(struct jparser *p, const char *word)
{
    bool hit = jparse_word(p, word);
    p->at += hit;
    return hit;
}

err jparse_expect_op(struct jparser *p, unsigned op)
{
    char what[] = "expected \" \"";
    what[10] = (char)op;
    return jparse_skip_op(p, op) ? ERR_OK : jparse_fail(p, what);
}

err jparse_expect_word(struct jparser *p, const char *word)
{
    if (jparse_skip_word(p, word))
        return ERR_OK;
    p->r->line = p->at->line;
    return why_set(p->r->why, ERR_FORMAT, "expected \"%s\"", word);
}

err jparse_name(struct jparser *p, const struct jstr **out)
{
    if (p->at->kind != JT_NAME)
        return jparse_fail(p, "a name was expected");
    JTRY(jparse_intern(p, p->at->value.s, out));
    p->at++;
    return ERR_OK;
}

static err block_end(struct jparser *p)
{
    if (p->at->kind != JT_BLOCK_END)
        return jparse_fail(p, "the end of the tag was expected");
    p->at++;
    return ERR_OK;
}

/* ---- bodies ----------------------------------------------------------------------- */

static err statement(struct jparser *p, struct jnode **out);

static bool at_end_word(const struct jparser *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (jparse_word(p, *ends))
            return true;
    return false;
}

/* Text, prints and statements up to a tag that begins with one of `ends` (NULL-
 * terminated); that word is left to be read. */
static err body(struct jparser *p, const char *const *ends, struct jnode **list)
{
    struct jnode **last = list;
    for (;; last = *last ? &(*last)->next : last) {
        switch (p->at->kind) {
        case JT_END:
            return *ends ? jparse_fail(p, "Unexpected end of template.") : ERR_OK;
        case JT_DATA:
            JTRY(jparse_node(p, JN_DATA, last));
            (*last)->constant = p->at->value;
            p->at++;
            break;
        case JT_PRINT_BEGIN:
            p->at++;
            JTRY(jparse_node(p, JN_PRINT, last));
            JTRY(jparse_tuple(p, false, NULL, &(*last)->a));
            if (p->at->kind != JT_PRINT_END)
                return jparse_fail(p, "expected token 'end of print statement'");
            p->at++;
            break;
        default: /* a block: the lexer makes nothing else between tags */
            p->at++;
            if (at_end_word(p, ends))
                return ERR_OK;
            JTRY(statement(p, last));
        }
    }
}

static err unknown_now(struct jparser *p)
{
    const struct jnode *n = p->unknown;
    if (!n)
        return ERR_OK;
    p->r->line = n->line;
    return why_set(p->r->why, ERR_FORMAT, "No %s named '%.*s'.", n->kind == JN_FILTER ? "filter" : "test",
                   (int)n->word->len, n->word->text);
}

/* A body with a scope of its own: unknown filters in it count at once. */
static err scoped_body(struct jparser *p, const char *const *ends, struct jnode **list)
{
    const struct jnode *outer = p->unknown;
    p->unknown = NULL;
    JTRY(body(p, ends, list));
    JTRY(unknown_now(p));
    p->unknown = outer;
    return ERR_OK;
}

/* ... with its end tag. */
static err whole_body(struct jparser *p, const char *end, struct jnode **list)
{
    const char *const ends[] = {end, NULL};
    JTRY(block_end(p));
    JTRY(scoped_body(p, ends, list));
    p->at++;
    return block_end(p);
}

/* ---- targets ------------------------------------------------------------------------ */

static err one_target(struct jparser *p, bool allow_attr, struct jnode **out)
{
    if (jparse_skip_op(p, JOP1('('))) {
        JTRY(jparse_target(p, false, out));
        return jparse_expect_op(p, JOP1(')'));
    }
    JTRY(jparse_node(p, JN_NAME, out));
    JTRY(jparse_name(p, &(*out)->name));
    if (!allow_attr || !jparse_skip_op(p, JOP1('.')))
        return ERR_OK;
    struct jnode *attr;
    JTRY(jparse_node(p, JN_ATTR, &attr));
    attr->a = *out;
    *out = attr;
    return jparse_name(p, &attr->name);
}

err jparse_target(struct jparser *p, bool allow_attr, struct jnode **out)
{
    struct jnode *first, *all;
    JTRY(jenter(p->r));
    err e = one_target(p, allow_attr, &first);
    jleave(p->r);
    JTRY(e);
    *out = first;
    if (!jparse_op(p, JOP1(',')))
        return ERR_OK;
    JTRY(jparse_node(p, JN_TUPLE, &all));
    all->list = first;
    for (struct jnode **last = &first->next;
         jparse_skip_op(p, JOP1(',')) && (p->at->kind == JT_NAME || jparse_op(p, JOP1('('))) &&
         !jparse_word(p, "in");
         last = &(*last)->next)
        JTRY(one_target(p, allow_attr, last));
    *out = all;
    return ERR_OK;
}

/* ---- statements ------------------------------------------------------------------------ */

static err parse_if(struct jparser *p, struct jnode *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    const struct jnode *outer = p->unknown;
    for (;;) {
        JTRY(jparse_tuple(p, true, NULL, &n->a));
        JTRY(block_end(p));
        JTRY(body(p, ends, &n->body));
        if (!jparse_skip_word(p, "elif"))
            break;
        JTRY(jparse_node(p, JN_IF, &n->orelse));
        n = n->orelse;
    }
    if (jparse_skip_word(p, "else")) {
        JTRY(block_end(p));
        JTRY(body(p, last, &n->orelse));
    }
    p->at++;
    p->unknown = outer;
    return block_end(p);
}

static err parse_for(struct jparser *p, struct jnode *n)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    static const char *const last[] = {"endfor", NULL};
    JTRY(jparse_target(p, false, &n->a));
    JTRY(jparse_expect_word(p, "in"));
    JTRY(jparse_tuple(p, true, "recursive", &n->b));
    if (jparse_skip_word(p, "if"))
        JTRY(jparse_expr(p, false, &n->c));
    n->recursive = jparse_skip_word(p, "recursive");
    JTRY(block_end(p));
    JTRY(scoped_body(p, ends, &n->body));
    if (jparse_skip_word(p, "else")) {
        JTRY(block_end(p));
        JTRY(scoped_body(p, last, &n->orelse));
    }
    p->at++;
    return block_end(p);
}

static err parse_set(struct jparser *p, struct jnode *n)
{
    JTRY(jparse_target(p, true, &n->a));
    if (jparse_skip_op(p, JOP1('='))) {
        JTRY(jparse_tuple(p, false, NULL, &n->b));
        return block_end(p);
    }
    n->kind = JN_SET_BLOCK;
    JTRY(jparse_filters(p, &n->b, false));
    return whole_body(p, "endset", &n->body);
}

/* (a, b=1) in the heads of macros and call blocks. */
static err signature(struct jparser *p, struct jmacro_def *m)
{
    struct jparam param[256];
    JTRY(jparse_expect_op(p, JOP1('(')));
    while (!jparse_op(p, JOP1(')'))) {
        if (m->n)
            JTRY(jparse_expect_op(p, JOP1(',')));
        if (m->n == sizeof param / sizeof param[0])
            return jparse_fail(p, "too many parameters");
        param[m->n] = (struct jparam){0};
        JTRY(jparse_name(p, &param[m->n].name));
        m->explicit_caller |= jstr_is(param[m->n].name, "caller");
        if (jparse_skip_op(p, JOP1('=')))
            JTRY(jparse_expr(p, false, &param[m->n].fallback));
        else if (m->n && param[m->n - 1].fallback)
            return jparse_fail(p, "non-default argument follows default argument");
        m->n++;
    }
    m->param = jalloc(p->r, m->n, sizeof *m->param);
    if (!m->param)
        return jrun_nomem(p->r);
    memcpy(m->param, param, m->n * sizeof *m->param);
    return jparse_expect_op(p, JOP1(')'));
}

static err macro_body(struct jparser *p, const char *end, struct jmacro_def *m)
{
    unsigned outer = p->uses;
    p->uses = 0;
    JTRY(whole_body(p, end, &m->body));
    m->takes_caller = p->uses & JUSES_CALLER;
    m->takes_kwargs = p->uses & JUSES_KWARGS;
    m->takes_varargs = p->uses & JUSES_VARARGS;
    p->uses |= outer; /* what an inner macro names, the outer one takes in too */
    return ERR_OK;
}

static err new_macro(struct jparser *p, struct jnode *n)
{
    n->macro = jalloc(p->r, 1, sizeof *n->macro);
    return n->macro ? ERR_OK : jrun_nomem(p->r);
}

static err parse_macro(struct jparser *p, struct jnode *n)
{
    JTRY(new_macro(p, n));
    JTRY(jparse_name(p, &n->macro->name));
    JTRY(signature(p, n->macro));
    return macro_body(p, "endmacro", n->macro);
}

static err parse_call_block(struct jparser *p, struct jnode *n)
{
    static const struct jstr name = {.text = "caller", .len = 6};
    JTRY(new_macro(p, n));
    n->macro->name = &name; /* only for messages */
    if (jparse_op(p, JOP1('(')))
        JTRY(signature(p, n->macro));
    JTRY(jparse_expr(p, false, &n->a));
    if (n->a->kind != JN_CALL)
        return jparse_fail(p, "expected call");
    return macro_body(p, "endcall", n->macro);
}

static err parse_filter_block(struct jparser *p, struct jnode *n)
{
    JTRY(jparse_filters(p, &n->a, true));
    return whole_body(p, "endfilter", &n->body);
}

static err parse_with(struct jparser *p, struct jnode *n)
{
    for (struct jnode **last = &n->list; p->at->kind != JT_BLOCK_END; last = &(*last)->next) {
        if (n->list)
            JTRY(jparse_expect_op(p, JOP1(',')));
        JTRY(jparse_node(p, JN_SET, last));
        JTRY(one_target(p, false, &(*last)->a));
        JTRY(jparse_expect_op(p, JOP1('=')));
        JTRY(jparse_expr(p, false, &(*last)->b));
    }
    return whole_body(p, "endwith", &n->body);
}

static err parse_print(struct jparser *p, struct jnode *n)
{
    JTRY(jparse_node(p, JN_CONCAT, &n->a));
    for (struct jnode **last = &n->a->list; p->at->kind != JT_BLOCK_END; last = &(*last)->next) {
        if (n->a->list)
            JTRY(jparse_expect_op(p, JOP1(',')));
        JTRY(jparse_expr(p, false, last));
    }
    return n->a->list ? block_end(p) : jparse_fail(p, "an expression was expected");
}

static err parse_generation(struct jparser *p, struct jnode *n)
{
    return whole_body(p, "endgeneration", &n->body);
}

static err parse_bare(struct jparser *p, struct jnode *n)
{
    (void)n;
    return block_end(p);
}

static err parse_refused(struct jparser *p, struct jnode *n)
{
    (void)n;
    p->r->line = p->at[-1].line;
    const struct jstr *word = p->at[-1].value.s;
    return why_set(p->r->why, ERR_UNSUPPORTED, "chat templates here have no {%% %.*s %%}", (int)word->len,
                   word->text);
}

static err statement(struct jparser *p, struct jnode **out)
{
    static const struct {
        const char *word;
        enum jnode_kind kind;
        err (*parse)(struct jparser *, struct jnode *);
    } rows[] = {
        {"if", JN_IF, parse_if},
        {"for", JN_FOR, parse_for},
        {"set", JN_SET, parse_set},
        {"macro", JN_MACRO, parse_macro},
        {"call", JN_CALL_BLOCK, parse_call_block},
        {"filter", JN_FILTER_BLOCK, parse_filter_block},
        {"with", JN_WITH, parse_with},
        {"print", JN_PRINT, parse_print},
        {"generation", JN_SCOPE, parse_generation},
        {"break", JN_BREAK, parse_bare},
        {"continue", JN_CONTINUE, parse_bare},
        {"include", JN_SCOPE, parse_refused},
        {"import", JN_SCOPE, parse_refused},
        {"from", JN_SCOPE, parse_refused},
        {"extends", JN_SCOPE, parse_refused},
        {"block", JN_SCOPE, parse_refused},
        {"autoescape", JN_SCOPE, parse_refused},
    };
    if (p->at->kind != JT_NAME)
        return jparse_fail(p, "tag name expected");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (jparse_word(p, rows[i].word)) {
            JTRY(jparse_node(p, rows[i].kind, out));
            p->at++;
            JTRY(jenter(p->r));
            err e = rows[i].parse(p, *out);
            jleave(p->r);
            return e;
        }
    p->r->line = p->at->line;
    return why_set(p->r->why, ERR_FORMAT, "Encountered unknown tag '%.*s'.", (int)p->at->value.s->len,
                   p->at->value.s->text);
}

static err intern_text(struct jparser *p, const char *text, const struct jstr **out)
{
    struct jval v;
    JTRY(jstr_own(p->r, text, strlen(text), &v));
    return jparse_intern(p, v.s, out);
}

err jparse(struct jrun *r, const struct jtoken *tokens, struct jinja *out)
{
    static const char *const none[] = {NULL};
    struct jparser p = {.r = r, .at = tokens};
    JTRY(intern_text(&p, "loop", &out->loop));
    JTRY(intern_text(&p, "caller", &out->caller));
    JTRY(intern_text(&p, "kwargs", &out->kwargs));
    JTRY(intern_text(&p, "varargs", &out->varargs));
    out->body = NULL;
    JTRY(body(&p, none, &out->body));
    return unknown_now(&p);
}
