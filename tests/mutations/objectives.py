"""Bugs in objectives: weights, times, score matching, bounds; and in transport."""

import torch

from unnoise.objectives import history, score_matching, times, variational, weights
from unnoise.transport import interpolant

from .planting import module, mutation

straightness = module("transport.straightness")  # hidden by its function

WEIGHTS, TIMES = "tests/objectives/test_weights.py", "tests/objectives/test_times.py"
MATCHING, HISTORY = "tests/objectives/test_score_matching.py", "tests/objectives/test_history.py"
VARIATIONAL = "tests/objectives/test_variational.py"
EXACT, STRAIGHT = "tests/transport/test_exact.py", "tests/transport/test_straightness.py"


@mutation("min-SNR weight in the wrong lens", f"{WEIGHTS}::test_min_snr_as_published")
def _(patch):
    _, rule, default = weights._WEIGHTS["min_snr"]
    patch.item(weights._WEIGHTS, "min_snr", ("eps", rule, default))


@mutation("edm weight: the deviation for its square", f"{WEIGHTS}::test_edm_weight_as_published")
def _(patch):
    def rule(lam, std):
        return (2 * lam).exp() + std**-1

    patch.item(weights._WEIGHTS, "edm", ("x0", rule, 0.5))


@mutation(
    "weight: the determinants' ratio without its square",
    f"{WEIGHTS}::test_a_wrong_prediction_costs_the_same_in_every_lens",
    "tests/objectives/test_lens_algebra.py::test_the_factors_in_words",
)
def _(patch):
    patch.result(weights, "lens_factor", lambda factor, *_: factor.sqrt())


@mutation(
    "likelihood weight: half of it",
    f"{WEIGHTS}::test_likelihood_weight_is_half_the_rate_of_the_log_snr",
)
def _(patch):
    def wrong(value, rule, lens, path, t):
        return value / 2 if rule.name == "likelihood" else value

    patch.result(weights.Weight, "on", wrong)


@mutation(
    "times: stratified over a part of the batch",
    "tests/training/test_loop.py::test_accumulated_parts_are_one_batch",
)
def _(patch):
    patch.around(
        times.TimeDistribution,
        "sample",
        lambda right: lambda self, path, noise, start=0, whole=None: right(self, path, noise),
    )


@mutation("times: t = 0 is drawn", f"{TIMES}::test_times_are_never_zero_and_never_beyond_one")
def _(patch):
    def wrap(right):
        return lambda self, path, noise, start=0, whole=None: right(
            self, path, _Zero(noise), start, whole
        )

    patch.around(times.TimeDistribution, "sample", wrap)


class _Zero:
    """Streams whose uniform numbers reach 1, which a draw from [0, 1) never does."""

    def __init__(self, noise):
        self.noise = noise

    def uniform(self):
        return torch.ones_like(self.noise.uniform())


@mutation(
    "times: the log-normal law is clamped, not truncated",
    f"{TIMES}::test_log_normal_is_truncated_to_the_paths_range",
)
def _(patch):
    def wrong(self, path, u):
        low, high = (-lam for lam in reversed(path.log_snr_range()))
        z = torch.special.ndtri(u.clamp(1e-300, 1 - 1e-16))
        return path.time(-(self.mean + self.std * z).clamp(low, high)).clamp(1e-300, 1.0)

    patch.attribute(times.LogNormal, "quantile", wrong)


@mutation(
    "times: a chain's last step is left out",
    f"{TIMES}::test_on_chain_every_step_has_the_same_share",
)
def _(patch):
    patch.attribute(
        times.OnChain,
        "quantile",
        lambda self, path, u: (u * path.chain.steps).floor().clamp(min=1) / path.chain.steps,
    )


@mutation(
    "score matching: the square without its half",
    f"{MATCHING}::test_objectives_differ_as_fisher_divergences_do",
)
def _(patch):
    def wrong(found, self, score, x, sigma, noise):
        return found + 0.5 * score(x).square().flatten(1).sum(1)

    patch.result(score_matching.ImplicitScoreMatching, "risk", wrong)


@mutation(
    "finite differences: a step of σ where 1 belongs",
    f"{MATCHING}::test_finite_differences_are_off_by_the_square_of_their_step",
)
def _(patch):
    patch.around(
        score_matching.FiniteDifferenceScoreMatching,
        "risk",
        lambda right: (
            lambda self, score, x, sigma, noise: right(
                self, score, x, torch.ones_like(sigma), noise
            )
        ),
    )


@mutation(
    "noise-conditional form: levels weighed alike",
    f"{MATCHING}::test_the_noise_conditional_form_weighs_each_level_with_its_variance",
)
def _(patch):
    patch.attribute(
        score_matching, "on_score", lambda rule, path, t: torch.ones_like(path.sigma(t))
    )


@mutation(
    "loss history: the mean for the root of the mean square",
    f"{HISTORY}::test_the_chance_is_the_root_of_the_mean_square_of_the_last_losses",
)
def _(patch):
    def wrong(self, count):
        self._size(count)
        size = self.losses.abs().mean(1)
        even = torch.full((count,), 1 / count, dtype=torch.float64)
        if not self.warm:
            return even
        return (1 - self.uniform) * size / size.sum() + self.uniform * even

    patch.attribute(history.LossHistory, "probabilities", wrong)


@mutation(
    "loss history: draws are not weighed",
    f"{HISTORY}::test_draws_have_that_chance_and_their_weights_undo_it",
)
def _(patch):
    patch.result(
        history.LossHistory, "draw", lambda drawn, *_: (drawn[0], torch.ones_like(drawn[1]))
    )


@mutation(
    "bound beside a loss: the mean is trained by it too",
    f"{VARIATIONAL}::test_beside_denoising_the_bound_leaves_the_mean_alone",
)
def _(patch):
    def wrap(right):
        def wrong(self, steps, prediction, miss, x0, n):
            alone = variational.Variational(
                None,
                self.scale,
                self.variance,
                self.steps,
                self.times,
                self.levels,
                self.condition_dropout,
            )
            return right(alone, steps, prediction, miss, x0, n)

        return wrong

    patch.around(variational.Variational, "_bound", wrap)


@mutation(
    "interpolant: the latent's rate has the wrong sign", f"{EXACT}::test_rates_are_derivatives"
)
def _(patch):
    patch.result(interpolant.Interpolant, "gamma_rate", lambda rate, *_: -rate)


@mutation(
    "interpolant: the velocity without its latent's part",
    f"{EXACT}::test_the_field_moves_its_own_marginals",
)
def _(patch):
    patch.attribute(interpolant.Bridge, "velocity", property(lambda self: self.drift))


@mutation(
    "straightness: the length where the distance belongs",
    f"{STRAIGHT}::test_of_a_gaussian_as_in_closed_form",
)
def _(patch):
    def wrong(found, *_):
        energy = found.deviation + found.distance**2
        return straightness.Straightness(
            found.end, energy - found.length**2, found.length, found.distance
        )

    patch.result(straightness, "straightness", wrong)
