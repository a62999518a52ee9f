"""A study's trials for others: a table, and Optuna's storages for its dashboard and plots."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import InputError
from backtest._said import said, shown, url_without_password, without_secret
from backtest.search.engine import distribution, frozen, label_of, quiet
from backtest.study.state import State
from backtest.study.store import new_owner

if TYPE_CHECKING:
    import optuna
    import pandas as pd

#: Seconds between two copies of a run that goes on.
MIRROR = 5.0
#: How often a storage is tried to be opened, and seconds in between.
ATTEMPTS, PAUSE = 5, 0.2
#: What drivers of a study reserve while they copy, and seconds for which they are believed to.
MIRRORING, LEASE = b"mirror", 30.0


def to_frame(study: State) -> pd.DataFrame:
    """One row a trial."""
    import pandas as pd

    trials = sorted(study.trials, key=lambda each: each.number)
    columns: dict[str, Any] = {name: [each.params.get(name) for each in trials] for name in study.space.names}
    for place in range(study.n_values):
        name = "value" if study.n_values == 1 else f"value_{place}"
        columns[name] = np.array([np.nan if each.values is None else each.values[place] for each in trials])
    columns |= {
        "status": [each.status.name.lower() for each in trials],
        "error": [each.error for each in trials],
        "seconds": np.array([np.nan if each.seconds is None else each.seconds for each in trials]),
        "finished": pd.to_datetime([each.finished for each in trials], unit="s", utc=True),
    }
    for key in dict.fromkeys(key for each in trials for key in each.attrs or ()):
        columns[f"attrs.{key}"] = [(each.attrs or {}).get(key) for each in trials]
    return pd.DataFrame(columns, index=pd.Index([each.number for each in trials], name="number"))


class Mirror:
    """A copy of a study in an Optuna storage that follows it."""

    def __init__(self, study: State, storage: Any, name: str | None = None) -> None:
        import optuna

        if not isinstance(storage, (str, optuna.storages.BaseStorage)):
            raise InputError(f"storage must be a URL such as 'sqlite:///dashboard.db' or an Optuna storage, got {shown(storage)}")
        self._study, self._copied, self._looked, self._storage = study, 0, time.monotonic(), storage
        with quiet():
            self._target = self._opened(storage, name or study.name)
            self._there = self._digests()
        self._distributions = {each: distribution(parameter) for each, parameter in study.space.parameters.items()}

    def _opened(self, storage: Any, name: str) -> optuna.Study:
        import optuna
        from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

        failure = ""
        for left in reversed(range(ATTEMPTS)):
            try:
                return optuna.create_study(
                    storage=storage, study_name=name, directions=[*self._study.directions], load_if_exists=True
                )
            except (SQLAlchemyError, ImportError, ValueError) as error:
                if left and isinstance(error, (IntegrityError, OperationalError)):  # two that create its tables at once
                    time.sleep(PAUSE)
                    continue
                failure = said(error)
                break
        raise self._complaint("Optuna can open, such as 'sqlite:///dashboard.db'", failure)

    def _complaint(self, rule: str, failure: str) -> InputError:
        """To be raised not from the other error, nor while it is handled: what that says may have the password."""
        storage = self._storage
        got = repr(url_without_password(storage)) if isinstance(storage, str) else shown(storage)
        failure = without_secret(failure, storage) if isinstance(storage, str) else failure
        return InputError(f"storage must be one that {rule}, got {got}: {failure}")

    def look(self) -> None:
        """Copy what is new if it is time; if another driver copies just now, later."""
        if time.monotonic() - self._looked >= MIRROR:
            self._looked = time.monotonic()
            with self._alone(0.0) as is_alone:
                if is_alone:
                    self._copy()

    def _digests(self) -> set[Any]:
        """Of the trials that are there, by whichever driver of the study they were copied."""
        attrs = [each.user_attrs for each in self._target.get_trials(deepcopy=False)]
        return {each.get("digest", each.get("key")) for each in attrs}  # key: as earlier releases named it

    @contextlib.contextmanager
    def _alone(self, patience: float) -> Iterator[bool]:
        """Whether no other driver of the study copies at the same time, which Optuna would store twice."""
        store = self._study.store
        if store is None:
            yield True
            return
        owner, until = new_owner(), time.monotonic() + patience
        while not (mine := store.reserve(self._study.context, [MIRRORING], owner, LEASE, 1).granted) and time.monotonic() < until:
            time.sleep(PAUSE)
        try:
            yield bool(mine)
        finally:
            store.release(owner)

    def flush(self) -> int:
        """Copy what is new, and say how many trials that is."""
        with self._alone(LEASE):  # if somebody needs longer than that, better twice than not at all
            return self._copy()

    def _copy(self) -> int:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._copied_now()
        except (SQLAlchemyError, StorageInternalError) as error:
            failure = said(error)
        raise self._complaint("can be written", failure)

    def _copied_now(self) -> int:
        space = self._study.space
        if self._study.store is not None and self._copied < len(self._study.trials):
            with quiet():
                self._there = self._digests()
        new = [each for each in self._study.trials[self._copied :] if each.digest.hex() not in self._there]
        ready = []
        for each in new:
            params = {
                name: label_of(space.parameters[name], value)
                for name, value in zip(space.names, each.row, strict=True)
                if name in each.params
            }
            attrs = (each.attrs or {}) | {"digest": each.digest.hex()}
            copy = frozen(params, self._distributions, each._replace(attrs=attrs))
            copy.datetime_complete = datetime.datetime.fromtimestamp(each.finished)  # local time, as Optuna's
            copy.datetime_start = copy.datetime_complete - datetime.timedelta(seconds=each.seconds or 0.0)
            ready.append(copy)
        with quiet():
            self._target.add_trials(ready)
        self._copied = len(self._study.trials)
        self._there |= {each.digest.hex() for each in new}
        return len(new)


def export(study: State, storage: Any, name: str | None) -> int:
    """Copy every finished trial."""
    return Mirror(study, storage, name).flush()
