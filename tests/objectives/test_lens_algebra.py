"""One object: a loss in one lens is the loss in another times a stated factor; any model answers
every lens and runs on every path."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tests.exact import F64, IDS, PATHS, Seen, inner_times
from unnoise.fields import LENSES, Denoiser
from unnoise.networks import Mlp
from unnoise.objectives import Batch, Denoising, TimeDistribution, lens_factor, weight
from unnoise.paths import VPLinear
from unnoise.randomness import Streams
from unnoise.solvers import get

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)


class At(TimeDistribution):
    """Given times."""

    def __init__(self, t):
        object.__setattr__(self, "t", t)

    def sample(self, path, noise, *place):
        return self.t

    def quantile(self, path, u):
        raise NotImplementedError


def random_model(path, predicts="v", seed=0):
    """A network nobody trained, with every weight away from zero."""
    network = Mlp(3, width=16, depth=2, seed=seed).double()
    with torch.no_grad():
        for k, p in enumerate(network.parameters()):
            p.add_(0.3 * Streams(seed, [k]).normal(*p.shape)[0].double())
    return Denoiser(network, path, predicts).requires_grad_(False)


def unweighted(model, lens, batch, t):
    """mean‖error‖² of the model's answer in `lens`, by the objective itself."""
    seen = Seen(model, lens)
    loss = Denoising(weight("simple"), At(t))(seen, batch, Streams(5, range(len(t))))
    return loss.per_sample / weight("simple").on(lens, model.path, t)


@every_path
def test_a_loss_in_one_lens_is_its_loss_in_another_times_the_factor(path):
    t = inner_times(path, least=0.05, count=24)
    batch = Batch(Streams(1, range(24)).normal(3).double())
    model = random_model(path)
    losses = {lens: unweighted(model, lens, batch, t) for lens in LENSES}
    for source, target in product(LENSES, LENSES):
        factor = lens_factor(path, source, target, t)
        torch.testing.assert_close(losses[target], factor * losses[source], rtol=1e-10, atol=0)


@every_path
def test_the_factors_in_words(path):
    t = inner_times(path, least=1e-2)
    alpha, sigma = path.alpha(t), path.sigma(t)
    wronskian = alpha * path.sigma_rate(t) - sigma * path.alpha_rate(t)
    for (source, target), wanted in {
        ("eps", "x0"): (sigma / alpha) ** 2,
        ("eps", "score"): sigma**-2,
        ("x0", "v"): ((alpha**2 + sigma**2) / sigma) ** 2,
        ("x0", "velocity"): (wronskian / sigma) ** 2,
        ("velocity", "score"): (alpha / (sigma * wronskian)) ** 2,
    }.items():
        torch.testing.assert_close(lens_factor(path, source, target, t), wanted, rtol=1e-10, atol=0)
    for a, b, c in product(LENSES, LENSES, LENSES):
        through = lens_factor(path, a, b, t) * lens_factor(path, b, c, t)
        torch.testing.assert_close(through, lens_factor(path, a, c, t), rtol=1e-10, atol=0)


@every_path
@pytest.mark.parametrize("predicts", ["eps", "v", "velocity"])
def test_a_network_trained_on_one_path_runs_on_every_other(path, predicts):
    """x/√(α² + σ²) along a trajectory depends on the log-SNR alone, whatever path it is on."""
    own = VPLinear()
    model = random_model(own, predicts)
    ranges = (own.log_snr_range(), path.log_snr_range(), (-3.0, 3.0))
    low, high = max(r[0] for r in ranges) + 1e-3, min(r[1] for r in ranges) - 1e-3
    levels = torch.linspace(low, high, 6, dtype=F64)
    x = Streams(2, range(3)).normal(3).double()
    ends = []
    for walked in (own, path):
        grid = walked.time(levels)
        size = torch.hypot(walked.alpha(grid), walked.sigma(grid))
        for lens in LENSES:
            field = Seen(model.on_path(walked), lens)
            out = get("dpmpp_2m").solve(field, x * size[0], grid).x
            ends.append(out / size[-1])
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-6)
    assert float((ends[0] - x).abs().max()) > 0.1  # it went somewhere
