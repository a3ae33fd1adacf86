"""Fields known in closed form, and every path, shared by all tests; everything in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unnoise.fields import Field, FiniteData, Gaussian, Mixture
from unnoise.paths import (
    EDM,
    VE,
    Chain,
    Cosine,
    Flow,
    GaussianPath,
    SubVP,
    Trigonometric,
    VPLinear,
)

F64 = torch.float64


class Case(NamedTuple):
    """A path, and the latest time at which every lens of it determines every other.

    `start` is 1 unless α(1) = 0, where eps and score say nothing of x0.
    """

    name: str
    path: GaussianPath
    start: float


def _case(name: str, path: GaussianPath) -> Case:
    return Case(name, path, 1.0 if float(path.alpha(1.0)) > 0 else 0.999)


PATHS: list[Case] = [
    _case("vp_linear", VPLinear()),
    _case("sub_vp", SubVP()),
    _case("cosine", Cosine()),
    _case("cosine_no_offset", Cosine(0.0)),
    _case("ve", VE()),
    _case("edm", EDM()),
    _case("flow", Flow()),
    _case("trigonometric", Trigonometric()),
    _case("vp_linear_shifted", VPLinear().shifted(4.0)),
    _case("sub_vp_shifted", SubVP().shifted(0.5)),
    _case("cosine_shifted", Cosine().shifted(0.25)),
    _case("flow_shifted", Flow().shifted(1 / 9)),
    _case("trigonometric_shifted", Trigonometric().shifted(9.0)),
    _case("flow_restricted", Flow().restricted(0.0, 0.9)),
    _case("cosine_restricted", Cosine().restricted(0.01, 0.99)),
    _case("chain_linear", Chain.linear().as_path()),
    _case("chain_cosine", Chain.cosine().as_path()),
    _case("chain_scaled_linear", Chain.scaled_linear().as_path()),
    _case("chain_sigmoid", Chain.sigmoid().as_path()),
    _case("chain_zero_terminal", Chain.linear().with_zero_terminal_snr().as_path()),
    _case("chain_short", Chain.linear(10, 1e-2, 0.4).as_path()),
]
BY_NAME = {case.name: case for case in PATHS}
IDS = [case.name for case in PATHS]


def inner_times(path: GaussianPath, least: float = 1e-4, count: int = 41) -> Tensor:
    """`count` increasing times at which α and σ are at least `least`, close to both ends."""
    fine = torch.cat(
        [torch.logspace(-9, -2, 200, dtype=F64), torch.linspace(0.01, 0.99, 197, dtype=F64)]
    )
    fine = torch.cat([torch.zeros(1, dtype=F64), fine, 1 - fine.flip(0), torch.ones(1, dtype=F64)])
    fine = fine.sort().values.unique()
    fine = fine[(path.alpha(fine) >= least) & (path.sigma(fine) >= least)]
    return fine[torch.linspace(0, len(fine) - 1, count, dtype=F64).round().long()]


def mixture_1d(path: GaussianPath) -> Mixture:
    """0.4·N(−1, 0.3²) + 0.6·N(1.5, 0.2²) on events of shape (1,)."""
    return Mixture(
        torch.tensor([0.4, 0.6], dtype=F64),
        torch.tensor([[-1.0], [1.5]], dtype=F64),
        torch.tensor([[0.09], [0.04]], dtype=F64),
        path,
    )


MEAN_3D = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
COVARIANCE_3D = torch.tensor([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]], dtype=F64)


def gaussian_3d(path: GaussianPath) -> Gaussian:
    """A correlated Gaussian on events of shape (3,)."""
    return Gaussian(MEAN_3D, COVARIANCE_3D, path)


def gaussian_elementwise(
    path: GaussianPath, event: tuple[int, ...] = (3,), dtype: torch.dtype = F64
) -> Gaussian:
    """An uncorrelated Gaussian with another mean and deviation at every place of the event."""
    place = torch.arange(torch.Size(event).numel(), dtype=dtype).reshape(event)
    return Gaussian(0.7 * (place + 1).sin(), 0.2 + (0.9 * place).cos() ** 2, path)


WEIGHTS_2D = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
MEANS_2D = torch.tensor([[-1.0, 0.5], [1.2, 1.0], [0.3, -1.4]], dtype=F64)
COVARIANCES_2D = torch.tensor(
    [[[0.2, 0.1], [0.1, 0.3]], [[0.05, 0.0], [0.0, 0.1]], [[0.3, -0.2], [-0.2, 0.25]]], dtype=F64
)


def mixture_2d(path: GaussianPath) -> Mixture:
    """Three correlated Gaussians on events of shape (2,)."""
    return Mixture(WEIGHTS_2D, MEANS_2D, COVARIANCES_2D, path)


POINTS = torch.tensor([[-1.5, 0.2], [-0.4, 1.1], [0.3, -0.9], [0.9, 0.8], [1.6, -0.1]], dtype=F64)


def finite_data(path: GaussianPath) -> FiniteData:
    """Five points of shape (2,)."""
    return FiniteData(POINTS, path)


FIELDS = {
    "mixture_1d": mixture_1d,
    "gaussian_3d": gaussian_3d,
    "gaussian_elementwise": gaussian_elementwise,
    "mixture_2d": mixture_2d,
    "finite_data": finite_data,
}
EVENTS = {
    "mixture_1d": (1,),
    "gaussian_3d": (3,),
    "gaussian_elementwise": (3,),
    "mixture_2d": (2,),
    "finite_data": (2,),
}


class Seen(Field):
    """A field whose predictions are said in another lens: a network that predicts that lens."""

    def __init__(self, field: Field, lens: str) -> None:
        self.field, self.path, self.lens = field, field.path, lens

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t, condition)
        return said.with_value(self.lens, said.as_lens(self.lens))
