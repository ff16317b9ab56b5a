/* json_open.c - a pipeline from tokenizer.json. */
#include "tokenizer/json_read.h"

static err open_sections(const json_t *o, const json_t *config, struct tokenizer *t, struct why *why)
{
    err e;
    const json_t *model = json_get(o, "model"), *added = json_get(o, "added_tokens");
    if (!json_is_object(model))
        FAIL(ERR_FORMAT, "tokenizer.json: no \"model\"");
    TRY(json_normalizer(json_get(o, "normalizer"), &t->norm, why));
    TRY(json_pretokenizer(json_get(o, "pre_tokenizer"), &t->pre, why));
    TRY(json_decoder(json_get(o, "decoder"), &t->dec, why));
    TRY(json_vocab(model, added, t, why));
    TRY(json_model(model, t, why));
    TRY(json_added_tokens(added, t, why));
    TRY(json_postprocessor(json_get(o, "post_processor"), t, why));
    TRY(json_config(config, t, why));
    TRY(pipeline_finish(t, why));
out:
    return e;
}

err tokenizer_open_json(const char *json, size_t len, const char *config, size_t config_len, struct tokenizer **out,
                        struct why *why)
{
    err e;
    json_t *o = NULL, *conf = NULL;
    struct tokenizer *t = NULL;
    TRY(json_parse("tokenizer.json", json, len, &o, why));
    if (config)
        TRY(json_parse("tokenizer_config.json", config, config_len, &conf, why));
    t = pipeline_new();
    if (!t)
        FAIL(ERR_NOMEM, "tokenizer");
    TRY(open_sections(o, conf, t, why));
    *out = t;
    t = NULL;
out:
    tokenizer_close(t);
    json_decref(conf);
    json_decref(o);
    return e;
}
