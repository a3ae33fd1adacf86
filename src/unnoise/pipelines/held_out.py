"""The held-out data of a model, opened again from its own recipe."""

from __future__ import annotations

from collections.abc import Mapping

from ..artifacts import Model
from ..data import Dataset
from ..errors import DataError, InvalidArgument
from ..recipes import open_parts

PARTS = ("test", "validation")


def open_held_out(
    model: Model, part: str | None, least: int, parts: Mapping[str, Dataset] | None = None
) -> tuple[str, Dataset, Mapping[str, Dataset]]:
    """Return (name of the part, the part, all parts) of the data of the model's recipe.

    The data are opened and split again and checked against the fingerprint in the model's record.
    part: "test" or "validation"; None for test if the recipe holds one out, else validation.
    parts: the opened parts, if the caller has them. Raises DataError if the data changed or fewer
    than `least` samples were held out, InvalidArgument for another name.
    """
    check_part(part)
    if parts is None:
        parts = open_parts(model.recipe)[1]
    train = parts["train"]
    learned = model.training.get("train_fingerprint", train.fingerprint())
    if train.spec.fingerprint != model.spec.fingerprint or train.fingerprint() != learned:
        raise DataError(
            f"the data of this model's recipe, or their parts, have changed: fingerprint "
            f"{train.spec.fingerprint[:16]}…, the model was trained on "
            f"{model.spec.fingerprint[:16]}…; evaluate on the data it was trained on"
        )
    used = part or ("test" if "test" in parts else "validation")
    held = parts.get(used)
    if held is None or len(held) < least:
        raise DataError(
            f"evaluation needs at least {least} samples that were held out, and the {used} part of "
            f"this recipe has {0 if held is None else len(held)}; train with data.split.{used}=100"
        )
    return used, held, parts


def check_part(part: str | None) -> None:
    """Raise InvalidArgument unless `part` names a held-out part, or is None."""
    if part is not None and part not in PARTS:
        raise InvalidArgument(f"part is {part!r}; give 'test' or 'validation'")
