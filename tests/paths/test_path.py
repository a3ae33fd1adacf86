"""What every path offers: shifted, restricted, the forward process, the prior."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exact import F64, IDS, PATHS
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
    as_time,
    expand,
)
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
PARTS = ("alpha", "sigma", "alpha_rate", "sigma_rate", "log_snr", "drift", "diffusion")


def close(a, b, rel=1e-12, abs_=0.0):
    torch.testing.assert_close(a, b, rtol=rel, atol=abs_, check_dtype=False)


SHIFTED = [VPLinear(), SubVP(), Cosine(), VE(), EDM(), Flow(), Trigonometric()]
SHIFTED += [Chain.cosine().as_path(), Flow().restricted(0.0, 0.95)]


@pytest.mark.parametrize("factor", [1 / 9, 0.5, 4.0, 25.0])
@pytest.mark.parametrize("path", SHIFTED, ids=lambda p: type(p).__name__)
def test_a_shift_multiplies_the_snr(path, factor):
    t = torch.linspace(0.05, 0.95, 19, dtype=F64)
    shifted = path.shifted(factor)
    snr, before = ((p.alpha(t) / p.sigma(t)) ** 2 for p in (shifted, path))
    close(snr, factor * before, rel=1e-9)
    close(shifted.log_snr(t) - path.log_snr(t), torch.full_like(t, 0.5 * math.log(factor)))
    close(shifted.time(shifted.log_snr(t)), t, rel=1e-10)


@pytest.mark.parametrize("factor", [1 / 9, 4.0])
def test_a_shift_stays_in_the_family(factor):
    t = torch.linspace(0, 1, 23, dtype=F64)
    for path in (VPLinear(), Cosine(), Trigonometric(), Chain.linear().as_path()):
        shifted = path.shifted(factor)
        close(shifted.alpha(t) ** 2 + shifted.sigma(t) ** 2, torch.ones_like(t))
    flow = Flow().shifted(factor)
    close(flow.alpha(t) + flow.sigma(t), torch.ones_like(t))
    s = factor**-0.5
    close(flow.sigma(t), s * t / (1 + (s - 1) * t))
    close(EDM().shifted(factor).sigma(t), 80 * s * t)
    sub = SubVP().shifted(factor)
    close(sub.sigma(t), 1 - sub.alpha(t) ** 2, abs_=1e-12)


def test_shifts_compose():
    t = torch.linspace(0.05, 0.95, 7, dtype=F64)
    twice, once = VPLinear().shifted(2.0).shifted(3.0), VPLinear().shifted(6.0)
    for part in PARTS:
        close(getattr(twice, part)(t), getattr(once, part)(t), rel=1e-9)


@every_path
def test_a_restricted_path_is_a_piece_of_its_base(path):
    piece = path.restricted(0.25, 0.8)
    t = torch.tensor([0.0, 0.3, 0.51, 1.0], dtype=F64)
    base = 0.25 + 0.55 * t
    for part in ("alpha", "sigma", "log_snr", "drift"):
        factor = 0.55 if part == "drift" else 1
        close(getattr(piece, part)(t), factor * getattr(path, part)(base), rel=1e-9)
    close(piece.alpha_rate(t), 0.55 * path.alpha_rate(base), rel=1e-9)
    close(piece.sigma_rate(t), 0.55 * path.sigma_rate(base), rel=1e-9)
    close(piece.diffusion(t) ** 2, 0.55 * path.diffusion(base) ** 2, rel=1e-8)
    close(piece.time(path.log_snr(base)), t, abs_=1e-9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(first=st.floats(0, 0.999), dtype=st.sampled_from([torch.float32, F64]))
def test_a_restriction_that_keeps_the_noise_end_keeps_it_exact(first, dtype):
    assert float(Flow().restricted(first).alpha(torch.tensor(1.0, dtype=dtype))) == 0.0


def test_diffuse_is_the_forward_process():
    x0, eps = torch.arange(12.0, dtype=F64).reshape(3, 2, 2), torch.ones(3, 2, 2, dtype=F64)
    t = torch.tensor([0.1, 0.5, 1.0], dtype=F64)
    out = Flow().diffuse(x0, eps, t)
    for i in range(3):
        close(out[i], (1 - t[i]) * x0[i] + t[i] * eps[i])
    close(Flow().diffuse(x0, eps, 0.25), 0.75 * x0 + 0.25 * eps)
    low = Flow().diffuse(x0.bfloat16(), eps.bfloat16(), torch.tensor(0.5, dtype=F64))
    assert low.dtype == torch.bfloat16


def test_times_that_do_not_fit_the_batch_are_refused():
    x = torch.zeros(3, 2)
    for bad in (torch.zeros(2), torch.zeros(3, 1)):
        with pytest.raises(InvalidArgument, match="do not fit a batch of 3"):
            expand(bad, x)
    assert expand(torch.zeros(3), x).shape == (3, 1)
    assert as_time(1).dtype == F64


@every_path
def test_the_prior_has_the_moments_it_claims(path):
    noise = Streams(3, range(4))
    unit = Streams(3, range(4)).normal(2, 3)
    for t in (1.0, 0.6):
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        got = path.prior(noise.rewound(), (2, 3), t)
        close(got, unit * sigma, rel=1e-6)
        got = path.prior(noise.rewound(), (2, 3), t, data_std=0.5)
        close(got, unit * math.sqrt(sigma**2 + alpha**2 * 0.25), rel=1e-6)
        assert got.dtype == torch.float32
