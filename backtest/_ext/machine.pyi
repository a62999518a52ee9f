from typing import Any

LAYOUT: dict[str, Any]

def evaluate(bars: Any, program: Any, candidates: Any, settings: Any, start: int, stop: int, sums: Any, faults: Any) -> None: ...
def replay(
    bars: Any,
    program: Any,
    candidates: Any,
    settings: Any,
    row: int,
    sums: Any,
    faults: Any,
    ledger: Any,
    equity: Any,
    units: Any,
    carry: Any,
    orders: Any,
    levels: Any,
) -> tuple[int, int]: ...
