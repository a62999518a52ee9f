"""Many problems of levels on one device: copied once, scored as often as you like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import BackendUnavailable, InputError, each_window, matrix
from backtest.gpu import devices, plain
from backtest.gpu.rows import rows_of, stack_rows, to_device

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

#: Profits of one launch at most, and those below which a launch is not cut for lack of memory.
MOST, LEAST = 1 << 27, 1 << 10
#: Bytes that a profit takes on a card beside the rows: its point, its value, the value's parts.
BYTES_EACH = 64


class Problems:
    """Problems of levels on a device, scored in one launch whatever their number and lengths.

    Parameters
    ----------
    problems : iterable of Levels or AlwaysOn
        They are copied to the device once.
    device : str or torch.device
        ``cuda``, ``cuda:1``, ``cpu``.
    dtype : {"float64", "float32"}
        float64 is within 1e-12 of the sum of absolute terms.  float32 is within 1e-6 of the amounts that terms are differences
        of (entry, exit and fee of what fills), where no forecast plus offset lies within 1e-6 of the level it is compared with;
        score winners again with :meth:`backtest.Levels.profit`.
    path : {"auto", "fused", "torch"}
        How profits are made.  ``auto``: by the fused kernel on a CUDA device where triton is installed, else by plain torch
        operations.  The others ask for one way; one that cannot be had is an error.

    Raises
    ------
    BackendUnavailable
        torch is not installed, it sees no such device, or ``path="fused"`` cannot be had.
    InputError
        No problem, device, dtype or path of that name, or more rows than the device holds.
    """

    def __init__(
        self, problems: Iterable[Any], device: str | torch.device = "cuda", dtype: str = "float64", *, path: str = "auto"
    ) -> None:
        self._torch = torch = devices.load()
        self.device = devices.check(device, dtype)
        self.path, self.reason = devices.chosen(self.device, path)
        self.dtype = dtype
        self._problems = list(problems)
        stacked = stack_rows([rows_of(each) for each in self._problems])
        n_rows, fits = stacked.columns.shape[1], devices.rows_that_fit(self.device, dtype)
        if n_rows > fits:
            raise InputError(
                f"problems must fit into the memory of {self.device}: {n_rows} rows of {dtype}, room for {fits}; "
                f"pass fewer problems at once{' or dtype=float32' if dtype == 'float64' else ''}"
            )
        self._rows = to_device(torch, stacked, self.device, dtype)

    def __len__(self) -> int:
        return len(self._rows.edges) // 2

    def __repr__(self) -> str:
        return (
            f"<Problems: {len(self)} with {int(self._rows.edges[-1])} rows on {self.device}, {self.dtype}, {self.path} "
            f"({self.reason})>"
        )

    def profit(self, offsets: ArrayLike | torch.Tensor) -> Any:
        """Profit of each candidate for each problem.

        Parameters
        ----------
        offsets : array_like or Tensor, shape (n_candidates, 2)
            Columns high and low, the same for all problems.

        Returns
        -------
        ndarray or Tensor, shape (n_problems, n_candidates)
            An array for an array; for a tensor a tensor of the problems' dtype that stays on the device.

        Raises
        ------
        InputError
            Offsets are not finite or of another shape.
        """
        points = self._points(offsets)
        n, m = len(self), len(points)
        owner = np.arange(n if m else 0, dtype=np.int64)
        jobs = np.stack([owner, 0 * owner, m * owner, 0 * owner + m])
        return self._scored(points, jobs, n * m).reshape(n, m)

    @property
    def columns(self) -> list[str]:
        """Names of the scores' columns, one for each problem."""
        return ["profit"] if len(self) == 1 else [f"profit@{problem}" for problem in range(len(self))]

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Profit of each candidate for each problem; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, 2)
            Columns high and low.
        window : slice or sequence of slices, optional
            Count these bars of each problem only; their rows are copied to the device for this call.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_problems), or (n_windows, n_candidates, n_problems)
        """
        batch, windows = matrix("batch", batch, shape=(None, 2)), each_window(window)
        scores = np.empty((len(windows), len(batch), len(self)))
        for each, out in zip(windows, scores, strict=True):
            out[:] = (self if each is None else self._in_window(each)).profit(batch).T
        return scores if isinstance(window, (list, tuple)) else scores[0]

    def _in_window(self, window: slice) -> Problems:
        rows = [rows_of(each, window) for each in self._problems]
        return Problems(rows, self.device, self.dtype, path=self.path)

    def ragged(self, points: ArrayLike | torch.Tensor, first: ArrayLike) -> Any:
        """Profit of each problem's own candidates.

        Parameters
        ----------
        points : array_like or Tensor, shape (n_points, 2)
            Columns high and low, one problem's after the other's.
        first : array_like of int, shape (n_problems + 1,)
            Problem ``i`` has points ``first[i]`` to ``first[i + 1]``, perhaps none.

        Returns
        -------
        ndarray or Tensor, shape (n_points,)
        """
        batch = self._points(points)
        edges = np.asarray(first)
        if edges.dtype.kind not in "iu" or edges.shape != (len(self) + 1,):
            raise InputError(f"first must hold {len(self) + 1} whole numbers, got dtype {edges.dtype} and shape {edges.shape}")
        edges = edges.astype(np.int64)
        if edges[0] != 0 or edges[-1] != len(batch) or (np.diff(edges) < 0).any():
            raise InputError(f"first must rise from 0 to the number of points, {len(batch)}, got {edges.tolist()[:10]}")
        count = np.diff(edges)
        owner = np.nonzero(count)[0]
        return self._scored(batch, np.stack([owner, edges[owner], edges[owner], count[owner]]), len(batch))

    def _points(self, offsets: Any) -> Any:
        torch = self._torch
        if not isinstance(offsets, torch.Tensor):
            return matrix("offsets", offsets, shape=(None, 2))
        if offsets.ndim != 2 or offsets.shape[1] != 2:
            raise InputError(f"offsets must have shape (n_candidates, 2), got {tuple(offsets.shape)}")
        batch = offsets.detach().to(device=self.device, dtype=torch.float64).contiguous()
        if not bool(torch.isfinite(batch).all()):
            raise InputError("offsets must be finite, got a tensor with NaN or infinity")
        return batch

    def _scored(self, points: Any, jobs: Wholes, n_out: int) -> Any:
        """Profits of the jobs, in as many launches as memory asks for; an out-of-memory error halves the next launch."""
        torch = self._torch
        is_array = isinstance(points, np.ndarray)
        out = np.empty(n_out) if is_array else torch.empty(n_out, dtype=self._rows.columns.dtype, device=self.device)
        step, start = self._step(), 0
        while start < n_out:
            stop = min(start + step, n_out)
            try:
                with torch.no_grad():
                    part = self._launch(points, jobs, start, stop)
                    out[start:stop] = part.cpu().numpy() if is_array else part
            except torch.cuda.OutOfMemoryError as error:
                if stop - start <= LEAST:
                    raise InputError(
                        f"problems must leave room for profits in the memory of {self.device}: {stop - start} of "
                        f"them do not fit; pass fewer problems at once, or free memory ({error})"
                    ) from error
                step = max(LEAST, (stop - start) // 2)
                continue
            start = stop
        return out

    def _step(self) -> int:
        if self.device.type == "cpu":
            return MOST
        return max(LEAST, min(MOST, int(devices.SHARE * devices.free_bytes(self.device)) // BYTES_EACH))

    def _launch(self, points: Any, jobs: Wholes, start: int, stop: int) -> Any:
        """Profits ``start`` to ``stop``."""
        torch = self._torch
        first, last = np.searchsorted(jobs[2] + jobs[3], start, side="right"), np.searchsorted(jobs[2], stop, side="left")
        owner, at, to, count = jobs[:, first:last]
        begin, end = np.maximum(to, start), np.minimum(to + count, stop)
        at = at + (begin - to)
        lowest, highest = int(at.min()), int((at + end - begin).max())
        cut = np.stack([owner, at - lowest, begin - start, end - begin])
        points = points[lowest:highest]
        if self.path == "torch":
            if isinstance(points, np.ndarray):
                points = torch.from_numpy(points if points.flags.writeable else points.copy()).to(self.device)
            out = torch.empty(stop - start, dtype=torch.float64, device=self.device)
            plain.score(torch, self._rows, cut, points, out)
            return out
        from backtest.gpu import fused

        try:
            with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
                return fused.score(torch, self._rows, cut, points, stop - start)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            raise BackendUnavailable(
                f"the fused kernel did not run on {self.device}: {type(error).__name__}: {error}; "
                "to do without it, pass path='torch' to gpu.Problems or gpu.profit, or uninstall triton"
            ) from error


def profit(
    problem: Any,
    offsets: ArrayLike | torch.Tensor,
    device: str | torch.device = "cuda",
    dtype: str = "float64",
    *,
    path: str = "auto",
) -> Any:
    """Profit of each candidate, on a device.

    Parameters
    ----------
    problem : Levels or AlwaysOn
        For several, or for several batches, :class:`Problems` copies the rows once.
    offsets : array_like or Tensor, shape (n_candidates, 2)
        Columns high and low.
    device, dtype, path
        As in :class:`Problems`.

    Returns
    -------
    ndarray or Tensor, shape (n_candidates,)
        An array for an array, is_array back in one transfer; for a tensor a tensor that stays on the device.

    Raises
    ------
    BackendUnavailable
        torch is not installed, it sees no such device, or ``path="fused"`` cannot be had.
    InputError
        Offsets are not finite or of another shape, an unknown dtype or path.
    """
    return Problems([problem], device, dtype, path=path).profit(offsets)[0]
