/* Sums of returns, 8 side by side: r, r^2, r^3, r^4, gains, losses, squared shortfalls, and one that stays 0.
 *
 * They are kept in vector registers, since a wide load right after narrow stores stalls until these are in the cache.
 * Every instruction set level does the same operations in the same order.
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

/* Add the terms of one return. */
static inline void backtest_add_powers(backtest_moments *moments, double result, double rf_per_bar) {
    __m256d r = _mm256_set1_pd(result), square = _mm256_mul_pd(r, r), one = _mm256_set1_pd(1.0);
    __m256d left = _mm256_blend_pd(r, square, 0xc), right = _mm256_blend_pd(_mm256_blend_pd(one, r, 0x6), square, 0x8);
    /* x, then 0.5 (|x| + x), of: the return, its negative, and its shortfall below the riskless return. */
    __m256d signed_r = _mm256_xor_pd(r, _mm256_set_pd(0.0, -0.0, -0.0, 0.0));
    __m256d x = _mm256_add_pd(_mm256_blend_pd(signed_r, _mm256_setzero_pd(), 0x8), _mm256_set_pd(0.0, rf_per_bar, 0.0, 0.0));
    __m256d part = _mm256_mul_pd(_mm256_set1_pd(0.5), _mm256_add_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x), x));
    moments->low = _mm256_add_pd(moments->low, _mm256_mul_pd(left, right));
    moments->high = _mm256_add_pd(moments->high, _mm256_mul_pd(part, _mm256_blend_pd(one, part, 0x4)));
}

/* Add the difference of two rows of prefix sums, each a sum and its compensation. */
static inline void backtest_add_between(backtest_moments *moments, const double *upper, const double *lower) {
    __m256d low = _mm256_sub_pd(_mm256_loadu_pd(upper), _mm256_loadu_pd(lower));
    __m256d high = _mm256_sub_pd(_mm256_loadu_pd(upper + 4), _mm256_loadu_pd(lower + 4));
    low = _mm256_add_pd(low, _mm256_sub_pd(_mm256_loadu_pd(upper + 8), _mm256_loadu_pd(lower + 8)));
    high = _mm256_add_pd(high, _mm256_sub_pd(_mm256_loadu_pd(upper + 12), _mm256_loadu_pd(lower + 12)));
    moments->low = _mm256_add_pd(moments->low, low);
    moments->high = _mm256_add_pd(moments->high, high);
}

/* Add to the squared shortfalls only. */
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
