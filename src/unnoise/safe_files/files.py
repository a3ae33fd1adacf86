"""Files that are written whole or not at all, and tensors read without running code."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import ArtifactError, DataError, UnnoiseError
from .header import Entry, read_header
from .safe_read import MOST_TEXT, opened, read_bytes
from .strict_json import strict_json


@contextmanager
def written(path: Path, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file that takes its place at the end: written beside, or in the folder `scratch`,
    synced and renamed; a reader finds the old or the new one."""
    name = f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    beside = path.with_name(name) if scratch is None else scratch / name
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Write a file whole, as `written` does. Raises ArtifactError."""
    try:
        with written(path, scratch) as file:
            file.write(content)
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}; what was there is untouched"
        ) from error


def write_json(path: Path, tree: Any, scratch: Path | None = None) -> None:
    """Write strict JSON (no NaN), whole."""
    text = json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode(), scratch)


def read_json(path: Path, most: int = MOST_TEXT, sha256: str | None = None) -> Any:
    """Return strict JSON: no NaN, no key twice, at most `most` bytes.

    The hash is checked if `sha256` is given. Raises ArtifactError.
    """
    return strict_file(path, ArtifactError, most, sha256)


def strict_file(
    path: Path, error: type[UnnoiseError], most: int = MOST_TEXT, sha256: str | None = None
) -> Any:
    """Return strict JSON as `read_json` does, raising `error`."""
    content = read_bytes(path, error, most)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise error(f"{path} is damaged: its SHA-256 differs from the one that is noted")
    try:
        return strict_json(content.decode("utf-8"), str(path))
    except (UnicodeDecodeError, DataError) as fault:
        raise error(f"{path} cannot be read: {fault}") from fault


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, whole; return the file's SHA-256."""
    from safetensors.torch import save

    content = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(
    path: Path,
    sha256: str | None = None,
    agree: Callable[[dict[str, Entry]], None] | None = None,
) -> dict[str, Tensor]:
    """Read safetensors with a sound header; the hash is checked if `sha256` is given.

    agree: called with the header's entries before memory is taken for any of them, to raise if they
    are not the expected ones. Raises ArtifactError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with opened(path, ArtifactError) as (file, size):
        try:
            entries = read_header(file, size)
        except ValueError as error:
            raise ArtifactError(
                f"{path} is no sound safetensors file: {error}; copy it again, or train again"
            ) from error
        if agree is not None:
            agree(entries)
        elif size > _memory():
            raise ArtifactError(f"{path} holds {size:,} bytes, more than this machine's memory")
        file.seek(0)
        content = file.read(size + 1)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(
            f"{path} is not the file that was written (its SHA-256 differs): it is damaged or was "
            "replaced; train again or copy it again"
        )
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is no sound safetensors file: {error}") from error


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**40


def check_entries(
    module: torch.nn.Module, entries: Mapping[str, Entry], where: str, prefix: str = ""
) -> None:
    """Raise ArtifactError unless a file lists a module's state in names (after `prefix`), shapes
    and dtypes; the module may be on the meta device."""
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    for what, names in (
        ("lacks", state.keys() - entries.keys()),
        ("has unknown", entries.keys() - state.keys()),
    ):
        if names:
            raise ArtifactError(f"{where} {what} {len(names)} tensors, such as {min(names)!r:.90}")
    for name, entry in entries.items():
        if entry.shape != tuple(state[name].shape):
            raise ArtifactError(
                f"{where}: tensor {name!r} is {entry.shape}, the network's is "
                f"{tuple(state[name].shape)}"
            )
        if entry.dtype != state[name].dtype:
            raise ArtifactError(
                f"{where}: tensor {name!r} is {entry.dtype}, the network's is {state[name].dtype}"
            )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise ArtifactError if a tensor holds NaN or infinity."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(_wide(value)).all()):
            raise ArtifactError(f"{where}: tensor {name!r} holds NaN or infinity")


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype.itemsize == 1 else value


def check_tensors(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise ArtifactError unless tensors are a module's state, and finite.

    Names, shapes and dtypes are compared; the module may be on the meta device.
    """
    check_entries(module, {k: Entry(v.dtype, tuple(v.shape)) for k, v in tensors.items()}, where)
    check_finite(tensors, where)
