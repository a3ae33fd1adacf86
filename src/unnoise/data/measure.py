"""What is measured of data in one pass: range, mean, deviation, fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError
from .conditions import Columns, by_name
from .faults import STRICT, Faults
from .rows import Rows, progress

Pair = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Measured:
    """What one pass over n samples of C channels found.

    low, high: of all values. sums, squares: per sample and channel, (n, C); of bytes whole
    numbers, and so exact; of floats the means and the sums of squared deviations from them.
    positions: numbers in one channel of one sample. still: channels with one value only.
    fingerprint: as `fingerprint` gives it for the same data in memory.
    """

    low: float
    high: float
    sums: Tensor
    squares: Tensor
    positions: int
    lows: Tensor | None
    highs: Tensor | None
    fingerprint: str

    def chosen(self, rows: Int64[Tensor, " m"]) -> Measured:
        """The figures of some of the samples; low, high and fingerprint stay those of all."""
        pick = lambda x: None if x is None else x[rows]  # noqa: E731
        return replace(
            self,
            sums=self.sums[rows],
            squares=self.squares[rows],
            lows=pick(self.lows),
            highs=pick(self.highs),
        )

    def scale(self, rows: Int64[Tensor, " m"] | None = None) -> Pair:
        """Mean and std (of the population) of each channel over some of the samples."""
        pick = (lambda x: x) if rows is None else (lambda x: x[rows])
        sums, squares = pick(self.sums), pick(self.squares)
        if not sums.is_floating_point():
            count = len(sums) * self.positions
            return exact_scale(
                [(count, int(s), int(q)) for s, q in zip(sums.sum(0), squares.sum(0), strict=True)]
            )
        assert self.lows is not None
        assert self.highs is not None
        still = pick(self.lows).amin(0) == pick(self.highs).amax(0)
        mean = sums.mean(0)
        variance = (squares.mean(0) + self.positions * ((sums - mean) ** 2).mean(0)) / (
            self.positions
        )
        std = torch.where(still, 1.0, variance.sqrt())
        return tuple(mean.tolist()), tuple(std.tolist())


def exact_scale(channels: list[tuple[int, int, int]]) -> Pair:
    """Mean and std from (count, sum, sum of squares) of whole numbers, correctly rounded.

    mean = S/N, std = √((N·Q − S²)/N²); a channel that never changes gets std 1.
    """
    mean, std = [], []
    for count, total, square in channels:
        spread = count * square - total * total
        mean.append(total / count)
        std.append(math.sqrt(spread / (count * count)) if spread else 1.0)
    return tuple(mean), tuple(std)


def scale(values: Tensor) -> Pair:
    """Mean and std of each channel (axis 1); a channel that never changes gets std 1."""
    channels = range(values.shape[1])
    if values.dtype == torch.uint8:
        level = torch.arange(256, dtype=torch.int64)
        exact = []
        for channel in channels:
            count = torch.bincount(values[:, channel].flatten().to(torch.int32), minlength=256)
            exact.append(
                (int(count.sum()), int((count * level).sum()), int((count * level**2).sum()))
            )
        return exact_scale(exact)
    mean, std = [], []
    for channel in channels:
        wide = values[:, channel].double()
        still = bool(wide.min() == wide.max())
        mean.append(float(wide.mean()))
        std.append(1.0 if still else float(wide.std(correction=0)))
    return tuple(mean), tuple(std)


class Digest:
    """SHA-256 over dtype, shape and little-endian bytes of arrays that come in pieces."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def begin(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        name = str(dtype).removeprefix("torch.")
        self._sha.update(f"{name}{tuple(shape)};".encode())

    def add(self, piece: Tensor) -> None:
        array = piece.detach().cpu().contiguous().numpy()
        self._sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)

    def columns(self, columns: Mapping[str, Tensor]) -> None:
        """Add the labels, or the lack of them, then the other columns in the order of names."""
        if "class" not in columns:
            self._sha.update(b"none;")
        for name in sorted(columns, key=lambda name: (name != "class", name)):
            if name != "class":
                self._sha.update(f"column {name};".encode())
            self.begin(columns[name].dtype, tuple(columns[name].shape))
            self.add(columns[name])

    def hex(self) -> str:
        return self._sha.hexdigest()


def fingerprint(values: Tensor, columns: Columns) -> str:
    """Return SHA-256 over dtype, shape and little-endian bytes of the values, the labels, and of
    further columns with their names."""
    digest = Digest()
    digest.begin(values.dtype, tuple(values.shape))
    digest.add(values)
    digest.columns(by_name(columns))
    return digest.hex()


def measure(
    rows: Rows,
    columns: Columns,
    faults: Faults = STRICT,
    watch: Callable[[Tensor, Tensor], None] | None = None,
) -> Measured | None:
    """One pass over all rows, in pieces; NaN and what cannot be read go to `faults`.

    watch: called with the indices and values of every piece of sound rows. None where no row is
    sound. With faults that do not raise, the figures are those of the sound rows.
    """
    whole = rows.dtype == torch.uint8
    # filled in place: small results kept from every piece would hold the memory of large ones
    count = (len(rows), rows.shape[0])
    sums, squares = (np.empty(count, np.int64 if whole else np.float64) for _ in range(2))
    lows, highs = (np.empty(count, np.uint8 if whole else np.float32) for _ in range(2))
    seen = 0
    digest = Digest()
    digest.begin(rows.dtype, (len(rows), *rows.shape))
    with progress(len(rows), "measuring") as bar:
        for part in rows.parts():
            indices, values = _sound(rows, part, faults)
            bar.update(len(part))
            if not len(indices):
                continue
            digest.add(values)
            if watch is not None:
                watch(indices, values)
            some = values.numpy().reshape(*values.shape[:2], -1)
            here = slice(seen, seen + len(some))
            some.min(2, out=lows[here])
            some.max(2, out=highs[here])
            if whole:
                np.add.reduce(some, axis=2, dtype=np.int64, out=sums[here])
                np.einsum("ncp,ncp->nc", some, some, dtype=np.int64, out=squares[here])
            else:
                np.add.reduce(some, axis=2, dtype=np.float64, out=sums[here])
                np.divide(sums[here], some.shape[2], out=sums[here])
                np.add.reduce((some - sums[here, :, None]) ** 2, axis=2, out=squares[here])
            seen += len(some)
    if not seen:
        return None
    digest.columns(by_name(columns))
    sound = [torch.from_numpy(x[:seen]) for x in (sums, squares, lows, highs)]
    return Measured(
        low=float(lows[:seen].min()),
        high=float(highs[:seen].max()),
        sums=sound[0],
        squares=sound[1],
        positions=math.prod(rows.shape[1:]),
        lows=None if whole else sound[2],
        highs=None if whole else sound[3],
        fingerprint=digest.hex(),
    )


def _sound(rows: Rows, part: Tensor, faults: Faults) -> tuple[Tensor, Tensor]:
    """The rows of a piece that can be read and are finite, with their indices."""
    try:
        values = rows.read(part)
    except DataError:
        if faults.strict:
            raise
        read: list[Tensor] = []
        good = []
        for i in part.tolist():
            try:
                read.append(rows.read(torch.tensor([i])))
                good.append(i)
            except DataError as error:
                faults.add("unreadable", error)
        part = torch.tensor(good, dtype=torch.int64)
        values = torch.cat(read) if read else torch.empty((0, *rows.shape), dtype=rows.dtype)
    if values.dtype == torch.uint8 or not len(values):
        return part, values
    finite = torch.isfinite(values).flatten(1).all(1)
    if bool(finite.all()):
        return part, values
    for at in torch.nonzero(~finite).flatten().tolist():
        wrong = np.argwhere(~np.isfinite(values[at].numpy()))
        first = [int(i) for i in wrong[0]]
        faults.add(
            "not finite",
            f"{rows.place(int(part[at]))} holds {float(values[at][tuple(first)])} (as float32) at "
            f"{first} (channels first), and {len(wrong)} in all; remove the sample or fill it in",
        )
    return part[finite], values[finite]
