"""The discretised decoder against the normal law's distribution function."""

import math

import mpmath
import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Gaussian
from unnoise.likelihood import Levels, continuous_bound, gaussian_nll, level_nll, variational_bound
from unnoise.paths import Chain, Coupled, Flow, VPLinear
from unnoise.randomness import Streams

GRID = torch.linspace(-1, 1, 256, dtype=F64)


@pytest.mark.parametrize("deviation", [1e-3, 0.004, 0.1, 3.0])
@pytest.mark.parametrize("mean", [-1.4, -1.0, 0.003, 0.77, 2.0])
def test_the_levels_of_a_value_share_all_the_mass(mean, deviation):
    nll = level_nll(
        GRID[:, None], torch.full((256, 1), mean, dtype=F64), 2 * math.log(deviation), Levels()
    )
    assert float((-nll).exp().sum()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("index", [0, 1, 100, 200, 254, 255])
@pytest.mark.parametrize("deviation", [0.002, 0.05])
def test_masses_are_exact_far_into_both_tails(index, deviation):
    mean = 0.1
    mpmath.mp.dps = 60
    step = mpmath.mpf(2) / 255
    centre = -1 + step * index
    low, high = (mpmath.ncdf((centre + d * step / 2 - mean) / deviation) for d in (-1, 1))
    if centre > mean:  # 1 − ncdf loses nothing here
        high, low = (mpmath.ncdf(-(centre + d * step / 2 - mean) / deviation) for d in (-1, 1))
    low = 0 if index == 0 or (centre > mean and index == 255) else low
    if centre < mean and index == 255:
        high = 1
    wanted = -float(mpmath.log(high - low))
    nll = level_nll(
        GRID[index].reshape(1, 1),
        torch.full((1, 1), mean, dtype=F64),
        2 * math.log(deviation),
        Levels(),
    )
    assert float(nll) == pytest.approx(wanted, rel=1e-9)


def test_fine_levels_are_the_density_times_their_width():
    levels = Levels((-4.0,), (4.0,), 100_001)
    x = torch.tensor([[0.4, -1.2]], dtype=F64)
    x = -4 + 8e-5 * ((x + 4) / 8e-5).round()
    mean = torch.tensor([[0.1, 0.2]], dtype=F64)
    nll = level_nll(x, mean, math.log(0.3), levels)
    torch.testing.assert_close(
        nll, gaussian_nll(x, mean, math.log(0.3)) - math.log(8e-5), rtol=1e-7, atol=0
    )
    wanted = -torch.distributions.Normal(mean, math.sqrt(0.3)).log_prob(x)
    torch.testing.assert_close(gaussian_nll(x, mean, math.log(0.3)), wanted)


def test_channels_have_their_own_levels():
    levels = Levels((-1.0, 0.0), (1.0, 6.0), 4)
    x = torch.tensor([[[1 / 3], [4.0]]], dtype=F64)
    nll = level_nll(x, torch.zeros(1, 2, 1, dtype=F64), 0.0, levels)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=F64), 1.0)
    for row, (low, high) in enumerate([(0.0, 2 / 3), (3.0, 5.0)]):
        ends = normal.cdf(torch.tensor([low, high], dtype=F64))
        assert float(nll[0, row]) == pytest.approx(-math.log(float(ends[1] - ends[0])))


def test_gradients_are_finite_everywhere_and_right():
    x = GRID[[0, 7, 128, 255]].reshape(1, 4)
    mean = torch.tensor([[0.9, -0.95, 0.01, -1.0]], dtype=F64, requires_grad=True)
    spread = torch.full((1, 4), -5.0, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: level_nll(x, m, s, Levels()), (mean, spread))
    for value in (1e-6, 1e-3, 10.0):
        at = torch.full((1, 4), 2 * math.log(value)).requires_grad_()
        level_nll(x.float(), mean.detach().float(), at, Levels()).sum().backward()
        assert bool(torch.isfinite(at.grad).all())


def field(path):
    return Gaussian(torch.zeros(2, dtype=F64), 0.5, path)


X, NOISE = torch.zeros(3, 2, dtype=F64), Streams(0, range(3))
CHAIN = Chain.linear(5, 0.1, 0.4).as_path()
REFUSED = {
    "no chain": (lambda: variational_bound(field(Flow()), X, NOISE), "is no chain"),
    "no fraction": (
        lambda: variational_bound(field(CHAIN), X, NOISE, variance="learned"),
        "learned_variance=true",
    ),
    "variance": (
        lambda: variational_bound(field(CHAIN), X, NOISE, variance="posterier"),
        "did you mean 'posterior'",
    ),
    "strata": (lambda: variational_bound(field(CHAIN), X, NOISE, strata=5), "5 strata of 4 steps"),
    "repeats": (lambda: variational_bound(field(CHAIN), X, NOISE, repeats=0), "repeats is 0"),
    "coupled": (
        lambda: variational_bound(field(Coupled(Flow())), X, NOISE, grid=4),
        "ε depends on x0",
    ),
    "coupled, continuous": (
        lambda: continuous_bound(field(Coupled(Flow())), X, NOISE), "ε depends on x0"
    ),
    "off the levels": (
        lambda: variational_bound(field(CHAIN), X + 0.3, NOISE, levels=Levels()),
        "none of the 256 levels",
    ),
    "beyond the levels": (
        lambda: variational_bound(field(CHAIN), X + 257 / 255, NOISE, levels=Levels()),
        "none of the 256 levels",
    ),
    "channels": (
        lambda: variational_bound(field(CHAIN), X, NOISE, levels=Levels((0.0,) * 3, (1.0,) * 3)),
        "levels of 3 channels",
    ),
    "no end": (lambda: continuous_bound(field(Flow()), X, NOISE, end=0.0), "no noise is left"),
    "ends": (
        lambda: continuous_bound(field(Flow()), X, NOISE, start=0.2, end=0.5), "0 ≤ end < start"
    ),
    "no samples": (lambda: variational_bound(field(CHAIN), X[:0], NOISE), "at least one sample"),
    "decoder": (
        lambda: variational_bound(field(CHAIN), X, NOISE, decoder_variance=0.0),
        "decoder_variance is 0.0",
    ),
    "levels": (lambda: Levels((1.0,), (1.0,)), "need low < high"),
    "few levels": (lambda: Levels(count=1), "count of levels is 1"),
    "uneven levels": (lambda: Levels((0.0, 0.0), (1.0,)), "as many of both"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(case):
    make, words = REFUSED[case]
    with pytest.raises((InvalidArgument, Unsupported), match="(?s)" + words.replace("(", r"\(")):
        make()


def test_numbers_that_break_down_are_named():
    from unnoise.errors import NonFinite
    from unnoise.fields import Field, Prediction

    class Broken(Field):
        path = CHAIN

        def __call__(self, x_t, t, condition=None):
            value = torch.zeros_like(x_t)
            value[1] = math.nan
            return Prediction(x_t, t, self.path, "x0", value)

    with pytest.raises(NonFinite, match="sample 1 of 3"):
        variational_bound(Broken(), X, NOISE)


def test_a_path_that_ends_in_noise_decodes_there():
    made = continuous_bound(field(VPLinear().restricted(first=0.1)), X, NOISE, strata=3)
    assert float(made.t.min()) >= 0
