"""The denoising loss against the loss that is achievable, in closed form."""

import math

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import nn

from tests.exact import F64, IDS, PATHS, Seen, gaussian_elementwise, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import LENSES, Condition, Denoiser, Field, Gaussian, Prediction
from unnoise.objectives import (
    WEIGHTS,
    Batch,
    Denoising,
    LogNormal,
    Loss,
    Uniform,
    weight,
)
from unnoise.paths import EDM, Cosine, Flow, VPLinear
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
VARIANCE, MEAN = 0.6, -0.4


class Prescribed:
    """Noise that is given: `normal` for ε, uniform numbers that make the times `t`."""

    def __init__(self, eps, t):
        self.eps, self.t = eps, t

    def purpose(self, name):
        return self

    def normal(self, *event):
        return self.eps

    def uniform(self, *event):
        return 1 - self.t


def every_pair(t):
    """x0 and ε, each one deviation up and down: averages of squares of linear forms are exact."""
    up = torch.tensor([1.0, -1.0], dtype=F64)
    x0, eps, t = torch.cartesian_prod(up, up, t).unbind(1)
    return MEAN + math.sqrt(VARIANCE) * x0[:, None], eps[:, None], t


def smallest_loss(path, lens, name, t):
    """w·Var of the lens given x_t, for N(MEAN, VARIANCE), by 2×2 regression; from definitions."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    a, b = {
        "x0": (1, 0),
        "eps": (0, 1),
        "score": (0, -1 / sigma),
        "v": (-sigma, alpha),
        "velocity": (path.alpha_rate(t), path.sigma_rate(t)),
    }[lens]
    total = alpha**2 * VARIANCE + sigma**2
    left = a**2 * VARIANCE + b**2 - (a * alpha * VARIANCE + b * sigma) ** 2 / total
    return weight(name).on(lens, path, t) * left


@every_path
@pytest.mark.parametrize("lens", LENSES)
def test_the_exact_field_has_the_smallest_loss_there_is(path, lens):
    nodes, shares = (torch.from_numpy(v) for v in leggauss(12))
    t = 0.5 + 0.45 * nodes
    x0, eps, times = every_pair(t)
    field = Seen(Gaussian(torch.tensor([MEAN], dtype=F64), VARIANCE, path), lens)
    for name in WEIGHTS:
        loss = Denoising(weight(name))(field, Batch(x0), Prescribed(eps, times))
        torch.testing.assert_close(loss.t, times, rtol=1e-12, atol=1e-15)
        by_time = loss.per_sample.reshape(4, -1).mean(0)
        wanted = smallest_loss(path, lens, name, t)
        torch.testing.assert_close(by_time, wanted, rtol=1e-7, atol=0)
        # and over time, by Gauss–Legendre
        torch.testing.assert_close(shares @ by_time, shares @ wanted, rtol=1e-8, atol=0)
        assert float(loss.value) == pytest.approx(float(loss.per_sample.mean()))


@pytest.mark.parametrize("lens", LENSES)
def test_any_other_field_loses_more(lens):
    path = VPLinear()
    x0, eps, times = every_pair(torch.linspace(0.1, 0.9, 9, dtype=F64))

    def loss(mean, variance):
        field = Seen(Gaussian(torch.tensor([mean], dtype=F64), variance, path), lens)
        return float(Denoising()(field, Batch(x0), Prescribed(eps, times)).value)

    best = loss(MEAN, VARIANCE)
    for mean, variance in [(MEAN + 0.05, VARIANCE), (MEAN, 0.5), (MEAN, 0.7), (-MEAN, VARIANCE)]:
        assert loss(mean, variance) > best * (1 + 1e-5)


@pytest.mark.parametrize("lens", ["x0", "eps", "v"])
def test_a_random_batch_estimates_the_same(lens):
    # z-test of the drawn loss against the closed form, averaged over t in (0.05, 1]
    path, n = VPLinear().restricted(0.05, 1.0), 4000
    noise = Streams(0, range(n))
    x0 = MEAN + math.sqrt(VARIANCE) * noise.purpose("data").normal(1).double()
    field = Seen(Gaussian(torch.tensor([MEAN], dtype=F64), VARIANCE, path), lens)
    loss = Denoising(weight("v"))(field, Batch(x0), noise)
    nodes, shares = (torch.from_numpy(v) for v in leggauss(60))
    wanted = float(shares @ smallest_loss(path, lens, "v", 0.5 + 0.5 * nodes)) / 2
    error = float(loss.per_sample.std()) / math.sqrt(n)
    assert abs(float(loss.value) - wanted) < 4 * error


class Wrong(Field):
    """An exact field, off by a known amount of x0, in a lens of choice."""

    def __init__(self, path, lens):
        self.path, self.lens = path, lens

    def __call__(self, x_t, t, condition=None):
        said = Prediction.of("x0", 0.3 * x_t.sin() + 0.1, x_t, t, self.path)
        return said.with_value(self.lens, said.as_lens(self.lens))


@pytest.mark.parametrize("name", WEIGHTS)
@every_path
def test_the_loss_of_a_wrong_field_does_not_depend_on_its_lens(path, name):
    noise = Streams(1, range(6))
    x0 = noise.purpose("data").normal(2, 3).double()
    times = Uniform(stratified=True)
    path = path.restricted(0.05, 0.95)
    losses = [
        Denoising(weight(name), times)(Wrong(path, lens), Batch(x0), noise.rewound()).per_sample
        for lens in LENSES
    ]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-8, atol=1e-12)


def test_the_error_is_averaged_over_the_event():
    noise, path = Streams(0, range(3)), Flow()
    x0 = noise.purpose("data").normal(2, 4, 4)

    class Zero(Field):
        def __call__(self, x_t, t, condition=None):
            return Prediction.of("velocity", torch.zeros_like(x_t), x_t, t, path)

    Zero.path = path
    loss = Denoising(weight("velocity"))(Zero(), Batch(x0), noise)
    eps = noise.rewound().normal(2, 4, 4)
    torch.testing.assert_close(loss.per_sample, (eps - x0).square().mean((1, 2, 3)))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.null = nn.Parameter(torch.tensor(0.1))

    def forward(self, x, noise_level, condition):
        self.seen = condition
        shift = torch.zeros(len(x))
        if condition is not None:
            shift = torch.where(condition.keep["class"], condition.values["class"], self.null)
        return self.scale * x + shift[:, None]


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("lens", LENSES)
def test_gradients_are_those_of_the_loss(lens, preconditioned):
    model = Denoiser(Linear().double(), VPLinear(), lens, preconditioned)
    noise = Streams(0, range(8))
    x0 = noise.purpose("data").normal(3).double()
    objective = Denoising(weight("v"), LogNormal())

    def loss():
        return objective(model, Batch(x0), noise.rewound())

    out = loss()
    assert not out.per_sample.requires_grad
    out.value.backward()
    scale, h = model.network.scale, 1e-5
    with torch.no_grad():
        scale += h
        above = float(loss().value)
        scale -= 2 * h
        below = float(loss().value)
    assert float(scale.grad) == pytest.approx((above - below) / (2 * h), rel=1e-6)


def test_low_precision_models_have_their_loss_in_float32():
    model = Denoiser(Linear().bfloat16(), Flow(), "velocity")
    noise = Streams(0, range(8))
    x0 = noise.purpose("data").normal(3)
    loss = Denoising(weight("velocity"))(model, Batch(x0), noise)
    assert loss.per_sample.dtype == torch.float32
    assert loss.t.dtype == F64


def with_labels(n):
    return Condition.of({"class": torch.arange(n) % 5}, n)


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_dropped_conditions(drop):
    n, network = 4000, Linear()
    model = Denoiser(network, Flow(), "velocity")
    noise = Streams(2, range(n))
    batch = Batch(torch.zeros(n, 1), with_labels(n))
    Denoising(condition_dropout=drop)(model, batch, noise)
    share = 1 - float(network.seen.keep["class"].double().mean())
    assert abs(share - drop) <= 5 * math.sqrt(drop * (1 - drop) / n)
    assert bool(batch.condition.keep["class"].all())
    assert torch.equal(network.seen.values["class"], batch.condition.values["class"])


def test_dropping_changes_neither_the_noise_nor_the_times():
    field = mixture_2d(Flow())
    n = 50
    x0 = Streams(0, range(n)).purpose("data").normal(2).double()
    noises = [Streams(3, range(n)) for _ in range(3)]
    losses = [
        Denoising(condition_dropout=drop)(field, Batch(x0, with_labels(n)), noise)
        for drop, noise in zip((0.0, 0.5, 1.0), noises, strict=True)
    ]
    for loss in losses[1:]:
        assert torch.equal(loss.t, losses[0].t)
        assert torch.equal(loss.per_sample, losses[0].per_sample)
    # nor what is drawn next
    after = [noise.normal(1) for noise in noises]
    assert torch.equal(after[1], after[0])
    assert torch.equal(after[2], after[0])


def test_times_noise_and_dropping_are_independent_of_each_other():
    n, network = 4000, Linear()
    noise = Streams(5, range(n))
    loss = Denoising(condition_dropout=0.5)(
        Denoiser(network, Flow(), "velocity"), Batch(torch.zeros(n, 1), with_labels(n)), noise
    )
    keep, eps = network.seen.keep["class"].double(), Streams(5, range(n)).normal(1)[:, 0].double()
    for a, b in [(keep, loss.t), (keep, eps), (loss.t, eps), (loss.t, eps**2)]:
        a, b = a - a.mean(), b - b.mean()
        assert abs(float((a * b).mean() / (a.std() * b.std()))) * math.sqrt(n) < 5


@pytest.mark.parametrize("lens", ["x0", "eps", "v", "velocity"])
def test_a_samples_loss_does_not_depend_on_its_batch(lens):
    n, path = 64, VPLinear()
    field = Seen(gaussian_elementwise(path, (3, 5, 7), torch.float32), lens)
    x0 = Streams(0, range(n)).purpose("data").normal(3, 5, 7)
    objective = Denoising(weight("min_snr"), LogNormal())
    whole = objective(field, Batch(x0), Streams(9, range(n)))
    for size in (1, 8):
        parts = [
            objective(field, Batch(x0[i : i + size]), Streams(9, range(i, i + size)))
            for i in range(0, n, size)
        ]
        times = torch.cat([part.t for part in parts])
        torch.testing.assert_close(times, whole.t, rtol=1e-14, atol=0)
        # means over the event may sum in another order; the drawn numbers are the same
        torch.testing.assert_close(
            torch.cat([part.per_sample for part in parts]), whole.per_sample, rtol=1e-6, atol=0
        )


def test_each_draw_of_an_objective_is_new():
    field, noise = mixture_2d(Flow()), Streams(0, range(4))
    x0 = torch.zeros(4, 2, dtype=F64)
    first, again = (Denoising()(field, Batch(x0), noise.rewound()) for _ in range(2))
    other = Denoising()(field, Batch(x0), Streams(1, range(4)))
    assert isinstance(first, Loss)
    assert torch.equal(first.per_sample, again.per_sample)
    assert not torch.equal(first.per_sample, other.per_sample)
    assert not torch.equal(first.t, other.t)


def test_a_batch_makes_a_condition_of_columns_and_leaves_it_out_on_demand():
    x = torch.zeros(2, 3)
    assert Batch(x, {}).condition is None
    batch = Batch(x, {"class": torch.tensor([3, 1]), "age": torch.tensor([[0.5], [1.0]])})
    assert isinstance(batch.condition, Condition)
    assert batch.condition.values["class"].tolist() == [3, 1]
    assert batch.condition.values["age"].tolist() == [[0.5], [1.0]]
    assert [mask.tolist() for mask in batch.condition.keep.values()] == [[True, True]] * 2
    assert batch.to("cpu").condition is batch.condition
    assert batch.to("cpu", conditional=False).condition is None
    assert batch.to("meta").condition.values["age"].device.type == "meta"
    with pytest.raises(InvalidArgument, match="3 rows for 2 samples"):
        Batch(x, {"class": torch.tensor([3, 1, 2])})


def test_impossible_objectives_are_refused():
    for drop in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidArgument, match="condition_dropout is"):
            Denoising(condition_dropout=drop)
    with pytest.raises(Unsupported, match="uniform times only"):
        Denoising(weight("likelihood"), LogNormal())
    for times in (Uniform(), Uniform(stratified=True)):
        assert Denoising(weight("likelihood"), times).times == times
    assert Denoising() == Denoising()
    for path in (Cosine(), EDM()):
        assert math.isfinite(
            float(
                Denoising(weight("edm"), LogNormal())(
                    mixture_2d(path),
                    Batch(torch.zeros(5, 2, dtype=F64)),
                    Streams(0, range(5)),
                ).value
            )
        )
