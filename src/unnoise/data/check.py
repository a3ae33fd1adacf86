"""A look through data of any kind before training: everything that is wrong is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError, UnnoiseError
from .columns import could_be
from .duplicates import Duplicates
from .faults import Fault, Faults
from .found import Found
from .measure import Measured, measure
from .ranges import inside, pair
from .registry import SOURCES, check_options, detect, load_data
from .rows import Rows


@dataclass
class Checked:
    """What a look through data found.

    samples: that are sound. sizes: "height × width" → pictures; modes: as stored → pictures.
    labels: name → samples. columns: name → what each could be as a condition ("class of 12",
    "vector of 2"), conditions: what is asked for. low, high, mean, std: of the sound samples, raw.
    same: groups of equal samples, by place; alike: pairs of pictures that look the same, None where
    too many to compare; contradicting: groups of equal samples with different labels. left_out:
    files that are no samples (hidden ones, as `._x.jpg`, among them). faults: everything for which
    training would refuse the data, by file and line; counts: kind of fault → number. proposed_size:
    a side, where pictures differ in size and none was given.
    """

    what: str
    source: str | None = None
    samples: int = 0
    modality: str | None = None
    shape: tuple[int, ...] | None = None
    channels: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    stored: str | None = None
    low: float | None = None
    high: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: dict[str, int] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    same: list[list[str]] = field(default_factory=list)
    alike: list[tuple[str, str]] | None = None
    contradicting: int = 0
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    proposed_size: int | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was found for which training would refuse."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class _Held(Rows):
    """Values in memory as rows, so that built-in data are looked through like all others."""

    def __init__(self, values: Tensor, name: str) -> None:
        self.values, self.name = values, name
        self.shape, self.dtype = tuple(values.shape[1:]), values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        return self.values[indices]

    def place(self, index: int) -> str:
        return f"{self.name} sample {index}"


def check(what: str | Path, **options: Any) -> Checked:
    """Look through a built-in data set, a folder, an array file or shards; nothing is written.

    Every sample is decoded as training would decode it. options: those of the source (size,
    column, layout, …). Never raises for faults of the data: they are in `faults`.
    """
    report = Checked(str(what))
    faults = Faults(strict=False)
    try:
        report.source, path = detect(what)
        found = _find(report.source, path, faults, options)
        _describe(report, found, options)
        _values(report, found, faults)
    except UnnoiseError as error:
        faults.add("refused", error)
    report.faults, report.counts = faults.found, dict(faults.counts)
    return report


def _find(source: str, path: Path | None, faults: Faults, options: Mapping[str, Any]) -> Found:
    check_options(source, options)
    given = {key: value for key, value in options.items() if key != "stream"}
    known = SOURCES[source]
    if known.find is not None:
        return known.find(path, faults, **given)
    data = load_data(source, **given)
    spec = data.spec
    return Found(
        _Held(data.values, spec.name),
        None if data.labels is None else data.labels.tolist(),
        name=spec.name,
        modality=spec.modality,
        channels=spec.channels,
        source=spec.source,
        class_names=spec.class_names,
        value_range=spec.value_range,
        notes=list(data.notes),
        stored=spec.dtype,
    )


def _describe(report: Checked, found: Found, options: Mapping[str, Any]) -> None:
    report.modality, report.shape, report.channels = (
        found.modality,
        found.rows.shape,
        found.channels,
    )
    report.stored, report.notes, report.left_out = found.stored, found.notes, found.left_out
    sizes = Counter(header.size for header in found.headers)
    report.sizes = {f"{h} × {w}": count for (h, w), count in sizes.most_common()}
    report.modes = dict(Counter(header.mode for header in found.headers).most_common())
    if len(sizes) > 1 and options.get("size") is None:
        report.proposed_size = found.rows.shape[-1]


def _values(report: Checked, found: Found, faults: Faults) -> None:
    rows = found.rows
    _labels(report, found, faults)
    duplicates = Duplicates(found.modality == "image")
    measured = measure(rows, None, faults, duplicates.add)
    if measured is None:
        raise DataError(f"no sample of {report.what} is sound")
    report.samples = len(measured.sums)
    report.low, report.high = measured.low, measured.high
    report.mean, report.std = measured.scale()
    _whole(report, found, measured, faults)
    same = duplicates.exact()
    report.same = [[rows.place(i) for i in group] for group in same]
    if found.labels is not None:
        labels = found.labels
        report.contradicting = sum(len({labels[i] for i in group}) > 1 for group in same)
    near = duplicates.near(measured.low, measured.high)
    report.alike = None if near is None else [(rows.place(a), rows.place(b)) for a, b in near]


def _labels(report: Checked, found: Found, faults: Faults) -> None:
    try:
        indices, names = found.encoded()
    except UnnoiseError as error:
        faults.add("label", error)
        counts = Counter(str(label) for label in found.labels or ())
        report.labels = dict(sorted(counts.items()))
        return
    report.columns = {name: could_be(column) for name, column in found.columns.items()}
    try:
        columns = found.encoded_columns()
    except UnnoiseError as error:
        faults.add("column", error)
        columns = {}
    report.conditions = {name: str(column.meaning) for name, column in columns.items()}
    if indices is not None and names is not None:
        many = torch.bincount(indices, minlength=len(names)).tolist()
        report.labels = dict(zip(names, many, strict=True))


def _whole(report: Checked, found: Found, measured: Measured, faults: Faults) -> None:
    """What is wrong with all values together."""
    low, high = measured.low, measured.high
    if report.samples < 2:
        faults.add(
            "too few",
            f"{report.what} has {report.samples} sound sample(s); a distribution cannot be learned "
            "from fewer than 2",
        )
    elif low == high:
        faults.add(
            "constant", f"every value of {report.what} is {low:g}; there is nothing to learn"
        )
    try:
        found.known_range(low, high)
        if found.value_range is not None:
            inside(found.rows, pair(found.value_range), low, high)
    except UnnoiseError as error:
        faults.add("range", error)
