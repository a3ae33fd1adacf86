"""The small classifier whose penultimate layer is the feature space of the metric card."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import InvalidArgument, Unsupported
from ..randomness import Streams

_CONV = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}
_NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
_POOL = {2: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool2d, 4: nn.AdaptiveAvgPool3d}


class FeatureClassifier(nn.Module):
    """Classifier of raw values (as stored: bytes 0–255 stay 0–255) with a feature layer.

    Images, signals and volumes: a stride-2 pyramid of 3-wide convolutions with batch
    normalisation and SiLU, pooled to at most 4 a side; vectors: two dense layers. Then a dense
    layer of `features` numbers with SiLU, which is the feature space, and the linear output.

    Arguments: `event` shape of one value, channels first; `classes` number of classes; `width`
    channels of the first level; `features` number of features; `mean`, `std` per channel (per
    number for a vector), by which raw values are standardised inside. Raises Unsupported for an
    event of another rank.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        event: Sequence[int],
        classes: int,
        width: int = 16,
        features: int = 64,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        event = tuple(int(side) for side in event)
        if not 1 <= len(event) <= 4:
            raise Unsupported(
                f"a classifier for values of shape {event}; shapes (D,), (C, L), (C, H, W) and "
                "(C, F, H, W) can be classified: reshape, or evaluate without labels"
            )
        self._config: dict[str, Any] = {
            "event": list(event),
            "classes": int(classes),
            "width": int(width),
            "features": int(features),
            "mean": [float(m) for m in mean],
            "std": [float(s) for s in std],
        }
        self.event, self.classes = event, int(classes)
        self.record: dict[str, object] = {}
        layout = (-1, *[1] * (len(event) - 1))
        self.register_buffer("mean", torch.tensor(self._config["mean"]).view(layout), False)
        self.register_buffer("std", torch.tensor(self._config["std"]).view(layout), False)
        self.body, self.to_features, self.head = layers(event, classes, width, features)
        for part in (self.body, self.to_features, self.head):
            part.to_empty(device="cpu")
        self.initialise(0)

    def initialise(self, seed: int) -> None:
        """Draw fresh weights: He-normal from the streams of `seed`, unit norms, zero biases."""
        with torch.no_grad():
            for index, module in enumerate(self.modules()):
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.reset_parameters()
                elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                    draw = Streams(seed, [index], "classifier weights").normal(*module.weight.shape)
                    fan_in = module.weight[0].numel()
                    module.weight.copy_(draw[0] * math.sqrt(2 / fan_in))
                    if module.bias is not None:
                        module.bias.zero_()

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dict(self._config)

    def hidden(self, values: Tensor) -> Float[Tensor, "batch features"]:
        """Return the penultimate layer's output for raw values."""
        x = (values.to(self.mean) - self.mean) / self.std
        return F.silu(self.to_features(self.body(x)))

    def forward(self, values: Tensor) -> Float[Tensor, "batch classes"]:
        """Return the logits of raw values."""
        return self.head(self.hidden(values))

    @property
    def name(self) -> str:
        """A short description for people."""
        features = self._config["features"]
        return f"penultimate layer ({features}) of a {self.classes}-class classifier"

    @property
    def fingerprint(self) -> str:
        """The sha256 of the configuration and of every tensor (name, dtype, shape, bytes)."""
        digest = hashlib.sha256(json.dumps(self._config, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _batches(self, values: Tensor | np.ndarray, batch: int = 500) -> list[Tensor]:
        values = torch.as_tensor(values)
        if tuple(values.shape[1:]) != self.event:
            raise InvalidArgument(
                f"values of shape {tuple(values.shape)} for a classifier of {self.event}; give "
                f"(n, {', '.join(map(str, self.event))}) in the data's raw units"
            )
        return list(values.split(batch)) if len(values) else []

    @torch.no_grad()
    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n features"]:
        """Return the features of raw values in float64; the network runs in evaluation mode."""
        self.eval()
        parts = [self.hidden(v).double().numpy() for v in self._batches(values)]
        return np.concatenate(parts) if parts else np.empty((0, self._config["features"]))

    @torch.no_grad()
    def predict(self, values: Tensor | np.ndarray) -> Int[np.ndarray, " n"]:
        """Return the most likely class of each raw value."""
        self.eval()
        parts = [self(v).argmax(1).numpy() for v in self._batches(values)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def accuracy(self, values: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> float:
        """Return the share of raw values whose predicted class is their label."""
        return float((self.predict(values) == np.asarray(labels)).mean())


def layers(
    event: tuple[int, ...], classes: int, width: int, features: int
) -> tuple[nn.Module, nn.Linear, nn.Linear]:
    """Return body, feature layer and output on the meta device.

    No memory is taken, and nothing is drawn from the global generator (see `initialise`).
    """
    with torch.device("meta"):
        body, outputs = (_dense if len(event) == 1 else _pyramid)(event, width)
        return body, nn.Linear(outputs, features), nn.Linear(features, classes)


def _dense(event: tuple[int, ...], width: int) -> tuple[nn.Module, int]:
    width *= 4
    layers: list[nn.Module] = []
    for inputs in (event[0], width):
        layers.extend([nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.SiLU()])
    return nn.Sequential(*layers), width


def _pyramid(event: tuple[int, ...], width: int) -> tuple[nn.Module, int]:
    rank, sides = len(event), event[1:]
    conv, norm = _CONV[rank], _NORM[rank]
    levels = max(1, min(5, round(math.log2(max(sides) / 4))))
    channels = [width] + [min(64, width * 2**level) for level in range(1, levels + 1)]
    layers: list[nn.Module] = []

    def block(inputs: int, outputs: int, stride: int) -> None:
        layers.extend(
            [
                conv(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                norm(outputs),
                nn.SiLU(),
            ]
        )

    block(event[0], channels[0], 1)
    for below, above in pairwise(channels):
        block(below, above, 2)
        block(above, above, 1)
    ends = tuple(min(4, math.ceil(side / 2**levels)) for side in sides)
    layers.extend([_POOL[rank](ends), nn.Flatten()])
    return nn.Sequential(*layers), channels[-1] * math.prod(ends)
