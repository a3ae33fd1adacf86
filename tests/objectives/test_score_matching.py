"""Score matching by quadrature: every objective is the Fisher divergence up to a constant."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from tests.exact import F64, Seen, gaussian_elementwise, mixture_1d, mixture_2d
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Field, Prediction
from unnoise.objectives import (
    Batch,
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    Ladder,
    LogNormal,
    OneLevel,
    SlicedScoreMatching,
    denoising_score_matching,
    ncsn,
    weight,
)
from unnoise.paths import EDM, VE, Flow, SubVP, VPLinear
from unnoise.randomness import Streams


def gauss_hermite(count: int):
    """Nodes and shares of a mean over N(0, 1)."""
    nodes, shares = (torch.from_numpy(v) for v in hermegauss(count))
    return nodes, shares / shares.sum()


(NODES, SHARES), MANY = gauss_hermite(60), gauss_hermite(200)
WEIGHTS, MEANS, VARIANCES = (
    torch.tensor(values, dtype=F64) for values in ((0.4, 0.6), (-1.0, 1.5), (0.09, 0.04))
)


class Given(Streams):
    """Noise that is given: ε from `eps`, times at the middle, projections from `directions`."""

    def __init__(self, eps, directions=None):
        self.eps, self.directions = eps, directions
        self.asked = ""

    def purpose(self, name):
        other = Given(self.eps, self.directions)
        other.asked = name
        return other

    def normal(self, *event):
        if self.asked == "projections":
            return self.directions.expand(len(self.eps), *event)
        return self.eps

    def uniform(self, *event):
        return torch.full((len(self.eps),), 0.5)

    def integers(self, high, *event):
        return (self.directions.expand(len(self.eps), *event) + 1) / 2


def quadrature(noisy: bool):
    """(x0, ε, share) of nodes over data and noise: exact for polynomials of degree 119."""
    nodes, shares = (NODES, SHARES) if noisy else MANY
    x0 = MEANS[:, None] + VARIANCES.sqrt()[:, None] * nodes
    share = WEIGHTS[:, None] * shares
    if not noisy:
        return x0.reshape(-1, 1), torch.zeros(x0.numel(), 1, dtype=F64), share.flatten()
    x0, share = x0.reshape(-1, 1), share.reshape(-1, 1)
    eps = NODES.expand(len(x0), -1).reshape(-1, 1)
    return x0.repeat_interleave(len(NODES), 0), eps, (share * SHARES).flatten()


class Says(Field):
    """A score written down, said in any lens."""

    def __init__(self, path, score, lens="score"):
        self.path, self.score, self.lens = path, score, lens

    def __call__(self, x_t, t, condition=None):
        said = Prediction.of("score", self.score(x_t), x_t, t, self.path)
        return said if self.lens == "score" else said.with_value(self.lens, said.as_lens(self.lens))


SCORES = {
    "sine": lambda x: 0.5 - x + 0.7 * (1.3 * x).sin(),
    "cubic": lambda x: 0.3 * x - 0.1 * x**3 + 0.2,
    "linear": lambda x: -1.7 * (x - 0.4),
}
LEVEL = {"data": (EDM(), 0.0), "ve": (VE(), 0.7), "vp": (VPLinear(), 0.4), "flow": (Flow(), 0.5)}


def noiseless(rule, **settings):
    """The three objectives without a target, at one level."""
    return {
        "implicit": ImplicitScoreMatching(rule, **settings),
        "sliced": SlicedScoreMatching(rule, projections=2, **settings),
        "sliced, square projected": SlicedScoreMatching(rule, variance_reduced=False, **settings),
        "sliced gaussian": SlicedScoreMatching(rule, distribution="gaussian", **settings),
    }


def divergence(field, score, t):
    """½E‖s − s*‖² under p_t of the mixture, by the trapezoidal rule: exact to rounding."""
    x = torch.linspace(-14, 14, 20001, dtype=F64)[:, None].requires_grad_()
    log_density = field.log_density(x, t)
    exact = torch.autograd.grad(log_density.sum(), x)[0]
    square = 0.5 * log_density.exp() * (score(x) - exact)[:, 0] ** 2
    return float(torch.trapezoid(square.detach(), x[:, 0].detach()))


@pytest.mark.parametrize("level", LEVEL)
@pytest.mark.parametrize("name", [*noiseless(weight("score")), "denoising"])
def test_objectives_differ_as_fisher_divergences_do(name, level):
    path, sigma = LEVEL[level]
    if name == "denoising" and sigma == 0:
        pytest.skip("refused where there is no noise: tested below")
    x0, eps, share = quadrature(sigma > 0)
    if name == "denoising":
        objective = denoising_score_matching(sigma)
    else:
        objective = noiseless(weight("score"), times=OneLevel(sigma=sigma))[name]
    t = float(objective.times.quantile(path, torch.ones(1, dtype=F64)))
    values, wanted = [], []
    for score in SCORES.values():
        loss = objective(
            Says(path, score), Batch(x0), Given(eps, torch.ones(1, 1, 1, dtype=F64))
        ).per_sample
        # the mean of a squared error is twice the half
        values.append(float(share @ loss) / (2 if name == "denoising" else 1))
        wanted.append(divergence(mixture_1d(path), score, t))
    for (a, b), (c, d) in zip(itertools.pairwise(values), itertools.pairwise(wanted), strict=True):
        assert a - b == pytest.approx(c - d, abs=1e-8)


def test_gaussian_projections_are_exact_in_the_mean():
    """Three Gauss–Hermite nodes a direction have the moments of a normal number up to the fifth."""
    nodes, shares = gauss_hermite(3)
    _check_projections("gaussian", nodes, shares)


def test_rademacher_projections_are_exact_in_the_mean():
    _check_projections(
        "rademacher", torch.tensor([-1.0, 1.0], dtype=F64), torch.tensor([0.5, 0.5], dtype=F64)
    )


def turning(x):
    """A score whose Jacobian is neither symmetric nor constant, on events (2, 2)."""
    a, b, c, d = x.flatten(1).unbind(1)
    rows = (a * b - c, (b + 2 * d).sin() + a, c * a**2 + d, d**3 - 2 * a * c)
    return torch.stack(rows, 1).reshape(x.shape)


def turning_risk(x):
    """½‖s‖² + tr ∂s/∂x of the score above, by hand."""
    a, b, _, d = x.flatten(1).unbind(1)
    trace = b + (b + 2 * d).cos() + a**2 + 3 * d**2
    return 0.5 * turning(x).square().flatten(1).sum(1) + trace


def _check_projections(distribution, nodes, shares):
    x = Streams(0, range(3)).normal(2, 2).double()
    path, wanted = EDM(), turning_risk(x)
    settings = dict(times=OneLevel(sigma=0.0), distribution=distribution)
    model = Says(path, turning)
    for reduced in (True, False):
        objective = SlicedScoreMatching(weight("score"), variance_reduced=reduced, **settings)
        mean = torch.zeros(3, dtype=F64)
        for pick in itertools.product(range(len(nodes)), repeat=4):
            direction = nodes[list(pick)].reshape(1, 1, 2, 2)
            loss = objective(model, Batch(x), Given(torch.zeros_like(x), direction))
            mean += shares[list(pick)].prod() * loss.per_sample
        torch.testing.assert_close(mean, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keep", [True, False])
def test_the_trace_is_exact_for_any_event_shape(keep):
    x = Streams(0, range(5)).normal(2, 2).double()
    objective = ImplicitScoreMatching(weight("score"), OneLevel(sigma=0.0))
    with torch.set_grad_enabled(keep):
        loss = objective(Says(EDM(), turning), Batch(x), Given(torch.zeros_like(x)))
    torch.testing.assert_close(loss.per_sample, turning_risk(x), rtol=1e-13, atol=1e-13)


def test_finite_differences_are_off_by_the_square_of_their_step():
    x = 0.5 * Streams(0, range(6)).normal(2, 2).double()
    signs = [torch.tensor(s, dtype=F64) for s in itertools.product((-1.0, 1.0), repeat=4)]
    for sigma, path in ((0.0, EDM()), (0.5, VE())):
        eps, errors = torch.zeros_like(x), []
        for step in (0.05, 0.025, 0.0125):
            objective = FiniteDifferenceScoreMatching(
                weight("score"), OneLevel(sigma=sigma), step=step
            )
            losses = [
                objective(Says(path, turning), Batch(x), Given(eps, s.reshape(1, 1, 2, 2)))
                for s in signs
            ]
            mean = torch.stack([loss.per_sample for loss in losses]).mean(0)
            errors.append(mean - turning_risk(x))
        sizes = [float(error.abs().sum()) for error in errors]
        assert sizes[0] > 2e-3
        assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.03)
        assert sizes[1] / sizes[2] == pytest.approx(4, rel=0.01)
        # in units of σ(t): the same displacement is twice the step at half the level
        if sigma:
            half = FiniteDifferenceScoreMatching(
                weight("score"), OneLevel(sigma=sigma / 2), step=2 * step
            )
            same = half(Says(path, turning), Batch(x), Given(eps, signs[3].reshape(1, 1, 2, 2)))
            torch.testing.assert_close(same.per_sample, losses[3].per_sample)


def test_finite_differences_are_exact_for_linear_scores_up_to_their_square():
    """(s⁺ + s⁻)/2 = s and (s⁺ − s⁻)/2h = Jv where s is linear, however large the step."""
    x0, eps, _ = quadrature(True)
    settings = dict(weight=weight("score"), times=OneLevel(sigma=0.7))
    model, noise = Says(VE(), SCORES["linear"]), Given(eps, torch.ones(1, 1, 1, dtype=F64))
    exact = ImplicitScoreMatching(**settings)(model, Batch(x0), noise)
    for step in (0.1, 3.0):
        got = FiniteDifferenceScoreMatching(**settings, step=step)(model, Batch(x0), noise)
        torch.testing.assert_close(got.per_sample, exact.per_sample, rtol=1e-10, atol=1e-10)


class Free(Field):
    """The score of a mixture of two normals, from (log weights, means, log variances)."""

    def __init__(self, path, at):
        self.path, self.at = path, at

    def __call__(self, x_t, t, condition=None):
        w, m, v = self.at[:2].softmax(0), self.at[2:4], self.at[4:].exp()
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        total, z = alpha**2 * v + sigma**2, x_t - alpha * m
        share = (w.log() - 0.5 * total.log() - 0.5 * z**2 / total).softmax(1)
        return Prediction.of("score", -(share * z / total).sum(1, True), x_t, t, self.path)


@pytest.mark.parametrize("level", LEVEL)
@pytest.mark.parametrize("name", [*noiseless(weight("score")), "denoising"])
def test_the_true_parameters_of_a_mixture_are_a_minimum(name, level):
    """The slope in every weight, mean and variance is zero at the truth and nowhere near it."""
    path, sigma = LEVEL[level]
    if name == "denoising" and sigma == 0:
        pytest.skip("refused where there is no noise: tested below")
    x0, eps, share = quadrature(sigma > 0)
    noise = Given(eps, torch.ones(1, 1, 1, dtype=F64))
    if name == "denoising":
        objective = denoising_score_matching(sigma)
    else:
        objective = noiseless(weight("score"), times=OneLevel(sigma=sigma))[name]
    truth, h = torch.cat([WEIGHTS.log(), MEANS, VARIANCES.log()]), 1e-3

    def value(at):
        return float(share @ objective(Free(path, at), Batch(x0), noise).per_sample)

    best = value(truth)
    for direction in torch.eye(6, dtype=F64)[1:]:
        near, far = (
            value(truth + k * h * direction) - value(truth - k * h * direction) for k in (1, 2)
        )
        assert abs(8 * near - far) / (12 * h) < 1e-5  # the nodes leave 4e-6
        for side in (-0.2, 0.2):
            # without noise the weights of modes this far apart hardly count: 1e-6 is the gain
            assert value(truth + side * direction) > best + 1e-6


def test_without_noise_the_weights_of_far_modes_hardly_count():
    """Why a ladder of noise is needed (Song & Ermon 2019, sec. 3.2): the same error in the weights
    costs 300 times less on the data itself than at a noise that joins the modes."""
    costs = []
    for level in ("data", "ve"):
        path, sigma = LEVEL[level]
        x0, eps, share = quadrature(sigma > 0)
        objective = ImplicitScoreMatching(weight("score"), OneLevel(sigma=sigma))
        loss = [
            share @ objective(Free(path, at), Batch(x0), Given(eps)).per_sample
            for at in (
                torch.cat([w.log(), MEANS, VARIANCES.log()])
                for w in (WEIGHTS, torch.tensor([0.6, 0.4], dtype=F64))
            )
        ]
        costs.append(float(loss[1] - loss[0]))
    assert 0 < costs[0] < costs[1] / 300


@pytest.mark.parametrize("path", [VE(), VPLinear(), SubVP(), Flow()], ids=str)
@pytest.mark.parametrize("lens", ["x0", "eps", "v", "velocity"])
def test_a_model_has_one_loss_whatever_lens_it_predicts(path, lens):
    x0 = Streams(0, range(6)).normal(2).double()
    field = mixture_2d(path)
    for make in (ImplicitScoreMatching, SlicedScoreMatching, FiniteDifferenceScoreMatching):
        for name in ("simple", "score", "velocity", "likelihood"):
            objective = make(weight(name))
            losses = [
                objective(model, Batch(x0), Streams(1, range(6))).per_sample
                for model in (Seen(field, "score"), Seen(field, lens))
            ]
            torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)


def test_the_noise_conditional_form_weighs_each_level_with_its_variance():
    """λ(σ) = σ² by default, the data's own times drawn from a ladder."""
    path, n = VE(0.05, 5.0), 40
    model, x0 = mixture_2d(path), Streams(0, range(n)).normal(2).double()
    ladder = Ladder(levels=4)
    plain, weighed = (
        ImplicitScoreMatching(weight(name), ladder)(model, Batch(x0), Streams(1, range(n)))
        for name in ("score", "simple")
    )
    sigma = path.sigma(weighed.t)
    assert torch.equal(plain.t, weighed.t)
    levels = (sigma / 0.05).log() / math.log(100) * 3
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    assert len(levels.round().unique()) == 4
    torch.testing.assert_close(weighed.per_sample, sigma**2 * plain.per_sample)
    torch.testing.assert_close(weighed.value, weighed.per_sample.mean())
    # ½‖s‖² + tr ∂s at the exact score, by automatic differentiation of the density
    x = path.diffuse(x0, Streams(1, range(n)).normal(2).double(), plain.t).requires_grad_()
    slope = torch.autograd.grad(model.log_density(x, plain.t).sum(), x, create_graph=True)[0]
    trace = sum(
        torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in (0, 1)
    )
    torch.testing.assert_close(plain.per_sample, 0.5 * slope.detach().square().sum(1) + trace)


def test_ncsn_is_denoising_on_a_ladder():
    """λ(σ)·‖s + ε/σ‖² with λ = σ², at each σ of the ladder (Song & Ermon 2019, eqs. 5 and 6)."""
    path, n = VE(0.01, 1.0), 32
    x0 = Streams(0, range(n)).normal(2).double()
    for levels in (10, None):
        loss = ncsn(levels)(Seen(mixture_2d(path), "score"), Batch(x0), Streams(1, range(n)))
        sigma, eps = path.sigma(loss.t), Streams(1, range(n)).normal(2).double()
        score = mixture_2d(path)(x0 + sigma[:, None] * eps, loss.t).score
        wanted = sigma**2 * (score + eps / sigma[:, None]).square().mean(1)
        torch.testing.assert_close(loss.per_sample, wanted, rtol=1e-9, atol=1e-12)
        step = (sigma / 0.01).log() / math.log(100) * 9
        assert bool(((step - step.round()).abs() < 1e-9).all()) == (levels == 10)


def test_a_samples_loss_does_not_depend_on_its_batch():
    n, path = 16, VPLinear()
    field = gaussian_elementwise(path, (3,))
    x0 = Streams(0, range(n)).normal(3).double()
    for objective in (
        SlicedScoreMatching(projections=3),
        SlicedScoreMatching(projections=2, distribution="gaussian"),
        FiniteDifferenceScoreMatching(projections=2),
        ImplicitScoreMatching(),
    ):
        whole = objective(field, Batch(x0), Streams(9, range(n))).per_sample
        parts = [
            objective(field, Batch(x0[i : i + 4]), Streams(9, range(i, i + 4))).per_sample
            for i in range(0, n, 4)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_projections_have_unit_covariance_and_are_new_for_each_sample(distribution):
    objective = SlicedScoreMatching(projections=2, distribution=distribution)
    x = torch.zeros(4000, 3, dtype=F64)
    drawn = objective.draw(x, Streams(0, range(4000)).purpose("projections"))
    assert drawn.shape == (2, 4000, 3)
    rows = drawn.transpose(0, 1).reshape(4000, 6)
    covariance = rows.T @ rows / 4000
    error = math.sqrt(2 / 4000)
    assert float((covariance - torch.eye(6, dtype=F64)).abs().max()) < 4 * error
    assert float(rows.mean(0).abs().max()) < 4 / math.sqrt(4000)
    assert (distribution == "rademacher") == (set(rows.unique().tolist()) == {-1.0, 1.0})


def test_what_cannot_be_is_refused():
    x0, noise = torch.zeros(2, 2, dtype=F64), Streams(0, range(2))
    with pytest.raises(Unsupported, match="nothing to denoise at noise level 0"):
        denoising_score_matching(0.0)
    with pytest.raises(Unsupported, match="does not determine score at t = 0"):
        ImplicitScoreMatching(weight("score"), OneLevel(sigma=0.0))(
            mixture_2d(EDM()), Batch(x0), noise
        )
    with pytest.raises(Unsupported, match="uniform times only"):
        SlicedScoreMatching(weight("likelihood"), LogNormal())
    for make, says in (
        (lambda: SlicedScoreMatching(projections=0), "projections is 0"),
        (lambda: SlicedScoreMatching(distribution="normal"), "known: gaussian, rademacher"),
        (lambda: FiniteDifferenceScoreMatching(step=0.0), "step is 0.0"),
        (lambda: FiniteDifferenceScoreMatching(step=math.nan), "step is nan"),
        (lambda: ImplicitScoreMatching(condition_dropout=1.5), "dropout is 1.5"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            make()
    with pytest.raises(Unsupported, match="source"):
        ImplicitScoreMatching()(mixture_2d(VE()), Batch(x0, source=x0), noise)
