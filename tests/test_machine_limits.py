"""What a function's orders can never be is said before it runs; what has changed since it was decorated is said too."""

import pickle
import threading
import time
import warnings
from contextlib import nullcontext as does_not_raise
from pathlib import Path

import numpy as np
import pytest
from cases import random_bars

import backtest as bt
from backtest.cells import Cells, evaluator_of
from backtest.compute.threads import run_rows
from backtest.config import optimize, sections
from backtest.machine.evaluator import MachineEvaluator
from backtest.space import Choice

_RAW = random_bars(np.random.default_rng(3), 120)
_DAYS = np.datetime64("2001-01-01") + np.arange(120)
BARS = bt.Bars(open=_RAW.open, high=_RAW.high, low=_RAW.low, close=_RAW.close, index=_DAYS)
ZERO = bt.Costs.zero()
K, FLAG = 0.1, True


@bt.on_bar(params={"t": 0.05})
def trails(bar, account, state, p):
    if account.is_flat:
        account.buy(share=1.0, trailing_stop=p.t)


@bt.on_bar(params={"share": 0.5})
def shares(bar, account, state, p):
    if account.is_flat:
        account.buy(share=p.share * 2.0)
    elif bar.close > 0.0:
        account.sell(share=p.share * 20.0, reduce_only=True)


@bt.on_bar(params={"t": 0.05, "on": True, "share": 0.5})
def guarded(bar, account, state, p):
    if account.is_flat and p.on and p.t < 1.0 and bar.close > 0.0:
        account.buy(share=0.5, trailing_stop=p.t)
    elif account.is_flat and not (p.share > 1.0 or p.on):
        account.sell(share=p.share, trailing_stop=7.0)


def line_of(function, text):
    code = function.function.__code__
    lines = Path(code.co_filename).read_text(encoding="utf-8").split("\n")
    return next(at for at in range(code.co_firstlineno, len(lines) + 1) if text in lines[at - 1])


@pytest.mark.usefixtures("backend")
class TestLimits:
    def test_a_trailing_stop_of_percents(self):
        with pytest.raises(bt.InputError) as error:
            bt.run(BARS, trails, {"t": 5}, costs=ZERO)
        at = line_of(trails, "trailing_stop=p.t")
        assert str(error.value) == (
            "trailing_stop must be < 1 for a buy (a fraction: 0.05 for 5 %), got 5.0: "
            f"account.buy(share=1.0, trailing_stop=p.t) in trails ({__file__}:{at}), t = 5"
        )

    def test_a_share_above_the_leverage_of_the_first_such_candidate(self):
        with pytest.raises(bt.InputError) as error:
            bt.optimize(BARS, shares, {"share": [0.25, 0.5, 0.75, 1.0]}, costs=ZERO, progress=False)
        at = line_of(shares, "account.buy")
        assert str(error.value) == (
            "share must be <= 1, the leverage of the execution (a share is a fraction of equity: 0.5 is half of it), got 1.5: "
            f"account.buy(share=p.share * 2.0) in shares ({__file__}:{at}), share = 0.75"
        )
        leverage = bt.Execution(leverage=2.0, maintenance_margin=0.01)
        assert len(bt.run(BARS, shares, {"share": 1.0}, costs=ZERO, execution=leverage).fills)
        with pytest.raises(bt.InputError, match=r"share must be <= 2, the leverage of the execution .* got 2\.02: "):
            bt.run(BARS, shares, {"share": 1.01}, costs=ZERO, execution=leverage)

    def test_step_through_says_the_same(self):
        with pytest.raises(bt.InputError, match=r"trailing_stop must be < 1 for a buy .* got 1\.0: .* t = 1$"):
            bt.step_through(trails, BARS, {"t": 1}, costs=ZERO)

    def test_orders_that_parameters_forbid_are_no_fault(self):
        for given in ({"t": 5.0}, {"t": 5.0, "share": 3.0}, {"on": False, "t": 5.0}, {"on": False, "share": 3.0}):
            bt.run(BARS, guarded, given, costs=ZERO)
        assert len(bt.run(BARS, guarded, {"on": False, "t": 5.0}, costs=ZERO).fills)

    def test_of_orders_that_may_be_placed_any_is_found(self):
        rng = np.random.default_rng(5)
        for _ in range(200):
            t, on, share = float(rng.choice([0.05, 2.0])), bool(rng.integers(2)), float(rng.choice([0.5, 3.0]))
            wrong = share_is_wrong(t, on, share)
            found = MachineEvaluator(
                BARS,
                either,
                {name: Choice(name, [value]) for name, value in {"t": t, "on": on, "share": share}.items()},
                costs=ZERO,
                execution=bt.Execution(),
            )
            found.fix_start(found.combinations(np.zeros((1, 3))))
            if wrong:
                with pytest.raises(bt.InputError, match=wrong):
                    found(np.zeros((1, 3)))
            else:
                found(np.zeros((1, 3)))


@bt.on_bar(params={"t": 0.05, "on": True, "share": 0.5})
def either(bar, account, state, p):
    size = max(p.share, 0.25) if p.on else min(p.share, 0.75)
    if account.is_flat and (p.on != (p.t > 1.0)):
        account.buy(share=0.5, trailing_stop=p.t)
    if account.is_long and bar.close > bar.open and p.share - 1.0 <= p.t:
        account.sell(share=size)


def share_is_wrong(t, on, share):
    """The argument that ``either`` has wrong, or empty."""
    if on != (t > 1.0) and t >= 1.0:
        return "trailing_stop must be < 1"
    return "share must be <= 1" if on and share > 1.0 and share - 1.0 <= t else ""


class TestUnaffordable:
    @pytest.mark.parametrize(
        ("given", "execution", "why"),
        [
            ("units", {}, r"units=1e\+06 is [0-9.,e+]+ of value at that close, more than equity times leverage \(10,000\)"),
            ("value", {}, r"value=1e\+06, more than equity times leverage \(10,000\)"),
            (
                "lot",
                {"lot": 1e6},
                r"share=0\.5 pays for less than one lot \(1e\+06, which is [0-9.,e+]+ of value at that close\)",
            ),
            ("moving", {}, r"share=3 is a fraction of equity, at most the leverage \(1\)"),
        ],
    )
    def test_the_warning_says_what_is_likely(self, given, execution, why):
        execution = bt.Execution(start_cash=10_000.0, **execution)
        with pytest.warns(bt.NumericsWarning, match=rf"\(run\.orders lists them as unaffordable\); most likely, {why}$"):
            bt.run(BARS, ORDERS[given], costs=ZERO, execution=execution)


@bt.on_bar
def of_units(bar, account, state, p):
    account.buy(units=1e6)


@bt.on_bar
def of_value(bar, account, state, p):
    account.buy(value=1e6)


@bt.on_bar
def of_share(bar, account, state, p):
    account.buy(share=0.5)


@bt.on_bar
def of_a_share_that_moves(bar, account, state, p):
    account.buy(share=3.0 + 0.0 * bar.close)


ORDERS = {"units": of_units, "value": of_value, "lot": of_share, "moving": of_a_share_that_moves}


def scaled(x):
    return x * K


@bt.on_bar
def reads(bar, account, state, p):
    if account.is_flat and FLAG:
        account.buy(share=scaled(1.0))


class TestChanged:
    WORDS = (
        "reads was decorated with K = 0.1, which is now 0.2; decorate it again (run the cell with the decorator), or make what "
        "changes a parameter (p.name)"
    )

    def test_every_door_warns_once(self, monkeypatch):
        monkeypatch.setitem(globals(), "K", 0.2)
        both = {"a": BARS, "b": BARS}
        doors = [
            lambda: bt.run(BARS, reads, costs=ZERO),
            lambda: bt.run(both, reads, costs=ZERO),
            lambda: bt.evaluate(both, reads, costs=ZERO),
        ]
        for door in doors:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                door()
            assert [str(each.message) for each in said] == [self.WORDS]
            assert said[0].category is bt.NumericsWarning
            assert said[0].filename == __file__

    def test_optimize_warns_too(self, monkeypatch):
        monkeypatch.setattr("test_machine_limits.LEAST", 2.0, raising=False)
        with pytest.warns(
            bt.NumericsWarning, match=r"swept was decorated with LEAST = 1\.0, which is now 2\.0; decorate it again"
        ):
            bt.optimize(BARS, swept, {"x": [0.1, 0.2]}, costs=ZERO, progress=False, min_trades=0)

    def test_step_through_refuses_with_the_same_words(self, monkeypatch):
        monkeypatch.setitem(globals(), "K", 0.2)
        with pytest.raises(bt.InputError) as error:
            bt.step_through(reads, BARS, costs=ZERO)
        assert str(error.value) == self.WORDS

    def test_the_same_numbers_and_what_is_not_at_hand_are_silent(self, monkeypatch):
        monkeypatch.setitem(globals(), "K", np.float64(0.1))
        assert reads.changes() == ""
        monkeypatch.setitem(globals(), "K", 0.2)
        assert reads.changes() == "K = 0.1, which is now 0.2"
        assert pickle.loads(pickle.dumps(reads)).changes() == ""
        monkeypatch.delitem(globals(), "K")
        assert reads.changes() == ""

    def test_closures_and_booleans(self):
        def made(level):
            @bt.on_bar
            def inner(bar, account, state, p):
                if bar.close > level:
                    account.buy(share=0.1)

            def change(other):
                nonlocal level
                level = other

            return inner, change

        inner, change = made(5.0)
        assert inner.changes() == ""
        change(True)
        assert inner.changes() == "level = 5.0, which is now True"


LEAST = 1.0


@bt.on_bar
def swept(bar, account, state, p):
    if bar.close > LEAST:
        account.buy(share=p.x)


def long_bars(n_bars):
    close = 100.0 + np.sin(np.arange(n_bars) / 9.0)
    return bt.Bars(
        open=close, high=close + 0.1, low=close - 0.1, close=close, index=_DAYS[0].astype("datetime64[m]") + np.arange(n_bars)
    )


def cells_on(bars, strategy=trails, **execution):
    space = bt.Space({"t": [0.1]}).parameters if strategy is trails else {}
    cells = Cells(
        bars, None, "median", lambda of, _: evaluator_of(of, strategy, space, costs=ZERO, execution=bt.Execution(**execution))
    )
    cells.by_symbol(lambda each: each.fix_start(each.combinations(np.zeros((1, len(space))))))
    return cells


RULES = bt.Strategy(enter_long=bt.lines.close > 100.0, exit_long=bt.lines.close < 100.0)


class TestInterruption:
    def test_batches_of_functions_are_bounded_by_their_bars(self):
        assert cells_on(BARS).batch_size() == 16_384
        assert cells_on(long_bars(20_000)).batch_size() == 4992
        assert cells_on(long_bars(300_000)).batch_size() == 512
        assert cells_on({"a": long_bars(20_000), "b": long_bars(20_000)}).batch_size() == 2496
        assert cells_on(long_bars(20_000), RULES).batch_size() is None

    @pytest.mark.parametrize(("n_threads", "block"), [(1, 2496), (2, 4992), (3, 7488)])
    def test_blocks_too_by_bars_and_threads(self, n_threads, block):
        made = MachineEvaluator(long_bars(20_000), shares, {}, costs=ZERO, execution=bt.Execution(), n_threads=n_threads)
        assert made.block == block

    @pytest.mark.parametrize("stored", [False, True])
    def test_ctrl_c_returns_the_result_so_far(self, monkeypatch, tmp_path, stored):
        monkeypatch.setattr(MachineEvaluator, "batch_work", 512 * len(BARS))
        store = {"store": f"sqlite:///{tmp_path}/a.db"} if stored else {}
        space = {"t": {"low": 0.001, "high": 0.9, "step": 0.0005}}

        def search():
            return bt.optimize(BARS, trails, space, costs=ZERO, method="grid", progress=False, min_trades=0, n_threads=1, **store)

        replay, calls = MachineEvaluator._replay_block, []

        def interrupted(self, *args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            replay(self, *args)

        with monkeypatch.context() as patched:
            patched.setattr(MachineEvaluator, "_replay_block", interrupted)
            found = search()
            assert found.is_interrupted
            assert found.n_evaluated == 1024
            calls[:] = [1, 1]
            with (
                pytest.raises(KeyboardInterrupt, match="interrupted before its first batch ended")
                if not stored
                else does_not_raise()
            ):
                assert search().n_evaluated == 1024  # what a store has is read again
        whole = search()
        assert not whole.is_interrupted
        assert whole.n_evaluated == 1799

    def test_what_has_not_begun_does_not_begin_after_an_interruption(self):
        begun, go_on = [], threading.Event()

        def work(start, stop):
            begun.append(start)
            if start == 0:
                raise KeyboardInterrupt
            go_on.wait(10.0)

        with pytest.raises(KeyboardInterrupt):
            run_rows(work, 64, 2, 1000.0, blocks_each=8)
        go_on.set()
        time.sleep(0.05)
        assert len(begun) < 16


class TestOneSymbol:
    def test_rules_are_explained_not_stepped_through(self):
        with pytest.raises(bt.InputError, match=r"^strategy must be a function with @bt.on_bar, got the rules .*; bt.explain"):
            bt.step_through(bt.strategies.sma_cross, BARS, {"fast": 2, "slow": 5}, costs=ZERO)

    def test_several_symbols(self):
        both = {"GOOG": BARS, "AAPL": BARS}
        with pytest.raises(bt.InputError) as error:
            bt.step_through(trails, both, costs=ZERO)
        assert str(error.value) == "bars must be of one symbol, got 2 (GOOG, AAPL); write bars['GOOG']"
        runs = bt.run(both, trails, costs=ZERO)
        with pytest.raises(bt.InputError) as error:
            bt.explain(runs)
        assert str(error.value) == "run must be of one symbol, got 2 (GOOG, AAPL); write runs['GOOG']"


class TestConfiguration:
    def test_a_strategy_behind_a_section(self, tmp_path):
        (tmp_path / "a.toml").write_text('[costs]\nfee_rate = 0.0\n[search]\nmetric = "sharpe"\nstrategy = "mine:f"\n')
        with pytest.raises(bt.InputError) as error:
            optimize.read(tmp_path / "a.toml")
        assert str(error.value) == (
            'strategy must stand before the first section, got it in [search]; or write a section [strategy] with name = "mine:f"'
        )

    def test_the_beginning_of_a_name_is_enough(self):
        with pytest.raises(bt.InputError, match=r"key of \[costs\] 'fee' is not known .*; did you mean 'fee_rate'\?$"):
            sections.costs({"costs": {"fee": 0.001}})
