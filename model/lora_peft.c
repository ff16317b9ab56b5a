/* lora_peft.c - adapters as PEFT saves them: adapter_config.json and
 * adapter_model.safetensors.
 *
 * The config gives r and lora_alpha, and patterns that override them for some
 * modules: the first pattern that matches the end of a module's name counts, and
 * patterns are regular expressions (a plain name is one too). The scale is
 * alpha / r, or alpha / sqrt(r) with use_rslora.
 *
 * What else a config can ask for is either about training (dropout, how to start)
 * or changes what is computed; of the latter kind everything is refused, as is a
 * start that had changed the base model's own weights (PiSSA, OLoRA ...).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "model/lora_file.h"
#include "model/lora_reader.h"
#include "model/mapped.h"
#include "model/safetensors.h"

enum {
    CONFIG_MAX_BYTES = 4 << 20,
    PATTERN_MAX_BYTES = 512,
    PATTERN_MAX_STEPS = 100000, /* of matching one name: a pattern that takes more is an attack */
    PATTERNS_MAX = 4096,
};

struct pattern {
    pcre2_code *code;
    double value;
};

struct patterns {
    struct pattern *p; /* [n], in the config's order */
    size_t n;
};

struct peft {
    struct arena arena;
    const char *config_path;
    json_t *config;
    struct safetensors *file;
    double r, alpha;
    bool rslora;
    struct patterns rank, alphas;
};

static void patterns_fini(struct patterns *p)
{
    for (size_t i = 0; i < p->n; i++)
        pcre2_code_free(p->p[i].code);
    free(p->p);
}

static void peft_close(void *ctx)
{
    struct peft *r = ctx;
    if (!r)
        return;
    patterns_fini(&r->rank);
    patterns_fini(&r->alphas);
    safetensors_close(r->file);
    json_decref(r->config);
    arena_fini(&r->arena);
    free(r);
}

/* ---- patterns ------------------------------------------------------------------------ */

/* "(.*\.)?(pattern)$" from the start of the name, as PEFT has it. */
static err pattern_open(const char *path, const char *text, double value, struct pattern *out, struct why *why)
{
    char whole[PATTERN_MAX_BYTES + 32];
    int code;
    PCRE2_SIZE at;

    if (strlen(text) > PATTERN_MAX_BYTES)
        return why_set(why, ERR_FORMAT, "%s: a pattern of %zu bytes", path, strlen(text));
    snprintf(whole, sizeof whole, "\\A(?:.*\\.)?(?:%s)$", text);
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C, &code, &at,
                                  NULL);
    if (!c)
        return why_set(why, ERR_FORMAT, "%s: \"%.64s\" is not a pattern that can be understood", path, text);
    *out = (struct pattern){c, value};
    return ERR_OK;
}

static err patterns_open(const char *path, const json_t *config, const char *key, struct patterns *out,
                         struct why *why)
{
    err e = ERR_OK;
    json_t *all = json_object_get(config, key), *value;
    const char *name;

    if (!all || json_is_null(all))
        return ERR_OK;
    if (!json_is_object(all) || json_object_size(all) > PATTERNS_MAX)
        FAIL(ERR_FORMAT, "%s: %s is not an object of at most %d patterns", path, key, PATTERNS_MAX);
    out->p = calloc(json_object_size(all) + 1, sizeof *out->p);
    if (!out->p)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    json_object_foreach(all, name, value)
    {
        if (!json_is_number(value))
            FAIL(ERR_FORMAT, "%s: %s: \"%.64s\" has no number", path, key, name);
        TRY(pattern_open(path, name, json_number_value(value), &out->p[out->n], why));
        out->n++;
    }
out:
    return e;
}

/* *value is replaced by that of the first pattern that matches. */
static err patterns_apply(const struct peft *r, const struct patterns *p, const char *module, double *value,
                          struct why *why)
{
    err e = ERR_OK;
    pcre2_match_context *limits = NULL;
    pcre2_match_data *match = NULL;

    if (p->n == 0)
        return ERR_OK;
    limits = pcre2_match_context_create(NULL);
    match = pcre2_match_data_create(1, NULL);
    if (!limits || !match)
        FAIL(ERR_NOMEM, "%s: no memory", r->config_path);
    pcre2_set_match_limit(limits, PATTERN_MAX_STEPS);
    for (size_t i = 0; i < p->n; i++) {
        int n = pcre2_match(p->p[i].code, (PCRE2_SPTR)module, strlen(module), 0, 0, match, limits);
        if (n >= 0) {
            *value = p->p[i].value;
            break;
        }
        if (n != PCRE2_ERROR_NOMATCH)
            FAIL(ERR_FORMAT, "%s: a pattern takes too long to match", r->config_path);
    }
out:
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    return e;
}

static err peft_scale(void *ctx, const char *module, int rank, float *out, struct why *why)
{
    err e;
    const struct peft *r = ctx;
    double said = r->r, alpha = r->alpha;

    TRY(patterns_apply(r, &r->rank, module, &said, why));
    TRY(patterns_apply(r, &r->alphas, module, &alpha, why));
    if (said != rank)
        FAIL(ERR_SHAPE, "%s: %.128s has rank %d, the config says %g", r->config_path, module, rank, said);
    *out = (float)(alpha / (r->rslora ? sqrt((double)rank) : (double)rank));
out:
    return e;
}

/* ---- the config ------------------------------------------------------------------------- */

/* Absent, null, false, "none", 0 or empty: not asked for. */
static bool is_off(const json_t *v)
{
    if (!v || json_is_null(v) || json_is_false(v))
        return true;
    if (json_is_string(v))
        return strcmp(json_string_value(v), "none") == 0 || json_string_value(v)[0] == 0;
    return (json_is_array(v) && json_array_size(v) == 0) || (json_is_object(v) && json_object_size(v) == 0);
}

static err check_refusals(const struct peft *r, struct why *why)
{
    static const char *const keys[][2] = {
        {"use_dora", "DoRA (weights renormalised by a learned magnitude)"},
        {"modules_to_save", "modules replaced as a whole"},
        {"bias", "trained biases"},
        {"lora_bias", "biases of the adapter itself"},
        {"layer_replication", "layers used twice"},
        {"trainable_token_indices", "trained embeddings of single tokens"},
        {"target_parameters", "adapters of bare parameters (stacked experts)"},
        {"alora_invocation_tokens", "activated LoRA"},
        {"use_qalora", "QALoRA"},
        {"use_bdlora", "block-diagonal LoRA"},
        {"arrow_config", "routing between adapters"},
        {"megatron_config", "Megatron layers"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!is_off(json_object_get(r->config, keys[i][0])))
            return why_set(why, ERR_UNSUPPORTED, "%s: %s is set: %s are not supported", r->config_path,
                           keys[i][0], keys[i][1]);
    return ERR_OK;
}

/* Starts that moved part of the base model's weights into the adapter. */
static err check_start(const struct peft *r, struct why *why)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *start = json_object_get(r->config, "init_lora_weights");

    if (!start || json_is_null(start) || json_is_boolean(start))
        return ERR_OK;
    for (size_t i = 0; json_is_string(start) && i < sizeof harmless / sizeof harmless[0]; i++)
        if (strcmp(json_string_value(start), harmless[i]) == 0)
            return ERR_OK;
    return why_set(why, ERR_UNSUPPORTED,
                   "%s: init_lora_weights is \"%.32s\", which changes the base model's weights too; save the "
                   "adapter converted to plain LoRA",
                   r->config_path, json_is_string(start) ? json_string_value(start) : "?");
}

static err read_numbers(struct peft *r, struct why *why)
{
    err e;
    const json_t *type = json_object_get(r->config, "peft_type"), *rank = json_object_get(r->config, "r"),
                 *alpha = json_object_get(r->config, "lora_alpha"),
                 *rslora = json_object_get(r->config, "use_rslora");

    if (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0)
        FAIL(ERR_UNSUPPORTED, "%s: peft_type is \"%.32s\"; only LORA is supported", r->config_path,
             json_is_string(type) ? json_string_value(type) : "?");
    if (!json_is_integer(rank) || json_integer_value(rank) < 1 || json_integer_value(rank) > LORA_MAX_RANK)
        FAIL(ERR_FORMAT, "%s: r is not an integer from 1 to %d", r->config_path, LORA_MAX_RANK);
    if (!json_is_number(alpha))
        FAIL(ERR_FORMAT, "%s: lora_alpha is not a number", r->config_path);
    if (rslora && !json_is_null(rslora) && !json_is_boolean(rslora))
        FAIL(ERR_FORMAT, "%s: use_rslora is neither true nor false", r->config_path);
    r->r = (double)json_integer_value(rank);
    r->alpha = json_number_value(alpha);
    r->rslora = json_is_true(rslora);
    TRY(patterns_open(r->config_path, r->config, "rank_pattern", &r->rank, why));
    TRY(patterns_open(r->config_path, r->config, "alpha_pattern", &r->alphas, why));
out:
    return e;
}

static err read_config(struct peft *r, const void *data, size_t size, struct why *why)
{
    err e;
    json_error_t at;

    if (size > CONFIG_MAX_BYTES)
        FAIL(ERR_FORMAT, "%s: %zu bytes; at most %d are read", r->config_path, size, CONFIG_MAX_BYTES);
    r->config = json_loadb(size ? data : "", size, 0, &at);
    if (!json_is_object(r->config))
        FAIL(ERR_FORMAT, "%s: line %d column %d: %s", r->config_path, at.line, at.column,
             r->config ? "not a JSON object" : at.text);
    TRY(check_refusals(r, why));
    TRY(check_start(r, why));
    TRY(read_numbers(r, why));
out:
    return e;
}

static err read_config_file(struct peft *r, struct why *why)
{
    struct mapped m = {0};
    err e = mapped_open(r->config_path, &m, why);
    if (e == ERR_OK)
        e = read_config(r, m.data, m.size, why);
    mapped_close(&m);
    return e;
}

static struct peft *peft_alloc(void)
{
    struct peft *r = calloc(1, sizeof *r);
    if (r)
        arena_init(&r->arena, 0);
    return r;
}

static struct lora_reader reader_of(struct peft *r)
{
    return (struct lora_reader){.names = NAMES_HF,
                                .tensors = safetensors_tensors(r->file),
                                .a_ending = ".lora_A.weight",
                                .b_ending = ".lora_B.weight",
                                .prefix = "base_model.model.",
                                .suffix = ".weight",
                                .scale = peft_scale,
                                .close = peft_close,
                                .ctx = r};
}

err lora_peft_open(const char *path, struct lora_reader *out, struct why *why)
{
    err e;
    struct stat st;
    const char *weights, *pickle;
    struct peft *r = peft_alloc();

    if (!r)
        return why_set(why, ERR_NOMEM, "%s: no memory", path);
    r->config_path = arena_path(&r->arena, path, "adapter_config.json");
    weights = arena_path(&r->arena, path, "adapter_model.safetensors");
    pickle = arena_path(&r->arena, path, "adapter_model.bin");
    if (!r->config_path || !weights || !pickle)
        FAIL(ERR_NOMEM, "%s: no memory", path);
    TRY(read_config_file(r, why));
    if (stat(weights, &st) != 0 && stat(pickle, &st) == 0)
        FAIL(ERR_UNSUPPORTED, "%s: only safetensors are read; a pickle can run any code", pickle);
    TRY(safetensors_open(weights, &r->file, why));
    *out = reader_of(r);
    r = NULL;
out:
    peft_close(r);
    return e;
}

err lora_peft_open_memory(const void *config, size_t config_bytes, const void *weights, size_t weight_bytes,
                          const char *label, struct lora_reader *out, struct why *why)
{
    err e;
    struct peft *r = peft_alloc();

    if (!r)
        return why_set(why, ERR_NOMEM, "%s: no memory", label);
    r->config_path = label;
    TRY(read_config(r, config, config_bytes, why));
    TRY(safetensors_open_memory(weights, weight_bytes, label, &r->file, why));
    *out = reader_of(r);
    r = NULL;
out:
    peft_close(r);
    return e;
}
