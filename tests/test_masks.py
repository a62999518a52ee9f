"""Masks: bits of comparisons and of arrays against plain loops, on every backend and instruction set level."""

import importlib
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKENDS
from hypothesis import given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest import _backend, lines, masks, rules
from backtest.evaluation import MEMO_BYTES
from backtest.expr import Combination, Cross
from backtest.line_values import Block, LineMemo
from backtest.masks import LineTable, MaskMemo, Pairs, n_words, unpack
from backtest.signals import StrategyEvaluator
from backtest.space import Choice, Continuous, Grid

SIZES = [1, 2, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1100]
ROOMY = 1 << 22


def levels():
    """Each backend that runs here, the compiled one at each instruction set level."""
    return [("python", None)] + [("cython", simd) for simd in (_backend.simd_levels() if "cython" in BACKENDS else ())]


@pytest.fixture(params=levels(), ids=lambda each: "-".join(filter(None, each)))
def kernel(request):
    with _backend.forced(*request.param):
        yield _backend.kernel("masks")


def bars_of(n_bars):
    return bt.Bars(open=np.ones(n_bars), high=np.ones(n_bars), low=np.ones(n_bars), close=np.ones(n_bars))


def laid_out(kernel, rows):
    """Lines as the kernel wants them."""
    rows = np.array(rows, dtype=np.float64)
    coarse = np.empty((-(-rows.shape[1] // masks.TILE), len(rows), masks.TILE), dtype=np.int32)
    for row, values in enumerate(rows):
        kernel.spread(values, row, coarse)
    for array in (rows, coarse):
        array.flags.writeable = False
    return rows, coarse


def pairs_of(sides, warm):
    """Pairs of (row or number, row or number): whole numbers are rows."""
    rows = [[side if isinstance(side, int) else -1 for side in column] for column in zip(*sides, strict=True)]
    values = [[0.0 if isinstance(side, int) else side for side in column] for column in zip(*sides, strict=True)]
    pairs = Pairs(
        *(np.array(each, dtype=np.int64) for each in rows), *(np.array(each) for each in values), np.array(warm, dtype=np.int64)
    )
    for array in pairs:
        array.flags.writeable = False
    return pairs


def answers(kernel, rows, sides, warm, n_bars):
    """``>``, ``>=``, crosses above and below, as booleans."""
    table, pairs = laid_out(kernel, rows), pairs_of(sides, warm)
    found = [np.full((len(sides), n_words(n_bars)), 2**64 - 1, dtype=np.uint64) for _ in range(4)]
    kernel.compare(*table, pairs, True, n_bars, 0, len(sides), found[0])
    kernel.compare(*table, pairs, False, n_bars, 0, len(sides), found[1])
    kernel.crosses(*table, pairs, n_bars, 0, len(sides), found[2], found[3])
    none = np.empty((0, n_words(n_bars)), dtype=np.uint64)
    alone = [np.empty_like(found[0]) for _ in range(2)]
    kernel.crosses(*table, pairs, n_bars, 0, len(sides), alone[0], none)
    kernel.crosses(*table, pairs, n_bars, 0, len(sides), none, alone[1])
    for together, one in zip(found[2:], alone, strict=True):
        assert together.tobytes() == one.tobytes()
    for words in found:
        assert not n_bars % 64 or not (words[:, -1] >> np.uint64(n_bars % 64)).any()
    return [unpack(words, n_bars) for words in found]


def plain(rows, sides, warm, n_bars):
    """The same, one bar at a time."""
    result = np.zeros((4, len(sides), n_bars), dtype=bool)
    for pair, two in enumerate(sides):
        a, b = ([side] * n_bars if isinstance(side, float) else rows[side] for side in two)
        for bar in range(warm[pair], n_bars):
            result[0, pair, bar], result[1, pair, bar] = a[bar] > b[bar], a[bar] >= b[bar]
            if bar > 0:
                result[2, pair, bar] = a[bar] > b[bar] and a[bar - 1] <= b[bar - 1]
                result[3, pair, bar] = a[bar] < b[bar] and a[bar - 1] >= b[bar - 1]
    return result


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Values that are near each other, equal, or at the ends of what a double can hold.
VALUES = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1.0,
    np.nextafter(1.0, 2.0),
    np.nextafter(1.0, 0.0),
    1.0 + 2.0**-19,
    -1.0,
    -1.0 - 2.0**-52,
    1e308,
    -1e308,
    np.inf,
    -np.inf,
    100.0,
    100.00001,
]


@pytest.mark.parametrize("n_bars", SIZES)
def test_comparisons_are_plain_loops(kernel, n_bars):
    rng = np.random.default_rng(n_bars)
    rows = rng.choice(VALUES, (4, n_bars))
    rows[3] = rows[2]
    warms = rng.integers(0, min(n_bars, 70) + 1, 4)
    for row, warm in zip(rows, warms, strict=True):
        row[:warm] = np.nan
    sides = [(0, 1), (1, 0), (2, 3), (0, 0), (0, 1.0), (1.0, 0), (2, -0.0), (np.inf, 1), (3, -np.inf), (1.0, 2.0), (0.0, -0.0)]
    warm = [max(0, *(warms[side] for side in two if isinstance(side, int)), 0) for two in sides]
    warm = [min(each + 1, n_bars) for each in warm]  # a cross needs one bar more
    same(answers(kernel, rows, sides, warm, n_bars), plain(rows, sides, warm, n_bars))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "mutant"),
    [
        ("bar > 0 and truth[bar] and not truth[bar - 1]", "bar > 0 and truth[bar]"),
        ("64 * word + bit >= warm", "64 * word + bit > warm"),
        ("x >= y for x, y", "x > y for x, y"),
        ("x < y for x, y", "x <= y for x, y"),
        ("[float(value)] * n_bars", "[-float(value)] * n_bars"),
    ],
)
def test_a_changed_twin_does_not_pass(sign, mutant):
    """The comparison with plain loops can fail."""
    source = Path(importlib.import_module("backtest._pure.masks").__file__).read_text()
    assert source.count(sign) == 1
    changed = types.ModuleType("backtest._pure.masks")
    exec(compile(source.replace(sign, mutant), "mutant of masks", "exec"), changed.__dict__)
    rows = np.random.default_rng(0).choice([1.0, 2.0, 3.0], (2, 70))
    sides, warm = [(0, 1), (0, 2.0)], [1, 1]
    assert any(
        (one != other).any()
        for one, other in zip(answers(changed, rows, sides, warm, 70), plain(rows, sides, warm, 70), strict=True)
    )


@given(st.data())
@settings(max_examples=150)
def test_any_values_agree_on_every_level(data):
    n_bars = data.draw(st.sampled_from([1, 2, 3, 63, 64, 65, 127, 128, 129]))
    value = st.one_of(st.sampled_from(VALUES), st.floats(allow_nan=False))
    pool = data.draw(st.lists(value, min_size=1, max_size=5))
    drawn = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=2 * n_bars))
    rows = np.resize(np.array(pool)[np.array(drawn) % len(pool)], (2, n_bars))
    warm = [data.draw(st.integers(0, n_bars)) for _ in range(3)]
    rows[0, : max(warm[0] - 1, 0)] = np.nan
    sides = [(0, 1), (1, float(pool[0])), (float(pool[-1]), 1)]
    expected = plain(rows, sides, warm, n_bars)
    for level in levels():
        with _backend.forced(*level):
            same(answers(_backend.kernel("masks"), rows, sides, warm, n_bars), expected)


def test_lines_are_laid_out_alike_everywhere():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(2, 700)) * 10.0 ** rng.integers(-300, 300, (2, 700)), rng.choice(VALUES, (1, 700))])
    found = []
    for level in levels():
        with _backend.forced(*level):
            found.append(laid_out(_backend.kernel("masks"), rows)[1])
    assert len({each.tobytes() for each in found}) == 1
    order = np.argsort(rows, axis=None, kind="stable")
    places = [(bar // 512, row, bar % 32 * 16 + bar % 512 // 32) for row in range(3) for bar in range(700)]
    coarse = np.array([found[0][place] for place in places])[order]
    assert (coarse[1:] >= coarse[:-1]).all()  # never falls where a value rises


def test_rows_are_the_callers_business(kernel):
    rows = np.random.default_rng(1).normal(size=(6, 130))
    table, pairs = laid_out(kernel, rows), pairs_of([(row, 0.0) for row in range(6)], [0] * 6)
    whole, part = np.zeros((6, 3), dtype=np.uint64), np.zeros((6, 3), dtype=np.uint64)
    signals = (rows > 0).view(np.uint8)
    for work in (
        lambda start, stop, out: kernel.compare(*table, pairs, True, 130, start, stop, out),
        lambda start, stop, out: kernel.crosses(*table, pairs, 130, start, stop, out, out[:0]),
        lambda start, stop, out: kernel.pack_rows(signals, start, stop, out),
        lambda start, stop, out: kernel.pack_columns(np.ascontiguousarray(signals.T), start, stop, out),
    ):
        work(0, 6, whole)
        part[:] = 0
        work(2, 5, part)
        assert (part[2:5] == whole[2:5]).all()
        assert not part[[0, 1, 5]].any()


@pytest.mark.parametrize("n_bars", SIZES)
@pytest.mark.parametrize("n_candidates", [1, 3, 64, 65, 130])
def test_packing(kernel, n_bars, n_candidates):
    signals = np.random.default_rng(n_bars).random((n_bars, n_candidates)) < 0.4
    signals.flags.writeable = False
    columns, rows = (np.full((n_candidates, n_words(n_bars)), 2**64 - 1, dtype=np.uint64) for _ in range(2))
    kernel.pack_columns(signals.view(np.uint8), 0, n_candidates, columns)
    kernel.pack_rows(np.ascontiguousarray(signals.T).view(np.uint8), 0, n_candidates, rows)
    assert columns.tobytes() == rows.tobytes()
    assert (unpack(columns, n_bars) == signals.T).all()
    for bar in range(n_bars):
        assert (columns[0, bar // 64] >> np.uint64(bar % 64)) & np.uint64(1) == signals[bar, 0]


@pytest.mark.parametrize("n_bars", SIZES)
def test_trimming(kernel, n_bars):
    warm = np.array([0, 1, 63, 64, 65, n_bars, n_bars // 2])
    words = np.full((len(warm), n_words(n_bars)), 2**64 - 1, dtype=np.uint64)
    kernel.trim(words, warm, n_bars, 0, len(warm))
    assert (unpack(words, n_bars) == (np.arange(n_bars) >= warm[:, None])).all()
    assert sum(int(word).bit_count() for word in words.ravel()) == sum(max(n_bars - each, 0) for each in warm)


# -- blocks ------------------------------------------------------------------------------------------------------------

SAMPLE = bt.Bars.sample()
BARS = bt.Bars(**{name: getattr(SAMPLE, name)[:600] for name in ("open", "high", "low", "close", "index")})
ROW = 8 * len(BARS) + 4 * masks.TILE * -(-len(BARS) // masks.TILE)  # bytes of a line in the table
N, M, X = bt.param("n"), bt.param("m"), bt.param("x")
FAST, SLOW = lines.sma(lines.close, N), lines.sma(lines.close, M)
COLUMNS = {"n": Grid("n", 2, 9, 1), "m": Choice("m", [5, 20, 7.0]), "x": Continuous("x", -50.0, 50.0, False)}
CONDITIONS = {
    "pairs": rules.crosses_above(FAST, SLOW),
    "mirror": rules.crosses_below(FAST, SLOW),
    "one": lines.close > FAST,
    "number": lines.close - FAST < X,
    "param": rules.crosses_above(X, lines.close - SLOW),
    "equal": FAST >= SLOW,
    "params": X > N,
    "and": (lines.close > FAST) & ~(FAST <= SLOW),
    "not": ~rules.crosses_above(lines.close, FAST),
    "or": (lines.close > FAST) | rules.crosses_below(lines.close, SLOW),
    "none": lines.close > 500.0,
}


def a_batch(n_candidates, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [
            rng.integers(2, 10, n_candidates).astype(float),
            rng.integers(0, 3, n_candidates).astype(float),
            rng.choice([-1.5, 0.0, 2.25, 3.0], n_candidates),
        ]
    )


NUMPY = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "&": np.logical_and,
    "|": np.logical_or,
    "~": np.logical_not,
}


def numpy_mask(condition, params):
    """The condition on every bar and its warm-up, on whole arrays of booleans."""
    memo, n_bars = LineMemo(BARS, ROOMY), len(BARS)
    if isinstance(condition, Combination):
        parts = [numpy_mask(arg, params) for arg in condition.args]
        warm = max(part[1] for part in parts)
        return NUMPY[condition.op](*(part[0] for part in parts)) & (np.arange(n_bars) >= warm), warm
    (a, warm_a), (b, warm_b) = (memo.entry(arg, params) for arg in condition.args)
    a, b, warm = np.broadcast_to(a, n_bars), np.broadcast_to(b, n_bars), max(warm_a, warm_b)
    if not isinstance(condition, Cross):
        return NUMPY[condition.op](a, b) & (np.arange(n_bars) >= warm), warm
    crossed = np.concatenate([[False], (a[1:] > b[1:]) & (a[:-1] <= b[:-1])])
    return crossed & (np.arange(n_bars) > warm), warm + 1


@pytest.mark.parametrize(
    "names", [*([name] for name in CONDITIONS), ["pairs", "mirror", "and", "pairs"], list(CONDITIONS)], ids="+".join
)
def test_conditions_of_a_block_are_those_of_each_candidate(kernel, names):
    memo = MaskMemo(LineMemo(BARS, ROOMY), ROOMY)
    conditions = [CONDITIONS[name] for name in dict.fromkeys(names)]
    for seed in range(2):  # the second block finds some of its masks in memory
        batch = a_batch(30, seed)
        table, found = memo.masks(conditions, Block(batch, COLUMNS, {}))
        assert len(table) == sum(len(each.words) for each in found) + 1
        assert not table[-1].any()  # never
        for condition, masks_of in zip(conditions, found, strict=True):
            for row, each in enumerate(batch):
                params = {name: column.decode(value) for (name, column), value in zip(COLUMNS.items(), each, strict=True)}
                expected, warm = numpy_mask(condition, params)
                np.testing.assert_array_equal(unpack(masks_of.words, len(BARS))[masks_of.inverse[row]], expected)
                assert masks_of.warm[masks_of.inverse[row]] == warm
            n_distinct = len(np.unique(batch[:, [list(COLUMNS).index(name) for name in condition.params]], axis=0))
            assert len(masks_of.words) == (n_distinct if condition.params else 1)


@pytest.mark.parametrize("room", [1, 5 * ROW, ROOMY])
def test_any_memory_gives_the_same_masks(room):
    conditions, batch = list(CONDITIONS.values()), a_batch(60)
    memo = MaskMemo(LineMemo(BARS, room), room)
    tables = [memo.masks(conditions, Block(rows, COLUMNS, {}))[0].tobytes() for rows in (batch, batch[::-1].copy(), batch)]
    roomy, _ = MaskMemo(LineMemo(BARS, ROOMY), ROOMY).masks(conditions, Block(batch, COLUMNS, {}))
    assert tables[0] == tables[2] == roomy.tobytes()
    assert memo._memo.currsize <= room


def test_a_line_is_computed_once_for_all_its_comparisons():
    asked = []

    @bt.line("n")
    def counted(bars, n):
        asked.append(n)
        return bars.close - n

    condition = rules.crosses_above(counted(N), SLOW)
    memo = MaskMemo(LineMemo(BARS, ROOMY), ROOMY)
    for seed in range(3):
        memo.masks([condition, rules.crosses_below(counted(N), SLOW), counted(N) > SLOW], Block(a_batch(50, seed), COLUMNS, {}))
    assert sorted(asked) == list(range(2, 10))


def test_the_table_of_lines_forgets_everything_at_once_and_stays_right():
    table = LineTable(LineMemo(BARS, ROOMY), 3 * ROW)
    assert table.capacity == 3
    for n in [2, 3, 4, 2, 5, 2, 3]:
        block = Block(np.array([[float(n), 2.0]]), {"n": COLUMNS["n"], "m": COLUMNS["m"]}, {})
        (rows, values, warm), (others, _, _) = table.operands(
            [(params, params.keys) for params in (block.distinct(FAST), block.distinct(SLOW))]
        )
        assert values == [0.0]
        assert warm.tolist() == [n - 1]
        np.testing.assert_array_equal(table.values[rows[0]], LineMemo(BARS, ROOMY).value(FAST, {"n": n}))
        np.testing.assert_array_equal(table.values[others[0]], LineMemo(BARS, ROOMY).value(SLOW, {"m": 7}))


def test_memory_of_lines_and_masks_is_64_mib():
    strategy = bt.strategies.sma_cross
    space = bt.Space({"fast": range(2, 60), "slow": range(60, 99)})
    evaluator = StrategyEvaluator(BARS, strategy, space.parameters, costs=bt.Costs.zero(), execution=bt.Execution(start=100))
    evaluator(space.candidates(np.arange(len(space)))[1])
    table = evaluator.masks.table
    assert 3 * MEMO_BYTES <= 64 << 20
    assert table.values.nbytes + table.coarse.nbytes <= MEMO_BYTES
    assert evaluator.lines._memo.maxsize == evaluator.masks._memo.maxsize == MEMO_BYTES


def test_threads_change_no_bit(monkeypatch):
    batch, conditions = a_batch(200), list(CONDITIONS.values())
    tables = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr("backtest.compute.threads.WORTH_A_THREAD_US", 0.0)
        memo = MaskMemo(LineMemo(BARS, ROOMY), ROOMY, n_threads)
        tables.append(memo.masks(conditions, Block(batch, COLUMNS, {}))[0].tobytes())
    assert len(set(tables)) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"a": Grid("a", 0, 3, 1), "b": Grid("b", 0.0, 0.5, 0.1)},
        {"a": Choice("a", [1, "x", None, 2.0]), "b": Choice("b", list("abcdef"))},
        {"a": Continuous("a", 0.0, 9.0, False), "b": Continuous("b", 0.0, 9.0, False)},
        {"a": Grid("a", 0, 10**12, 1), "b": Grid("b", 0, 10**12, 1)},
    ],
)
@pytest.mark.parametrize("in_order", [False, True])
def test_distinct_combinations(columns, in_order):
    rng = np.random.default_rng(3)
    index = [rng.integers(0, 4, 50), rng.integers(0, 6, 50)]
    batch = np.column_stack(
        [
            column.at(each) if not isinstance(column, Continuous) else each / 7.0
            for column, each in zip(columns.values(), index, strict=True)
        ]
    )
    batch = np.unique(batch, axis=0) if in_order else batch
    block = Block(batch, columns, {})
    for names in [("a",), ("b",), ("a", "b")]:
        candidates, inverse = block.unique_rows(names)
        chosen = batch[:, [list(columns).index(name) for name in names]]
        np.testing.assert_array_equal(chosen[candidates][inverse], chosen)
        assert len(candidates) == len(np.unique(chosen, axis=0))
