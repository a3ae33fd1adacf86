"""x0 kept in the range of the data: numbers by hand, and what follows in the other lenses."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, Seen, gaussian_elementwise
from unnoise.errors import InvalidArgument
from unnoise.fields import LENSES
from unnoise.guidance import Clip, Threshold, classifier_free, shaped
from unnoise.paths import EDM, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import DDIM, ClippedDDIM

X0 = torch.tensor([[[0.5, -3.0], [2.0, 1.0]], [[0.1, -0.2], [0.3, 0.9]]], dtype=F64)


def test_clipping():
    assert torch.equal(Clip()(X0)[0], torch.tensor([[0.5, -1.0], [1.0, 1.0]], dtype=F64))
    assert torch.equal(Clip(2.5)(X0)[0], torch.tensor([[0.5, -2.5], [2.0, 1.0]], dtype=F64))


def test_dynamic_thresholds():
    """Magnitudes 0.5, 1, 2, 3: their quantile 2/3 is 2, and 1/2 is 1.5."""
    made = Threshold(2 / 3)(X0)
    assert made[0] == pytest.approx(torch.tensor([[0.25, -1.0], [1.0, 0.5]], dtype=F64))
    assert torch.equal(made[1], X0[1])  # all below 1: as it is
    half = Threshold(0.5)(X0)[0]
    assert half == pytest.approx(torch.tensor([[1 / 3, -1.0], [1.0, 2 / 3]], dtype=F64))
    capped = Threshold(2 / 3, most=1.25)(X0)[0]
    assert capped == pytest.approx(torch.tensor([[0.4, -1.0], [1.0, 0.8]], dtype=F64))
    assert torch.equal(Threshold(0.9, most=1.0)(X0), Clip(1.0)(X0))
    assert Threshold(0.5)(X0.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("path", [VPLinear(), Flow(), EDM()], ids=str)
@pytest.mark.parametrize("lens", ["x0", "eps", "v"])
def test_every_lens_follows_from_the_new_x0(path, lens):
    field = Seen(gaussian_elementwise(path), lens)
    x, t = Streams(1, range(5)).normal(3).double(), torch.tensor(0.6, dtype=F64)
    before, after = field(x, t), shaped(field, Clip(0.3))(x, t)
    assert float((before.x0.abs() > 0.3).double().mean()) > 0.2
    assert torch.equal(after.x0, before.x0.clamp(-0.3, 0.3))
    alpha, sigma = float(path.alpha(0.6)), float(path.sigma(0.6))
    torch.testing.assert_close(alpha * after.x0 + sigma * after.eps, x, rtol=1e-12, atol=1e-12)
    assert after.nfe == before.nfe
    inside = shaped(field, Clip(1e6))(x, t)
    for name in LENSES:
        torch.testing.assert_close(
            inside.as_lens(name), before.as_lens(name), rtol=1e-10, atol=1e-10
        )


def test_it_nests_with_guidance():
    class Pair(type(gaussian_elementwise(Flow()))):
        def __call__(self, x, t, condition=None):
            said = super().__call__(x, t)
            return said if condition is None else said.with_value("x0", said.x0 + condition_of(x))

    def condition_of(x):
        return torch.linspace(0, 0.4, len(x), dtype=F64)[:, None]

    field = gaussian_elementwise(Flow())
    field.__class__ = Pair
    x, t = Streams(1, range(6)).normal(3).double(), torch.tensor(0.5, dtype=F64)
    labels = {"class": [0] * 6}
    guided = classifier_free(field, 3.0)
    outside = shaped(guided, Clip(0.5)).conditioned(labels)(x, t)
    assert outside.nfe == guided.conditioned(labels)(x, t).nfe
    torch.testing.assert_close(
        outside.x0, guided.conditioned(labels)(x, t).x0.clamp(-0.5, 0.5), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_that_keeps_the_networks_eps(eta):
    path, noise = VPLinear(), Streams(2, range(4))
    field, x = gaussian_elementwise(path), Streams(1, range(4)).normal(3).double()
    free, wide = DDIM(eta), ClippedDDIM(eta, rule=Clip(1e6))
    grid = grids.uniform(6, 1.0, 0.01)
    torch.testing.assert_close(
        wide.solve(field, x, grid, noise.rewound()).x, free.solve(field, x, grid, noise).x,
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip
    t, s = 0.7, 0.4
    said = field(x, torch.tensor(t, dtype=F64))
    mean, std = ClippedDDIM(eta, rule=Clip(0.3)).kernel(said, t, s)
    (a0, a1), (s0, s1) = ([float(f(at)) for at in (t, s)] for f in (path.alpha, path.sigma))
    added = eta * s1 / s0 * math.sqrt(s0**2 - (a0 / a1) ** 2 * s1**2)
    wanted = a1 * said.x0.clamp(-0.3, 0.3) + math.sqrt(s1**2 - added**2) * said.eps
    torch.testing.assert_close(mean, wanted, rtol=1e-11, atol=1e-11)
    assert float(std) == pytest.approx(added, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Clip(0.0), "limit is 0.0"),
        (lambda: Clip(math.nan), "limit is nan"),
        (lambda: Threshold(1.5), "share is 1.5"),
        (lambda: Threshold(0.9, 0.5), "most is 0.5"),
        (lambda: Threshold(0.9, math.nan), "most is nan"),
    ],
)
def test_impossible_limits_are_refused(make, says):
    with pytest.raises(InvalidArgument, match=says):
        make()
