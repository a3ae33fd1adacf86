"""Bootstrap intervals, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num, Shaped

from ..errors import DataError, InvalidArgument


@dataclass(frozen=True)
class Interval:
    """An estimate, the interval that holds the truth in 95 % of repetitions, its standard error."""

    value: float
    low: float
    high: float
    error: float | None = None


class Resampler:
    """A drawer of indices with replacement, within each stratum if strata are given."""

    def __init__(self, n: int, strata: Shaped[np.ndarray, " n"] | None = None) -> None:
        if n < 1:
            raise DataError("nothing to resample; give at least one value")
        groups = [np.arange(n)]
        if strata is not None:
            if len(strata) != n:
                raise InvalidArgument(f"{len(strata)} strata for {n} values; give one a value")
            groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
        self._groups = groups

    def __call__(self, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
        return np.concatenate([g[generator.integers(len(g), size=len(g))] for g in self._groups])

    def times(
        self, generator: np.random.Generator, replicates: int
    ) -> Int[np.ndarray, "replicates n"]:
        """Return how often each value is drawn, for many replicates at once."""
        n = sum(map(len, self._groups))
        return np.stack([np.bincount(self(generator), minlength=n) for _ in range(replicates)])


def bootstrap(
    statistic: Callable[..., float],
    groups: Sequence[Resampler],
    value: float,
    *,
    replicates: int = 500,
    level: float = 0.95,
    seed: int = 0,
    floor: float | None = None,
) -> Interval:
    """Return the interval of a statistic by resampling one or more groups of points.

    `statistic` takes one index array a group. Resampling repeats points, which biases statistics
    such as the Fréchet distance; the replicates are therefore shifted so that their mean is
    `value`, and their central `level` is the interval, cut at `floor` (the least possible value).
    Raises InvalidArgument for fewer than 20 replicates or a level outside (0, 1).
    """
    _check(replicates, level)
    generator = np.random.default_rng(seed)
    drawn = np.array([statistic(*(g(generator) for g in groups)) for _ in range(replicates)])
    return centred(drawn, value, level=level, floor=floor)


def centred(
    drawn: Num[np.ndarray, " replicates"],
    value: float,
    *,
    level: float = 0.95,
    floor: float | None = None,
    ceiling: float | None = None,
) -> Interval:
    """Return the interval of bootstrap replicates, shifted so that their mean is `value`.

    The interval is cut at `floor` and `ceiling`, the least and the greatest possible value; the
    error is the replicates' deviation.
    """
    low, high = np.quantile(drawn - drawn.mean() + value, [(1 - level) / 2, (1 + level) / 2])
    low, high = np.clip([low, high], floor, ceiling)
    return Interval(float(value), float(low), float(high), float(drawn.std(ddof=1)))


def bootstrap_mean(
    values: Num[np.ndarray, " n"] | Shaped[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"] | None = None,
    *,
    replicates: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a mean.

    If every value is 0 or every value is 1 the replicates have no spread; the open side then is
    the exact binomial bound, (α/2)^(1/n) or its complement, and the error √(p(1−p)/n) at
    p = 1/(n + 2), the share that one more observation would leave open. Raises DataError for no
    values, InvalidArgument for fewer than 20 replicates or a level outside (0, 1).
    """
    _check(replicates, level)
    values = np.asarray(values, np.float64)
    resample = Resampler(len(values), strata)
    generator = np.random.default_rng(seed)
    drawn = np.array([values[resample(generator)].mean() for _ in range(replicates)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    bound, error = ((1 - level) / 2) ** (1 / len(values)), float(drawn.std(ddof=1))
    if (values == 1).all():
        low = bound
    elif (values == 0).all():
        high = 1 - bound
    if (values == 1).all() or (values == 0).all():
        share = 1 / (len(values) + 2)
        error = math.sqrt(share * (1 - share) / len(values))
    return Interval(float(values.mean()), float(low), float(high), error)


def _check(replicates: int, level: float) -> None:
    if replicates < 20:
        raise InvalidArgument(f"replicates is {replicates}; give 20 or more")
    if not 0 < level < 1:
        raise InvalidArgument(f"level is {level}; give a share between 0 and 1, such as 0.95")
