/* Bits of a 64-bit word. */

#ifndef BACKTEST_WORDS_H
#define BACKTEST_WORDS_H

#include <stdint.h>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

/* Position of the lowest bit that is set; word must not be 0. */
static inline int lowest_bit(uint64_t word) {
#if defined(_MSC_VER)
    unsigned long position;
    _BitScanForward64(&position, word);
    return (int)position;
#else
    return __builtin_ctzll(word);
#endif
}

/* Position of the highest bit that is set; word must not be 0. */
static inline int highest_bit(uint64_t word) {
#if defined(_MSC_VER)
    unsigned long position;
    _BitScanReverse64(&position, word);
    return (int)position;
#else
    return 63 - __builtin_clzll(word);
#endif
}

#endif
