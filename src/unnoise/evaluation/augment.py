"""Small random affine changes of images, drawn from one stream per call."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..randomness import Streams


def random_affine(
    images: Float[Tensor, "batch channels height width"],
    noise: Streams,
    *,
    rotation: float = 12.0,
    scale: float = 0.1,
    shift: float = 0.07,
    shear: float = 0.1,
) -> Float[Tensor, "batch channels height width"]:
    """Return each image rotated, scaled, sheared and shifted by small random amounts of its own.

    Output pixel p reads the input at s·R(θ)·K·p + b with θ uniform in ±`rotation` degrees, log s
    in ±log(1 + `scale`), a horizontal shear in ±`shear` and b in ±`shift` of the image's side;
    bilinear, the border's value beyond the border. `noise` is a single stream (one row).
    """
    n = len(images)
    height, width = images.shape[-2:]
    u = noise.uniform(n, 5)[0] * 2 - 1
    angle = u[:, 0] * math.radians(rotation)
    size = torch.exp(u[:, 1] * math.log1p(scale))
    slant = u[:, 2] * shear
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    ratio = height / width  # grid_sample measures both sides in half-lengths
    theta = torch.stack(
        [
            torch.stack([cos, (cos * slant - sin) * ratio, 2 * shift * u[:, 3]], -1),
            torch.stack([sin / ratio, sin * slant + cos, 2 * shift * u[:, 4]], -1),
        ],
        1,
    )
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
