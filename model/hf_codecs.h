/* hf_codecs.h - quantised weights of Hugging Face checkpoints that are two tensors. */
#ifndef CORDEE_MODEL_HF_CODECS_H
#define CORDEE_MODEL_HF_CODECS_H

#include "base/err.h"
#include "model/catalog.h"

struct facts;

/* Finds weights with scales (FP8 e4m3, MXFP4, symmetric GPTQ and packed int4) in a sorted catalog and
 * turns them into tensors of the format that holds their values exactly; the
 * names stay, only "qweight" and "weight_packed" become "weight" (names live in the arena; the
 * catalog is sorted again). config: config.json. ERR_UNSUPPORTED: a scheme that no
 * format of ours holds without loss. */
struct arena;
MUST_CHECK err hf_codecs_resolve(struct catalog *c, struct facts *config, struct arena *names, struct why *why);

#endif
