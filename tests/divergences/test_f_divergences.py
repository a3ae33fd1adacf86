"""f-divergences: closed forms, quadrature and Monte Carlo against each other and known values."""

import math

import pytest
import torch

from unnoise.divergences import (
    GENERATORS,
    Normal,
    alpha,
    between_normals,
    divergence,
    from_f,
    generator,
    integrate,
    integrated,
    sampled,
)
from unnoise.errors import InvalidArgument, NonFinite, Unsupported
from unnoise.randomness import Streams

F64 = torch.float64
P, Q = Normal(0.3, 0.5), Normal(-0.4, 0.8)
CLOSED = ["kl", "reverse_kl", "hellinger", "chi2", "tv", "alpha:0.3", "alpha:-0.7", "alpha:1.4"]
EVERY = [*GENERATORS, "alpha:0.3", "alpha:-0.2", "alpha:2"]


def two(seed, dimensions=3):
    """Two correlated Gaussians near each other."""
    draw = Streams(seed, range(2)).normal(dimensions, dimensions + 1).double()
    eye = torch.eye(dimensions, dtype=F64)
    return [Normal(0.4 * d[:, 0], eye + 0.15 * d[:, 1:] @ d[:, 1:].T) for d in draw]


def uniform(low, high):
    def log_density(x):
        inside = (x[:, 0] >= low) & (x[:, 0] <= high)
        return torch.where(inside, -math.log(high - low), -math.inf).double()

    return log_density


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_is_the_integral(name):
    closed, numeric = between_normals(name, P, Q), integrated(name, P, Q)
    assert closed.error == 0
    assert closed.method == "closed form"
    assert numeric.value == pytest.approx(closed.value, abs=1e-10)
    assert numeric.error < 1e-9


def test_known_values():
    # KL of N(0, 1) and N(m, s²): ½(1/s² + m²/s² − 1 + log s²)
    assert divergence("kl", Normal(0, 1), Normal(2, 4)).value == pytest.approx(
        0.5 * (0.25 + 1 - 1 + math.log(4)), abs=1e-14
    )
    assert divergence("chi2", Normal(0, 1), Normal(1, 1)).value == pytest.approx(math.e - 1)
    assert divergence("tv", Normal(0, 1), Normal(1, 1)).value == pytest.approx(
        math.erf(1 / math.sqrt(8))
    )
    # N(0, ½) against N(0, 1): (αP + (1−α)Q) = 0 at α = −1 on the other side
    assert divergence("chi2", Normal(0, 2.5), Normal(0, 1)).value == math.inf
    assert divergence("kl", Normal([0.0, 0.0], [1.0, 0.0]), Normal([0.0, 0], [1.0, 1])).value == (
        math.inf
    )


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "hellinger", "chi2", "alpha:0.3", "tv"])
def test_closed_form_in_three_dimensions_is_the_mean(name):
    p, q = two(3)
    if name == "tv":
        q = Normal(q.mean, p.covariance)
    x, y = (law.sample(Streams(5, range(20_000), k)) for k, law in (("p", p), ("q", q)))
    got = sampled(name, p, q, x, y)
    closed = between_normals(name, p, q).value
    assert abs(got.value - closed) < 4 * got.error
    assert got.error < 0.05 * closed


@pytest.mark.parametrize("name", EVERY)
def test_monte_carlo_agrees_with_quadrature_within_its_error(name):
    wanted = integrated(name, P, Q).value
    scores = []
    for seed in range(40):
        x, y = (law.sample(Streams(seed, range(400), k)) for k, law in (("p", P), ("q", Q)))
        got = sampled(name, P, Q, x, y)
        scores.append((got.value - wanted) / got.error)
    scores = torch.tensor(scores)
    # the error is a standard error: 40 repetitions of unit spread around 0
    assert abs(float(scores.mean())) < 3.5 / math.sqrt(40)
    assert 0.7 < float(scores.std()) < 1.35


def test_one_sided_samples():
    x = P.sample(Streams(0, range(5000)))
    got = divergence("kl", P, Q, from_p=x)
    assert abs(got.value - between_normals("kl", P, Q).value) < 4 * got.error
    y = Q.sample(Streams(1, range(5000)))
    got = divergence("reverse_kl", P, Q, from_q=y)
    assert abs(got.value - between_normals("kl", Q, P).value) < 4 * got.error
    for name, side in (("kl", "from_q"), ("reverse_kl", "from_p"), ("js", "from_p")):
        with pytest.raises(InvalidArgument, match="samples of"):
            divergence(name, P, Q, **{side: x})


def test_relations():
    value = {name: integrated(name, P, Q).value for name in EVERY}
    back = {name: integrated(name, Q, P).value for name in EVERY}
    close = pytest.approx
    assert value["kl"] == close(back["reverse_kl"])
    assert value["kl"] != close(back["kl"], rel=0.05)
    for name in ("js", "tv", "hellinger"):
        assert value[name] == close(back[name])
    assert value["alpha:2"] == close(value["chi2"] / 2)
    assert integrated(alpha(0.5), P, Q).value == close(4 * value["hellinger"])
    assert integrated("alpha:0.3", P, Q).value == close(integrated("alpha:0.7", Q, P).value)
    assert integrated(alpha(1 - 1e-6), P, Q).value == close(value["kl"], rel=1e-5)
    # Pinsker; H² ≤ TV ≤ √2·H; KL ≤ log(1 + χ²); JS ≤ log 2·TV
    assert value["tv"] ** 2 <= value["kl"] / 2
    assert value["hellinger"] <= value["tv"] <= math.sqrt(2 * value["hellinger"])
    assert value["kl"] <= math.log1p(value["chi2"])
    assert value["js"] <= math.log(2) * value["tv"]
    middle = lambda x: torch.logaddexp(P(x), Q(x)) - math.log(2)  # noqa: E731
    halves = [integrated("kl", law, middle).value for law in (P, Q)]
    assert value["js"] == close(sum(halves) / 2)


@pytest.mark.parametrize(
    ("name", "apart", "nested"),
    [
        # uniform on [0, 1] and [2, 3]; uniform on [0, ½] inside [0, 1]
        ("kl", math.inf, math.log(2)),
        ("reverse_kl", math.inf, math.inf),
        ("js", math.log(2), 0.5 * (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))),
        ("tv", 1.0, 0.5),
        ("chi2", math.inf, 1.0),
        ("hellinger", 1.0, 1 - math.sqrt(0.5)),
        ("alpha:0.5", 4.0, 4 * (1 - math.sqrt(0.5))),
        ("alpha:-1", math.inf, math.inf),
        ("alpha:0.3", 1 / 0.21, (1 - 0.5**0.7) / 0.21),
    ],
)
def test_supports_that_do_not_overlap(name, apart, nested):
    p, far, wide = uniform(0, 0.5), uniform(2, 3), uniform(0, 1)
    assert integrated(name, wide, far, -1, 4).value == pytest.approx(apart, abs=1e-8)
    assert integrated(name, p, wide, -1, 4, 1e-9).value == pytest.approx(nested, abs=1e-8)
    if name == "alpha:0.3":  # p alone has mass
        value = integrated(name, wide, p, -1, 4, 1e-9).value
        assert value == pytest.approx((1 - 0.5**0.3) / 0.21, abs=1e-8)
    x = Streams(0, range(200)).uniform(1).double()
    got = sampled(name, wide, far, x, x + 2)
    assert got.value == pytest.approx(apart)
    assert got.error == pytest.approx(0, abs=1e-12)
    assert got.interval() == pytest.approx((apart, apart))


def test_one_gaussian_far_from_the_other():
    p, q = Normal(0, 1), Normal(60, 1)
    assert divergence("kl", p, q).value == pytest.approx(1800)
    assert integrated("kl", p, q, -10, 70).value == pytest.approx(1800)
    assert divergence("js", p, q).value == pytest.approx(math.log(2), abs=1e-12)


def test_nearly_equal_laws_keep_their_digits():
    p, q = Normal(0, 1), Normal(1e-5, 1)
    for name in ("kl", "reverse_kl"):
        assert integrated(name, p, q).value == pytest.approx(0.5e-10, rel=1e-6)
    assert integrated("js", p, q).value == pytest.approx(0.125e-10, rel=1e-4)
    gap = torch.tensor([-1e-8, 1e-8], dtype=torch.float64)  # p·(r²/2 − r³/6 + …)
    exact = math.exp(-1) * gap**2 * (0.5 - gap / 6)
    zero = torch.full_like(gap, -1.0)
    torch.testing.assert_close(generator("kl")(zero, zero - gap), exact, rtol=1e-7, atol=0)


def test_a_generator_of_your_own():
    log = from_f(lambda u: u * u.log(), 0.0, math.inf, slope=1.0, name="mine")
    assert integrated(log, P, Q).value == pytest.approx(between_normals("kl", P, Q).value)
    plain = from_f(lambda u: (u.sqrt() - 1) ** 2 / 2, 0.5, 0.5)
    assert integrated(plain, P, Q).value == pytest.approx(between_normals("hellinger", P, Q).value)
    with pytest.raises(InvalidArgument, match="convex"):
        from_f(lambda u: -((u - 1) ** 2), 0, 0)
    with pytest.raises(InvalidArgument, match=r"f\(1\)"):
        from_f(lambda u: u**2, 0, 0)
    with pytest.raises(InvalidArgument, match="taken"):
        from_f(lambda u: u * u.log(), 0, 0, name="kl")


def test_quadrature_adapts_and_states_its_error():
    spike = lambda x: torch.exp(-0.5 * ((x - 0.3) / 1e-4) ** 2)  # noqa: E731
    value, error = integrate(spike, -1, 1, 1e-14)
    truth = 1e-4 * math.sqrt(2 * math.pi)
    assert abs(float(value) - truth) <= float(error) + 1e-18
    assert float(error) < 1e-13
    half, _ = integrate(lambda x: torch.exp(-x), 0.0)
    assert float(half) == pytest.approx(1, abs=1e-10)
    other, _ = integrate(lambda x: torch.exp(x), high=0.0)
    assert float(other) == pytest.approx(1, abs=1e-10)
    kink, error = integrate(lambda x: (x - 0.123).abs(), 0, 1)
    assert float(kink) == pytest.approx((0.123**2 + 0.877**2) / 2, abs=1e-10)


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(InvalidArgument, match="did you mean 'hellinger'"):
        divergence("helinger", P, Q)
    with pytest.raises(InvalidArgument, match="mass"):
        integrated("kl", lambda x: P(x) + 0.1, Q)
    with pytest.raises(InvalidArgument, match="mass"):
        integrated("kl", Normal(1e4, 1e-6), Normal(1e4, 1e-6))
    with pytest.raises(InvalidArgument, match="dimensions"):
        divergence("kl", *[Normal(0, 1), two(0)[0]])
    with pytest.raises(InvalidArgument, match="from_p"):
        divergence("js", *two(0))
    with pytest.raises(Unsupported, match="closed form"):
        between_normals("js", P, Q)
    with pytest.raises(Unsupported, match="singular"):
        divergence("kl", P, Normal(0, 0))
    with pytest.raises(InvalidArgument, match="one kind"):
        divergence("kl", P, Q, low=-1.0, from_p=torch.zeros(3, 1))
    with pytest.raises(InvalidArgument, match="low < high"):
        integrated("kl", P, Q, 2, 1)
    with pytest.raises(InvalidArgument, match="eigenvalue"):
        Normal([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InvalidArgument, match="symmetric"):
        Normal([0.0, 0.0], [[1.0, 0.2], [0.1, 1.0]])
    with pytest.raises(NonFinite, match="settle"):
        integrate(lambda x: 1 / x.abs().sqrt() / (1 + x.abs()).sqrt(), 0, math.inf)
    with pytest.raises(InvalidArgument, match="give a finite"):
        divergence("alpha:nan", P, Q)
