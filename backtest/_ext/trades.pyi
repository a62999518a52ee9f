from typing import Any

LAYOUT: dict[str, int]

def track(
    ledger: Any,
    open: Any,
    high: Any,
    low: Any,
    close: Any,
    borrow_per_bar: float,
    carry: Any,
    multiplier: float,
    last: int,
    positions: Any,
    trades: Any,
) -> int: ...
def summarise(trades: Any, times: Any, sums: Any) -> None: ...
