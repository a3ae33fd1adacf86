"""Files that are there whole or not at all, and tensors without code."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.spec import strict_json
from ..errors import ArtifactError, DataError


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside, sync, rename: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ArtifactError(
            f"{path} cannot be written: {error.strerror or error}; what was there is untouched"
        ) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, tree: Any) -> None:
    """Strict JSON (no NaN), written whole."""
    text = json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Strict JSON: no NaN, no key twice. Raises ArtifactError."""
    try:
        return strict_json(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, whole; returns the file's SHA-256."""
    from safetensors.torch import save

    content = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read safetensors, checking the hash first where one is known. Raises ArtifactError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(
            f"{path} is not the file that was written (its SHA-256 differs): it is damaged or was "
            "replaced; train again or copy it again"
        )
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is no sound safetensors file: {error}") from error


def check_tensors(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise ArtifactError unless tensors are a module's state in names, shapes and dtypes, and
    finite; the module may be on the meta device."""
    state = module.state_dict()
    for what, names in (
        ("lacks", state.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - state.keys()),
    ):
        if names:
            raise ArtifactError(f"{where} {what} {len(names)} tensors, such as {min(names)!r}")
    for name, value in tensors.items():
        if value.shape != state[name].shape:
            raise ArtifactError(
                f"{where}: tensor {name!r} is {tuple(value.shape)}, the network's is "
                f"{tuple(state[name].shape)}"
            )
        if value.dtype != state[name].dtype:
            raise ArtifactError(
                f"{where}: tensor {name!r} is {value.dtype}, the network's is {state[name].dtype}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtifactError(f"{where}: tensor {name!r} holds NaN or infinity")
