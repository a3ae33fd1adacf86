"""The base class: what every objective declares is what its loss does."""

import pytest
import torch
from torch.autograd.function import once_differentiable

from unnoise import Streams
from unnoise.errors import DataError
from unnoise.fields import LENSES, Field, Prediction, determinant, residual
from unnoise.objectives import (
    Batch,
    Denoising,
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    LossHistory,
    MaximumLikelihood,
    Objective,
    SlicedScoreMatching,
    Variational,
    baseline_error,
)
from unnoise.paths import Coupled, Flow, VPLinear
from unnoise.transport import InterpolantMatching

F64 = torch.float64
ALL = [
    Denoising(),
    FiniteDifferenceScoreMatching(),
    ImplicitScoreMatching(),
    SlicedScoreMatching(),
    MaximumLikelihood(steps=1),
    Variational(variance="posterior", steps=10),
]


class Once(torch.autograd.Function):
    """tanh whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * (1 - ctx.saved_tensors[0] ** 2)


class Curved(Field):
    def __init__(self, path, lens, function):
        self.path, self.lens, self.function = path, lens, function
        self.gain = torch.tensor(0.3, dtype=F64, requires_grad=True)

    def __call__(self, x_t, t, condition=None):
        value = self.function(self.gain * x_t)
        return Prediction.of(self.lens, value, x_t, t, self.path)


def gradient_of(objective, function):
    flow = isinstance(objective, MaximumLikelihood)
    path, lens = (Coupled(Flow()), "velocity") if flow else (VPLinear(), "eps")
    model, noise = Curved(path, lens, function), Streams(0, range(16))
    objective(model, Batch(noise.purpose("data").normal(2).double()), noise).value.backward()
    return model.gain.grad


@pytest.mark.parametrize("objective", ALL, ids=lambda o: type(o).__name__)
def test_derivatives_are_as_many_as_the_loss_takes(objective):
    wanted = gradient_of(objective, torch.tanh)
    try:
        right = torch.allclose(gradient_of(objective, Once.apply), wanted, rtol=1e-12, atol=0)
    except RuntimeError:  # of once_differentiable; under vmap the gradient is cut off instead
        right = False
    assert right == (objective.derivatives == 1)


def test_all_objectives_derive_from_one():
    assert all(isinstance(o, Objective) and o.needs == () for o in [*ALL, InterpolantMatching()])


def test_an_objective_without_state_refuses_one():
    for objective in ALL:
        assert objective.state() == {}
        objective.load_state({})
        with pytest.raises(DataError, match=r"no state, and the saved one holds \['losses'\]"):
            objective.load_state({"losses": torch.zeros(1)})
    learning = Variational(variance="posterior", steps=10, times=LossHistory())
    assert learning.state().keys() == {"losses", "counts"}


@pytest.mark.parametrize("lens", LENSES)
def test_the_residual_and_the_baseline_are_their_formulas(lens):
    path, t = VPLinear(), torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    x0, eps, value = (Streams(s, range(3)).normal(4).double() for s in range(3))
    row = {
        "x0": x0,
        "eps": eps,
        "score": -eps / path.sigma(t)[:, None],
        "v": path.alpha(t)[:, None] * eps - path.sigma(t)[:, None] * x0,
        "velocity": path.alpha_rate(t)[:, None] * x0 + path.sigma_rate(t)[:, None] * eps,
    }[lens]
    got = residual(path, lens, value, x0, eps, t)
    torch.testing.assert_close(got, value - row, rtol=1e-14, atol=1e-14)
    half = residual(path, lens, value.bfloat16(), x0.bfloat16(), eps.bfloat16(), t)
    assert half.dtype == torch.float32
    # the residual variance of regressing a·x0 + b·ε on x_t = α·x0 + σ·ε, x0 ~ N(0, s²)
    s, alpha, sigma = 0.7, path.alpha(t), path.sigma(t)
    a, b = {
        "x0": (torch.ones_like(t), 0 * t),
        "eps": (0 * t, torch.ones_like(t)),
        "score": (0 * t, -1 / sigma),
        "v": (-sigma, alpha),
        "velocity": (path.alpha_rate(t), path.sigma_rate(t)),
    }[lens]
    total, shared = a**2 * s**2 + b**2, a * alpha * s**2 + b * sigma
    wanted = total - shared**2 / (alpha**2 * s**2 + sigma**2)
    torch.testing.assert_close(baseline_error(path, lens, s, t), wanted, rtol=1e-12, atol=1e-12)
    assert bool((determinant(path, lens, t) != 0).all())
