"""What a run would do next: orders that are decided or rest after its last bar, and the levels of its open position."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import NumericsWarning
from backtest.candidate_table import SAMPLED, CandidateTable
from backtest.machine.program import CLOSE, LEVEL_KINDS, MOVE_TARGET, ORDER_STATUSES, SIZE_KINDS, TRAIL_KINDS
from backtest.records import MOMENTS
from backtest.rules import LEVELS, Strategy
from backtest.signals import StrategyEvaluator
from backtest.space import Choice

if TYPE_CHECKING:
    import pandas as pd


#: Columns of the table, with the value of an order that has none.
COLUMNS: dict[str, Any] = {
    "kind": "",
    "side": "",
    "reason": "",
    "size": np.nan,
    "size_kind": "",
    "limit": np.nan,
    "stop": np.nan,
    "stop_loss": np.nan,
    "stop_loss_kind": "",
    "take_profit": np.nan,
    "take_profit_kind": "",
    "trailing_stop": np.nan,
    "trailing_stop_kind": "",
    "decision_bar": -1,
    "valid_until": np.nan,
    "call": "",
}
#: Prices of an order, by column.
PRICES = ("limit", "stop")


def pending_table(run: Any) -> pd.DataFrame:
    """The table of :attr:`backtest.Run.pending`."""
    import pandas as pd

    rows = (_of_rules(run) if isinstance(run.strategy, Strategy) else _of_function(run)) + _protective(run)
    table = pd.DataFrame({name: [row.get(name, none) for row in rows] for name, none in COLUMNS.items()})
    for name, none in COLUMNS.items():
        table[name] = table[name].astype(object if isinstance(none, str) else np.int64 if isinstance(none, int) else np.float64)
    table.insert(list(COLUMNS).index("valid_until"), "time", run._all_times()[table["decision_bar"]])
    return table


def candidate_of(run: Any) -> tuple[StrategyEvaluator, CandidateTable]:
    """The evaluator and the table of a run of rules, made again."""
    columns = {name: Choice(name, [value]) for name, value in run.params.items()}
    evaluator = StrategyEvaluator(run.bars, run.strategy, columns, costs=run.costs, execution=run.execution, n_threads=1)
    evaluator.start = run.start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericsWarning)  # of levels that are never touched: said when it was run
        table = evaluator.builder.table(np.zeros((1, len(columns))), run.first, run.last)
    return evaluator, table


def sampled(table: CandidateTable, bar: int) -> dict[str, float]:
    """Levels and size of a table's only candidate, by name, as they are known at the close of a bar; NaN: off."""
    return {
        name: float(table.lines[line, bar] if line >= 0 else value)
        for name, line, value in zip(SAMPLED, table.line_rows[0], table.values[0], strict=True)
    }


def _of_rules(run: Any) -> list[dict[str, Any]]:
    """What the last close of a run of rules decided, and no bar was left to fill."""
    rest, bar, rows = run._unexecuted(), run.last - 1, []
    for side, reason, status in zip(rest.side.tolist(), rest.reason, rest.status, strict=True):
        if status == "unfilled" and reason == "entry":
            numbers = sampled(candidate_of(run)[1], bar)
            rows.append(_entry_row(run, side, numbers["size"], [numbers[name] for name in LEVELS], bar))
        elif status == "unfilled":
            rows.append(_exit_row(float(run._units[-1]), reason, bar))
    return rows


def _entry_row(run: Any, side: int, size: float, levels: list[float], bar: int) -> dict[str, Any]:
    """A market order of rules that opens a position; its levels lie on both sides of the price at which it will fill."""
    below_and_above = ("below_entry", "above_entry") if side > 0 else ("above_entry", "below_entry")
    row = {"size": size, "size_kind": "share" if run.execution.size_type == "equity" else "value"}
    for name, kind, level in zip(LEVELS, (*below_and_above, "fraction"), levels, strict=True):
        if level == level:
            row |= {name: level, f"{name}_kind": kind}
    call = "enter_long" if side > 0 else "enter_short"
    return row | {"kind": "market", "side": _side(side), "reason": "entry", "decision_bar": bar, "call": call}


def _exit_row(units: float, reason: str, bar: int) -> dict[str, Any]:
    """A market order of rules that closes a position of ``units``."""
    held, other = ("long", "short") if units > 0 else ("short", "long")
    call = {"signal": f"exit_{held}", "reverse": f"enter_{other}", "time": "max_bars"}[reason]
    size = {"size": abs(units), "size_kind": "units"}
    return size | {"kind": "market", "side": _side(-units), "reason": reason, "decision_bar": bar, "call": call}


def _of_function(run: Any) -> list[dict[str, Any]]:
    """Orders of a function's run that are decided or rest."""
    actions = {
        int(action["slot"]): (at, action) for at, action in enumerate(run.strategy.program().actions) if action["slot"] >= 0
    }
    orders, held, rows = run._replay.orders, float(run._units[-1]), []
    for order in orders[orders["status"] == ORDER_STATUSES.index("open")]:
        at, action = actions[int(order["slot"])]
        side, closes, has_limit, has_stop = (
            int(order["side"]),
            int(order["kind"]) == CLOSE,
            *(order[name] == order[name] for name in PRICES),
        )
        row: dict[str, Any] = {name: float(order[name]) for name in PRICES}
        row |= {"kind": ("market", "stop", "limit", "stop_limit")[2 * has_limit + has_stop], "side": _side(side)}
        row |= {"decision_bar": int(order["decision_bar"]), "call": run.strategy.calls[at].text}
        row["reason"] = _reason(side, held, action)
        row["size"] = abs(held) if closes else float(order["size"])
        row["size_kind"] = "units" if closes else SIZE_KINDS[int(order["size_kind"])]
        if np.isfinite(order["valid_until"]):
            row["valid_until"] = float(order["valid_until"])
        for name, field, kinds in zip(
            LEVELS, ("stop_loss", "take_profit", "trail"), (LEVEL_KINDS, LEVEL_KINDS, TRAIL_KINDS), strict=True
        ):
            if order[field] == order[field]:
                row |= {name: float(order[field]), f"{name}_kind": kinds[int(action[f"{field}_kind"])]}
        rows.append(row)
    return rows


def _reason(side: int, held: float, action: Any) -> str:
    """Why an order would fill if it met the position that is held after the last bar."""
    if side * held >= 0:
        return "entry"
    by_size = SIZE_KINDS[int(action["size_kind"])] in ("share", "value")
    return "reverse" if by_size and not action["reduce_only"] else "signal"


def _protective(run: Any) -> list[dict[str, Any]]:
    """Levels of the position that is open after the last bar, as orders."""
    units = float(run._units[-1])
    if units == 0.0:
        return []
    stop, target, trail = _levels_of_events(run) if run._replay.levels is None else run._replay.levels.tolist()
    rows = []
    for kind, reason, column, price in (
        ("stop_loss", "stop", "stop", stop),
        ("trailing_stop", "trail", "stop", trail),
        ("take_profit", "target", "limit", target),
    ):
        if np.isfinite(price):
            size = (np.nan, "") if kind == "take_profit" and _moves_parts(run) else (abs(units), "units")
            order = {"kind": kind, "side": _side(-units), "reason": reason, "size": size[0], "size_kind": size[1]}
            rows.append(order | {column: price, "decision_bar": run.last - 1})
    return rows


def _moves_parts(run: Any) -> bool:
    """Whether a target may be one of a part of the position: the size of that part is not known afterwards."""
    program = run._replay.program
    if program is None:
        return False
    shares = program.actions["share"][program.actions["kind"] == MOVE_TARGET].tolist()
    return any(at >= len(program.constants) or program.constants[at] < 1.0 for at in shares if at >= 0)


def _levels_of_events(run: Any) -> tuple[float, float, float]:
    """Stop, target and trail of an event engine's open position; NaN: off."""
    entry, bars, conventions = run._fills[-1], run.bars, run.execution.conventions  # the last fill opened it
    side = 1.0 if entry["units"] > 0 else -1.0
    fraction = sampled(candidate_of(run)[1], int(entry["decision_bar"]))["trailing_stop"]
    base = float(bars.close[entry["decision_bar"]] if conventions.levels_from_decision else entry["price"])
    first = int(entry["fill_bar"]) + (MOMENTS[int(entry["moment"])] == "close")
    if first < run.last:
        best = bars.high if side > 0 else bars.low
        since = (best if conventions.trail_from_extremes else bars.close)[first : run.last]
        base = max(base, float(since.max())) if side > 0 else min(base, float(since.min()))
    return float(entry["stop"]), float(entry["target"]), base * (1.0 - fraction) if side > 0 else base * (1.0 + fraction)


def _side(sign: float) -> str:
    return "buy" if sign > 0 else "sell"
