"""Reading of untrusted files: plain files of bounded size, trees of a bounded number of values."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UnnoiseError

MOST_TEXT = 2**20  # bytes of a description: JSON and the like
MOST_VALUES = 100_000  # values of a tree
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def opened(path: Path, error: type[UnnoiseError]) -> Iterator[tuple[BinaryIO, int]]:
    """Yield (the open file, its size in bytes); never waits for a pipe.

    Raises `error` for a file that is missing, unreadable or not plain.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read: {getattr(fault, 'strerror', fault)}") from fault
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "something else")
        raise error(f"{path} cannot be read: it is {kind} where a file should be")
    with os.fdopen(handle, "rb") as file:
        try:
            yield file, found.st_size
        except OSError as fault:
            raise error(f"{path} cannot be read: {fault.strerror or fault}") from fault


def read_bytes(path: Path, error: type[UnnoiseError], most: int = MOST_TEXT) -> bytes:
    """Return the bytes of a plain file of at most `most` bytes; raises `error` otherwise."""
    with opened(path, error) as (file, size):
        if size > most:
            raise error(
                f"{path} cannot be read: it holds {size:,} bytes and such a file at most {most:,}; "
                "it is damaged, or not what its name says"
            )
        content = file.read(most + 1)
    if len(content) > most:
        raise error(f"{path} cannot be read: it grows; wait until it is written")
    return content


def read_text(path: Path, error: type[UnnoiseError], most: int = MOST_TEXT) -> str:
    """Return the UTF-8 text of a plain file of at most `most` bytes; raises `error` otherwise."""
    try:
        return read_bytes(path, error, most).decode("utf-8")
    except UnicodeDecodeError as fault:
        raise error(f"{path} cannot be read: it is no UTF-8 text ({fault})") from fault


def check_tree(tree: Any, where: str, error: type[UnnoiseError], most: int = MOST_VALUES) -> None:
    """Raise `error` unless a tree holds plain, finite values, and at most `most` of them.

    A value that is referred to from several places counts at each, so that a few nested references
    do not become millions. Whole numbers have at most 64 bits.
    """
    waiting, seen = [tree], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, bool) or value is None or isinstance(value, str | os.PathLike):
            continue
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**64:
                raise error(f"{where} holds a whole number of {value.bit_length()} bits; 64 fit")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise error(f"{where} holds {value}; give finite numbers")
        else:
            raise error(
                f"{where} holds a {type(value).__name__}; give text, numbers, true, false, null, "
                "lists and keys"
            )
        if seen + len(waiting) > most:
            raise error(f"{where} holds more than {most:,} values; it is no description")
