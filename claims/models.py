"""The small trained models that claims are measured on: made by recipes, once, and judged alike."""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unnoise import __version__
from unnoise.artifacts import Model
from unnoise.errors import unknown
from unnoise.evaluation import FeatureNet, Part, features_for
from unnoise.evaluation.frechet import frechet_distance
from unnoise.evaluation.manifold import manifold
from unnoise.recipes import load_recipe, open_parts

from .claim import Interval

FOLDER = Path("runs/claims/models")
# scikit-learn's 8×8 digits, one small U-Net, 1,200 updates of 64: about a minute each on two cores
COMMON = (
    "train.budget=null", "train.steps=1200", "train.reports=1",
    "network.widths=[48,96]", "network.blocks=1", "sample.guidance=1",
)  # fmt: skip
CHAIN = ("path.kind=chain", "sample.grid.kind=trailing", "sample.solver=ddim")
EPS = ("model.predicts=eps", "objective.weight=simple", "objective.times.kind=chain")
# the cosine chain ends at ᾱ = 2e-9, where ε does not determine x0: these models predict v
V = ("model.predicts=v", "objective.weight=v", "objective.times.kind=chain")
COSINE = (*CHAIN, "path.betas=cosine", "model.predicts=v")
ONE_PATH = ("path.kind=cosine", "path.last=0.99", "objective.weight=v")
MODELS: dict[str, tuple[str, ...]] = {
    "linear chain": (*CHAIN, "path.betas=linear", *EPS),
    "linear chain, v": (*CHAIN, "path.betas=linear", *V),
    "cosine chain, v": (*CHAIN, "path.betas=cosine", *V),
    "learned variance": (
        *COSINE,
        "model.learned_variance=true",
        "objective.kind=hybrid",
        "objective.weight=v",
        "objective.times.kind=loss_history",
    ),
    "full bound": (*COSINE, "objective.kind=vlb", "objective.variance=transition"),
    "flow": (),
    "x0": (*ONE_PATH, "model.predicts=x0"),
    "eps": (*ONE_PATH, "model.predicts=eps"),
    "v": (*ONE_PATH, "model.predicts=v"),
    "velocity": (*ONE_PATH, "model.predicts=velocity"),
    "v, other seed": (*ONE_PATH, "model.predicts=v", "train.seed=1"),
}
TRAINED = "a 0.63 M-parameter U-Net on scikit-learn's 8×8 digits, 1,200 updates"
PART = 400  # samples a Fréchet distance is computed from: as many as are held out


def folder(name: str) -> Path:
    """Return the folder of the model `name`; another recipe or release has another folder."""
    if name not in MODELS:
        raise unknown("model of a claim", name, MODELS)
    key = hashlib.sha256(json.dumps([__version__, *COMMON, *MODELS[name]]).encode()).hexdigest()
    return FOLDER / f"{name.replace(', ', '-').replace(' ', '-')}-{key[:12]}"


@lru_cache
def model(name: str) -> Model:
    """Return a trained model by name, trained now unless it is stored."""
    from unnoise.training import train

    place = folder(name)
    if not (place / "model.json").is_file():
        print(f"      training the model {name!r}: about a minute on two cores", flush=True)
        recipe = load_recipe("digits", [*COMMON, *MODELS[name]])
        train(recipe, place, resume=True, quiet=True, tensorboard=False)
    return Model.load(place, precision="fp32")


class Judge(NamedTuple):
    """The measure of these models' samples: features, and held-out digits."""

    features: FeatureNet
    held: Tensor
    labels: Tensor
    known: np.ndarray
    floor: float

    def frechet(self, values: Tensor) -> float:
        """Return the Fréchet distance to the held-out digits, over its floor.

        The floor is the distance of as many real training digits.
        """
        return frechet_distance(self.known, self.features.features(values)) / self.floor


@lru_cache
def judge() -> Judge:
    """Return the judge: a classifier of the training digits (99 % on the others)."""
    parts = open_parts(load_recipe("digits", list(COMMON)))[1]
    train, others = parts["train"], [parts["test"], parts["validation"]]
    values = torch.as_tensor(train.values)
    features = features_for(Part(values, train.labels), cache=FOLDER, test=_part(others[0]))
    held = torch.cat([torch.as_tensor(part.values) for part in others])
    labels = torch.cat([torch.as_tensor(part.labels) for part in others])
    known = features.features(held)
    rows = torch.arange(len(values) // PART * PART).reshape(-1, PART)
    shuffled = values[np.random.default_rng(0).permutation(len(values))]
    floors = [frechet_distance(known, features.features(shuffled[part])) for part in rows]
    return Judge(features, held, labels, known, float(np.mean(floors)))


def _part(data: Any) -> Part:
    return Part(torch.as_tensor(data.values), data.labels)


class Quality(NamedTuple):
    """Fréchet distance over its floor, accuracy of the requested class, recall; nfe per sample."""

    frechet: Interval
    accuracy: Interval
    recall: Interval
    passes: int


@lru_cache
def quality(name: str, solver: str, steps: int, parts: int = 4, guidance: float = 1.0) -> Quality:
    """Return the quality of `parts` × 400 samples, with 95 % intervals over the parts."""
    made = model(name).sample(
        parts * PART, solver=solver, steps=steps, guidance=guidance, seed=1, batch=PART
    )
    by = judge()
    assert made.labels is not None
    predict = by.features.predict  # type: ignore[attr-defined]
    frechet, accuracy, recall = [], [], []
    for values, labels in zip(made.values.split(PART), made.labels.split(PART), strict=True):
        frechet.append(by.frechet(values))
        accuracy.append(float((predict(values) == labels.numpy()).mean()))
        recall.append(manifold(by.known, by.features.features(values)).recall)
    return Quality(mean_of(frechet), mean_of(accuracy), mean_of(recall), made.nfe)


def mean_of(values: list[float] | np.ndarray) -> Interval:
    """Return the mean with Student's 95 % interval."""
    from scipy.stats import t

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
