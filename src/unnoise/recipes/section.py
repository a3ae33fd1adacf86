"""The base of every section of a recipe: strict sections, bounded numbers, lengths of time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import InvalidArgument

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Few = Annotated[int, Field(ge=1, le=1024, strict=True)]  # blocks, depth, patch
Width = Annotated[int, Field(ge=1, le=65536, strict=True)]
Steps = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]  # steps of a chain or a grid
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown keys; booleans are not taken for numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth(cls, tree: Any) -> Any:
        for key in tree.keys() & cls.model_fields.keys() if isinstance(tree, Mapping) else ():
            value = tree[key]
            given = value if isinstance(value, list | tuple) else (value,)
            truths = any(isinstance(v, bool) for v in given)
            if truths and not _takes_truth(cls.model_fields[key].annotation):
                raise ValueError(f"{key} is {value!r:.40}; true and false mean nothing there")
        return tree


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_truth, get_args(annotation)))


def kind_or(default: str) -> Callable[[Any], Any]:
    """Return a validator that fills in a missing kind, so that one key can be given alone."""

    def fill(tree: Any) -> Any:
        return {"kind": default, **tree} if isinstance(tree, Mapping) else tree

    return fill


def named(tree: Any) -> Any:
    """Return the tree of a section that is given by its kind alone, as one word."""
    return {"kind": tree} if isinstance(tree, str) else tree


def seconds(text: Any) -> float:
    """Return the seconds of '90s', '5m', '1.5h', '2d' or of a number of seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        value = float(text)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", str(text))
        if not match:
            raise InvalidArgument(f"a time of {text!r}; write 90s, 5m, 1.5h or 2d")
        value = float(match[1]) * _UNITS[match[2] or "s"]
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"a time of {text!r}; it must be more than nothing")
    return value
