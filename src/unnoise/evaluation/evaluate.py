"""Samples against data: every metric of the card, by one protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from ..data.dataset import fingerprint
from ..errors import DataError, InvalidArgument, need_count
from .c2st import c2st
from .card import TITLES, Card, Metric, Provenance, versions
from .frechet import frechet_distance
from .intervals import Interval, Resampler, bootstrap, bootstrap_mean
from .manifold import manifold
from .matching import LEAST, matched_counts, subsets
from .memorisation import copies, memorisation
from .pixels import flatten
from .protocol import protocol_text

K = 5
FOLDS = 5
SUBSETS = 8
COMPARED = ("frechet", "c2st", "precision", "recall", "density", "coverage")


@runtime_checkable
class Labelled(Protocol):
    """Raw values (n, *event) and labels (n,) or None: a `Dataset`, a `Part`."""

    @property
    def values(self) -> Tensor | np.ndarray: ...
    @property
    def labels(self) -> Tensor | np.ndarray | None: ...


class Part(NamedTuple):
    """The plainest `Labelled`."""

    values: Tensor | np.ndarray
    labels: Tensor | np.ndarray | None = None


class _Side(NamedTuple):
    values: Tensor
    labels: Tensor | None


@runtime_checkable
class FeatureNet(Protocol):
    """What turns raw values into features; one that also has `predict` names the class."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]: ...


def evaluate(
    samples: Labelled,
    train: Labelled,
    reference: Labelled,
    features: FeatureNet,
    *,
    data: str = "",
    provenance: Provenance | None = None,
    size: int = 500,
    replicates: int = 500,
    seed: int = 0,
) -> Card:
    """The metric card of some samples; a pure function of its arguments.

    Samples are cut into parts of the size and the class counts of the reference (at most `size`)
    and each part is compared with the reference; values are averages over the parts. The floor is
    the same with real training values in the place of samples.

    Arguments: `samples` raw values as restored, with the class each was asked for (None where
    nothing was); `train` what the model was trained on; `reference` values it never saw, for the
    card alone; `features` from `features_for` or `ValuePCA`; `data` a name; `provenance` what
    made the samples. Raises DataError for sides that do not fit together or are below 20 values.
    """
    size = need_count("size", size, LEAST)
    need_count("replicates", replicates, 20)
    given, known, real = _side(samples), _side(train), _side(reference)
    sides = {"samples": given, "training values": known, "reference": real}
    _check(sides)
    matched = all(part.labels is not None for part in sides.values())
    classes = {name: _classes(part, matched) for name, part in sides.items()}
    asked, of_train, of_reference = classes.values()
    counts = matched_counts(asked, of_reference, of_train, size)
    total = sum(counts.values())
    parts = min(int((asked == c).sum()) // n for c, n in counts.items())
    parts = min(parts, SUBSETS)

    reference_rows = subsets(of_reference, counts, 1, seed)[0]
    held_values = real.values[reference_rows]
    train_rows = subsets(of_train, counts, SUBSETS, seed + 2)
    sampled = _Features(features.features(given.values), asked)
    held = _Features(features.features(held_values), of_reference[reference_rows])
    with threadpool_limits(1, "blas"):  # many small products: more threads only wait
        measured = [
            _Compared(held, sampled.at(rows), seed)
            for rows in subsets(asked, counts, parts, seed + 1)
        ]
        floors = []
        for rows in train_rows:
            values = features.features(known.values[rows])
            floors.append(_Compared(held, _Features(values, of_train[rows]), seed))
        metrics = _distribution(held, measured, floors, replicates, seed)
        pixels, train_pixels, held_pixels = map(flatten, (given.values, known.values, held_values))
        nearest = memorisation(
            pixels,
            train_pixels,
            held_pixels,
            train_rows,
            asked,
            replicates=max(20, replicates // 2),
            seed=seed,
        )
        copied = copies(pixels, train_pixels)
        copied_held = float(copies(held_pixels, train_pixels).mean())
    mean = partial(bootstrap_mean, strata=asked, replicates=replicates, seed=seed)
    metrics["memorisation"] = Metric.of(nearest, [0.5])
    metrics["copies"] = Metric.of(mean(copied), [copied_held])
    predict: Callable[[Tensor], Int[np.ndarray, " n"]] | None = getattr(features, "predict", None)
    if matched and predict is not None:
        right = predict(given.values) == asked
        right_held = float((predict(held_values) == held.strata).mean())
        metrics["accuracy"] = Metric.of(mean(right), [right_held])

    reference_labels = None if real.labels is None else real.labels[reference_rows]
    return Card(
        data=data,
        samples=len(given.values),
        compared=total,
        parts=parts,
        per_class=_per_class(counts) if matched else None,
        subsets=SUBSETS,
        k=K,
        folds=FOLDS,
        replicates=replicates,
        seed=seed,
        features=features.name,
        features_hash=features.fingerprint,
        features_record=dict(getattr(features, "record", {})),
        reference_hash=fingerprint(held_values, reference_labels),
        train_hash=fingerprint(known.values, known.labels),
        samples_hash=fingerprint(given.values, given.labels),
        provenance=provenance or Provenance(),
        versions=versions(),
        metrics={name: metrics[name] for name in TITLES if name in metrics},
        protocol=protocol_text(total, parts, matched, SUBSETS, K, FOLDS, features.name),
    )


class _Features(NamedTuple):
    values: np.ndarray
    strata: np.ndarray

    def at(self, rows: np.ndarray) -> _Features:
        return _Features(self.values[rows], self.strata[rows])


class _Compared:
    """One set of real values against one set of samples."""

    def __init__(self, real: _Features, samples: _Features, seed: int) -> None:
        self.samples = samples
        self.frechet = frechet_distance(real.values, samples.values)
        self.told = c2st(
            real.values,
            samples.values,
            real_strata=real.strata,
            sample_strata=samples.strata,
            folds=FOLDS,
            seed=seed,
        )
        self.manifold = manifold(real.values, samples.values, K)
        self.c2st = float(self.told.mean())
        self.precision, self.recall = self.manifold.precision, self.manifold.recall
        self.density, self.coverage = self.manifold.density, self.manifold.coverage


def _distribution(
    held: _Features,
    measured: Sequence[_Compared],
    floors: Sequence[_Compared],
    replicates: int,
    seed: int,
) -> dict[str, Metric]:
    """The metrics that compare features, averaged over the parts, each with its floor."""
    n = len(held.values)
    strata, joined = held.strata, np.concatenate([m.samples.strata for m in measured])
    told_real = np.mean([m.told[:n] for m in measured], 0)
    told_samples = np.concatenate([m.told[n:] for m in measured])

    def frechet(real: np.ndarray, *rows: np.ndarray) -> float:
        drawn = [m.samples.values[r] for m, r in zip(measured, rows, strict=True)]
        return float(np.mean([frechet_distance(held.values[real], d) for d in drawn]))

    def told(real: np.ndarray, rows: np.ndarray) -> float:
        return 0.5 * float(told_real[real].mean() + told_samples[rows].mean())

    real, parts = Resampler(n, strata), [Resampler(n, m.samples.strata) for m in measured]
    both = partial(bootstrap, replicates=replicates, seed=seed)
    mean = partial(bootstrap_mean, replicates=replicates, seed=seed)
    average = {name: float(np.mean([getattr(m, name) for m in measured])) for name in COMPARED}
    estimates = {
        "frechet": both(frechet, [real, *parts], average["frechet"], floor=0.0),
        "c2st": both(told, [real, Resampler(len(told_samples), joined)], average["c2st"]),
        "precision": mean(np.concatenate([m.manifold.precise for m in measured]), joined),
        "recall": mean(np.mean([m.manifold.recalled for m in measured], 0), strata),
        "density": mean(np.concatenate([m.manifold.dense for m in measured]), joined),
        "coverage": mean(np.mean([m.manifold.covered for m in measured], 0), strata),
    }
    real_data = {name: [getattr(f, name) for f in floors] for name in COMPARED}
    floor = float(np.mean(real_data["frechet"]))
    if floor > 0:
        raw = estimates["frechet"]
        estimates["frechet_ratio"] = Interval(raw.value / floor, raw.low / floor, raw.high / floor)
        real_data["frechet_ratio"] = [f / floor for f in real_data["frechet"]]
    return {name: Metric.of(estimate, real_data[name]) for name, estimate in estimates.items()}


def _side(part: Labelled) -> _Side:
    values = torch.as_tensor(part.values)
    return _Side(values, None if part.labels is None else torch.as_tensor(part.labels).long())


def _check(sides: dict[str, _Side]) -> None:
    events = {name: tuple(part.values.shape[1:]) for name, part in sides.items()}
    if len(set(events.values())) > 1:
        raise DataError(f"shapes of one value differ: {events}; compare values of one shape")
    kinds = {name: str(p.values.dtype) for name, p in sides.items()}
    if len(set(kinds.values())) > 1:
        raise InvalidArgument(
            f"dtypes differ: {kinds}; restore the samples to the data's raw units"
        )
    if sides["samples"].labels is not None:
        for name, part in sides.items():
            if part.labels is None:
                raise DataError(
                    f"the samples have labels but the {name} have none; leave the labels out"
                )
    for name, part in sides.items():
        if not torch.isfinite(part.values.float()).all():
            raise DataError(f"the {name} hold NaN or infinity; nothing can be measured on them")
        if part.labels is not None and len(part.labels) != len(part.values):
            raise DataError(f"{len(part.values)} {name} with {len(part.labels)} labels")


def _classes(part: _Side, matched: bool) -> np.ndarray:
    """Labels, or one class for all where classes are not matched."""
    if not matched or part.labels is None:
        return np.zeros(len(part.values), np.int64)
    return np.asarray(part.labels, np.int64)


def _per_class(counts: dict[int, int]) -> int | None:
    return next(iter(counts.values())) if len(set(counts.values())) == 1 else None
