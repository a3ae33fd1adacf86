"""The metrics that compare two sets of features, averaged over parts, each with its floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .c2st import c2st
from .frechet import frechet_distance
from .intervals import Interval, Resampler, bootstrap, bootstrap_mean
from .kernel import Kernel, Scale, kernel_distance
from .manifold import manifold
from .metric import Metric

K = 5
FOLDS = 5
WIDE = 256  # features; above, the Fréchet distance is resampled five times less often
COMPARED = ("frechet", "kid", "c2st", "precision", "recall", "density", "coverage")


class Features(NamedTuple):
    """Features (n, d) of some values, and the stratum (class) of each."""

    values: np.ndarray
    strata: np.ndarray

    def at(self, rows: np.ndarray) -> Features:
        """Return the features and strata of some rows."""
        return Features(self.values[rows], self.strata[rows])


class Compared:
    """The metrics of one set of samples against one set of real values.

    correct: for each point, real ones first, whether the two-sample test classified it correctly.
    """

    def __init__(self, real: Features, samples: Features, scale: Scale, seed: int) -> None:
        self.samples = samples
        self.frechet = frechet_distance(real.values, samples.values)
        self.kernel = Kernel(scale(real.values), scale(samples.values), real.strata, samples.strata)
        self.kid = self.kernel.value()
        self.correct = c2st(
            real.values,
            samples.values,
            real_strata=real.strata,
            sample_strata=samples.strata,
            folds=FOLDS,
            seed=seed,
        )
        self.manifold = manifold(real.values, samples.values, K)
        self.c2st = float(self.correct.mean())
        self.precision, self.recall = self.manifold.precision, self.manifold.recall
        self.density, self.coverage = self.manifold.density, self.manifold.coverage


def distribution(
    held: Features,
    measured: Sequence[Compared],
    floors: Sequence[Compared],
    replicates: int,
    seed: int,
) -> dict[str, Metric]:
    """Return the metrics of `measured`, averaged over the parts.

    `held`: features of the reference. `floors`: the same comparisons with real data in the place of
    samples; their mean is each metric's floor.
    """
    n = len(held.values)
    strata, joined = held.strata, np.concatenate([m.samples.strata for m in measured])
    correct_real = np.mean([m.correct[:n] for m in measured], 0)
    correct_samples = np.concatenate([m.correct[n:] for m in measured])

    def frechet(real: np.ndarray, *rows: np.ndarray) -> float:
        drawn = [m.samples.values[r] for m, r in zip(measured, rows, strict=True)]
        return float(np.mean([frechet_distance(held.values[real], d) for d in drawn]))

    def accuracy(real: np.ndarray, rows: np.ndarray) -> float:
        return 0.5 * float(correct_real[real].mean() + correct_samples[rows].mean())

    real, parts = Resampler(n, strata), [Resampler(n, m.samples.strata) for m in measured]
    both = partial(bootstrap, replicates=replicates, seed=seed)
    mean = partial(bootstrap_mean, replicates=replicates, seed=seed)
    average = {name: float(np.mean([getattr(m, name) for m in measured])) for name in COMPARED}
    fewer = max(20, replicates // 5) if held.values.shape[1] > WIDE else replicates
    estimates = {
        "frechet": bootstrap(
            frechet, [real, *parts], average["frechet"], replicates=fewer, seed=seed, floor=0.0
        ),
        "kid": kernel_distance(
            [m.kernel for m in measured], real, parts, replicates=replicates, seed=seed
        ),
        "c2st": both(accuracy, [real, Resampler(len(correct_samples), joined)], average["c2st"]),
        "precision": mean(np.concatenate([m.manifold.precise for m in measured]), joined),
        "recall": mean(np.mean([m.manifold.recalled for m in measured], 0), strata),
        "density": mean(np.concatenate([m.manifold.dense for m in measured]), joined),
        "coverage": _of_samples_too(
            mean(np.mean([m.manifold.covered for m in measured], 0), strata),
            [m.manifold.alone for m in measured],
        ),
    }
    real_data = {name: [getattr(f, name) for f in floors] for name in COMPARED}
    floor = float(np.mean(real_data["frechet"]))
    if floor > 0:
        raw = estimates["frechet"]
        parts_of = (raw.value, raw.low, raw.high, raw.error or 0.0)
        estimates["frechet_ratio"] = Interval(*(number / floor for number in parts_of))
        real_data["frechet_ratio"] = [f / floor for f in real_data["frechet"]]
    return {name: Metric.of(estimate, real_data[name]) for name, estimate in estimates.items()}


def _of_samples_too(coverage: Interval, alone: Sequence[np.ndarray]) -> Interval:
    """Return the interval of coverage, widened by the spread of the samples.

    The interval given resamples the real points only. The spread is the jackknife's,
    Σ (a − ā)² (m − 1)/m of `Manifold.alone`, which is never too small on average.
    Source: Efron and Stein 1981.
    """
    drops = [float(np.square(a - a.mean()).sum()) * (len(a) - 1) / len(a) for a in alone]
    spread = math.sqrt(sum(drops)) / len(alone)
    value = coverage.value
    low = value - math.hypot(value - coverage.low, 1.96 * spread)
    high = value + math.hypot(coverage.high - value, 1.96 * spread)
    error = math.hypot(coverage.error or 0.0, spread)
    return Interval(value, max(low, 0.0), min(high, 1.0), error)
