from typing import Any

LAYOUT: dict[str, int]

def measure(bars: Any, rf_per_bar: float, tables: Any) -> None: ...
def evaluate(bars: Any, tables: Any, candidates: Any, settings: Any, start: int, stop: int, sums: Any) -> None: ...
def replay(
    bars: Any,
    tables: Any,
    candidates: Any,
    settings: Any,
    row: int,
    sums: Any,
    ledger: Any,
    equity: Any,
    units: Any,
    unaffordable: Any,
) -> tuple[int, int, int]: ...
