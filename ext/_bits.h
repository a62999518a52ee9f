/* Bits of comparisons and of bytes, 64 a word; the same bits at every instruction set level.
 *
 * Lines are compared by 32-bit integers that are monotone in their values (see masks): if two differ, the values differ the same
 * way; if they are equal, the values decide.  A tile is 512 bars, 32 vectors of 16: place 16 i + j is bar 32 j + i.  A step of 0
 * means a constant, given as 16 copies.
 */

#ifndef BACKTEST_BITS_H
#define BACKTEST_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_layout.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__) || defined(_M_X64)
#define BACKTEST_SSE2
#include <emmintrin.h>
#endif

/* The upper half of a double's bits as an integer that is monotone in its value; -0.0 is 0.0. */
static inline int32_t backtest_coarse(double value) {
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof(bits));
    uint32_t upper = (uint32_t) (bits >> 32);
    return (int32_t) (upper & 0x80000000u ? upper ^ 0x7fffffffu : upper);
}

/* A tile of up to 512 values, filled up with 0. */
static inline void backtest_spread(const double *values, int n_bars, int32_t *tile) {
    int32_t in_order[BACKTEST_TILE];
    for (int bar = 0; bar < n_bars; bar++) in_order[bar] = backtest_coarse(values[bar]);
    for (int bar = n_bars; bar < BACKTEST_TILE; bar++) in_order[bar] = 0;
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 16; j++) tile[16 * i + j] = in_order[32 * j + i];
}

/* Bits where a tile of line a is greater than, less than or equal to that of line b, 8 words each; returns whether any are
 * equal.  With n_words <= 4 only the first 4 words are computed. */
static inline int backtest_order(const int32_t *a, ptrdiff_t step_a, const int32_t *b, ptrdiff_t step_b, int n_words,
                                 uint64_t *greater, uint64_t *less, uint64_t *equal) {
#if defined(__AVX2__) /* x86 is little-endian: two lanes of 32 bars are a word */
    /* Eight lanes also with AVX-512: a comparison into a mask register takes twice the time of one into a vector. */
#if defined(__AVX512VL__)
#define BACKTEST_COLLECT(bits, held) bits = _mm256_ternarylogic_epi32(bits, held, bit, 0xf8)
#else
#define BACKTEST_COLLECT(bits, held) bits = _mm256_or_si256(bits, _mm256_and_si256(held, bit))
#endif
    __m256i bit = _mm256_set1_epi32(1), up = _mm256_setzero_si256(), up_high = up, same = up, same_high = up;
    if (n_words <= 4) { /* the end of many series */
#if defined(__GNUC__)
#pragma GCC unroll 8
#endif
        for (int i = 0; i < 32; i++) {
            __m256i left = _mm256_loadu_si256((const __m256i *) (a + i * step_a));
            __m256i right = _mm256_loadu_si256((const __m256i *) (b + i * step_b));
            BACKTEST_COLLECT(up, _mm256_cmpgt_epi32(left, right));
            BACKTEST_COLLECT(same, _mm256_cmpeq_epi32(left, right));
            bit = _mm256_add_epi32(bit, bit);
        }
    } else
#if defined(__GNUC__)
#pragma GCC unroll 8
#endif
    for (int i = 0; i < 32; i++) {
        __m256i left = _mm256_loadu_si256((const __m256i *) a), left_high = _mm256_loadu_si256((const __m256i *) (a + 8));
        __m256i right = _mm256_loadu_si256((const __m256i *) b), right_high = _mm256_loadu_si256((const __m256i *) (b + 8));
        BACKTEST_COLLECT(up, _mm256_cmpgt_epi32(left, right));
        BACKTEST_COLLECT(up_high, _mm256_cmpgt_epi32(left_high, right_high));
        BACKTEST_COLLECT(same, _mm256_cmpeq_epi32(left, right));
        BACKTEST_COLLECT(same_high, _mm256_cmpeq_epi32(left_high, right_high));
        bit = _mm256_add_epi32(bit, bit);
        a += step_a;
        b += step_b;
    }
    _mm256_storeu_si256((__m256i *) greater, up);
    _mm256_storeu_si256((__m256i *) (greater + 4), up_high);
    _mm256_storeu_si256((__m256i *) equal, same);
    _mm256_storeu_si256((__m256i *) (equal + 4), same_high);
    /* From registers: a wide load right after two narrower stores to the same place stalls. */
    const __m256i ones = _mm256_set1_epi32(-1);
    _mm256_storeu_si256((__m256i *) less, _mm256_andnot_si256(_mm256_or_si256(up, same), ones));
    _mm256_storeu_si256((__m256i *) (less + 4), _mm256_andnot_si256(_mm256_or_si256(up_high, same_high), ones));
    same = _mm256_or_si256(same, same_high);
    return !_mm256_testz_si256(same, same);
#elif defined(BACKTEST_SSE2)
    for (int j = 0; j < 16; j += 4) { /* few enough lanes at once to stay in registers */
        __m128i bit = _mm_set1_epi32(1), up = _mm_setzero_si128(), same = up;
        for (int i = 0; i < 32; i++) {
            __m128i left = _mm_loadu_si128((const __m128i *) (a + i * step_a + j));
            __m128i right = _mm_loadu_si128((const __m128i *) (b + i * step_b + j));
            up = _mm_or_si128(up, _mm_and_si128(_mm_cmpgt_epi32(left, right), bit));
            same = _mm_or_si128(same, _mm_and_si128(_mm_cmpeq_epi32(left, right), bit));
            bit = _mm_add_epi32(bit, bit);
        }
        _mm_storeu_si128((__m128i *) (greater + j / 2), up);
        _mm_storeu_si128((__m128i *) (equal + j / 2), same);
    }
#else
    uint32_t above[16], same[16];
    for (int j = 0; j < 16; j++) above[j] = same[j] = 0;
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 16; j++) {
            above[j] |= (uint32_t) (a[i * step_a + j] > b[i * step_b + j]) << i;
            same[j] |= (uint32_t) (a[i * step_a + j] == b[i * step_b + j]) << i;
        }
    for (int word = 0; word < 8; word++) {
        greater[word] = above[2 * word] | (uint64_t) above[2 * word + 1] << 32;
        equal[word] = same[2 * word] | (uint64_t) same[2 * word + 1] << 32;
    }
#endif
#if !defined(__AVX2__)
    uint64_t any = 0;
    for (int word = 0; word < 8; word++) {
        less[word] = ~(greater[word] | equal[word]);
        any |= equal[word];
    }
    return any != 0;
#endif
}

/* The lowest bit that is set; there must be one. */
static inline int backtest_lowest(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int place = 0;
    for (; !(bits & 1); bits >>= 1) place++;
    return place;
#endif
}

/* Rising edges of 8 words, the first of which is ``before[1]``; ``before[0]`` is the word before them. */
static inline void backtest_edges(const uint64_t *before, uint64_t *edges) {
#if defined(__AVX2__)
    /* Words move up by one inside registers: a load across recent stores stalls. */
    __m256i low = _mm256_loadu_si256((const __m256i *) (before + 1)), high = _mm256_loadu_si256((const __m256i *) (before + 5));
    __m256i low_before = _mm256_permute4x64_epi64(low, 0x93), high_before = _mm256_permute4x64_epi64(high, 0x93);
    high_before = _mm256_blend_epi32(high_before, low_before, 0x03);
    low_before = _mm256_blend_epi32(low_before, _mm256_set1_epi64x((long long) before[0]), 0x03);
    low_before = _mm256_or_si256(_mm256_slli_epi64(low, 1), _mm256_srli_epi64(low_before, 63));
    high_before = _mm256_or_si256(_mm256_slli_epi64(high, 1), _mm256_srli_epi64(high_before, 63));
    _mm256_storeu_si256((__m256i *) edges, _mm256_andnot_si256(low_before, low));
    _mm256_storeu_si256((__m256i *) (edges + 4), _mm256_andnot_si256(high_before, high));
#else
    for (int j = 0; j < 8; j++) edges[j] = before[j + 1] & ~(before[j + 1] << 1 | before[j] >> 63);
#endif
}

/* Bit t is whether byte t of 64 is not 0. */
static inline uint64_t backtest_bits_of_bytes(const uint8_t *bytes) {
#if defined(__AVX512BW__)
    __m512i all = _mm512_loadu_si512((const void *) bytes);
    return (uint64_t) _mm512_test_epi8_mask(all, all);
#elif defined(__AVX2__)
    __m256i zero = _mm256_setzero_si256();
    __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *) bytes), zero);
    __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *) (bytes + 32)), zero);
    return ~((uint64_t) (uint32_t) _mm256_movemask_epi8(low) | (uint64_t) (uint32_t) _mm256_movemask_epi8(high) << 32);
#elif defined(BACKTEST_SSE2)
    uint64_t is_zero = 0;
    for (int part = 0; part < 4; part++) {
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *) (bytes + 16 * part)), _mm_setzero_si128());
        is_zero |= (uint64_t) (uint32_t) _mm_movemask_epi8(same) << (16 * part);
    }
    return ~is_zero;
#else
    uint64_t bits = 0;
    for (int t = 0; t < 64; t++) bits |= (uint64_t) (bytes[t] != 0) << t;
    return bits;
#endif
}

#define BACKTEST_COLUMNS 512 /* 8 neighbouring cache lines of a row */

/* Packs up to 64 rows of up to 512 columns of bytes into a word per column: 8 rows into a byte, 8 of these into the word. */
static inline void backtest_words_of_columns(const uint8_t *bytes, ptrdiff_t step, int n_rows, int n_columns, uint64_t *words) {
    static const uint8_t none[BACKTEST_COLUMNS]; /* for rows after the last */
    uint8_t rows8[BACKTEST_COLUMNS];
    memset(words, 0, (size_t) n_columns * sizeof(uint64_t));
    for (int first = 0; first < n_rows; first += 8) {
        const uint8_t *from[8];
        for (int row = 0; row < 8; row++) from[row] = first + row < n_rows ? bytes + (first + row) * step : none;
        const uint8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3], *e = from[4], *f = from[5], *g = from[6], *h = from[7];
#define BACKTEST_ONE(value) ((value) < 1 ? (value) : 1) /* a minimum: every instruction set level has it for bytes */
        for (int j = 0; j < n_columns; j++)
            rows8[j] = (uint8_t) (BACKTEST_ONE(a[j]) | BACKTEST_ONE(b[j]) << 1 | BACKTEST_ONE(c[j]) << 2 | BACKTEST_ONE(d[j]) << 3 |
                                  BACKTEST_ONE(e[j]) << 4 | BACKTEST_ONE(f[j]) << 5 | BACKTEST_ONE(g[j]) << 6 |
                                  BACKTEST_ONE(h[j]) << 7);
#undef BACKTEST_ONE
        for (int j = 0; j < n_columns; j++) words[j] |= (uint64_t) rows8[j] << first;
    }
}

#endif
