"""Level profits on torch tensors against the kernel, on whatever devices there are."""

import numpy as np
import pytest

import backtest as bt

torch = pytest.importorskip("torch", reason="extra `torch` is not installed")
from backtest import gpu  # noqa: E402 - torch first

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def moves(rng, n):
    close = rng.normal(0, 0.01, n)
    high, low = np.maximum(close, 0) + rng.random(n) * 0.01, np.minimum(close, 0) - rng.random(n) * 0.01
    return {"close": close, "high": high, "low": low, "high_pred": 0.6 * high + rng.normal(0, 0.004, n),
            "low_pred": 0.6 * low + rng.normal(0, 0.004, n)}


def problems(n=150, seed=0):
    rng = np.random.default_rng(seed)
    for options in ({}, {"close_at_eod": True}, {"intrabar": "pessimistic", "fill_margin": 0.001}):
        yield bt.Levels(**moves(rng, n), position=rng.uniform(-2, 2, n), fee_rate=0.0005, **options)
        yield bt.AlwaysOn(**moves(rng, n), buy=rng.random(n), sell=-rng.random(n), fee_rate=0.0005, **options)


def size_of_terms(problem, offsets):
    """Sum of the absolute terms at each point."""
    return np.array([np.abs(problem.replay(point)["profit"]).sum() for point in offsets])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_profit_agrees_with_the_kernel(device, dtype, tolerance):
    rng = np.random.default_rng(1)
    for problem in problems():
        offsets = rng.uniform(-0.03, 0.03, (40, 2))
        got, expected = gpu.profit(problem, offsets, device=device, dtype=dtype), problem.profit(offsets)
        assert got.dtype == np.float64
        assert (np.abs(got - expected) <= tolerance * size_of_terms(problem, offsets) + 1e-15).all()
        assert np.abs(expected).max() > 0


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_change_nothing_but_rounding(device, monkeypatch):
    rng = np.random.default_rng(2)
    problem = next(problems())
    offsets = rng.uniform(-0.03, 0.03, (101, 2))
    whole = gpu.profit(problem, offsets, device=device)
    monkeypatch.setattr(gpu, "CPU_CHUNK", 1)
    monkeypatch.setattr(gpu, "GPU_CHUNK", 1)
    np.testing.assert_allclose(gpu.profit(problem, offsets, device=device), whole, rtol=0, atol=1e-13)


def test_a_tensor_in_is_a_tensor_out():
    problem = next(problems())
    offsets = torch.zeros((3, 2), dtype=torch.float64)
    out = gpu.profit(problem, offsets, device="cpu")
    assert isinstance(out, torch.Tensor)
    np.testing.assert_allclose(out.numpy(), problem.profit(np.zeros((3, 2))), atol=1e-12)
    assert gpu.profit(problem, np.empty((0, 2)), device="cpu").shape == (0,)


def test_soft_profit_goes_to_the_profit_as_the_temperature_goes_to_nothing():
    rng = np.random.default_rng(3)
    offsets = rng.uniform(-0.02, 0.02, (20, 2))
    for problem in problems():
        distance = [
            np.abs(gpu.soft_profit(problem, torch.as_tensor(offsets), temperature).numpy() - problem.profit(offsets)).max()
            for temperature in (1e-2, 1e-4, 1e-9)
        ]
        assert distance[0] > distance[2]
        assert distance[2] < 1e-6


def test_soft_profit_has_the_gradient_of_itself():
    problem = next(problems(n=40))
    offsets = torch.tensor([[0.001, -0.002], [-0.004, 0.003]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gpu.soft_profit(problem, x, 0.002), (offsets,), eps=1e-7, atol=1e-6)
    soft = gpu.soft_profit(problem, offsets, 0.002).sum()
    soft.backward()
    assert offsets.grad.abs().max() > 0


def test_a_few_steps_along_the_gradient_earn_more():
    problem = next(problems(n=300))
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
        (
            lambda p: gpu.profit(p, [[0.0, np.nan]], device="cpu"),
            bt.InputError,
            r"offsets must be finite, got nan \(row 0, column 1\)",
        ),
        (lambda p: gpu.profit(p, [[0.0]], device="cpu"), bt.InputError, r"offsets must have shape"),
        (lambda p: gpu.profit(p, torch.full((1, 2), torch.nan), device="cpu"), bt.InputError, "offsets must be finite"),
        (
            lambda p: gpu.profit(p, torch.zeros(2), device="cpu"),
            bt.InputError,
            r"offsets must have shape \(n_candidates, 2\), got \(2,\)",
        ),
        (
            lambda p: gpu.profit(p, [[0.0, 0.0]], device="cpu", dtype="float16"),
            bt.InputError,
            "dtype must be one of 'float64', 'float32'",
        ),
        (lambda p: gpu.profit(p, [[0.0, 0.0]], device="abacus"), bt.InputError, "device must be a torch device"),
        (lambda p: gpu.profit("p", [[0.0, 0.0]], device="cpu"), bt.InputError, "problem must be Levels or AlwaysOn, got str"),
        (lambda p: gpu.soft_profit(p, torch.zeros((1, 2)), 0.0), bt.InputError, "temperature must be > 0, got 0.0"),
        (lambda p: gpu.soft_profit(p, np.zeros((1, 2)), 0.1), bt.InputError, "offsets must be a float tensor"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(next(problems(n=5)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named():
    with pytest.raises(bt.BackendUnavailable, match="sees no CUDA device; pass device='cpu'"):
        gpu.profit(next(problems(n=5)), [[0.0, 0.0]])
