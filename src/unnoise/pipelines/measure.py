"""The evaluation of a model against its held-out data: samples, features, card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..artifacts import Model
from ..artifacts.artifact import CONFIG
from ..data import Dataset
from ..errors import need_count
from ..evaluation import (
    Card,
    FeatureNet,
    GivenFeatures,
    Part,
    Provenance,
    check_features,
    evaluate,
    named_features,
    subsample,
)
from ..safe_files.files import read_json
from ..sampling import make_plan
from .held_out import check_part, open_held_out
from .noise_levels import loss_by_level

LEAST = 20


def measure(
    folder: str | Path,
    *,
    n: int | None = None,
    steps: int | None = None,
    solver: str | None = None,
    grid: str | None = None,
    guidance: float | None = None,
    seed: int | None = None,
    part: str | None = None,
    batch: int = 250,
    precision: str = "auto",
    device: str = "auto",
    parts: Mapping[str, Dataset] | None = None,
    features: FeatureNet | Callable[[Tensor], Tensor | np.ndarray] | str | None = None,
    fetch: bool = False,
) -> Card:
    """Return the metric card of the trained model in `folder`; the card states its protocol.

    The data are those of the model's recipe, opened and split again and checked against the
    fingerprint in the model's record; samples are spread evenly over the classes. `part`: the
    reference, test or (while still choosing a model) validation; by default test if the recipe
    holds one out, else validation. `features`: a name or path for `named_features`, a `FeatureNet`,
    or a function from raw values to (n, d); by default a classifier if the data have labels, else
    principal components. `fetch`: EfficientNet's weights may be fetched. Raises DataError if the
    data changed or no such part was held out, and the errors of loading, sampling and features.
    """
    check_part(part)
    folder = Path(folder).expanduser()
    model = Model.load(folder, precision, device)
    settings = model.recipe.evaluate
    count = need_count("n", settings.samples if n is None else n, LEAST)
    used, held, parts = open_held_out(model, part, LEAST, parts)
    train = parts["train"]
    seed = settings.seed if seed is None else seed
    options: dict[str, Any] = {
        "steps": steps, "solver": solver, "grid": grid, "guidance": guidance,
    }  # fmt: skip
    if features is None or isinstance(features, str):
        check_features(features, model.spec.shape, model.spec.classes)
    known = _part(train)

    def space(name: str | None) -> FeatureNet:
        """Return the feature space `name` for the model's data."""
        others = {key: _part(data) for key, data in parts.items() if key != "train"}
        return named_features(
            name, known, **others, value_range=model.spec.value_range, cache=folder, fetch=fetch
        )

    if isinstance(features, str) and features != "classifier":  # fail before the sampling
        features = space(features)
    made = model.sample(count, seed=seed, batch=batch, **options)
    if features is None or isinstance(features, str):
        features = space(features)
    elif not isinstance(features, FeatureNet):
        features = GivenFeatures(features, getattr(features, "__name__", "given"), known.values)
    labelled = made.labels is not None
    sampling = model.recipe.sample
    return evaluate(
        Part(made.values, made.labels),
        known if labelled else Part(known.values),
        _part(held) if labelled else Part(_part(held).values),
        features,
        data=f"{model.spec.name} ({used} part)",
        train_values=len(train),
        levels=loss_by_level(model, held, train, seed=0),
        provenance=Provenance(
            model=model.recipe.name,
            model_hash=str(read_json(folder / CONFIG)["weights_sha256"]),
            ema=str(model.training.get("ema")),
            path=str(model.denoiser.path),
            solver=solver or sampling.solver,
            grid=make_plan(model.facts, solver, steps, grid, guidance, None, None).spacing,
            steps=steps or sampling.steps,
            passes=made.nfe,
            guidance=sampling.guidance if guidance is None else guidance,
            interval=None if sampling.interval is None else str(sampling.interval),
            rescale=sampling.rescale,
            seeds=(seed,),
            precision=model.precision,
        ),
    )


def _part(data: Dataset) -> Part:
    """Return a part's values in memory, a large part reduced by `subsample`."""
    some = subsample(data)
    return Part(torch.as_tensor(some.values), some.labels)
