"""Export of a study's trials: to a table, and to Optuna's storages for its dashboard and plots."""

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

#: Seconds between copies during a run.
MIRROR_SECONDS = 5.0
#: Attempts to open a storage, and seconds in between.
ATTEMPTS, PAUSE = 5, 0.2
#: Digest that a driver reserves in the store while it copies, and seconds of that lease.
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
    """A copy of a study in an Optuna storage, updated during a run."""

    def __init__(self, study: State, storage: Any, name: str | None = None) -> None:
        import optuna

        if not isinstance(storage, (str, optuna.storages.BaseStorage)):
            raise InputError(f"storage must be a URL such as 'sqlite:///dashboard.db' or an Optuna storage, got {shown(storage)}")
        self._study, self._n_copied, self._last_copy, self._storage = study, 0, time.monotonic(), storage
        with quiet():
            self._target = self._opened(storage, name or study.name)
            self._copied_digests = self._digests()
        self._distributions = {each: distribution(parameter) for each, parameter in study.space.parameters.items()}

    def _opened(self, storage: Any, name: str) -> optuna.Study:
        import optuna
        from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

        failure = ""
        for n_left in reversed(range(ATTEMPTS)):
            try:
                return optuna.create_study(
                    storage=storage, study_name=name, directions=[*self._study.directions], load_if_exists=True
                )
            except (SQLAlchemyError, ImportError, ValueError) as error:
                if n_left and isinstance(error, (IntegrityError, OperationalError)):  # two drivers create its tables at once
                    time.sleep(PAUSE)
                    continue
                failure = said(error)
                break
        raise self._storage_error("Optuna can open, such as 'sqlite:///dashboard.db'", failure)

    def _storage_error(self, rule: str, failure: str) -> InputError:
        """Raised after the original error was handled, without chaining: its text may hold the password."""
        storage = self._storage
        got = repr(url_without_password(storage)) if isinstance(storage, str) else shown(storage)
        failure = without_secret(failure, storage) if isinstance(storage, str) else failure
        return InputError(f"storage must be one that {rule}, got {got}: {failure}")

    def copy_if_due(self) -> None:
        """Copy new trials if it is time and no other driver is copying."""
        if time.monotonic() - self._last_copy >= MIRROR_SECONDS:
            self._last_copy = time.monotonic()
            with self._exclusive(0.0) as is_held:
                if is_held:
                    self._copy()

    def _digests(self) -> set[Any]:
        """Digests of the trials in the storage, by whichever driver they were copied."""
        attrs = [each.user_attrs for each in self._target.get_trials(deepcopy=False)]
        return {each.get("digest", each.get("key")) for each in attrs}  # key: its name in earlier releases

    @contextlib.contextmanager
    def _exclusive(self, patience: float) -> Iterator[bool]:
        """Lock against other drivers of the study, whose copies Optuna would store twice; yields whether it is held."""
        store = self._study.store
        if store is None:
            yield True
            return
        owner, until = new_owner(), time.monotonic() + patience
        while not (held := store.reserve(self._study.context, [MIRRORING], owner, LEASE, 1).granted) and time.monotonic() < until:
            time.sleep(PAUSE)
        try:
            yield bool(held)
        finally:
            store.release(owner)

    def flush(self) -> int:
        """Copy new trials, and return their number."""
        with self._exclusive(LEASE):  # after that, rather a duplicate than no copy
            return self._copy()

    def _copy(self) -> int:
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._copied_now()
        except (SQLAlchemyError, StorageInternalError) as error:
            failure = said(error)
        raise self._storage_error("can be written", failure)

    def _copied_now(self) -> int:
        space = self._study.space
        if self._study.store is not None and self._n_copied < len(self._study.trials):
            with quiet():
                self._copied_digests = self._digests()
        new = [each for each in self._study.trials[self._n_copied :] if each.digest.hex() not in self._copied_digests]
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
        self._n_copied = len(self._study.trials)
        self._copied_digests |= {each.digest.hex() for each in new}
        return len(new)


def export(study: State, storage: Any, name: str | None) -> int:
    """Copy every finished trial."""
    return Mirror(study, storage, name).flush()
