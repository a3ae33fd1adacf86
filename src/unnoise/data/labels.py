"""The encoding of labels, whole numbers or names, as class indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError, nearest


def encode_labels(
    found: Sequence[Any] | np.ndarray,
    class_names: Sequence[str] | None = None,
    place: Callable[[int], str] = "label {}".format,
) -> tuple[Int64[Tensor, " n"], tuple[str, ...]]:
    """Return class indices and class names of labels that are all whole numbers or all names.

    Names become classes in the order of `class_names`, else in alphabetical order. Whole numbers
    are indices of `class_names`; without names they must be 0…K−1 with every class present.

    place: returns the place of label i, for the message. Raises DataError naming the place of the
    first label that is of another kind, unknown or out of range.
    """
    found = found.tolist() if isinstance(found, np.ndarray) else list(found)
    names = None if class_names is None else _checked(class_names)
    if found and all(isinstance(label, str) for label in found):
        return _from_names(found, names, place)
    for i, label in enumerate(found):
        if isinstance(label, bool) or not isinstance(label, int):
            raise DataError(
                f"{place(i)} is {label!r}; labels must be all whole numbers or all names, one a "
                "sample (take the argmax of one-hot rows)"
            )
        if label < 0 or (names is not None and label >= len(names)):
            allowed = "from 0 up" if names is None else f"0 to {len(names) - 1}, as class_names has"
            raise DataError(f"{place(i)} is {label}, out of range; labels must be {allowed}")
    if names is None:
        absent = next((c for c, label in enumerate(sorted(set(found))) if c != label), None)
        if absent is not None:
            raise DataError(
                f"no sample has label {absent} but some have {max(found)}; count classes from 0 "
                "without gaps, or give class_names"
            )
        names = tuple(str(c) for c in range(max(found, default=-1) + 1))
    return torch.tensor(found, dtype=torch.int64), names


def _from_names(
    found: list[str], names: tuple[str, ...] | None, place: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    names = tuple(sorted(set(found))) if names is None else names
    index = {name: c for c, name in enumerate(names)}
    for i, label in enumerate(found):
        if label not in index:
            guess = nearest(label, names)
            raise DataError(
                f"{place(i)} is {label!r}, which is not in class_names"
                + (f"; did you mean {guess!r}?" if guess else f" {', '.join(names)}")
            )
    return torch.tensor([index[label] for label in found], dtype=torch.int64), names


def _checked(class_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(class_names)
    sound = all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names)
    if isinstance(class_names, str) or not names or not sound:
        raise DataError(f"class_names is {class_names!r}; give a list of names, no two alike")
    return names
