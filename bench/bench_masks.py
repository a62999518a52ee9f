"""Masks: building them for a block of candidates, against NumPy comparisons packed into bits.

Parity is asserted before anything is timed; the gate is a ratio of minima taken in turns in one run.
"""

import numpy as np
import pytest
from ratio import minima

import backtest as bt
from backtest import _backend, lines, rules
from backtest.line_values import Block, LineMemo
from backtest.masks import MaskMemo, unpack

#: Our time over NumPy's, one thread; measured 0.02 to 0.06.
MOST_OF_NUMPY = 0.15
#: Packing an array against ``np.packbits`` of it, by its order in memory; measured 0.07, and 1.3 with the words' allocation.
MOST_OF_PACKBITS = {"C": 0.3, "F": 2.5}
ROOMY = 1 << 26

FAST, SLOW = (lines.sma(lines.close, bt.param(name)) for name in ("fast", "slow"))
CONDITIONS = {"pairs": [rules.crosses_above(FAST, SLOW), rules.crosses_below(FAST, SLOW)], "above": [FAST > SLOW]}


def numpy_masks(bars, batch, memo, names):
    """The same masks, candidate by candidate: what they are without a kernel."""
    n_bars, found = len(bars), {name: [] for name in names}
    for fast, slow in batch.tolist():
        (a, warm_a), (b, warm_b) = memo.entry(FAST, {"fast": int(fast)}), memo.entry(SLOW, {"slow": int(slow)})
        warm, above = max(warm_a, warm_b), a > b
        if names == ["above"]:
            masks = [above]
        else:
            below, masks = a < b, [np.zeros(n_bars, dtype=bool), np.zeros(n_bars, dtype=bool)]
            masks[0][1:], masks[1][1:] = above[1:] & ~above[:-1], below[1:] & ~below[:-1]
            warm += 1
        for name, mask in zip(names, masks, strict=True):
            mask[:warm] = False
            found[name].append(np.packbits(mask, bitorder="little"))
    return [np.array(found[name]) for name in names]


@pytest.mark.parametrize("which", CONDITIONS)
def test_block_against_numpy(benchmark, which):
    bars, space = bt.Bars.sample(), bt.Space({"fast": range(2, 250), "slow": range(2, 250)}, where="fast < slow")
    batch = space.candidates(np.arange(0, 4096))[1]
    memo, conditions = MaskMemo(LineMemo(bars, ROOMY), ROOMY), CONDITIONS[which]
    few, line_memo, names = batch[::32], LineMemo(bars, ROOMY), (["above"] if which == "above" else ["up", "down"])

    def ours(rows):
        return memo.masks(conditions, Block(rows, space.parameters, {}))

    for masks, expected in zip(ours(few)[1], numpy_masks(bars, few, line_memo, names), strict=True):
        truth = unpack(masks.words, len(bars))[masks.inverse]
        assert np.packbits(truth, axis=1, bitorder="little").tobytes() == expected.tobytes()
    mine, numpys = minima(lambda: ours(batch), lambda: numpy_masks(bars, few, line_memo, names))
    mine, numpys = mine / len(batch), numpys / len(few)
    benchmark.extra_info["ratio"] = round(mine / numpys, 4)
    benchmark(ours, batch)
    print(f"\n{which}: {mine * 1e6:.3f} us a candidate, {mine / numpys:.3f} of NumPy's time")
    if _backend.chosen().name == "cython":
        assert mine <= MOST_OF_NUMPY * numpys


@pytest.mark.parametrize("order", ["C", "F"])
def test_packing_against_packbits(benchmark, order):
    if _backend.chosen().name != "cython":
        pytest.skip("the pure twin packs bar by bar")
    signals = np.asarray(np.random.default_rng(0).random((2000, 8192)) < 0.05, order=order)
    expected = np.packbits(signals.T, axis=1, bitorder="little")
    packed = rules.from_arrays(signals).enter_long.args[0]
    assert packed.words.view(np.uint8)[:, : expected.shape[1]].tobytes() == expected.tobytes()
    mine, numpys, copies = minima(
        lambda: rules.from_arrays(signals), lambda: np.packbits(signals.T, axis=1, bitorder="little"), signals.copy
    )
    benchmark.extra_info["ratio"] = round(mine / numpys, 3)
    benchmark(rules.from_arrays, signals)
    speed = signals.nbytes / mine / 1e9
    print(f"\n{order} order: {speed:.1f} GB/s, {mine / numpys:.2f} of packbits, {mine / copies:.2f} of a copy")
    assert mine <= MOST_OF_PACKBITS[order] * numpys
