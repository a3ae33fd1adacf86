"""The description of a data set, stored with a trained model: shape, range, scale and names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from ..errors import DataError, InvalidArgument, NonFinite, unknown
from ..fields import Condition
from ..safe_files.strict_json import strict_json
from .conditions import ClassCondition, ConditionSpec, check_name, read_conditions

MODALITIES = {"vector": 1, "signal": 2, "image": 3, "volume": 4}  # name -> axes of one event
NORMALISATIONS = ("standardise", "range")
DTYPES = {"uint8": torch.uint8, "float32": torch.float32}
Range = tuple[float | int, float | int]
_CHANNELS = {"L": 1, "RGB": 3}
_LEAST, _MOST = 1.2e-38, 3.4e38  # what float32, in which values are restored, can hold


@dataclass(frozen=True)
class DataSpec:
    """The description of a data set that a model needs to read its input and undo its output.

    x = (raw − mean) / std per channel (axis 0 of the event), and raw = x·std + mean back again.

    name: of the data set. modality: vector, signal, image or volume. shape: of one event, channels
    first, (D,), (C, L), (C, H, W) or (C, D, H, W). dtype: of the raw values, uint8 or float32.
    value_range: lowest and highest raw value; range_declared: False if it was measured, True if it
    was declared or follows from the dtype. normalisation: "standardise" (mean 0, std 1 over the
    training part) or "range" (value_range to [−1, 1]); mean and std hold the numbers of either, one
    a channel or one for all. channels: the meaning of the channels ("L", "RGB", …). conditions:
    the meaning of each column by name; "class" is that of the labels.
    fingerprint: SHA-256 of the values and columns of the whole data set. Raises InvalidArgument for
    anything inconsistent.
    """

    name: str
    modality: str
    shape: tuple[int, ...]
    dtype: str
    value_range: tuple[float, float]
    range_declared: bool
    normalisation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str
    conditions: Mapping[str, ConditionSpec]
    licence: str
    source: str
    fingerprint: str

    def __post_init__(self) -> None:
        for kind, value, allowed in (
            ("modality", self.modality, MODALITIES),
            ("dtype", self.dtype, DTYPES),
            ("normalisation", self.normalisation, NORMALISATIONS),
        ):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        axes = MODALITIES[self.modality]
        if len(self.shape) != axes or any(size < 1 for size in self.shape):
            _refuse("shape", self.shape, f"{axes} sizes of at least 1 for {self.modality} data")
        low, high = self.value_range
        if not (_held(low) and _held(high) and low < high):
            _refuse("value_range", self.value_range, "two finite numbers, the lower one first")
        for key in ("mean", "std"):
            numbers = getattr(self, key)
            if len(numbers) not in (1, self.shape[0]) or not all(map(_held, numbers)):
                _refuse(key, numbers, f"1 or {self.shape[0]} finite numbers, one a channel")
        if min(self.std) < _LEAST:
            _refuse("std", self.std, "numbers above 0")
        if _CHANNELS.get(self.channels, self.shape[0]) != self.shape[0]:
            _refuse("channels", self.channels, f"a meaning for {self.shape[0]} channels")
        for name in self.conditions:
            check_name(name)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes of the labels; None for data without labels."""
        labels = self.conditions.get("class")
        return labels.names if isinstance(labels, ClassCondition) else None

    @property
    def classes(self) -> int:
        """The number of classes of the labels; 0 for data without labels."""
        return len(self.class_names or ())

    @property
    def is_picture(self) -> bool:
        """Whether a sample can be shown as a PNG."""
        return self.modality == "image" and self.shape[0] in (1, 3)

    def class_index(self, label: int | str) -> int:
        """Return the index of a class given by index or name; raises InvalidArgument for others."""
        labels = self.conditions.get("class")
        if not isinstance(labels, ClassCondition):
            raise InvalidArgument(
                f"class {label!r} was asked for, but {self.name!r} has no classes"
            )
        return labels.index(label, "class", self.name)

    def condition(self, given: Mapping[str, Any], n: int) -> Condition | None:
        """Return the condition of n samples, from values in raw units.

        given: name → a class by index or name, a number or a vector; one for all, or one a sample.
        A condition that is not given is null. Raises InvalidArgument for other names, values that
        do not fit, and other counts than 1 and n.
        """
        columns: dict[str, Tensor] = {}
        for name, value in given.items():
            if name not in self.conditions:
                raise unknown("condition", name, self.conditions or ("none",))
            column = self.conditions[name].read(value, name, self.name)
            if len(column) not in (1, n):
                raise InvalidArgument(
                    f"condition {name} has {len(column)} rows for {n} samples; give one, or one "
                    "per sample"
                )
            columns[name] = column.expand(n, *column.shape[1:])
        return self.prepare(columns, n)

    def prepare(self, columns: Mapping[str, Tensor], n: int | None = None) -> Condition | None:
        """Return raw columns, a row a sample, as a network takes them: vectors standardised. A
        condition without a column is null for all n samples. None for data without conditions."""
        if not self.conditions:
            return None
        n = max(map(len, columns.values()), default=0) if n is None else n
        values: dict[str, Any] = {}
        for name, meaning in self.conditions.items():
            column = columns.get(name)
            values[name] = meaning.nothing(n) if column is None else meaning.prepare(column)
        condition = Condition.of(values, n)
        absent = [name for name in self.conditions if name not in columns]
        for name in absent:
            condition = condition.null(name)
        return condition

    def normalise(
        self, raw: Tensor, scale: tuple[Tensor, Tensor] | None = None
    ) -> Float32[Tensor, "*batch_and_event"]:
        """Return (raw − mean) / std in float32. raw: (*event) or (batch, *event), any real dtype;
        scale: the result of `scale` for raw's device, computed if None."""
        self._check_shape(raw)
        mean, std = self.scale(raw.device) if scale is None else scale
        return raw.to(torch.float32).sub(mean).div_(std)

    def restore(self, x: Tensor, clip: bool = True) -> Tensor:
        """Return x·std + mean in raw units: float32, or rounded to uint8 if the raw values were.

        The inverse of `normalise`: exact for uint8, to float32 rounding otherwise. x: (*event) or
        (batch, *event), on any device. clip: bring values back into value_range (always done
        for uint8). Raises NonFinite for NaN or infinite values, InvalidArgument for another shape.
        """
        self._check_shape(x)
        x = x.detach().to(torch.float32)
        if not torch.isfinite(x).all():
            raise NonFinite(
                "values to restore hold NaN or infinity; nothing can be written of them"
            )
        mean, std = self.scale(x.device)
        raw = x.mul(std).add_(mean)
        if self.dtype == "uint8":
            return raw.round_().clamp_(*self.value_range).to(torch.uint8)
        return raw.clamp_(*self.value_range) if clip else raw

    def pixels(self, x: Tensor) -> UInt8[Tensor, "*batch_and_event"]:
        """Return the restored values with value_range mapped to 0…255, for display or a PNG."""
        low, high = self.value_range
        raw = self.restore(x).to(torch.float32)
        return raw.sub_(low).mul_(255 / (high - low)).round_().clamp_(0, 255).to(torch.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, read back by `from_dict`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["conditions"] = {name: item.to_dict() for name, item in self.conditions.items()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Any) -> DataSpec:
        """Rebuild from `to_dict`; raises DataError for missing or unknown keys and wrong types."""
        if not isinstance(values, Mapping):
            raise DataError(f"a data description is {type(values).__name__}; it must be an object")
        values = _renewed(values)
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown("key of a data description", key, known, DataError)
        missing = [key for key in known if key not in values]
        if missing:
            raise DataError(f"a data description lacks {', '.join(missing)}; write it again")
        try:
            return cls(**{key: _READ[key](key, value) for key, value in values.items()})
        except InvalidArgument as error:
            raise DataError(f"a data description is inconsistent: {error}") from error

    def to_json(self) -> str:
        """Return the description as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> DataSpec:
        """Read `to_json` back; raises DataError for broken JSON, twice-given keys and NaN."""
        return cls.from_dict(strict_json(text, "a data description"))

    def scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return (mean, std), float32 on a device, shaped to broadcast over events."""
        ones = (1,) * (len(self.shape) - 1)
        make = lambda numbers: torch.tensor(  # noqa: E731
            numbers, dtype=torch.float32, device=device
        ).reshape(-1, *ones)
        return make(self.mean), make(self.std)

    def _check_shape(self, x: Tensor) -> None:
        event = len(self.shape)
        if tuple(x.shape[-event:]) != self.shape or x.ndim > event + 1:
            raise InvalidArgument(
                f"values of shape {tuple(x.shape)} do not fit {self.name!r}; give (batch, "
                f"{', '.join(map(str, self.shape))}) or one event without the batch"
            )


def _held(number: float) -> bool:
    return abs(number) <= _MOST


def _refuse(key: str, value: object, wanted: str) -> NoReturn:
    raise InvalidArgument(f"{key} of a data description is {value!r}; give {wanted}")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{key} of a data description is {value!r}; it must be text")
    return value


def _truth(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"{key} of a data description is {value!r}; it must be true or false")
    return value


def _list(key: str, value: Any, kinds: tuple[type, ...], wanted: str) -> Sequence[Any]:
    sound = isinstance(value, list | tuple) and all(
        isinstance(v, kinds) and not isinstance(v, bool) for v in value
    )
    if not sound:
        raise DataError(f"{key} of a data description is {value!r}; it must be a list of {wanted}")
    return value


def _whole(key: str, value: Any) -> tuple[int, ...]:
    return tuple(_list(key, value, (int,), "whole numbers"))


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in _list(key, value, (int, float), "numbers"))


def _pair(key: str, value: Any) -> tuple[float, ...]:
    if len(pair := _numbers(key, value)) != 2:
        raise DataError(f"{key} of a data description is {value!r}; it must be two numbers")
    return pair


def _conditions(key: str, value: Any) -> dict[str, ConditionSpec]:
    return read_conditions(value)


def _renewed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description in today's form from one of an earlier release, with class_names."""
    if "class_names" not in values or "conditions" in values:
        return values
    names = values["class_names"]
    labels = {} if names is None else {"class": {"kind": "class", "names": names}}
    return {k: v for k, v in values.items() if k != "class_names"} | {"conditions": labels}


_READ: dict[str, Callable[[str, Any], Any]] = {
    "name": _text,
    "modality": _text,
    "shape": _whole,
    "dtype": _text,
    "value_range": _pair,
    "range_declared": _truth,
    "normalisation": _text,
    "mean": _numbers,
    "std": _numbers,
    "channels": _text,
    "conditions": _conditions,
    "licence": _text,
    "source": _text,
    "fingerprint": _text,
}
