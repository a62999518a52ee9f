"""Which device, which of the two ways to score on it, and how much fits."""

from __future__ import annotations

from typing import Any, NamedTuple

from backtest._checks import BackendUnavailable, InputError, choice
from backtest._said import shown
from backtest.gpu.rows import DEVICE_COLUMNS

DTYPES = ("float64", "float32")
PATHS = ("auto", "fused", "torch")
#: Share of a card's free memory that rows, and that one launch, may each take.
SHARE = 0.4
NO_TORCH = "pip install 'backtest-kernels[gpu]'"


class Path(NamedTuple):
    """How profits are made on a device, and why so."""

    name: str  # "fused" or "torch"
    reason: str


def load() -> Any:
    """Torch, or an error that says how to get it."""
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(f"torch is not installed ({error}); {NO_TORCH}") from error
    return torch


def check(device: Any, dtype: str) -> Any:
    """The torch device, if it is there and the names are known."""
    choice("dtype", dtype, DTYPES)
    torch = load()
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {shown(device)}: {error}") from None
    if where.type not in ("cpu", "cuda"):
        raise InputError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {shown(device)}")
    if where.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            f"device {shown(device)} is not there: torch {torch.__version__} sees no CUDA device; pass device='cpu'"
        )
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if where.index is None else where.index
    if index >= count:
        raise BackendUnavailable(
            f"device {shown(device)} is not there: torch {torch.__version__} sees {count} CUDA "
            f"device{'s' * (count != 1)}; pass device='cuda:0'"
        )
    return torch.device("cuda", index)


def chosen(where: Any, path: str) -> Path:
    """How profits are made on a device; ``path`` is ``auto``, or asks for one way: ``fused``, ``torch``."""
    if not isinstance(path, str) or path not in PATHS:
        raise InputError(f"path must be one of {', '.join(PATHS)}, got {shown(path)}")
    if path == "torch":
        return Path("torch", "asked for by path='torch'")
    if path == "auto" and where.type == "cpu":
        return Path("torch", "a CPU; Levels.profit is faster here, and exact")
    try:
        from backtest.gpu import fused
    except ImportError as error:
        why = f"triton is not installed ({error}); {NO_TORCH}"
        if path == "fused":
            raise BackendUnavailable(f"path='fused', but {why}") from error
        return Path("torch", why)
    if where.type == "cpu" and not fused.INTERPRETED:
        raise BackendUnavailable(
            "path='fused' needs a CUDA device, or TRITON_INTERPRET=1 from the start of the process, which "
            "is for tests; leave out path"
        )
    return Path("fused", f"triton {fused.VERSION}{', interpreted: for tests only' if fused.INTERPRETED else ''}")


def free_bytes(where: Any) -> int:
    """Memory that is free on a card, what torch holds for later included."""
    torch = load()
    free = int(torch.cuda.mem_get_info(where)[0])
    return free + int(torch.cuda.memory_reserved(where)) - int(torch.cuda.memory_allocated(where))


def rows_that_fit(device: Any, dtype: str) -> int:
    """Rows of problems that may lie on the device at once."""
    where = check(device, dtype)
    if where.type == "cpu":
        return 1 << 62
    return max(1, int(SHARE * free_bytes(where)) // (len(DEVICE_COLUMNS) * (8 if dtype == "float64" else 4)))


def report(device: Any = None, *, path: str = "auto") -> str:
    """Which way to score runs on a device, and why, in one line.

    Parameters
    ----------
    device : str or torch.device, optional
        By default the first CUDA device if there is one, else the CPU.
    path : {"auto", "fused", "torch"}
        As in :class:`Problems`.

    Returns
    -------
    str
        For example ``cuda:0 (NVIDIA H100, 79.1 GiB): fused kernel (triton 3.7.1)``, or
        ``cpu: plain torch operations (...)``, or that torch is not installed.

    Raises
    ------
    BackendUnavailable, InputError
        A device that was named is not there, or is none; ``path`` is unknown, or cannot be had.
    """
    try:
        torch = load()
    except BackendUnavailable as error:
        if device is not None:
            raise
        return f"none: {error}"
    seen = torch.cuda.is_available()
    where = check(("cuda" if seen else "cpu") if device is None else device, DTYPES[0])
    name, reason = chosen(where, path)
    if where.type == "cuda":
        properties = torch.cuda.get_device_properties(where)
        title = f"{where} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)"
    else:
        title = "cpu"
        reason += "" if seen else f"; torch {torch.__version__} sees no CUDA device"
    return f"{title}: {'fused kernel' if name == 'fused' else 'plain torch operations'} ({reason})"
