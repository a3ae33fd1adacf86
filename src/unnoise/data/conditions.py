"""The meaning of the columns of a data set as conditions: classes by name, or vectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, InvalidArgument, nearest, unknown

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_LEAST, _MOST = 1.2e-38, 3.4e38  # deviations and values that float32 holds


@dataclass(frozen=True)
class ClassCondition:
    """One class of a closed set; its values are indices of `names`, int64 (batch,)."""

    names: tuple[str, ...]

    kind = "class"

    def __post_init__(self) -> None:
        sound = all(isinstance(n, str) and n for n in self.names)
        if not self.names or not sound or len(set(self.names)) != len(self.names):
            raise InvalidArgument(
                f"the names of a class condition are {list(self.names)!r:.200}; give one or more "
                "names, no two alike"
            )

    def __str__(self) -> str:
        return f"the classes {self.names}"

    def fits(self, other: ConditionSpec) -> bool:
        """Return whether values of the other condition are values of this one."""
        return self == other

    def network(self) -> dict[str, Any]:
        """Return how a network declares this condition."""
        return {"kind": "class", "count": len(self.names)}

    def index(self, label: int | str, name: str, data: str) -> int:
        """Return the index of a class given by its index or name. name: of the condition, data: of
        the data set, for the message of InvalidArgument."""
        names = self.names
        if isinstance(label, str) and label in names:
            return names.index(label)
        if isinstance(label, str) and label.isascii() and label.isdigit():
            label = int(label)
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
            return label
        guess = nearest(str(label), names)
        raise InvalidArgument(
            f"{name} {label!r} is not one of {data!r}; give a number from 0 to {len(names) - 1} or "
            "a name" + (f", such as {guess!r}" if guess else "")
        )

    def read(self, given: Any, name: str, data: str) -> Tensor:
        """Return the indices of one class or a list, each given by index or name. Raises
        InvalidArgument."""
        given = given.tolist() if hasattr(given, "tolist") else given
        many = given if isinstance(given, list | tuple | range) else [given]
        return torch.tensor([self.index(label, name, data) for label in many], dtype=torch.int64)

    def prepare(self, values: Tensor) -> Tensor:
        """Return indices as a network takes them: unchanged."""
        return values

    def example(self) -> int:
        """Return a valid value: the first class."""
        return 0

    def nothing(self, n: int) -> Tensor:
        """Return values that stand where the condition of n samples is null."""
        return torch.zeros(n, dtype=torch.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, read back by `read_conditions`."""
        return {"kind": "class", "names": list(self.names)}


@dataclass(frozen=True)
class VectorCondition:
    """Real numbers, float32 (batch, width); a network takes (raw − mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    kind = "vector"

    def __post_init__(self) -> None:
        sound = all(abs(m) <= _MOST for m in self.mean)
        sound = sound and all(_LEAST <= s <= _MOST for s in self.std)
        if not self.mean or len(self.mean) != len(self.std) or not sound:
            raise InvalidArgument(
                f"the mean of a vector condition is {list(self.mean)!r:.100} and its std "
                f"{list(self.std)!r:.100}; give as many finite numbers of both, std above 0"
            )

    def __str__(self) -> str:
        return f"{self.width} number(s)"

    def fits(self, other: ConditionSpec) -> bool:
        """Return whether values of the other condition are values of this one."""
        return isinstance(other, VectorCondition) and other.width == self.width

    @property
    def width(self) -> int:
        """The number of components."""
        return len(self.mean)

    def network(self) -> dict[str, Any]:
        """Return how a network declares this condition."""
        return {"kind": "vector", "width": self.width}

    def read(self, given: Any, name: str, data: str) -> Tensor:
        """Return raw numbers (rows, width). given: one number or vector, or one a sample; a list of
        numbers is one vector if the width is above 1. Raises InvalidArgument."""
        try:
            values = torch.as_tensor(given, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgument(
                f"condition {name} is {given!r:.100}; give {self._wanted()}"
            ) from error
        if values.ndim == 0 or (values.ndim == 1 and self.width > 1):
            values = values[None]
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != self.width or not bool(values.isfinite().all()):
            raise InvalidArgument(f"condition {name} is {given!r:.100}; give {self._wanted()}")
        return values

    def _wanted(self) -> str:
        return "a finite number" if self.width == 1 else f"{self.width} finite numbers"

    def prepare(self, values: Tensor) -> Tensor:
        """Return raw numbers (batch, width) as a network takes them: (raw − mean) / std."""
        mean, std = (torch.tensor(n, device=values.device) for n in (self.mean, self.std))
        return (values - mean) / std

    def example(self) -> float | list[float]:
        """Return a valid value: the mean, to four digits."""
        mean = [float(f"{m:.4g}") for m in self.mean]
        return mean[0] if self.width == 1 else mean

    def nothing(self, n: int) -> Tensor:
        """Return values that stand where the condition of n samples is null."""
        return torch.zeros(n, self.width)

    def scaled_to(self, values: Tensor) -> VectorCondition:
        """Return the condition with mean and std of these raw values (n, width); a number that
        never changes gets std 1."""
        wide = values.double()
        still = wide.amin(0) == wide.amax(0)
        std = torch.where(still, 1.0, wide.std(0, correction=0))
        return VectorCondition(tuple(wide.mean(0).tolist()), tuple(std.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, read back by `read_conditions`."""
        return {"kind": "vector", "mean": list(self.mean), "std": list(self.std)}


ConditionSpec = ClassCondition | VectorCondition
KINDS: dict[str, tuple[type[ConditionSpec], tuple[str, ...]]] = {
    "class": (ClassCondition, ("names",)),
    "vector": (VectorCondition, ("mean", "std")),
}


Columns = Mapping[str, Tensor] | Tensor | None  # a tensor alone holds the labels


def by_name(columns: Columns) -> dict[str, Tensor]:
    """Return columns by name; labels alone are those of the condition "class"."""
    if columns is None or isinstance(columns, Tensor):
        return {} if columns is None else {"class": columns}
    return dict(columns)


def check_name(name: str) -> str:
    """Return a name that a condition may have; raise InvalidArgument for another."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"a condition is called {name!r:.100}; use letters, digits, _ and -, a letter first"
        )
    return name


def read_conditions(tree: Any) -> dict[str, ConditionSpec]:
    """Return conditions of plain JSON values, as `to_dict` makes them, by name. Raises DataError
    for unknown kinds, wrong keys and wrong values."""
    if not isinstance(tree, Mapping):
        raise DataError(f"conditions of a data description are {tree!r:.100}; give an object")
    found: dict[str, ConditionSpec] = {}
    for name, item in tree.items():
        kind = item.get("kind") if isinstance(item, Mapping) else None
        if not isinstance(kind, str) or kind not in KINDS:
            raise unknown(f"kind of condition {name!r}:", kind, KINDS, DataError)
        make, keys = KINDS[kind]
        if item.keys() != {"kind", *keys}:
            raise DataError(
                f"condition {name!r} has the keys {sorted(item)}; give {', '.join(('kind', *keys))}"
            )
        wanted = str if kind == "class" else (int, float)
        for key in keys:
            value = item[key]
            if not isinstance(value, list | tuple) or not all(
                isinstance(v, wanted) and not isinstance(v, bool) for v in value
            ):
                raise DataError(
                    f"{key} of condition {name!r} is {value!r:.100}; it must be a list of "
                    f"{'names' if kind == 'class' else 'numbers'}"
                )
        try:
            found[check_name(name)] = make(*(tuple(item[key]) for key in keys))
        except InvalidArgument as error:
            raise DataError(f"condition {name!r}: {error}") from error
    return found
