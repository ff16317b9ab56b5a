/* hf_codecs.h - quantised weights of Hugging Face checkpoints that are several tensors. */
#ifndef CORDEE_MODEL_HF_CODECS_H
#define CORDEE_MODEL_HF_CODECS_H

#include "base/err.h"
#include "model/catalog.h"

struct arena;
struct facts;

/* Finds weights with scales (FP8 e4m3, MXFP4, GPTQ, AWQ, packed and plain integers) in a
 * sorted catalog and turns each into one tensor of the format that holds its values exactly;
 * scales and zero points leave the catalog. Names stay, only "qweight" and "weight_packed"
 * become "weight"; the catalog is sorted again. config: config.json. What is made lives in
 * the arena. ERR_UNSUPPORTED: a scheme that no format of ours holds without loss; the
 * catalog may then be half resolved and is good for looking at only. */
MUST_CHECK err hf_codecs_resolve(struct catalog *c, struct facts *config, struct arena *arena, struct why *why);

#endif
