"""How the bar machine is run: candidates of a function with ``bt.on_bar``, or of rules, in batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError
from backtest._said import shown
from backtest.bars import Bars
from backtest.candidate_table import CandidateTable
from backtest.compute.threads import run_rows, thread_count
from backtest.costs import Costs, Execution, OrderCosts
from backtest.evaluation import MAX_BLOCK, TOUCH_TOLERANCE, BarsEvaluator, Replay, UseSums
from backtest.expr import Value
from backtest.line_values import Combinations
from backtest.machine.candidates import LANES, CandidateBlocks, Candidates
from backtest.machine.decorate import BarStrategy
from backtest.machine.faults import fault_error, limit_error
from backtest.machine.limits import OrderLimits
from backtest.machine.lower import Lowered, unexecuted_of_rules
from backtest.machine.program import FAULT, ORDER, ORDER_STATUSES, SIZE_KINDS, Program
from backtest.metrics import SUMS, SWEEP
from backtest.records import FILL, REASONS, Unexecuted
from backtest.rules import Strategy
from backtest.signals import StrategyEvaluator
from backtest.space import Parameter

Floats = NDArray[np.float64]

#: Memory for the lines of the candidates that are replayed together, and for a block's masks, at most.
LINES_BYTES, MASKS_BYTES = 64 << 20, 32 << 20
#: Candidates whose sums are turned into metrics together.
CHUNK = 4096
#: Measured: microseconds per bar of a candidate that trades rarely.
BAR_US = 0.005
#: Candidates times bars of a batch of a sweep, which Ctrl-C or a crash may lose, and of a thread's part of a block, which Ctrl-C
#: waits for: about one second on one thread, and half a second.
BATCH_WORK, BLOCK_WORK = 100_000_000, 50_000_000
#: Names of ``Execution.intrabar`` by the kernel's code; ``both`` is two passes.
INTRABAR = ("pessimistic", "optimistic", "nearest")
_NO_FUNDING = np.empty(0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings(OrderCosts):
    """What all candidates of a batch share: an argument of the machine kernel."""

    first: int  # first bar whose close may decide
    last: int  # one past the last bar
    start_cash: float
    rf_per_bar: float
    borrow_per_bar: float
    fills_at_close: bool
    intrabar: int  # place in INTRABAR
    close_at_end: bool
    lot: float  # units are whole multiples of it; 0: any
    touch_tolerance: float
    leverage: float
    maintenance_margin: float
    multiplier: float
    tick: float  # prices of orders are whole multiples of it; 0: any
    liquidation_fee: float
    funding: Floats  # rate of each bar; empty: none


def settings_of(evaluator: BarsEvaluator, window: slice | None) -> Settings:
    """The settings of an evaluator's costs and execution; what scores both orders inside a bar begins with the stop first."""
    execution = evaluator.execution
    return Settings(
        **evaluator.shared_settings(window),
        intrabar=INTRABAR.index("pessimistic" if execution.intrabar == "both" else execution.intrabar),
        lot=1.0 if execution.whole_units else execution.lot or 0.0,
        touch_tolerance=TOUCH_TOLERANCE,
        leverage=execution.leverage,
        maintenance_margin=execution.maintenance_margin,
        multiplier=execution.multiplier,
        tick=execution.tick or 0.0,
        liquidation_fee=evaluator.costs.liquidation_fee,
        funding=_funding(evaluator, window),
    )


def _funding(evaluator: BarsEvaluator, window: slice | None) -> Floats:
    """The rate of each bar; empty if there is none."""
    given, n_bars = evaluator.costs.funding, len(evaluator.bars)
    if isinstance(given, float):
        return np.full(n_bars, given) if given else _NO_FUNDING
    if not isinstance(given, Value) or given.params:
        raise InputError(f"funding must be a number or a line without parameters, got {shown(given)}")
    rates = evaluator.lines.value(given, {})
    rates = np.full(n_bars, rates) if not isinstance(rates, np.ndarray) else rates
    first, last = evaluator.bounds(window)
    wrong = ~(np.abs(rates[first:last]) <= 1.0)
    if wrong.any():
        row = first + int(wrong.argmax())
        raise InputError(f"funding = {given!r} must be from -1 to 1 from the start on, got {rates[row]} (row {row})")
    return np.ascontiguousarray(rates)


def _bounded_block(most: int, n_bars: int, n_threads: int | None) -> int:
    """Candidates of a block that end soon enough for Ctrl-C, at least one group of lanes for each thread."""
    count = thread_count(n_threads)
    return min(most, max(LANES * count, BLOCK_WORK * count // n_bars // LANES * LANES))


def check_execution(execution: Execution, costs: Costs) -> None:
    """Refuse what the machine does not have."""
    if execution.profile is not None:
        asks = [f"{name}={value!r}" for name, value in (execution.of_machine() | costs.of_machine()).items()]
        why = ", ".join(asks) or "a function with @bt.on_bar"
        raise InputError(f"profile must be None with {why}, which runs on the bar machine, got {execution.profile!r}")


def replayed(bars: Bars, program: Program, candidates: Candidates, settings: Settings) -> tuple[Replay, NDArray[Any]]:
    """The only candidate, replayed with its ledger and orders; and its fault, with code 0 if there is none."""
    kernel, n_bars = _backend.kernel("machine"), settings.last - settings.first
    sums, fault = np.zeros(1, dtype=SUMS), np.zeros(1, dtype=FAULT)
    equity, units, carry, levels = np.zeros(n_bars), np.zeros(n_bars), np.zeros(n_bars), np.empty(3)
    size = 0, 0
    for _ in range(2):  # counts fills and orders, then records them
        fills, orders = np.zeros(size[0], dtype=FILL), np.zeros(size[1], dtype=ORDER)
        sums[:], fault[:] = 0, 0
        size = kernel.replay(bars, program, candidates, settings, 0, sums, fault, fills, equity, units, carry, orders, levels)
    rest = unexecuted(orders, program)
    return Replay(sums, fills, equity, units, rest, "", 0, orders=orders, levels=levels, carry=carry, program=program), fault


def unexecuted(orders: NDArray[Any], program: Program) -> Unexecuted:
    """Orders that were not filled; those that wait or rest after the last bar are ``unfilled``."""
    rest = orders[orders["status"] != ORDER_STATUSES.index("filled")]
    reduces = (program.actions["reduce_only"] != 0) | (program.actions["size_kind"] == SIZE_KINDS.index("share_of_position"))
    code = np.where(reduces, REASONS.index("signal"), program.actions["reason"])  # of a close its own, of an entry none
    reasons = dict(zip(program.actions["slot"].tolist(), [REASONS[each] or "entry" for each in code.tolist()], strict=True))
    status = [ORDER_STATUSES[code] for code in rest["status"].tolist()]
    return Unexecuted(
        rest["decision_bar"],
        np.zeros(len(rest), dtype=np.int64),
        rest["side"],
        [reasons[slot] for slot in rest["slot"].tolist()],
        ["unfilled" if each == "open" else each for each in status],
    )


class MachineEvaluator(BarsEvaluator):
    """Evaluates candidates of a function with ``bt.on_bar``; parameters as of :class:`backtest.evaluation.BarsEvaluator`."""

    engine, lanes, batch_work = "machine", LANES, BATCH_WORK

    def __init__(
        self,
        bars: Bars,
        strategy: BarStrategy,
        parameters: Mapping[str, Parameter],
        *,
        costs: Costs,
        execution: Execution,
        metrics: Sequence[str] = SWEEP,
        n_threads: int | None = None,
        memo_share: int = 1,
    ) -> None:
        super().__init__(
            bars,
            strategy,
            parameters,
            costs=costs,
            execution=execution if getattr(execution, "engine", None) is None else execution.replace(engine=None),
            metrics=metrics,
            n_threads=n_threads,
            memo_share=memo_share,
        )
        check_execution(execution, costs)
        if execution.sides != "both":
            raise InputError(
                f"sides must be 'both' for a function, which says itself what it buys and sells, got {execution.sides!r}"
            )
        if execution.size_type != "equity" or not (isinstance(execution.size, float) and execution.size == 1.0):
            raise InputError(
                "size and size_type must be left out for a function, each of whose orders has a size of its own "
                f"(account.buy(share=...)), got {shown(execution.size)} and {execution.size_type!r}"
            )
        self._take_params(dict(strategy.params))
        self.program: Program = strategy.program()
        self.limits = OrderLimits(self.program, execution.leverage)
        self.tables = CandidateBlocks(
            self.program,
            strategy.value_names,
            strategy.line_nodes,
            strategy.mask_nodes,
            lines=self.lines,
            masks=self.masks,
            max_bytes=LINES_BYTES // memo_share,
        )
        self.block = _bounded_block(MAX_BLOCK, len(bars), self.n_threads)
        if strategy.mask_nodes:
            self.block = int(min(self.block, max(LANES, 8 * MASKS_BYTES // (len(bars) * len(strategy.mask_nodes)))))

    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of any candidate among ``combinations``."""
        return self.tables.warm_up(combinations)

    def settings(self, window: slice | None = None) -> Settings:
        """What all candidates of a batch share, for the kernel."""
        return settings_of(self, window)

    def replayed(self, batch: Floats, settings: Settings) -> Replay:
        """The only candidate of a batch, replayed with its ledger and orders."""
        self.check_orders(batch)
        [(_, candidates)] = self.tables.parts(self._block(batch), settings.first)
        replay, fault = replayed(self.bars, self.program, candidates, settings)
        self._check_faults(fault, batch)
        return replay

    def _replay_block(self, batch: Floats, settings: Settings, offset: int, use: UseSums) -> None:
        sums = np.zeros((1 + self.scores_both, len(batch)), dtype=SUMS)
        numbers = sums.view(np.float64).reshape(*sums.shape, -1)  # copied in a quarter of the time that records take
        faults = np.zeros(len(batch), dtype=FAULT)
        self.check_orders(batch)
        for rows, candidates in self.tables.parts(self._block(batch), settings.first):
            for order, each in enumerate(self._passes(settings)):
                found, wrong = np.zeros(len(rows), dtype=SUMS), np.zeros(len(rows), dtype=FAULT)
                run_rows(
                    functools.partial(self._evaluate_groups, candidates, each, found, wrong),
                    -(-len(rows) // LANES),
                    self.n_threads,
                    LANES * BAR_US * (settings.last - settings.first),
                )
                numbers[order, rows] = found.view(np.float64).reshape(len(rows), numbers.shape[-1])
                first = np.flatnonzero((wrong["code"] != 0) & (faults["code"][rows] == 0))
                faults[rows[first]] = wrong[first]
        self._check_faults(faults, batch)
        for begin in range(0, len(batch), CHUNK):
            end = min(begin + CHUNK, len(batch))
            use(slice(offset + begin, offset + end), sums[:, begin:end])

    def _passes(self, settings: Settings) -> list[Settings]:
        """Once, or with either order inside a bar.

        The second pass is of all candidates: an order's fill may depend on the path through a bar where no trade ends.
        """
        optimistic = dataclasses.replace(settings, intrabar=INTRABAR.index("optimistic"))
        return [settings, optimistic] if self.scores_both else [settings]

    def _evaluate_groups(
        self, candidates: Candidates, settings: Settings, sums: NDArray[Any], faults: NDArray[Any], start: int, stop: int
    ) -> None:
        """Replay whole groups of lanes; runs on any thread."""
        first, last = start * LANES, min(stop * LANES, len(sums))
        _backend.kernel("machine").evaluate(self.bars, self.program, candidates, settings, first, last, sums, faults)

    def _check_faults(self, faults: NDArray[Any], batch: Floats) -> None:
        """Refuse the first candidate that asked for what cannot be."""
        wrong = np.flatnonzero(faults["code"])
        if len(wrong):
            params = self._params(batch[wrong[0]])
            raise fault_error(faults[wrong[0]], self.program, self.strategy, params, self.bars)

    def check_orders(self, batch: Floats) -> None:
        """Refuse the first candidate with an order that can never do what it says."""
        wrong = self.limits.first_wrong(self.tables.values(self._block(batch)))
        if wrong is not None:
            raise limit_error(wrong, self.strategy, self._params(batch[wrong.row]))

    def _params(self, row: Floats) -> dict[str, Any]:
        """The parameters of a candidate."""
        return {name: column.decode(value) for (name, column), value in zip(self.parameters.items(), row, strict=True)}


class RulesOnMachine(StrategyEvaluator):
    """Evaluates candidates of rules on the machine: the event engine's tables, the machine's program and kernel."""

    engine, lanes, batch_work = "machine", LANES, BATCH_WORK

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        check_execution(self.execution, self.costs)
        self.block = _bounded_block(self.block, len(self.bars), self.n_threads)
        self.lowered = Lowered(self.conditions, self.sampled, self.strategy.max_bars, self.execution)

    def settings(self, window: slice | None = None) -> Any:
        """What all candidates of a batch share, for the machine's kernel."""
        return settings_of(self, window)

    def replayed(self, batch: Floats, settings: Any) -> Replay:
        """The only candidate of a batch, replayed with its ledger and orders."""
        candidates = self.lowered.candidates(self.candidate_table(batch, settings))
        program = self.lowered.program
        replay, fault = replayed(self.bars, program, candidates, settings)
        _expect_none(fault)
        assert replay.orders is not None
        rest, exit_reason, entry_side = unexecuted_of_rules(replay.orders, program, float(replay.units[-1]), settings.last)
        return replay._replace(unexecuted=rest, unfilled_exit=exit_reason, unfilled_side=entry_side)

    def _evaluate(self, table: CandidateTable, settings: Any, sums: NDArray[Any]) -> None:
        self._machine_sums(table, settings, sums[0])
        if self.scores_both:  # without orders of one's own a path matters only where a trade ends
            ambiguous = np.flatnonzero(sums["n_ambiguous"][0])
            other = np.zeros(len(ambiguous), dtype=SUMS)
            optimistic = dataclasses.replace(settings, intrabar=INTRABAR.index("optimistic"))
            self._machine_sums(table.of_rows(ambiguous), optimistic, other)
            sums[1] = sums[0]
            sums[1, ambiguous] = other

    def _machine_sums(self, table: CandidateTable, settings: Any, sums: NDArray[Any]) -> None:
        faults = np.zeros(len(sums), dtype=FAULT)
        candidates = self.lowered.candidates(table)
        sums[:] = 0
        _backend.kernel("machine").evaluate(self.bars, self.lowered.program, candidates, settings, 0, len(sums), sums, faults)
        _expect_none(faults)


def _expect_none(faults: NDArray[Any]) -> None:
    """Rules are checked before they run: a fault would be one of ours."""
    assert not faults["code"].any(), faults[faults["code"] != 0][0]


def machine_evaluator(bars: Bars, strategy: Any, parameters: Mapping[str, Parameter], **options: Any) -> BarsEvaluator:
    """The machine's evaluator of a function, or of rules."""
    if not isinstance(strategy, (Strategy, BarStrategy)):
        remedy = "; decorate it with @bt.on_bar" if callable(strategy) and not isinstance(strategy, type) else ""
        raise InputError(f"strategy must be a Strategy, or a function with @bt.on_bar, got {shown(strategy)}{remedy}")
    kind: Callable[..., BarsEvaluator] = RulesOnMachine if isinstance(strategy, Strategy) else MachineEvaluator
    return kind(bars, strategy, parameters, **options)
