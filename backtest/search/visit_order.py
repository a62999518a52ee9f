"""Visit order: the seeded order in which a sweep visits positions of a space, computed and not stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class VisitOrder:
    """A seeded permutation of ``range(size)``, computed without storing it: a Feistel network with cycle walking.

    Parameters
    ----------
    size : int
        Below 2**62.
    seed : int
    """

    __slots__ = ("_half", "_keys", "size")
    ROUNDS = 6

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
        self._keys = np.random.SeedSequence(seed).generate_state(self.ROUNDS, np.uint64)

    def __call__(self, start: int, stop: int) -> Ints:
        """Positions ``start`` to ``stop`` of the permutation, up to its size."""
        positions = self._mix(np.arange(start, min(stop, self.size), dtype=np.uint64))
        outside = positions >= self.size
        while outside.any():  # cycle walking: apply the network until the value is inside
            positions[outside] = self._mix(positions[outside])
            outside = positions >= self.size
        return positions.astype(np.int64)

    def _mix(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = values >> self._half, values & mask
        for key in self._keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        return (left << self._half) | right
