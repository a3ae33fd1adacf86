"""Something else in the place of a file, whatever it should hold."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from .attack import Attack, rewrite

TERABYTE = 2**40


class Payload:
    """Unpickled, it makes a folder: the sign that code of a file was run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def marker_of(path: Path) -> Path:
    """What a payload in this file would make."""
    return path.parent / "it-was-run"


def _gone(path: Path) -> None:
    path.unlink()


def _instead(make):
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def _saved_by_torch(path: Path, legacy: bool = False) -> None:
    torch.save(
        {"weight": torch.zeros(3), "payload": Payload(marker_of(path))},
        path,
        _use_new_zipfile_serialization=not legacy,
    )


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Payload(marker_of(path))))


def _large(path: Path, start: bytes = b"") -> None:
    path.write_bytes(start)
    os.truncate(path, TERABYTE)


def _tar(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        content = pickle.dumps(Payload(marker_of(path)))
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def attacks(size: int, seed: int, cuts: int) -> Iterator[Attack]:
    """Attacks on any file of `size` bytes; cuts: at how many random places it is cut off."""
    for name, make in {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
        "a link to a device without end": lambda path: path.symlink_to("/dev/zero"),
        "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    }.items():
        yield Attack("no file", name, _instead(make))
    yield Attack("no file", "missing", _gone)
    for name, make in {
        "by torch.save": _saved_by_torch,
        "by torch.save, legacy": lambda path: _saved_by_torch(path, legacy=True),
        "a bare pickle": lambda path: path.write_bytes(pickle.dumps(Payload(marker_of(path)))),
        "a zip of one": _zip,
        "a tar of one": _tar,
    }.items():
        yield Attack("a pickle", name, make, resealed=True)
    for name, content in {
        "empty": b"",
        "one byte": b"\0",
        "zeros": bytes(4096),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "a web page": b"<!doctype html><title>404</title>" * 20,
        "a pointer to large storage": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    }.items():
        yield Attack("another file", name, rewrite(lambda _, c=content: c), resealed=True)
    yield Attack("another file", "a terabyte of zeros", _large)
    drawn = random.Random(seed)
    for at in sorted(drawn.sample(range(1, size), min(cuts, size - 1))):
        yield Attack("cut off", f"after byte {at}", rewrite(lambda c, at=at: c[:at]), resealed=True)
