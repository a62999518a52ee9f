"""Progress bar and summary of a run."""

from __future__ import annotations

import math
from typing import NamedTuple

from backtest.study.state import State


class Summary(NamedTuple):
    """Summary of a run.

    Numbers of candidates ``evaluated`` in this run and ``known`` before, of suggestions (``asks``) and ``duplicates`` among them,
    of ``failures`` and ``discarded`` results among the evaluated; seconds of ``search``, ``evaluation`` (of all workers) and
    ``store``, and how it ended.
    """

    evaluated: int
    known: int
    asks: int
    duplicates: int
    failures: int
    discarded: int
    search: float
    evaluation: float
    store: float
    ended: str

    def __str__(self) -> str:
        spent = f"{self.search:.2f} s in search, {self.evaluation:.2f} s in evaluation, {self.store:.2f} s in the store"
        return (
            f"{self.ended}: {self.evaluated:,} candidates evaluated, {self.known:,} known before, "
            f"{self.duplicates:,} duplicates saved, {self.failures:,} failed; {spent}"
        )


class Bar:
    """Progress bar of a run; by default on terminals and in notebooks only."""

    def __init__(self, study: State, target: float, is_shown: bool | None) -> None:
        from tqdm.auto import tqdm

        self._study = study
        self._bar = tqdm(
            total=None if target == math.inf else int(target),
            initial=len(study.trials),
            desc=study.name,
            unit=" trials",
            leave=False,
            disable=None if is_shown is None else not is_shown,
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """Advance by a number of finished trials."""
        if self._bar.disable:
            return
        self._bar.update(count)
        if self._study.n_values == 1 and self._study._best is not None:
            self._bar.set_postfix_str(f"best {self._study.best_value:.4g}", refresh=False)
