"""A differentiable stand-in for the profit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backtest._checks import InputError, number
from backtest.gpu import devices, plain
from backtest.gpu.rows import rows_of, stack_rows

if TYPE_CHECKING:
    import torch


def soft_profit(problem: Any, offsets: torch.Tensor, temperature: float) -> Any:
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
    torch = devices.load()
    rows = rows_of(problem)
    width = number("temperature", temperature, low=0.0, open_low=True)
    if not isinstance(offsets, torch.Tensor) or not offsets.is_floating_point() or offsets.ndim != 2 or offsets.shape[1] != 2:
        raise InputError(
            f"offsets must be a float tensor of shape (n_candidates, 2), got "
            f"{tuple(offsets.shape) if isinstance(offsets, torch.Tensor) else type(offsets).__name__}"
        )
    stacked = stack_rows([rows])
    columns = torch.as_tensor(stacked.columns, dtype=offsets.dtype, device=offsets.device)[:, :, None]
    is_long = torch.as_tensor(stacked.is_long, device=offsets.device)[:, None]
    terms = plain.Terms(torch, columns, is_long, offsets[:, 0][None, :], offsets[:, 1][None, :])
    return terms.soft(rows.fee_rate, width)
