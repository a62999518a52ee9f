/* Logarithm as a pair of doubles, and exponential, from basic operations; the twin, which explains the steps, is
   backtest/_pure/elementary.py.  Free of branches, so that compilers vectorise it. */
#ifndef BACKTEST_ELEMENTARY_H
#define BACKTEST_ELEMENTARY_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Entries of the tables, and numbers per block. */
enum { ELEMENTARY_LOGS = 128, ELEMENTARY_POWERS = 64, ELEMENTARY_BLOCK = 256 };

/* Adding and then subtracting them rounds to a multiple of 2^-24 (numbers below 1), and to an integer. */
#define TO_UPPER (1.5 * 268435456.0)
#define TO_WHOLE (1.5 * 4503599627370496.0)
/* Splits a double into halves whose products are exact. */
#define SPLIT (134217728.0 + 1.0)
/* Beyond these x ** y is 0, 1 or infinite, whatever x is, and e ** x 0 or infinite. */
#define MOST_Y 1180591620717411303424.0
#define MOST_X 800.0
/* ELEMENTARY_POWERS / log 2; the multiple of the step that it selects need not be the nearest. */
#define STEPS 92.33248261689366

/* A number as its nearest double and the remainder. */
typedef struct { double upper, lower; } elementary_pair;

typedef struct {
    const double *factors, *log_uppers, *log_lowers, *power_uppers, *power_lowers;
    double log2_upper, log2_lower, step_upper, step_lower;
} elementary_tables;

static inline double elementary_power_of_two(int n)
{
    const int64_t bits = (int64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

/* log x of a finite x > 0. */
static inline elementary_pair elementary_log(double x, const elementary_tables *tables)
{
    const int is_small = x < 0x1p-1022;
    const double scaled = is_small ? x * 0x1p54 : x;
    int64_t bits;
    memcpy(&bits, &scaled, 8);
    const double e = (double)((int)(bits >> 52) - (is_small ? 1076 : 1022));
    bits = (bits & 0xfffffffffffff) | 0x3fe0000000000000;
    double m;
    memcpy(&m, &bits, 8);
    const int index = (int)((m - 0.5) * (2.0 * ELEMENTARY_LOGS));
    const double c = tables->factors[index];
    const double m_upper = (m + TO_UPPER) - TO_UPPER;
    const double r_upper = m_upper * c - 1.0;
    const double r_lower = (m - m_upper) * c;
    const double r = r_upper + r_lower;
    /* Exact: multiples of 2^-41 below 2^10, and of 2^-65 below 2^-14. */
    const double large = (e * tables->log2_upper + tables->log_uppers[index]) + r_upper;
    const double half_square = 0.5 * (r_upper * r_upper);
    const double first = large - half_square;
    const double first_lost = (large - first) - half_square;
    const double total = first + r_lower;
    const double part = total - first;
    const double lost = (first - (total - part)) + (r_lower - part);
    const double series =
        1.0 / 3.0 + r * (-0.25 + r * (0.2 + r * (-1.0 / 6.0 + r * (1.0 / 7.0 + r * (-0.125 + r * (1.0 / 9.0))))));
    double small = (r * r) * r * series - r_lower * (r_upper + 0.5 * r_lower);
    small = (first_lost + lost) + (small + (e * tables->log2_lower + tables->log_lowers[index]));
    elementary_pair result;
    result.upper = total + small;
    result.lower = small - (result.upper - total);
    return result;
}

/* Rounding error of the product of a and b (Dekker). */
static inline double elementary_lost(double a, double b, double product)
{
    const double large_a = SPLIT * a, large_b = SPLIT * b;
    const double a_upper = large_a - (large_a - a), b_upper = large_b - (large_b - b);
    const double a_lower = a - a_upper, b_lower = b - b_upper;
    return ((a_upper * b_upper - product) + a_upper * b_lower + a_lower * b_upper) + a_lower * b_lower;
}

/* exp(x + rest), rest far below x; unspecified for NaN. */
static inline double elementary_exp(double x, double rest, const elementary_tables *tables)
{
    const int is_inside = (x > -MOST_X) & (x < MOST_X);
    rest = is_inside ? rest : 0.0;
    x = is_inside ? x : (x > 0.0 ? MOST_X : -MOST_X);
    const double k = (x * STEPS + TO_WHOLE) - TO_WHOLE;
    const double r = ((x - k * tables->step_upper) - k * tables->step_lower) + rest;
    const double series = r + r * r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0)))));
    const int step = (int)k, index = step & (ELEMENTARY_POWERS - 1), n = step >> 6, half = n >> 1;
    const double upper = tables->power_uppers[index];
    const double value = upper + (tables->power_lowers[index] + upper * series);
    /* In two steps, the first of them exact: 2^n itself may not be a double. */
    return value * elementary_power_of_two(half) * elementary_power_of_two(n - half);
}

/* |x| ** y where |x| is finite and not 0 and y not NaN, unspecified elsewhere; y advances by ``step``. */
static inline void elementary_powers(const double *__restrict x, const double *__restrict y, ptrdiff_t step, ptrdiff_t n,
                                     const elementary_tables *given, double *__restrict out)
{
    const elementary_tables tables = *given;
    double exponents[ELEMENTARY_BLOCK];
    for (ptrdiff_t begin = 0; begin < n; begin += ELEMENTARY_BLOCK) {
        const ptrdiff_t length = n - begin < ELEMENTARY_BLOCK ? n - begin : ELEMENTARY_BLOCK;
        for (ptrdiff_t row = 0; row < length; row++) {
            const double exponent = y[(begin + row) * step], below = exponent > MOST_Y ? MOST_Y : exponent;
            exponents[row] = below < -MOST_Y ? -MOST_Y : below;
        }
        for (ptrdiff_t row = 0; row < length; row++) {
            const double size = fabs(x[begin + row]), factor = exponents[row];
            const double base = (size > 0.0) & (size < (double)INFINITY) ? size : 1.0;
            const elementary_pair pair = elementary_log(base, &tables);
            const double product = factor * pair.upper;
            out[begin + row] = elementary_exp(product, elementary_lost(factor, pair.upper, product) + factor * pair.lower, &tables);
        }
    }
}

#undef TO_UPPER
#undef TO_WHOLE
#undef SPLIT
#undef MOST_Y
#undef MOST_X
#undef STEPS
#endif
