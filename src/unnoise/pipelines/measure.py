"""A model against the data it was kept from: samples, features, card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..artifacts.files import read_json
from ..artifacts.model import CONFIG
from ..artifacts.plan import make_plan
from ..data import Dataset
from ..errors import need_count
from ..evaluation import Card, FeatureNet, Part, Provenance, evaluate, features_for
from .held_out import check_part, held_out

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
    features: FeatureNet | None = None,
) -> Card:
    """The metric card of a trained model in `folder`, by the protocol that the card states.

    The data are those of the model's recipe, opened and split again and checked against the
    fingerprint that the model carries; samples are spread evenly over the classes. `part` is
    compared with: test, or validation while one is still choosing; by default test where the
    recipe holds one out, else validation. Raises DataError where the data changed or no such part
    was held out, and what loading and sampling raise.
    """
    check_part(part)
    folder = Path(folder).expanduser()
    model = Model.load(folder, precision, device)
    settings = model.recipe.evaluate
    count = need_count("n", settings.samples if n is None else n, LEAST)
    used, held, parts = held_out(model, part, LEAST, parts)
    train = parts["train"]
    seed = settings.seed if seed is None else seed
    options: dict[str, Any] = {
        "steps": steps, "solver": solver, "grid": grid, "guidance": guidance,
    }  # fmt: skip
    made = model.sample(count, seed=seed, batch=batch, **options)
    others = {name: _part(data) for name, data in parts.items() if name != "train"}
    features = features or features_for(_part(train), cache=folder, **others)
    sampling = model.recipe.sample
    return evaluate(
        Part(made.values, made.labels),
        Part(train.values, train.labels) if made.labels is not None else Part(train.values),
        Part(held.values, held.labels) if made.labels is not None else Part(held.values),
        features,
        data=f"{model.spec.name} ({used} part)",
        provenance=Provenance(
            model=model.recipe.name,
            model_hash=str(read_json(folder / CONFIG)["weights_sha256"]),
            ema=str(model.training.get("ema")),
            solver=solver or sampling.solver,
            grid=make_plan(model, solver, steps, grid, guidance, None, None).spacing,
            steps=steps or sampling.steps,
            passes=made.passes,
            guidance=sampling.guidance if guidance is None else guidance,
            interval=None if sampling.interval is None else str(sampling.interval),
            rescale=sampling.rescale,
            seeds=(seed,),
            precision=model.precision,
        ),
    )


def _part(data: Dataset) -> Part:
    return Part(torch.as_tensor(data.values), data.labels)
