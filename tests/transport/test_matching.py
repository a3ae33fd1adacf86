"""Interpolants learned: the smallest loss in closed form, and a translation trained in a second."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.exact import F64
from tests.small import Drawn, Small
from unnoise.errors import InvalidArgument
from unnoise.fields import Condition
from unnoise.objectives import Batch
from unnoise.paths import Flow, Optimal, Trigonometric
from unnoise.randomness import Streams
from unnoise.transport import (
    GaussianPairs,
    Interpolant,
    InterpolantMatching,
    Translator,
    diffuse,
    translate,
)

from .pairs import sliced_w2

T = torch.linspace(0.05, 0.95, 7, dtype=F64)
MEANS = torch.tensor([[[0.4], [-0.7]]], dtype=F64)
A, B, C = 0.9, 0.5, 0.8  # x0 = 0.4 + A·u, x1 = −0.7 + B·u + C·w
JOINT = torch.tensor([[[A * A, A * B], [A * B, B * B + C * C]]], dtype=F64)


class Prescribed:
    """z and times that are given."""

    def __init__(self, z, t):
        self.z, self.t = z, t

    def purpose(self, name):
        return self

    def normal(self, *event):
        return self.z

    def uniform(self):
        return 1 - self.t


@pytest.mark.parametrize(
    "interpolant",
    [
        Interpolant(Flow(), "none"),
        Interpolant(Flow(), "root", 1.4),
        Interpolant(Trigonometric(), "sine", 0.7),
    ],
    ids=str,
)
def test_the_exact_field_has_the_smallest_loss_there_is(interpolant):
    up = torch.tensor([1.0, -1.0], dtype=F64)
    u, w, z, t = (c[:, None] for c in torch.cartesian_prod(up, up, up, T).unbind(1))
    batch = Batch(0.4 + A * u, source=-0.7 + B * u + C * w)
    alpha, beta, gamma, da, db = (
        getattr(interpolant, name)(T)
        for name in ("alpha", "beta", "gamma", "alpha_rate", "beta_rate")
    )
    seen = torch.stack([alpha * A + beta * B, beta * C, gamma])
    drift = torch.stack([da * A + db * B, db * C, torch.zeros_like(T)])
    only = torch.stack([torch.zeros_like(T), torch.zeros_like(T), torch.ones_like(T)])
    total = (seen**2).sum(0)
    wanted = (drift**2).sum(0) - (drift * seen).sum(0) ** 2 / total
    if interpolant.latent != "none":
        wanted = wanted + 1 - (only * seen).sum(0) ** 2 / total

    def loss(joint):
        field = GaussianPairs(torch.ones(1, dtype=F64), MEANS, joint, interpolant)
        found = InterpolantMatching()(field, batch, Prescribed(z, t[:, 0]))
        torch.testing.assert_close(found.t, t[:, 0], rtol=1e-12, atol=1e-15)
        return found.per_sample.reshape(8, -1).mean(0)

    torch.testing.assert_close(loss(JOINT), wanted, rtol=1e-9, atol=1e-14)
    for wrong in (
        torch.diag_embed(JOINT.diagonal(dim1=1, dim2=2)),
        JOINT + torch.tensor([[0.1, 0.0], [0.0, 0.0]]),
    ):
        worse = loss(wrong)
        assert float((worse - wanted).min()) > -1e-12
        assert bool((worse > wanted * (1 + 1e-5)).any())


def test_a_network_learns_to_translate_one_data_set_into_another():
    first, second = torch.tensor([[1.5, 0.5]]), torch.tensor([[-1.0, 1.0]])

    def batch(noise):
        side = (noise.uniform(1) < 0.5) * 2.0 - 1  # two heaps above one another
        x0 = first + torch.cat([0 * side, side], 1) + 0.25 * noise.normal(2)
        return Batch(x0, source=second + 0.5 * noise.normal(2))

    interpolant = Interpolant(Flow(), "quadratic", 1.0)
    networks = [Small(width=48, seed=k) for k in (0, 1)]
    model = Translator(interpolant, *networks, stds=(1.5, 1.0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    objective = InterpolantMatching()
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 320)
    noise = Drawn(0, 256)
    for _ in range(320):
        loss = objective(model, batch(noise), noise)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        rate.step()
    test = batch(Streams(0, range(1000)))
    grid = torch.linspace(1, 0, 21, dtype=F64)
    flow = translate(model, test.source, grid, "heun")
    noisy = diffuse(model, test.source, torch.linspace(1, 0, 51), Streams(3, range(1000)), 1.0)
    for x in (flow, noisy):
        assert sliced_w2(x, test.x0) < 0.2
        assert 0.44 < float((x[:, 1] > 0.5).double().mean()) < 0.56
    assert sliced_w2(test.source, test.x0) > 1.5
    # its encoding is the source again
    back = translate(model, flow, grid.flip(0), "heun")
    assert float((back - test.source).square().mean().sqrt()) < 0.05


class Seen(nn.Module):
    """A network that remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, x, level, condition):
        self.shown = x, level, condition
        return self.scale * x


def test_networks_are_shown_unit_variance_and_conditions():
    interpolant = Interpolant(Flow(), "sine", 2.0)
    drift, latent = Seen(), Seen()
    model = Translator(interpolant, drift, latent, stds=(0.5, 3.0))
    t = torch.tensor([0.25, 0.75], dtype=F64)
    said = model(torch.ones(2, 3, dtype=F64), t, {"class": 4})
    size = ((1 - t) ** 2 * 0.25 + t**2 * 9 + (2 * (torch.pi * t).sin() ** 2) ** 2).sqrt()
    for network in (drift, latent):
        x, level, condition = network.shown
        torch.testing.assert_close(x, (1 / size)[:, None].expand(2, 3))
        assert level.tolist() == [0.25, 0.75]
        assert condition.values["class"].tolist() == [4, 4]
    assert said.nfe == 2
    # conditions are dropped, and transport stays inside them
    labels = Condition({"class": torch.arange(8) % 2}, torch.ones(8, dtype=torch.bool))
    x = Streams(0, range(8)).normal(3).double()
    loss = InterpolantMatching(coupling=Optimal(), condition_dropout=1.0)
    loss(model, Batch(x, labels, x.flip(0)), Streams(0, range(8)))
    assert not bool(drift.shown[2].keep["class"].any())


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidArgument, match="no network for z"):
        Translator(Interpolant(), nn.Identity())
    with pytest.raises(InvalidArgument, match="a network for z"):
        Translator(Interpolant(latent="none"), nn.Identity(), nn.Identity())
    with pytest.raises(InvalidArgument, match="stds"):
        Translator(Interpolant(latent="none"), nn.Identity(), stds=(1.0, 0.0))
    with pytest.raises(InvalidArgument, match="drop"):
        InterpolantMatching(condition_dropout=1.5)
    model = Translator(Interpolant(latent="none"), Seen())
    x = torch.zeros(2, 3, dtype=F64)
    with pytest.raises(InvalidArgument, match=r"give Batch\(x0, source=x1\)"):
        InterpolantMatching()(model, Batch(x), Streams(0, range(2)))
    assert model(x, torch.tensor(0.5)).nfe == 1
