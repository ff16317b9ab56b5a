/* unicode_form.h - NFC, NFD, NFKC, NFKD in O(n log n) at worst. */
#ifndef CORDEE_TOKENIZER_UNICODE_FORM_H
#define CORDEE_TOKENIZER_UNICODE_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct unicode_form {
    bool compose;       /* C forms */
    bool compatibility; /* K forms */
};

/* Appends the normal form of s[0..len), valid UTF-8. */
MUST_CHECK err unicode_form_put(struct unicode_form form, const char *s, size_t len, struct buf *out,
                                struct why *why);

#endif
