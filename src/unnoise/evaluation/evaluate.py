"""The evaluation of samples against data: every metric of the card, by one protocol."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from ..data.dataset import fingerprint
from ..data.grid_picture import sample_grid
from ..errors import InvalidArgument, need_count
from .card import Card, Provenance, versions
from .distribution import FOLDS, Compared, Features, K, distribution
from .intervals import Resampler, bootstrap_mean
from .kernel import Scale
from .learned_test import LEAST_HALF, Judge, learned_test, quotas
from .levels import NoiseLevels
from .matching import LEAST, matched_counts, subsets
from .memorisation import copies, memorisation
from .metric import TITLES, Metric
from .pixels import flatten
from .protocol import protocol_text
from .sides import (
    FeatureNet,
    Labelled,
    Part,
    Side,
    as_side,
    check_sides,
    classes_of,
    count_of,
    subsample,
)
from .slices import DIRECTIONS, Slices, sliced_distance, sliced_wasserstein

SUBSETS = 8
SHOWN = 12  # samples in each row of flawed.png


def evaluate(
    samples: Labelled,
    train: Labelled,
    reference: Labelled,
    features: FeatureNet,
    *,
    data: str = "",
    provenance: Provenance | None = None,
    levels: NoiseLevels | None = None,
    judge: Judge | None = None,
    train_values: int | None = None,
    about_reference: str = "The model was not trained on the reference.",
    size: int = 500,
    replicates: int = 500,
    seed: int = 0,
) -> Card:
    """Return the metric card of some samples; a pure function of its arguments.

    Samples are cut into parts of the size and the class counts of the reference (at most `size`)
    and each part is compared with the reference; values are averages over the parts. The floor is
    the same comparison with real training values in the place of samples.

    Arguments: `samples` raw values in the data's units, with the class requested for each as label
    (None for an unconditional model); `train` the model's training data, of which at most 50,000
    values, and at most 2 GiB, are used, taken at random; `train_values` number of training values
    if `train` is already a subset; `reference` values on which the model was not trained;
    `features` from `named_features`, or any `FeatureNet`; `data` the data's name; `provenance`
    origin of the samples; `levels` the model's loss by noise level; `judge`
    settings of the learned two-sample test, which is left out for None or fewer than 20 samples, 30
    training values or 10 reference values; `about_reference` a sentence
    for the card; `size` points a side in one comparison; `replicates` of the bootstrap; `seed` of
    every random choice. Raises DataError for sides that do not fit together or are below 20 values.
    """
    size = need_count("size", size, LEAST)
    need_count("replicates", replicates, 20)
    given, known, real = as_side(samples), as_side(subsample(train)), as_side(reference)
    sides = {"samples": given, "training values": known, "reference": real}
    check_sides(sides)
    matched = all(part.labels is not None for part in sides.values())
    classes = {name: classes_of(part, matched) for name, part in sides.items()}
    requested, of_train, of_reference = classes.values()
    counts = matched_counts(requested, of_reference, of_train, size)
    total = sum(counts.values())
    parts = min(int((requested == c).sum()) // n for c, n in counts.items())
    parts = min(parts, SUBSETS)

    reference_rows = subsets(of_reference, counts, 1, seed)[0]
    held_values, held_strata = real.values[reference_rows], of_reference[reference_rows]
    train_rows = subsets(of_train, counts, SUBSETS, seed + 2)
    sample_rows = subsets(requested, counts, parts, seed + 1)
    with threadpool_limits(1, "blas"):  # many small products: more threads are slower
        sampled = Features(_computed(features, given.values, "samples"), requested)
        held = Features(_computed(features, held_values, "reference"), held_strata)
        floor_features = [
            Features(_computed(features, known.values[rows], "training values"), of_train[rows])
            for rows in train_rows
        ]
        scale = Scale.of(np.concatenate([f.values for f in floor_features]))
        measured = [Compared(held, sampled.at(rows), scale, seed) for rows in sample_rows]
        floors = [Compared(held, f, scale, seed) for f in floor_features]
        metrics = distribution(held, measured, floors, replicates, seed)
        metrics["sliced"] = _sliced(
            Slices(known.values, seed=seed), (held_values, held_strata),
            [(given.values[rows], requested[rows]) for rows in sample_rows],
            [known.values[rows] for rows in train_rows], replicates, seed,
        )  # fmt: skip
        pixels, held_pixels = flatten(given.values), flatten(held_values)
        used, pools = np.unique(np.concatenate(train_rows), return_inverse=True)
        nearest = memorisation(
            pixels,
            flatten(known.values[used]),
            held_pixels,
            list(pools.reshape(len(train_rows), -1)),
            requested,
            replicates=max(20, replicates // 2),
            seed=seed,
        )
        copied = copies(pixels, known.values)
        copied_held = float(copies(held_pixels, known.values).mean())
    mean = partial(bootstrap_mean, strata=requested, replicates=replicates, seed=seed)
    metrics["memorisation"] = Metric.of(nearest, [0.5])
    metrics["copies"] = Metric.of(mean(copied), [copied_held])
    predict: Callable[[Tensor], Int[np.ndarray, " n"]] | None = getattr(features, "predict", None)
    if matched and predict is not None:
        right = predict(given.values) == requested
        right_held = float((predict(held_values) == held.strata).mean())
        metrics["accuracy"] = Metric.of(mean(right), [right_held])
    learned, shown = None, None
    if judge is not None:
        added, learned, shown = _judged(judge, (known, given, real), matched, replicates, seed)
        metrics |= added
    if levels is not None:
        metrics["denoising"] = levels.share

    reference_labels = None if real.labels is None else real.labels[reference_rows]
    searched = len(known.values)
    return Card(
        data=data,
        samples=len(given.values),
        compared=total,
        parts=parts,
        per_class=_per_class(counts) if matched else None,
        subsets=SUBSETS,
        k=K,
        folds=FOLDS,
        directions=DIRECTIONS,
        replicates=replicates,
        seed=seed,
        features=features.name,
        features_hash=features.fingerprint,
        features_record=dict(getattr(features, "record", {})),
        reference_hash=fingerprint(held_values, reference_labels),
        train_hash=fingerprint(known.values, known.labels),
        searched=searched,
        train_values=max(train_values or 0, count_of(train)),
        samples_hash=fingerprint(given.values, given.labels),
        provenance=provenance or Provenance(),
        versions=versions(),
        metrics={name: metrics[name] for name in TITLES if name in metrics},
        levels=None if levels is None else levels.levels,
        judge=learned,
        flawed=shown,
        protocol=protocol_text(
            total, parts, matched, SUBSETS, K, FOLDS, features.name, DIRECTIONS,
            (searched, max(train_values or 0, count_of(train))), "accuracy" in metrics,
            about_reference, levels, learned,
        ),
    )  # fmt: skip


def _computed(features: FeatureNet, values: Tensor, what: str) -> np.ndarray:
    """Return features in float64; raise InvalidArgument for a wrong shape or NaN."""
    found = np.asarray(features.features(values), np.float64)
    if found.ndim != 2 or len(found) != len(values) or not np.isfinite(found).all():
        kind = "NaN or infinity" if found.shape[:1] == (len(values),) else f"shape {found.shape}"
        raise InvalidArgument(
            f"{features.name} gives {kind} for {len(values)} {what}; features must be finite and "
            "of shape (n, d)"
        )
    return found


def _judged(
    judge: Judge, sides: tuple[Side, Side, Side], matched: bool, replicates: int, seed: int
) -> tuple[dict[str, Metric], dict[str, Any] | None, bytes | None]:
    """Return the metrics of the learned test, its settings, and a PNG of the worst and the best.

    Nothing for too few values. sides: training values, samples, reference.
    """
    known, given, real = sides
    known = as_side(subsample(Part(known.values, known.labels), 8 * judge.most))
    strata = (classes_of(known, matched), classes_of(given, matched), classes_of(real, matched))
    if sum(quotas(strata, judge.most).values()) < LEAST_HALF or len(real.values) < LEAST_HALF:
        return {}, None, None
    test = partial(
        learned_test, known.values, given.values, real.values,
        strata=strata, judge=judge, replicates=replicates, seed=seed,
    )  # fmt: skip
    found = test()
    metrics = {"learned": found.accuracy, "flawed": found.flawed, "missed": found.missed}
    by_shape = judge.shape and given.values.ndim == 4
    if by_shape:
        metrics["learned_shape"] = test(shape=True).accuracy
    settings = asdict(judge) | {
        "shape": by_shape, "values": found.values, "lattice": found.lattice
    }  # fmt: skip
    return metrics, settings, _worst_and_best(given.values, found.scores)


def _worst_and_best(values: Tensor, scores: np.ndarray) -> bytes | None:
    """Return the PNG of the dozen samples of lowest and of highest score; None unless pictures."""
    if values.dtype != torch.uint8 or values.ndim != 4 or values.shape[1] not in (1, 3, 4):
        return None
    order = scores.argsort(kind="stable")
    count = min(SHOWN, len(order) // 2)
    rows = torch.from_numpy(np.concatenate([order[:count], order[::-1][:count]]))
    labels = torch.arange(2).repeat_interleave(count)
    buffer = io.BytesIO()
    sample_grid(values[rows], labels, ("worst", "best")).save(buffer, "PNG")
    return buffer.getvalue()


def _sliced(
    slices: Slices,
    held: tuple[Tensor, np.ndarray],
    parts: list[tuple[Tensor, np.ndarray]],
    floors: list[Tensor],
    replicates: int,
    seed: int,
) -> Metric:
    """Return the sliced distance of parts (values, strata) and its floor."""
    real = slices(held[0])
    estimate = sliced_distance(
        real,
        [slices(values) for values, _ in parts],
        [Resampler(len(values), strata) for values, strata in (held, *parts)],
        replicates=max(20, replicates // 5),
        seed=seed,
    )
    return Metric.of(estimate, [sliced_wasserstein(real, slices(values)) for values in floors])


def _per_class(counts: dict[int, int]) -> int | None:
    return next(iter(counts.values())) if len(set(counts.values())) == 1 else None
