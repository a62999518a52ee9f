"""State of a study: its space, objective and finished trials; shared by driver, mirror and progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backtest._checks import InputError
from backtest.search.duplicates import TrialCache
from backtest.space import Space
from backtest.study.records import Finished
from backtest.study.store import Store
from backtest.study.trial import Objective


class State:
    """What a study searches, and its finished trials.

    Attributes
    ----------
    space : Space
    objective : callable
    name : str
    directions : list of {"maximize", "minimize"}
    n_values : int
        Numbers that the objective returns, one for each direction.
    pruner : str, Optuna pruner or None
    seed : int
    store : Store or None
    context : int
        The study's number in the store.
    memory : TrialCache
        Finished trials by digest.
    trials : list of Finished
        In the order in which they were finished, those from the store first.
    numbers : int
        Number of trials that have been numbered.
    mark : int
        Last row of the store that was read.
    wants_stop : bool
        Whether to start no further evaluation.
    """

    def __init__(self, space: Space, objective: Objective, name: str, directions: Sequence[Any], pruner: Any, seed: int) -> None:
        self.space, self.objective, self.name = space, objective, name
        self.directions, self.n_values = list(directions), len(directions)
        self.pruner, self.seed = pruner, seed
        self.store: Store | None = None
        self.context = 0
        self.memory, self.trials = TrialCache(), list[Finished]()
        self.numbers, self.mark = 0, 0
        self.wants_stop = False
        self._best: Finished | None = None

    def remember(self, finished: Sequence[Finished]) -> None:
        """Add finished trials."""
        self.memory.put({each.digest: each for each in finished})
        self.trials += finished
        if self.n_values == 1:
            sign = -1.0 if self.directions[0] == "maximize" else 1.0
            for each in finished:
                if each.values is not None and (
                    self._best is None
                    or self._best.values is None
                    or ((sign * each.values[0], each.row) < (sign * self._best.values[0], self._best.row))
                ):
                    self._best = each  # ties: first in enumeration order, whatever order they were evaluated in

    def next_number(self) -> int:
        """Number of the next trial."""
        self.numbers += 1
        return self.numbers - 1

    @property
    def best_trial(self) -> Finished:
        """The best trial; ties go to the first candidate in enumeration order."""
        if self.n_values > 1:
            raise InputError("a study with several directions has no single best trial; best_trials are those that none beats")
        if self._best is None:
            raise InputError(f"a trial must have been finished, got none of {len(self.trials)}")
        return self._best

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of the best trial."""
        return dict(self.best_trial.params)

    @property
    def best_value(self) -> float:
        """Value of the best trial."""
        values = self.best_trial.values
        assert values is not None
        return values[0]

    @property
    def best_trials(self) -> list[Finished]:
        """Pareto-optimal trials: no other is at least as good in every direction and better in one."""
        import numpy as np

        done = [each for each in self.trials if each.values is not None]
        values = np.array([each.values for each in done]).reshape(len(done), self.n_values)
        values = values * np.array([-1.0 if each == "maximize" else 1.0 for each in self.directions])
        return [
            each
            for place, each in enumerate(done)
            if not ((values <= values[place]).all(axis=1) & (values < values[place]).any(axis=1)).any()
        ]

    def __repr__(self) -> str:
        best = f", best {self._best.values[0]:.6g} at {self._best.params}" if self._best and self._best.values else ""
        return f"{type(self).__name__}({self.name!r}: {len(self.trials):,} trials{best})"
