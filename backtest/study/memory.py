"""A store in front of an evaluator: results of any earlier search on the same data are read, not evaluated again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, matrix
from backtest._said import shown
from backtest.evaluator import Evaluator
from backtest.rules import custom_lines_in
from backtest.search.duplicates import TrialCache
from backtest.search.ranking import numbers
from backtest.space import Space
from backtest.study.code import compare, fingerprints
from backtest.study.fingerprint import context_fingerprint, without_passwords
from backtest.study.store import Row, Store

Floats = NDArray[np.float64]
Evaluate = Callable[..., Any]

#: Rows of scores cached in memory.
MAX_ENTRIES = 100_000
#: Seconds between transactions of a sweep.
FLUSH = 0.25


class Memory:
    """An evaluator that stores the scores of another.

    Parameters
    ----------
    evaluate : Evaluator
        Its scores are (n_candidates, n_columns).
    space : Space
    url : str
        Of the store.
    depends_on : mapping
        All that scores depend on beside the parameters, as plain values; it identifies the context.  ``code``, fingerprints of
        functions by name, is no part of that: if they differ, a warning is raised.
    columns : sequence of str
        Names of the columns of scores.

    Attributes
    ----------
    n_stored : int
        Candidates whose scores were read from the store.
    """

    def __init__(self, evaluate: Evaluate, space: Space, url: str, depends_on: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.evaluate, self.space, self.columns, self.n_stored = evaluate, space, list(columns), 0
        self.store = Store(url)
        parts = {name: each for name, each in depends_on.items() if name != "code"}
        before, parts = context_fingerprint(["kernels", parts, self.columns], sort_keys=True), without_passwords(parts)
        fingerprint = context_fingerprint(["kernels", parts, self.columns], sort_keys=True)
        self.context = self.store.context(
            fingerprint, "optimize", {**parts, "metrics": self.columns}, None if before == fingerprint else before
        )
        compare(self.store, self.context, "a search with a store", depends_on.get("code", {}))
        self._cache = TrialCache(self._from_store, MAX_ENTRIES)

    def _from_store(self, digests: Sequence[bytes]) -> dict[bytes, Floats]:
        rows = self._stored_rows(digests)
        self.n_stored += len(rows)
        return {digest: np.frombuffer(row.metrics or b"") for digest, row in rows.items()}

    def _stored_rows(self, digests: Sequence[bytes]) -> dict[bytes, Row]:
        """Stored rows by digest; a row with a wrong number of metrics is reported, and left out."""
        rows, size = self.store.look_up(self.context, digests), 8 * len(self.columns)
        faults = {
            digest: f"metrics of {len(row.metrics or b'')} bytes, not {size}"
            for digest, row in rows.items()
            if len(row.metrics or b"") != size
        }
        if not faults:
            return rows
        self.store.faulty.report(self.context, faults)
        return {digest: row for digest, row in rows.items() if digest not in faults}

    def __call__(self, batch: Floats, window: Any = None) -> Floats:
        """Scores of a batch; only candidates without stored scores are evaluated.

        Scores in a ``window`` are neither looked up nor stored: stored scores are those on all bars of the evaluator.
        """
        batch = matrix("batch", batch, shape=(None, len(self.space.names)))
        if window is not None:
            return self._in_window(batch, window)
        digests = self.space.digests(batch)
        place = {digest: row for row, digest in enumerate(digests)}

        def compute(new: list[bytes]) -> list[Floats]:
            chosen = np.ascontiguousarray(batch[[place[digest] for digest in new]])
            scores = self._evaluated(chosen)
            self.store.add(self.context, self.rows(new, chosen, scores))
            return list(scores)

        return np.array(self._cache.answer(digests, compute)).reshape(len(batch), len(self.columns))

    def _evaluated(self, batch: Floats) -> Floats:
        """Scores of the evaluator, (n_candidates, n_columns)."""
        scores, shape = numbers(self.evaluate(batch)), (len(batch), len(self.columns))
        if scores.shape != shape and not (scores.shape == shape[:1] and shape[1] == 1):
            raise ObjectiveError(f"evaluate must return scores of shape {shape}, got shape {scores.shape}")
        return scores.reshape(shape)

    def _in_window(self, batch: Floats, window: Any) -> Floats:
        if not isinstance(self.evaluate, Evaluator):
            raise InputError(f"window must be None for a function, which takes a batch only, got {shown(window)}")
        return self.evaluate(batch, window)

    def rows(self, digests: Sequence[bytes], batch: Floats, scores: Floats) -> list[Row]:
        """Rows of the store for evaluated candidates."""
        now, params = time.time(), self.space.decode_batch(batch)
        return [
            Row(digest, metrics=values.tobytes(), params=json.dumps(each), finished=now)
            for digest, values, each in zip(digests, np.ascontiguousarray(scores), params, strict=True)
        ]

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()


class SweepMemory(Memory):
    """An evaluator of a sweep that stores which blocks are finished, and only their best candidates.

    A sweep of cheap candidates is faster than any store.  Of a finished block only rows that may be among the ``keep`` best
    are stored; later the others get NaN, which ranks last, so that the same candidates are kept.

    Parameters
    ----------
    rank : callable
        ``rank(scores) -> (n_candidates,)``, to minimise.
    keep : int
        Best candidates that the search keeps.
    sweep : mapping
        All that the ranking depends on, as plain values.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        space: Space,
        url: str,
        depends_on: Mapping[str, Any],
        columns: Sequence[str],
        *,
        rank: Callable[[Floats], Floats],
        keep: int,
        sweep: Mapping[str, Any],
    ) -> None:
        super().__init__(evaluate, space, url, depends_on, columns)
        self.rank, self.keep = rank, keep
        self._sweep = json.dumps([sweep, keep, list(space.names)], sort_keys=True).encode()
        self._finished = self.store.blocks(self.context)
        self._best_objectives = np.empty(0)
        self._blocks: list[tuple[bytes, bytes, int]] = []
        self._kept: list[Row] = []
        self._flushed = time.monotonic()
        self.is_stored = False  # whether the last block came from the store

    def __call__(self, batch: Floats, window: Any = None) -> Floats:
        """Scores of a block; from the store if it is finished."""
        batch = matrix("batch", batch, shape=(None, len(self.space.names)))
        if window is not None:
            return self._in_window(batch, window)
        block = hashlib.blake2b(self._sweep + np.ascontiguousarray(batch).tobytes(), digest_size=16).digest()
        scores = self._stored_scores(block, batch)
        self.is_stored = scores is not None
        if scores is not None:
            self.n_stored += len(batch)
            self._update_best(scores)
            return scores
        scores = self._evaluated(batch)
        kept = np.flatnonzero(self._update_best(scores))
        chosen = batch[kept]
        self._kept += self.rows(self.space.digests(chosen), chosen, scores[kept])
        self._blocks.append((block, kept.astype(np.uint32).tobytes(), len(batch)))
        if time.monotonic() - self._flushed > FLUSH:
            self.flush()
        return scores

    def _stored_scores(self, block: bytes, batch: Floats) -> Floats | None:
        places = self._finished.get(block)
        if not isinstance(places, bytes) or len(places) % 4:  # unknown or faulty: evaluated again and replaced
            return None
        kept = np.frombuffer(places, dtype=np.uint32)
        if (kept >= len(batch)).any():
            return None
        digests = self.space.digests(batch[kept])
        rows = self._stored_rows(digests)
        if len(rows) < len(digests):  # rows were deleted from the file
            return None
        scores = np.full((len(batch), len(self.columns)), math.nan)
        for row, digest in zip(kept.tolist(), digests, strict=True):
            scores[row] = np.frombuffer(rows[digest].metrics or b"")
        return scores

    def _update_best(self, scores: Floats) -> NDArray[np.bool_]:
        """Update the best objectives; rows no worse than the ``keep``-th best so far."""
        objective = self.rank(scores)
        best = np.concatenate([self._best_objectives, objective])
        self._best_objectives = np.sort(best)[: self.keep]
        limit = self._best_objectives[-1] if len(self._best_objectives) == self.keep else math.inf
        return np.asarray(objective <= limit)

    def flush(self) -> None:
        """Store finished blocks and their kept rows."""
        self.store.finish_blocks(self.context, self._blocks, self._kept)
        self._blocks, self._kept, self._flushed = [], [], time.monotonic()

    def __exit__(self, *args: object) -> None:
        with contextlib.closing(self.store):
            self.flush()


def custom_lines(strategy: Any, *nodes: Any) -> dict[str, Any]:
    """``lines``: module, name and version of every ``@bt.line`` function of a strategy and of other nodes; and their ``code``.

    Raises
    ------
    InputError
        One has no version.
    """
    lines = list(dict.fromkeys([*strategy.custom_lines(), *custom_lines_in(nodes)]))
    for line in lines:
        if line.version is None:
            raise InputError(
                f'line {line!r} must have a version to use a store (@bt.line(..., version="1")), got none: '
                "a store cannot know whether code still means the same"
            )
    functions = {tuple(map(str, line.identity)): line.function for line in lines}
    code = fingerprints({f"line {module}.{name}": function for (module, name, _), function in functions.items()})
    return {"lines": sorted(map(list, functions)), "code": code}
