"""Level profits on devices against the kernel: torch operations, and the fused kernel, interpreted where there is no card."""

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from gpu_problems import any_problem, distance, scales, size_of_terms

import backtest as bt

torch = pytest.importorskip("torch", reason="extra `gpu` is not installed")
torch.set_num_threads(1)  # tensors are small: threads would wait for each other
HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is first imported
pytest.importorskip("triton", reason="extra `gpu` is not installed")
from backtest import gpu  # noqa: E402 - torch first
from backtest.gpu import devices, fused, plain  # noqa: E402
from backtest.gpu import problems as packed  # noqa: E402

DEVICES = ["cpu", *(["cuda"] if HAS_CUDA else [])]


class Way(NamedTuple):
    """A device, and one of the two paths on it."""

    device: str
    path: str

    def problems(self, problems, dtype="float64"):
        return gpu.Problems(problems, self.device, dtype, path=self.path)

    def profit(self, problem, offsets, dtype="float64"):
        return gpu.profit(problem, offsets, self.device, dtype, path=self.path)


#: The fused kernel runs on a card, or interpreted, which is slow: so beside the compiled kernels only, of which it knows nothing.
FUSED = Way("cuda" if HAS_CUDA else "cpu", "fused")
WAYS = [pytest.param(FUSED, marks=pytest.mark.compiled), *(Way(device, "torch") for device in DEVICES)]


@pytest.fixture(params=WAYS, ids="-".join)
def way(request):
    return request.param


def batch(n_problems, seed=0, most=6):
    """Problems, points, first: a few points for each, for some none."""
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(rng.integers(0, most + 1, n_problems))])
    points = rng.uniform(-0.03, 0.03, (first[-1], 2)) * rng.choice([0.0, 0.2, 1.0, 40.0], (first[-1], 1), p=[0.1, 0.3, 0.5, 0.1])
    return [any_problem(seed) for seed in range(n_problems)], points, first


def own(work, points, first):
    """What ``work(problem, points)`` says of each problem's own points, one after the other."""
    problems = work[1]
    return np.concatenate([work[0](problem, points[first[place] : first[place + 1]]) for place, problem in enumerate(problems)])


def long_moves(rng, n):
    close = rng.normal(0, 0.01, n)
    high, low = np.maximum(close, 0) + rng.random(n) * 0.01, np.minimum(close, 0) - rng.random(n) * 0.01
    return {
        "close": close,
        "high": high,
        "low": low,
        "high_pred": 0.6 * high + rng.normal(0, 0.004, n),
        "low_pred": 0.6 * low + rng.normal(0, 0.004, n),
    }


def busy(n):
    """Both kinds of problem in three modes, with fills on most bars."""
    rng = np.random.default_rng(0)
    made = []
    for rules in ({}, {"close_at_eod": True}, {"intrabar": "pessimistic", "fill_margin": 0.001}):
        made.append(bt.Levels(**long_moves(rng, n), position=rng.uniform(-2, 2, n), fee_rate=0.0005, **rules))
        made.append(bt.AlwaysOn(**long_moves(rng, n), buy=rng.random(n), sell=-rng.random(n), fee_rate=0.0005, **rules))
    return made


@pytest.mark.compiled
def test_500_problems_of_every_mode_agree_with_the_kernel(way):
    problems, points, first = batch(500)
    modes = {(type(each), each.close_at_eod, each.intrabar, each.fill_margin > 0) for each in problems}
    assert len(modes) == 16
    expected = own((lambda problem, mine: problem.profit(mine), problems), points, first)
    got = way.problems(problems).ragged(points, first)
    assert got.dtype == np.float64
    assert (np.abs(got - expected) <= 1e-12 * own((size_of_terms, problems), points, first)).all()
    assert (expected != 0.0).sum() > 500


def test_float32_agrees_where_nothing_is_near_its_level(way):
    problems, points, first = batch(64, seed=1, most=14)
    clear = own((distance, problems), points, first) > 1e-6
    expected = own((lambda problem, mine: problem.profit(mine), problems), points, first)
    got = way.problems(problems, "float32").ragged(points, first)
    terms = own((lambda problem, mine: scales(problem, mine)[0], problems), points, first)
    amounts = own((lambda problem, mine: scales(problem, mine)[1], problems), points, first)
    assert (np.abs(got - expected) <= 1e-6 * amounts)[clear].all()
    kept = clear & (terms > 0.1 * amounts)  # where terms are small differences, no float32 is within 1e-5 of them
    assert (np.abs(got - expected) <= 1e-5 * terms)[kept].all()
    assert kept.sum() > 200


@pytest.mark.parametrize("n_candidates", [1, 17, 65, 700])
def test_one_batch_for_all_problems(way, n_candidates):
    problems = [any_problem(seed) for seed in (3, 12, 0, 27)]
    points = np.random.default_rng(2).uniform(-0.03, 0.03, (n_candidates, 2))
    got = way.problems(problems).profit(points)
    assert got.shape == (4, n_candidates)
    for row, problem in zip(got, problems, strict=True):
        np.testing.assert_allclose(row, problem.profit(points), rtol=0, atol=1e-13)
        np.testing.assert_array_equal(row, way.problems([problem]).profit(points)[0])
        np.testing.assert_allclose(row, way.profit(problem, points), rtol=0, atol=0)


@pytest.mark.compiled
def test_many_rows_are_cut_among_programs(way, monkeypatch):
    rng = np.random.default_rng(4)
    problems = [bt.Levels(**long_moves(rng, n), position=rng.uniform(-2, 2, n), fee_rate=0.0005) for n in (1500, 3)]
    points = rng.uniform(-0.01, 0.01, (5, 2))
    whole = way.problems(problems).profit(points)
    monkeypatch.setattr(fused, "PROGRAMS", 8)
    monkeypatch.setattr(fused, "LEAST_ROWS", 210)
    cut = way.problems(problems)
    cut._rows = cut._rows._replace(multiprocessors=2)
    for got in (whole, cut.profit(points)):
        for row, problem in zip(got, problems, strict=True):
            assert (np.abs(row - problem.profit(points)) <= 1e-12 * size_of_terms(problem, points)).all()


@pytest.mark.compiled
def test_float32_does_not_drift_with_the_number_of_rows(way):
    """Terms of one sign, the worst case for a running sum."""
    rng = np.random.default_rng(5)
    n = 8000 if way == ("cpu", "fused") else 200_000
    forecasts = {"high_pred": rng.uniform(0.01, 0.015, n), "low_pred": rng.uniform(-0.015, -0.01, n)}
    flat = {name: np.full(n, value) for name, value in (("close", 0.01), ("high", 0.02), ("low", -0.02), ("position", 1.0))}
    problem = bt.Levels(**flat, **forecasts, fee_rate=0.0001)
    points = np.zeros((1, 2))
    got = way.profit(problem, points, "float32")
    assert abs(got - problem.profit(points))[0] <= 3e-7 * size_of_terms(problem, points)[0]


def test_chunks_change_nothing_but_rounding(way, monkeypatch):
    problems, points, first = batch(9, seed=3)
    whole = way.problems(problems).ragged(points, first)
    table = way.problems(problems).profit(points)
    for module, name in ((plain, "CPU_CHUNK"), (plain, "GPU_CHUNK")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(plain, "WIDTH", 3)
    monkeypatch.setattr(packed, "LEAST", 1)
    monkeypatch.setattr(packed, "MOST", 7)
    np.testing.assert_allclose(way.problems(problems).ragged(points, first), whole, rtol=0, atol=1e-13)
    np.testing.assert_allclose(way.problems(problems).profit(points), table, rtol=0, atol=1e-13)


def test_too_little_memory_means_smaller_launches_and_then_an_error(monkeypatch):
    problems, points, first = batch(9, seed=3)
    on_device = gpu.Problems(problems, "cpu")
    whole = on_device.ragged(points, first)
    launched, launch = [], packed.Problems._launch

    def narrow(self, points, jobs, start, stop):
        if stop - start > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        launched.append(stop - start)
        return launch(self, points, jobs, start, stop)

    monkeypatch.setattr(packed, "LEAST", 4)
    monkeypatch.setattr(packed.Problems, "_launch", narrow)
    room = 11
    np.testing.assert_allclose(on_device.ragged(points, first), whole, rtol=0, atol=1e-13)
    assert sum(launched) == len(points)
    assert max(launched) <= 11
    room = 3
    with pytest.raises(
        bt.InputError,
        match=r"problems must leave room for profits in the memory of cpu: 4 of them do not fit; "
        r"pass fewer .*CUDA out of memory",
    ):
        on_device.ragged(points, first)
    monkeypatch.setattr(devices, "rows_that_fit", lambda *_: 10)
    with pytest.raises(
        bt.InputError,
        match=r"problems must fit into the memory of cpu: \d+ rows of float64, room for 10; "
        r"pass fewer problems at once or dtype=float32",
    ):
        gpu.Problems(problems, "cpu")


def test_a_tensor_in_is_a_tensor_out(way):
    problem = any_problem(6)
    offsets = torch.zeros((3, 2), dtype=torch.float32, device=way.device)
    for dtype in ("float64", "float32"):
        out = way.profit(problem, offsets, dtype)
        assert (out.device.type, out.dtype) == (way.device, getattr(torch, dtype))
        np.testing.assert_allclose(out.cpu().numpy(), problem.profit(np.zeros((3, 2))), atol={"float64": 1e-12}.get(dtype, 1e-6))


def test_nothing_to_score(way):
    problem = any_problem(6)
    assert way.profit(problem, np.empty((0, 2))).shape == (0,)
    assert way.problems([]).profit(np.zeros((2, 2))).shape == (0, 2)
    assert way.problems([problem]).ragged(np.empty((0, 2)), [0, 0]).shape == (0,)
    empty = bt.Levels(**{name: [] for name in ("close", "high", "low", "high_pred", "low_pred", "position")}, fee_rate=0.0)
    assert way.problems([empty, empty]).profit([[0.0, 0.0]]).tolist() == [[0.0], [0.0]]


def test_soft_profit_goes_to_the_profit_as_the_temperature_goes_to_nothing():
    offsets = np.random.default_rng(3).uniform(-0.02, 0.02, (20, 2))
    for problem in busy(150):
        gaps = [
            np.abs(gpu.soft_profit(problem, torch.as_tensor(offsets), heat).numpy() - problem.profit(offsets)).max()
            for heat in (1e-2, 1e-4, 1e-9)
        ]
        assert gaps[0] > gaps[2]
        assert gaps[2] < 1e-6


def test_soft_profit_has_the_gradient_of_itself():
    problem = busy(40)[0]
    offsets = torch.tensor([[0.001, -0.002], [-0.004, 0.003]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gpu.soft_profit(problem, x, 0.002), (offsets,), eps=1e-7, atol=1e-6)
    gpu.soft_profit(problem, offsets, 0.002).sum().backward()
    assert offsets.grad.abs().max() > 0


def test_a_few_steps_along_the_gradient_earn_more():
    problem = busy(300)[0]
    offsets = torch.zeros((1, 2), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([offsets], lr=3e-4)
    for _ in range(150):
        optimizer.zero_grad()
        (-gpu.soft_profit(problem, offsets, 5e-4).sum()).backward()
        optimizer.step()
    assert problem.profit(offsets.detach().numpy())[0] > problem.profit([[0.0, 0.0]])[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: gpu.profit(p, [[0.0, np.nan]], "cpu"), bt.InputError, r"offsets must be finite, got nan \(row 0, column 1\)"),
        (lambda p: gpu.profit(p, [[0.0]], "cpu"), bt.InputError, r"offsets must have shape"),
        (lambda p: gpu.profit(p, torch.full((1, 2), torch.nan), "cpu"), bt.InputError, "offsets must be finite"),
        (
            lambda p: gpu.profit(p, torch.zeros(2), "cpu"),
            bt.InputError,
            r"offsets must have shape \(n_candidates, 2\), got \(2,\)",
        ),
        (lambda p: gpu.profit(p, [[0.0, 0.0]], "cpu", "float16"), bt.InputError, "dtype must be one of 'float64', 'float32'"),
        (
            lambda p: gpu.profit(p, [[0.0, 0.0]], "abacus"),
            bt.InputError,
            "device must be 'cpu', 'cuda' or 'cuda:N', got 'abacus'",
        ),
        (lambda p: gpu.profit(p, [[0.0, 0.0]], "mps"), bt.InputError, "device must be 'cpu', 'cuda' or 'cuda:N', got 'mps'"),
        (lambda p: gpu.profit(p, [[0.0, 0.0]], None), bt.InputError, "device must be 'cpu', 'cuda' or 'cuda:N', got None"),
        (lambda p: gpu.profit("p", [[0.0, 0.0]], "cpu"), bt.InputError, "problem must be Levels or AlwaysOn, got str"),
        (
            lambda p: gpu.profit(p, [[0.0, 0.0]], "cpu", path="rocket"),
            bt.InputError,
            "path must be one of auto, fused, torch, got 'rocket'",
        ),
        (lambda p: gpu.Problems([p], "cpu", path=None), bt.InputError, "path must be one of auto, fused, torch, got None"),
        (lambda p: gpu.report("cpu", path=""), bt.InputError, "path must be one of auto, fused, torch, got ''"),
        (
            lambda p: gpu.Problems([p], "cpu").ragged(np.zeros((3, 2)), [0, 2]),
            bt.InputError,
            "first must rise from 0 to .* 3, got",
        ),
        (
            lambda p: gpu.Problems([p], "cpu").ragged(np.zeros((3, 2)), [0, 3, 3]),
            bt.InputError,
            "first must hold 2 whole numbers",
        ),
        (
            lambda p: gpu.Problems([p], "cpu").ragged(np.zeros((3, 2)), [0.0, 3.0]),
            bt.InputError,
            "first must hold .* dtype float64",
        ),
        (lambda p: gpu.soft_profit(p, torch.zeros((1, 2)), 0.0), bt.InputError, "temperature must be > 0, got 0.0"),
        (lambda p: gpu.soft_profit(p, np.zeros((1, 2)), 0.1), bt.InputError, "offsets must be a float tensor"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(any_problem(7))


def test_a_missing_device_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(bt.BackendUnavailable, match=r"device 'cuda' is not there: .* sees no CUDA device; pass device='cpu'"):
        gpu.profit(any_problem(7), [[0.0, 0.0]])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(bt.BackendUnavailable, match=r"device 'cuda:3' is not there: .* sees 1 CUDA device; pass device='cuda:0'"):
        gpu.profit(any_problem(7), [[0.0, 0.0]], "cuda:3")


def test_the_report_says_which_way_and_why(monkeypatch):
    assert gpu.report("cpu").startswith("cpu: plain torch operations (a CPU; Levels.profit is faster here")
    assert "asked for by path='torch'" in gpu.report("cpu", path="torch")
    if not HAS_CUDA:
        assert gpu.report(path="fused") == (
            f"cpu: fused kernel (triton {fused.VERSION}, interpreted: for tests only; "
            f"torch {torch.__version__} sees no CUDA device)"
        )
    monkeypatch.setattr(fused, "INTERPRETED", False)
    with pytest.raises(bt.BackendUnavailable, match="path='fused' needs a CUDA device, or TRITON_INTERPRET=1"):
        gpu.report("cpu", path="fused")
    with pytest.raises(bt.InputError, match="device must be 'cpu'"):
        gpu.report("abacus")


def test_without_triton_the_reason_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "backtest.gpu.fused")
    monkeypatch.delattr(sys.modules["backtest.gpu"], "fused")
    monkeypatch.setitem(sys.modules, "triton", None)
    name, reason = devices.chosen(torch.device("cuda"), "auto")
    assert name == "torch"
    assert reason.startswith("triton is not installed (")
    assert reason.endswith("pip install 'backtest-kernels[gpu]'")
    with pytest.raises(bt.BackendUnavailable, match="path='fused', but triton is not installed"):
        gpu.Problems([any_problem(7)], "cpu", path="fused")


def test_without_torch_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.report().startswith("none: torch is not installed (")
    for call in (
        lambda: gpu.report("cpu"),
        lambda: gpu.profit(any_problem(7), [[0.0, 0.0]], "cpu"),
        lambda: bt.optimize_many({"a": any_problem(7)}, "direct", device="cpu"),
    ):
        with pytest.raises(bt.BackendUnavailable, match=r"torch is not installed .*pip install 'backtest-kernels\[gpu\]'"):
            call()


def test_a_kernel_that_does_not_run_is_named(monkeypatch):
    on_device = FUSED.problems([any_problem(7)])

    def broken(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(fused, "score", broken)
    with pytest.raises(
        bt.BackendUnavailable,
        match=r"the fused kernel did not run on .*: RuntimeError: Failed to find C "
        r"compiler; to do without it, pass path='torch' to gpu.Problems",
    ):
        on_device.profit([[0.0, 0.0]])


@pytest.mark.compiled
def test_the_kernel_compiles_for_a_card_that_is_not_here():
    """Down to machine code, which needs no card: the narrowest and the widest shape, both types."""
    code = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from backtest.gpu import fused
for shape, kind in zip(fused.SHAPES[::2], ("fp64", "fp32")):
    whole = dict.fromkeys(("stride", "n_jobs", "n_out"), "i32")
    tables = {"column": "*" + kind, "edges": "*i64", "fees": "*" + kind, "jobs": "*i64", "points": "*fp64", "out": "*fp64"}
    fixed = {"CANDIDATES": shape.candidates, "ROWS": shape.rows, "STEPS": fused.STEPS}
    assert all(fused._profit.params[fused._profit.arg_names.index(name)].do_not_specialize for name in whole)
    types = whole | tables | dict.fromkeys(fixed, "constexpr")
    ordered = {name: types[name] for name in fused._profit.arg_names}
    made = compile(ASTSource(fused._profit, ordered, fixed), target=GPUTarget("cuda", 90, 32), options={"num_warps": shape.warps})
    assert len(made.asm["cubin"]) > 1000
    assert ".local" not in made.asm["ptx"]
    assert "fma.rn" in made.asm["ptx"]
print("compiled")
"""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False)
    assert done.stdout == "compiled\n", done.stderr
