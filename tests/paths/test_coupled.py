"""Coupled ends: the flow holds for any coupling, the score and the SDE are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.exact import F64, IDS, PATHS, Seen, gaussian_elementwise, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import LENSES, Along, Denoiser, Field, Prediction, conversion, mix
from unnoise.paths import Coupled, Flow, Restricted, Shifted, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import PRESETS, sample
from unnoise.support import why_unsupported

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
T = torch.linspace(0.05, 0.95, 7, dtype=F64)
MEAN, STD = torch.tensor([0.5, -2.0], dtype=F64), torch.tensor([0.3, 1.7], dtype=F64)


class Monge(Field):
    """x0 = MEAN + STD·x1: the optimal coupling of a Gaussian with N(0, I). Straight on a flow."""

    def __init__(self, path):
        self.path = Coupled(path)

    def __call__(self, x_t, t, condition=None):
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        eps = (x_t - alpha * MEAN) / (alpha * STD + sigma)
        return Prediction.of("x0", MEAN + STD * eps, x_t, t, self.path)


class Relabelled(Field):
    """A field of another path with the same α and σ."""

    def __init__(self, field, path):
        self.field, self.path = field, path

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t, condition)
        return Prediction(x_t, t, self.path, said.lens, said.value, said.nfe)


@every_path
def test_it_is_its_base_but_for_the_score(path):
    coupled = Coupled(path)
    assert path.independent
    assert not coupled.independent
    for name in ("alpha", "sigma", "alpha_rate", "sigma_rate", "log_snr", "log_snr_rate"):
        assert torch.equal(getattr(coupled, name)(T), getattr(path, name)(T))
    torch.testing.assert_close(coupled.time(coupled.log_snr(T)), T, rtol=1e-6, atol=1e-9)
    noise = Streams(0, range(2))
    assert torch.equal(coupled.prior(noise, (3,)), path.prior(Streams(0, range(2)), (3,)))
    for first in LENSES:
        for second in LENSES:
            if first != second and "score" in (first, second):
                with pytest.raises(Unsupported, match="not ∇ log p"):
                    conversion(coupled, first, second, T)
            else:
                for got, wanted in zip(
                    conversion(coupled, first, second, T),
                    conversion(path, first, second, T),
                    strict=True,
                ):
                    assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", PRESETS)
def test_every_deterministic_solver_walks_it_and_no_other(name):
    path, solver = VPLinear(), PRESETS[name]()
    field = Seen(mixture_2d(path), "v")
    coupled = Relabelled(field, Coupled(path))
    x = torch.linspace(-2, 2, 8, dtype=F64).reshape(4, 2)
    grid = grids.log_snr(path, 4, 1.0, 0.05)
    if solver.stochastic:
        with pytest.raises(Unsupported, match=r"noise can be added only.*deterministic"):
            solver.solve(coupled, x, grid, Streams(0, range(4)))
        assert "deterministic" in why_unsupported(Coupled(path), "v", solver)
    else:
        wanted = solver.solve(field, x, grid).x
        torch.testing.assert_close(solver.solve(coupled, x, grid).x, wanted, rtol=0, atol=0)


@every_path
def test_a_coupled_flow_carries_the_source_to_its_partner(path):
    # x0 and x1 stay what they are along a trajectory: exact in any number of steps
    field = Monge(path)
    eps = torch.linspace(-2, 2, 8, dtype=F64).reshape(4, 2)
    for steps in (1, 3):
        x = path.diffuse(MEAN + STD * eps, eps, torch.tensor(0.9, dtype=F64))
        out = PRESETS["ddim"]().solve(field, x, grids.uniform(steps, 0.9, 0.05)).x
        wanted = path.diffuse(MEAN + STD * eps, eps, torch.tensor(0.05, dtype=F64))
        torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["vp_linear", "edm", "cosine"])
def test_the_coupling_holds_on_every_other_path(name):
    # E[x0|x] and E[x1|x] depend on the direction of (α, σ) alone, whatever the coupling
    path = dict(zip(IDS, (case.path for case in PATHS), strict=True))[name]
    seen = Monge(Flow()).on_path(path)
    assert isinstance(seen, Along)
    assert seen.path == Coupled(path)
    x = torch.linspace(-2, 2, 14, dtype=F64).reshape(7, 2)
    for t in (0.2, 0.6):
        when = torch.tensor(t, dtype=F64)
        wanted = Monge(path)(x, when)
        for lens in ("x0", "eps", "velocity"):
            torch.testing.assert_close(
                seen(x, when).as_lens(lens), wanted.as_lens(lens), rtol=1e-9, atol=1e-9
            )
        with pytest.raises(Unsupported, match="the score"):
            _ = seen(x, when).score


def test_shifted_and_restricted_stay_coupled():
    for path in (Coupled(Flow()).shifted(4.0), Coupled(Flow()).restricted(last=0.9)):
        assert isinstance(path, Coupled)
    for path in (Shifted(Coupled(Flow()), 4.0), Restricted(Coupled(Flow()), 0.1, 0.9)):
        assert not path.independent
        with pytest.raises(Unsupported):
            conversion(path, "x0", "score", T)
    data = Coupled(Flow(), "data").shifted(4.0)
    assert data == Coupled(Flow().shifted(4.0), "data")
    assert Monge(Flow()).on_path(VPLinear()).path.source == "gaussian"


def test_what_needs_independent_noise_is_refused():
    coupled = Coupled(VPLinear())
    for call in (coupled.drift, coupled.diffusion):
        with pytest.raises(Unsupported, match="no linear SDE"):
            call(0.5)
    with pytest.raises(Unsupported, match="predicting score"):
        Denoiser(nn.Identity(), coupled, "score")
    with pytest.raises(InvalidArgument, match="'noise'; give one of gaussian, data"):
        Coupled(Flow(), "noise")
    with pytest.raises(InvalidArgument, match="coupled already"):
        Coupled(coupled)
    data = Coupled(Flow(), "data")
    with pytest.raises(Unsupported, match=r"starts from data.*translate"):
        data.prior(Streams(0, range(2)), (3,))
    field = Relabelled(gaussian_elementwise(Flow()), data)
    with pytest.raises(Unsupported, match="starts from data"):
        sample(field, Streams(0, range(2)), (3,), PRESETS["ddim"](), grids.uniform(3))
    x, t = torch.zeros(2, 2, dtype=F64), torch.tensor(0.5, dtype=F64)
    with pytest.raises(InvalidArgument, match="paths cannot be mixed"):
        mix(Monge(Flow())(x, t), mixture_2d(Flow())(x, t), 0.5)
