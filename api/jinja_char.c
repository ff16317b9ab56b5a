/* jinja_char.c - characters as Python sees them: white space, case, printability.
 *
 * White space and separators are short lists. Letter case and "is it assigned at
 * all" come from the C library's C.UTF-8 tables, which do not depend on the
 * locale of the process; where that locale is missing, ASCII remains.
 */
#include <locale.h>
#include <pthread.h>
#include <string.h>
#include <wctype.h>

#include "api/jinja_str.h"

static locale_t unicode;
static pthread_once_t unicode_once = PTHREAD_ONCE_INIT;

static void unicode_open(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (!unicode)
        unicode = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
}

static locale_t unicode_tables(void)
{
    pthread_once(&unicode_once, unicode_open);
    return unicode;
}

struct char_range {
    uint32_t first, last;
};

static bool in_ranges(uint32_t cp, const struct char_range *range, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (cp >= range[i].first && cp <= range[i].last)
            return true;
    return false;
}
#define IN_RANGES(cp, table) in_ranges((cp), (table), sizeof(table) / sizeof(table)[0])

bool jchar_space(uint32_t cp)
{
    static const struct char_range wide[] = {{0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
                                             {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                             {0x205f, 0x205f}, {0x3000, 0x3000}};
    if (cp < 0x80)
        return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 31);
    return IN_RANGES(cp, wide);
}

bool jchar_line_break(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

bool jchar_alpha(uint32_t cp)
{
    return iswalpha_l((wint_t)cp, unicode_tables()) && !jchar_digit(cp);
}

bool jchar_digit(uint32_t cp)
{
    return cp >= '0' && cp <= '9';
}

bool jchar_upper(uint32_t cp)
{
    return iswupper_l((wint_t)cp, unicode_tables());
}

bool jchar_lower(uint32_t cp)
{
    return iswlower_l((wint_t)cp, unicode_tables()) || cp == 0xdf;
}

uint32_t jchar_to_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    return (uint32_t)towlower_l((wint_t)cp, unicode_tables());
}

static uint32_t to_upper(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'a' && cp <= 'z' ? cp - 32 : cp;
    return (uint32_t)towupper_l((wint_t)cp, unicode_tables());
}

/* What repr() shows as it is: all but controls, formats, private and unassigned
 * characters and every separator but the space. */
bool jchar_printable(uint32_t cp)
{
    static const struct char_range hidden[] = {
        {0, 0x1f},          {0x7f, 0xa0},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
        {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},     {0x1680, 0x1680},
        {0x180e, 0x180e},   {0x2000, 0x200f},   {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},
        {0xd800, 0xf8ff},   {0xfeff, 0xfeff},   {0xfff9, 0xfffb},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
        {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0001, 0xe007f}, {0xf0000, 0x10ffff}};
    if (cp < 0x7f)
        return cp >= 0x20;
    return !IN_RANGES(cp, hidden) && iswprint_l((wint_t)cp, unicode_tables());
}

/* ---- strip ----------------------------------------------------------------------- */

static bool in_set(const struct jstr *s, size_t at, size_t n, uint32_t cp, const struct jstr *set)
{
    if (!set)
        return jchar_space(cp);
    uint32_t other;
    for (size_t i = 0, step; i < set->len; i += step) {
        step = jstr_char(set, i, &other);
        if (step == n && memcmp(set->text + i, s->text + at, n) == 0)
            return true;
    }
    return false;
}

err jstr_strip(struct jrun *r, const struct jstr *s, const struct jstr *set, unsigned sides, struct jval *out)
{
    size_t start = 0, end = s->len, n;
    uint32_t cp;
    while (sides & JSTRIP_LEFT && start < end) {
        n = jstr_char(s, start, &cp);
        if (!in_set(s, start, n, cp, set))
            break;
        start += n;
    }
    while (sides & JSTRIP_RIGHT && end > start) {
        size_t at = jstr_back(s, end);
        n = jstr_char(s, at, &cp);
        if (!in_set(s, at, n, cp, set))
            break;
        end = at;
    }
    size_t moved = (start + s->len - end) * (set ? 1 + set->len : 1);
    JTRY(jstep(r, moved / 16));
    return jstr_slice(r, s, start, end, out);
}

/* ---- letter case ------------------------------------------------------------------- */

static void put_cased(struct jout *o, uint32_t cp, bool upper, bool user)
{
    if (upper && cp == 0xdf) /* the one common letter whose capital is two */
        jout_put(o, "SS", 2, user);
    else
        jout_char(o, upper ? to_upper(cp) : jchar_to_lower(cp), user);
}

err jstr_case(struct jrun *r, const struct jstr *s, enum jcase how, struct jval *out)
{
    struct jout o;
    bool in_word = false;
    uint32_t cp;
    jout_init(&o, r);
    for (size_t at = 0, n; at < s->len; at += n) {
        n = jstr_char(s, at, &cp);
        bool upper = how == JCASE_UPPER;
        if (how == JCASE_TITLE)
            upper = !in_word;
        else if (how == JCASE_CAPITAL)
            upper = at == 0;
        else if (how == JCASE_SWAP)
            upper = jchar_lower(cp);
        in_word = jchar_alpha(cp);
        if (cp == 0xfffd) /* perhaps a byte that is not UTF-8: keep it */
            jout_put(&o, s->text + at, n, jstr_user_at(s, at));
        else
            put_cased(&o, cp, upper, jstr_user_at(s, at));
    }
    JTRY(jout_take(&o, out));
    return s->markup ? jstr_as_markup(r, out->s, true, out) : ERR_OK;
}
