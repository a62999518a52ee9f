"""Level profits as plain torch operations: about six passes over rows x candidates, so bound by memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from backtest.gpu.rows import DeviceRows

#: Bytes of one intermediate matrix (rows x candidates): on a CPU what its caches hold, on a GPU what keeps it busy.
CPU_CHUNK = 1 << 21
GPU_CHUNK = 1 << 28
#: Candidates of one problem side by side, and intermediate matrices alive at once.
WIDTH = 4096
MATRICES = 6


class Terms:
    """Entry and limit exit of every row (down) for every candidate (across), as the kernel has them.

    ``columns`` are ``rows.DEVICE_COLUMNS``, each (n_rows, 1) as ``is_long`` is; ``high`` and ``low`` (1 or n_rows, n_candidates).
    """

    def __init__(self, torch: Any, columns: Any, is_long: Any, high: Any, low: Any) -> None:
        self.torch = torch
        entry_pred, exit_pred, self.entry_level, self.exit_level, self.close, self.weight = columns
        zero = torch.zeros((), dtype=entry_pred.dtype, device=entry_pred.device)
        floor, cap = torch.where(is_long, zero - 1.0, zero - 10.0), torch.where(is_long, zero + 10.0, zero + 1.0)
        self.entry = torch.minimum(torch.maximum(entry_pred + torch.where(is_long, low, -high), floor), zero)
        self.exit = torch.minimum(torch.maximum(exit_pred + torch.where(is_long, high, -low), zero), cap)

    def hard(self, fee_rate: Any) -> Any:
        """Profit of every row for every candidate."""
        torch = self.torch
        left = torch.where(self.exit <= self.exit_level, self.exit, self.close)
        gain = self.weight * ((left - self.entry) - fee_rate)
        return torch.where(self.entry > self.entry_level, gain, torch.zeros_like(gain))

    def soft(self, fee_rate: float, width: float) -> Any:
        """The same with fills as probabilities, summed over the rows."""
        sigmoid = self.torch.sigmoid
        fills, exits = sigmoid((self.entry - self.entry_level) / width), sigmoid((self.exit_level - self.exit) / width)
        left = exits * self.exit + (1.0 - exits) * self.close
        return (self.weight * fills * ((left - self.entry) - fee_rate)).sum(0)


def score(torch: Any, problems: DeviceRows, jobs: NDArray[np.int64], points: Any, out: Any) -> None:
    """Fill ``out``; ``jobs`` are one a problem at most."""
    owner, at, to, count = jobs
    where, item = problems.device, problems.columns.element_size()
    room = CPU_CHUNK if where.type == "cpu" else GPU_CHUNK
    begins, ends = problems.edges[2 * owner], problems.edges[2 * owner + 2]
    edges = np.concatenate([[0], np.cumsum(ends - begins)])  # of the jobs' rows, one job after the other
    owners = torch.from_numpy(owner).to(where)
    for left in range(0, int(count.max()), WIDTH):
        width = min(WIDTH, int(count.max()) - left)
        lane = np.minimum(left + np.arange(width), count[:, None] - 1)  # idle lanes repeat the last candidate
        batch = points[torch.from_numpy(at[:, None] + lane).to(where)].to(problems.columns.dtype)  # (n_jobs, width, 2)
        total = torch.zeros((len(owner), width), dtype=torch.float64, device=where)
        step = max(1, room // (width * item))
        for start in range(0, int(edges[-1]), step):
            stop = min(start + step, int(edges[-1]))
            first, last = np.searchsorted(edges, [start, stop], side="right") - [1, 0]  # jobs that have rows here
            last = min(int(last), len(owner))
            sizes = np.diff(np.clip(edges[first : last + 1], start, stop))
            row = np.arange(start, stop) + np.repeat(begins[first:last] - edges[first:last], sizes)
            rows, lengths = torch.from_numpy(row).to(where), torch.from_numpy(sizes).to(where)
            job = torch.repeat_interleave(torch.arange(int(first), last, device=where), lengths)
            offsets = batch[job] if len(owner) > 1 else batch
            terms = Terms(torch, problems.columns[:, rows, None], problems.is_long[rows, None], offsets[..., 0], offsets[..., 1])
            gains = terms.hard(problems.fees[owners[job]][:, None]).to(torch.float64)  # or sums of many rows would drift
            total[first:last] += torch.segment_reduce(gains, "sum", lengths=lengths, axis=0, unsafe=True)
        kept = left + np.arange(width) < count[:, None]
        out[torch.from_numpy((to[:, None] + lane)[kept]).to(where)] = total[torch.from_numpy(kept).to(where)]
