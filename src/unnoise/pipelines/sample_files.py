"""Where the samples of a job go: an array on the disk, or a folder of pictures.

Until all are there the work lies in a folder of its own (`x.npy.partial/`, `FOLDER/.partial/`):
`samples.json`, which describes what is drawn, `blocks/` with a file for each block that is done,
and the array as far as blocks are joined. A finished output has `samples.json` beside it, and is
never written over.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import ArtifactError, InvalidArgument
from ..safe_files.atomic_folder import sync
from ..safe_files.files import write_bytes
from ..sampling import SampleReport, Stream

CHUNK = 1 << 16  # labels at once
SYNCS = 16  # pictures whose sync is awaited at once
PARTIAL = ".partial"


def places(out: Path) -> tuple[Path, Path]:
    """Return (the folder of unfinished work, the samples.json of what is finished)."""
    if out.suffix == ".npy":
        return out.with_name(out.name + PARTIAL), out.with_name(out.stem + ".samples.json")
    return out / PARTIAL, out / "samples.json"


def open_output(out: Path, stream: Stream) -> Output:
    """Return the output for a path, by its ending. Raises InvalidArgument where it cannot hold
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


def write_block(path: Path, content: bytes) -> None:
    """Write the file of a block that is done, whole or not at all."""
    try:
        write_bytes(path, content)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}; what is done stays: make room, and go on with the same command"
        ) from error


class Output(ABC):
    """Files that samples are streamed to; work and card as `places` returns them.

    occupied: what is there already, so that nothing can be begun; None where it is free.
    begin: prepare the work folder. damage: what is wrong with finished files, None where nothing,
    "" where they are gone. write: write a block's samples, or return the content of its file.
    finish: bring everything but the card to its place, also after a kill; done: the blocks, with
    the network evaluations in their names.
    """

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

    @abstractmethod
    def finish(self, done: Mapping[int, int]) -> None: ...

    def labels_by_rows(self) -> Iterator[tuple[range, np.ndarray]]:
        """Yield the indices and the labels of all samples, in parts."""
        every = range(self.stream.first, self.stream.first + self.stream.n)
        for at in range(0, self.stream.n, CHUNK):
            rows = every[at : at + CHUNK]
            if self.stream.labels is not None:
                yield rows, self.stream.labels.of(rows).numpy()


class ArrayOutput(Output):
    """NAME.npy, with NAME.labels.npy beside it where the model has classes.

    At the end the blocks are appended to the array in their order, each emptied once its samples
    are on the disk, so that the job never takes more than one block's room beyond the array's.
    """

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
        if self.stream.labels is not None and not self.labels.exists():
            beside = self.work / self.labels.name
            with beside.open("wb") as file:
                file.write(_header((self.stream.n,), "int64"))
                for _, labels in self.labels_by_rows():
                    file.write(labels.tobytes())
                _on_disk(file)
            beside.replace(self.labels)
        sync(self.out.parent)

    def _join(self, done: Mapping[int, int]) -> None:
        """Append the blocks that are not in the array yet; what a kill left of one goes first."""
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
                _on_disk(file)
                os.truncate(path, 0)


class FolderOutput(Output):
    """A folder of PNGs named by index and class, with labels.csv where the model has classes."""

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
        count = sum(p.suffix == ".png" for p in self.out.iterdir()) if self.out.is_dir() else 0
        if not count:
            return ""
        return None if count == self.stream.n else f"{self.out} holds {count} pictures"

    def write(self, block: SampleReport) -> bytes:
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
            list(waiting.map(sync, written))  # at the same time: the disk does them together
        return b""

    def finish(self, done: Mapping[int, int]) -> None:
        if self.stream.labels is not None:
            names, beside = self.spec.class_names or (), self.work / self.labels.name
            with beside.open("w", encoding="utf-8", newline="") as file:
                lines = csv.writer(file)
                lines.writerow(["file_name", "label", "class"])
                for rows, labels in self.labels_by_rows():
                    for index, label in zip(rows, labels.tolist(), strict=True):
                        lines.writerow([self.name(index, label), label, names[label]])
                _on_disk(file)
            beside.replace(self.labels)
        sync(self.out)


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    buffer = io.BytesIO()
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": described, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _on_disk(file: io.IOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
