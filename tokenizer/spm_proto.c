/* spm_proto.c - walking the wire format of tokenizer.model. */
#include "tokenizer/spm_proto.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocab.h"

struct wire {
    const unsigned char *at, *end;
};

struct field {
    uint32_t number;
    unsigned type; /* 0 varint, 1 64-bit, 2 bytes, 5 32-bit */
    uint64_t value;
    const unsigned char *bytes;
    size_t len;
};

static err bad(struct why *why, const char *what)
{
    return why_set(why, ERR_FORMAT, "tokenizer.model: %s", what);
}

static bool get_varint(struct wire *w, uint64_t *out)
{
    uint64_t x = 0;
    for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        unsigned char b = *w->at++;
        x |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = x;
            return true;
        }
    }
    return false;
}

static err get_field(struct wire *w, struct field *f, struct why *why)
{
    uint64_t key;
    *f = (struct field){0};
    if (!get_varint(w, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return bad(why, "a malformed field");
    f->number = (uint32_t)(key >> 3);
    f->type = (unsigned)(key & 7);
    switch (f->type) {
    case 0:
        return get_varint(w, &f->value) ? ERR_OK : bad(why, "a cut number");
    case 1:
    case 5:
        f->len = f->type == 1 ? 8 : 4;
        break;
    case 2: {
        uint64_t n;
        if (!get_varint(w, &n) || n > (uint64_t)(w->end - w->at))
            return bad(why, "a length past the end");
        f->len = (size_t)n;
        break;
    }
    default:
        return bad(why, "an unknown wire type");
    }
    if (f->len > (size_t)(w->end - w->at))
        return bad(why, "a cut field");
    f->bytes = w->at;
    w->at += f->len;
    return ERR_OK;
}

static struct wire inside(const struct field *f)
{
    return (struct wire){f->bytes, f->bytes + f->len};
}

static err read_piece(struct wire w, struct spm_proto *p, struct why *why)
{
    struct tok_piece piece = {.text = "", .type = TOKEN_NORMAL};
    while (w.at < w.end) {
        struct field f;
        err e = get_field(&w, &f, why);
        if (e != ERR_OK)
            return e;
        if (f.number == 1 && f.type == 2) {
            if (f.len > VOCAB_MAX_PIECE_BYTES)
                return bad(why, "a piece that is too long");
            piece.text = (const char *)f.bytes;
            piece.len = (uint32_t)f.len;
        } else if (f.number == 2 && f.type == 5) {
            uint32_t bits = (uint32_t)f.bytes[0] | (uint32_t)f.bytes[1] << 8 | (uint32_t)f.bytes[2] << 16 |
                            (uint32_t)f.bytes[3] << 24;
            memcpy(&piece.score, &bits, sizeof piece.score);
        } else if (f.number == 3 && f.type == 0) {
            if (f.value < TOKEN_NORMAL || f.value > TOKEN_BYTE)
                return bad(why, "a piece of unknown type");
            piece.type = (uint8_t)f.value;
        }
    }
    if (p->n_pieces == p->cap_pieces) {
        size_t cap = p->cap_pieces ? p->cap_pieces * 2 : 1024;
        if (cap > VOCAB_MAX_IDS)
            return bad(why, "too many pieces");
        struct tok_piece *list = realloc(p->piece, cap * sizeof *list);
        if (!list)
            return why_set(why, ERR_NOMEM, "tokenizer.model: %zu pieces", cap);
        p->piece = list;
        p->cap_pieces = cap;
    }
    p->piece[p->n_pieces++] = piece;
    return ERR_OK;
}

static err read_trainer(struct wire w, struct spm_proto *p, struct why *why)
{
    while (w.at < w.end) {
        struct field f;
        err e = get_field(&w, &f, why);
        if (e != ERR_OK)
            return e;
        if (f.type != 0)
            continue;
        int32_t id = (int32_t)(uint32_t)f.value;
        switch (f.number) {
        case 3:
            p->model = id;
            break;
        case 24:
            p->space_is_suffix = f.value != 0;
            break;
        case 35:
            p->byte_fallback = f.value != 0;
            break;
        case 40:
            p->unk = id;
            break;
        case 41:
            p->bos = id;
            break;
        case 42:
            p->eos = id;
            break;
        case 43:
            p->pad = id;
            break;
        }
    }
    return ERR_OK;
}

static err read_normalizer(struct wire w, struct spm_proto *p, struct why *why)
{
    while (w.at < w.end) {
        struct field f;
        err e = get_field(&w, &f, why);
        if (e != ERR_OK)
            return e;
        if (f.number == 2 && f.type == 2) {
            p->charsmap = f.bytes;
            p->charsmap_bytes = f.len;
        } else if (f.type == 0 && f.number == 3) {
            p->prefix = f.value != 0;
        } else if (f.type == 0 && f.number == 4) {
            p->trim_spaces = f.value != 0;
        } else if (f.type == 0 && f.number == 5) {
            p->escape = f.value != 0;
        }
    }
    return ERR_OK;
}

err spm_proto_read(const void *data, size_t len, struct spm_proto *out, struct why *why)
{
    err e = ERR_OK;
    struct wire w = {data, (const unsigned char *)data + len};
    struct spm_proto p = {.model = SPM_UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1, .prefix = true,
                          .trim_spaces = true, .escape = true};
    while (w.at < w.end) {
        struct field f;
        TRY(get_field(&w, &f, why));
        if (f.type != 2)
            continue;
        if (f.number == 1)
            TRY(read_piece(inside(&f), &p, why));
        else if (f.number == 2)
            TRY(read_trainer(inside(&f), &p, why));
        else if (f.number == 3)
            TRY(read_normalizer(inside(&f), &p, why));
    }
    if (p.n_pieces == 0) {
        e = bad(why, "no pieces");
        goto out;
    }
    *out = p;
    p.piece = NULL;
out:
    free(p.piece);
    return e;
}

void spm_proto_fini(struct spm_proto *p)
{
    free(p->piece);
    *p = (struct spm_proto){0};
}
