"""The sides of a comparison (samples, training data, reference): values, labels or none."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.order import permutation
from ..errors import DataError, InvalidArgument

SEARCHED = 50_000  # training values at most that are held in memory and searched for copies
SEARCHED_BYTES = 2 * 2**30


@runtime_checkable
class Labelled(Protocol):
    """Raw values (n, *event) and labels (n,) or None: a `Dataset`, a `Part`."""

    @property
    def values(self) -> Tensor | np.ndarray:
        """Raw values (n, *event)."""

    @property
    def labels(self) -> Tensor | np.ndarray | None:
        """Labels (n,), or None."""


class Part(NamedTuple):
    """The plainest `Labelled`: values and labels."""

    values: Tensor | np.ndarray
    labels: Tensor | np.ndarray | None = None


class Side(NamedTuple):
    """One side as tensors: values (n, *event) and labels (n,) or None."""

    values: Tensor
    labels: Tensor | None


@runtime_checkable
class FeatureNet(Protocol):
    """A map from raw values to features; if it has `predict`, that returns the class of each."""

    @property
    def name(self) -> str:
        """A short description for people."""

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for equal feature spaces."""

    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the features (n, d) of raw values in float64."""


def subsample(part: Labelled, most: int = SEARCHED, bytes_: int = SEARCHED_BYTES) -> Labelled:
    """Return the part, or at most `most` values and `bytes_` bytes of it, taken at random."""
    count = count_of(part)
    if count <= min(most, 1000):
        return part
    known = getattr(part, "nbytes", None)
    size = torch.as_tensor(part.values).nbytes if known is None else known
    most = min(most, bytes_ * count // size)
    if count <= most:
        return part
    sample: Callable[[int], Labelled] | None = getattr(part, "sample", None)
    if sample is not None:  # a data set reads only those on its disk
        return sample(most)
    rows = permutation(0, 0, count, "data sample")[:most].sort().values
    labels = None if part.labels is None else torch.as_tensor(part.labels)[rows]
    return Part(torch.as_tensor(part.values)[rows], labels)


def count_of(part: Labelled) -> int:
    """Return the number of values of a part, without reading them if it has a length."""
    return len(part.values if isinstance(part, tuple) or not isinstance(part, Sized) else part)


def as_side(part: Labelled) -> Side:
    """Return a part as tensors."""
    values = torch.as_tensor(part.values)
    return Side(values, None if part.labels is None else torch.as_tensor(part.labels).long())


def check_sides(sides: dict[str, Side]) -> None:
    """Raise DataError or InvalidArgument unless the sides can be compared."""
    events = {name: tuple(part.values.shape[1:]) for name, part in sides.items()}
    if len(set(events.values())) > 1:
        raise DataError(f"shapes of one value differ: {events}; compare values of one shape")
    kinds = {name: str(p.values.dtype) for name, p in sides.items()}
    if len(set(kinds.values())) > 1:
        raise InvalidArgument(
            f"dtypes differ: {kinds}; restore the samples to the data's raw units"
        )
    if sides["samples"].labels is not None:
        for name, part in sides.items():
            if part.labels is None:
                raise DataError(
                    f"the samples have labels but the {name} have none; leave the labels out"
                )
    for name, part in sides.items():
        floating = part.values.is_floating_point()
        if floating and not torch.isfinite(part.values).all():
            raise DataError(f"the {name} hold NaN or infinity; nothing can be measured on them")
        if part.labels is not None and len(part.labels) != len(part.values):
            raise DataError(f"{len(part.values)} {name} with {len(part.labels)} labels")


def classes_of(part: Side, matched: bool) -> np.ndarray:
    """Return the labels, or one class for all values unless classes are matched."""
    if not matched or part.labels is None:
        return np.zeros(len(part.values), np.int64)
    return np.asarray(part.labels, np.int64)
