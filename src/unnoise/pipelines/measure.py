"""A model against the data it was kept from: samples, features, card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..artifacts.files import read_json
from ..artifacts.model import CONFIG
from ..data import Dataset
from ..errors import DataError, InvalidArgument
from ..evaluation import Card, FeatureNet, Part, Provenance, evaluate, features_for
from ..recipes import open_parts

LEAST = 20


def measure(
    folder: str | Path,
    *,
    n: int | None = None,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    seed: int | None = None,
    part: str = "test",
    batch: int = 250,
    parts: Mapping[str, Dataset] | None = None,
    features: FeatureNet | None = None,
) -> Card:
    """The metric card of a trained model in `folder`, by the protocol that the card states.

    The data are those of the model's recipe, opened and split again and checked against the
    fingerprint that the model carries; samples are spread evenly over the classes. `part` is
    compared with: test, or validation while one is still choosing. Raises DataError where the
    data changed or no such part was held out, and what loading and sampling raise.
    """
    if part not in ("test", "validation"):
        raise InvalidArgument(f"part is {part!r}; give 'test' or 'validation'")
    folder = Path(folder).expanduser()
    model = Model.load(folder)
    if parts is None:
        parts = open_parts(model.recipe)[1]
    train = parts["train"]
    if train.spec.fingerprint != model.spec.fingerprint:
        raise DataError(
            f"the data of this model's recipe have changed: fingerprint "
            f"{train.spec.fingerprint[:16]}…, the model was trained on "
            f"{model.spec.fingerprint[:16]}…; evaluate on the data it was trained on"
        )
    held = parts.get(part) or parts.get("validation")
    if held is None or len(held) < LEAST:
        raise DataError(
            f"evaluation needs at least {LEAST} samples that were held out, and this recipe holds "
            f"out {0 if held is None else len(held)}; train with data.split.test=100"
        )
    used = part if parts.get(part) is not None else "validation"
    settings = model.recipe.evaluate
    count = settings.samples if n is None else n
    if count < LEAST:
        raise InvalidArgument(f"n is {count}; give at least {LEAST} samples to measure")
    seed = settings.seed if seed is None else seed
    options: dict[str, Any] = {"steps": steps, "solver": solver, "guidance": guidance}
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
            grid=str(sampling.grid.kind),
            steps=steps or sampling.steps,
            passes=made.passes,
            guidance=sampling.guidance if guidance is None else guidance,
            seeds=(seed,),
            precision=model.precision,
        ),
    )


def _part(data: Dataset) -> Part:
    return Part(torch.as_tensor(data.values), data.labels)
