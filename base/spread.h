/* spread.h - large blocks over several memory domains.
 *
 * A rank whose cores lie in one domain needs nothing: pages come into being where
 * they are first written. One that spans domains would load all its weights where
 * its loading threads happened to run, and half its cores would read the other
 * half's memory through one link. Interleaved, every thread reads from all.
 *
 * Works on anonymous memory only: pages of a mapped file are the page cache's.
 *
 * Threads: spread_set() before other threads allocate.
 */
#ifndef CORDEE_BASE_SPREAD_H
#define CORDEE_BASE_SPREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPREAD_WORDS = 16 }; /* 1024 domains, the kernel's limit */

/* Bit i of nodes: the kernel's memory node i. Blocks that mem_alloc() makes from now on
 * are interleaved over them if there are two or more. NULL: as at the start, nowhere in
 * particular. */
void spread_set(const uint64_t nodes[SPREAD_WORDS]);
/* Whether blocks are being interleaved. */
bool spread_active(void);

/* Of a fresh block, before it is written; whole pages. Nothing happens unless
 * spread_active(), or where the kernel refuses. */
void spread_block(void *block, size_t bytes);

/* The share (0..1) of a mapping's pages, touched before, that lie in other domains than
 * those given to spread_set(). A sample; 0 where nothing was given or the kernel does not say. */
double spread_elsewhere(const void *mapping, size_t bytes);

#endif
