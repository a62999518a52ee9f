"""The interface between evaluation and search: ``evaluate(batch, window=None) -> scores``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@runtime_checkable
class Evaluator(Protocol):
    """``evaluate(batch, window=None) -> scores``: what evaluates candidates, whatever they are.

    Strategies, portfolio rules, levels (on the CPU or on a device), many symbols and windows together, and a store in front
    of any of them are evaluators.  A search needs no more than ``evaluate(batch)``, so that a plain function will do.

    Notes
    -----
    Every evaluator promises:

    * A candidate's scores are the same to the last bit whatever else is in the batch, in whatever order and in however many
      calls, and with any number of threads.
    * The batch is only read.  Numbers that are not finite, or a wrong number of columns, raise an :class:`InputError`
      that names ``batch``.  An empty batch has empty scores.
    * ``window=None`` is all bars.  A window trades inside its bars only, with the same result as if the bars behind it did
      not exist; those before it may be read (warm-up) but not traded on.
    * The returned array belongs to the caller.

    ``tests/contract.py`` checks this for every evaluator.
    """

    @property
    def columns(self) -> Sequence[str]:
        """Names of the scores' columns, in order."""

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Scores of a batch of candidates.

        Parameters
        ----------
        batch : array_like of float64, shape (n_candidates, n_params)
            One candidate a row.
        window : slice or sequence of slices, optional
            Trade inside these bars only.  Several windows are evaluated one by one, from the same batch.

        Returns
        -------
        ndarray of float64
            (n_candidates, n_columns), or (n_candidates,) where there is one number; of a sequence of windows the same with an
            axis of windows in front.
        """
