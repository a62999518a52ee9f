/* Arithmetic on eight numbers at a time.

   Compilers keep vectors in registers, arrays often in memory; without vector extensions, or with BACKTEST_PLAIN_LANES,
   arrays give the same bits. */
#ifndef BACKTEST_LANES_H
#define BACKTEST_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_layout.h"

#if defined(__GNUC__) && !defined(BACKTEST_PLAIN_LANES)
#define LANES_VECTORS
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#endif

#if defined(_MSC_VER)
#define LANES_RESTRICT __restrict
#define LANES_NOINLINE __declspec(noinline)
#define LANES_INLINE static __forceinline
#else
#define LANES_RESTRICT restrict
#define LANES_NOINLINE __attribute__((noinline))
#define LANES_INLINE static inline __attribute__((always_inline))
#endif

/* Eight lanes are one or more vectors of the processor's width: compilers handle wider vectors poorly. */
#if defined(LANES_VECTORS)
#if defined(__AVX512F__)
#define LANES_BYTES 64
#elif defined(__AVX__)
#define LANES_BYTES 32
#else
#define LANES_BYTES 16
#endif
#pragma GCC diagnostic ignored "-Wpsabi" /* everything is inlined */
typedef double lanes_part __attribute__((vector_size(LANES_BYTES)));
typedef int64_t lanes_bits __attribute__((vector_size(LANES_BYTES)));
LANES_INLINE lanes_bits lanes_part_above(lanes_part one, lanes_part other) { return one > other; }
LANES_INLINE lanes_bits lanes_part_at_most(lanes_part one, lanes_part other) { return one <= other; }
#else
#define LANES_BYTES 8
typedef double lanes_part;
typedef int64_t lanes_bits;
LANES_INLINE lanes_bits lanes_part_above(lanes_part one, lanes_part other) { return -(int64_t)(one > other); }
LANES_INLINE lanes_bits lanes_part_at_most(lanes_part one, lanes_part other) { return -(int64_t)(one <= other); }
#endif

enum { LANES_PARTS = 64 / LANES_BYTES };
typedef struct { lanes_part of[LANES_PARTS]; } lanes;
typedef struct { lanes_bits of[LANES_PARTS]; } lane_mask; /* all bits of a lane, or none */
#define EACH_PART for (int part = 0; part < LANES_PARTS; part++)

LANES_INLINE lanes_bits lanes_to_bits(lanes_part x)
{
    lanes_bits bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
LANES_INLINE lanes_part lanes_of_bits(lanes_bits bits)
{
    lanes_part x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

LANES_INLINE lanes lanes_plus(lanes one, lanes other) { EACH_PART one.of[part] += other.of[part]; return one; }
LANES_INLINE lanes lanes_minus(lanes one, lanes other) { EACH_PART one.of[part] -= other.of[part]; return one; }
LANES_INLINE lanes lanes_times(lanes one, lanes other) { EACH_PART one.of[part] *= other.of[part]; return one; }
LANES_INLINE lanes lanes_over(lanes one, lanes other) { EACH_PART one.of[part] /= other.of[part]; return one; }
LANES_INLINE lanes lanes_size(lanes x)
{
    EACH_PART x.of[part] = lanes_of_bits(lanes_to_bits(x.of[part]) & INT64_MAX);
    return x;
}
LANES_INLINE lane_mask lanes_above(lanes one, lanes other)
{
    lane_mask is;
    EACH_PART is.of[part] = lanes_part_above(one.of[part], other.of[part]);
    return is;
}
LANES_INLINE lane_mask lanes_at_most(lanes one, lanes other)
{
    lane_mask is;
    EACH_PART is.of[part] = lanes_part_at_most(one.of[part], other.of[part]);
    return is;
}
LANES_INLINE lane_mask lane_mask_and(lane_mask one, lane_mask other) { EACH_PART one.of[part] &= other.of[part]; return one; }
LANES_INLINE lanes lanes_select(lane_mask which, lanes one, lanes other)
{
    EACH_PART one.of[part] = lanes_of_bits((which.of[part] & lanes_to_bits(one.of[part])) |
                                           (~which.of[part] & lanes_to_bits(other.of[part])));
    return one;
}
LANES_INLINE lanes lanes_where(lane_mask which, lanes x)
{
    EACH_PART x.of[part] = lanes_of_bits(which.of[part] & lanes_to_bits(x.of[part]));
    return x;
}

/* The larger or smaller of a number and the extreme so far, which stays where the number is NaN. */
LANES_INLINE lanes lanes_larger(lanes x, lanes most)
{
#if defined(LANES_VECTORS) && defined(__AVX512F__)
    most.of[0] = (lanes_part)_mm512_max_pd((__m512d)x.of[0], (__m512d)most.of[0]);
    return most;
#else
    return lanes_select(lanes_above(x, most), x, most);
#endif
}
LANES_INLINE lanes lanes_smaller(lanes x, lanes least)
{
#if defined(LANES_VECTORS) && defined(__AVX512F__)
    least.of[0] = (lanes_part)_mm512_min_pd((__m512d)x.of[0], (__m512d)least.of[0]);
    return least;
#else
    return lanes_select(lanes_above(least, x), x, least);
#endif
}

LANES_INLINE lanes lanes_at(const double *values)
{
    lanes x;
    EACH_PART memcpy(&x.of[part], values + part * (LANES_BYTES / 8), LANES_BYTES);
    return x;
}
LANES_INLINE void lanes_to(double *values, lanes x)
{
    EACH_PART memcpy(values + part * (LANES_BYTES / 8), &x.of[part], LANES_BYTES);
}
LANES_INLINE lanes lanes_all(double value)
{
    double each[N_LANES];
    for (int lane = 0; lane < N_LANES; lane++) each[lane] = value;
    return lanes_at(each);
}
LANES_INLINE double lanes_sum(lanes x)
{
    double each[N_LANES], total;
    lanes_to(each, x);
    total = each[0];
    for (int lane = 1; lane < N_LANES; lane++) total += each[lane];
    return total;
}
/* The first ``n`` values of a group, then zeros. */
static LANES_NOINLINE void lanes_copy(double *to, const double *values, ptrdiff_t n)
{
    memset(to, 0, N_LANES * sizeof(double));
    memcpy(to, values, (size_t)n * sizeof(double));
}
/* The last group of a row of prices.  It may be read whole, into the next row, since lanes beyond the last asset have no
   units; not beyond ``end``, where prices end. */
LANES_INLINE lanes lanes_of_rest(const double *values, ptrdiff_t n, const double *end)
{
    double each[N_LANES];
    if (values + N_LANES <= end) return lanes_at(values);
    lanes_copy(each, values, n);
    return lanes_at(each);
}
LANES_INLINE ptrdiff_t lanes_full(ptrdiff_t n) { return n / N_LANES * N_LANES; }

#endif
