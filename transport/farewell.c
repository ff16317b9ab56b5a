/* farewell.c - see farewell.h. */
#include "transport/farewell.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"

void transport_farewell(unsigned wait_ms)
{
    static const char words[] = "cmd=finalize\n";
    char answer[64];
    int fd = (int)env_get_long("PMI_FD", -1);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    /* Slurm's PMI-2 uses the same variable and other words; srun needs no farewell. */
    if (fd < 0 || (env_get("SLURM_STEP_ID") && !env_get("HYDI_CONTROL_FD")))
        return;
    if (write(fd, words, strlen(words)) != (ssize_t)strlen(words))
        return;
    if (poll(&p, 1, (int)wait_ms) == 1 && read(fd, answer, sizeof answer) < 0)
        return; /* nothing more to do about it */
}
