/* bind.c - see bind.h.
 *
 * The measure is the run delay of /proc/thread-self/schedstat: nanoseconds that the
 * thread could have run and did not, because the core was another's. Counting
 * switches would not do: the rank's own message thread interrupts often and briefly.
 */
#include "base/bind.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    MAX_CPUS = 8192, /* the kernel's own limit */
    WORD_BITS = 8 * sizeof(unsigned long),
    DISTURBED_PERCENT = 15,
};
#define LOOK_NS (20 * UINT64_C(1000000))
#define LOOSE_NS UINT64_C(1000000000)

struct cpu_bits {
    unsigned long word[MAX_CPUS / WORD_BITS];
};

static void allow(const int *cpus, int n)
{
    struct cpu_bits bits = {{0}};
    for (int i = 0; i < n; i++)
        if (cpus[i] >= 0 && cpus[i] < MAX_CPUS)
            bits.word[(unsigned)cpus[i] / WORD_BITS] |= 1ul << (unsigned)cpus[i] % WORD_BITS;
    if (sched_setaffinity(0, sizeof bits, (const cpu_set_t *)&bits) != 0)
        return;
}

/* What the thread has waited for a core in its life; false if that is not told. */
static bool run_delay(const struct bind *b, uint64_t *out)
{
    char text[96];
    ssize_t n = b->fd < 0 ? -1 : pread(b->fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%*u %" SCNu64, out) == 1;
}

bool bind_disturbed(uint64_t waited_ns, uint64_t elapsed_ns)
{
    return waited_ns > elapsed_ns / 100 * DISTURBED_PERCENT;
}

static void look(struct bind *b, uint64_t now_ns)
{
    if (!run_delay(b, &b->waited_ns))
        b->waited_ns = 0;
    b->looked_ns = now_ns;
}

void bind_begin(struct bind *b, const int *group, int n_group, int i)
{
    *b = (struct bind){.group = group, .n_group = n_group, .cpu = group[i], .narrow = true};
    b->fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    allow(&b->cpu, 1);
    look(b, now_ns());
}

void bind_turn(struct bind *b, uint64_t now_ns)
{
    uint64_t elapsed = now_ns - b->looked_ns, before = b->waited_ns;
    if (elapsed < (b->narrow ? LOOK_NS : LOOSE_NS))
        return;
    look(b, now_ns);
    if (!b->narrow) {
        b->narrow = true;
        allow(&b->cpu, 1);
    } else if (b->waited_ns > before && bind_disturbed(b->waited_ns - before, elapsed)) {
        b->narrow = false;
        allow(b->group, b->n_group);
    }
}

void bind_end(struct bind *b)
{
    if (b->fd >= 0)
        close(b->fd);
    memset(b, 0, sizeof *b);
    b->fd = -1;
}
