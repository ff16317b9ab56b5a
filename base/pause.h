/* pause.h - tells the core that this loop only waits, so that the other
 * hyperthread gets its share and leaving the loop is cheap. */
#ifndef CORDEE_BASE_PAUSE_H
#define CORDEE_BASE_PAUSE_H

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* yield is a no-op on most cores */
#endif
}

#endif
