"""Fashion-MNIST: 70,000 pictures of clothes, from its Debian package or a folder of IDX files."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..errors import DataError, unknown
from .cache import cache_dir, cached, keep, run
from .dataset import Dataset, fingerprint

PACKAGE = "dataset-fashion-mnist"
VERSION = "0.0~git20200523.55506a9-1"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # part -> prefix, pictures
FINGERPRINTS = {
    "train": "585fa83c90e2e822b144c9702484d5fd5d8d707a003ebca7c5b2e2ea5f5db5f1",
    "test": "b627547f37a4a0fd5a42c4f4a9b39cfa2a733991c924874295314c302d569e15",
}
PARTS = ("train", "test", "all")


def open_fashion(
    *,
    part: str = "train",
    path: str | Path | None = None,
    fetch: bool = False,
    normalisation: str = "standardise",
) -> Dataset:
    """Return pictures of clothes, (1, 28, 28), bytes, 10 classes alike in size.

    part: train (60,000), test (10,000) or all (train, then test). Taken from the folder `path` of
    the four IDX files (.gz) if given, else from the place of the Debian package, else from the
    cache, else, with fetch=True, from the Debian package through apt-get, without installing it,
    and stored in the cache. In every case the SHA-256 is checked. Raises DataError, with the
    remedy, if the files are missing or not Fashion-MNIST.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    if part not in PARTS:
        raise unknown("part of fashion", part, PARTS)
    names = ("train", "test") if part == "all" else (part,)
    found = _find(names, path, fetch)
    return Dataset.of(
        torch.cat([values for values, _ in found]),
        torch.cat([labels for _, labels in found]),
        name="fashion" if part == "all" else f"fashion-{part}",
        modality="image",
        channels="L",
        class_names=CLASSES,
        licence="MIT (Zalando SE)",
        source=f"Debian {PACKAGE} {VERSION}, {part}",
        normalisation=normalisation,
    )


def read_idx(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, ...]:
    """Return the bytes of a gzipped IDX file of exactly the expected shape.

    Two zero bytes, 8 (bytes), the number of axes, their sizes as big-endian 32-bit numbers, then
    the values. Raises DataError for a file that is absent, damaged or of another shape.
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    total = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as stream:
            content = stream.read(total + 1)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; give a folder with the four IDX files") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}; fetch it again") from error
    if not content.startswith(header) or len(content) != total:
        raise DataError(f"{path} is not an IDX file of bytes of shape {shape}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def _find(
    names: tuple[str, ...], path: str | Path | None, fetch: bool
) -> list[tuple[Tensor, Tensor]]:
    if path is not None:
        return [_read(Path(path), name) for name in names]
    if INSTALLED.is_dir():
        return [_read(INSTALLED, name) for name in names]
    kept = [cached(f"fashion-{name}", FINGERPRINTS[name]) for name in names]
    whole = [pair for pair in kept if pair is not None]
    if len(whole) == len(names):
        return whole
    if not fetch:
        raise DataError(
            f"fashion is not installed and not whole in {cache_dir()}; pass fetch=True to get it "
            f"through apt-get (31 MB), install the Debian package {PACKAGE}, or pass path= to a "
            "folder with its four IDX files"
        )
    with tempfile.TemporaryDirectory() as folder:
        remedy = f"run 'apt-get update' first, or pass path= to the IDX files of {PACKAGE}"
        run(["apt-get", "download", PACKAGE], Path(folder), remedy)
        package = next(Path(folder).glob(f"{PACKAGE}_*.deb"), None)
        if package is None:
            raise DataError(f"apt-get fetched no {PACKAGE}; {remedy}")
        run(["dpkg-deb", "-x", package.name, "out"], Path(folder), remedy)
        unpacked = Path(folder) / "out" / INSTALLED.relative_to("/")
        found = {name: _read(unpacked, name) for name in FILES}
    for name, (values, labels) in found.items():
        keep(f"fashion-{name}", values, labels)
    return [found[name] for name in names]


def _read(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    prefix, count = FILES[name]
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (count, 28, 28))
    classes = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (count,))
    values = torch.from_numpy(images.copy())[:, None]
    labels = torch.from_numpy(classes.astype(np.int64))
    if fingerprint(values, labels) != FINGERPRINTS[name]:
        raise DataError(
            f"the {name} files in {folder} are not those of Fashion-MNIST; take them from the "
            f"Debian package {PACKAGE}, or give your own data as arrays"
        )
    return values, labels
