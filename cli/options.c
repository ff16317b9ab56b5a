/* options.c - builds argp's tables from config_keys. */
#include "cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cmd.h"

enum { KEY_CONFIG = 600, KEY_LORA, KEY_FIRST = 1000 };

struct parse {
    const struct options *o;
    struct config *c;
    int exit_code;
    bool failed;
};

static error_t fail(struct parse *p, const char *reason)
{
    fprintf(stderr, "cordee: %s: %s\n", p->o->name, reason);
    p->exit_code = EXIT_USAGE;
    p->failed = true;
    return EINVAL;
}

static err take_lora(struct config *c, const char *text, struct why *why)
{
    const char *eq = strchr(text, '=');
    struct config_lora one = {0};
    if (!eq || eq == text || (size_t)(eq - text) >= sizeof one.name || strlen(eq + 1) >= sizeof one.path || !eq[1])
        return why_set(why, ERR_INVAL, "--lora wants NAME=PATH");
    if (c->n_lora == CONFIG_MAX_LORA)
        return why_set(why, ERR_INVAL, "more than %d adapters", CONFIG_MAX_LORA);
    struct config_lora *grown = realloc(c->lora, (size_t)(c->n_lora + 1) * sizeof *grown);
    if (!grown)
        return why_set(why, ERR_NOMEM, "adapters");
    memcpy(one.name, text, (size_t)(eq - text));
    strcpy(one.path, eq + 1);
    c->lora = grown;
    grown[c->n_lora++] = one;
    return ERR_OK;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;
    struct why why = {0};
    err e = ERR_OK;
    if (key == KEY_CONFIG)
        return 0; /* read already */
    if (key == KEY_LORA)
        e = take_lora(p->c, arg, &why);
    else if (key >= KEY_FIRST && key < KEY_FIRST + config_n_keys)
        e = config_set(p->c, config_keys[key - KEY_FIRST].name, arg ? arg : "true", &why);
    else if (key == ARGP_KEY_ARG || (key > 0 && key < 512))
        e = p->o->take ? p->o->take(p->o->ctx, key, arg, &why)
                       : why_set(&why, ERR_INVAL, "unexpected argument \"%s\"", arg);
    else
        return ARGP_ERR_UNKNOWN;
    return e ? fail(p, why.text) : 0;
}

/* The flags of all keys, and their names, in one allocation each. */
static struct argp_option *key_options(const struct options *o, char (**names)[64])
{
    int n_own = 0;
    while (o->own && (o->own[n_own].name || o->own[n_own].doc))
        n_own++;
    struct argp_option *all = calloc((size_t)(n_own + config_n_keys + 3), sizeof *all);
    *names = calloc((size_t)config_n_keys, sizeof **names);
    if (!all || !*names)
        return all;
    for (int i = 0; i < n_own; i++)
        all[i] = o->own[i];
    if (o->no_config)
        return all;
    struct argp_option *next = all + n_own;
    *next++ = (struct argp_option){"config", KEY_CONFIG, "FILE", 0, "cluster.yaml; flags override it", 2};
    *next++ = (struct argp_option){"lora", KEY_LORA, "NAME=PATH", 0, "load an adapter (may be repeated)", 2};
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        snprintf((*names)[i], sizeof **names, "%s", k->name);
        for (char *s = (*names)[i]; *s; s++)
            if (*s == '_' || *s == '.')
                *s = '-';
        *next++ = (struct argp_option){(*names)[i], KEY_FIRST + i, k->argument,
                                       k->type == CONFIG_BOOL ? OPTION_ARG_OPTIONAL : 0, k->help, 3};
    }
    return all;
}

/* --config FILE or --config=FILE, wherever it stands. */
static err load_config(int argc, char **argv, struct config *c, struct why *why)
{
    for (int i = 1; i < argc; i++) {
        const char *path = NULL;
        if (!strcmp(argv[i], "--"))
            break;
        if (!strcmp(argv[i], "--config") && i + 1 < argc)
            path = argv[++i];
        else if (!strncmp(argv[i], "--config=", 9))
            path = argv[i] + 9;
        if (path) {
            err e = config_load(c, path, why);
            if (e)
                return e;
        }
    }
    return ERR_OK;
}

static void start_log(const char *name, const struct config *c)
{
    enum log_level level = LOG_INFO;
    struct why why;
    if (log_level_parse(c->log_level, &level, &why) != ERR_OK)
        level = LOG_INFO;
    log_init(name, level, c->log_json);
}

int options_parse(const struct options *o, int argc, char **argv, struct config *c, int *exit_code)
{
    struct parse p = {.o = o, .c = c};
    struct why why = {0};
    char(*names)[64] = NULL;
    struct argp_option *all = key_options(o, &names);
    int result = -1;

    if (!all || !names) {
        fail(&p, "out of memory");
        goto out;
    }
    if (!o->no_config && load_config(argc, argv, c, &why) != ERR_OK) {
        fail(&p, why.text);
        goto out;
    }
    char program[64];
    snprintf(program, sizeof program, "cordee %s", o->name);
    argv[0] = program;
    struct argp argp = {all, take, o->args_doc, o->doc, NULL, NULL, NULL};
    argp_err_exit_status = EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &p) == 0 && !p.failed)
        result = 0;
    else if (!p.failed)
        p.exit_code = EXIT_USAGE;
    if (result == 0)
        start_log(o->name, c);
out:
    free(all);
    free(names);
    *exit_code = p.exit_code;
    return result;
}
