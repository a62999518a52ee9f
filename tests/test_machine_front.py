"""The front end of the bar machine: each construct of a strategy's function as a program, against the function itself."""

from pathlib import Path

import numpy as np
from machine_front import check

import backtest as bt
from backtest import lines
from backtest.machine.program import FIELDS

FAST, SLOW, ATR = lines.sma(lines.close, bt.param("fast")), lines.sma(lines.close, bt.param("slow")), lines.atr(14)
THRESHOLD, COUNT, IS_ON, HALF = 1.5, 3, True, np.float64(0.5)


class Settings:
    """Constants of a class."""

    LIMIT = 2.0


@bt.on_bar(fast=FAST, slow=SLOW, atr=ATR, state={"mark": 0.0})
def trend(bar, account, state, p):
    """SMA trend with a cooldown after a stop, up to three units, half out at +2 ATR."""
    if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
        return
    if account.is_flat:
        if bar.fast > bar.slow:
            account.buy(share=p.risk / (bar.atr / bar.close), stop_loss=bar.close - 3.0 * bar.atr)
            state.mark = bar.close
    elif account.n_entries < 3 and bar.close > state.mark + bar.atr:
        account.buy(share=p.risk, limit=bar.close - 0.5 * bar.atr, valid_bars=3)
        state.mark = bar.close
    else:
        account.move_stop_loss(max(account.stop_loss, bar.close - 3.0 * bar.atr))
        account.sell(share_of_position=0.5, limit=account.entry_price + 2.0 * bar.atr, once=True)


def test_the_trend():
    check(trend, n=400)
    program = trend.program()
    assert trend.params == dict.fromkeys(("fast", "slow", "cooldown", "risk"), bt.expr.REQUIRED)
    assert trend.value_names == ("cooldown", "risk")
    assert [repr(each) for each in trend.line_nodes] == ["sma(close, slow)", "sma(close, fast)", "atr(14)", "close"]
    assert trend.state_names == ("mark",)
    assert program.n_slots == 3
    assert program.actions["slot"].tolist() == [0, 1, -1, 2]
    assert program.fields_used == sum(
        1 << FIELDS.index(name)
        for name in ("entry_price", "n_entries", "stop_loss", "last_exit_reason", "last_exit_bar", "index")
    )
    assert [call.text.split("(")[0] for call in trend.calls] == [
        "account.buy",
        "account.buy",
        "account.move_stop_loss",
        "account.sell",
    ]
    assert {(call.function, call.file) for call in trend.calls} == {("trend", __file__)}
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert all(call.text == source[call.line - 1].strip() for call in trend.calls)
    assert program.actions["line"].tolist() == [call.line for call in trend.calls]
