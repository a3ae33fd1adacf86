"""The learned two-sample test: how well small networks separate samples from held-out values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError, InvalidArgument, need_count
from .canonical import Standard, canonical_order, coarser_lattice, rounded
from .classifier import FeatureClassifier
from .classifier_training import train_classifier
from .intervals import Interval, Resampler, centred
from .metric import Metric

LEAST_HALF = 10  # samples in one half; a network of fewer values learns nothing
REGION = 0.99  # the share of held-out values inside the region of the flawed share
EPOCHS = 40  # at most, for few values


@dataclass(frozen=True)
class Judge:
    """The settings of the learned two-sample test.

    networks: number trained, one half of them on each half of the samples; seen: training examples
    shown to one network (at most 40 epochs); width: of the networks; most: values a side at most
    that one network is trained on; shape: pictures are tested a second time, binarised at half
    height. Raises InvalidArgument for fewer than 4 networks or an odd number.
    """

    networks: int = 4
    seen: int = 8_000
    width: int = 8
    most: int = 2000
    shape: bool = False

    def __post_init__(self) -> None:
        need_count("networks", self.networks, 4)
        need_count("seen", self.seen)
        need_count("width", self.width)
        need_count("most", self.most, LEAST_HALF)
        if self.networks % 2:
            raise InvalidArgument(
                f"networks is {self.networks}; give an even number, one half for each half of the "
                "samples"
            )


class LearnedTest(NamedTuple):
    """The result of `learned_test`.

    accuracy: balanced accuracy, 0.5 for samples of the data's distribution, near 1 for samples that
    every network separates from data. flawed: share of samples outside the region of 99 % of held-
    out values. missed: share of held-out values outside the region of 99 % of samples. scores: the
    mean logit of "real" for each sample, over the networks that were not trained on the sample.
    values: number of values a side that one network was trained on. lattice: the step to which all
    sides were rounded, None if they were compared as they are.
    """

    accuracy: Metric
    flawed: Metric
    missed: Metric
    scores: Float[np.ndarray, " n"]
    values: int
    lattice: float | None


class _Halves(NamedTuple):
    """Logits: for each half, of the reference and of the other half, (networks, values)."""

    real: list[np.ndarray]
    other: list[np.ndarray]
    strata: list[np.ndarray]


def learned_test(
    train: Tensor | np.ndarray,
    samples: Tensor | np.ndarray,
    reference: Tensor | np.ndarray,
    *,
    strata: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    judge: Judge | None = None,
    shape: bool = False,
    replicates: int = 500,
    seed: int = 0,
) -> LearnedTest:
    """Return how well small networks separate samples from data that no network has seen.

    Each network (`FeatureClassifier` of the data's rank, without augmentation) is trained on
    training values against one half of the samples, as many of each, and tested on the reference
    against the other half. The accuracy is the mean over sides, networks and halves; its interval
    joins the bootstrap over the tested values with Student's interval of the mean over networks.
    The floor is the same procedure with training values in the place of samples, on which no
    network is trained as real ones.

    The result does not depend on the order or the dtype of the values. If one side lies on a
    lattice (whole numbers, or bytes scaled to [0, 1] or [−1, 1]) and another does not, all are
    rounded to the lattice. Each channel (each number of a vector) is standardised, in float64, by
    the training values that are not used in the floor.

    Arguments: values (n, *event) in equal units; `strata` the class of each value of train, samples
    and reference, of which all sides then hold equal shares; `shape` binarises pictures at the
    middle between the least and the greatest training value; `replicates` of the bootstrap; `seed`
    of every random choice. Raises DataError for fewer than 20 samples, 30 training values or 10
    reference values, or values that are not finite.
    Source: Lopez-Paz and Oquab 2017; training and tested halves exchanged.
    """
    judge = judge or Judge()
    arrays = [_array(values) for values in (train, samples, reference)]
    for array, name in zip(arrays, ("training values", "samples", "reference"), strict=True):
        if not np.isfinite(array).all():
            raise DataError(f"the {name} hold NaN or infinity; nothing can be measured on them")
    lattice = coarser_lattice(arrays)
    if lattice is not None:
        arrays = [rounded(array, *lattice) for array in arrays]
    sides = [
        _in_order(array, None if strata is None else strata[i]) for i, array in enumerate(arrays)
    ]
    known, given, held = sides
    quota = quotas([side.strata for side in sides], judge.most)
    count = sum(quota.values())
    if count < LEAST_HALF or len(held.values) < LEAST_HALF:
        raise DataError(
            f"{len(given.values)} samples, {len(known.values)} training values and "
            f"{len(held.values)} reference values leave {count} for one half of the learned test; "
            f"give at least {2 * LEAST_HALF}, {3 * LEAST_HALF} and {LEAST_HALF}"
        )
    generator = np.random.default_rng([seed, 13])
    halves = _pick(given.strata, quota, 2, generator)
    floors = _pick(known.strata, quota, 2, generator)
    taught = np.setdiff1d(np.arange(len(known.values)), np.concatenate(floors))
    ratio = max(1.0, len(held.values) / count)
    tested = _pick(
        held.strata, {c: math.ceil(ratio * n) for c, n in quota.items()}, 1, generator, fewer=True
    )[0]
    standard = Standard.of(known.values[taught], shape)
    own_rows = [
        [taught[_pick(known.strata[taught], quota, 1, generator)[0]]
         for _ in range(judge.networks // 2)]
        for _ in range(2)
    ]  # fmt: skip

    def halves_of(side: _Side, rows: list[np.ndarray], offset: int) -> tuple[_Halves, Any]:
        """Train the networks on each half in turn and return their logits, and the networks."""
        real, other, networks = [], [], []
        for h, (own, opposite) in enumerate([(0, 1), (1, 0)]):
            trained = [
                _network(
                    standard(known.values[mine]),
                    standard(side.values[rows[own]]),
                    judge,
                    (seed * 1000 + offset + 2 * j + h) % 2**63,
                )
                for j, mine in enumerate(own_rows[h])
            ]
            real.append(_logits(trained, standard(held.values[tested])))
            other.append(_logits(trained, standard(side.values[rows[opposite]])))
            networks.append(trained)
        strata = [held.strata[tested], side.strata[rows[1]], side.strata[rows[0]]]
        return _Halves(real, other, strata), networks

    found, networks = halves_of(given, halves, 0)
    floor, _ = halves_of(known, floors, 500)
    estimates = _estimates(found, replicates, seed)
    least = _estimates(floor, replicates, seed)
    accuracy, flawed, missed = (
        Metric(e.value, e.low, e.high, f.value, f.low, f.high, e.error)
        for e, f in zip(estimates, least, strict=True)
    )
    scores = np.empty(len(given.values))
    everything = [_logits(part, standard(given.values)).mean(0) for part in networks]
    scores[:] = np.mean(everything, 0)
    for own, opposite in ((0, 1), (1, 0)):
        scores[halves[own]] = everything[opposite][halves[own]]
    unsorted = np.empty_like(scores)
    unsorted[given.rows] = scores
    return LearnedTest(
        accuracy, flawed, missed, unsorted, count, None if lattice is None else lattice[0]
    )


def quotas(strata: Sequence[np.ndarray], most: int) -> dict[int, int]:
    """Return how many values of each class one half has, for the strata of train, samples, rest.

    A half has the class shares of the samples.
    """
    known, given, held = strata
    names, tally = np.unique(given, return_counts=True)
    whole = min(len(given) // 2, len(known) // 3, most)
    out = {}
    for c, n in zip(names.tolist(), tally.tolist(), strict=True):
        share = int(whole * n / len(given) + 1e-9)
        most_here = min(share, n // 2, int((known == c).sum()) // 3)
        if most_here and (held == c).any():
            out[c] = most_here
    return out


class _Side(NamedTuple):
    values: np.ndarray
    strata: np.ndarray
    rows: np.ndarray


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _in_order(array: np.ndarray, strata: np.ndarray | None) -> _Side:
    """Return values and strata in an order that depends on the values alone."""
    strata = np.zeros(len(array), np.int64) if strata is None else np.asarray(strata, np.int64)
    rows = canonical_order(array, strata)
    return _Side(array[rows], strata[rows], rows)


def _pick(
    strata: np.ndarray,
    counts: Mapping[int, int],
    how_many: int,
    generator: np.random.Generator,
    fewer: bool = False,
) -> list[np.ndarray]:
    """Return disjoint random index sets with `counts[c]` of each class (or fewer, if allowed)."""
    out: list[list[np.ndarray]] = [[] for _ in range(how_many)]
    for c, count in counts.items():
        members = generator.permutation(np.flatnonzero(strata == c))
        if not fewer and len(members) < how_many * count:
            raise DataError(f"class {c} has {len(members)} values, of {how_many * count} needed")
        for i, part in enumerate(out):
            part.append(members[i * count : (i + 1) * count])
    return [np.concatenate(part) for part in out]


def _network(real: Tensor, made: Tensor, judge: Judge, seed: int) -> FeatureClassifier:
    values = torch.cat([real, made])
    side = torch.arange(len(values)) < len(real)
    seen = min(judge.seen, EPOCHS * len(values))
    return train_classifier(
        values,
        side.long(),
        classes=2,
        seen=seen,
        width=judge.width,
        augment=False,
        standardise=False,
        seed=seed,
    )


@torch.no_grad()
def _logits(networks: list[FeatureClassifier], values: Tensor) -> np.ndarray:
    """Return the logit of "real" of each network for each value, (networks, values)."""
    out = []
    for network in networks:
        parts = [network(part) for part in values.split(500)]
        both = torch.cat(parts).double().numpy()
        out.append(both[:, 1] - both[:, 0])
    return np.stack(out)


def _estimates(found: _Halves, replicates: int, seed: int) -> tuple[Interval, Interval, Interval]:
    """Return accuracy, flawed share and missed share with their intervals."""
    right_real = [(d > 0) + 0.5 * (d == 0) for d in found.real]
    right_other = [(d < 0) + 0.5 * (d == 0) for d in found.other]
    each = np.concatenate(
        [0.5 * (r.mean(1) + o.mean(1)) for r, o in zip(right_real, right_other, strict=True)]
    )
    reals, others = [r.mean(0) for r in right_real], [o.mean(0) for o in right_other]
    score_real, score_other = [d.mean(0) for d in found.real], [d.mean(0) for d in found.other]
    resample = [Resampler(len(s), s) for s in found.strata]
    generator = np.random.default_rng([seed, 14])
    drawn = np.empty((3, replicates))
    for i in range(replicates):
        rows, *opposite = (r(generator) for r in resample)
        drawn[0, i] = np.mean(
            [0.5 * (r[rows].mean() + o[p].mean())
             for r, o, p in zip(reals, others, opposite, strict=True)]
        )  # fmt: skip
        drawn[1, i], drawn[2, i] = _outside(
            [s[rows] for s in score_real],
            [s[p] for s, p in zip(score_other, opposite, strict=True)],
        )
    number = sum(map(len, found.strata))
    accuracy = _joined(drawn[0], float(each.mean()), each, number)
    flawed, missed = _outside(score_real, score_other)
    empty = np.empty(0)
    return (
        accuracy,
        _joined(drawn[1], flawed, empty, number),
        _joined(drawn[2], missed, empty, number),
    )


def _joined(drawn: np.ndarray, value: float, each: np.ndarray, number: int) -> Interval:
    """Return the bootstrap interval joined with the scatter between networks, in [0, 1]."""
    from scipy.stats import t as student

    spread = centred(drawn, value)
    open_side = 1 - 0.025 ** (1 / number)  # a share of 0 or 1 has no spread of its own
    below, above = max(value - spread.low, open_side), max(spread.high - value, open_side)
    error = max(spread.error or 0.0, open_side / 2)
    if len(each):
        scatter = float(each.std(ddof=1)) / math.sqrt(len(each))
        wide = float(student.ppf(0.975, len(each) - 1)) * scatter
        below, above = math.hypot(below, wide), math.hypot(above, wide)
        error = math.hypot(error, scatter)
    return Interval(value, max(0.0, value - below), min(1.0, value + above), error)


def _outside(real: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, float]:
    """Return (share of samples below the region of real values, share of real values above).

    The region ends at the order statistic k of n with k/(n + 1) = 1 %, or the first of fewer than
    99 values: the expected share of exchangeable values beyond it is k/(n + 1).
    """
    flawed, missed = [], []
    for r, o in zip(real, other, strict=True):
        k, j = (max(1, math.floor((1 - REGION) * (len(s) + 1) + 1e-9)) for s in (r, o))
        flawed.append((o < np.partition(r, k - 1)[k - 1]).mean())
        missed.append((r > np.partition(o, len(o) - j)[len(o) - j]).mean())
    return float(np.mean(flawed)), float(np.mean(missed))
