"""The cache of fetched data sets: plain arrays, checked by fingerprint when they are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..safe_files.files import written
from .measure import fingerprint
from .numpy_files import read_npz


def cache_dir() -> Path:
    """Return UNNOISE_CACHE, else unnoise in XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("UNNOISE_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unnoise"


def cached(name: str, expected: str) -> tuple[Tensor, Tensor] | None:
    """Return values and labels stored as `name`, or None if absent or of another fingerprint."""
    path = cache_dir() / f"{name}.npz"
    if not path.is_file():
        return None
    try:
        found = read_npz(path)
        values, labels = torch.from_numpy(found["x"]), torch.from_numpy(found["y"])
    except (DataError, KeyError, TypeError):
        return None
    return (values, labels) if fingerprint(values, labels) == expected else None


def keep(name: str, values: Tensor, labels: Tensor) -> Path:
    """Write values and labels to the cache, whole or not at all; raises DataError if it cannot."""
    return write_arrays(cache_dir() / f"{name}.npz", x=values.numpy(), y=labels.numpy())


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """Write arrays to a .npz in the cache, whole or not at all; raises DataError if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; set UNNOISE_CACHE to a folder that can"
        ) from error
    return path


def run(command: Sequence[str], folder: Path, remedy: str, seconds: float = 600) -> None:
    """Run a package manager in `folder`; raises DataError with its last output and the remedy."""
    import subprocess

    words = " ".join(command)
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise DataError(f"{words}: {command[0]} is not installed; {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{words}: no answer in {seconds:g} s; {remedy}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"{words} failed: {' / '.join(said[-3:])}; {remedy}")
