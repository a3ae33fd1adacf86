"""Two data sets in closed form, shared by the tests of transport."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.exact import F64, MEANS_2D, WEIGHTS_2D
from unnoise.transport import GaussianPairs, Interpolant

LINE0 = (
    torch.tensor([0.4, 0.6], dtype=F64),
    torch.tensor([[-1.0], [1.5]], dtype=F64),
    torch.tensor([[[0.09]], [[0.04]]], dtype=F64),
)
LINE1 = (
    torch.tensor([0.7, 0.3], dtype=F64),
    torch.tensor([[0.5], [3.0]], dtype=F64),
    torch.tensor([[[0.25]], [[0.5]]], dtype=F64),
)
MEAN0, MEAN1 = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([-2.0, 0.3], dtype=F64)
COV0 = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=F64)
COV1 = torch.tensor([[0.3, -0.2], [-0.2, 0.9]], dtype=F64)
# x0 and x1 together, correlated
JOINT = torch.cat(
    [
        torch.cat([COV0, torch.tensor([[0.2, 0.1], [-0.1, 0.3]], dtype=F64)], 1),
        torch.cat([torch.tensor([[0.2, -0.1], [0.1, 0.3]], dtype=F64), COV1], 1),
    ]
)


def line(interpolant: Interpolant) -> GaussianPairs:
    """Two mixtures on a line, drawn apart."""
    return GaussianPairs.independent(LINE0, LINE1, interpolant)


def plane(interpolant: Interpolant) -> GaussianPairs:
    """Two correlated Gaussians in the plane, coupled with each other."""
    means = torch.stack([MEAN0, MEAN1])[None]
    return GaussianPairs(torch.ones(1, dtype=F64), means, JOINT[None], interpolant)


def mixed(interpolant: Interpolant) -> GaussianPairs:
    """Three pairs in the plane, each coupled in its own way."""
    means = torch.stack([MEANS_2D, -MEANS_2D.flip(0) + 0.3], 1)
    scales = torch.tensor([0.2, 0.35, 0.15], dtype=F64)[:, None, None]
    return GaussianPairs(WEIGHTS_2D, means, scales * JOINT, interpolant)


def below(component: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """The distribution function of a mixture on a line."""
    weights, means, variances = (c.flatten() for c in component)
    return (weights * torch.special.ndtr((x - means) / variances.sqrt())).sum(-1)


def sliced_w2(x: Tensor, y: Tensor) -> float:
    """Over 16 directions, for samples of equal number."""
    angle = torch.arange(16, dtype=y.dtype) * torch.pi / 16
    directions = torch.stack([angle.cos(), angle.sin()])
    gaps = (x.to(y) @ directions).sort(0).values - (y @ directions).sort(0).values
    return float(gaps.square().mean().sqrt())
