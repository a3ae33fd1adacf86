"""Arrays as a data set: numpy files without pickle, or arrays in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import DataError, InvalidArgument
from .columns import check_conditions, encode, pick
from .dataset import MAX_BYTES, Dataset
from .faults import STRICT, Faults
from .found import Found, refuse_bytes
from .labels import encode_labels
from .layout import LAYOUTS, channel_meaning, channels_first, guess_layout
from .numpy_files import map_npy, read_npy, read_npz
from .rows import Rows
from .spec import Range
from .stores import files_key

KEYS = ("x", "y", "labels", "class_names")


def open_arrays(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    layout: str | None = None,
    value_range: Range | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    conditions: Mapping[str, str] | None = None,
    channels: str | None = None,
    name: str | None = None,
    licence: str = "not stated",
    stream: bool | None = None,
) -> Dataset:
    """Read a .npy file, or a .npz file with `x` and optionally `y` (or `labels`), `class_names`.

    path: the file. labels: a .npy file of labels for a .npy file of values. conditions: name →
    "class" or "vector" of further arrays of the .npz to condition on. stream: leave the
    values of a .npy file there and read them when they are needed; by default where they take
    more than MAX_BYTES. The rest is as in `from_arrays`. Raises DataError for a file that is
    missing, damaged, holds pickled objects or keys of other names, and for everything that
    `from_arrays` refuses.
    """
    path = Path(path)
    options: dict[str, Any] = {
        "layout": layout,
        "value_range": value_range,
        "normalisation": normalisation,
        "class_names": class_names,
        "conditions": check_conditions(conditions),
        "channels": channels,
        "name": name or path.stem,
        "licence": licence,
        "source": f"file {path.name}",
    }
    if path.suffix == ".npy" and (stream or (path.is_file() and path.stat().st_size > MAX_BYTES)):
        return find_arrays(map_npy(path), _labels_of(labels), path, **options).dataset(stream)
    if stream:
        raise InvalidArgument(f"stream is true and {path} is no .npy file; save it as one")
    x, y, names, columns = read_arrays(path, labels, options["conditions"])
    return from_arrays(x, y, **options | {"class_names": names or class_names, "columns": columns})


def scan_arrays(path: str | Path, faults: Faults = STRICT, **options: Any) -> Found:
    """The rows of a .npy or .npz file before they are checked; options as in `open_arrays`."""
    path, labels = Path(path), options.pop("labels", None)
    options["conditions"] = check_conditions(options.get("conditions"))
    columns: dict[str, np.ndarray] = {}
    if path.suffix == ".npy":
        x, y, names = map_npy(path), _labels_of(labels), None
    else:
        x, y, names, columns = read_arrays(path, labels, None)
        for name in columns.keys() - options["conditions"].keys():
            faults.add(
                "column",
                f"{path} holds {name!r}, which is not asked for; condition on it "
                f"(data.conditions.{name}=vector, or class), or take it out of the file",
            )
    described: dict[str, Any] = {
        "columns": columns,
        "layout": None,
        "channels": None,
        "name": path.stem,
        "source": f"file {path.name}",
    }
    described |= {key: value for key, value in options.items() if value is not None}
    return find_arrays(x, y, path, **described | ({"class_names": names} if names else {}))


def read_arrays(
    path: Path, labels: str | Path | None = None, conditions: Collection[str] | None = ()
) -> tuple[np.ndarray, np.ndarray | None, Sequence[str] | None, dict[str, np.ndarray]]:
    """Return values, labels, class names and further columns of a .npy or .npz file, as they are
    there. conditions: the names of further columns that may be there; None for any."""
    if path.suffix == ".npz":
        if labels is not None:
            raise InvalidArgument(f"labels={str(labels)!r} beside {path}; put them in it as 'y'")
        found = read_npz(path, None if conditions is None else (*KEYS, *conditions))
        if "x" not in found or ("y" in found and "labels" in found):
            raise DataError(
                f"{path} holds {list(found)}; it needs 'x', and one of 'y' and 'labels'"
            )
        names = found["class_names"].tolist() if "class_names" in found else None
        columns = {name: array for name, array in found.items() if name not in KEYS}
        return found["x"], found.get("y", found.get("labels")), names, columns
    if path.suffix == ".npy":
        return read_npy(path), _labels_of(labels), None, {}
    raise DataError(f"{path} is neither .npy nor .npz; save arrays with numpy.save or savez")


def _labels_of(labels: str | Path | None) -> np.ndarray | None:
    return None if labels is None else read_npy(Path(labels))


class ArrayRows(Rows):
    """Rows of an array in `layout`, of a .npy file that is mapped or of one in memory."""

    def __init__(self, x: np.ndarray, layout: str, path: Path) -> None:
        self.x, self.layout, self.path = x, layout, path
        self.shape = channels_first(x[:1], layout).shape[1:]
        self.dtype = torch.uint8 if x.dtype == np.uint8 else torch.float32

    def __getstate__(self) -> dict[str, Any]:
        """A mapped file is opened again where this is unpickled, not copied."""
        return self.__dict__ | {"x": None if isinstance(self.x, np.memmap) else self.x}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.x is None:
            self.x = map_npy(self.path)

    def __len__(self) -> int:
        return len(self.x)

    def read(self, indices: Int64[Tensor, " m"]) -> Tensor:
        piece = np.asarray(self.x[indices.numpy()])
        with np.errstate(over="ignore"):
            kind = np.uint8 if piece.dtype == np.uint8 else np.float32
            return torch.from_numpy(np.array(channels_first(piece, self.layout), kind, order="C"))

    def place(self, index: int) -> str:
        return f"{self.path} row {index}"

    def key(self) -> str | None:
        return f"{files_key([self.path])} {self.layout}"


def find_arrays(
    x: np.ndarray,
    y: np.ndarray | None,
    path: Path,
    *,
    layout: str | None,
    name: str,
    channels: str | None,
    columns: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> Found:
    """Rows of an array with what describes them; refuses kinds, shapes and labels, not values."""
    layout, modality = _readable(x, name, layout)
    if y is not None:
        _one_each(x, y, name)
    for key, column in (columns or {}).items():
        if column.shape[:1] != x.shape[:1]:
            raise DataError(
                f"column {key!r} of {path} has shape {column.shape}; give a row for each of the "
                f"{len(x)} samples"
            )
    rows = ArrayRows(x, layout, path)
    return Found(
        rows,
        None if y is None else y.tolist(),
        name=name,
        modality=modality,
        channels=channels or channel_meaning(modality, rows.shape[0]),
        label_place=lambda i: f"label {i} of {name!r}",
        stored=str(x.dtype),
        columns=columns or {},
        **options,
    )


def from_arrays(
    x: np.ndarray | Tensor,
    y: np.ndarray | Tensor | Sequence[Any] | None = None,
    *,
    layout: str | None = None,
    value_range: Range | None = None,
    normalisation: str = "standardise",
    class_names: Sequence[str] | None = None,
    conditions: Mapping[str, str] | None = None,
    columns: Mapping[str, np.ndarray | Tensor | Sequence[Any]] | None = None,
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
    columns: further values by name, a row a sample; conditions: name → "class" or "vector" of those
    to condition on. For example
    from_arrays(x, columns={"age": ages}, conditions={"age": "vector"}).
    channels: their meaning. Raises DataError for these, for NaN and infinities, values outside
    the range, fewer than two samples, and labels that do not fit.
    """
    x, y = _array(x), None if y is None else _array(y)
    layout, modality = _readable(x, name, layout)
    values = _values(channels_first(x, layout), name)
    if value_range is None and values.dtype != torch.uint8 and modality in ("image", "volume"):
        refuse_bytes(float(values.min()), float(values.max()), str(x.dtype), name)
    indices, names = None, None
    if y is not None:
        _one_each(x, y, name)
        indices, names = encode_labels(y, class_names, lambda i: f"label {i} of {name!r}")
    elif class_names is not None:
        raise InvalidArgument(
            f"class_names were given for {name!r}, which has no labels; give both"
        )
    held = {key: _array(column) for key, column in (columns or {}).items()}
    asked = check_conditions(conditions)
    for key, column in held.items():
        if column.shape[:1] != x.shape[:1]:
            raise DataError(
                f"column {key!r} of {name!r} has shape {column.shape}; give a row for each of the "
                f"{len(x)} samples"
            )
        if key not in asked:
            raise InvalidArgument(
                f"column {key!r} was given, and conditions is {asked}; say what it is "
                f'(conditions={{"{key}": "vector"}}, or "class"), or leave it out'
            )
    if indices is not None and "class" not in held:
        asked.pop("class", None)
    described = {
        key: encode(key, asked[key], column, "sample {}".format)
        for key, column in pick(asked, held, repr(name)).items()
    }
    return Dataset.of(
        values,
        indices,
        columns=described,
        name=name,
        modality=modality,
        channels=channels or channel_meaning(modality, values.shape[1]),
        class_names=names,
        licence=licence,
        source=source,
        value_range=value_range,
        normalisation=normalisation,
    )


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


def _readable(x: np.ndarray, name: str, layout: str | None) -> tuple[str, str]:
    """The layout and the modality of an array; raises DataError for what is no data."""
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
    channels_first(x[:1], layout)
    return layout, LAYOUTS[layout]


def _one_each(x: np.ndarray, y: np.ndarray, name: str) -> None:
    if y.shape != x.shape[:1]:
        raise DataError(
            f"labels of {name!r} have shape {y.shape}; give one for each of the {len(x)} "
            "samples (take the argmax of one-hot rows)"
        )
