"""Arrays as a data set: numpy files without pickle, or arrays in memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, InvalidArgument
from .dataset import MAX_BYTES, Dataset
from .labels import encode_labels
from .layout import LAYOUTS, channel_meaning, channels_first, guess_layout
from .spec import Range

KEYS = ("x", "y", "labels", "class_names")
_DAMAGE = (OSError, ValueError, EOFError, OverflowError)


def open_arrays(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    layout: str | None = None,
    value_range: Range | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    channels: str | None = None,
    name: str | None = None,
    licence: str = "not stated",
) -> Dataset:
    """Read a .npy file, or a .npz file with `x` and optionally `y` (or `labels`), `class_names`.

    path: the file. labels: a .npy file of labels for a .npy file of values. The rest is as in
    `from_arrays`. Raises DataError for a file that is missing, damaged, holds pickled objects or
    keys of other names, and for everything that `from_arrays` refuses.
    """
    path = Path(path)
    if path.suffix == ".npz":
        if labels is not None:
            raise InvalidArgument(f"labels={str(labels)!r} beside {path}; put them in it as 'y'")
        found = read_npz(path)
        for key in found:
            if key not in KEYS:
                raise DataError(
                    f"{path} holds {', '.join(map(repr, found))}; keep values as 'x', labels as "
                    f"'y', names as 'class_names' and nothing else ({key!r} is not known)"
                )
        if "x" not in found or ("y" in found and "labels" in found):
            raise DataError(
                f"{path} holds {list(found)}; it needs 'x', and one of 'y' and 'labels'"
            )
        x, y = found["x"], found.get("y", found.get("labels"))
        class_names = found["class_names"].tolist() if "class_names" in found else class_names
    elif path.suffix == ".npy":
        x, y = read_npy(path), None if labels is None else read_npy(Path(labels))
    else:
        raise DataError(f"{path} is neither .npy nor .npz; save arrays with numpy.save or savez")
    return from_arrays(
        x,
        y,
        layout=layout,
        value_range=value_range,
        normalisation=normalisation,
        class_names=class_names,
        channels=channels,
        name=name or path.stem,
        licence=licence,
        source=f"file {path.name}",
    )


def from_arrays(
    x: np.ndarray | Tensor,
    y: np.ndarray | Tensor | Sequence[Any] | None = None,
    *,
    layout: str | None = None,
    value_range: Range | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    channels: str | None = None,
    name: str = "arrays",
    licence: str = "not stated",
    source: str = "arrays in memory",
) -> Dataset:
    """A data set of a copy of `x`: uint8 as it is, other real numbers as float32.

    x: samples along the first axis. y: labels, whole numbers or names. layout: the meaning of the
    axes (`LAYOUTS`); guessed by `guess_layout` where there is one reading. value_range: lowest
    and highest raw value; images and volumes need it declared when their values are floats above
    2 and none is negative (bytes made into floats) or are whole numbers other than uint8.
    channels: their meaning. Raises DataError for these, for NaN and infinities, values outside
    the range, fewer than two samples, and labels that do not fit.
    """
    x, y = _array(x), None if y is None else _array(y)
    if x.dtype.kind not in "uif":
        raise DataError(
            f"values of {name!r} are {x.dtype}; give uint8 or floats (a mask: x.astype('uint8'))"
        )
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(
            f"values of {name!r} have shape {x.shape}; give samples along the first axis and "
            "no empty axis, one number a sample as (N, 1)"
        )
    layout = layout or guess_layout(x.shape, x.dtype.kind in "ui")
    values = _values(channels_first(x, layout), name)
    modality = LAYOUTS[layout]
    if value_range is None and values.dtype != torch.uint8 and modality in ("image", "volume"):
        _refuse_bytes(values, x.dtype, name)
    indices, names = None, None
    if y is not None:
        if y.shape != x.shape[:1]:
            raise DataError(
                f"labels of {name!r} have shape {y.shape}; give one for each of the {len(x)} "
                "samples (take the argmax of one-hot rows)"
            )
        indices, names = encode_labels(y, class_names, lambda i: f"label {i} of {name!r}")
    elif class_names is not None:
        raise InvalidArgument(
            f"class_names were given for {name!r}, which has no labels; give both"
        )
    return Dataset.of(
        values,
        indices,
        name=name,
        modality=modality,
        channels=channels or channel_meaning(modality, values.shape[1]),
        class_names=names,
        licence=licence,
        source=source,
        value_range=value_range,
        normalisation=normalisation,
    )


def read_npy(path: Path) -> np.ndarray:
    """A .npy file in memory, its declared size checked against the file first; never pickle."""
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            _bounded(size, path)
            _check_header(stream, size)
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; check the path") from None
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_unreadable(path, error)) from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, refused before unpacking when too large; never pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            _bounded(sum(member.file_size for member in archive.infolist()), path)
            for member in archive.infolist():
                with archive.open(member) as stream:
                    _check_header(stream, member.file_size)
        with np.load(path, allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; check the path") from None
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_unreadable(path, error)) from error


def _check_header(stream: Any, total: int) -> None:
    """Refuse an array whose header declares another number of bytes than it has."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"its format version is {version}")
    shape, _, dtype = read[version](stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != total - stream.tell():
        raise ValueError(f"an array declares shape {shape} of {dtype} and has another size")


def _bounded(size: int, path: Path) -> None:
    if size > MAX_BYTES:
        raise DataError(
            f"{path} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES / 2**30:.0f} fit in memory "
            "here, so give a part of it"
        )


def _unreadable(path: Path, error: Exception) -> str:
    if "allow_pickle" in str(error) or "pickle" in str(error):
        return f"{path} holds pickled objects, which are never read; save plain numbers instead"
    return f"{path} cannot be read: {error}; save it again with numpy.save or numpy.savez"


def _array(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return np.asarray(x)


def _values(x: np.ndarray, name: str) -> Tensor:
    if x.dtype == np.uint8:
        return torch.from_numpy(np.array(x, order="C"))
    with np.errstate(over="ignore"):
        values = np.array(x, dtype=np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        at = [int(i) for i in np.unravel_index(np.argmin(finite), values.shape)]
        raise DataError(
            f"{name!r} holds {values[tuple(at)]} (as float32) at {at} (samples, then channels "
            f"first), and {int((~finite).sum())} in all; remove these samples or fill them in"
        )
    return torch.from_numpy(values)


def _refuse_bytes(values: Tensor, dtype: np.dtype[Any], name: str) -> None:
    low, high = float(values.min()), float(values.max())
    whole = dtype.kind in "ui"
    if not whole and not (low >= 0 and high > 2):
        return
    kind = str(dtype) if whole else "floats"
    as_bytes = "pass x.astype('uint8'), or " if low >= 0 and high <= 255 else ""
    raise DataError(
        f"{name!r} is made of {kind} from {low:g} to {high:g}, a range no picture is known by; "
        f"{as_bytes}declare it, as value_range=({low:g}, {high:g})"
    )
