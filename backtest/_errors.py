"""The errors and warnings of this library."""

from __future__ import annotations

from typing import Any

from backtest._said import without_password


class BacktestError(Exception):
    """Base of every error this library raises on purpose; passwords in URLs are not in its message."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(without_password(each) if isinstance(each, str) else each for each in arguments))


class InputError(BacktestError, ValueError):
    """An argument breaks a rule; the message names the argument, the rule and the value."""


class DataError(InputError):
    """Market data breaks a rule; the message names the column, the rule, the value and the row."""


class SpaceError(InputError):
    """A parameter space, or a candidate in it, breaks a rule."""


class ObjectiveError(BacktestError):
    """A user's function (a line, an objective) failed; ``params`` holds the candidate it failed on."""

    def __init__(self, message: str, params: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.params = params or {}

    def __reduce__(self) -> tuple[type[ObjectiveError], tuple[str, dict[str, Any]]]:
        return type(self), (str(self), self.params)


class StrategyError(InputError):
    """A function given to ``bt.on_bar`` cannot be run for many candidates at once; the message says what to write instead.

    ``filename`` and ``lineno`` are the place in the source.
    """

    def __init__(self, message: str, filename: str, lineno: int) -> None:
        super().__init__(message)
        self.filename, self.lineno = filename, lineno

    def __reduce__(self) -> tuple[type[StrategyError], tuple[str, str, int]]:
        return type(self), (str(self), self.filename, self.lineno)


class StoreError(BacktestError):
    """A store of results cannot be used; the message says what to do.  What was stored before is kept."""


class StoreVersionError(StoreError):
    """A store was written by a release with another layout."""


class FingerprintMismatch(StoreError):
    """A study of this name is in the store, but of another objective, version, space or data."""


class BackendUnavailable(BacktestError, ImportError):
    """The backend that was asked for cannot run here; the message says why."""


class NumericsWarning(UserWarning):
    """A number could not be computed as asked and is reported as undefined."""


class FallbackWarning(UserWarning):
    """Something slower, or another method, ran in place of what would normally run; the message says why."""


class StoreWarning(UserWarning):
    """A store holds something odd, or results of other code under the same version; the message names it."""
