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
from ..errors import InvalidArgument, need_count
from ..evaluation import (
    Card,
    FeatureNet,
    GivenFeatures,
    Judge,
    Part,
    Provenance,
    check_features,
    evaluate,
    named_features,
    subsample,
)
from ..recipes import guidance_text
from ..recipes.sample_section import ClassifierFreeSection
from ..safe_files.files import read_json
from ..sampling import SampleRequest, Stream, open_stream
from .held_out import check_part, open_held_out
from .noise_levels import loss_by_level

LEAST = 20


def measure(
    folder: str | Path,
    *,
    request: SampleRequest | None = None,
    part: str | None = None,
    parts: Mapping[str, Dataset] | None = None,
    features: FeatureNet | Callable[[Tensor], Tensor | np.ndarray] | str | None = None,
    fetch: bool = False,
    **options: Any,
) -> Card:
    """Return the metric card of the trained model in `folder`; the card states its protocol.

    The data are those of the model's recipe, opened and split again and checked against the
    fingerprint in the model's record; samples are spread evenly over the classes. `part`: the
    reference, test or (while still choosing a model) validation; by default test if the recipe
    holds one out, else validation. `features`: a name or path for `named_features`, a `FeatureNet`,
    or a function from raw values to (n, d); by default a classifier if the data have labels, else
    principal components. `fetch`: EfficientNet's weights may be fetched. Whether the learned two-
    sample test is made is a setting of the recipe (evaluate.judge, evaluate.judge_shape). request,
    options: those of `Model.sample`, precision and device, but no condition. Raises DataError if
    the data changed or no such part was held out, and the errors of loading, sampling and features.
    """
    check_part(part)
    folder = Path(folder).expanduser()
    asked = (request or SampleRequest()).but(**options)
    if asked.condition is not None:
        raise InvalidArgument(
            f"condition is {asked.condition!r}, and a model is measured over all of its classes, "
            "or on what held-out samples are conditioned on; leave it out"
        )
    model = Model.load(folder, asked.precision, asked.device)
    settings = model.recipe.evaluate
    asked = asked.but(
        n=settings.samples if asked.n is None else asked.n,
        seed=settings.seed if asked.given("seed") is None else asked.seed,
    )
    need_count("n", asked.n, LEAST)
    used, held, parts = open_held_out(model, part, LEAST, parts)
    train = parts["train"]
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
    if model.conditions.keys() - {"class"}:
        asked = asked.but(condition=held.examples(list(model.conditions), asked.n or LEAST))
    stream = open_stream(model.facts, asked)
    made = stream.whole()
    if features is None or isinstance(features, str):
        features = space(features)
    elif not isinstance(features, FeatureNet):
        features = GivenFeatures(features, getattr(features, "__name__", "given"), known.values)
    labelled = made.labels is not None
    return evaluate(
        Part(made.values, made.labels),
        known if labelled else Part(known.values),
        _part(held) if labelled else Part(_part(held).values),
        features,
        data=f"{model.spec.name} ({used} part)",
        train_values=len(train),
        judge=Judge(shape=settings.judge_shape) if settings.judge else None,
        levels=loss_by_level(model, held, train, seed=0),
        provenance=Provenance(
            model=model.recipe.name,
            model_hash=str(read_json(folder / CONFIG)["weights_sha256"]),
            ema=str(model.training.get("ema")),
            path=str(model.denoiser.path),
            **_drawn(stream),
            passes=made.nfe,
            seeds=(asked.seed,),
            precision=model.precision,
        ),
    )


def _part(data: Dataset) -> Part:
    """Return a part's values in memory, a large part reduced by `subsample`."""
    some = subsample(data)
    return Part(torch.as_tensor(some.values), some.labels)


def _drawn(stream: Stream) -> dict[str, Any]:
    """Return the options in force as a card has them: one classifier-free guidance in parts."""
    plan, sections = stream.plan, stream.plan.config.guidance
    first = sections[0] if len(sections) == 1 else None
    one = first if isinstance(first, ClassifierFreeSection) else None
    interval = None if one is None or one.interval is None else str(one.interval)
    return {
        "solver": plan.config.solver,
        "grid": plan.spacing,
        "steps": len(plan.grid) - 1,
        "guidance": one.scale if one else guidance_text(sections) if sections else 1.0,
        "interval": interval,
        "rescale": 0.0 if one is None else one.rescale,
    }
