"""EfficientNet-Lite0: the feature space of colour images, from weights learned on ImageNet."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InvalidArgument, Unsupported

SIDE, FEATURES = 224, 1280
_BATCH = 4  # larger batches are slower on a processor: they do not fit its cache


class StageSpec(NamedTuple):
    """One stage: number of blocks, kernel side, first block's stride, expansion, channels out."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    StageSpec(1, 3, 1, 1, 16),
    StageSpec(2, 3, 2, 6, 24),
    StageSpec(2, 5, 2, 6, 40),
    StageSpec(3, 3, 2, 6, 80),
    StageSpec(3, 5, 1, 6, 112),
    StageSpec(4, 5, 2, 6, 192),
    StageSpec(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """The network: inverted bottlenecks of depthwise convolutions, ReLU6, no squeeze.

    Convolutions of stride 2 pad their even input on the right and below by one more than on the
    left and above, as in the network that the weights come from. Source: Tan and Le 2019, table 1,
    in the Lite variant: no squeeze-and-excitation, ReLU6 for swish, stem and head not scaled.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = _conv(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        inputs = 32
        for stage in STAGES:
            for k in range(stage.blocks):
                stride = stage.stride if k == 0 else 1
                blocks.append(_Block(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.top = _conv(inputs, FEATURES, 1, 1)
        self.classify = nn.Linear(FEATURES, classes)

    @torch.no_grad()
    def folded(self) -> EfficientNetLite0:
        """Fold each normalisation into its convolution, in place, and return the network.

        For inference only.
        """
        for layer in list(self.modules()):
            if isinstance(layer, nn.Sequential) and isinstance(layer[0], _Padded):
                conv, norm = layer[0], layer[1]
                if isinstance(norm, nn.BatchNorm2d):
                    assert norm.running_mean is not None
                    assert norm.running_var is not None
                    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                    conv.weight.mul_(gain[:, None, None, None])
                    conv.bias = nn.Parameter(norm.bias - norm.running_mean * gain)
                    layer[1] = nn.Identity()
        self.eval().requires_grad_(False)
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def hidden(self, x: Float[Tensor, "batch 3 224 224"]) -> Float[Tensor, "batch 1280"]:
        """Return the last convolution's output, averaged over places."""
        return self.top(self.blocks(self.stem(x))).mean((2, 3))

    def forward(self, x: Float[Tensor, "batch 3 224 224"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of pixels given as (raw − 127)/128."""
        return self.classify(self.hidden(x))


class EfficientNetFeatures:
    """The 1,280 features of EfficientNet-Lite0 as a `FeatureNet` for images (3, H, W) or (1, H, W).

    Raw values are mapped from `value_range` to 0…255, resized to 224 × 224 (bicubic, antialiased,
    half-pixel centres, cut to 0…255; other proportions are stretched), then (x − 127)/128. One
    channel (grey) is repeated three times. `weights`: their hash, which with the rules above makes
    the fingerprint. Raises Unsupported for other channels or other data.
    """

    def __init__(
        self,
        network: EfficientNetLite0,
        weights: str,
        value_range: tuple[float, float] = (0.0, 255.0),
    ) -> None:
        self.network = network.folded()
        self.low, self.high = value_range
        self.record = {
            "weights": "ImageNet",
            "resized_to": SIDE,
            "resampler": "bicubic, antialiased",
            "value_range": f"{self.low:g} to {self.high:g}",
        }
        identity = json.dumps([weights, self.record], sort_keys=True).encode()
        self.fingerprint = hashlib.sha256(identity).hexdigest()
        if not self.low < self.high:
            raise InvalidArgument(f"value_range is {value_range}; give the lower end first")

    @property
    def name(self) -> str:
        """A short description for people."""
        return f"mean of the last layer ({FEATURES}) of EfficientNet-Lite0"

    def pixels(self, values: Tensor | np.ndarray) -> Float[Tensor, "n 3 224 224"]:
        """Return the network's input for raw values."""
        x = torch.as_tensor(values)
        check_event(tuple(x.shape[1:]))
        x = (x.float() - self.low) * (255 / (self.high - self.low))
        x = x.expand(-1, 3, -1, -1)
        if x.shape[-2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        x = (x.clamp(0, 255) - 127) / 128
        return x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n 1280"]:
        """Return the features of raw values in float64."""
        parts = [self.network.hidden(self.pixels(v)) for v in torch.as_tensor(values).split(_BATCH)]
        return torch.cat(parts).double().numpy()


def check_event(event: tuple[int, ...]) -> None:
    """Raise Unsupported unless one value is an image of one or three channels."""
    if len(event) != 3 or event[0] not in (1, 3):
        raise Unsupported(
            f"EfficientNet features of values of shape {event}; they are for images (3, H, W) and "
            "grey images (1, H, W): use features 'pca', or 'classifier' where there are labels"
        )


class _Padded(nn.Conv2d):
    """A convolution with ⌈side/stride⌉ outputs; odd padding is one more below and on the right."""

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            whole = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            sides.append((whole // 2, whole - whole // 2))
        (up, down), (left, right) = sides
        if left != right or up != down:
            return super().forward(F.pad(x, (left, right, up, down)))
        return F.conv2d(x, self.weight, self.bias, self.stride, (up, left), 1, self.groups)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _Padded(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU6(),
    )


class _Block(nn.Module):
    """An inverted bottleneck: widen, convolve each channel, narrow.

    The input is added to the result if its shape is the same.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[tuple[str, nn.Module]] = []
        if expansion > 1:
            layers.append(("widen", _conv(inputs, wide, 1, 1)))
        layers.append(("convolve", _conv(wide, wide, kernel, stride, groups=wide)))
        layers.append(("narrow", _conv(wide, outputs, 1, 1)[:2]))
        self.layers = nn.Sequential(OrderedDict(layers))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)
