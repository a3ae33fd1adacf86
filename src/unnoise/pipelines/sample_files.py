"""The output of a sampling job: an array on the disk, or a folder of pictures.

Unfinished work is in a folder of its own (`x.npy.partial/`, `FOLDER/.partial/`): `samples.json`,
which describes the samples, `blocks/` with a file for each block that is done, and the array as far
as blocks are joined. A finished output has `samples.json` beside it, and is never overwritten.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..data import DataSpec
from ..errors import ArtifactError, InvalidArgument
from ..safe_files.atomic_folder import sync
from ..safe_files.files import written
from ..sampling import SampleReport, Stream

SYNCS = 16  # pictures whose sync is awaited at once
PARTIAL, CARD = ".partial", "samples.json"

Labelled = Iterable[tuple[range, np.ndarray]]  # indices and labels, block by block


def places(out: Path) -> tuple[Path, Path]:
    """Return (the folder of unfinished work, the samples.json of a finished output)."""
    if out.suffix == ".npy":
        return out.with_name(out.name + PARTIAL), out.with_name(out.stem + f".{CARD}")
    return out / PARTIAL, out / CARD


def open_output(out: Path, stream: Stream) -> Output:
    """Return the output for a path, by its ending. Raises InvalidArgument if such samples cannot be
    written to it."""
    if out.suffix == ".npy":
        if not out.parent.is_dir():
            raise InvalidArgument(f"there is no folder {out.parent}; make it first")
        return ArrayOutput(out, stream)
    if out.suffix:
        raise InvalidArgument(f"samples are streamed to a .npy or a folder, and not to {out}")
    check_pictures(stream.facts.spec)
    return FolderOutput(out, stream)


def check_pictures(spec: DataSpec) -> None:
    """Raise InvalidArgument unless samples of such data can be written as pictures."""
    if not spec.is_picture:
        raise InvalidArgument(
            f"samples of {spec.modality} data of shape {spec.shape} are no pictures; "
            "give --out samples.npy"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise ArtifactError with the path and a remedy for an error of the disk."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}; what is done stays: make room, "
            "and go on with the same command"
        ) from error


class Output(ABC):
    """Files that samples are streamed to; work and card as `places` returns them.

    occupied: a description of other files at this path, None if it is free. begin: prepare the
    work folder. damage: the fault of finished files, None if they are sound, "" if they are gone.
    write: write a block's samples, or return the content of its file. finish: move everything but
    the card to its place, also after a kill; done: the blocks, with their network evaluations.
    """

    labels: Path

    def __init__(self, out: Path, stream: Stream) -> None:
        self.out, self.stream, self.spec = out, stream, stream.facts.spec
        self.work, self.card = places(out)
        self.blocks = self.work / "blocks"

    @abstractmethod
    def occupied(self) -> str | None: ...

    def begin(self) -> None:
        self.blocks.mkdir(exist_ok=True)

    @abstractmethod
    def damage(self) -> str | None: ...

    @abstractmethod
    def write(self, block: SampleReport) -> bytes: ...

    def finish(self, done: Mapping[int, int]) -> None:
        if (labels := self.stream.labels) is not None:
            rows = map(self.stream.rows, self.stream.blocks)
            with written(self.labels, self.work) as file:
                self.write_labels(file, ((each, labels.of(each).numpy()) for each in rows))
        sync(self.labels.parent)

    @abstractmethod
    def write_labels(self, file: BinaryIO, labels: Labelled) -> None: ...


class ArrayOutput(Output):
    """NAME.npy, with NAME.labels.npy beside it for a model with classes."""

    def __init__(self, out: Path, stream: Stream) -> None:
        super().__init__(out, stream)
        self.labels = out.with_name(out.stem + ".labels.npy")
        self.values = self.work / out.name
        self.header = _header((stream.n, *self.spec.shape), self.spec.dtype)
        self.row = math.prod(self.spec.shape) * np.dtype(self.spec.dtype).itemsize
        self.size = len(self.header) + self.row * stream.n

    def occupied(self) -> str | None:
        places = (self.out, *([self.labels] if self.stream.labels else []))
        return next((f"{p} is there already" for p in places if os.path.lexists(p)), None)

    def begin(self) -> None:
        super().begin()
        free = shutil.disk_usage(self.work).free
        if self.size > free:
            raise ArtifactError(
                f"{self.stream.n} samples take {self.size:,} bytes, and {self.out.parent} has "
                f"{free:,} free; make room, or give another --out"
            )
        self.values.write_bytes(self.header)

    def damage(self) -> str | None:
        if not self.out.is_file():
            return ""
        if self.out.stat().st_size != self.size:
            return f"{self.out} holds {self.out.stat().st_size} bytes and should hold {self.size}"
        if self.stream.labels is not None and not self.labels.is_file():
            return f"{self.labels} is gone"
        return None

    def write(self, block: SampleReport) -> bytes:
        return block.values.numpy().tobytes()

    def finish(self, done: Mapping[int, int]) -> None:
        if self.values.exists():
            self._join(done)
            if reason := self.occupied():
                raise ArtifactError(
                    f"{reason}, which was not when these samples were begun; move it away, and run "
                    "the same command again"
                )
            self.values.replace(self.out)
        super().finish(done)

    def _join(self, done: Mapping[int, int]) -> None:
        """Append the blocks that are not in the array yet, in their order; a block that a kill left
        in part is written anew. Each file is emptied once its samples are on the disk, so that the
        job never takes more than one block's room beyond the array's."""
        with self.values.open("r+b") as file:
            at, size = len(self.header), file.seek(0, os.SEEK_END)
            for index, block in enumerate(self.stream.blocks):
                start, at = at, at + self.row * len(self.stream.rows(block))
                if size >= at:
                    continue
                path = self.blocks / f"{index:08d}-{done[index]}"
                content = path.read_bytes()
                if len(content) != at - start:
                    raise ArtifactError(
                        f"{path} holds {len(content)} bytes of {at - start}; it is damaged: remove "
                        "it, and run the same command again"
                    )
                file.seek(start)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.truncate(path, 0)

    def write_labels(self, file: BinaryIO, labels: Labelled) -> None:
        file.write(_header((self.stream.n,), "int64"))
        file.writelines(column.tobytes() for _, column in labels)


class FolderOutput(Output):
    """A folder of PNGs named by index and class, with labels.csv for a model with classes."""

    def __init__(self, out: Path, stream: Stream) -> None:
        super().__init__(out, stream)
        self.labels = out / "labels.csv"
        self.width = max(5, len(str(stream.first + stream.n - 1)))
        names = self.spec.class_names or ()
        self.safe = ["".join(c if c.isalnum() or c in "-_" else "_" for c in x) for x in names]

    def name(self, index: int, label: int | None) -> str:
        """Return the file name of a sample."""
        of_class = "" if label is None else f"-{self.safe[label]}"
        return f"{index:0{self.width}d}{of_class}.png"

    def occupied(self) -> str | None:
        mine = (PARTIAL, self.card.name)
        count = sum(p.name not in mine for p in self.out.iterdir()) if self.out.is_dir() else 0
        return f"{self.out} holds {count} other file(s)" if count else None

    def damage(self) -> str | None:
        count = sum(1 for _ in self.out.glob("*.png"))
        if not count:
            return ""
        return None if count == self.stream.n else f"{self.out} holds {count} pictures"

    def write(self, block: SampleReport) -> bytes:
        from PIL import Image

        pixels = self.spec.pixels(block.x)
        pixels = pixels[:, 0] if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1)
        labels = [None] * len(pixels) if block.labels is None else block.labels.tolist()
        paths = [self.out / self.name(block.first + i, label) for i, label in enumerate(labels)]
        with writing(self.out), ThreadPoolExecutor(SYNCS) as waiting:
            for path, picture in zip(paths, pixels.numpy(), strict=True):
                Image.fromarray(picture).save(path)
            list(waiting.map(sync, paths))  # at the same time: the disk does them together
        return b""

    def write_labels(self, file: BinaryIO, labels: Labelled) -> None:
        names, text = self.spec.class_names or (), io.TextIOWrapper(file, "utf-8", newline="")
        lines = csv.writer(text)
        lines.writerow(["file_name", "label", "class"])
        for rows, column in labels:
            for index, label in zip(rows, column.tolist(), strict=True):
                lines.writerow([self.name(index, label), label, names[label]])
        text.detach()


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()
