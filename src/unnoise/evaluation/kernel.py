"""Kernel distance: the squared maximum mean discrepancy of a cubic kernel (KID)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num, Shaped

from ..errors import DataError, InvalidArgument
from .intervals import Interval, Resampler, centred

_LEAST = 5  # points of each class, or strata are ignored


class Scale(NamedTuple):
    """The unit of features before the kernel is applied: (features − centre) / spread."""

    centre: Float[np.ndarray, " d"]
    spread: float

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> Scale:
        """Return mean, and root of the mean variance over the features (1 if nothing varies)."""
        spread = float(np.sqrt(features.var(0).mean()))
        return cls(features.mean(0), spread if spread > 0 else 1.0)

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return (np.asarray(features, np.float64) - self.centre) / self.spread


class Kernel:
    """k(x, y) = (⟨x, y⟩/d + 1)³ between all pairs of two sets; pairs of a point and itself are 0.

    The unbiased estimate of MMD² = E k(x, x′) − 2·E k(x, y) + E k(y, y′) leaves those pairs out; it
    may be negative. For a set that was drawn class by class, give its strata: pairs inside class c
    then count n_c/(n_c − 1) times, since leaving out (x, x) makes them too rare among all pairs,
    which would bias the estimate downwards by the spread between classes. Strata are ignored if one
    has fewer than 5 points. Raises DataError for fewer than two rows or other widths.
    Source: Gretton et al. 2012, lemma 6; the kernel and the name KID: Bińkowski et al. 2018,
    section 3. The strata are ours.
    """

    def __init__(
        self,
        real: Float[np.ndarray, "n d"],
        samples: Float[np.ndarray, "m d"],
        real_strata: Shaped[np.ndarray, " n"] | None = None,
        sample_strata: Shaped[np.ndarray, " m"] | None = None,
    ) -> None:
        real, samples = np.asarray(real, np.float64), np.asarray(samples, np.float64)
        if min(len(real), len(samples)) < 2 or real.shape[1:] != samples.shape[1:]:
            raise DataError(
                f"features of shapes {real.shape} and {samples.shape}; give at least 2 rows of "
                "each, as many numbers a row"
            )
        self.real = _Within(_cubic(real, real), real_strata)
        self.samples = _Within(_cubic(samples, samples), sample_strata)
        self.across = _cubic(real, samples)

    def value(self) -> float:
        """Return the unbiased estimate of MMD²."""
        once = (np.ones((1, side)) for side in self.across.shape)
        return float(self.resampled(*once)[0])

    def resampled(
        self, real: Num[np.ndarray, "r n"], samples: Num[np.ndarray, "r m"]
    ) -> Float[np.ndarray, " r"]:
        """Return the estimates of r bootstrap replicates, given by how often each row counts.

        Copies of one row are not a pair: k(x, x) would be back, which the unbiased estimate
        leaves out.
        """
        c, e = real.astype(np.float64), samples.astype(np.float64)
        across = ((c @ self.across) * e).sum(1) / (c.sum(1) * e.sum(1))
        return self.real(c) + self.samples(e) - 2 * across


class _Within:
    """The mean of a kernel over the pairs of one set, without pairs of a point and itself."""

    def __init__(self, kernel: np.ndarray, strata: np.ndarray | None) -> None:
        np.fill_diagonal(kernel, 0.0)
        self.kernel, self.groups = kernel, [np.arange(len(kernel))]
        if strata is not None:
            names, where, counts = np.unique(strata, return_inverse=True, return_counts=True)
            if counts.min() >= _LEAST:
                self.groups = [np.flatnonzero(where == k) for k in range(len(names))]

    def __call__(self, times: np.ndarray) -> np.ndarray:
        total = times.sum(1) ** 2
        mean = ((times @ self.kernel) * times).sum(1) / total
        for rows in self.groups:
            c = times[:, rows]
            inside = ((c @ self.kernel[np.ix_(rows, rows)]) * c).sum(1)
            size = c.sum(1) ** 2
            pairs = np.maximum(size - (c**2).sum(1), 1)
            mean += inside * (size / pairs - 1) / total
        return mean


def polynomial_mmd(real: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"]) -> float:
    """Return the unbiased estimate of `Kernel`'s MMD² between two sets of features."""
    return Kernel(real, samples).value()


def kernel_distance(
    kernels: Sequence[Kernel],
    real: Resampler,
    samples: Sequence[Resampler],
    *,
    replicates: int = 500,
    seed: int = 0,
) -> Interval:
    """Return the mean of the estimates of several sets of samples against one set of real data.

    The interval resamples the real data (once for all sets) and every set of samples.
    """
    generator = np.random.default_rng(seed)
    mine = real.times(generator, replicates)
    drawn = [
        kernel.resampled(mine, rows.times(generator, replicates))
        for kernel, rows in zip(kernels, samples, strict=True)
    ]
    value = float(np.mean([kernel.value() for kernel in kernels]))
    return centred(np.mean(drawn, 0), value)


def kid(
    real: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"], blocks: int = 10
) -> Interval:
    """Return the block estimate of KID: the mean of `polynomial_mmd` over disjoint blocks.

    Blocks are independent, so deviation/√blocks is the standard error and Student's t gives the
    95 % interval, whatever the distributions; shuffle rows that have an order first. For sets too
    large for one matrix of all pairs. Features are not rescaled. Raises InvalidArgument for fewer
    than two blocks or two rows a block. Source: Bińkowski et al. 2018; blocks: Zaremba et al. 2013.
    """
    from scipy.stats import t

    if blocks < 2 or min(len(real), len(samples)) < 2 * blocks:
        raise InvalidArgument(
            f"{blocks} blocks of {len(real)} and {len(samples)} rows; give 2 blocks or more, and 2 "
            "rows or more a block"
        )
    cut = (np.array_split(np.asarray(x), blocks) for x in (real, samples))
    values = np.array([polynomial_mmd(a, b) for a, b in zip(*cut, strict=True)])
    error = float(values.std(ddof=1)) / math.sqrt(blocks)
    half = float(t.ppf(0.975, blocks - 1)) * error
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, error)


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
