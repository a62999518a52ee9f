/* Vectors of the processor's width, and their masks; 64 lanes are 64 / WIDTH of them.

   Every operation is that of IEEE 754 on each number, so results are equal at every width.  A bit of a 64-bit word is a lane;
   ``vector_mask_of`` gives those of a vector that begins at ``lane``.  min and max are Python's: the first unless the second is
   strictly smaller or larger. */
#ifndef BACKTEST_VECTORS_H
#define BACKTEST_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#define VECTOR_INLINE static __forceinline
#else
#define VECTOR_INLINE static inline __attribute__((always_inline, unused))
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
enum { WIDTH = 8 };
typedef __m512d vector;
typedef __mmask8 vector_mask;
VECTOR_INLINE vector vector_at(const double *from) { return _mm512_loadu_pd(from); }
VECTOR_INLINE void vector_to(double *to, vector x) { _mm512_storeu_pd(to, x); }
VECTOR_INLINE vector vector_all(double x) { return _mm512_set1_pd(x); }
VECTOR_INLINE vector vector_plus(vector x, vector y) { return _mm512_add_pd(x, y); }
VECTOR_INLINE vector vector_minus(vector x, vector y) { return _mm512_sub_pd(x, y); }
VECTOR_INLINE vector vector_times(vector x, vector y) { return _mm512_mul_pd(x, y); }
VECTOR_INLINE vector vector_over(vector x, vector y) { return _mm512_div_pd(x, y); }
VECTOR_INLINE vector vector_min(vector x, vector y) { return _mm512_min_pd(y, x); }
VECTOR_INLINE vector vector_max(vector x, vector y) { return _mm512_max_pd(y, x); }
VECTOR_INLINE vector vector_sqrt(vector x) { return _mm512_sqrt_pd(x); }
VECTOR_INLINE vector vector_abs(vector x) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), x); }
VECTOR_INLINE vector vector_negative(vector x) { return _mm512_xor_pd(_mm512_set1_pd(-0.0), x); }
VECTOR_INLINE vector_mask vector_less(vector x, vector y) { return _mm512_cmp_pd_mask(x, y, _CMP_LT_OQ); }
VECTOR_INLINE vector_mask vector_at_most(vector x, vector y) { return _mm512_cmp_pd_mask(x, y, _CMP_LE_OQ); }
VECTOR_INLINE vector_mask vector_equal(vector x, vector y) { return _mm512_cmp_pd_mask(x, y, _CMP_EQ_OQ); }
VECTOR_INLINE vector_mask vector_unequal(vector x, vector y) { return _mm512_cmp_pd_mask(x, y, _CMP_NEQ_UQ); }
VECTOR_INLINE vector vector_select(vector_mask which, vector x, vector y) { return _mm512_mask_blend_pd(which, y, x); }
VECTOR_INLINE uint64_t vector_bits(vector_mask which) { return (uint64_t) which; }
VECTOR_INLINE vector_mask vector_mask_of(uint64_t word, int lane) { return (vector_mask) (word >> lane); }

#elif defined(__AVX2__)
#include <immintrin.h>
enum { WIDTH = 4 };
typedef __m256d vector;
typedef __m256d vector_mask;
VECTOR_INLINE vector vector_at(const double *from) { return _mm256_loadu_pd(from); }
VECTOR_INLINE void vector_to(double *to, vector x) { _mm256_storeu_pd(to, x); }
VECTOR_INLINE vector vector_all(double x) { return _mm256_set1_pd(x); }
VECTOR_INLINE vector vector_plus(vector x, vector y) { return _mm256_add_pd(x, y); }
VECTOR_INLINE vector vector_minus(vector x, vector y) { return _mm256_sub_pd(x, y); }
VECTOR_INLINE vector vector_times(vector x, vector y) { return _mm256_mul_pd(x, y); }
VECTOR_INLINE vector vector_over(vector x, vector y) { return _mm256_div_pd(x, y); }
VECTOR_INLINE vector vector_min(vector x, vector y) { return _mm256_min_pd(y, x); }
VECTOR_INLINE vector vector_max(vector x, vector y) { return _mm256_max_pd(y, x); }
VECTOR_INLINE vector vector_sqrt(vector x) { return _mm256_sqrt_pd(x); }
VECTOR_INLINE vector vector_abs(vector x) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), x); }
VECTOR_INLINE vector vector_negative(vector x) { return _mm256_xor_pd(_mm256_set1_pd(-0.0), x); }
VECTOR_INLINE vector_mask vector_less(vector x, vector y) { return _mm256_cmp_pd(x, y, _CMP_LT_OQ); }
VECTOR_INLINE vector_mask vector_at_most(vector x, vector y) { return _mm256_cmp_pd(x, y, _CMP_LE_OQ); }
VECTOR_INLINE vector_mask vector_equal(vector x, vector y) { return _mm256_cmp_pd(x, y, _CMP_EQ_OQ); }
VECTOR_INLINE vector_mask vector_unequal(vector x, vector y) { return _mm256_cmp_pd(x, y, _CMP_NEQ_UQ); }
VECTOR_INLINE vector vector_select(vector_mask which, vector x, vector y) { return _mm256_blendv_pd(y, x, which); }
VECTOR_INLINE uint64_t vector_bits(vector_mask which) { return (uint64_t) (uint32_t) _mm256_movemask_pd(which); }
VECTOR_INLINE vector_mask vector_mask_of(uint64_t word, int lane) /* only the sign bits, which select and bits read */
{
    __m256i places = _mm256_set_epi64x(60 - lane, 61 - lane, 62 - lane, 63 - lane);
    return _mm256_castsi256_pd(_mm256_sllv_epi64(_mm256_set1_epi64x((long long) word), places));
}

#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
enum { WIDTH = 2 };
typedef __m128d vector;
typedef __m128d vector_mask;
VECTOR_INLINE vector vector_at(const double *from) { return _mm_loadu_pd(from); }
VECTOR_INLINE void vector_to(double *to, vector x) { _mm_storeu_pd(to, x); }
VECTOR_INLINE vector vector_all(double x) { return _mm_set1_pd(x); }
VECTOR_INLINE vector vector_plus(vector x, vector y) { return _mm_add_pd(x, y); }
VECTOR_INLINE vector vector_minus(vector x, vector y) { return _mm_sub_pd(x, y); }
VECTOR_INLINE vector vector_times(vector x, vector y) { return _mm_mul_pd(x, y); }
VECTOR_INLINE vector vector_over(vector x, vector y) { return _mm_div_pd(x, y); }
VECTOR_INLINE vector vector_min(vector x, vector y) { return _mm_min_pd(y, x); }
VECTOR_INLINE vector vector_max(vector x, vector y) { return _mm_max_pd(y, x); }
VECTOR_INLINE vector vector_sqrt(vector x) { return _mm_sqrt_pd(x); }
VECTOR_INLINE vector vector_abs(vector x) { return _mm_andnot_pd(_mm_set1_pd(-0.0), x); }
VECTOR_INLINE vector vector_negative(vector x) { return _mm_xor_pd(_mm_set1_pd(-0.0), x); }
VECTOR_INLINE vector_mask vector_less(vector x, vector y) { return _mm_cmplt_pd(x, y); }
VECTOR_INLINE vector_mask vector_at_most(vector x, vector y) { return _mm_cmple_pd(x, y); }
VECTOR_INLINE vector_mask vector_equal(vector x, vector y) { return _mm_cmpeq_pd(x, y); }
VECTOR_INLINE vector_mask vector_unequal(vector x, vector y) { return _mm_cmpneq_pd(x, y); }
VECTOR_INLINE vector vector_select(vector_mask which, vector x, vector y)
{
    return _mm_or_pd(_mm_and_pd(which, x), _mm_andnot_pd(which, y));
}
VECTOR_INLINE uint64_t vector_bits(vector_mask which) { return (uint64_t) (uint32_t) _mm_movemask_pd(which); }
VECTOR_INLINE vector_mask vector_mask_of(uint64_t word, int lane)
{
    return _mm_castsi128_pd(_mm_set_epi64x(-(long long) (word >> lane >> 1 & 1), -(long long) (word >> lane & 1)));
}

#else /* one number at a time */
enum { WIDTH = 1 };
typedef double vector;
typedef int vector_mask;
VECTOR_INLINE vector vector_at(const double *from) { return *from; }
VECTOR_INLINE void vector_to(double *to, vector x) { *to = x; }
VECTOR_INLINE vector vector_all(double x) { return x; }
VECTOR_INLINE vector vector_plus(vector x, vector y) { return x + y; }
VECTOR_INLINE vector vector_minus(vector x, vector y) { return x - y; }
VECTOR_INLINE vector vector_times(vector x, vector y) { return x * y; }
VECTOR_INLINE vector vector_over(vector x, vector y) { return x / y; }
VECTOR_INLINE vector vector_min(vector x, vector y) { return y < x ? y : x; }
VECTOR_INLINE vector vector_max(vector x, vector y) { return y > x ? y : x; }
VECTOR_INLINE vector vector_sqrt(vector x) { return sqrt(x); }
VECTOR_INLINE vector vector_abs(vector x) { return fabs(x); }
VECTOR_INLINE vector vector_negative(vector x) { return -x; }
VECTOR_INLINE vector_mask vector_less(vector x, vector y) { return x < y; }
VECTOR_INLINE vector_mask vector_at_most(vector x, vector y) { return x <= y; }
VECTOR_INLINE vector_mask vector_equal(vector x, vector y) { return x == y; }
VECTOR_INLINE vector_mask vector_unequal(vector x, vector y) { return x != y; }
VECTOR_INLINE vector vector_select(vector_mask which, vector x, vector y) { return which ? x : y; }
VECTOR_INLINE uint64_t vector_bits(vector_mask which) { return (uint64_t) which; }
VECTOR_INLINE vector_mask vector_mask_of(uint64_t word, int lane) { return (int) (word >> lane & 1); }
#endif

/* Lanes side by side: one block of candidates. */
enum { BLOCK = 64 };
#define EACH_VECTOR(lane) for (int lane = 0; lane < BLOCK; lane += WIDTH)
/* Bits of a vector's lanes, of a word. */
#define VECTOR_LANES ((uint64_t) ((1 << WIDTH) - 1))

VECTOR_INLINE void fill_row(double *row, double value) { EACH_VECTOR(lane) vector_to(row + lane, vector_all(value)); }

#endif
