"""Every path against its closed form, its exact derivatives and its own inverse, in float64."""

import math

import pytest
import torch
from scipy.integrate import quad

from tests.exact import BY_NAME, F64, IDS, PATHS, inner_times
from unnoise.errors import InvalidArgument
from unnoise.paths import (
    EDM,
    VE,
    Chain,
    Cosine,
    Flow,
    SubVP,
    Trigonometric,
    VPLinear,
)

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
PARTS = ("alpha", "sigma", "alpha_rate", "sigma_rate", "log_snr", "drift", "diffusion")


def close(a, b, rel=1e-12, abs_=0.0):
    torch.testing.assert_close(a, b, rtol=rel, atol=abs_, check_dtype=False)


def off_nodes(path):
    """Inner times that are no node of any chain, where the rate is the slope on both sides."""
    times = inner_times(path)[1:-1]
    return (times * 1000).floor().add(0.37).div(1000).unique()[1:-1]


def beta_integral(t):
    return quad(lambda s: 0.1 + s * (20 - 0.1), 0, t, epsabs=0, epsrel=1e-13)[0]


def cosine_form(t, s):
    return math.cos(math.pi / 2 * (t + s) / (1 + s)) / math.cos(math.pi / 2 * s / (1 + s))


VALUES = {
    "vp_linear": (VPLinear(), lambda t: math.exp(-0.5 * beta_integral(t)), "vp"),
    "sub_vp": (
        SubVP(),
        lambda t: math.exp(-0.5 * beta_integral(t)),
        lambda t: 1 - math.exp(-beta_integral(t)),
    ),
    "cosine": (Cosine(), lambda t: cosine_form(t, 0.008), "vp"),
    "cosine_wide": (Cosine(0.3), lambda t: cosine_form(t, 0.3), "vp"),
    "trigonometric": (
        Trigonometric(),
        lambda t: math.cos(math.pi * t / 2),
        lambda t: math.sin(math.pi * t / 2),
    ),
    "flow": (Flow(), lambda t: 1 - t, lambda t: t),
    "ve": (VE(0.02, 30.0), lambda t: 1.0, lambda t: 0.02 ** (1 - t) * 30.0**t),
    "edm": (EDM(70.0), lambda t: 1.0, lambda t: 70.0 * t),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("t", [0.03, 0.2, 0.5, 0.77, 0.98])
def test_published_signal_and_noise(name, t):
    path, alpha, sigma = VALUES[name]
    expected = math.sqrt(1 - alpha(t) ** 2) if sigma == "vp" else sigma(t)
    assert float(path.alpha(t)) == pytest.approx(alpha(t), rel=1e-12)
    assert float(path.sigma(t)) == pytest.approx(expected, rel=1e-12)


@every_path
def test_rates_are_the_exact_derivatives(path):
    t = off_nodes(path).requires_grad_()
    for value, rate in ((path.alpha, path.alpha_rate), (path.sigma, path.sigma_rate)):
        out = value(t)
        slope = torch.zeros_like(t)
        if out.requires_grad:
            (slope,) = torch.autograd.grad(out.sum(), t)
        close(rate(t).detach(), slope, rel=1e-8, abs_=1e-10)


@every_path
def test_log_snr_is_the_log_of_the_ratio_and_its_rate(path):
    t = off_nodes(path).requires_grad_()
    log_snr = path.log_snr(t)
    close(log_snr.detach(), (path.alpha(t) / path.sigma(t)).log().detach(), abs_=1e-11)
    (slope,) = torch.autograd.grad(log_snr.sum(), t)
    close(path.log_snr_rate(t).detach(), slope, rel=1e-8)
    assert bool((slope < 0).all())


@every_path
def test_time_inverts_log_snr_near_both_ends(path):
    t = inner_times(path, least=1e-6, count=101)
    back = path.time(path.log_snr(t))
    close(back, t, rel=1e-9, abs_=1e-15)
    # from the noise end too, where α = 0: 1 − t keeps its digits as far as t can hold them
    close(path.alpha(back), path.alpha(t), rel=1e-8)


@every_path
def test_log_snr_inverts_time(path):
    low, high = (max(-9.0, path.log_snr_range()[0]), min(9.0, path.log_snr_range()[1]))
    log_snr = torch.linspace(low, high, 57, dtype=F64)
    close(path.log_snr(path.time(log_snr)), log_snr, abs_=1e-9)


@every_path
def test_the_ends_have_the_ends_of_log_snr(path):
    low, high = path.log_snr_range()
    assert low == float(path.log_snr(1.0))
    assert high == float(path.log_snr(0.0))
    assert float(path.time(high)) == pytest.approx(0, abs=1e-12)
    assert float(path.time(low)) == pytest.approx(1, abs=1e-12)


NO_SIGNAL = [
    "cosine",
    "cosine_no_offset",
    "flow",
    "trigonometric",
    "cosine_shifted",
    "flow_shifted",
    "trigonometric_shifted",
    "chain_zero_terminal",
]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("path", [BY_NAME[n].path for n in NO_SIGNAL], ids=NO_SIGNAL)
def test_the_noise_end_is_exactly_pure_noise(path, dtype):
    assert float(path.alpha(torch.tensor(1.0, dtype=dtype))) == 0.0
    assert float(path.sigma(torch.tensor(1.0, dtype=dtype))) == 1.0


NOISY_END = ("ve", "cosine_restricted")
CLEAN_END = {case.name: case.path for case in PATHS if case.name not in NOISY_END}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("path", CLEAN_END.values(), ids=CLEAN_END)
def test_the_data_end_is_exactly_the_data(path, dtype):
    zero = torch.tensor(0.0, dtype=dtype)
    assert float(path.alpha(zero)) == 1.0
    assert float(path.sigma(zero)) == 0.0


def test_a_cosine_without_offset_is_the_trigonometric_path():
    t = torch.tensor([0.0, 1e-9, 0.2, 0.7, 1.0], dtype=F64)
    for part in PARTS[:4]:
        close(getattr(Cosine(0.0), part)(t), getattr(Trigonometric(), part)(t), abs_=1e-15)
    assert float(Cosine(0.0).time(math.inf)) == 0.0
    assert float(Cosine(0.0).shifted(4.0).alpha(0.0)) == 1.0


@every_path
def test_the_sde_has_the_marginals_of_the_path(path):
    t = off_nodes(path).requires_grad_()
    f, g = path.drift(t).detach(), path.diffusion(t).detach()
    alpha, variance = path.alpha(t), path.sigma(t) ** 2
    mean_rate = torch.zeros_like(t)
    if alpha.requires_grad:
        (mean_rate,) = torch.autograd.grad(alpha.sum(), t)
    close(f * alpha.detach(), mean_rate, rel=1e-8, abs_=1e-10)
    (variance_rate,) = torch.autograd.grad(variance.sum(), t)
    close(2 * f * variance.detach() + g**2, variance_rate, rel=1e-7, abs_=1e-9)


def test_published_drift_and_diffusion():
    t = torch.linspace(0.01, 0.99, 23, dtype=F64)
    beta = 0.1 + t * 19.9
    close(VPLinear().beta(t), beta)
    close(VPLinear().drift(t), -0.5 * beta)
    close(VPLinear().diffusion(t) ** 2, beta)
    close(SubVP().drift(t), -0.5 * beta)
    close(SubVP().diffusion(t) ** 2, beta * (1 - (-0.2 * t - 19.9 * t**2).exp()))
    ve = VE(0.01, 50.0)
    close(ve.drift(t), torch.zeros_like(t))
    close(ve.diffusion(t), 0.01 * 5000**t * math.sqrt(2 * math.log(5000)))
    close(EDM(80.0).diffusion(t) ** 2, 2 * 80.0**2 * t)
    close(Flow().drift(t), -1 / (1 - t))
    close(Flow().diffusion(t) ** 2, 2 * t / (1 - t))
    s, unit = 0.008, math.pi / 2 / 1.008
    close(Cosine().diffusion(t) ** 2, 2 * unit * ((t + s) * unit).tan())
    assert float(Cosine().diffusion(0.0)) ** 2 == pytest.approx(2 * unit * math.tan(s * unit))


@every_path
def test_low_precision_times_are_raised_not_used(path):
    for dtype in (torch.bfloat16, torch.float16):
        t = torch.tensor([0.25, 0.75, 0.9375], dtype=dtype)
        for part in PARTS:
            out = getattr(path, part)(t)
            assert out.dtype == torch.float32
            assert torch.equal(out, getattr(path, part)(t.float())), part


@every_path
def test_float32_times_agree_with_float64(path):
    t = inner_times(path, least=1e-2).float()
    for part in ("alpha", "sigma", "log_snr"):
        out = getattr(path, part)(t)
        assert out.dtype == torch.float32
        close(out, getattr(path, part)(t.double()), rel=2e-5, abs_=2e-6)
    for part in ("alpha_rate", "sigma_rate", "drift", "diffusion"):
        assert getattr(path, part)(t).dtype == torch.float32


@every_path
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_times_of_any_shape(path, shape):
    t = torch.full(shape, 0.4, dtype=F64)
    for part in PARTS:
        out = getattr(path, part)(t)
        assert out.shape == t.shape
        assert out.dtype == F64
        close(out, getattr(path, part)(0.4).expand(shape))


def test_equal_paths_are_equal_and_hash_alike():
    for make in (VPLinear, SubVP, Cosine, VE, EDM, Flow, Trigonometric):
        assert make() == make()
        assert hash(make()) == hash(make())
    assert len({case.path for case in PATHS}) == len(PATHS)
    assert VPLinear() != SubVP()
    assert VPLinear().log_snr_range() != SubVP().log_snr_range()
    assert Flow().shifted(2.0) == Flow().shifted(2.0) != Flow().shifted(3.0)
    assert Chain.linear(10).as_path() == Chain.linear(10).as_path() != Chain.linear(11).as_path()
    assert hash(Chain.linear(10)) == hash(Chain.linear(10))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VPLinear(0.0, 20.0), "beta_first"),
        (lambda: VPLinear(1.0, 0.5), "beta_first ≤ beta_last"),
        (lambda: VPLinear(0.1, math.inf), "inf"),
        (lambda: SubVP(-1.0, 2.0), "-1.0"),
        (lambda: Cosine(-0.1), "-0.1"),
        (lambda: Cosine(math.nan), "nan"),
        (lambda: VE(1.0, 1.0), "sigma_min < sigma_max"),
        (lambda: VE(0.0, 1.0), "0.0"),
        (lambda: EDM(0.0), "sigma_max is 0.0"),
        (lambda: EDM(math.nan), "nan"),
        (lambda: Flow().shifted(0.0), "factor is 0.0"),
        (lambda: Flow().shifted(math.inf), "inf"),
        (lambda: Flow().restricted(0.5, 0.5), "first < last"),
        (lambda: Flow().restricted(-0.1, 0.5), "-0.1"),
        (lambda: Flow().restricted(0.1, 1.5), "1.5"),
    ],
)
def test_impossible_paths_are_refused(make, said):
    with pytest.raises(InvalidArgument, match=said):
        make()
