"""Continuous flows by maximum likelihood: exact densities, exact gradients, entropy reached."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from tests.exact import COVARIANCE_3D, MEAN_3D, Seen
from tests.small import Drawn, Small
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Condition, Denoiser, Field, Prediction
from unnoise.likelihood import log_likelihood
from unnoise.objectives import Batch, MaximumLikelihood
from unnoise.paths import Coupled, Flow, VPLinear
from unnoise.randomness import Streams


class Optimal(Field):
    """x0 = m + A·x1 for a symmetric A: carries N(m, A²) to N(0, I), linear at every time."""

    def __init__(self, mean, covariance):
        self.path, self.mean = Coupled(Flow()), mean
        values, self.basis = torch.linalg.eigh(covariance)
        self.root = values.sqrt()

    def __call__(self, x_t, t, condition=None):
        z = (x_t - (1 - t) * self.mean) @ self.basis / ((1 - t) * self.root + t)
        velocity = (z * (1 - self.root)) @ self.basis.T - self.mean
        return Prediction.of("velocity", velocity, x_t, t, self.path)


GAUSSIAN = torch.distributions.MultivariateNormal(MEAN_3D, COVARIANCE_3D)
X = Streams(0, range(6)).normal(3).double() + MEAN_3D


def test_the_density_of_a_linear_flow():
    field = Optimal(MEAN_3D, COVARIANCE_3D)
    errors = []
    for steps in (8, 16, 32):
        loss = MaximumLikelihood(steps)(field, Batch(X), Streams(0, range(6)))
        errors.append(float((loss.per_sample + GAUSSIAN.log_prob(X)).abs().max()))
    assert errors[2] < 1e-5
    assert errors[1] / errors[2] > 11  # order 4
    assert loss.value.item() == pytest.approx(float(loss.per_sample.mean()))
    other = MaximumLikelihood(400, "heun")(field, Batch(X), Streams(0, range(6)))
    torch.testing.assert_close(other.per_sample, -GAUSSIAN.log_prob(X), rtol=1e-5, atol=1e-5)
    # events of another shape
    shaped = MaximumLikelihood(32)(Shaped(field), Batch(X.reshape(6, 3, 1)), Streams(0, range(6)))
    torch.testing.assert_close(shaped.per_sample, loss.per_sample)


class Shaped(Field):
    def __init__(self, field):
        self.field, self.path = field, field.path

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t.flatten(1), t, condition)
        return Prediction(x_t, t, self.path, "velocity", said.value.reshape(x_t.shape))


class Signs:
    """Directions that are given."""

    def __init__(self, signs):
        self.signs = signs

    def purpose(self, name):
        assert name == "trace"
        return self

    def normal(self, *event):
        return 0.3 * self.signs


def test_the_estimated_trace_is_right_on_average():
    # over all signs of a direction the mean of vᵀ(∂v/∂x)v is the trace, exactly for a linear flow
    field = Optimal(MEAN_3D, COVARIANCE_3D)
    objective = MaximumLikelihood(8, trace="hutchinson")
    losses = [
        objective(field, Batch(X), Signs(torch.tensor(signs).expand(6, 3))).per_sample
        for signs in product((1.0, -1.0), repeat=3)
    ]
    exact = MaximumLikelihood(8)(field, Batch(X), Streams(0, range(6))).per_sample
    torch.testing.assert_close(torch.stack(losses).mean(0), exact, rtol=1e-10, atol=1e-10)
    assert float((losses[1] - exact).abs().max()) > 1e-3
    drawn = objective(field, Batch(X), Streams(0, range(6))).per_sample
    assert all(any(torch.isclose(d, one[i]) for one in losses) for i, d in enumerate(drawn))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_gradients_are_those_of_finite_differences(trace):
    network = Small(width=6).double()
    model = Denoiser(network, Coupled(Flow()), "velocity", preconditioned=True, data_std=0.7)
    batch = Batch(X[:3, :2])

    def loss():
        return MaximumLikelihood(3, trace=trace)(model, batch, Streams(0, range(3))).value

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        place, step, flat = int(gradient.abs().argmax()), 1e-5, parameter.data.view(-1)
        kept, ends = flat[place].item(), []
        for sign in (1, -1):
            flat[place] = kept + sign * step
            ends.append(loss().item())
        flat[place] = kept
        wanted = (ends[0] - ends[1]) / (2 * step)
        assert float(gradient.view(-1)[place]) == pytest.approx(wanted, rel=1e-7, abs=1e-10)


def test_conditions_reach_the_flow():
    class Shifting(Optimal):
        def __call__(self, x_t, t, condition=None):
            shift = Condition.of(condition, len(x_t)).values["class"].to(x_t)[:, None]
            said = super().__call__(x_t - (1 - t) * shift, t)
            return Prediction(x_t, t, self.path, "velocity", said.value - shift)

    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    batch = Batch(X, Condition({"class": labels}, torch.ones(6, dtype=torch.bool)))
    loss = MaximumLikelihood(32)(Shifting(MEAN_3D, COVARIANCE_3D), batch, Streams(0, range(6)))
    wanted = -GAUSSIAN.log_prob(X - labels[:, None])
    torch.testing.assert_close(loss.per_sample, wanted, rtol=0, atol=1e-4)


def test_a_network_reaches_the_entropy():
    mean, root = torch.tensor([1.0, -0.5]), torch.tensor([[0.6, 0.0], [0.5, 0.4]])
    entropy = math.log(2 * math.pi * math.e) + math.log(0.6 * 0.4)
    model = Denoiser(Small(), Coupled(Flow()), "velocity")
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    objective = MaximumLikelihood(2)

    def batch(noise):
        return Batch(noise.normal(2) @ root.T + mean)

    before = objective(model, batch(Drawn(9, 500)), Streams(0, range(500))).per_sample.mean()
    noise = Drawn(0, 128)
    for _ in range(100):
        loss = objective(model, batch(noise), noise)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    # measured finer than trained: it is the flow that learned, not its discretisation
    held = batch(Drawn(10, 2000))
    after = MaximumLikelihood(8)(model, held, Streams(0, range(2000))).per_sample
    truth = -torch.distributions.MultivariateNormal(mean, scale_tril=root).log_prob(held.x0)
    assert float(before) > entropy + 0.8
    assert abs(float((after - truth).mean())) < 0.06
    assert float(truth.mean()) == pytest.approx(entropy, abs=0.08)


def test_what_has_no_likelihood_is_refused():
    field = Optimal(MEAN_3D, COVARIANCE_3D)
    objective, noise = MaximumLikelihood(2), Streams(0, range(6))
    for path, match in [
        (Flow(), "promise a score; build the model on Coupled"),
        (Coupled(VPLinear()), "signal left"),
    ]:
        seen = Seen(field, "velocity")
        seen.path = path
        with pytest.raises(Unsupported, match=match):
            objective(seen, Batch(X), noise)
    seen.path = Coupled(Flow(), "data")
    with pytest.raises(InvalidArgument, match="ends at data"):
        objective(seen, Batch(X), noise)
    with pytest.raises(InvalidArgument, match="takes no source"):
        objective(field, Batch(X, source=X), noise)
    for options in (dict(steps=0), dict(tableau="rk5"), dict(trace="none")):
        with pytest.raises(InvalidArgument):
            MaximumLikelihood(**options)


def test_it_is_what_log_likelihood_measures():
    model = Denoiser(Small(3).double(), Coupled(Flow()), "velocity").requires_grad_(False)
    trained = MaximumLikelihood(24)(model, Batch(X), Streams(0, range(6))).per_sample
    measured = log_likelihood(model, X, tol=1e-8, data_std=0.0)
    torch.testing.assert_close(measured.nats, -trained, rtol=1e-6, atol=1e-6)
