"""The bound as an objective: what it sums to, what it trains, and where its minimum lies."""

import math

import pytest
import torch
from torch import nn

from tests.exact import F64, Seen
from tests.likelihood.gaussians import Signs, WithFraction, best_fraction, gaussian
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Denoiser, Field, Gaussian, Prediction
from unnoise.likelihood import Levels, variational_bound
from unnoise.objectives import (
    Batch,
    Denoising,
    LogNormal,
    LossHistory,
    Uniform,
    Variational,
    weight,
)
from unnoise.paths import VE, Chain, Coupled, Flow, VPLinear
from unnoise.randomness import Streams

CHAIN = Chain.linear(6, 0.05, 0.5)
PATH = CHAIN.as_path()


class AtSteps(Signs):
    """Noise of ±1 and given places in the sum over the terms, 1 … T."""

    def __init__(self, terms, total):
        super().__init__(len(terms))
        self.terms, self.total = terms, total

    def uniform(self):
        return 1 - (torch.tensor(self.terms, dtype=F64) - 0.5) / self.total


def every_term(total):
    return AtSteps([term for term in range(1, total + 1) for _ in (1, -1)], total)


@pytest.mark.parametrize("variance", ["learned", "posterior", "transition"])
@pytest.mark.parametrize("lens", ["x0", "eps", "v"])
@pytest.mark.parametrize("levels", [None, Levels((-4.0,), (4.0,), 81)])
@pytest.mark.parametrize(
    ("path", "steps"), [(PATH, None), (VPLinear(), 6), (VE(0.05, 9.0), 5)], ids=str
)
def test_its_terms_are_those_of_the_bound(path, steps, variance, lens, levels):
    field = WithFraction(Seen(gaussian(path), lens), lambda t: 0.2 + 0.5 * t)
    noise = every_term(6)  # VE: five steps, and the decoder at its end
    x = torch.full((12, 1), 0.7, dtype=F64)
    made = Variational(None, variance=variance, steps=steps, levels=levels)(field, Batch(x), noise)
    terms = made.per_sample.unflatten(0, (6, 2)).mean(1) * math.log(2) / 6
    bound = variational_bound(field, x[:2], Signs(2), grid=steps, variance=variance, levels=levels)
    torch.testing.assert_close(terms[0], bound.reconstruction.mean(), rtol=1e-10, atol=0)
    torch.testing.assert_close(terms[1:], bound.diffusion.mean(0), rtol=1e-10, atol=1e-13)
    assert float(made.value) == pytest.approx(float(made.per_sample.mean()))
    assert len(made.t.unique()) == 6


class Learned(Field):
    """The exact mean with an error that can be trained, and one fraction a step."""

    def __init__(self, field, fractions, error=0.0, lens="eps"):
        self.field, self.path, self.lens = field, field.path, lens
        self.fractions = torch.tensor(fractions, dtype=F64, requires_grad=True)
        self.error = torch.tensor(error, dtype=F64, requires_grad=True)

    def __call__(self, x_t, t, condition=None):
        value = self.field(x_t, t).as_lens(self.lens) + self.error
        n = (t * self.path.chain.steps).round().long()
        fraction = self.fractions[n].reshape(-1, 1).expand(x_t.shape)
        return Prediction(x_t, t, self.path, self.lens, value, variance_fraction=fraction)


def exact_pairs(mean=0.4, variance=0.6):
    """Every sign of x0 and of ε at every term: exact means over data and noise."""
    up = torch.tensor([1.0, -1.0], dtype=F64)
    terms = [term for term in range(1, 7) for _ in range(4)]
    x0 = mean + math.sqrt(variance) * up.repeat_interleave(2).repeat(6)
    return Batch(x0[:, None]), AtSteps(terms, 6)


@pytest.mark.parametrize("objective", [Variational(None), Variational(weight("simple"), 0.001)])
def test_its_minimum_is_the_true_variance_of_the_reverse_step(objective):
    """Closed form: Var[x_{n−1}|x_n] = β̃ + on_x0²·Var[x0|x_n] for Gaussian data."""
    best = [0.0, 0.0] + [best_fraction(PATH, 0.6, (n - 1) / 6, n / 6) for n in range(2, 7)]
    for n in range(2, 7):  # the same said with the chain's own posterior
        q, a = CHAIN.posterior(n), CHAIN.alpha_bar(n)
        left = 0.6 * (1 - a) / (a * 0.6 + 1 - a)
        true = q.variance + q.on_x0**2 * left
        v = math.log(true / CHAIN.beta_tilde(n)) / math.log(CHAIN.beta(n) / CHAIN.beta_tilde(n))
        assert best[n] == pytest.approx(v, rel=1e-9)
    left = 0.6 * CHAIN.beta(1) / (CHAIN.alpha_bar(1) * 0.6 + CHAIN.beta(1))  # of the decoder
    low, high = math.log(CHAIN.beta_tilde(2)), math.log(CHAIN.beta(1))
    best[1] = (math.log(left) - low) / (high - low)
    batch, noise = exact_pairs()
    model = Learned(gaussian(PATH), best)
    objective(model, batch, noise).value.backward()
    torch.testing.assert_close(model.fractions.grad, torch.zeros(7, dtype=F64), rtol=0, atol=1e-12)
    if objective.weight is None:  # and the mean is at its best too
        assert float(model.error.grad) == pytest.approx(0, abs=1e-12)
    for n in range(1, 7):  # the minimum, not just a point without slope
        for move in (-0.1, 0.1):
            other = Learned(gaussian(PATH), [v + move * (k == n) for k, v in enumerate(best)])
            made = objective(other, batch, noise)
            made.value.backward()
            assert float(other.fractions.grad[n]) * move > 1e-9


def test_descent_finds_it():
    batch, noise = exact_pairs()
    model = Learned(gaussian(PATH), [0.5] * 7)
    optimizer = torch.optim.LBFGS([model.fractions], max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = Variational(None)(model, batch, noise).value
        value.backward()
        return value

    optimizer.step(loss)
    best = [best_fraction(PATH, 0.6, (n - 1) / 6, n / 6) for n in range(2, 7)]
    torch.testing.assert_close(
        model.fractions.detach()[2:], torch.tensor(best, dtype=F64), rtol=1e-3, atol=1e-3
    )


def test_beside_denoising_the_bound_leaves_the_mean_alone():
    batch, noise = exact_pairs()
    grads = {}
    for name, objective in {
        "hybrid": Variational(weight("simple"), 0.3),
        "bound": Variational(None, 0.3),
        "denoising": None,
    }.items():
        model = Learned(gaussian(PATH), [0.3] * 7, error=0.25)
        if objective is None:
            t = torch.tensor(noise.terms, dtype=F64) / 6
            said = model(PATH.diffuse(batch.x0, noise.normal(1), t), t)
            (said.value - noise.normal(1)).square().mean().backward()
            grads[name] = (None, float(model.error.grad))
            continue
        objective(model, batch, noise).value.backward()
        grads[name] = (model.fractions.grad, float(model.error.grad))
    assert grads["hybrid"][1] == pytest.approx(grads["denoising"][1], rel=1e-12)
    assert abs(grads["bound"][1] - grads["denoising"][1]) > 0.01
    torch.testing.assert_close(grads["hybrid"][0], grads["bound"][0], rtol=1e-12, atol=0)


def test_the_hybrid_loss_is_the_sum_of_its_parts():
    batch, noise = exact_pairs()
    model = Learned(gaussian(PATH), [0.3] * 7, error=0.25)
    whole = Variational(weight("simple"), 0.001)(model, batch, noise)
    bound = Variational(None)(model, batch, noise)
    t = whole.t
    said = model(PATH.diffuse(batch.x0, noise.normal(1), t), t)
    simple = (said.value - noise.normal(1)).square().mean(1)
    torch.testing.assert_close(whole.per_sample, (simple + 0.001 * bound.per_sample).detach())


class Twice(nn.Module):
    """A network of twice the channels: two linear maps of its input."""

    def __init__(self, channels):
        super().__init__()
        self.map = nn.Linear(channels, 2 * channels, dtype=F64)

    def forward(self, x, level, condition=None):
        return self.map(x)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_a_denoiser_says_half_of_its_answer_as_a_fraction(predicts):
    network = Twice(3)
    x, t = (
        torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0)),
        torch.tensor(0.5),
    )
    said = Denoiser(network, PATH, predicts, preconditioned=True, learned_variance=True)(x, t)

    class First(nn.Module):
        def forward(self, x, level, condition=None):
            return network(x, level)[:, :3]

    plain = Denoiser(First(), PATH, predicts, preconditioned=True)(x, t)
    assert torch.equal(said.value, plain.value)
    assert plain.variance_fraction is None
    torch.testing.assert_close(said.variance_fraction, (network(x, t)[:, 3:] + 1) / 2)
    with pytest.raises(InvalidArgument, match="channels_out=6"):
        Denoiser(First(), PATH, predicts, learned_variance=True)(x, t)


def test_the_fraction_travels_with_the_prediction():
    from unnoise.fields import mix
    from unnoise.guidance import classifier_free

    x, t = torch.zeros(2, 1, dtype=F64), torch.tensor(0.2, dtype=F64)
    field = WithFraction(gaussian(PATH), lambda t: 0.3)
    said = field(x, t)
    assert torch.equal(said.with_value("eps", said.eps).variance_fraction, said.variance_fraction)
    assert torch.equal(
        field.conditioned({"class": 0}).field(x, t).variance_fraction, said.variance_fraction
    )
    other = WithFraction(gaussian(PATH), lambda t: 0.9)(x, t)
    assert torch.equal(mix(said, other, 2.0).variance_fraction, other.variance_fraction)
    assert field.on_path(VPLinear())(x, t).variance_fraction is None

    class Conditional(Field):
        path = PATH

        def __call__(self, x_t, t, condition=None):
            said = gaussian(PATH)(x_t, t)
            said.variance_fraction = condition.keep["class"].double()[:, None].expand(x_t.shape)
            return said

    guided = classifier_free(Conditional(), 2.0)(x, t, {"class": 0})
    assert guided.variance_fraction.tolist() == [[1.0], [1.0]]  # that of the conditional half


def test_held_out_data_keep_their_condition_and_leave_no_trace():
    objective = Variational(None, times=LossHistory(), condition_dropout=0.5)
    other = objective.held_out()
    assert other.condition_dropout == 0
    assert isinstance(other.times, Uniform)
    assert Variational(None).state() == {}


def test_what_cannot_be_is_refused():
    x, noise = Batch(torch.zeros(2, 1, dtype=F64)), Streams(0, range(2))
    with pytest.raises(Unsupported, match="train nothing"):
        Variational(weight("simple"), variance="posterior")
    with pytest.raises(InvalidArgument, match="scale is 0"):
        Variational(None, scale=0)
    with pytest.raises(InvalidArgument, match="condition_dropout is 2"):
        Variational(None, condition_dropout=2)
    with pytest.raises(Unsupported, match="Uniform or LossHistory"):
        Variational(None, times=LogNormal())
    with pytest.raises(InvalidArgument, match="say how many"):
        Variational(None, variance="posterior")(gaussian(Flow()), x, noise)
    with pytest.raises(Unsupported, match="learned_variance=true"):
        Variational(None)(gaussian(PATH), x, noise)
    with pytest.raises(Unsupported):
        Variational(None, variance="posterior", steps=5)(
            Gaussian(torch.zeros(1, dtype=F64), 1.0, Coupled(Flow())), x, noise
        )
    assert Denoising(condition_dropout=0.3).held_out() == Denoising()
