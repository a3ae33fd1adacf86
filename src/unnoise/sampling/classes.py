"""Which class each sample is of, said by a rule, so that a billion of them take no memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ..data import DataSpec
from ..errors import InvalidArgument, unknown


@dataclass(frozen=True)
class InTurn:
    """Classes by index or name, for `condition={"class": …}`: sample i is of classes[i mod k]."""

    classes: tuple[int | str, ...]


@dataclass(frozen=True)
class Labels:
    """Sample i is of class known[(i − offset) modulo their number]."""

    known: Sequence[int]
    offset: int = 0

    def of(self, rows: range) -> Int64[Tensor, " n"]:
        """The classes of some samples."""
        start = (rows.start - self.offset) % len(self.known)
        turn = (start + torch.arange(len(rows))) % len(self.known)
        if isinstance(self.known, range):
            return turn
        few = len(self.known) > 4 * len(rows)  # no tensor of all of them for each block
        return (
            torch.tensor([self.known[k] for k in turn]) if few else torch.tensor(self.known)[turn]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that say the rule; a long list by its SHA-256."""
        if len(self.known) <= 1000:
            return {"turn": list(self.known), "offset": self.offset}
        sha256 = hashlib.sha256(",".join(map(str, self.known)).encode()).hexdigest()
        return {"listed": len(self.known), "sha256": sha256, "offset": self.offset}


def labels_for(
    spec: DataSpec,
    classes: int,
    condition: Mapping[str, Any] | None,
    n: int | None,
    first: int,
) -> tuple[Labels | None, int]:
    """(the classes of n samples from `first` on, n) of a model with so many classes.

    condition: as `Model.sample` takes it. Labels are None where the model has no classes; n is 16,
    or one a label of the condition, where it is not given. Raises InvalidArgument.
    """
    if condition is not None and not isinstance(condition, Mapping):
        raise InvalidArgument(f'condition is {condition!r}; give a dict, as {{"class": 3}}')
    if not condition:
        return (Labels(range(classes)) if classes else None), 16 if n is None else n
    for name in condition:
        if name != "class" or not classes:
            known = ["class"] if classes else ["none: the model is unconditional"]
            raise unknown("condition", name, known)
    asked = condition["class"]
    if isinstance(asked, InTurn):
        turn = tuple(spec.class_index(label) for label in asked.classes)
        if not turn:
            raise InvalidArgument("no class is given to take in turn; give one or more")
        return Labels(turn), 16 if n is None else n
    asked = asked.tolist() if hasattr(asked, "tolist") else asked
    many = asked if isinstance(asked, list | tuple | range) else [asked]
    listed = tuple(spec.class_index(label) for label in many)
    if not listed or (n is not None and len(listed) not in (1, n)):
        raise InvalidArgument(
            f"{len(listed)} classes for {n or 'some'} samples; give one, or one per sample"
        )
    one_for_all = not isinstance(asked, list | tuple | range)
    return Labels(listed, first), n or (16 if one_for_all else len(listed))
