"""Where streamed samples go: an array on the disk, or a folder of pictures.

Until all are there the work lies in a folder of its own (`x.npy.partial/`, `FOLDER/.partial/`):
`samples.json` that says what is drawn, `blocks` that says what is done, and the array. What is
finished has `samples.json` beside it, and nothing else is ever written over.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import ArtifactError, InvalidArgument
from ..safe_files.atomic_folder import sync
from ..sampling import Samples, Stream

CHUNK = 1 << 16  # labels at once
SYNCS = 16  # pictures that are waited for at once
PARTIAL = ".partial"


def places(out: Path) -> tuple[Path, Path]:
    """(the folder of work that is unfinished, the samples.json of what is finished)."""
    if out.suffix == ".npy":
        return out.with_name(out.name + PARTIAL), out.with_name(out.stem + ".samples.json")
    return out / PARTIAL, out / "samples.json"


def open_output(out: Path, stream: Stream) -> Output:
    """The output that a path names by its ending. Raises InvalidArgument where it cannot hold
    such samples."""
    spec = stream.facts.spec
    if out.suffix == ".npy":
        if not out.parent.is_dir():
            raise InvalidArgument(f"there is no folder {out.parent}; make it first")
        return ArrayOutput(out, stream)
    if out.suffix:
        raise InvalidArgument(f"samples are streamed to a .npy or a folder, and not to {out}")
    if spec.modality != "image" or spec.shape[0] not in (1, 3):
        raise InvalidArgument(
            f"samples of {spec.modality} data of shape {spec.shape} are no pictures; "
            "give --out samples.npy"
        )
    return FolderOutput(out, stream)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the path and the remedy where the disk refuses."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}; what is done stays: make room, "
            "and go on with the same command"
        ) from error


class Output(ABC):
    """Files that samples are streamed to; work and card as `places` says."""

    def __init__(self, out: Path, stream: Stream) -> None:
        self.out, self.stream, self.spec = out, stream, stream.facts.spec
        self.work, self.card = places(out)

    @abstractmethod
    def occupied(self) -> str | None:
        """Why nothing can be begun here: what is there already; None where it is free."""

    @abstractmethod
    def begin(self) -> None:
        """Prepare the work folder."""

    @abstractmethod
    def damage(self) -> str | None:
        """What is wrong with files that are finished, or None; "" where they are gone."""

    @abstractmethod
    def write(self, block: Samples) -> None:
        """Write a block's samples and wait until they are on the disk."""

    @abstractmethod
    def finish(self) -> None:
        """Bring everything but the card to its place; may be called again after a kill."""


class ArrayOutput(Output):
    """NAME.npy, with NAME.labels.npy beside it where the model has classes.

    The array has its whole size from the beginning, without taking the room (a sparse file), and
    is written by position: a full disk is an error of the write, never a crash.
    """

    def __init__(self, out: Path, stream: Stream) -> None:
        super().__init__(out, stream)
        self.labels = out.with_name(out.stem + ".labels.npy")
        self.values = self.work / out.name
        self.header = _header((stream.n, *self.spec.shape), self.spec.dtype)
        self.row = math.prod(self.spec.shape) * np.dtype(self.spec.dtype).itemsize

    @property
    def size(self) -> int:
        return len(self.header) + self.row * self.stream.n

    def occupied(self) -> str | None:
        places = (self.out, *([self.labels] if self.stream.labels else []))
        return next((f"{p} is there already" for p in places if os.path.lexists(p)), None)

    def begin(self) -> None:
        free = shutil.disk_usage(self.work).free
        if self.size > free:
            raise ArtifactError(
                f"{self.stream.n} samples take {self.size:,} bytes, and {self.out.parent} has "
                f"{free:,} free; make room, or give another --out"
            )
        with self.values.open("wb") as file:
            file.write(self.header)
            file.truncate(self.size)

    def damage(self) -> str | None:
        if not self.out.is_file():
            return ""
        if self.out.stat().st_size != self.size:
            return f"{self.out} holds {self.out.stat().st_size} bytes and should hold {self.size}"
        if self.stream.labels is not None and not self.labels.is_file():
            return f"{self.labels} is gone"
        return None

    def write(self, block: Samples) -> None:
        content = memoryview(block.values.numpy().tobytes())
        at = len(self.header) + self.row * (block.first - self.stream.first)
        with writing(self.out):
            file = os.open(self.values, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                while content:
                    done = os.pwrite(file, content, at)
                    content, at = content[done:], at + done
                os.fsync(file)
            finally:
                os.close(file)

    def finish(self) -> None:
        with writing(self.out):
            if self.values.exists():
                if reason := self.occupied():
                    raise ArtifactError(
                        f"{reason}, which was not when these samples were begun; move it away, and "
                        "run the same command again"
                    )
                self.values.replace(self.out)
            if self.stream.labels is not None and not self.labels.exists():
                beside = self.work / self.labels.name
                with beside.open("wb") as file:
                    file.write(_header((self.stream.n,), "int64"))
                    for _, labels in _labels(self.stream):
                        file.write(labels.tobytes())
                    _on_disk(file)
                beside.replace(self.labels)
            sync(self.out.parent)


class FolderOutput(Output):
    """A folder of PNGs named by index and class, with labels.csv where the model has classes."""

    def __init__(self, out: Path, stream: Stream) -> None:
        super().__init__(out, stream)
        self.labels = out / "labels.csv"
        self.width = max(5, len(str(stream.first + stream.n - 1)))
        names = self.spec.class_names or ()
        self.safe = ["".join(c if c.isalnum() or c in "-_" else "_" for c in x) for x in names]

    def name(self, index: int, label: int | None) -> str:
        """The file of a sample."""
        of_class = "" if label is None else f"-{self.safe[label]}"
        return f"{index:0{self.width}d}{of_class}.png"

    def occupied(self) -> str | None:
        mine = (PARTIAL, self.card.name)
        count = sum(p.name not in mine for p in self.out.iterdir()) if self.out.is_dir() else 0
        return f"{self.out} holds {count} other file(s)" if count else None

    def begin(self) -> None:
        pass

    def damage(self) -> str | None:
        count = sum(p.suffix == ".png" for p in self.out.iterdir()) if self.out.is_dir() else 0
        if not count:
            return ""
        return None if count == self.stream.n else f"{self.out} holds {count} pictures"

    def write(self, block: Samples) -> None:
        from PIL import Image

        pixels = self.spec.pixels(block.x).permute(0, 2, 3, 1).numpy()
        labels = [None] * len(pixels) if block.labels is None else block.labels.tolist()
        written = []
        for i, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
            picture = picture[..., 0] if picture.shape[-1] == 1 else picture
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            written.append(self.out / self.name(block.first + i, label))
            with writing(written[-1]):
                written[-1].write_bytes(buffer.getvalue())
        with writing(self.out), ThreadPoolExecutor(SYNCS) as waiting:
            list(waiting.map(_sync, written))  # at the same time: the disk does them together

    def finish(self) -> None:
        with writing(self.labels):
            if self.stream.labels is not None:
                names, beside = self.spec.class_names or (), self.work / self.labels.name
                with beside.open("w", encoding="utf-8", newline="") as file:
                    lines = csv.writer(file)
                    lines.writerow(["file_name", "label", "class"])
                    for rows, labels in _labels(self.stream):
                        for index, label in zip(rows, labels.tolist(), strict=True):
                            lines.writerow([self.name(index, label), label, names[label]])
                    _on_disk(file)
                beside.replace(self.labels)
            sync(self.out)


def _labels(stream: Stream) -> Iterator[tuple[range, np.ndarray]]:
    every = range(stream.first, stream.first + stream.n)
    for at in range(0, stream.n, CHUNK):
        rows = every[at : at + CHUNK]
        if stream.labels is not None:
            yield rows, stream.labels.of(rows).numpy()


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": described, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _on_disk(file: io.IOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
