"""What a source has found, before it is read whole or measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError, InvalidArgument, unknown
from .columns import Column, Values, encode, pick
from .dataset import MAX_BYTES, Dataset
from .faults import STRICT, Faults
from .labels import encode_labels
from .measured import measured_rows
from .pictures import MODES, Header
from .rows import Rows
from .spec import Range


@dataclass
class Found:
    """Rows with labels and columns as they were found, and what describes them.

    labels: names or whole numbers, None where there are none; label_place(i): where label i is
    written. conditions: name → kind of the columns to condition on, beside the labels; columns:
    those, and in a check all others too; place(i): where the columns of sample i are. headers: of
    pictures. stored: how numbers are stored ("float32", "int64", …), where they are no pictures.
    left_out: files that are no samples.
    """

    rows: Rows
    labels: Sequence[Any] | None
    name: str
    modality: str
    channels: str
    source: str
    licence: str = "not stated"
    class_names: Sequence[str] | None = None
    label_place: Callable[[int], str] = "label {}".format
    value_range: Range | None = None
    normalisation: str = "standardise"
    notes: list[str] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    stored: str = "uint8"
    left_out: Sequence[str] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Values] = field(default_factory=dict)
    place: Callable[[int], str] = "sample {}".format

    def __post_init__(self) -> None:
        if "class" in self.conditions and "class" not in self.columns and self.labels is not None:
            self.conditions = {n: k for n, k in self.conditions.items() if n != "class"}

    def encoded_columns(self) -> dict[str, Column]:
        """Return the columns to condition on, encoded; raise DataError naming the first value that
        does not fit."""
        if "class" in self.conditions and self.labels is not None:
            raise InvalidArgument(
                f"{self.name!r} has labels, and its column 'class' is asked for beside them; take "
                "data.conditions.class out, or leave the labels out (data.labelled=false)"
            )
        found = pick(self.conditions, self.columns, self.name)
        return {
            name: encode(name, self.conditions[name], column, self.place)
            for name, column in found.items()
        }

    def encoded(self) -> tuple[Any, Sequence[str] | None]:
        """Class indices and class names; raises DataError naming the first that does not fit."""
        if self.labels is None:
            if self.class_names is not None:
                raise InvalidArgument(
                    f"class_names were given, but {self.name!r} has no labels; give both"
                )
            return None, None
        return encode_labels(self.labels, self.class_names, self.label_place)

    def dataset(self, stream: bool | None = None) -> Dataset:
        """The data set: in memory up to MAX_BYTES, else left in its files and read on demand.

        stream: True or False to decide it. Raises DataError for what does not fit in memory where
        it must, and for values and labels that `Dataset.of` refuses.
        """
        labels, names = self.encoded()
        columns = self.encoded_columns()
        large = self.rows.nbytes > MAX_BYTES
        if large and stream is False:
            raise DataError(
                f"{self.name!r} takes {self.rows.nbytes / 2**30:.1f} GiB and at most "
                f"{MAX_BYTES / 2**30:.0f} are held in memory; leave stream out, or pass a smaller "
                "size= for pictures"
            )
        options: dict[str, Any] = {
            "name": self.name,
            "modality": self.modality,
            "channels": self.channels,
            "class_names": names,
            "licence": self.licence,
            "source": self.source,
            "value_range": self.value_range,
            "normalisation": self.normalisation,
            "notes": self.notes,
            "columns": columns,
        }
        if stream or large:
            held = {} if labels is None else {"class": labels}
            held |= {name: column.values for name, column in columns.items()}
            measured = measured_rows(self.rows, held)
            self.known_range(measured.low, measured.high)
            return Dataset.of(self.rows, labels, measured=measured, **options)
        values = self.rows.whole()
        self.finite(values)
        self.known_range(float(values.min()), float(values.max()))
        return Dataset.of(values, labels, blocks=self.rows.blocks, **options)

    def finite(self, values: Any) -> None:
        """Raise DataError naming the first row that holds NaN or infinity."""
        if values.is_floating_point():
            good = values.isfinite().flatten(1).all(1)
            if not bool(good.all()):
                row = int((~good).int().argmax())
                raise DataError(
                    f"{self.rows.place(row)} holds NaN or infinity, and {int((~good).sum())} "
                    "samples in all do; remove them or fill them in"
                )

    def known_range(self, low: float, high: float) -> None:
        """Raise DataError where numbers in pictures have a range that no picture is known by."""
        if self.value_range is None and self.modality in ("image", "volume"):
            refuse_bytes(low, high, self.stored, self.name)


def refuse_bytes(low: float, high: float, stored: str, name: str) -> None:
    """Refuse bytes made into floats (none negative, above 2), and whole numbers but uint8."""
    whole = "int" in stored
    if stored == "uint8" or (not whole and not (low >= 0 and high > 2)):
        return
    kind = stored if whole else "floats"
    as_bytes = "pass x.astype('uint8'), or " if low >= 0 and high <= 255 else ""
    raise DataError(
        f"{name!r} is made of {kind} from {low:g} to {high:g}, a range no picture is known by; "
        f"{as_bytes}declare it, as value_range=({low:g}, {high:g})"
    )


def one_mode(mode: str, headers: Sequence[Header]) -> str:
    """The mode asked for, or by auto L where every picture is grey and RGB otherwise."""
    if mode not in ("auto", *MODES):
        raise unknown("mode", mode, ("auto", *MODES))
    if mode != "auto":
        return mode
    return "L" if all(header.grey for header in headers) else "RGB"


def one_size(
    size: int | tuple[int, int] | None,
    headers: Sequence[Header],
    where: str,
    faults: Faults = STRICT,
) -> tuple[int, int]:
    """(height, width) asked for, or that all pictures have; raises where they differ.

    With faults that are collected, `propose_size` stands for a size that was not given.
    """
    if size is not None:
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        sound = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides)
        if len(sides) != 2 or not sound:
            raise InvalidArgument(f"size is {size!r}; give one side or (height, width), 1 or more")
        return sides[0], sides[1]
    sizes = Counter(header.size for header in headers)
    if len(sizes) == 1:
        return headers[0].size
    if not faults.strict:
        return propose_size(headers), propose_size(headers)
    some = [f"{h} × {w} ({count})" for (h, w), count in sizes.most_common(5)]
    more = f" and {len(sizes) - 5} more" if len(sizes) > 5 else ""
    raise DataError(
        f"the pictures of {where} differ in size (height × width): {', '.join(some)}{more}; "
        "pass size=, such as size=64, to crop and resample them to one"
    )


def propose_size(headers: Sequence[Header]) -> int:
    """A side for pictures of differing sizes: the power of two not above most shorter sides."""
    shorter = sorted(min(header.size) for header in headers)
    return 2 ** min(6, max(3, shorter[len(shorter) // 10].bit_length() - 1))


def size_notes(target: tuple[int, int], headers: Sequence[Header]) -> list[str]:
    """A note on pictures that had to be enlarged, and one on those with more frames."""
    smaller = sum(h.size[0] < target[0] or h.size[1] < target[1] for h in headers)
    if not smaller:
        return []
    return [f"{smaller} picture(s) smaller than {target[0]} × {target[1]} were enlarged"]
