/* Lines and masks of 64 candidates, laid out by bars: a row of 64 numbers a bar, a word of 64 bits a bar.

   A line is read TILE bars at a time and turned by small transposes; neighbours that share a row of the table of lines are one
   value for all lanes.  The rows are a ring that also keeps the bars before, for ``previous(k)``. */
#ifndef BACKTEST_TILES_H
#define BACKTEST_TILES_H

#include <stdint.h>

#include "_vectors.h"

enum { TILE = 16, MASK_TILE = 64 };

typedef struct {
    const double *from[BLOCK]; /* of each lane, bar 0 */
    double *rows;              /* a ring of n_rows rows */
    int64_t n_rows;            /* a power of 2, at least TILE */
    int64_t shift;             /* row ``bar`` holds the value of bar - shift */
    int is_uniform;            /* all lanes read the same row */
} machine_tile;

typedef struct {
    const uint64_t *from[BLOCK];
    int64_t shift;
    int is_uniform;
    uint64_t words[MASK_TILE]; /* of bars bar & ~63 and on */
} machine_mask;

VECTOR_INLINE double *tile_row(const machine_tile *tile, int64_t bar) { return tile->rows + BLOCK * (bar & (tile->n_rows - 1)); }

/* Rows of 8 bars from ``bar`` on. */
static void turn_eight_bars(const double *const *from, int64_t bar, double *to)
{
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    for (int lane = 0; lane < BLOCK; lane += 8) {
        __m512d a[8], b[8];
        for (int i = 0; i < 8; i++) a[i] = _mm512_loadu_pd(from[lane + i] + bar);
        for (int i = 0; i < 8; i += 2) {
            b[i] = _mm512_unpacklo_pd(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_pd(a[i], a[i + 1]);
        }
        for (int i = 0; i < 2; i++) { /* bars i, i + 2, i + 4, i + 6 of lanes 0 to 3 and 4 to 7 */
            a[i] = _mm512_shuffle_f64x2(b[i], b[i + 2], 0x88);
            a[i + 2] = _mm512_shuffle_f64x2(b[i], b[i + 2], 0xdd);
            a[i + 4] = _mm512_shuffle_f64x2(b[i + 4], b[i + 6], 0x88);
            a[i + 6] = _mm512_shuffle_f64x2(b[i + 4], b[i + 6], 0xdd);
        }
        for (int i = 0; i < 4; i++) {
            int at = i & 1 ? 1 : 0, row = i & 2 ? 2 : 0; /* the quarter that holds this bar */
            vector_to(to + BLOCK * (at + row) + lane, _mm512_shuffle_f64x2(a[at + row], a[at + row + 4], 0x88));
            vector_to(to + BLOCK * (at + row + 4) + lane, _mm512_shuffle_f64x2(a[at + row], a[at + row + 4], 0xdd));
        }
    }
#elif defined(__AVX2__)
    for (int lane = 0; lane < BLOCK; lane += 4)
        for (int half = 0; half < 8; half += 4) {
            __m256d a = _mm256_loadu_pd(from[lane] + bar + half), b = _mm256_loadu_pd(from[lane + 1] + bar + half);
            __m256d c = _mm256_loadu_pd(from[lane + 2] + bar + half), d = _mm256_loadu_pd(from[lane + 3] + bar + half);
            __m256d ab = _mm256_unpacklo_pd(a, b), ab_high = _mm256_unpackhi_pd(a, b);
            __m256d cd = _mm256_unpacklo_pd(c, d), cd_high = _mm256_unpackhi_pd(c, d);
            double *here = to + BLOCK * half + lane;
            _mm256_storeu_pd(here, _mm256_permute2f128_pd(ab, cd, 0x20));
            _mm256_storeu_pd(here + BLOCK, _mm256_permute2f128_pd(ab_high, cd_high, 0x20));
            _mm256_storeu_pd(here + 2 * BLOCK, _mm256_permute2f128_pd(ab, cd, 0x31));
            _mm256_storeu_pd(here + 3 * BLOCK, _mm256_permute2f128_pd(ab_high, cd_high, 0x31));
        }
#else
    for (int lane = 0; lane < BLOCK; lane++)
        for (int i = 0; i < 8; i++) to[BLOCK * i + lane] = from[lane][bar + i];
#endif
}

/* Rows of bars ``begin`` (a multiple of TILE) to begin + TILE - 1; a bar before the first or after the last is NaN. */
static void fill_tile(machine_tile *tile, int64_t begin, int64_t n_bars)
{
    int64_t bar = begin - tile->shift, end = bar + TILE;
    double *to = tile_row(tile, begin);
    for (; bar < end && bar < 0; bar++, to += BLOCK) fill_row(to, NAN);
    if (tile->is_uniform)
        for (; bar < end && bar < n_bars; bar++, to += BLOCK) fill_row(to, tile->from[0][bar]);
    for (; bar + 8 <= end && bar + 8 <= n_bars; bar += 8, to += 8 * BLOCK) turn_eight_bars(tile->from, bar, to);
    for (; bar < end && bar < n_bars; bar++, to += BLOCK)
        for (int lane = 0; lane < BLOCK; lane++) to[lane] = tile->from[lane][bar];
    for (; bar < end; bar++, to += BLOCK) fill_row(to, NAN);
}

/* Words of bars ``begin`` (a multiple of 64) to begin + 63; a bar before the first or after the last is never. */
static void fill_mask(machine_mask *mask, int64_t begin, int64_t n_words)
{
    uint64_t *a = mask->words;
    int64_t word = (begin - mask->shift) >> 6; /* down, also below 0 */
    int bit = (int) ((begin - mask->shift) & 63);
    for (int lane = 0; lane < (mask->is_uniform ? 1 : BLOCK); lane++) {
        uint64_t low = word >= 0 && word < n_words ? mask->from[lane][word] : 0;
        uint64_t high = bit && word + 1 >= 0 && word + 1 < n_words ? mask->from[lane][word + 1] : 0;
        a[lane] = bit ? low >> bit | high << (64 - bit) : low;
    }
    if (mask->is_uniform) {
        uint64_t bits = a[0];
        for (int bar = 0; bar < MASK_TILE; bar++) a[bar] = 0 - (bits >> bar & 1);
        return;
    }
    /* The transpose of 64 x 64 bits: quarters are exchanged, then quarters of quarters. */
    uint64_t low = 0x00000000ffffffffu;
    for (int size = 32; size; size >>= 1, low ^= low << size)
        for (int first = 0; first < MASK_TILE; first += 2 * size)
            for (int i = first; i < first + size; i++) {
                uint64_t swap = (a[i] >> size ^ a[i + size]) & low;
                a[i] ^= swap << size;
                a[i + size] ^= swap;
            }
}

#endif
