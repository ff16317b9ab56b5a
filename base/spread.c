/* spread.c - see spread.h. The one state of the process that decides where memory lies. */
#include "base/spread.h"

#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t spread_nodes[SPREAD_WORDS];
static int n_spread;

void spread_set(const uint64_t nodes[SPREAD_WORDS])
{
    n_spread = 0;
    memset(spread_nodes, 0, sizeof spread_nodes);
    for (int i = 0; nodes && i < SPREAD_WORDS; i++) {
        spread_nodes[i] = nodes[i];
        n_spread += __builtin_popcountll(nodes[i]);
    }
}

bool spread_active(void)
{
    return n_spread > 1;
}

void spread_block(void *block, size_t bytes)
{
    /* Refused where the kernel knows no domains: then there is nothing to spread over. */
    if (spread_active())
        syscall(SYS_mbind, block, bytes, MPOL_INTERLEAVE, spread_nodes, 8 * sizeof spread_nodes, 0);
}

double spread_elsewhere(const void *mapping, size_t bytes)
{
    enum { SAMPLES = 256 };
    const uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE),
                    first = (uintptr_t)mapping & ~(page_bytes - 1);
    const size_t pages = bytes / page_bytes, n = pages < SAMPLES ? pages : SAMPLES;
    uintptr_t page[SAMPLES];
    int node[SAMPLES], known = 0, elsewhere = 0;

    for (size_t i = 0; i < n; i++)
        page[i] = first + pages * i / n * page_bytes;
    if (!n_spread || !n || syscall(SYS_move_pages, 0, n, page, NULL, node, 0) != 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (node[i] >= 0 && node[i] < 64 * SPREAD_WORDS) { /* negative: not there yet */
            known++;
            elsewhere += !(spread_nodes[node[i] / 64] >> node[i] % 64 & 1);
        }
    return known ? (double)elsewhere / known : 0;
}
