"""Level profits on torch tensors, on a CPU or a GPU (extra ``torch``, imported on use).

For batches of hundreds of thousands of candidates on an accelerator, and for gradients.  On a CPU the compiled kernel of
:meth:`backtest.Levels.profit` is far faster, and it alone is exact to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import BackendUnavailable, InputError, choice, matrix, number
from backtest._said import shown
from backtest.levels import AlwaysOn, Levels
from backtest.levels import rows as layout

if TYPE_CHECKING:
    import torch

#: Bytes of one intermediate matrix (rows x candidates): on a CPU what its caches hold, on a GPU what keeps it busy.
CPU_CHUNK = 1 << 21
GPU_CHUNK = 1 << 28
#: Intermediate matrices alive at once, and the share of a GPU's free memory they may take.
MATRICES = 6
GPU_SHARE = 0.5

DTYPES = ("float64", "float32")


def profit(problem: Levels | AlwaysOn, offsets: ArrayLike | torch.Tensor, device: str | torch.device = "cuda",
           dtype: str = "float64") -> Any:
    """Profit of each candidate, computed by torch.

    Parameters
    ----------
    problem : Levels or AlwaysOn
    offsets : array_like or Tensor, shape (n_candidates, 2)
        Columns high and low.
    device : str or torch.device
        ``cuda``, ``cuda:1``, ``cpu``.
    dtype : {"float64", "float32"}
        float64 is within 1e-12 of the sum of absolute terms.  float32 is within 1e-5 of it where no forecast plus offset
        lies within 1e-6 of the level it is compared with; score winners again with :meth:`backtest.Levels.profit`.

    Returns
    -------
    ndarray or Tensor, shape (n_candidates,)
        An array for an array, brought back in one transfer; for a tensor a tensor that stays on the device.

    Raises
    ------
    BackendUnavailable
        torch is not installed, or it sees no such device.
    InputError
        Offsets are not finite or of another shape, an unknown dtype.
    """
    torch = _torch()
    _problem(problem)
    kind = getattr(torch, choice("dtype", dtype, DTYPES))
    where = _device(torch, device)
    is_tensor = isinstance(offsets, torch.Tensor)
    batch = _offsets(torch, offsets, where, kind)
    rows = torch.as_tensor(np.array(problem._rows), dtype=kind, device=where)
    out = torch.empty(len(batch), dtype=kind, device=where)
    step = _chunk(torch, where, len(rows), out.element_size())
    with torch.no_grad():
        for start in range(0, len(batch), step):
            terms = _Terms(torch, rows, batch[start : start + step], problem._pessimistic)
            out[start : start + step] = terms.hard(problem.fee_rate)
    return out if is_tensor else out.cpu().numpy().astype(np.float64)


def soft_profit(problem: Levels | AlwaysOn, offsets: torch.Tensor, temperature: float) -> Any:
    """A differentiable stand-in for the profit, for use inside a loss.

    Every fill becomes a probability: the logistic function of how far a price was beyond its level, over
    ``temperature``.  As the temperature goes to 0 this goes to the profit wherever no price equals its level.

    **Soft fills look ahead**: a bar counts a little even where its order never filled, by how near it came, which
    nobody knows while the order stands.  Use it to find a direction; what decides is the profit with hard fills,
    :meth:`backtest.Levels.profit`.

    Parameters
    ----------
    problem : Levels or AlwaysOn
    offsets : Tensor, shape (n_candidates, 2)
        Columns high and low; its dtype and device are used, gradients flow to it.
    temperature : float
        In the unit of the moves, > 0; 0.001 blurs fills by about 0.1 %.

    Returns
    -------
    Tensor, shape (n_candidates,)
    """
    torch = _torch()
    _problem(problem)
    width = number("temperature", temperature, low=0.0, open_low=True)
    if not isinstance(offsets, torch.Tensor) or not offsets.is_floating_point() or offsets.ndim != 2 or offsets.shape[1] != 2:
        raise InputError(f"offsets must be a float tensor of shape (n_candidates, 2), got "
                         f"{tuple(offsets.shape) if isinstance(offsets, torch.Tensor) else type(offsets).__name__}")
    rows = torch.as_tensor(np.array(problem._rows), dtype=offsets.dtype, device=offsets.device)
    return _Terms(torch, rows, offsets, problem._pessimistic).soft(problem.fee_rate, width)


class _Terms:
    """Entry and limit exit of every row (down) for every candidate (across), as the kernel has them."""

    def __init__(self, torch: Any, rows: Any, batch: Any, pessimistic: int) -> None:
        self.torch = torch
        column = rows.T[:, :, None]  # (8, n_rows, 1)
        high, low = batch[:, 0][None, :], batch[:, 1][None, :]
        is_long = column[layout.SIDE] > 0.0
        floor, cap = torch.where(is_long, -1.0, -10.0).to(rows.dtype), torch.where(is_long, 10.0, 1.0).to(rows.dtype)
        zero = torch.zeros((), dtype=rows.dtype, device=rows.device)
        self.entry = torch.minimum(torch.maximum(column[layout.ENTRY_PRED] + torch.where(is_long, low, -high), floor), zero)
        self.exit = torch.minimum(torch.maximum(column[layout.EXIT_PRED] + torch.where(is_long, high, -low), zero), cap)
        self.entry_level, self.close, self.weight = column[layout.ENTRY_LEVEL], column[layout.CLOSE], column[layout.WEIGHT]
        self.exit_level = column[layout.PESSIMISTIC_LEVEL if pessimistic else layout.OPTIMISTIC_LEVEL]

    def hard(self, fee_rate: float) -> Any:
        torch = self.torch
        left = torch.where(self.exit <= self.exit_level, self.exit, self.close)
        gain = self.weight * ((left - self.entry) - fee_rate)
        return torch.where(self.entry > self.entry_level, gain, torch.zeros_like(gain)).sum(0)

    def soft(self, fee_rate: float, width: float) -> Any:
        sigmoid = self.torch.sigmoid
        fills, exits = sigmoid((self.entry - self.entry_level) / width), sigmoid((self.exit_level - self.exit) / width)
        left = exits * self.exit + (1.0 - exits) * self.close
        return (self.weight * fills * ((left - self.entry) - fee_rate)).sum(0)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(f"torch is not installed ({error}); pip install 'backtest-kernels[torch]'") from error
    return torch


def _problem(problem: Any) -> None:
    if not isinstance(problem, (Levels, AlwaysOn)):
        raise InputError(f"problem must be Levels or AlwaysOn, got {type(problem).__name__}")


def _device(torch: Any, device: Any) -> Any:
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device must be a torch device such as 'cpu' or 'cuda', got {shown(device)}: {error}") from None
    if where.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            f"device {shown(device)} is not there: torch {torch.__version__} sees no CUDA device; pass device='cpu'"
        )
    return where


def _offsets(torch: Any, offsets: Any, where: Any, kind: Any) -> Any:
    if not isinstance(offsets, torch.Tensor):
        checked: NDArray[np.float64] = matrix("offsets", offsets, shape=(None, 2))
        return torch.as_tensor(checked, dtype=kind, device=where)
    if offsets.ndim != 2 or offsets.shape[1] != 2:
        raise InputError(f"offsets must have shape (n_candidates, 2), got {tuple(offsets.shape)}")
    batch = offsets.detach().to(device=where, dtype=kind)
    if not bool(torch.isfinite(batch).all()):
        raise InputError("offsets must be finite, got a tensor with NaN or infinity")
    return batch


def _chunk(torch: Any, where: Any, n_rows: int, item: int) -> int:
    """Candidates a pass, so that the intermediate matrices fit."""
    room = CPU_CHUNK
    if where.type == "cuda":
        free, _ = torch.cuda.mem_get_info(where)
        room = min(GPU_CHUNK, int(free * GPU_SHARE / MATRICES))
    return max(1, room // (max(n_rows, 1) * item))
