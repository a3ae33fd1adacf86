"""Condition dropout: training some samples on the null of a condition, which guidance needs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Condition
from ..randomness import Streams, moved

Dropout = float | Mapping[str, float]


def check_dropout(dropout: Dropout) -> None:
    """Raise InvalidArgument unless every share lies in [0, 1]."""
    for share in dropout.values() if isinstance(dropout, Mapping) else (dropout,):
        if not 0 <= share <= 1:
            raise InvalidArgument(f"condition_dropout is {dropout!r}; give a share from 0 to 1")


def dropout_of(dropout: Dropout, name: str) -> float:
    """Return the share for one condition: a number holds for all, a name that is absent is 0."""
    return dropout.get(name, 0.0) if isinstance(dropout, Mapping) else dropout


def drop_some(condition: Condition | None, dropout: Dropout, noise: Streams) -> Condition | None:
    """Return the batch's condition with a random share of its samples set to null, name by name.

    Each name is drawn on its own, from the sample's stream. Raises InvalidArgument for a share of
    a name that the condition does not have.
    """
    if condition is None:
        return None
    names = dropout if isinstance(dropout, Mapping) else condition.keep
    masks: dict[str, Tensor] = {}
    for name in names:
        if share := dropout_of(dropout, name):
            purpose = "drop" if name == "class" else f"drop {name}"
            dropped = noise.purpose(purpose).uniform() < share
            masks[name] = moved(dropped, next(iter(condition.keep.values())).device)
    return condition.drop(masks) if masks else condition
