"""Costs and Execution: defaults, bounds, wording."""

import dataclasses
import inspect
import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import backtest as bt
from backtest import lines, portfolio, signals
from backtest.costs import ORDER_COSTS

nan, inf = math.nan, math.inf
RATES = ("fee_rate", "slippage", "fixed", "per_unit", "minimum", "borrow_rate")


def test_costs_without_costs():
    assert bt.Costs.zero() == bt.Costs(fee_rate=0.0)
    assert bt.Costs.zero().to_dict() == dict.fromkeys(RATES, 0.0) | {"maximum": inf}


def test_fee_rate_has_no_default():
    with pytest.raises(TypeError, match="fee_rate"):
        bt.Costs()
    with pytest.raises(TypeError):
        bt.Costs(0.001)


@pytest.mark.parametrize("name", [*RATES, "maximum"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, r" must be >= 0, got -0\.1"),
        (nan, " must be a finite number >= 0, got nan"),
        ("1", " must be a number >= 0, got '1'"),
        (None, " must be a number >= 0, got None"),
        (True, " must be a number >= 0, got True"),
        (-inf, " must be .*>= 0, got -inf"),
    ],
)
def test_every_cost_is_a_number_from_zero_up(name, value, message):
    with pytest.raises(bt.InputError, match=f"^{name}{message}"):
        bt.Costs(**({"fee_rate": 0.0} | {name: value}))


@pytest.mark.parametrize("name", RATES)
def test_only_the_maximum_may_be_infinite(name):
    with pytest.raises(bt.InputError, match=f"^{name} must be a finite number >= 0, got inf"):
        bt.Costs(**({"fee_rate": 0.0} | {name: inf}))
    assert bt.Costs(fee_rate=0, maximum=inf).maximum == inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slippage": 1}, r"slippage must be < 1 \(a fraction: 0\.05 for 5 %\), got 1\.0"),
        ({"fee_rate": 1}, r"fee_rate must be < 1 \(a fraction: 0\.05 for 5 %\), got 1\.0"),
        ({"fee_rate": 5}, r"fee_rate must be < 1 \(a fraction: 0\.05 for 5 %\), got 5\.0"),
        ({"minimum": 3, "maximum": 2}, r"minimum must be <= maximum \(2\), got 3\.0"),
    ],
)
def test_costs_that_contradict_themselves(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        bt.Costs(**({"fee_rate": 0} | arguments))


def test_bounds_may_be_equal():
    assert bt.Costs(fee_rate=0, minimum=2, maximum=2).minimum == 2.0


def test_unknown_costs_are_refused():
    with pytest.raises(TypeError, match="fee"):
        bt.Costs(fee=0.001)


@pytest.mark.parametrize("given", [0, np.float64(0.5), np.int64(0), np.float32(0.5)])
def test_costs_become_plain_floats(given):
    costs = bt.Costs(fee_rate=given)
    assert type(costs.fee_rate) is float
    assert json.loads(json.dumps(costs.to_dict()))["fee_rate"] == given


def test_costs_of_an_order_are_the_same_fields_everywhere():
    struct = (
        (Path(__file__).parent.parent / "ext" / "_costs.pxd")
        .read_text()
        .partition("cdef struct CostRule:")[2]
        .partition("\n\n")[0]
    )
    assert re.findall(r"double (\w+)", struct) == list(ORDER_COSTS)
    for kind in (bt.Costs, signals.Settings, portfolio.Settings):
        assert [field.name for field in dataclasses.fields(kind)][: len(ORDER_COSTS)] == list(ORDER_COSTS)
    assert bt.Costs(fee_rate=0.5, borrow_rate=2.0).of_order() == dict.fromkeys(ORDER_COSTS, 0.0) | {
        "fee_rate": 0.5,
        "maximum": inf,
    }


def test_execution_defaults():
    assert bt.Execution().to_dict() == {
        "fill": "next_open",
        "intrabar": "pessimistic",
        "sides": "both",
        "size": 1.0,
        "size_type": "equity",
        "start_cash": 100_000.0,
        "whole_units": False,
        "close_at_end": False,
        "start": None,
        "rf": 0.0,
        "periods_per_year": None,
        "profile": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fill", "open", r"fill must be one of 'next_open', 'close', got 'open'; did you mean 'next_open'\?"),
        ("fill", None, "fill must be one of 'next_open', 'close', got None"),
        ("intrabar", "pesimistic", r"got 'pesimistic'; did you mean 'pessimistic'\?"),
        ("sides", "Long", r"sides must be one of 'both', 'long', 'short', got 'Long'; did you mean 'long'\?"),
        ("size_type", "units", "size_type must be one of 'equity', 'value', got 'units'"),
        ("profile", "vectorbot", r"profile must be one of None, 'vectorbt', 'backtesting.py', got 'vectorbot'; did you mean"),
        ("size", 0, "size must be > 0 and <= 1, got 0"),
        ("size", 1.01, r"size must be > 0 and <= 1, got 1\.01"),
        ("size", -1, "size must be > 0 and <= 1, got -1"),
        ("size", nan, "size must be a finite number > 0 and <= 1, got nan"),
        ("size", "all", "size must be a number > 0 and <= 1, got 'all'"),
        ("size", None, "size must be a number > 0 and <= 1, got None"),
        ("start_cash", 0, "start_cash must be > 0, got 0"),
        ("start_cash", inf, "start_cash must be a finite number > 0, got inf"),
        ("start_cash", "1", "start_cash must be a number > 0, got '1'"),
        ("whole_units", 1, "whole_units must be True or False, got 1"),
        ("close_at_end", None, "close_at_end must be True or False, got None"),
        ("start", -1, "start must be a whole number >= 0, got -1"),
        ("start", 2.0, r"start must be a whole number >= 0, got 2\.0"),
        ("start", True, "start must be a whole number >= 0, got True"),
        ("rf", nan, "rf must be a finite number, got nan"),
        ("rf", "2%", "rf must be a number, got '2%'"),
        ("periods_per_year", 0, "periods_per_year must be > 0, got 0"),
        ("periods_per_year", inf, "periods_per_year must be a finite number > 0, got inf"),
    ],
)
def test_execution_refuses(name, value, message):
    with pytest.raises(bt.InputError, match=message):
        bt.Execution(**{name: value})


def test_an_amount_of_currency_must_be_given():
    message = r"^size must be given with size_type='value', an amount of currency, got none$"
    with pytest.raises(bt.InputError, match=message):
        bt.Execution(size_type="value")
    with pytest.raises(bt.InputError, match=message):
        bt.Execution().replace(size_type="value")
    assert bt.Execution().replace(size_type="value", size=50).size == bt.Execution(size_type="value", size=50).size == 50.0
    assert bt.Execution(size_type="value", size=1).replace(rf=0.1).size == 1.0
    assert bt.Execution().size == bt.Execution(size_type="equity").size == 1.0


def test_former_names_are_refused_with_the_name_to_write():
    with pytest.raises(bt.InputError, match=r"^cash is now start_cash$"):
        bt.Execution(cash=5000.0)
    with pytest.raises(bt.InputError, match=r"^start_value is now start_cash$"):
        bt.Execution(start_value=5000.0)
    with pytest.raises(bt.InputError, match="cash is now start_cash"):
        bt.Execution().replace(cash=5000.0)
    with pytest.raises(bt.InputError, match=r"^size_type must be one of 'equity', 'value', got 'cash', which is now 'value'$"):
        bt.Execution(size=50.0, size_type="cash")
    with pytest.raises(TypeError, match="unexpected keyword argument 'chash'"):
        bt.Execution(chash=5000.0)
    assert "start_cash: 'float' = 100000.0" in str(inspect.signature(bt.Execution))
    assert bt.Execution(start_cash=5000.0).start_cash == 5000.0


def test_amounts_of_currency_have_no_upper_bound():
    assert bt.Execution(size=5000, size_type="value").size == 5000.0
    with pytest.raises(bt.InputError, match="size must be > 0, got 0"):
        bt.Execution(size=0, size_type="value")


def test_replace_checks_again():
    execution = bt.Execution(size=5000, size_type="value", start=np.int64(7))
    assert type(execution.start) is int
    assert execution.replace(start=9).start == 9
    assert execution.start == 7
    with pytest.raises(bt.InputError, match="size must be > 0 and <= 1, got 5000"):
        execution.replace(size_type="equity")


@pytest.mark.parametrize("size", [bt.param("size"), 1000 / lines.close, bt.param("risk", 0.1) / lines.atr(14)])
def test_size_may_be_a_parameter_or_a_line(size):
    execution = bt.Execution(size=size)
    assert execution.to_dict()["size"] == repr(size)


@pytest.mark.parametrize(("record", "name"), [(bt.Costs.zero(), "fee_rate"), (bt.Execution(), "start")])
def test_records_are_immutable_and_survive_a_pickle(record, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 1)
    assert pickle.loads(pickle.dumps(record)) == record
    assert hash(record) == hash(pickle.loads(pickle.dumps(record)))
