/* What returns add up to, 8 sums side by side: r, r^2, r^3, r^4, gains, losses, squared shortfalls, and one that stays 0.
 *
 * They live in registers or are read as they were written: a wide load of what was stored in small pieces waits until
 * all of these have reached the cache.  The same operations in the same order at every instruction set level.
 */

#ifndef BACKTEST_MOMENTS_H
#define BACKTEST_MOMENTS_H

#include <math.h>

#if defined(__AVX__)
#include <immintrin.h>

typedef struct {
    __m256d low, high;
} backtest_moments;

static inline backtest_moments backtest_moments_of(const double *terms) {
    backtest_moments moments = {_mm256_loadu_pd(terms), _mm256_loadu_pd(terms + 4)};
    return moments;
}

static inline void backtest_read_moments(const backtest_moments *moments, double *terms) {
    _mm256_storeu_pd(terms, moments->low);
    _mm256_storeu_pd(terms + 4, moments->high);
}

static inline void backtest_add_moments(backtest_moments *moments, const backtest_moments *more) {
    moments->low = _mm256_add_pd(moments->low, more->low);
    moments->high = _mm256_add_pd(moments->high, more->high);
}

/* What one return adds. */
static inline void backtest_add_powers(backtest_moments *moments, double result, double rf_per_bar) {
    __m256d r = _mm256_set1_pd(result), square = _mm256_mul_pd(r, r), one = _mm256_set1_pd(1.0);
    __m256d left = _mm256_blend_pd(r, square, 0xc), right = _mm256_blend_pd(_mm256_blend_pd(one, r, 0x6), square, 0x8);
    /* x, then 0.5 (|x| + x), of: the return, its negative, and what it falls short of the riskless one. */
    __m256d signed_r = _mm256_xor_pd(r, _mm256_set_pd(0.0, -0.0, -0.0, 0.0));
    __m256d x = _mm256_add_pd(_mm256_blend_pd(signed_r, _mm256_setzero_pd(), 0x8), _mm256_set_pd(0.0, rf_per_bar, 0.0, 0.0));
    __m256d part = _mm256_mul_pd(_mm256_set1_pd(0.5), _mm256_add_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x), x));
    moments->low = _mm256_add_pd(moments->low, _mm256_mul_pd(left, right));
    moments->high = _mm256_add_pd(moments->high, _mm256_mul_pd(part, _mm256_blend_pd(one, part, 0x4)));
}

/* What lies between two rows of the table of sums, each in pairs of doubles. */
static inline void backtest_add_between(backtest_moments *moments, const double *upper, const double *lower) {
    __m256d low = _mm256_sub_pd(_mm256_loadu_pd(upper), _mm256_loadu_pd(lower));
    __m256d high = _mm256_sub_pd(_mm256_loadu_pd(upper + 4), _mm256_loadu_pd(lower + 4));
    low = _mm256_add_pd(low, _mm256_sub_pd(_mm256_loadu_pd(upper + 8), _mm256_loadu_pd(lower + 8)));
    high = _mm256_add_pd(high, _mm256_sub_pd(_mm256_loadu_pd(upper + 12), _mm256_loadu_pd(lower + 12)));
    moments->low = _mm256_add_pd(moments->low, low);
    moments->high = _mm256_add_pd(moments->high, high);
}

/* Squared shortfalls alone. */
static inline void backtest_add_shortfall(backtest_moments *moments, double shortfall_2) {
    moments->high = _mm256_add_pd(moments->high, _mm256_set_pd(0.0, shortfall_2, 0.0, 0.0)); /* no sum is -0.0 */
}

#else

typedef struct {
    double at[8];
} backtest_moments;

static inline backtest_moments backtest_moments_of(const double *terms) {
    backtest_moments moments;
    for (int column = 0; column < 8; column++) moments.at[column] = terms[column];
    return moments;
}

static inline void backtest_read_moments(const backtest_moments *moments, double *terms) {
    for (int column = 0; column < 8; column++) terms[column] = moments->at[column];
}

static inline void backtest_add_moments(backtest_moments *moments, const backtest_moments *more) {
    for (int column = 0; column < 8; column++) moments->at[column] += more->at[column];
}

static inline void backtest_add_powers(backtest_moments *moments, double result, double rf_per_bar) {
    double square = result * result, excess = result - rf_per_bar, shortfall = 0.5 * (fabs(excess) - excess);
    moments->at[0] += result;
    moments->at[1] += square;
    moments->at[2] += square * result;
    moments->at[3] += square * square;
    moments->at[4] += 0.5 * (fabs(result) + result);
    moments->at[5] += 0.5 * (fabs(result) - result);
    moments->at[6] += shortfall * shortfall;
}

static inline void backtest_add_between(backtest_moments *moments, const double *upper, const double *lower) {
    for (int column = 0; column < 8; column++)
        moments->at[column] += (upper[column] - lower[column]) + (upper[8 + column] - lower[8 + column]);
}

static inline void backtest_add_shortfall(backtest_moments *moments, double shortfall_2) { moments->at[6] += shortfall_2; }

#endif

#endif
