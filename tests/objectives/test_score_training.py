"""Score matching of real models: networks and energies are trained by its gradient, and learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Condition, Denoiser, Energy, Field, Prediction
from unnoise.networks import Mlp, UNet
from unnoise.objectives import (
    Batch,
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    Ladder,
    OneLevel,
    SlicedScoreMatching,
    denoising_score_matching,
    ncsn,
    weight,
)
from unnoise.paths import EDM, VE, Coupled, Flow, VPLinear
from unnoise.randomness import Streams


class Quartic(nn.Module):
    """E = Σ a·x⁴/4 + t·x²/2 + shift·x with one number learned."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x, t, condition=None):
        shift = 0.0 if condition is None else condition.values["shift"][:, None]
        t = t[:, None]
        return (self.a * x**4 / 4 + t * x**2 / 2 + shift * x).sum(1)


class Written(Field):
    """The score of that energy, written down."""

    path = EDM()

    def __call__(self, x_t, t, condition=None):
        return Prediction.of("score", -(0.3 * x_t**3 + t[:, None] * x_t), x_t, t, self.path)


def test_an_energy_is_a_field():
    field = Energy(Quartic(), VE())
    x, t = Streams(0, range(4)).normal(3).double(), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    shift = Condition.of({"shift": torch.ones(4, dtype=F64)}, 4)
    for keep in (True, False):
        with torch.set_grad_enabled(keep):
            said = field(x, t, shift)
            assert said.score.requires_grad == keep
            torch.testing.assert_close(said.score, -(0.3 * x**3 + t[:, None] * x + 1))
            one = field(x, torch.tensor(0.5, dtype=F64))
            torch.testing.assert_close(one.score, -(0.3 * x**3 + 0.5 * x))
    assert [p.shape for p in field.parameters()] == [()]
    with pytest.raises(InvalidArgument, match=r"energy of shape \(4, 3\) for 4 samples"):
        Energy(lambda x, t, c: x, VE())(x, t)
    with pytest.raises(Unsupported, match="says nothing of x0"):
        Energy(Quartic(), Flow())
    with pytest.raises(Unsupported, match="not ∇ log p"):
        Energy(Quartic(), Coupled(VE()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImplicitScoreMatching(weight("score"), OneLevel(sigma=0.0)),
        lambda: SlicedScoreMatching(weight("score"), Ladder()),
        lambda: FiniteDifferenceScoreMatching(weight("score"), Ladder()),
    ],
)
def test_an_energy_is_trained_by_the_gradient_of_its_objective(make):
    """The gradient in the energy's parameter is the slope of the objective, and the objective that
    of the same score written down."""
    field, objective = Energy(Quartic(), EDM()), make()
    x0 = Streams(0, range(5)).normal(3).double()

    def value():
        return objective(field, Batch(x0), Streams(2, range(5)))

    loss = value()
    same = objective(Written(), Batch(x0), Streams(2, range(5)))
    torch.testing.assert_close(loss.per_sample, same.per_sample, rtol=1e-9, atol=1e-9)
    assert not loss.per_sample.requires_grad
    loss.value.backward()
    a, h = field.energy.a, 1e-5
    with torch.no_grad():
        a += h
        above = float(value().value)
        a -= 2 * h
        below = float(value().value)
    assert float(a.grad) == pytest.approx((above - below) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        Mlp([1, 4, 4], width=16, depth=1, classes=3),
        UNet(1, widths=(8, 16), blocks=1, attention=[1], head=8, classes=3),
    ],
    ids=["mlp", "unet"],
)
def test_real_networks_are_trained_by_the_slope_of_the_objective(network):
    """Against central differences in parameters of every layer, attention and layer norms too:
    torch's forward mode fails here, where layer_norm is."""
    for parameter in network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    model = Denoiser(network.double(), VPLinear(), "v")
    batch = Batch(
        Streams(0, range(3)).normal(1, 4, 4).double(),
        {"class": torch.tensor([0, 1, 2])},
    )
    for objective in (
        ImplicitScoreMatching(times=Ladder(sigma_min=0.1), condition_dropout=0.5),
        SlicedScoreMatching(times=Ladder(sigma_min=0.1), condition_dropout=0.5),
    ):

        def value(objective=objective):
            return objective(model, batch, Streams(1, range(3))).value

        network.zero_grad()
        value().backward()
        checked = 0
        for name, parameter in network.named_parameters():
            if parameter.grad is None or "embed" in name:  # the embedding is float32
                continue
            place, h = int(parameter.grad.abs().argmax()), 1e-5
            flat = parameter.data.view(-1)
            sides = []
            with torch.no_grad():
                for side in (h, -2 * h):
                    flat[place] += side
                    sides.append(float(value()))
                flat[place] += h
            slope = float(parameter.grad.flatten()[place])
            assert slope == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-4, abs=1e-6), name
            checked += 1
        assert checked >= 6


def train(objective, sigma: float, steps: int) -> float:
    """The error of a small network's score after a short training, as a share of the score's rms.

    Data: the mixture of `tests.exact.mixture_2d`; the best Gaussian score is 0.73 off.
    """
    path, n = VE(0.3, 3.0), 128
    data = mixture_2d(EDM()).sample(Streams(5, range(128 * 40)), 0.0).float()
    model = Denoiser(Mlp(2, width=64, depth=2), path, "eps", noise_input="log_snr")
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    noise = [Streams(k, range(n)) for k in range(40)]
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - k / steps)
        rows = data[n * (k % 40) : n * (k % 40 + 1)]
        loss = objective(model, Batch(rows), noise[k % 40])
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    field, t = mixture_2d(path), path.time(torch.tensor(-math.log(sigma), dtype=F64))
    x = field.sample(Streams(99, range(1000)), float(t))
    with torch.no_grad():
        got = model(x.float(), t).score.double()
    wanted = field(x, t).score
    return float(((got - wanted).square().sum() / wanted.square().sum()).sqrt())


TRAINED = {
    "implicit": ImplicitScoreMatching(times=OneLevel(sigma=0.3)),
    "sliced": SlicedScoreMatching(times=OneLevel(sigma=0.3)),
    "finite difference": FiniteDifferenceScoreMatching(times=OneLevel(sigma=0.3)),
    "denoising": denoising_score_matching(0.3),
    "ncsn": ncsn(3, 0.3, 1.2),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_small_network_learns_the_score_of_a_mixture(name):
    steps = 450 if name == "ncsn" else 300
    assert train(TRAINED[name], 0.3, steps) < 0.3
    # and it is nothing that a network of one Gaussian could say
    path = VE(0.3, 3.0)
    field, t = mixture_2d(path), torch.tensor(0.0, dtype=F64)
    x = field.sample(Streams(99, range(1000)), 0.0)
    centred, wanted = x - x.mean(0), field(x, t).score
    best = -torch.linalg.solve(centred.T.cov(), centred.T).T
    assert float(((best - wanted).square().sum() / wanted.square().sum()).sqrt()) > 0.6
