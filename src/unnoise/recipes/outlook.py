"""The outlook of training on data: the recipe that would be chosen, its sizes, or the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..data import load_data
from ..errors import UnnoiseError
from .build import build_denoiser, check, check_data, parts_of
from .choose import choose_for, fits_time


@dataclass(frozen=True)
class Outlook:
    """The outcome of `unnoise train --data` up to the first update.

    refusal: the reason why training would not begin; None if it would, and then the other fields
    are filled. train, validation, test: samples of each part. shape, channels, normalisation: of
    one sample as the network's input. fitted: whether training first makes the network larger or
    smaller, for its time on the machine it runs on. streamed: whether values stay in their files.
    data_bytes: of all raw values; model_bytes: weights, their gradients, the optimizer's state and
    the average in float32.
    """

    refusal: str | None = None
    train: int = 0
    validation: int = 0
    test: int = 0
    shape: tuple[int, ...] = ()
    channels: str = ""
    normalisation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    streamed: bool = False
    data_bytes: int = 0
    network: str = ""
    fitted: bool = False
    parameters: int = 0
    model_bytes: int = 0
    batch: int = 0
    budget: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def outlook(
    what: str,
    budget: str | float | None = None,
    size: int | None = None,
    overrides: Sequence[str] = (),
) -> Outlook:
    """Return the outcome of `unnoise train --data WHAT`, by doing all of it but the training.

    The arguments are those of `choose`. An error of unnoise's own is not raised: its message is the
    outlook's `refusal`.
    """
    try:
        recipe, data = choose_for(what, budget, size, overrides)
        opened = data is not None
        check(recipe)
        if data is None:
            options = recipe.data.model_dump(exclude={"source", "split"}, exclude_none=True)
            data = load_data(recipe.data.source, **options)
        parts = parts_of(recipe, data)
        spec = parts["train"].spec
        check_data(recipe, spec)
        model = build_denoiser(recipe.path, recipe.network, recipe.model, spec)
    except UnnoiseError as error:
        return Outlook(refusal=str(error))
    count = model.parameter_count
    train = recipe.train
    return Outlook(
        train=len(parts["train"]),
        validation=len(parts.get("validation", ())),
        test=len(parts.get("test", ())),
        shape=spec.shape,
        channels=spec.channels,
        normalisation=spec.normalisation,
        mean=spec.mean,
        std=spec.std,
        streamed=data.streamed,
        data_bytes=data.nbytes,
        network=recipe.network.kind,
        fitted=fits_time(recipe, opened, overrides),
        parameters=count,
        model_bytes=5 * 4 * count,
        batch=train.batch,
        budget=f"{train.steps} updates" if train.steps is not None else f"{train.budget:g} s",
    )
