/* service_query.c - questions of the framed API that are answered at once. */
#include "coordinator/front/service_query.h"

#include <stdlib.h>

void service_tokenize(struct service_peer *p, uint64_t id, const Cordee__Tokenize *m)
{
    err e;
    struct why reason, *why = &reason;
    const struct tokenizer *tok = front_tokenizer(service_peer_options(p)->front);
    struct tok_ids ids = { 0 };
    ProtobufCBinaryData *pieces = NULL;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Ids reply = CORDEE__IDS__INIT;
    unsigned flags = (m->add_special ? ENCODE_ADD_SPECIAL : 0u) | (m->parse_special ? ENCODE_PARSE_SPECIAL : 0u);
    if (!tok)
        FAIL(ERR_UNSUPPORTED, "there is no tokenizer here");
    TRY(tokenizer_encode(tok, (const char *)m->text.data, m->text.len, flags, &ids, why));
    pieces = calloc(ids.n + 1, sizeof *pieces);
    if (!pieces)
        FAIL(ERR_NOMEM, "no memory for %zu pieces", ids.n);
    for (size_t i = 0; i < ids.n; i++) {
        size_t len = 0;
        const char *piece = tokenizer_piece(tok, ids.id[i], &len);
        pieces[i] = service_bytes(piece ? piece : "", piece ? len : 0);
    }
    reply.ids = (uint32_t *)ids.id;
    reply.n_ids = reply.n_pieces = ids.n;
    reply.pieces = pieces;
    env.body_case = CORDEE__ENVELOPE__BODY_IDS;
    env.ids = &reply;
    service_answer(p, id, &env);
out:
    if (e != ERR_OK)
        service_answer_failed(p, id, e, reason.text);
    free(pieces);
    tok_ids_fini(&ids);
}

void service_detokenize(struct service_peer *p, uint64_t id, const Cordee__Detokenize *m)
{
    err e;
    struct why reason, *why = &reason;
    const struct tokenizer *tok = front_tokenizer(service_peer_options(p)->front);
    struct buf text = { 0 };
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Text reply = CORDEE__TEXT__INIT;
    if (!tok)
        FAIL(ERR_UNSUPPORTED, "there is no tokenizer here");
    TRY(tokenizer_decode(tok, service_ids(m->ids), m->n_ids, false, &text, why));
    reply.text = service_bytes(text.data, text.len);
    env.body_case = CORDEE__ENVELOPE__BODY_TEXT;
    env.text = &reply;
    service_answer(p, id, &env);
out:
    if (e != ERR_OK)
        service_answer_failed(p, id, e, reason.text);
    buf_fini(&text);
}

void service_models(struct service_peer *p, uint64_t id)
{
    const struct model_facts *f = &front_backend(service_peer_options(p)->front)->facts;
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Models reply = CORDEE__MODELS__INIT;
    Cordee__Model model = CORDEE__MODEL__INIT, *list = &model;
    char *adapters[FACTS_MAX_ADAPTERS];
    model.name = (char *)(uintptr_t)f->name;
    model.family = (char *)(uintptr_t)f->family;
    model.hash = (char *)(uintptr_t)f->hash;
    model.fingerprint = (char *)(uintptr_t)f->fingerprint;
    model.has_parameters = model.has_context = model.has_vocab = true;
    model.parameters = f->n_params;
    model.context = (uint32_t)f->max_context;
    model.vocab = (uint32_t)f->n_vocab;
    for (int i = 0; i < f->n_adapters; i++)
        adapters[i] = (char *)(uintptr_t)f->adapters[i];
    model.adapter = adapters;
    model.n_adapter = (size_t)f->n_adapters;
    reply.model = &list;
    reply.n_model = f->name[0] ? 1 : 0;
    env.body_case = CORDEE__ENVELOPE__BODY_MODELS;
    env.models = &reply;
    service_answer(p, id, &env);
}

void service_health(struct service_peer *p, uint64_t id)
{
    const struct service_options *o = service_peer_options(p);
    bool ready = backend_ready(front_backend(o->front));
    struct health h = { .ready = ready, .state = ready ? "ready" : "not ready" };
    Cordee__Envelope env = CORDEE__ENVELOPE__INIT;
    Cordee__Health reply = CORDEE__HEALTH__INIT;
    if (o->health)
        o->health(o->health_ctx, &h);
    reply.ready = h.ready;
    reply.has_epoch = true;
    reply.epoch = h.epoch;
    reply.state = (char *)(uintptr_t)h.state;
    env.body_case = CORDEE__ENVELOPE__BODY_HEALTH;
    env.health = &reply;
    service_answer(p, id, &env);
}
