/* Eight numbers at a time, and what is done with them.

   Compilers keep vectors in registers, arrays often in memory; one that knows no vectors (or is asked not to use them, with
   BACKTEST_PLAIN_LANES) computes the same bits with arrays. */
#ifndef BACKTEST_LANES_H
#define BACKTEST_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

enum { N_LANES = 8 };

#if defined(LANES_VECTORS)
#pragma GCC diagnostic ignored "-Wpsabi" /* everything is inlined */
typedef double lanes __attribute__((vector_size(64)));
typedef int64_t choice __attribute__((vector_size(64)));
LANES_INLINE lanes lanes_plus(lanes one, lanes other) { return one + other; }
LANES_INLINE lanes lanes_minus(lanes one, lanes other) { return one - other; }
LANES_INLINE lanes lanes_times(lanes one, lanes other) { return one * other; }
LANES_INLINE lanes lanes_over(lanes one, lanes other) { return one / other; }
LANES_INLINE lanes lanes_size(lanes x) { return (lanes)((choice)x & INT64_MAX); }
LANES_INLINE choice lanes_above(lanes one, lanes other) { return one > other; }
LANES_INLINE choice lanes_upto(lanes one, lanes other) { return one <= other; }
LANES_INLINE choice choice_both(choice one, choice other) { return one & other; }
LANES_INLINE lanes lanes_pick(choice which, lanes one, lanes other)
{
    return (lanes)((which & (choice)one) | (~which & (choice)other));
}
LANES_INLINE lanes lanes_only(choice which, lanes x) { return (lanes)(which & (choice)x); }
#else
typedef struct { double of[N_LANES]; } lanes;
typedef struct { int of[N_LANES]; } choice;
#define EACH_LANE for (int lane = 0; lane < N_LANES; lane++)
LANES_INLINE lanes lanes_plus(lanes one, lanes other) { EACH_LANE one.of[lane] += other.of[lane]; return one; }
LANES_INLINE lanes lanes_minus(lanes one, lanes other) { EACH_LANE one.of[lane] -= other.of[lane]; return one; }
LANES_INLINE lanes lanes_times(lanes one, lanes other) { EACH_LANE one.of[lane] *= other.of[lane]; return one; }
LANES_INLINE lanes lanes_over(lanes one, lanes other) { EACH_LANE one.of[lane] /= other.of[lane]; return one; }
LANES_INLINE lanes lanes_size(lanes x) { EACH_LANE x.of[lane] = fabs(x.of[lane]); return x; }
LANES_INLINE choice lanes_above(lanes one, lanes other)
{
    choice is;
    EACH_LANE is.of[lane] = one.of[lane] > other.of[lane];
    return is;
}
LANES_INLINE choice lanes_upto(lanes one, lanes other)
{
    choice is;
    EACH_LANE is.of[lane] = one.of[lane] <= other.of[lane];
    return is;
}
LANES_INLINE choice choice_both(choice one, choice other) { EACH_LANE one.of[lane] &= other.of[lane]; return one; }
LANES_INLINE lanes lanes_pick(choice which, lanes one, lanes other)
{
    EACH_LANE other.of[lane] = which.of[lane] ? one.of[lane] : other.of[lane];
    return other;
}
LANES_INLINE lanes lanes_only(choice which, lanes x) { EACH_LANE x.of[lane] = which.of[lane] ? x.of[lane] : 0.0; return x; }
#endif

/* The larger or smaller of a number and what was reached before, which stays where the number is none. */
#if defined(LANES_VECTORS) && defined(__AVX512F__)
LANES_INLINE lanes lanes_larger(lanes x, lanes most) { return (lanes)_mm512_max_pd((__m512d)x, (__m512d)most); }
LANES_INLINE lanes lanes_smaller(lanes x, lanes least) { return (lanes)_mm512_min_pd((__m512d)x, (__m512d)least); }
#else
LANES_INLINE lanes lanes_larger(lanes x, lanes most) { return lanes_pick(lanes_above(x, most), x, most); }
LANES_INLINE lanes lanes_smaller(lanes x, lanes least) { return lanes_pick(lanes_above(least, x), x, least); }
#endif

LANES_INLINE lanes lanes_at(const double *values)
{
    lanes x;
    memcpy(&x, values, sizeof x);
    return x;
}
LANES_INLINE void lanes_to(double *values, lanes x) { memcpy(values, &x, sizeof x); }
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
/* The first ``n`` of a group, and zeros. */
static LANES_NOINLINE void lanes_copy(double *to, const double *values, ptrdiff_t n)
{
    memset(to, 0, N_LANES * sizeof(double));
    memcpy(to, values, (size_t)n * sizeof(double));
}
/* The last group of a row of prices.  Beyond its last asset lies the next row: numbers that nobody has units of, but that can be
   read in one go; beyond the last row (``end``) lies nothing. */
LANES_INLINE lanes lanes_of_rest(const double *values, ptrdiff_t n, const double *end)
{
    double each[N_LANES];
    if (values + N_LANES <= end) return lanes_at(values);
    lanes_copy(each, values, n);
    return lanes_at(each);
}
LANES_INLINE ptrdiff_t lanes_full(ptrdiff_t n) { return n / N_LANES * N_LANES; }

#endif
