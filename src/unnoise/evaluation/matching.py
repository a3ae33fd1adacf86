"""Comparable subsets: the same size and the same number of each class on every side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from ..errors import DataError

LEAST = 20  # metrics of fewer values a side mean nothing


def matched_counts(
    samples: Int[np.ndarray, " m"],
    reference: Int[np.ndarray, " h"],
    train: Int[np.ndarray, " n"],
    size: int,
) -> dict[int, int]:
    """Return the number of points of each class to compare, in all at most `size`.

    Arguments: the labels of each side (zeros unless classes are matched). Every side has at least
    these numbers; a reference of more than `size` is reduced in its own proportions. Raises
    DataError for classes that only one of samples and reference has, and for fewer than 20 in all.
    """
    sides = [_tally(side) for side in (samples, reference, train)]
    if set(sides[0]) != set(sides[1]):
        lacking = sorted(set(sides[1]) - set(sides[0]))
        extra = sorted(set(sides[0]) - set(sides[1]))
        if extra:
            raise DataError(
                f"the reference has no value of the classes {extra}, which the samples have; hold "
                "out enough data that every class is among them, or leave the rare classes out"
            )
        raise DataError(
            f"the samples have none of the classes {lacking}, which the reference has; sample "
            "every class of the data"
        )
    whole = sum(sides[1].values())
    counts = {}
    for c, available in sorted(sides[1].items()):
        share = available if whole <= size else max(1, size * available // whole)
        counts[c] = min(share, sides[0][c], sides[2].get(c, 0))
    total = sum(counts.values())
    if total < LEAST:
        raise DataError(
            f"only {total} values can be compared ({_sizes(sides)}); give at least {LEAST} "
            "samples, reference values and training values"
        )
    return counts


def subsets(
    labels: Int[np.ndarray, " n"],
    counts: Mapping[int, int],
    how_many: int,
    seed: int,
) -> list[Int[np.ndarray, " h"]]:
    """Return random index sets with `counts[c]` of every class, as disjoint as the values allow."""
    generator = np.random.default_rng(seed)
    shuffled = {c: generator.permutation(np.flatnonzero(labels == c)) for c in counts}
    out = []
    for i in range(how_many):
        rows = []
        for c, count in counts.items():
            members = shuffled[c]
            rows.append(members[(i * count + np.arange(count)) % len(members)])
        out.append(np.sort(np.concatenate(rows)))
    return out


def _tally(side: np.ndarray) -> dict[int, int]:
    names, counts = np.unique(side, return_counts=True)
    return {int(c): int(n) for c, n in zip(names, counts, strict=True)}


def _sizes(sides: list[dict[int, int]]) -> str:
    names = ("samples", "reference", "training values")
    return ", ".join(f"{sum(s.values())} {n}" for s, n in zip(sides, names, strict=True))
