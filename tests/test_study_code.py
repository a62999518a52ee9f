"""Code that changes under one version is said: fingerprints of text, kept beside the version."""

import functools
import importlib.util
import json
import sqlite3
import sys
import textwrap

import pytest

import backtest as bt
from backtest.study.code import fingerprint
from backtest.study.join import join
from backtest.study.store import Store


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'x.db'}"


def objective(params, trial):
    return float(params["a"])


def study(url, function=objective, n=6, **options):
    return bt.Study({"a": range(n)}, function, name="s", sampler="random", store=url, **({"version": "1"} | options))


def raw(url, statement, *values):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(statement, values)
    connection.close()


TEXT = """
FEE = 0.1
OTHER = 7
SCALE = FEE * 2

def helper(value):
    return value * SCALE

def unrelated():
    return OTHER

class Model:
    def __call__(self, params, trial):
        return helper(params["a"])

def objective(params, trial):
    return helper(params["a"])
"""


def module(folder, text, name="code_under_test"):
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def hashes(folder, text):
    made = module(folder, text)
    return fingerprint(made.objective), fingerprint(made.Model())


CHANGES = {
    "the function": ('return helper(params["a"])\n', 'return -helper(params["a"])\n', True),
    "a helper": ("value * SCALE", "value + SCALE", True),
    "a setting": ("FEE = 0.1", "FEE = 0.2", True),
    "what is not used": ("OTHER = 7", "OTHER = 8", False),
    "a comment": ("value * SCALE", "value * SCALE  # so", False),
    "blank lines": ("def helper(value):\n", "def helper(value):\n\n    # why\n\n", False),
    "blanks": ("FEE = 0.1", "FEE = 0.1   ", False),
    "lines before it": ("FEE = 0.1", "import os\n\nFEE = 0.1", False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_fingerprint(tmp_path, change):
    old, new, is_other = CHANGES[change]
    before, after = hashes(tmp_path, TEXT), hashes(tmp_path, TEXT.replace(old, new) + "\n")
    assert None not in before + after
    assert (before[0] != after[0], before[1] != after[1]) == (is_other, is_other)


def test_a_fingerprint_is_of_the_text_whatever_python_reads_it(tmp_path):
    """The same on every release of Python: this number does not change with it."""
    text = "def objective(params, trial):\n    return f'{params[\"a\"]:>{3}}' + '''\n# no comment'''  # one\nclass Model: pass\n"
    assert hashes(tmp_path, text)[0] == "6a5d4703769c3fd5"


def test_other_kinds_of_callables(tmp_path):
    made = module(
        tmp_path,
        TEXT
        + textwrap.dedent("""
        import functools
        import backtest as bt
        def wrapped(function):
            @functools.wraps(function)
            def inner(*args):
                return function(*args)
            return inner
        decorated = wrapped(objective)
        part = functools.partial(objective, trial=None)
        one = lambda params, trial: helper(params["a"])
        two = lambda params, trial: -helper(params["a"])
        method = Model().__call__
        def outer():
            def closed(params, trial):
                return objective(params, trial)
            return closed
        closed = outer()
        line = bt.line("n", version="1")(lambda bars, n: bars.close)
        def circle(params, trial):
            return circle
    """),
    )
    names = ("objective", "decorated", "part", "one", "two", "method", "closed", "line", "circle")
    found = {name: fingerprint(getattr(made, name)) for name in names}
    assert None not in found.values()
    assert found["part"] == found["objective"]
    assert len(set(found.values())) == len(found) - 1
    assert fingerprint(functools.partial(print)) is None
    assert fingerprint(eval("lambda params, trial: 1")) is None
    assert fingerprint(bt.run) is None  # its own release says what it computes


def test_the_same_version_with_other_code_is_said(tmp_path, url):
    first = module(tmp_path, TEXT).objective
    made = study(url, first)
    made.run(3, progress=False)
    made.close()
    second = module(tmp_path, TEXT.replace("FEE = 0.1", "FEE = 0.3")).objective
    old, new = Store(url).description(1)["code"]["objective"], fingerprint(second)
    said_of = rf"another version for other code: the code of objective changed \({new} here, {old} in the store\)"
    for _ in range(2):  # until the version changes
        with pytest.warns(bt.StoreWarning, match=said_of):
            study(url, second).close()
    with pytest.warns(bt.StoreWarning, match=said_of):
        join(url, "s", second).close()
    study(url, second, version="2").close()
    study(url, module(tmp_path, TEXT.replace("FEE = 0.1", "FEE = 0.1  # of course")).objective).close()


def test_code_without_results_or_with_failures_only_may_change(tmp_path, url):
    made = study(url, module(tmp_path, TEXT.replace('return helper(params["a"])\n', "return 1 / 0\n")).objective)
    made.run(3, progress=False, catch=ZeroDivisionError)
    made.close()
    made = study(url, module(tmp_path, TEXT).objective)
    assert made.run(progress=False).evaluated == 6
    made.close()
    study(url, module(tmp_path, TEXT).objective).close()


def test_stores_of_the_present_layout_are_read_and_get_fingerprints(tmp_path, url):
    made = study(url, module(tmp_path, TEXT).objective)
    made.run(progress=False)
    made.close()
    store = Store(url)
    description = store.description(1)
    del description["code"]
    raw(url, "UPDATE contexts SET description = ?", json.dumps(description))  # as releases before wrote it
    again = study(url, module(tmp_path, TEXT).objective)
    assert len(again.trials) == 6
    again.close()
    assert store.description(1)["code"] == {"objective": fingerprint(module(tmp_path, TEXT).objective)}
    store.close()
    with pytest.warns(bt.StoreWarning, match="must have another version"):
        study(url, module(tmp_path, TEXT.replace("* 2", "* 3")).objective).close()


LINE = """
import backtest as bt

@bt.line("n", version="1")
def mean(bars, n):
    return bars.close FACTOR

def rule(params):
    import numpy as np
    return np.full((300, 1), params["w"] FACTOR)
"""


def test_lines_and_rules_of_one_version_with_other_code(tmp_path, url):
    bars = bt.Bars.sample("GOOG")
    close = bars.close[:300].reshape(-1, 1)

    def search(factor):
        made = module(tmp_path, LINE.replace("FACTOR", factor))
        strategy = bt.Strategy(enter_long=bt.lines.close > made.mean(), exit_long=bt.lines.close < made.mean())
        bt.optimize(bars, strategy, {"n": [1, 2]}, costs=bt.Costs(fee_rate=0.0), store=url, progress=False, min_trades=0)
        bt.optimize_weights(
            made.rule,
            {"w": [0.5, 1.0]},
            close=close,
            fill="close",
            costs=bt.Costs(fee_rate=0.0),
            store=url,
            version="1",
            progress=False,
            periods_per_year=252,
            min_trades=0,
        )

    search("* 0.9")
    search("* 0.9")
    with pytest.warns(bt.StoreWarning) as said_of:
        search("* 0.8")
    texts = [str(each.message) for each in said_of if each.category is bt.StoreWarning]
    assert ["the code of line code_under_test.mean changed" in texts[0], "the code of rule changed" in texts[1]] == [True, True]
