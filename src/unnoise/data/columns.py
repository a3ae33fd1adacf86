"""Columns as they are found beside the values, made into conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, InvalidArgument, UnnoiseError, unknown
from .conditions import KINDS, ClassCondition, ConditionSpec, VectorCondition, check_name

MOST_CLASSES = 10_000
Values = Sequence[Any] | np.ndarray  # a value a sample
Place = Callable[[int], str]  # where value i of the data stands


@dataclass(frozen=True)
class Column:
    """The values of a condition, int64 (n,) or float32 (n, width), and their meaning."""

    values: Tensor
    meaning: ConditionSpec


def check_conditions(conditions: Mapping[str, str] | None) -> dict[str, str]:
    """Return name → kind as asked for, "class" or "vector". Raises InvalidArgument."""
    if conditions is not None and not isinstance(conditions, Mapping):
        raise InvalidArgument(
            f"conditions is {conditions!r:.100}; give kinds by column, such as {{age: vector}}"
        )
    for name, kind in (conditions or {}).items():
        check_name(name)
        if kind not in KINDS:
            raise unknown(f"kind of condition {name!r}:", kind, KINDS)
        if name == "class" and kind != "class":
            raise InvalidArgument(
                f"condition 'class' is asked for as a {kind}, and that name is the labels'; call "
                "the column otherwise"
            )
    return dict(conditions or {})


def pick(
    conditions: Mapping[str, str], columns: Mapping[str, Values], where: str
) -> dict[str, Values]:
    """Return the columns that are asked for as conditions. Raises DataError for one that is not
    there, naming those that are."""
    for name in conditions:
        if name not in columns:
            known = ", ".join(columns) or "none"
            raise DataError(
                f"{where} has no column {name!r} to condition on; its columns: {known} (take "
                f"data.conditions.{name} out, or add the column)"
            )
    return {name: columns[name] for name in conditions}


def encode(name: str, kind: str, found: Values, place: Place) -> Column:
    """Return a column as a condition of that kind.

    Raises DataError, naming the place of the first value that is missing, of another kind, not
    finite, or of another width; and for a class column of too many values.
    """
    if kind == "vector":
        values = _numbers(name, found, place)
        unit = VectorCondition((0.0,) * values.shape[1], (1.0,) * values.shape[1])
        return Column(values, unit.scaled_to(values))
    indices, names = _classes(name, found, place)
    return Column(indices, ClassCondition(names))


def could_be(found: Values) -> list[str]:
    """Return what a column could be as a condition, with its size: "class of 12", "vector of 2"."""
    kinds = []
    for kind in KINDS:
        try:
            meaning = encode("x", kind, found, str).meaning
        except UnnoiseError:
            continue
        size = meaning.network()
        kinds.append(f"{kind} of {size.get('count', size.get('width'))}")
    return kinds


def _classes(name: str, found: Values, place: Place) -> tuple[Tensor, tuple[str, ...]]:
    """Return indices and names; whole numbers are put in their order, names in the alphabet's."""
    found = found.tolist() if isinstance(found, np.ndarray) else found
    text = len(found) > 0 and isinstance(found[0], str)
    for i, value in enumerate(found):
        _present(name, value, place, i)
        if isinstance(value, bool) or not isinstance(value, str if text else int):
            raise DataError(
                f"{place(i)}: {name} is {value!r:.80}; a class is a name or a whole number, all of "
                f"one kind (numbers with fractions: data.conditions.{name}=vector)"
            )
        if value == "":
            raise DataError(f"{place(i)}: {name} is empty; give every sample a class")
    distinct = sorted(set(found))
    if len(distinct) > min(MOST_CLASSES, max(16, len(found) // 2)):
        remedy = "take it out" if text else f"use data.conditions.{name}=vector, or take it out"
        raise DataError(
            f"column {name!r} has {len(distinct)} values in {len(found)} samples, too many for "
            f"classes (at most {MOST_CLASSES:,}, of 2 samples on average); {remedy}"
        )
    index = {value: c for c, value in enumerate(distinct)}
    return torch.tensor([index[value] for value in found]), tuple(map(str, distinct))


def _numbers(name: str, found: Values, place: Place) -> Tensor:
    if isinstance(found, np.ndarray) and found.dtype.kind in "uif":
        rows = found.reshape(len(found), -1)
        if found.ndim > 2 or 0 in rows.shape:
            raise DataError(
                f"column {name!r} has shape {found.shape}; give (samples,) or (samples, width)"
            )
    else:
        many = found.tolist() if isinstance(found, np.ndarray) else found
        listed = [_row(name, value, place, i) for i, value in enumerate(many)]
        width = len(listed[0])
        for i, row in enumerate(listed):
            if len(row) != width:
                raise DataError(
                    f"{place(i)}: {name} holds {len(row)} numbers, and the first sample {width}; "
                    "give all as many"
                )
        rows = np.array(listed)
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.array(rows, dtype=np.float32))
    finite = values.isfinite().all(1)
    if not bool(finite.all()):
        i = int((~finite).int().argmax())
        raise DataError(
            f"{place(i)}: {name} is {np.asarray(rows[i]).tolist()} (as float32), and "
            f"{int((~finite).sum())} sample(s) in all are not finite; remove them or fill them in"
        )
    return values


def _row(name: str, value: Any, place: Place, i: int) -> list[float]:
    _present(name, value, place, i)
    row = value if isinstance(value, list | tuple) else [value]
    for number in row:
        _present(name, number, place, i)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DataError(
                f"{place(i)}: {name} is {value!r:.80}; a vector is a number or a list of numbers "
                f"(names: data.conditions.{name}=class)"
            )
    if not row:
        raise DataError(f"{place(i)}: {name} is an empty list; give every sample its numbers")
    large = 2.0**1000  # whole numbers may be beyond what a float holds
    return [float("inf") if abs(number) > large else float(number) for number in row]


def _present(name: str, value: Any, place: Place, i: int) -> None:
    if value is None:
        raise DataError(
            f"{place(i)}: {name} is missing; give it for every sample, or take data.conditions."
            f"{name} out"
        )
