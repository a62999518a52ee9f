"""Level profits of many problems in one launch, as a Triton kernel.  Imported on use: it needs triton.

A. *One program, one block of candidates of one problem.*  It walks the problem's rows once and keeps the sums in registers; a
   tile of ``ROWS`` x ``CANDIDATES`` sums, added up at the end, lets few candidates on many rows fill a card as well.
B. *Longs first, then shorts* (``rows.py`` sorts them), so what a side means is known outside the loop.
C. *Clamps that cannot matter are left out.*  A level is within [-1, 1] (moves are, and a margin only moves it away), so an entry
   below a clamp of -1 or -10 fills as little as one at it, and an exit above 10 counts as little as one at 10.  The clamp of a
   short's exit at 1 stays: where a low is -1, the clamped exit counts.
D. *Predicates have the bits of the CPU kernel in float64*: they are sums and comparisons only.  Gains do not: a multiplication
   and an addition become one operation.
E. ``STEPS`` tiles are added up in the type of the rows, then the sums go on in float64: rounding of float32 stays that of a few
   dozen additions, however many rows there are.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# What is annotated is what Python calls; the kernels' arguments are typed by Triton.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from backtest.gpu.rows import DeviceRows

VERSION: str = triton.__version__


class Shape(NamedTuple):
    """How a launch is cut: a tile of sums, and the warps that share it."""

    candidates: int
    rows: int
    warps: int


#: Shapes by the most candidates that one problem has in a launch.
SHAPES = (Shape(16, 32, 2), Shape(64, 8, 2), Shape(512, 2, 4))
#: Tiles that are added up before float64 takes over.
STEPS = 32
#: Programs that keep a multiprocessor busy, and the rows under which a problem is not worth cutting.
PROGRAMS, LEAST_ROWS = 8, 1024


@triton.jit
def _leg(
    column,
    stride,
    begin,
    end,
    entry_offset,
    exit_offset,
    fee,
    total,
    LONG: tl.constexpr,
    CANDIDATES: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
):
    # From one column to the next a step at a time: five times the stride may be beyond 32 bits.
    exit_column = column + stride
    entry_levels = exit_column + stride
    exit_levels = entry_levels + stride
    closes = exit_levels + stride
    weights = closes + stride
    lane = tl.arange(0, ROWS)
    for outer in range(begin, end, ROWS * STEPS):
        part = tl.full([ROWS, CANDIDATES], 0.0, column.dtype.element_ty)
        for first in range(outer, tl.minimum(outer + ROWS * STEPS, end), ROWS):
            row = first + lane
            here = row < end
            entry_pred = tl.load(column + row, mask=here, other=0.0)
            exit_pred = tl.load(exit_column + row, mask=here, other=0.0)
            entry_level = tl.load(entry_levels + row, mask=here, other=0.0)
            exit_level = tl.load(exit_levels + row, mask=here, other=0.0)
            close = tl.load(closes + row, mask=here, other=0.0)
            weight = tl.load(weights + row, mask=here, other=0.0)
            entry = tl.minimum(entry_pred[:, None] + entry_offset[None, :], 0.0)
            exit_ = tl.maximum(exit_pred[:, None] + exit_offset[None, :], 0.0)
            if not LONG:
                exit_ = tl.minimum(exit_, 1.0)
            left = tl.where(exit_ <= exit_level[:, None], exit_, close[:, None])
            held = tl.where(entry > entry_level[:, None], weight[:, None], 0.0)
            part += held * ((left - entry) - fee)
        total += tl.sum(part, 0).to(tl.float64)
    return total


# Lengths change from launch to launch: a kernel compiled anew for every kind of number would cost more than it scores.
@triton.jit(do_not_specialize=["stride", "n_jobs", "n_out"])
def _profit(
    column,
    stride,
    edges,
    fees,
    jobs,
    n_jobs,
    points,
    out,
    n_out,
    CANDIDATES: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
):
    job = tl.program_id(0)
    part = tl.program_id(1).to(tl.int64)
    n_parts = tl.num_programs(1)
    problem = tl.load(jobs + job)
    at = tl.load(jobs + n_jobs + job)
    to = tl.load(jobs + 2 * n_jobs + job)
    lane = tl.arange(0, CANDIDATES)
    here = lane < tl.load(jobs + 3 * n_jobs + job)
    high = tl.load(points + 2 * (at + lane), mask=here, other=0.0).to(column.dtype.element_ty)
    low = tl.load(points + 2 * (at + lane) + 1, mask=here, other=0.0).to(column.dtype.element_ty)
    fee = tl.load(fees + problem)
    begin = tl.load(edges + 2 * problem)
    middle = tl.load(edges + 2 * problem + 1)
    end = tl.load(edges + 2 * problem + 2)
    total = tl.full([CANDIDATES], 0.0, tl.float64)
    n_long = middle - begin
    n_short = end - middle
    total = _leg(
        column,
        stride,
        begin + n_long * part // n_parts,
        begin + n_long * (part + 1) // n_parts,
        low,
        high,
        fee,
        total,
        True,
        CANDIDATES,
        ROWS,
        STEPS,
    )
    total = _leg(
        column,
        stride,
        middle + n_short * part // n_parts,
        middle + n_short * (part + 1) // n_parts,
        -high,
        -low,
        fee,
        total,
        False,
        CANDIDATES,
        ROWS,
        STEPS,
    )
    tl.store(out + part * n_out + to + lane, total, mask=here)


#: TRITON_INTERPRET=1 was set when triton was imported: kernels run as Python, on tensors of a CPU too.
INTERPRETED: bool = not isinstance(_profit, triton.runtime.JITFunction)


def shape_for(most: int) -> Shape:
    """The shape of a launch in which no problem has more than ``most`` candidates."""
    return next((shape for shape in SHAPES if most <= shape.candidates), SHAPES[-1])


def score(torch: Any, problems: DeviceRows, jobs: NDArray[np.int64], points: Any, n_out: int) -> Any:
    """Profits of the jobs, in one launch.

    Parameters
    ----------
    jobs : int64 (4, n_jobs)
        Problem, first point, place of its first profit, how many.
    points : float64 (n_points, 2)
        An array here, or a tensor on the device.
    """
    shape = shape_for(int(jobs[3].max()))
    blocks = _blocks(jobs, shape.candidates)
    if isinstance(points, np.ndarray):  # one transfer takes both, each aligned to 16 bytes
        both = torch.from_numpy(np.concatenate([blocks.ravel().view(np.float64), points.ravel()])).to(problems.device)
        todo, points = both[: blocks.size].view(torch.int64), both[blocks.size :]
    else:
        todo = torch.from_numpy(blocks.ravel()).to(problems.device)
    n_blocks = blocks.shape[1]
    wanted = -(-PROGRAMS * problems.multiprocessors // n_blocks)
    parts = max(1, min(wanted, problems.most_rows // LEAST_ROWS))
    out = torch.empty((parts, n_out), dtype=torch.float64, device=problems.device)
    _profit[n_blocks, parts](
        problems.columns,
        problems.columns.shape[1],
        problems.device_edges,
        problems.fees,
        todo,
        n_blocks,
        points,
        out,
        n_out,
        CANDIDATES=shape.candidates,
        ROWS=shape.rows,
        STEPS=STEPS,
        num_warps=shape.warps,
    )
    return out[0] if parts == 1 else out.sum(0)


def _blocks(jobs: NDArray[np.int64], candidates: int) -> NDArray[np.int64]:
    """The jobs cut into blocks of so many candidates."""
    count = jobs[3]
    pieces = -(-count // candidates)
    before = np.repeat(np.cumsum(pieces) - pieces, pieces)
    shift = candidates * (np.arange(len(before)) - before)
    blocks = np.repeat(jobs, pieces, axis=1)
    blocks[1:3] += shift
    blocks[3] = np.minimum(blocks[3] - shift, candidates)
    return blocks
