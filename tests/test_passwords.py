"""Passwords in URLs appear in no error, log, table or store."""

import functools
import hashlib
import json
import logging
import pickle
import traceback

import numpy as np
import optuna
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli
from backtest._said import said, shown, url_without_password, without_password
from backtest.study.store import Row, Store


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'x.db'}"


def objective(params, trial):
    return float(params["a"])


def study(url, function=objective, n=6, **options):
    return bt.Study({"a": range(n)}, function, name="s", sampler="random", store=url, **({"version": "1"} | options))


SECRET = "s3cr3t"
URLS = [
    f"postgresql://me:{SECRET}@host/db",
    f"sqlite://me:{SECRET}@/x.db",
    f"postgresql+psycopg2://me:{SECRET}@ho:5/x?sslmode=no",
    f"mysql://host/db?user=me&password={SECRET}",
    f"redis://:{SECRET}@host",
    f"postgresql://me:a/{SECRET}@b@host/db",
    f"me:{SECRET}@host/db",
    f"nonsense://me:{SECRET}@host:port/x",
]


def everything(caught, caplog):
    error = caught.value
    chain, texts = error, []
    while chain is not None:
        texts += [str(chain), repr(chain)]
        chain = chain.__cause__ or chain.__context__
    return "\n".join([*texts, "".join(traceback.format_exception(error)), caplog.text]).replace(f'"{SECRET}"', "")


@pytest.mark.parametrize("secret_url", URLS)
def test_no_password_in_errors_of_stores_and_mirrors(secret_url, caplog, tmp_path, monkeypatch):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(bt.StoreError) as caught:
        Store(secret_url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    with pytest.raises(bt.BacktestError) as caught:
        bt.Study({"a": range(2)}, objective, sampler="random").run(progress=False, mirror=secret_url)
    texts = everything(caught, caplog).replace(secret_url, "")  # pytest's own frames show what the test was given
    assert SECRET not in texts
    monkeypatch.chdir(tmp_path)
    for command in (
        ["store", "show", secret_url],
        ["worker", "--store", secret_url, "--study", "s", "--objective", "os:getpid"],
        ["store", "export", secret_url, "x.csv"],
        ["optimize", "--store", secret_url, "--no-progress"],
    ):
        done = CliRunner().invoke(cli.app, command, env={"COLUMNS": "300"})
        assert done.exit_code == 2
        assert SECRET not in done.output + done.stderr


def test_no_password_where_a_mirror_fails_on_the_way(tmp_path, monkeypatch):
    mirror = f"sqlite:///{tmp_path / 'x.db'}"

    def failing(*_):
        raise optuna.exceptions.StorageInternalError(f"no more {URLS[0]}")

    monkeypatch.setattr(optuna.Study, "add_trials", failing)
    with pytest.raises(bt.InputError, match="storage must be one that can be written, got") as caught:
        bt.Study({"a": range(2)}, objective, sampler="random").run(progress=False, mirror=mirror)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def bound(params, trial, source):
    return params["a"]


def test_no_password_in_what_a_store_says_of_a_study(url, tmp_path):
    source = URLS[0]
    made = study(url, functools.partial(bound, source=source), data={"from": source})
    made.run(progress=False)
    assert SECRET not in repr(made)
    made.close()
    done = CliRunner().invoke(cli.app, ["store", "show", url], env={"COLUMNS": "300"})
    assert "me:***@host" in done.output
    assert SECRET not in done.output
    with pytest.raises(bt.FingerprintMismatch) as caught:
        study(url, functools.partial(bound, source=source.replace("db", "other")), data={"from": source}, resume="require")
    assert SECRET not in str(caught.value)
    assert "me:***@host" in str(caught.value)
    assert SECRET.encode() not in (tmp_path / "x.db").read_bytes()
    other = study(url, functools.partial(bound, source=source.replace(SECRET, "new")), data={"from": source}, resume="require")
    assert len(other.trials) == 6  # another password is no other data
    other.close()


def test_contexts_with_passwords_of_earlier_releases_are_found(url):
    source = URLS[0]
    what = {
        "objective": ["test_passwords.bound", [], {"source": source}],
        "version": "1",
        "directions": ["maximize"],
        "data": None,
    }
    digest = hashlib.blake2b(json.dumps(["study", "s", what]).encode(), digest_size=16).digest()
    store = Store(url)
    context = store.context(digest, "s", what | {"metrics": []})
    key = bt.Space({"a": range(6)}).digests(np.array([[3.0]]))[0]
    store.add(context, [Row(key, value=3.0, params='{"a": 3}', finished=5.0)])
    store.close()
    made = study(url, functools.partial(bound, source=source))
    assert [each.params for each in made.trials] == [{"a": 3}]
    assert SECRET not in json.dumps(made.store.contexts(), default=repr)
    made.close()


def test_texts_without_passwords():
    for each in URLS:
        assert SECRET not in url_without_password(each)
        assert url_without_password(url_without_password(each)) == url_without_password(each)
    for each in URLS[:6]:
        assert SECRET not in without_password(f"could not reach {each!r}: no route")
        assert SECRET not in str(bt.InputError(f"path must be a file, got {each!r}"))
        assert SECRET not in said(ValueError(each))
        assert SECRET not in shown([each])
    for each in ("sqlite:////srv/a:b@c.db", "https://host/path", "no url: me@host", "sqlite:///x.db"):
        assert without_password(each) == url_without_password(each) == each
    error = pickle.loads(pickle.dumps(bt.ObjectiveError(URLS[0], {"a": 1})))
    assert (str(error), error.params) == ("postgresql://me:***@host/db", {"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "postgresql:/me:hunter2@h/d",
        "https://u:hunter2 x@h/x",
        "host=h password=hunter2 dbname=x",
        "redis://:hunter2@h",
        "a?api_key=hunter2&b=1",
        "s3://AK:hunter2@bucket/x",
    ],
)
def test_passwords_of_any_spelling_are_hidden(text, tmp_path):
    assert "hunter2" not in without_password(text)
    for read in (bt.Bars.read, bt.Space.read, bt.load):
        with pytest.raises(bt.BacktestError) as told:
            read(text)
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("text", ["C:/x/y.db", "see http://x/y: mail me", "sqlite:////tmp/a b:c.db", "ratio 3:4 @5", "token=5"])
def test_what_holds_no_password_is_shown_as_it_is(text):
    assert without_password(text) == text
