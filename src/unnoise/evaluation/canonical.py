"""Values in a form that does not depend on their order, their dtype or their rounding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

_LATTICES = ((1.0, 0.0), (1 / 255, 0.0), (2 / 255, -1.0))  # bytes as they are and as fractions
_ROWS = 1000  # values of a side in which a lattice is sought
_LEVELS = 16  # distinct numbers that a rounded side has at least; fewer are a fault, or classes
_FAR = 1e4  # deviations; beyond, values differ from the data whatever they are


def canonical_order(values: np.ndarray, strata: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return the rows that sort values by hash and then by stratum."""
    keys = [
        hashlib.blake2b(np.ascontiguousarray(row, "<f8").tobytes(), digest_size=16).digest()
        for row in values
    ]
    order = sorted(range(len(keys)), key=lambda i: (keys[i], strata[i]))
    return np.array(order, np.int64)


def coarser_lattice(sides: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return (step, offset) of the lattice of some sides, if other sides do not lie on it.

    The lattices are the whole numbers and bytes scaled to [0, 1] or [−1, 1]; a side of fewer than
    16 distinct numbers was not rounded, whatever it lies on.
    """
    if all(side.dtype.kind in "iub" for side in sides):
        return None
    parts = [np.asarray(side[:_ROWS], np.float64) for side in sides]
    found = [[_lies_on(part, *lattice) for part in parts] for lattice in _LATTICES]
    if any(map(all, found)):
        return None
    for lattice, on in zip(_LATTICES, found, strict=True):
        rounded_sides = [p for p, lies in zip(parts, on, strict=True) if lies]
        if any(len(np.unique(part)) >= _LEVELS for part in rounded_sides):
            return lattice
    return None


def rounded(values: np.ndarray, step: float, offset: float) -> np.ndarray:
    """Return values rounded to the lattice offset + step·k."""
    return np.round((np.asarray(values, np.float64) - offset) / step) * step + offset


def _lies_on(values: np.ndarray, step: float, offset: float) -> bool:
    at = (values - offset) / step
    if step != 1 and (at.min() < -0.01 or at.max() > 255.01):
        return False
    return bool((np.abs(at - np.round(at)) < 1e-3).all())


@dataclass(frozen=True)
class Standard:
    """The map of raw values to the float32 inputs of a network.

    The inputs are the standardised values and, as further channels (numbers of a vector), whether
    a value is at or beyond the least and the greatest value of the data, without which a network
    overlooks clamped ends. By shape they are ±1 only. mean, deviation, least, most: per channel,
    per number of a vector. middle: the threshold of shape, or None.
    """

    mean: np.ndarray
    deviation: np.ndarray
    least: np.ndarray
    most: np.ndarray
    middle: float | None

    @classmethod
    def of(cls, values: np.ndarray, shape: bool) -> Standard:
        """Return the map that is fitted to values (n, *event)."""
        axes = (0,) if values.ndim == 2 else (0, *range(2, values.ndim))
        wide = np.asarray(values, np.float64)
        mean = wide.mean(axes, keepdims=True)
        deviation = np.sqrt(np.square(wide - mean).mean(axes, keepdims=True))
        deviation = np.where(deviation > 1e-12 * (1e-300 + np.abs(mean)), deviation, 1.0)
        middle = (float(wide.min()) + float(wide.max())) / 2 if shape else None
        least, most = wide.min(axes, keepdims=True), wide.max(axes, keepdims=True)
        return cls(mean, deviation, least, most, middle)

    def __call__(self, values: np.ndarray) -> Tensor:
        """Return the inputs (n, 3·channels, …), cut at 10,000 deviations, or ±1 by shape."""
        wide = np.asarray(values, np.float64)
        if self.middle is not None:
            return torch.from_numpy(np.where(wide > self.middle, 1.0, -1.0).astype(np.float32))
        found = ((wide - self.mean) / self.deviation).clip(-_FAR, _FAR)
        inputs = np.concatenate([found, wide <= self.least, wide >= self.most], 1)
        return torch.from_numpy(inputs.astype(np.float32))
