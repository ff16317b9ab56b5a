/* service_query.h - what service.c and the questions of service_query.c share. */
#ifndef CORDEE_COORDINATOR_SERVICE_QUERY_H
#define CORDEE_COORDINATOR_SERVICE_QUERY_H

#include "coordinator/front/service.h"
#include "proto/cordee.pb-c.h"

/* Sends env, with the request's id, to the peer. */
void service_answer(struct service_peer *p, uint64_t id, Cordee__Envelope *env);
void service_answer_failed(struct service_peer *p, uint64_t id, err code, const char *reason);
const struct service_options *service_peer_options(const struct service_peer *p);

/* Each answers one question of a peer. */
void service_tokenize(struct service_peer *p, uint64_t id, const Cordee__Tokenize *m);
void service_detokenize(struct service_peer *p, uint64_t id, const Cordee__Detokenize *m);
void service_models(struct service_peer *p, uint64_t id);
void service_health(struct service_peer *p, uint64_t id);

/* Borrowed bytes as protobuf-c wants them (it only reads them). */
static inline ProtobufCBinaryData service_bytes(const char *data, size_t len)
{
    return (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)data };
}

/* Ids above INT32_MAX turn negative; front_submit() and the tokenizer refuse those. */
static inline const int32_t *service_ids(const uint32_t *ids)
{
    return (const int32_t *)ids;
}

#endif
