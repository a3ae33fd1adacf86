"""The data, the one classifier that judges every contestant, and the figures of some samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

import unnoise
from unnoise.data import Dataset
from unnoise.evaluation import (
    FeatureClassifier,
    Part,
    Slices,
    c2st,
    features_for,
    frechet_distance,
    sliced_wasserstein,
)
from unnoise.randomness import Streams
from unnoise.recipes import open_parts

HALVES = ["data.split.train=898", "data.split.validation=899", "data.split.test=0"]
SPLITS = {"digits": HALVES, "mnist5k": []}  # overrides of the shipped recipes
EVALUATIONS = 50
DRAWS = 3  # sets of samples a run: one set's Fréchet distance varies by a tenth


@dataclass
class Task:
    """A data set in two parts. A contestant has access to `train` only."""

    name: str
    train: Dataset
    held: Part  # raw values, labels
    cache: Path
    quick: bool = False  # whether the classifier trains for a second only

    @staticmethod
    def open(name: str, cache: Path, most: int | None = None) -> Task:
        """Return the task of a name; most: held-out values at most, in a quick run."""
        parts = open_parts(unnoise.load_recipe(name, SPLITS[name]))[1]
        unseen = parts["test"] if len(parts.get("test", ())) else parts["validation"]
        values, labels = torch.as_tensor(unseen.values), torch.as_tensor(unseen.labels).long()
        held = Part(values[:most], labels[:most])
        return Task(name, parts["train"], held, cache, most is not None)

    @property
    def labels(self) -> Tensor:
        """The classes requested from every conditional contestant: those of the held-out values."""
        return torch.as_tensor(self.held.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return tuple(self.train.spec.shape)

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Return the training values in [−1, 1], as the peers' recipes need them, and labels."""
        top = self.train.spec.value_range[1]
        values = torch.as_tensor(self.train.values).float() / (top / 2) - 1
        return values, torch.as_tensor(self.train.labels).long()

    def raw(self, x: Tensor) -> Tensor:
        """Return samples in [−1, 1] as whole raw values."""
        top = self.train.spec.value_range[1]
        return ((x.float() + 1) * (top / 2)).nan_to_num(0.0).clamp(0, top).round().to(torch.uint8)

    @cached_property
    def classifier(self) -> FeatureClassifier:
        """The classifier of the training part alone; the shipped one if it fits.

        The shipped one fits if it was trained on that part.
        """
        options = {"seen": 4000} if self.quick else {}
        found = features_for(self.train, self.held, cache=self.cache, **options)
        assert isinstance(found, FeatureClassifier)
        return found

    @cached_property
    def _held(self) -> np.ndarray:
        return self.classifier.features(self.held.values)

    @cached_property
    def _slices(self) -> tuple[Slices, np.ndarray]:
        slices = Slices(self.train.values)
        return slices, slices(self.held.values)

    def figures(self, values: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Return the figures of as many raw values as held-out ones.

        labels: the requested classes, or None.
        """
        features = self.classifier.features(values)
        strata = None if labels is None else np.asarray(labels)
        real = None if labels is None else self.labels.numpy()
        told = c2st(self._held, features, real_strata=real, sample_strata=strata)
        slices, held = self._slices
        row = {
            "fd": frechet_distance(self._held, features),
            "c2st": float(told.mean()),
            "sliced_w2": sliced_wasserstein(held[:, : len(values)], slices(values)),
        }
        row["nearer_training"] = self.nearer_training(values)
        if labels is not None:
            row["accuracy"] = float((self.classifier.predict(values) == strata).mean())
        return row

    def mean_figures(self, draws: Sequence[Tensor], labels: Tensor | None) -> dict[str, Any]:
        """Return the mean of each figure over sets of samples, and `fds`.

        `fds` is every set's Fréchet distance.
        """
        each = [self.figures(values, labels) for values in draws]
        row = {name: mean(one[name] for one in each) for name in each[0]}
        return {**row, "fds": [one["fd"] for one in each]}

    def nearer_training(self, values: Tensor) -> float:
        """Return the share of samples nearer to a training value than to a held-out one.

        There are as many of each. 0.5 without memorisation, towards 1 if training values are
        repeated.
        """
        flat = [part.flatten(1).float() for part in (values, self._matched()[0], self._reference())]
        one, other = (torch.cdist(flat[0], part).amin(1) for part in flat[1:])
        return float(((one < other).float() + 0.5 * (one == other)).mean())

    def _reference(self) -> Tensor:
        values = torch.as_tensor(self.held.values)
        return values[: len(self._matched()[0])]

    def _matched(self) -> tuple[Tensor, Tensor]:
        """Return as many training values as held-out ones, with the same number of each class."""
        values = torch.as_tensor(self.train.values)
        labels = torch.as_tensor(self.train.labels).long()
        if len(values) <= len(self.held.values):
            return values, labels
        rows = [
            torch.nonzero(labels == c).flatten()[:k]
            for c, k in enumerate(torch.bincount(self.labels).tolist())
        ]
        return values[torch.cat(rows)], labels[torch.cat(rows)]

    def noise(self, seed: int = 1) -> Tensor:
        """Return the standard noise from which every contestant starts, one a held-out value."""
        streams = Streams(seed, range(len(self.held.values)), "sample")
        return streams.normal(*self.shape)

    def bounds(self) -> dict[str, object]:
        """Return the figures of real training values, and of noise, in the samples' place."""
        floor = self.figures(*self._matched())
        del floor["nearer_training"]  # they are the training values
        return {
            "floor": floor,
            "noise": self.figures(self.raw(self.noise(2)), None),
            "train": len(self.train),
            "held_out": len(self.held.values),
            "classifier": {
                "hash": self.classifier.fingerprint[:16],
                "accuracy_on_held_out": float(
                    (self.classifier.predict(self.held.values) == self.labels.numpy()).mean()
                ),
                **self.classifier.record,
            },
        }
