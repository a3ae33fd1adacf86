"""Numpy files read without pickle, their declared sizes checked before anything is unpacked."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .dataset import MAX_BYTES

BOMB_BYTES, BOMB_RATIO = 2**28, 200  # an archive that unpacks to more, and to so much more, is none
_DAMAGE = (OSError, ValueError, EOFError, OverflowError, SyntaxError, MemoryError)


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


def read_npy_bytes(content: bytes, name: str) -> np.ndarray:
    """The array of the bytes of a .npy file, called `name` in messages; never pickle."""
    try:
        stream = io.BytesIO(content)
        _check_header(stream, len(content))
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE as error:
        raise DataError(_unreadable(name, error)) from error


def map_npy(path: Path) -> np.ndarray:
    """A .npy file of any size, read from the disk where it is touched; never pickle."""
    try:
        with path.open("rb") as stream:
            _check_header(stream, path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; check the path") from None
    except _DAMAGE as error:
        raise DataError(_unreadable(path, error)) from error


def read_npz(path: Path, keys: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, refused before unpacking when too large; never pickle.

    keys: the names allowed; None for any. Raises DataError for another name, a damaged file, or
    one that unpacks to more than MAX_BYTES, or to more than 256 MiB and 200 times its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) != len(names):
                raise DataError(f"{path} holds two arrays of one name; save it again")
            for name in names if keys is not None else ():
                if name not in (keys or ()):
                    raise DataError(
                        f"{path} holds {', '.join(map(repr, names[:9]))}; keep values as 'x', "
                        "labels as 'y', names as 'class_names' and nothing else but what is "
                        f"conditioned on (data.conditions.{name}=vector, or class; {name!r} is not "
                        "known)"
                    )
            size = sum(member.file_size for member in members)
            _bounded(size, path)
            packed = path.stat().st_size
            if size > BOMB_BYTES and size > BOMB_RATIO * packed:
                raise DataError(
                    f"{path} unpacks from {packed:,} bytes to {size:,}, {size // packed} times as "
                    "much: no data but a bomb, or nearly all zeros; save it with numpy.savez, "
                    "which does not compress"
                )
            for member in members:
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
    if dtype.hasobject:
        raise ValueError("it holds objects, which need pickle")


def _bounded(size: int, path: Path) -> None:
    if size > MAX_BYTES:
        raise DataError(
            f"{path} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES / 2**30:.0f} fit in memory "
            "here, so save the values as a .npy file, which is read where it is needed"
        )


def _unreadable(path: Path | str, error: Exception) -> str:
    if "pickle" in str(error):
        return f"{path} holds pickled objects, which are never read; save plain numbers instead"
    return f"{path} cannot be read: {error}; save it again with numpy.save or numpy.savez"
