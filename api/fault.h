/* fault.h - why a request is refused, as its sender is told. */
#ifndef CORDEE_API_FAULT_H
#define CORDEE_API_FAULT_H

#include "base/err.h"

/* Zero-initialise. */
struct fault {
    const char *param; /* the field at fault, static storage; NULL: none */
    struct why why;
};

#endif
