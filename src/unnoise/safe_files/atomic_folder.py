"""Several files that change as one.

An artifact is model.safetensors, model.json, README.md and tuned/ in one folder. New ones are
written and synced in `.next.part`; its renaming to `.next` makes them the artifact. Then each is
renamed into its place. A reader searches `.next` first, so that it finds all of the old ones or all
of the new ones at any moment, also after a crash; the next save finishes an interrupted
replacement.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ArtifactError

NEXT, PART, BEFORE = ".next", ".next.part", ".before"


def resolve(folder: Path, name: str) -> Path:
    """Return the path at which a file of an artifact lies."""
    after = folder / NEXT / name
    return after if os.path.lexists(after) else folder / name


def replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace files of `folder` atomically by those that `write` creates in a scratch folder.

    Raises ArtifactError if that is impossible; the folder then is unchanged.
    """
    part = folder / PART
    try:
        with created(folder):
            try:
                recover(folder)
                _remove(part)
                part.mkdir()
                write(part)
                for inner in (*filter(Path.is_dir, part.iterdir()), part):
                    sync(inner)
                part.rename(folder / NEXT)
            except BaseException:
                _remove(part)
                raise
    except OSError as error:
        raise ArtifactError(
            f"{folder} cannot be written: {error.strerror or error}; what was there is untouched"
        ) from error
    try:
        sync(folder)
        recover(folder)
    except OSError as error:
        raise ArtifactError(
            f"{folder} is written, and its files cannot take their places: "
            f"{error.strerror or error}; it can be read as it is (they lie in {NEXT})"
        ) from error


@contextmanager
def created(folder: Path) -> Iterator[None]:
    """Create a folder if it is missing; remove the empty folders made for it if the block fails.

    Raises ArtifactError if it cannot be created.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{folder} cannot be made: {error.strerror or error}") from error
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
        raise


def recover(folder: Path) -> None:
    """Finish a replacement that was interrupted after its files were complete."""
    after = folder / NEXT
    if not after.is_dir():
        return
    for new in sorted(after.iterdir()):
        place = folder / new.name
        if new.is_dir():
            _remove(folder / BEFORE)
            if os.path.lexists(place):
                place.rename(folder / BEFORE)
            new.rename(place)
            if not any(place.iterdir()):
                place.rmdir()
        else:
            new.replace(place)
    _remove(folder / BEFORE)
    after.rmdir()
    sync(folder)


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
