from typing import Any

def evaluate(prices: Any, targets: Any, settings: Any, start: int, stop: int, sums: Any) -> None: ...
def replay(
    prices: Any,
    targets: Any,
    settings: Any,
    row: int,
    sums: Any,
    trade_sums: Any,
    account: Any,
    waiting: Any,
    units: Any,
    ledger: Any,
) -> tuple[int, int]: ...
def are_prices(values: Any, least: float, most: float) -> bool: ...
def find_events(weights: Any, bars: Any, max_gross: float) -> tuple[int, int, int]: ...
