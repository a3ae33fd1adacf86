"""A data set held in memory: raw values, labels and their description."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ..errors import DataError, InvalidArgument, unknown
from .parts import divide
from .spec import DTYPES, NORMALISATIONS, DataSpec, Range

MAX_BYTES = 8 * 2**30  # of raw values; more is refused before it is read


class Dataset:
    """Raw values with their labels, and a `DataSpec` that says how to read them.

    values: (n, *event), uint8 or float32 as `spec.dtype` says. labels: (n,) int64 in
    0…classes−1, or None exactly when the spec has no class names. notes: what the source left out
    or changed, in plain words. Raises DataError where they do not fit together.
    """

    __slots__ = ("labels", "notes", "spec", "values")

    def __init__(
        self,
        values: Tensor,
        labels: Tensor | None,
        spec: DataSpec,
        notes: Sequence[str] = (),
    ) -> None:
        if values.dtype != DTYPES[spec.dtype] or tuple(values.shape[1:]) != spec.shape:
            raise DataError(
                f"values are {values.dtype} of shape {tuple(values.shape)}; {spec.name!r} is "
                f"described as {spec.dtype} events of shape {spec.shape}"
            )
        if len(values) == 0:
            raise DataError(f"{spec.name!r} has no samples; give at least one")
        if (labels is None) != (spec.class_names is None):
            raise DataError(f"{spec.name!r} must have labels and class names, or neither")
        if labels is not None:
            if labels.dtype != torch.int64 or labels.shape != values.shape[:1]:
                raise DataError(
                    f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give "
                    f"{len(values)} of int64, one a sample"
                )
            wrong = torch.nonzero((labels < 0) | (labels >= spec.classes)).flatten()
            if len(wrong):
                row = int(wrong[0])
                raise DataError(
                    f"label {int(labels[row])} of sample {row} is out of range; "
                    f"{spec.name!r} has classes 0 to {spec.classes - 1}"
                )
        self.values, self.labels, self.spec, self.notes = values, labels, spec, tuple(notes)

    @classmethod
    def of(
        cls,
        values: Tensor,
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
    ) -> Dataset:
        """Describe values by measuring them. value_range None: 0…255 for uint8, else measured.

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
        declared = value_range is not None or values.dtype == torch.uint8
        if value_range is None and values.dtype == torch.uint8:
            value_range = (0.0, 255.0)
        if value_range is not None:
            value_range = _pair(value_range)
        low, high = float(values.min()), float(values.max())
        if low == high:
            raise DataError(f"every value of {name!r} is {low:g}; there is nothing to learn")
        if value_range is None:
            value_range = (low, high)
        _inside(values, value_range, low, high)
        mean, std = _scale(values, normalisation, value_range)
        spec = DataSpec(
            name=name,
            modality=modality,
            shape=tuple(values.shape[1:]),
            dtype="uint8" if values.dtype == torch.uint8 else "float32",
            value_range=value_range,
            range_declared=declared,
            normalisation=normalisation,
            mean=mean,
            std=std,
            channels=channels,
            class_names=None if class_names is None else tuple(class_names),
            licence=licence,
            source=source,
            fingerprint=fingerprint(values, labels),
        )
        return cls(values, labels, spec, notes)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Dataset({self.spec.name!r}, n={len(self)}, shape={self.spec.shape})"

    def batch(
        self, indices: Tensor | Sequence[int]
    ) -> tuple[Float32[Tensor, batch * event], Int64[Tensor, " batch"] | None]:
        """Normalised values and labels of some samples; raises InvalidArgument outside 0…n−1."""
        rows = self._rows(indices)
        return self.spec.normalise(self.values[rows]), (
            None if self.labels is None else self.labels[rows]
        )

    def subset(self, indices: Tensor | Sequence[int]) -> Dataset:
        """Some of the samples, under the same description."""
        rows = self._rows(indices)
        labels = None if self.labels is None else self.labels[rows]
        return Dataset(self.values[rows], labels, self.spec, self.notes)

    def split(
        self, sizes: Mapping[str, int | None], seed: int, stratified: bool | None = None
    ) -> dict[str, Dataset]:
        """Disjoint named parts of the sizes asked for; the first one named is for training.

        The scale of a "standardise" description is measured on the first part alone and shared by
        all. What the sizes leave over belongs to no part; a size of None takes the rest.

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
        training = self.values[next(iter(rows.values()))]
        mean, std = _scale(training, self.spec.normalisation, self.spec.value_range)
        spec = replace(self.spec, mean=mean, std=std)
        whole = Dataset(self.values, self.labels, spec, self.notes)
        return {part: whole.subset(chosen) for part, chosen in rows.items()}

    def class_counts(self) -> dict[str, int]:
        """Class name → number of samples, in the order of the classes."""
        if self.labels is None or self.spec.class_names is None:
            return {}
        counts = torch.bincount(self.labels, minlength=self.spec.classes).tolist()
        return dict(zip(self.spec.class_names, counts, strict=True))

    def fingerprint(self) -> str:
        """SHA-256 of the samples held here (of a part: not that of the whole data set)."""
        return fingerprint(self.values, self.labels)

    def _rows(self, indices: Tensor | Sequence[int]) -> Tensor:
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


def fingerprint(values: Tensor, labels: Tensor | None) -> str:
    """SHA-256 over dtype, shape and little-endian bytes of the values and the labels."""
    digest = hashlib.sha256()
    for part in (values, labels):
        if part is None:
            digest.update(b"none;")
            continue
        array = part.detach().cpu().contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{array.dtype.name}{array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _pair(value_range: Range) -> tuple[float, float]:
    try:
        low, high = (float(edge) for edge in value_range)
        sound = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InvalidArgument(
            f"value_range is {value_range!r}; give two finite numbers, the lower one first"
        )
    return low, high


def _scale(
    values: Tensor, normalisation: str, value_range: tuple[float, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that normalise; a channel that never changes gets std 1 and so becomes 0."""
    low, high = value_range
    if normalisation == "range":
        return ((low + high) / 2,), ((high - low) / 2,)
    mean, std = [], []
    for channel in range(values.shape[1]):
        column = values[:, channel]
        if values.dtype == torch.uint8:
            count = torch.bincount(column.flatten().to(torch.int32), minlength=256).double()
            level = torch.arange(256, dtype=torch.float64)
            centre = (count @ level) / count.sum()
            spread = ((count @ (level - centre) ** 2) / count.sum()).sqrt()
        else:
            wide = column.double()
            centre, spread = wide.mean(), wide.std(correction=0)
        still = bool(column.min() == column.max())
        mean.append(float(centre))
        std.append(1.0 if still else float(spread))
    return tuple(mean), tuple(std)


def _inside(values: Tensor, value_range: tuple[float, float], low: float, high: float) -> None:
    least, most = torch.tensor(value_range, dtype=torch.float32).tolist()
    if least <= low and high <= most:
        return
    wrong = ((values < least) | (values > most)).flatten()
    at = tuple(int(i) for i in torch.unravel_index(wrong.int().argmax(), values.shape))
    raise DataError(
        f"value {float(values[at]):g} at {list(at)} lies outside the declared value_range "
        f"{tuple(value_range)}; values reach from {low:g} to {high:g}, declare that range or clip"
    )
