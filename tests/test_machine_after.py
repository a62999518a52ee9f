"""``run.pending`` and ``bt.explain`` of functions with ``bt.on_bar``: what they would do next, and why they traded or did not."""

import math

import numpy as np
import pandas as pd
import pytest

import backtest as bt

QUIET = (100, 101, 99, 100)
FREE = bt.Costs.zero()


def flat(*rows):
    """Bars from rows of (open, high, low, close)."""
    columns = np.array(rows, dtype=float).T
    index = pd.bdate_range("2024-01-01", periods=len(rows))
    return bt.Bars(open=columns[0], high=columns[1], low=columns[2], close=columns[3], index=index)


def replay(bars, strategy, **execution):
    return bt.run(bars, strategy, costs=FREE, execution=bt.Execution(periods_per_year=252.0, start_cash=1000.0, **execution))


@bt.on_bar()
def rests(bar, account, state, p):
    """Every kind of order, none of which fills on quiet bars."""
    if bar.index == 1:
        account.buy(units=3.0, limit=90.0, valid_bars=5, stop_loss=80.0, take_profit=bt.above_entry(0.5))
        account.sell(share=0.25, stop=80.0, trailing_stop=bt.distance(7.0))
        account.buy(value=200.0, stop=120.0, limit=125.0)


@bt.on_bar()
def holds(bar, account, state, p):
    """A position, orders that reduce it, one that reverses it, and levels."""
    if bar.index == 0:
        account.buy(units=4.0, stop_loss=90.0, take_profit=120.0, trailing_stop=0.05)
    if bar.index == 2:
        account.sell(share_of_position=0.5, limit=110.0)
        account.sell(units=1.0, limit=112.0, reduce_only=True)
        account.sell(value=300.0, limit=115.0)
        account.move_stop_loss(93.0)
        account.move_take_profit(120.5)


@bt.on_bar()
def leaves(bar, account, state, p):
    if bar.index == 0:
        account.buy(units=4.0)
    if bar.index == 2:
        account.close()


@bt.on_bar()
def takes_parts(bar, account, state, p):
    if bar.index == 0:
        account.buy(units=4.0)
    if account.is_long:
        account.move_take_profit(120.0, share=0.5)


@pytest.mark.usefixtures("backend")
class TestPending:
    def test_orders_that_rest(self):
        table = replay(flat(*[QUIET] * 4), rests).pending
        columns = ["kind", "side", "reason", "size", "size_kind"]
        assert table[columns].to_numpy().tolist() == [
            ["limit", "buy", "entry", 3.0, "units"],
            ["stop", "sell", "entry", 0.25, "share"],
            ["stop_limit", "buy", "entry", 200.0, "value"],
        ]
        assert table["limit"].tolist()[::2] == [90.0, 125.0]
        assert table["stop"].tolist()[1:] == [80.0, 120.0]
        assert math.isnan(table["limit"][1])
        assert table["valid_until"].tolist()[0] == 6.0
        assert table["valid_until"].isna().tolist() == [False, True, True]
        assert table.loc[0, ["stop_loss", "stop_loss_kind", "take_profit", "take_profit_kind"]].tolist() == [
            80.0,
            "price",
            0.5,
            "above_entry",
        ]
        assert table.loc[1, ["trailing_stop", "trailing_stop_kind"]].tolist() == [7.0, "distance"]
        assert table["decision_bar"].tolist() == [1, 1, 1]
        assert table["time"][0] == pd.Timestamp("2024-01-02")
        assert table["call"].str.startswith(("account.buy(", "account.sell(")).all()

    def test_an_order_that_has_expired_is_not_pending(self):
        assert replay(flat(*[QUIET] * 7), rests).pending["kind"].tolist() == ["limit", "stop", "stop_limit"][1:]

    def test_orders_against_a_position_and_its_levels(self):
        table = replay(flat(QUIET, QUIET, (100, 104, 99, 104), (104, 105, 103, 104)), holds).pending
        assert table[["kind", "side", "reason", "size", "size_kind"]].to_numpy().tolist() == [
            ["limit", "sell", "signal", 0.5, "share_of_position"],
            ["limit", "sell", "signal", 1.0, "units"],
            ["limit", "sell", "reverse", 300.0, "value"],
            ["stop_loss", "sell", "stop", 4.0, "units"],
            ["trailing_stop", "sell", "trail", 4.0, "units"],
            ["take_profit", "sell", "target", 4.0, "units"],
        ]
        assert table["stop"].tolist()[3:5] == [93.0, 104 * (1 - 0.05)]
        assert table["limit"].tolist()[5] == 120.5

    def test_a_close_of_the_last_bar(self):
        table = replay(flat(*[QUIET] * 3), leaves).pending
        assert table[["kind", "side", "reason", "size", "size_kind", "call"]].to_numpy().tolist() == [
            ["market", "sell", "signal", 4.0, "units", "account.close()"]
        ]

    def test_of_a_target_for_a_part_the_size_is_not_known(self):
        row = replay(flat(*[QUIET] * 3), takes_parts).pending.iloc[0]
        assert row[["kind", "limit", "size_kind"]].tolist() == ["take_profit", 120.0, ""]
        assert math.isnan(row["size"])


def scaled(account, price):
    """A helper that places an order: a call site of each call."""
    account.buy(units=1.0, limit=price, valid_bars=1)


@bt.on_bar()
def busy(bar, account, state, p):
    """Call sites of every fate."""
    if bar.index == 0:
        account.buy(units=2.0)
    if bar.index == 1:
        scaled(account, 50.0)
        scaled(account, 99.5)
    if bar.close > 1000.0:
        account.sell(units=1.0)
    if account.is_flat:
        account.buy(value=3e9)
    if account.is_long and bar.index > 1:
        account.sell(share_of_position=0.5, limit=150.0)
    if bar.index == 4:
        account.cancel()
    if bar.close < 0.0:
        account.close()


@pytest.mark.usefixtures("backend")
class TestExplain:
    def test_each_call_site_and_what_became_of_its_orders(self):
        with pytest.warns(bt.NumericsWarning, match="could not be paid for"):
            run = replay(flat(*[QUIET] * 6), busy)
        table = bt.explain(run).table
        line = busy.function.__code__.co_firstlineno
        found = [
            (row.call, int(row.where.split(":")[-1].split(",")[0]) - line, row.end, row.n, row.first_bar, row.last_bar)
            for row in table.itertuples()
        ]
        helper = scaled.__code__.co_firstlineno + 2 - line
        order = "account.buy(units=1.0, limit=price, valid_bars=1)"
        half = "account.sell(share_of_position=0.5, limit=150.0)"
        assert found == [
            ("account.buy(units=2.0)", 4, "filled", 1, 0, 0),
            (order, helper, "expired", 1, 1, 1),
            (order, helper, "filled", 1, 1, 1),
            ("account.sell(units=1.0)", 9, "no order: its condition was never true", 0, -1, -1),
            ("account.buy(value=3e9)", 11, "unaffordable", 1, 0, 0),
            (half, 13, "replaced", 2, 2, 3),
            (half, 13, "cancelled: asked", 1, 4, 4),
            (half, 13, "pending", 1, 5, 5),
            ("account.close()", 17, "no order: it was never reached with a position", 0, -1, -1),
        ]
        assert table["where"].str.contains("test_machine_after.py:").all()
        assert [where.split(", ")[-1] for where in table["where"][1:3]] == ["1 of 2", "2 of 2"]

    def test_orders_that_end_with_their_position(self):
        run = replay(flat(QUIET, QUIET, QUIET, (100, 101, 80, 90), QUIET), holds)
        ends = bt.explain(run).table.set_index("call")["end"]
        assert ends["account.sell(share_of_position=0.5, limit=110.0)"] == "cancelled: its position ended"
        assert ends["account.sell(value=300.0, limit=115.0)"] == "pending"

    def test_it_reads_well(self):
        with pytest.warns(bt.NumericsWarning):
            lines = str(bt.explain(replay(flat(*[QUIET] * 6), busy))).splitlines()
        at = next(at for at, line in enumerate(lines) if line.startswith("account.buy(units=2.0)  ["))
        assert lines[at + 1].split() == ["filled", "1", "2024-01-01", "2024-01-01"]
        assert "  no order: its condition was never true" in lines
