"""A data set: raw values, in memory or in their files, columns by name and their description."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError, InvalidArgument, need_count, unknown
from ..fields import Condition
from ..objectives import Batch
from .columns import Column
from .conditions import ClassCondition, Columns, ConditionSpec, VectorCondition, by_name
from .measure import Measured, fingerprint, scale
from .measure import measure as measure_rows
from .order import Blocks, order, permutation
from .parts import divide
from .ranges import ends, inside, pair, scale_of
from .rows import Cached, Rows, Subset
from .spec import DTYPES, NORMALISATIONS, DataSpec, Range

MAX_BYTES = 4 * 2**30  # of raw values held in memory; more are left in their files
KEPT_BYTES = 2**26  # of a held-out part of data in files: smaller ones are read once and kept


class Dataset:
    """Raw values with columns by name, and a `DataSpec` that describes both.

    values: (n, *event) of `spec.dtype`, uint8 or float32; a Tensor in memory, or `Rows` that are
    read on access. columns: of each condition of the spec, int64 (n,) of a class, float32
    (n, width) of a vector, raw; a tensor alone is {"class": labels}. notes: sentences on what the
    source left out or changed. blocks: the samples that are stored together in shards. measured,
    identity: of values in files, their statistics and fingerprint. Raises DataError if these do
    not fit together.
    """

    __slots__ = ("_identity", "_measured", "_values", "blocks", "columns", "notes", "spec")

    def __init__(
        self,
        values: Tensor | Rows,
        columns: Columns,
        spec: DataSpec,
        notes: Sequence[str] = (),
        blocks: Blocks | None = None,
        measured: Measured | None = None,
        identity: str | None = None,
    ) -> None:
        event = tuple(values.shape[1:]) if isinstance(values, Tensor) else tuple(values.shape)
        if values.dtype != DTYPES[spec.dtype] or event != spec.shape:
            raise DataError(
                f"values are {values.dtype} of shape {event} a sample; {spec.name!r} is "
                f"described as {spec.dtype} events of shape {spec.shape}"
            )
        if len(values) == 0:
            raise DataError(f"{spec.name!r} has no samples; give at least one")
        columns = by_name(columns)
        if columns.keys() != spec.conditions.keys():
            raise DataError(
                f"{spec.name!r} has the columns {sorted(columns)}, and is described with the "
                f"conditions {sorted(spec.conditions)}; give both of each (labels are 'class')"
            )
        for name, column in columns.items():
            _check_column(name, column, len(values), spec)
        self._values, self.columns, self.spec = values, columns, spec
        self.notes = tuple(notes)
        self.blocks, self._measured, self._identity = blocks, measured, identity

    @classmethod
    def of(
        cls,
        values: Tensor | Rows,
        labels: Tensor | None,
        *,
        name: str,
        modality: str,
        channels: str,
        class_names: Sequence[str] | None,
        licence: str,
        source: str,
        value_range: Range | None = None,
        normalisation: str = "standardise",
        notes: Sequence[str] = (),
        blocks: Blocks | None = None,
        measured: Measured | None = None,
        columns: Mapping[str, Column] | None = None,
    ) -> Dataset:
        """Describe values by measuring them. value_range None: 0…255 for uint8, else measured.

        labels, class_names: of the condition "class"; columns: of further conditions. measured: of
        `Rows`, where they have been measured already.

        Raises DataError for fewer than two samples, values outside a declared range, or values
        that are all the same; InvalidArgument for an unknown normalisation.
        """
        if normalisation not in NORMALISATIONS:
            raise unknown("normalisation", normalisation, NORMALISATIONS)
        if len(values) < 2:
            raise DataError(
                f"{name!r} has {len(values)} sample(s); a distribution cannot be learned from "
                "fewer than 2"
            )
        held, conditions = _conditions(labels, class_names, columns or {}, name)
        declared = value_range is not None or values.dtype == torch.uint8
        if value_range is None and values.dtype == torch.uint8:
            value_range = (0.0, 255.0)
        if value_range is not None:
            value_range = pair(value_range)
        if isinstance(values, Rows):
            measured = measured or measure_rows(values, held)
            assert measured is not None
            low, high, identity = measured.low, measured.high, measured.fingerprint
        else:
            low, high = float(values.min()), float(values.max())
            measured, identity = None, None  # of shards below: the same wherever the values are
        if low == high:
            raise DataError(f"every value of {name!r} is {low:g}; there is nothing to learn")
        if value_range is None:
            value_range = (low, high)
        inside(values, value_range, low, high)
        if measured is None:
            assert isinstance(values, Tensor)
            mean, std = scale_of(values, normalisation, value_range)
            whole = fingerprint(values, held)
        else:
            mean, std = ends(value_range) if normalisation == "range" else measured.scale()
            whole = measured.fingerprint
        spec = DataSpec(
            name=name,
            modality=modality,
            shape=tuple(values.shape[1:] if isinstance(values, Tensor) else values.shape),
            dtype="uint8" if values.dtype == torch.uint8 else "float32",
            value_range=value_range,
            range_declared=declared,
            normalisation=normalisation,
            mean=mean,
            std=std,
            channels=channels,
            conditions=conditions,
            licence=licence,
            source=source,
            fingerprint=whole,
        )
        if isinstance(values, Rows):
            blocks = values.blocks
        elif blocks is not None:
            identity = whole
        return cls(values, held, spec, notes, blocks, measured, identity)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def streamed(self) -> bool:
        """True if the values stay in their files."""
        return isinstance(self._values, Rows)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all raw values, in memory or in files."""
        return self._values.nbytes

    @property
    def values(self) -> Tensor:
        """All raw values, (n, *event); of values in files a new copy every time.

        Raises DataError above MAX_BYTES: use `batch`, or `sample(n)`.
        """
        if not isinstance(self._values, Rows):
            return self._values
        if self._values.nbytes > MAX_BYTES:
            raise DataError(
                f"the {len(self)} samples of {self.spec.name!r} take {self.nbytes / 2**30:.1f} GiB "
                f"and at most {MAX_BYTES / 2**30:.0f} are held in memory; read them by "
                "batch(indices), or take some by sample(n)"
            )
        return self._values.whole()

    def __repr__(self) -> str:
        return f"Dataset({self.spec.name!r}, n={len(self)}, shape={self.spec.shape})"

    @property
    def labels(self) -> Int64[Tensor, " n"] | None:
        """The column of the condition "class"; None where there is none."""
        return self.columns.get("class") if self.spec.class_names is not None else None

    def batch(self, indices: Tensor | Sequence[int]) -> Batch:
        """Return normalised values and conditions of some samples; raise InvalidArgument for an
        index outside 0…n−1."""
        rows = self.rows(indices)
        return Batch(self.spec.normalise(self._read(rows)), self.condition(rows))

    def examples(self, names: Sequence[str], n: int) -> dict[str, Tensor]:
        """Return n raw values of some columns: those of the samples, repeated in their order."""
        return {name: self.columns[name][torch.arange(n) % len(self)] for name in names}

    def condition(self, indices: Tensor | Sequence[int]) -> Condition | None:
        """Return the conditions of some samples as a network takes them; None without any."""
        rows = self.rows(indices)
        return self.spec.prepare({name: column[rows] for name, column in self.columns.items()})

    def raw(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Return raw values of some samples; raises InvalidArgument for an index outside 0…n−1."""
        return self._read(self.rows(indices))

    def order(self, seed: int, counter: int, size: int) -> Int64[Tensor, " size"]:
        """Return the samples at positions counter … counter + size − 1 of the training stream.

        The order is that of `order.order`: a pure function of (seed, counter, size), every epoch
        each sample once; the same whether the values are in memory or in files.
        """
        return order(seed, len(self), counter, size, self.blocks)

    def subset(self, indices: Tensor | Sequence[int]) -> Dataset:
        """Return some of the samples, under the same description."""
        rows = self.rows(indices)
        return self._subset(rows, self.spec)

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """Return at most n samples in memory, drawn without replacement, in the data's order.

        For computations on data in files that need all values at once (nearest neighbours,
        statistics). seed: fixes the draw. All samples are returned if n is not below their number.
        """
        need_count("n", n)
        rows = torch.arange(len(self))
        if n < len(self):
            rows = permutation(seed, 0, len(self), "data sample")[:n].sort().values
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Dataset(self._read(rows), columns, self.spec, self.notes)

    def split(
        self, sizes: Mapping[str, int | None], seed: int, stratified: bool | None = None
    ) -> dict[str, Dataset]:
        """Return disjoint named parts of the given sizes; the first one named is for training.

        The scale of a "standardise" description, and that of vectors to condition on, is measured
        on the first part alone and shared by all. Samples beyond the sum of the sizes belong to no
        part; a size of None takes the rest.

        seed: fixes the division. stratified: keep the proportions of the classes; by default
        where there are labels. Raises InvalidArgument for impossible sizes, or for
        stratified=True without labels.
        """
        if stratified and self.labels is None:
            raise InvalidArgument(
                f"stratified=True, but {self.spec.name!r} has no labels; leave it out"
            )
        by = None if stratified is False else self.labels
        rows = divide(len(self), sizes, seed, by)
        first = next(iter(rows))
        mean, std = self.spec.mean, self.spec.std
        if self.spec.normalisation == "standardise":
            if self._measured is not None:
                mean, std = self._measured.scale(rows[first])
            else:
                mean, std = scale(self._read(rows[first]))
        conditions = {
            name: c.scaled_to(self.columns[name][rows[first]])
            if isinstance(c, VectorCondition)
            else c
            for name, c in self.spec.conditions.items()
        }
        spec = replace(self.spec, mean=mean, std=std, conditions=conditions)
        parts = {part: self._subset(chosen, spec) for part, chosen in rows.items()}
        for part, data in parts.items():
            if part != first and data.nbytes <= KEPT_BYTES and isinstance(data._values, Rows):
                data._values = Cached(data._values)
        return parts

    def class_counts(self) -> dict[str, int]:
        """Class name → number of samples, in the order of the classes."""
        if self.labels is None or self.spec.class_names is None:
            return {}
        counts = torch.bincount(self.labels, minlength=self.spec.classes).tolist()
        return dict(zip(self.spec.class_names, counts, strict=True))

    def fingerprint(self) -> str:
        """Return the SHA-256 of these samples (of a part: not that of the whole data set).

        For a part of values in files it is computed of the whole's and the indices of the part.
        """
        if self._identity is not None:
            return self._identity
        return fingerprint(self.values, self.columns)

    def _read(self, rows: Int64[Tensor, " m"]) -> Tensor:
        return self._values.read(rows) if isinstance(self._values, Rows) else self._values[rows]

    def _subset(self, rows: Int64[Tensor, " m"], spec: DataSpec) -> Dataset:
        columns = {name: column[rows] for name, column in self.columns.items()}
        blocks = None if self.blocks is None else self.blocks.chosen(rows)
        identity = None
        if self._identity is not None:
            digest = hashlib.sha256(f"part of {self._identity};".encode())
            digest.update(rows.numpy().astype("<i8").tobytes())
            identity = digest.hexdigest()
        if not isinstance(self._values, Rows):
            return Dataset(self._values[rows], columns, spec, self.notes, blocks, identity=identity)
        assert self._measured is not None
        values, measured = Subset(self._values, rows), self._measured.chosen(rows)
        return Dataset(values, columns, spec, self.notes, blocks, measured, identity)

    def rows(self, indices: Tensor | Sequence[int]) -> Int64[Tensor, " m"]:
        """Return indices as a tensor; raises InvalidArgument outside 0…n−1, and for none."""
        rows = torch.as_tensor(indices)
        if rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool or not len(rows):
            raise InvalidArgument(
                f"indices have shape {tuple(rows.shape)} and {rows.dtype}; give a list of whole "
                "numbers that is not empty"
            )
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= len(self):
            raise InvalidArgument(
                f"indices reach from {low} to {high}; {self.spec.name!r} has 0 to {len(self) - 1}"
            )
        return rows.to(torch.int64)


def _conditions(
    labels: Tensor | None,
    class_names: Sequence[str] | None,
    columns: Mapping[str, Column],
    name: str,
) -> tuple[dict[str, Tensor], dict[str, ConditionSpec]]:
    """Return the columns and the conditions of labels, first, and of further columns."""
    if (labels is None) != (class_names is None):
        raise DataError(f"{name!r} must have labels and class names, or neither")
    if labels is not None and class_names is not None:
        columns = {"class": Column(labels, ClassCondition(tuple(class_names))), **columns}
    return {n: c.values for n, c in columns.items()}, {n: c.meaning for n, c in columns.items()}


def _check_column(name: str, column: Tensor, n: int, spec: DataSpec) -> None:
    """Raise DataError unless a column is as the spec describes it."""
    meaning = spec.conditions[name]
    what = "labels" if name == "class" else f"column {name!r}"
    kind, shape = torch.int64, (n,)
    if not isinstance(meaning, ClassCondition):
        kind, shape = torch.float32, (n, meaning.width)  # type: ignore[assignment]
    if column.dtype != kind or column.shape != shape:
        raise DataError(
            f"{what} are {column.dtype} of shape {tuple(column.shape)}; give {kind} of shape "
            f"{shape}, one row a sample"
        )
    if isinstance(meaning, ClassCondition):
        wrong = torch.nonzero((column < 0) | (column >= len(meaning.names))).flatten()
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{'label' if name == 'class' else name} {int(column[row])} of sample {row} is out "
                f"of range; {spec.name!r} has classes 0 to {len(meaning.names) - 1}"
            )
    elif not bool(column.isfinite().all()):
        raise DataError(f"{what} holds NaN or infinity; remove these samples or fill them in")
