/* sampling.c - see sampling.h. */
#include "cli/sampling.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static err number(const char *name, const char *text, double least, double most, double *out, struct why *why)
{
    char *tail;
    errno = 0;
    *out = strtod(text, &tail);
    if (tail == text || *tail || errno || !(*out >= least && *out <= most))
        return why_set(why, ERR_INVAL, "--%s: \"%.40s\" is not a number in %g..%g", name, text, least, most);
    return ERR_OK;
}

void sampling_init(struct sampling *s, int max_tokens)
{
    *s = (struct sampling){
        .req = {.n_choices = 1, .max_tokens = max_tokens, .sampling = {.top_p = 1, .repetition_penalty = 1}},
    };
    s->req.stop = s->stop;
}

err sampling_take(struct sampling *s, int key, const char *value, struct why *why)
{
    struct front_request *r = &s->req;
    double v = 0;
    err e = ERR_OK;
    switch (key) {
    case 'n':
        e = number("max-tokens", value, 0, 1e9, &v, why);
        r->max_tokens = (int)v;
        break;
    case SAMPLING_TEMPERATURE:
        e = number("temperature", value, 0, 100, &v, why);
        r->sampling.temperature = (float)v;
        break;
    case SAMPLING_TOP_P:
        e = number("top-p", value, 0, 1, &v, why);
        r->sampling.top_p = (float)v;
        break;
    case SAMPLING_TOP_K:
        e = number("top-k", value, 0, 1e9, &v, why);
        r->sampling.top_k = (int)v;
        break;
    case SAMPLING_MIN_P:
        e = number("min-p", value, 0, 1, &v, why);
        r->sampling.min_p = (float)v;
        break;
    case SAMPLING_SEED:
        e = number("seed", value, 0, 9007199254740992.0, &v, why);
        r->sampling.seed = (uint64_t)v;
        r->have_seed = true;
        break;
    case SAMPLING_STOP:
        if (r->n_stop == SAMPLING_MAX_STOP)
            return why_set(why, ERR_INVAL, "more than %d stop strings", SAMPLING_MAX_STOP);
        s->stop[r->n_stop++] = (struct stop_string){value, strlen(value)};
        break;
    case SAMPLING_IGNORE_EOS:
        r->ignore_eos = true;
        break;
    case SAMPLING_ADAPTER:
        r->adapter = value;
        break;
    default:
        return ERR_NOTFOUND;
    }
    return e;
}
