/* Bits of comparisons and of bytes, 64 a word; the same bits at every instruction set level.
 *
 * A tile is 512 bars of a line, 64 vectors of 8: place 8 i + j is bar 64 j + i (see masks).  A step of 0 is a number, given as
 * 8 copies.
 */

#ifndef BACKTEST_BITS_H
#define BACKTEST_BITS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__) || defined(_M_X64)
#define BACKTEST_SSE2
#include <emmintrin.h>
#endif

#if defined(__AVX2__)

/* bits | (held & bit).  Four lanes also with AVX-512: a comparison into a mask register takes twice the time of one into a vector. */
static inline __m256i backtest_collect(__m256i bits, __m256d held, __m256i bit) {
#if defined(__AVX512VL__)
    return _mm256_ternarylogic_epi64(bits, _mm256_castpd_si256(held), bit, 0xf8);
#else
    return _mm256_or_si256(bits, _mm256_and_si256(_mm256_castpd_si256(held), bit));
#endif
}

#define BACKTEST_COMPARE(name, predicate) \
    static inline void name(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *out) { \
        __m256i bit = _mm256_set1_epi64x(1), low = _mm256_setzero_si256(), high = _mm256_setzero_si256(); \
        for (int i = 0; i < 64; i++) { \
            __m256d left = _mm256_loadu_pd(a), left_high = _mm256_loadu_pd(a + 4); \
            __m256d right = _mm256_loadu_pd(b), right_high = _mm256_loadu_pd(b + 4); \
            low = backtest_collect(low, _mm256_cmp_pd(left, right, predicate), bit); \
            high = backtest_collect(high, _mm256_cmp_pd(left_high, right_high, predicate), bit); \
            bit = _mm256_add_epi64(bit, bit); \
            a += step_a; \
            b += step_b; \
        } \
        _mm256_storeu_si256((__m256i *) out, low); \
        _mm256_storeu_si256((__m256i *) (out + 4), high); \
    }

BACKTEST_COMPARE(backtest_greater, _CMP_GT_OQ)
BACKTEST_COMPARE(backtest_greater_equal, _CMP_GE_OQ)
#undef BACKTEST_COMPARE

/* Both orders from one pass over the lines. */
static inline void backtest_order(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *greater,
                                  uint64_t *less) {
    __m256i bit = _mm256_set1_epi64x(1), up = _mm256_setzero_si256(), up_high = up, down = up, down_high = up;
    for (int i = 0; i < 64; i++) {
        __m256d left = _mm256_loadu_pd(a), left_high = _mm256_loadu_pd(a + 4);
        __m256d right = _mm256_loadu_pd(b), right_high = _mm256_loadu_pd(b + 4);
        up = backtest_collect(up, _mm256_cmp_pd(left, right, _CMP_GT_OQ), bit);
        up_high = backtest_collect(up_high, _mm256_cmp_pd(left_high, right_high, _CMP_GT_OQ), bit);
        down = backtest_collect(down, _mm256_cmp_pd(left, right, _CMP_LT_OQ), bit);
        down_high = backtest_collect(down_high, _mm256_cmp_pd(left_high, right_high, _CMP_LT_OQ), bit);
        bit = _mm256_add_epi64(bit, bit);
        a += step_a;
        b += step_b;
    }
    _mm256_storeu_si256((__m256i *) greater, up);
    _mm256_storeu_si256((__m256i *) (greater + 4), up_high);
    _mm256_storeu_si256((__m256i *) less, down);
    _mm256_storeu_si256((__m256i *) (less + 4), down_high);
}

#elif defined(BACKTEST_SSE2)

/* Two lanes a register: four pairs of words one after the other keep the sums in registers. */
#define BACKTEST_COMPARE(name, compare) \
    static inline void name(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *out) { \
        for (int j = 0; j < 8; j += 2) { \
            __m128i bit = _mm_set_epi32(0, 1, 0, 1), bits = _mm_setzero_si128(); \
            for (int i = 0; i < 64; i++) { \
                __m128d held = compare(_mm_loadu_pd(a + i * step_a + j), _mm_loadu_pd(b + i * step_b + j)); \
                bits = _mm_or_si128(bits, _mm_and_si128(_mm_castpd_si128(held), bit)); \
                bit = _mm_add_epi64(bit, bit); \
            } \
            _mm_storeu_si128((__m128i *) (out + j), bits); \
        } \
    }

BACKTEST_COMPARE(backtest_greater, _mm_cmpgt_pd)
BACKTEST_COMPARE(backtest_greater_equal, _mm_cmpge_pd)
BACKTEST_COMPARE(backtest_less, _mm_cmplt_pd)

#else

#define BACKTEST_COMPARE(name, sign) \
    static inline void name(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *out) { \
        for (int j = 0; j < 8; j++) out[j] = 0; \
        for (int i = 0; i < 64; i++) \
            for (int j = 0; j < 8; j++) out[j] |= (uint64_t) (a[i * step_a + j] sign b[i * step_b + j]) << i; \
    }

BACKTEST_COMPARE(backtest_greater, >)
BACKTEST_COMPARE(backtest_greater_equal, >=)
BACKTEST_COMPARE(backtest_less, <)

#endif

#if defined(BACKTEST_COMPARE)

static inline void backtest_order(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *greater,
                                  uint64_t *less) {
    backtest_greater(a, step_a, b, step_b, greater);
    backtest_less(a, step_a, b, step_b, less);
}

#endif

/* Where 8 words of truth begin to be true; ``before[0]`` is the word in front of them, ``before[1]`` the first of them. */
static inline void backtest_edges(const uint64_t *before, uint64_t *edges) {
    for (int j = 0; j < 8; j++) edges[j] = before[j + 1] & ~(before[j + 1] << 1 | before[j] >> 63);
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

/* Bit j of word i becomes bit i of word j: halves swap across the diagonal, then quarters, and so on (Hacker's Delight 7-3). */
static inline void backtest_transpose(uint64_t *words) {
    uint64_t low = 0x00000000ffffffffu;
    for (int width = 32; width; width >>= 1, low ^= low << width)
        for (int block = 0; block < 64; block += 2 * width)
            for (int k = block; k < block + width; k++) {
                uint64_t swap = ((words[k] >> width) ^ words[k + width]) & low;
                words[k] ^= swap << width;
                words[k + width] ^= swap;
            }
}

#endif
