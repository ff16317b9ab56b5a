/* source_own.h - what is inside of a source, for source*.c alone. */
#ifndef CORDEE_MODEL_SOURCE_OWN_H
#define CORDEE_MODEL_SOURCE_OWN_H

#include "base/arena.h"
#include "model/bind.h"
#include "model/reader.h"
#include "model/source.h"

struct source {
    struct reader reader;
    struct arena arena;
    const struct arch_desc *arch; /* NULL: unknown */
    struct hparams hp;            /* n_layer 0: they could not be read */
    struct binding bind;
    err not_runnable; /* ERR_OK: it is */
    struct why why_not;
    char hash[17], load_hash[17];
    struct {
        char *name;
        struct lora_file *file;
    } adapters[SOURCE_MAX_ADAPTERS];
    int n_adapters;
    char *base_name;
};

#endif
