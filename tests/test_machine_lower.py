"""Rules lowered to the bar machine: every decision of the event engine, and nothing else."""

import itertools
import types

import numpy as np
import pytest

import backtest as bt
from backtest._pure._signal_account import REVERSE, SignalAccount
from backtest.machine import program as tables
from backtest.machine.lower import Lowered
from backtest.rules import CONDITIONS
from backtest.signals import StrategyEvaluator

MAX_BARS = 3


def lowered(strategy, execution=None):
    bars = bt.Bars.sample("GOOG")[:80]
    evaluator = StrategyEvaluator(bars, strategy, {}, costs=bt.Costs.zero(), execution=execution or bt.Execution())
    return evaluator, Lowered(evaluator.conditions, evaluator.sampled, strategy.max_bars, evaluator.execution)


def strategy_with(*names, **levels):
    close = bt.lines.close
    conditions = {name: close > at for at, name in enumerate(names)}
    return bt.Strategy(**conditions, **levels)


def actions_at(rules, conditions, side, bars_held):
    """Places of the actions that act, by a word machine of a few lines: one candidate, no numbers but a comparison."""
    program = rules.program
    words = [False] * program.n_words
    words[tables.ALWAYS] = True
    for name, value in zip(tables.FLAGS, (side == 0, side > 0, side < 0), strict=True):
        words[2 + tables.FLAGS.index(name)] = value
    for at, column in enumerate(rules.mask_columns):
        words[program.first_mask + at] = conditions[CONDITIONS[column]]
    numbers = [np.nan] * program.n_numbers
    if rules.has_max_bars:
        numbers[program.first_param + program.n_params - 1] = MAX_BARS
    numbers[program.first_field + tables.FIELDS.index("bars_held")] = bars_held
    logic = {"AND": lambda a, b: a and b, "OR": lambda a, b: a or b, "ANDNOT": lambda a, b: a and not b}
    for op, out, a, b, _ in program.code.tolist():
        name = tables.OPS[op]
        words[out] = numbers[a] <= numbers[b] if name == "LE" else logic[name](words[a], words[b])
    return [at for at, action in enumerate(program.actions) if words[action["where"]]]


def decided(conditions, side, bars_held):
    """What the event engine decides: reason of an exit, side of an entry."""
    enter_long, exit_long, enter_short, exit_short = (np.array([conditions[name] for _ in range(64)]) for name in CONDITIONS)
    masks = np.packbits(np.array([enter_long, exit_long, enter_short, exit_short]), axis=1, bitorder="little").view(np.uint64)
    candidates = types.SimpleNamespace(masks=masks, mask_rows=np.array([[0, 1, 2, 3]]), max_bars=np.array([MAX_BARS]))
    settings = types.SimpleNamespace(start_cash=1.0, first=0, last=64)
    account = SignalAccount(types.SimpleNamespace(close=np.ones(64)), None, candidates, settings, 0)
    account.units, account.closes_held = float(side), bars_held
    account.decide(0)
    return account.exit_reason, account.entry_side


@pytest.mark.parametrize("names", [CONDITIONS, CONDITIONS[:2], CONDITIONS[2:], ("enter_long", "enter_short"), ("enter_long",)])
def test_every_decision_is_that_of_the_event_engine(names):
    """All conditions, positions and ages: at most one action, and the one that the event engine decides."""
    _, rules = lowered(strategy_with(*names, max_bars=MAX_BARS, stop_loss=0.1))
    program, n_acted = rules.program, 0
    for values in itertools.product((False, True), repeat=len(names)):
        conditions = dict.fromkeys(CONDITIONS, False) | dict(zip(names, values, strict=True))
        for side, bars_held in itertools.product((-1, 0, 1), (1, MAX_BARS)):
            acted = actions_at(rules, conditions, side, bars_held)
            exit_reason, entry_side = decided(conditions, side, bars_held)
            expected = []
            if entry_side:
                expected.append((tables.BUY if entry_side > 0 else tables.SELL, 0))
            elif exit_reason:
                expected.append((tables.CLOSE, exit_reason))
            assert (exit_reason == REVERSE) == (side * entry_side < 0)
            found = [(int(program.actions[at]["kind"]), int(program.actions[at]["reason"])) for at in acted]
            assert found == expected, (conditions, side, bars_held)
            n_acted += len(found)
    assert n_acted > 2 ** len(names)


def test_levels_lie_on_their_side_of_the_entry_price():
    strategy = strategy_with("enter_long", "enter_short", stop_loss=0.1, take_profit=bt.param("target"), trailing_stop=0.2)
    _, rules = lowered(bt.Strategy(enter_long=strategy.enter_long, enter_short=strategy.enter_short, stop_loss=0.1))
    buy, sell = rules.program.actions
    below, above = tables.LEVEL_KINDS.index("below_entry"), tables.LEVEL_KINDS.index("above_entry")
    assert (buy["stop_loss_kind"], sell["stop_loss_kind"]) == (below, above)
    assert buy["take_profit_kind"] == buy["trail_kind"] == 0
    assert buy["take_profit"] == buy["trail"] == -1


def test_columns_that_are_lines_become_line_inputs_and_numbers_parameters():
    atr = bt.lines.atr(5) / bt.lines.close
    strategy = strategy_with(
        "enter_long", stop_loss=bt.param("k") * atr, take_profit=bt.param("target"), max_bars=bt.param("n", None)
    )
    bars = bt.Bars.sample("GOOG")[:80]
    columns = {
        name: bt.space.Choice(name, values) for name, values in {"k": [None, 2.0], "target": [0.1, None], "n": [5, None]}.items()
    }
    evaluator = StrategyEvaluator(bars, strategy, columns, costs=bt.Costs.zero(), execution=bt.Execution(start=10))
    batch = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    rules = Lowered(evaluator.conditions, evaluator.sampled, strategy.max_bars, evaluator.execution)
    candidates = rules.candidates(evaluator.candidate_table(batch, evaluator.settings()))
    program = rules.program
    assert (program.n_params, len(program.inputs), len(program.masks)) == (3, 1, 1)
    assert candidates.values.tolist()[0] == [0.1, 1.0, 5.0]
    assert np.isnan(candidates.values[1, [0, 2]]).all()
    stop = candidates.lines[candidates.line_rows[:, 0]]
    assert np.isnan(stop[0]).all()  # k = None: off, on every bar
    assert stop[1].tobytes() == stop[2].tobytes()
    assert (stop[1, 10:] > 0).all()
    action = program.actions[0]
    assert action["stop_loss"] == program.first_input
    assert action["take_profit"] == program.first_param
    assert action["size"] == program.first_param + 1


@pytest.mark.parametrize(("size_type", "cut"), [("equity", 0), ("value", 1)])
def test_an_amount_is_cut_to_the_equity_and_a_share_is_not(size_type, cut):
    execution = bt.Execution(size_type=size_type, size=0.5)
    _, rules = lowered(strategy_with("enter_long"), execution)
    action = rules.program.actions[0]
    assert tables.SIZE_KINDS[action["size_kind"]] == ("share" if size_type == "equity" else "value")
    assert action["cut"] == cut


def test_a_side_that_is_not_traded_leaves_no_action():
    _, rules = lowered(strategy_with(*CONDITIONS), bt.Execution(sides="short"))
    assert [int(each) for each in rules.program.actions["kind"]] == [tables.SELL, tables.CLOSE]
    assert len(rules.program.masks) == 2
