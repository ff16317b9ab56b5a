/* spm_proto.h - the fields of SentencePiece's ModelProto that decide ids.
 *
 * A bounded reader of the wire format: nothing is allocated per field but the
 * list of pieces, nesting is one level, and every length is checked against
 * what is left.
 */
#ifndef CORDEE_TOKENIZER_SPM_PROTO_H
#define CORDEE_TOKENIZER_SPM_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tokenizer/tokenizer.h"

enum { SPM_UNIGRAM = 1, SPM_BPE = 2, SPM_WORD = 3, SPM_CHAR = 4 };

struct spm_proto {
    struct tok_piece *piece; /* owned; texts borrowed from the input */
    size_t n_pieces, cap_pieces;
    int model; /* SPM_* */
    bool byte_fallback, space_is_suffix;
    int32_t unk, bos, eos, pad; /* as written; may be -1 */
    bool prefix, trim_spaces, escape;
    const void *charsmap; /* borrowed */
    size_t charsmap_bytes;
};

MUST_CHECK err spm_proto_read(const void *data, size_t len, struct spm_proto *out, struct why *why);
void spm_proto_fini(struct spm_proto *p);

#endif
