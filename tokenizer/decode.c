/* decode.c - ids to text, at once and as a stream, by one machine.
 *
 * A piece goes through the steps before `fuse` alone; what it yields is text,
 * a single byte (byte fallback) or bytes (byte level). Bytes wait in `held`
 * until they are whole characters. Decoding at once differs in one thing only:
 * a run of fallback bytes is judged when it ends.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/pipeline.h"
#include "tokenizer/text.h"

#define REPLACEMENT "\xef\xbf\xbd"

void dec_list_fini(struct dec_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->step[i].text);
        free(l->step[i].with);
    }
    *l = (struct dec_list){0};
}

err dec_list_add(struct dec_list *l, struct dec_step step, struct why *why)
{
    if (l->n == DEC_MAX_STEPS) {
        free(step.text);
        free(step.with);
        return why_set(why, ERR_UNSUPPORTED, "tokenizer: more than %d decoder steps", DEC_MAX_STEPS);
    }
    l->step[l->n++] = step;
    return ERR_OK;
}

err dec_list_add_text(struct dec_list *l, enum dec_kind kind, const char *text, const char *with, size_t count,
                      struct why *why)
{
    struct dec_step st = {.kind = kind, .count = count, .text = text ? strdup(text) : NULL,
                          .with = with ? strdup(with) : NULL, .text_len = text ? strlen(text) : 0,
                          .with_len = with ? strlen(with) : 0};
    if ((text && !st.text) || (with && !st.with)) {
        free(st.text);
        free(st.with);
        return why_set(why, ERR_NOMEM, "tokenizer: decoder");
    }
    return dec_list_add(l, st, why);
}

static void put_replaced(struct buf *out, const char *s, size_t len, const char *from, size_t from_len,
                         const char *to, size_t to_len)
{
    for (const char *at; from_len > 0 && (at = memmem(s, len, from, from_len));) {
        buf_put(out, s, (size_t)(at - s));
        buf_put(out, to, to_len);
        len -= (size_t)(at - s) + from_len;
        s = at + from_len;
    }
    buf_put(out, s, len);
}

/* HF's clean-up of one WordPiece token, in its order. */
static void clean_up(struct buf *b)
{
    static const char *const rules[][2] = {
        {" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
        {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && b->len > 0; i++) {
        if (!memmem(b->data, b->len, rules[i][0], strlen(rules[i][0])))
            continue;
        struct buf to;
        buf_init(&to);
        put_replaced(&to, b->data, b->len, rules[i][0], strlen(rules[i][0]), rules[i][1], strlen(rules[i][1]));
        to.failed |= b->failed;
        buf_fini(b);
        *b = to;
    }
}

static void step_wordpiece(const struct dec_step *st, uint8_t type, bool first, const char *s, size_t len,
                           struct buf *out)
{
    bool marked = len >= st->text_len && memcmp(s, st->text, st->text_len) == 0;
    if (st->drop) { /* marked pieces begin words */
        bool word = marked || type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if (word && !first)
            buf_putc(out, ' ');
    } else {
        marked &= !first;
        if (!marked && !first)
            buf_putc(out, ' ');
    }
    if (marked) {
        s += st->text_len;
        len -= st->text_len;
    }
    buf_put(out, s, len);
    if (st->clean_up)
        clean_up(out);
}

static void step_byte_level(bool raw, const char *s, size_t len, struct buf *out)
{
    size_t before = out->len;
    bool valid = utf8_valid_prefix(s, len) == len;
    for (size_t i = 0, n; !raw && valid && i < len; i += n) {
        int byte = byte_level_byte(utf8_get(s + i, &n));
        if (byte < 0)
            raw = true;
        else
            buf_putc(out, (char)byte);
    }
    if (raw || !valid) { /* not of the alphabet: the piece stands for itself */
        if (!out->failed)
            out->len = before;
        buf_put(out, s, len);
    }
}

/* The steps before `fuse`, on one piece. *byte: it is one byte of a character
 * (then it is not in out). */
static void piece_text(const struct tokenizer *t, int32_t id, bool first, struct buf *out, int *byte)
{
    const struct vocab_piece *p = &t->vocab.piece[id];
    bool added = p->type == TOKEN_CONTROL || p->type == TOKEN_USER_DEFINED || p->type == TOKEN_UNKNOWN;
    struct buf a;
    *byte = -1;
    buf_clear(out);
    if (!p->text)
        return;
    buf_init(&a);
    a.limit = out->limit = text_growth_limit(p->len, DEC_MAX_GROWTH);
    if (t->dec.blanks && !first)
        buf_putc(out, ' ');
    buf_put(out, p->text, p->len);
    for (size_t i = 0; i < t->dec.n && t->dec.step[i].kind != DEC_FUSE && out->len > 0; i++) {
        const struct dec_step *st = &t->dec.step[i];
        const char *s = out->data;
        size_t len = out->len, skip = 0;
        buf_clear(&a);
        switch (st->kind) {
        case DEC_REPLACE:
            put_replaced(&a, s, len, st->text, st->text_len, st->with, st->with_len);
            break;
        case DEC_BYTE_FALLBACK:
            *byte = vocab_byte_value(s, len);
            if (*byte >= 0) {
                buf_clear(out);
                goto out;
            }
            continue;
        case DEC_STRIP:
            for (size_t k = 0; k < st->count && len - skip >= st->text_len &&
                               memcmp(s + skip, st->text, st->text_len) == 0; k++)
                skip += st->text_len;
            buf_put(&a, s + skip, len - skip);
            break;
        case DEC_BYTE_LEVEL:
            step_byte_level(added && t->raw_added_bytes, s, len, &a);
            break;
        case DEC_METASPACE:
            put_replaced(&a, s, len, st->text, st->text_len, " ", st->drop && first ? 0 : 1);
            break;
        case DEC_WORDPIECE:
            step_wordpiece(st, p->type, first, s, len, &a);
            break;
        default:
            continue;
        }
        struct buf swap = a;
        a = *out;
        *out = swap;
        out->failed |= a.failed;
    }
out:
    out->failed |= a.failed;
    buf_fini(&a);
}

/* Bytes of s[0..len) that belong to one malformed or unfinished character, as
 * Unicode's "maximal subpart" has it; *unfinished: more bytes could save it. */
static size_t broken_bytes(const unsigned char *s, size_t len, bool *unfinished)
{
    unsigned char lo = 0x80, hi = 0xbf, c = s[0];
    *unfinished = false;
    if (c < 0xc2 || c > 0xf4)
        return 1;
    if (c == 0xe0)
        lo = 0xa0;
    if (c == 0xed)
        hi = 0x9f;
    if (c == 0xf0)
        lo = 0x90;
    if (c == 0xf4)
        hi = 0x8f;
    size_t want = utf8_size(c), i = 1;
    for (; i < want && i < len; i++) {
        if (s[i] < lo || s[i] > hi)
            return i;
        lo = 0x80;
        hi = 0xbf;
    }
    *unfinished = i < want;
    return i;
}

/* Text that is final: only the strip at the very start is left to do. */
static void emit(struct tok_stream *s, const char *text, size_t len, struct buf *out)
{
    if (s->strip_left > 0 && len > 0) {
        const struct dec_list *l = &s->t->dec;
        const struct dec_step *st = &l->step[l->n - 1];
        while (s->strip_left > 0 && len >= st->text_len && memcmp(text, st->text, st->text_len) == 0) {
            text += st->text_len;
            len -= st->text_len;
            s->strip_left--;
        }
        if (len > 0)
            s->strip_left = 0;
    }
    buf_put(out, text, len);
}

/* Does s[0..len) stop inside a character that more bytes could finish? */
static bool stops_inside(const char *s, size_t len)
{
    size_t back = len < 3 ? len : 3;
    for (size_t i = len - back; i < len; i++) {
        bool unfinished;
        if (((unsigned char)s[i] & 0xc0) == 0xc0 &&
            broken_bytes((const unsigned char *)s + i, len - i, &unfinished) == len - i && unfinished)
            return true;
    }
    return false;
}

/* Whole characters of held go out, malformed ones as U+FFFD; with `end` also
 * what is unfinished. */
static void flush_bytes(struct tok_stream *s, bool end, struct buf *out)
{
    size_t done = 0;
    while (done < s->held.len) {
        const char *at = s->held.data + done;
        size_t left = s->held.len - done, valid = utf8_valid_prefix(at, left);
        emit(s, at, valid, out);
        done += valid;
        if (valid == left)
            break;
        bool unfinished;
        size_t n = broken_bytes((const unsigned char *)at + valid, left - valid, &unfinished);
        if (unfinished && !end)
            break;
        emit(s, REPLACEMENT, strlen(REPLACEMENT), out);
        done += n;
    }
    buf_drop(&s->held, done);
}

static void emit_bad_run(struct tok_stream *s, struct buf *out)
{
    for (size_t i = 0; i < s->held.len; i++)
        emit(s, REPLACEMENT, strlen(REPLACEMENT), out);
    buf_clear(&s->held);
}

/* A run of fallback bytes is over. */
static void end_run(struct tok_stream *s, struct buf *out)
{
    if (s->held.len > 0) {
        if (!s->bad_run && utf8_valid_prefix(s->held.data, s->held.len) == s->held.len) {
            emit(s, s->held.data, s->held.len, out);
            buf_clear(&s->held);
        } else {
            emit_bad_run(s, out);
        }
    }
    s->bad_run = false;
}

static void push_byte(struct tok_stream *s, int byte, bool early, struct buf *out)
{
    buf_putc(&s->held, (char)byte);
    if (!early || s->held.failed)
        return;
    if (!s->bad_run) {
        size_t valid = utf8_valid_prefix(s->held.data, s->held.len);
        bool unfinished = true;
        emit(s, s->held.data, valid, out);
        buf_drop(&s->held, valid);
        if (s->held.len > 0)
            broken_bytes((const unsigned char *)s->held.data, s->held.len, &unfinished);
        s->bad_run = !unfinished;
    }
    if (s->bad_run)
        emit_bad_run(s, out);
}

/* early: send characters as soon as they are whole. piece: working memory. */
static err push(struct tok_stream *s, int32_t id, bool early, struct buf *piece, struct buf *out, struct why *why)
{
    const struct tokenizer *t = s->t;
    if (id < 0 || (size_t)id >= t->vocab.n)
        return why_set(why, ERR_INVAL, "token id %d is not in 0..%zu", id, t->vocab.n - 1);
    uint8_t type = t->vocab.piece[id].type;
    if (s->skip_special && (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN))
        return ERR_OK;

    int byte;
    bool bytes = t->dec.n > 0 && t->dec.step[0].kind == DEC_BYTE_LEVEL;
    piece_text(t, id, s->at_start, piece, &byte);
    s->at_start = false;
    if (bytes) {
        buf_put(&s->held, piece->data, piece->len);
        /* A piece that ends inside a character waits with it, as HF's streams do. */
        bool wait = early ? stops_inside(s->held.data, s->held.len) : s->held.len < 4096;
        if (!wait)
            flush_bytes(s, false, out);
    } else if (byte >= 0) {
        push_byte(s, byte, early, out);
    } else {
        end_run(s, out);
        size_t valid = piece->len > 0 ? utf8_valid_prefix(piece->data, piece->len) : 0;
        if (valid == piece->len) {
            emit(s, piece->data, piece->len, out);
        } else { /* a vocabulary with broken strings: still never broken output */
            buf_put(&s->held, piece->data, piece->len);
            flush_bytes(s, true, out);
        }
    }
    if (piece->failed)
        return why_set(why, ERR_LIMIT, "tokenizer: token %d becomes too long a text, or memory is out", id);
    if (s->held.failed || out->failed)
        return why_set(why, ERR_NOMEM, "tokenizer: decoding");
    return ERR_OK;
}

void tok_stream_init(struct tok_stream *s, const struct tokenizer *t, bool skip_special, bool at_start)
{
    *s = (struct tok_stream){.t = t, .skip_special = skip_special, .at_start = at_start};
    if (at_start && t->dec.n > 0 && t->dec.step[t->dec.n - 1].kind == DEC_STRIP_TEXT)
        s->strip_left = t->dec.step[t->dec.n - 1].count;
    buf_init(&s->held);
}

void tok_stream_fini(struct tok_stream *s)
{
    buf_fini(&s->held);
}

err tok_stream_push(struct tok_stream *s, int32_t id, struct buf *out, struct why *why)
{
    struct buf piece;
    buf_init(&piece);
    err e = push(s, id, true, &piece, out, why);
    buf_fini(&piece);
    return e;
}

err tok_stream_end(struct tok_stream *s, struct buf *out, struct why *why)
{
    if (s->t->dec.n > 0 && s->t->dec.step[0].kind == DEC_BYTE_LEVEL)
        flush_bytes(s, true, out);
    else
        end_run(s, out);
    return out->failed ? why_set(why, ERR_NOMEM, "tokenizer: decoding") : ERR_OK;
}

err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special, struct buf *out,
                     struct why *why)
{
    err e = ERR_OK;
    size_t before = out->len;
    struct tok_stream s;
    struct buf piece;
    buf_init(&piece);
    tok_stream_init(&s, t, skip_special, true);
    for (size_t i = 0; i < n; i++)
        TRY(push(&s, ids[i], false, &piece, out, why));
    TRY(tok_stream_end(&s, out, why));
out:
    if (e != ERR_OK && !out->failed)
        out->len = before;
    tok_stream_fini(&s);
    buf_fini(&piece);
    return e;
}

err tokenizer_token_bytes(const struct tokenizer *t, int32_t id, struct buf *out, struct why *why)
{
    if (id < 0 || (size_t)id >= t->vocab.n)
        return why_set(why, ERR_INVAL, "token id %d is not in 0..%zu", id, t->vocab.n - 1);
    struct buf piece;
    int byte;
    buf_init(&piece);
    piece_text(t, id, false, &piece, &byte);
    if (byte >= 0)
        buf_putc(out, (char)byte);
    else
        buf_put(out, piece.data, piece.len);
    bool failed = piece.failed || out->failed;
    buf_fini(&piece);
    return failed ? why_set(why, ERR_NOMEM, "tokenizer: token %d", id) : ERR_OK;
}
