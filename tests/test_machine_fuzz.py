"""Random step functions in every form: as Python runs them, interpreted, compiled; and their orders, simulated a second time."""

import itertools
from types import SimpleNamespace

import machine_programs
import numpy as np
import order_oracle
import pytest
from conftest import long, slow

import backtest as bt
from backtest import _backend, lines
from backtest.line_values import Block
from backtest.machine.evaluator import MachineEvaluator
from backtest.machine.faults import fault_error
from backtest.machine.limits import OrderLimits
from backtest.machine.program import FAULT, ORDER
from backtest.machine.step_through import columns_of
from backtest.metrics import SUMS, SWEEP
from backtest.records import FILL
from backtest.space import Choice

#: Programs of a fast run, of a slow one, and of all; one test has this many.
N_FAST, N_SLOW, N_ALL, N_EACH = 20, 120, 2000, 10
#: Fills and orders of one of them, at most.
MOST = 10_000
BATCHES = [begin if begin < N_FAST else (slow if begin < N_SLOW else long)(begin) for begin in range(0, N_ALL, N_EACH)]


@pytest.fixture(autouse=True)
def _unpayable_shares(monkeypatch):
    """Orders that no equity pays for are part of the programs: doors refuse them before a run."""
    monkeypatch.setattr(OrderLimits, "first_wrong", lambda self, values: None)


class Case:
    """A random strategy with everything that it takes to run it."""

    def __init__(self, seed, folder):
        self.seed, self.text, path = seed, machine_programs.text_of(seed), folder / f"strategy_{seed}.py"
        path.write_text(self.text)
        self.strategy = machine_programs.made(self.text, filename=str(path))
        values = machine_programs.params_of(seed)
        self.params = {name: values[name] for name in self.strategy.params}
        self.bars = machine_programs.bars_of(seed)
        self.costs, self.execution = machine_programs.costs_of(seed), machine_programs.execution_of(seed)
        self.evaluator, self.settings = self.made({name: [value] for name, value in self.params.items()})
        self.batch = np.zeros((1, len(self.params)))

    def made(self, values, **options):
        columns = {name: Choice(name, each) for name, each in values.items()}
        evaluator = MachineEvaluator(self.bars, self.strategy, columns, costs=self.costs, execution=self.execution, **options)
        return evaluator, evaluator.settings()

    def replayed(self):
        """Everything that the kernel of this backend records of the candidate, by name, and its fault."""
        block = Block(self.batch, self.evaluator.parameters, self.evaluator.params)
        [(_, candidates)] = self.evaluator.tables.parts(block, self.settings.first)
        n_bars, program, kernel = self.settings.last - self.settings.first, self.evaluator.program, _backend.kernel("machine")
        found = {"fills": np.zeros(MOST, dtype=FILL), "equity": np.zeros(n_bars), "units": np.zeros(n_bars)}
        found |= {"carry": np.zeros(n_bars), "orders": np.zeros(MOST, dtype=ORDER), "levels": np.zeros(3)}
        sums, fault = np.zeros(1, dtype=SUMS), np.zeros(1, dtype=FAULT)
        n_fills, n_orders = kernel.replay(self.bars, program, candidates, self.settings, 0, sums, fault, *found.values())
        assert max(n_fills, n_orders) <= MOST
        found["fills"], found["orders"] = found["fills"][:n_fills], found["orders"][:n_orders]
        return found | {"sums": sums}, fault

    def stepped(self):
        """The same of the function itself, and the message of its fault."""
        stepping = bt.step_through(self.strategy, self.bars, self.params, costs=self.costs, execution=self.execution)
        message = None
        try:
            for step in stepping:
                assert str(step).startswith(f"bar {step.bar}")
        except bt.InputError as error:
            message = str(error)
        return {name: getattr(stepping, name) for name in ("fills", "equity", "units", "orders", "levels", "sums")}, message


def same_bits(one, other):
    """Equal to the last bit, NaN included; -0 and 0 differ."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def differing(one, other):
    return [name for name in one if name in other and not same_bits(one[name], other[name])]


@pytest.mark.parametrize("begin", BATCHES)
def test_the_function_itself_and_its_program_are_equal(begin, tmp_path):
    for seed in range(begin, begin + N_EACH):
        case = Case(seed, tmp_path)
        direct, message = case.stepped()
        with _backend.forced("python"):
            interpreted, fault = case.replayed()
        if message is None:
            assert not fault["code"][0], f"seed {seed}: {fault}"
        else:  # the bar of a fault has no close in either
            n_bars = len(direct["equity"])
            assert message == str(fault_error(fault[0], case.evaluator.program, case.strategy, case.params, case.bars))
            assert n_bars == fault["bar"][0] - case.settings.first
            interpreted |= {name: interpreted[name][:n_bars] for name in ("equity", "units")}
        assert differing(direct, interpreted) == [], f"seed {seed}"


@pytest.mark.compiled
@pytest.mark.parametrize("begin", BATCHES)
def test_every_compiled_level_is_equal_to_the_interpreter(begin, tmp_path):
    for seed in range(begin, begin + N_EACH):
        case = Case(seed, tmp_path)
        with _backend.forced("python"):
            interpreted, fault = case.replayed()
        for simd in _backend.simd_levels():
            with _backend.forced("cython", simd):
                compiled, its_fault = case.replayed()
            assert differing(interpreted, compiled) == [], f"seed {seed}, {simd}"
            assert same_bits(fault, its_fault), f"seed {seed}, {simd}"


def many_params(seed, names, n):
    """Values of ``n`` candidates."""
    each = [machine_programs.params_of(f"{seed} {candidate}") for candidate in range(n)]
    return {name: [params[name] for params in each] for name in names}


def run(problem, cuts):
    """Sums and faults of candidates that are evaluated in parts."""
    sums, faults = np.zeros(cuts[-1], dtype=SUMS), np.zeros(cuts[-1], dtype=FAULT)
    for start, stop in itertools.pairwise(cuts):
        _backend.kernel("machine").evaluate(*problem, start, stop, sums, faults)
    return {"sums": sums, "faults": faults}


@pytest.mark.compiled
@pytest.mark.parametrize("begin", BATCHES)
def test_sums_do_not_depend_on_level_threads_or_cuts(begin, tmp_path):
    for seed in range(begin, begin + N_EACH, 5):
        case, n = Case(seed, tmp_path), 150
        values = many_params(seed, case.params, n)
        evaluator, settings = case.made({name: sorted(set(each)) for name, each in values.items()}, n_threads=1)
        batch = np.array(
            [[column.encode(name, value) for value in values[name]] for name, column in evaluator.parameters.items()]
        ).T.copy()
        [(_, candidates)] = evaluator.tables.parts(Block(batch, evaluator.parameters, evaluator.params), settings.first)

        problem = case.bars, evaluator.program, candidates, settings
        with _backend.forced("python"):
            few = run(problem, [0, 6])
        whole = run(problem, [0, n])
        assert differing(few, {name: each[:6] for name, each in whole.items()}) == [], f"seed {seed}"
        for simd in _backend.simd_levels():
            with _backend.forced("cython", simd):
                assert differing(whole, run(problem, [0, n])) == [], f"seed {seed}, {simd}"
                assert differing(whole, run(problem, [0, 1, 7, 64, 65, 100, n])) == [], f"seed {seed}, {simd}"
        if not whole["faults"]["code"].any():
            scores = evaluator(batch)
            for n_threads in (2, 3):
                threaded, _ = case.made({name: sorted(set(each)) for name, each in values.items()}, n_threads=n_threads)
                assert same_bits(scores, threaded(batch)), f"seed {seed}"
                assert same_bits(scores[::-1].copy(), threaded(batch[::-1].copy())), f"seed {seed}"


def simulated(case):
    """The case as the second simulator has it."""
    name = f"<{case.seed}>"
    function, given, loops = order_oracle.function_of(case.text, name, {"lines": lines, "bt": {"param": bt.param}})
    columns = columns_of(case.evaluator, Block(case.batch, case.evaluator.parameters, case.evaluator.params))
    costs = SimpleNamespace(
        **{each: getattr(case.costs, each) for each in ("fee_rate", "slippage", "fixed", "per_unit", "minimum", "maximum")},
        borrow_per_bar=case.settings.borrow_per_bar,
    )
    funding = case.settings.funding if len(case.settings.funding) else None
    rules = machine_programs.rules_of(case.execution, case.costs, funding, len(case.bars))
    return order_oracle.simulate(function, columns, machine_programs.params_of(case.seed), given["state"], costs, rules, loops)


@pytest.mark.parametrize("begin", BATCHES)
def test_orders_are_as_simulated_from_their_text(begin, tmp_path):
    n_compared = 0
    for seed in range(begin, begin + N_EACH):
        case = Case(seed, tmp_path)
        account, equity, fault = simulated(case)
        with _backend.forced("python"):
            found, its_fault = case.replayed()
        until = min(account.ties, default=len(case.bars))  # from there on, rounding may have chosen the other way
        for number, each in enumerate(account.fills):
            if each["bar"] >= until:
                break
            fill = found["fills"][number]
            assert (each["bar"], each["reason"]) == (fill["fill_bar"], fill["reason"]), f"seed {seed}, fill {number}: {each}"
            assert each["price"] == pytest.approx(fill["price"], rel=1e-9), f"seed {seed}, fill {number}"
            assert each["units"] == pytest.approx(fill["units"], rel=1e-9), f"seed {seed}, fill {number}"
            n_compared += 1
        if not account.ties:
            assert len(account.fills) == len(found["fills"])
            assert equity == pytest.approx(found["equity"][: len(equity)].tolist(), rel=1e-9)
            assert (fault or (0, 0)) == (its_fault["code"][0], its_fault["bar"][0])
    assert n_compared > 20 * N_EACH


@pytest.mark.filterwarnings("ignore:.* orders could not be paid for")
def test_metrics_of_a_batch_are_those_of_a_run(tmp_path, backend):
    case = Case(3, tmp_path)
    values, options = {name: [value] for name, value in case.params.items()}, {"costs": case.costs, "execution": case.execution}
    table = bt.evaluate(case.bars, case.strategy, values, **options)
    alone = bt.run(case.bars, case.strategy, case.params, **options)
    assert same_bits(table.to_numpy()[0], np.array([alone.stats[metric] for metric in SWEEP]))
