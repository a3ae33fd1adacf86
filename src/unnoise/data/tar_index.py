"""The index of the members of tar shards: one scan of the headers, stored in the cache."""

from __future__ import annotations

import hashlib
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from .cache import cache_dir, write_arrays
from .encoded import files_key
from .faults import Faults
from .numpy_files import read_npz
from .rows import progress

FORMAT = 1
MEMBER_BYTES = 2**29  # bytes of one member; larger ones are no pictures


@dataclass(frozen=True)
class Index:
    """Members of all shards, sample by sample.

    sample: the sample (from 0) of each member. shard, offset, size: the place of its bytes. ending:
    the part of its name after the first dot, lower case. keys, shards: of each sample, its name
    before that dot and its shard.
    """

    sample: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    ending: np.ndarray
    keys: np.ndarray
    shards: np.ndarray


def index_tars(files: list[Path], faults: Faults) -> Index:
    """Return the index of tar files, from a scan of their headers.

    Members that follow each other under one name before the first dot are a sample, as in
    webdataset. Hidden members (`._x.jpg`) are left out.

    Raises DataError, naming shard and member, for a file that is no tar or is cut short, a name
    that leads out (`../`, absolute), links and devices, and a key or an ending given twice.
    """
    kept = cache_dir() / "shards" / f"{_key(files)}.npz"
    with suppress(DataError, KeyError, TypeError):
        if kept.is_file():
            return Index(**read_npz(kept))
    rows: list[tuple[int, int, int, int, str]] = []
    keys: list[tuple[str, int]] = []
    with progress(len(files), "scanning shards") as bar:
        for number, file in enumerate(files):
            before = len(rows), len(keys)
            try:
                _scan(file, number, rows, keys, faults)
            except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
                del rows[before[0] :], keys[before[1] :]
                wrapped = error if isinstance(error, DataError) else _damaged(file, error)
                faults.add("damaged shard", wrapped)
            bar.update(1)
    sample, shard, offset, size = (
        np.array([row[k] for row in rows], dtype=np.int64) for k in range(4)
    )
    index = Index(
        sample, shard, offset, size,
        ending=np.array([row[4] for row in rows], dtype=str),
        keys=np.array([key for key, _ in keys], dtype=str),
        shards=np.array([number for _, number in keys], dtype=np.int64),
    )  # fmt: skip
    if not faults.counts:
        with suppress(DataError):  # a cache that cannot be written costs only time
            write_arrays(kept, **vars(index))
    return index


def _key(files: list[Path]) -> str:
    return hashlib.sha256(f"{FORMAT} {files_key(files)}".encode()).hexdigest()


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} is no sound tar file: {error or type(error).__name__}; fetch it again"
    )


def _scan(
    file: Path,
    number: int,
    rows: list[tuple[int, int, int, int, str]],
    keys: list[tuple[str, int]],
    faults: Faults,
) -> None:
    total = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise DataError(f"{file} is compressed; its members cannot be found: gunzip it first")
        stream.seek(0)
        archive = tarfile.open(fileobj=stream, mode="r:", errorlevel=1)  # noqa: SIM115
        seen: set[str] = set()
        endings: set[str] = set()
        at, end = None, 0
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would remember them all
            end = member.offset_data + -(-member.size // 512) * 512
            if member.isdir():
                continue
            _refuse(file, member, total)
            if member.name.startswith("__") and member.name.endswith("__"):
                continue  # webdataset's own notes
            key, ending = _split(member.name)
            if not ending or PurePosixPath(member.name).name.startswith("."):
                continue
            if key != at:
                if key in seen:
                    raise DataError(
                        f"{file} holds the key {key!r} twice (member {member.name!r}); members of "
                        "one sample must follow each other, and keys differ"
                    )
                seen.add(key)
                at, endings = key, set()
                keys.append((key, number))
            if ending in endings:
                raise DataError(f"{file} holds {member.name!r} twice; keep one of them")
            endings.add(ending)
            rows.append((len(keys) - 1, number, member.offset_data, member.size, ending))
        stream.seek(end)
        mark = stream.read(512)
        if len(mark) < 512:
            raise DataError(
                f"{file} is cut short: {total:,} bytes, without the mark that ends a tar file; "
                "fetch it again"
            )
        if any(mark):
            raise DataError(f"{file} has a broken header at byte {end:,}; fetch it again")


def _refuse(file: Path, member: tarfile.TarInfo, total: int) -> None:
    pure = PurePosixPath(member.name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in member.name or "\0" in member.name:
        raise DataError(
            f"{file} holds {member.name!r}, a name that leads out of it; make the shard "
            "again, with plain names"
        )
    if not member.isreg() or member.issparse():
        raise DataError(
            f"{file} holds {member.name!r}, which is a link, a device or sparse, no file"
        )
    if member.size > MEMBER_BYTES:
        raise DataError(
            f"{file} holds {member.name!r} of {member.size:,} bytes; one sample may take at most "
            f"{MEMBER_BYTES:,}"
        )
    if member.offset_data + member.size > total:
        raise DataError(
            f"{file} is cut short within {member.name!r}: {total:,} bytes, and it ends at "
            f"{member.offset_data + member.size:,}; fetch it again"
        )


def _split(name: str) -> tuple[str, str]:
    """Return ("a/b", "seg.png") of "a/b.seg.png"."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


class Handles:
    """Open files by number, a few at a time, of this process only."""

    MOST = 64

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self._open: dict[int, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"files": self.files, "_open": {}}

    def __del__(self) -> None:
        for handle in self._open.values():
            with suppress(OSError):
                os.close(handle)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Return some bytes, without moving a position that a forked process would share."""
        if file not in self._open:
            if len(self._open) >= self.MOST:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                self._open[file] = os.open(self.files[file], os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{self.files[file]} cannot be read: {error.strerror}") from error
        return os.pread(self._open[file], size, offset)
