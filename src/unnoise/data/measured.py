"""What one pass found of data in files, kept in the cache until the files change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .cache import cache_dir, write_arrays
from .measure import Measured, measure
from .numpy_files import read_npz
from .rows import Rows

FORMAT = 1  # raise it where what is kept changes its meaning
_ARRAYS = ("sums", "squares", "lows", "highs")


def measured_rows(rows: Rows, columns: Mapping[str, Tensor]) -> Measured:
    """Return `measure`, or what was kept of it for these files and columns, read in this way.

    What is kept goes by the names, sizes and times of the files. Raises what `measure` raises.
    """
    path = _path(rows, columns)
    kept = None if path is None else _load(path, len(rows))
    if kept is not None:
        return kept
    found = measure(rows, columns)
    assert found is not None
    if path is not None:
        arrays = {name: getattr(found, name) for name in _ARRAYS}
        with suppress(DataError):  # a cache that cannot be written costs only time
            write_arrays(
                path,
                numbers=np.array([found.low, found.high, found.positions]),
                fingerprint=np.array(found.fingerprint),
                **{name: x.numpy() for name, x in arrays.items() if x is not None},
            )
    return found


def _path(rows: Rows, columns: Mapping[str, Tensor]) -> Path | None:
    key = rows.key()
    if key is None:
        return None
    digest = hashlib.sha256(f"{FORMAT} {key} {len(rows)} {rows.shape} {rows.dtype}".encode())
    for name, column in columns.items():
        digest.update(b"" if name == "class" else f" {name} ".encode())
        digest.update(column.numpy().tobytes())
    return cache_dir() / "measured" / f"{digest.hexdigest()}.npz"


def _load(path: Path, n: int) -> Measured | None:
    if not path.is_file():
        return None
    try:
        kept = read_npz(path)
        low, high, positions = kept["numbers"].tolist()
        tensors = {name: torch.from_numpy(kept[name]) for name in _ARRAYS if name in kept}
        if any(len(x) != n for x in tensors.values()):
            return None
        return Measured(
            low=low,
            high=high,
            sums=tensors["sums"],
            squares=tensors["squares"],
            positions=int(positions),
            lows=tensors.get("lows"),
            highs=tensors.get("highs"),
            fingerprint=str(kept["fingerprint"]),
        )
    except (DataError, KeyError, TypeError, ValueError):
        return None
