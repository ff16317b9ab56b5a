/* spm_steps.c - SentencePiece's surroundings. */
#include "tokenizer/spm_steps.h"

#include "tokenizer/text.h"

err spm_add_steps(struct tokenizer *t, const struct spm_steps *s, struct why *why)
{
    err e;
    struct norm_step *st = &t->norm.step[t->norm.n];
    *st = (struct norm_step){.kind = NORM_SENTENCEPIECE, .trim_spaces = s->trim_spaces, .prefix = s->prefix,
                             .escape = s->escape, .keep = s->keep};
    if (s->charsmap && s->charsmap_bytes > 0)
        TRY(charsmap_init(&st->map, s->charsmap, s->charsmap_bytes, why));
    t->norm.n++;
    if (s->escape)
        TRY(dec_list_add_text(&t->dec, DEC_REPLACE, META, " ", 0, why));
    TRY(dec_list_add_text(&t->dec, DEC_BYTE_FALLBACK, NULL, NULL, 0, why));
    TRY(dec_list_add_text(&t->dec, DEC_FUSE, NULL, NULL, 0, why));
    if (s->prefix)
        TRY(dec_list_add_text(&t->dec, DEC_STRIP_TEXT, " ", NULL, 1, why));
    e = ERR_OK;
out:
    return e;
}

err spm_open_scores(struct tokenizer *t, int32_t unk, bool byte_fallback, struct why *why)
{
    err e;
    if (unk < 0 && !byte_fallback)
        FAIL(ERR_FORMAT, "tokenizer: neither an unk piece nor all byte pieces");
    TRY(bpe_init(&t->bpe, &t->vocab, t->vocab.n * 4, why));
    TRY(bpe_put_scores(&t->bpe, why));
    t->bpe.unk = unk;
    t->bpe.fuse_unk = true;
    t->bpe.byte_fallback = byte_fallback;
    bpe_find_cuts(&t->bpe);
out:
    return e;
}
