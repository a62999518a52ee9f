/* Sizes and indices that C and Cython share. */
#ifndef BACKTEST_LAYOUT_H
#define BACKTEST_LAYOUT_H

/* Assets side by side: sums are kept by column modulo this number; the lanes are added up in order at the end. */
enum { N_LANES = 8 };

/* Kept of the completed trades of a side: sums, then pairs of a largest and a smallest value. */
enum { KEPT_TRADES, KEPT_WINNERS, KEPT_LOSERS, KEPT_COSTS, KEPT_NET, KEPT_WON, KEPT_LOST, KEPT_RETURN, KEPT_RETURN_2, KEPT_MFE,
       KEPT_MAE, KEPT_BARS, KEPT_DAYS, KEPT_SUMS, KEPT_MOST_NET = KEPT_SUMS, KEPT_LEAST_NET, KEPT_MOST_BARS, KEPT_LEAST_BARS,
       KEPT_MOST_DAYS, KEPT_LEAST_DAYS, KEPT };

/* Bars of a tile of a line, as the masks kernel compares lines. */
#define BACKTEST_TILE 512

#endif
