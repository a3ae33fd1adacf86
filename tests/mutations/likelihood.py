"""Bugs in the variational bound, the flow's density and dequantisation."""

import math

import torch

from unnoise.fields import derivatives
from unnoise.likelihood import bound, decoder, dequantise, flow, steps, value

from .planting import mutation

BOUND, DECODER = "tests/likelihood/test_bound.py", "tests/likelihood/test_bound_decoder.py"
FLOW, DIVERGENCE = "tests/likelihood/test_flow.py", "tests/fields/test_derivatives.py"
DEQUANTISE = "tests/likelihood/test_dequantise.py"


@mutation("bound: the prior's KL the other way", f"{BOUND}::test_the_prior_term_by_hand")
def _(patch):
    def wrong(path, x0, t=1.0, data_std=1.0):
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        ratio = (sigma**2 + (alpha * data_std) ** 2) / sigma**2
        mean = (alpha * x0.double()).square() / sigma**2
        return 0.5 * (ratio - 1 - math.log(ratio) + mean).flatten(1).sum(1)

    patch.attribute(bound, "prior_kl", wrong)


@mutation(
    "bound: β̃ and β exchanged",
    f"{BOUND}::test_on_a_chain_it_is_that_of_the_joint_normal_law",
)
def _(patch):
    patch.around(
        steps.ReverseSteps,
        "kl",
        lambda right: lambda self, n, error, v: right(self, n, error, 1 - v),
    )


@mutation(
    "bound: SNR of one step later",
    f"{BOUND}::test_with_the_right_variances_only_the_prior_is_missing",
)
def _(patch):
    patch.attribute(steps.ReverseSteps, "signal", property(_later))


def _later(self):
    lam = self.path.log_snr(self.t)
    drop = -torch.expm1(2 * (lam[1:] - lam[:-1])) * (2 * lam[1:]).exp()
    return torch.cat([torch.full((1,), torch.nan, dtype=torch.float64), drop])


@mutation(
    "bound: its error is that of one draw", f"{BOUND}::test_repeated_steps_have_a_standard_error"
)
def _(patch):
    def wrap(right):
        def wrong(self, prior, terms, times, decoded, repeats):
            found = right(self, prior, terms, times, decoded, repeats)
            if found.likelihood.error is not None:
                found.likelihood.error.mul_(math.sqrt(repeats))
            return found

        return wrong

    patch.around(bound._NoisyStates, "bound", wrap)


@mutation(
    "decoder: the outermost levels are closed",
    f"{DECODER}::test_the_levels_of_a_value_share_all_the_mass",
)
def _(patch):
    patch.attribute(decoder, "_FAR", 3.0)


@mutation(
    "decoder: cells of a whole step to each side",
    f"{DECODER}::test_fine_levels_are_the_density_times_their_width",
)
def _(patch):
    def wrap(right):
        def wrong(x0, mean, log_variance, levels):
            wider = decoder.Levels(levels.low, levels.high, levels.count)
            object.__setattr__(wider, "scale", lambda like: _doubled(levels, like))
            object.__setattr__(wider, "index", lambda x: levels.index(x) / 2)
            return right(x0, mean, log_variance, wider)

        return wrong

    patch.around(decoder, "level_nll", wrap)


def _doubled(levels, like):
    low, step = levels.scale(like)
    return low, 2 * step


@mutation(
    "flow: a prior of data of unit variance",
    f"{FLOW}::test_the_paths_own_prior_is_exact_where_no_signal_is_left",
)
def _(patch):
    patch.around(
        flow,
        "gaussian_log_density",
        lambda right: lambda x, path, t, data_std: right(x, path, t, 1.0),
    )


@mutation(
    "flow: the scale's determinant is left out",
    f"{FLOW}::test_every_coordinate_gives_one_density",
)
def _(patch):
    def wrap(right):
        def wrong(self, *given, **options):
            right(self, *given, **options)
            self.scales = (1.0, 1.0)

        return wrong

    patch.around(flow.Scaled, "__init__", wrap)


@mutation(
    "divergence: a trace over half of the numbers", f"{DIVERGENCE}::test_the_trace_of_a_matrix"
)
def _(patch):
    patch.result(derivatives, "basis", lambda vectors, *_: vectors[: max(1, len(vectors) // 2)])


@mutation(
    "probes: uniform on ±√3 are taken for ±1",
    f"{DIVERGENCE}::test_probes_are_unbiased_with_their_known_variance",
)
def _(patch):
    def wrong(probes, noise, count, event, kind="rademacher"):
        if kind == "gaussian":
            return probes
        drawn = noise.rewound(0).uniform(count, *event).movedim(1, 0)
        return (2 * drawn - 1) * math.sqrt(3)

    patch.result(derivatives, "draw_probes", wrong)


@mutation(
    "dequantise: the volume of a level is left out",
    f"{DEQUANTISE}::test_the_uniform_bound_is_its_integral",
)
def _(patch):
    def wrap(right):
        def wrong(log_likelihood, x, levels, noise, **options):
            size = (levels.scale(x)[1].double().log() + torch.zeros_like(x[:1])).sum()
            found = right(log_likelihood, x, levels, noise, **options)
            found.nats.sub_(size)
            return found

        return wrong

    patch.around(dequantise, "discrete_log_likelihood", wrap)


@mutation(
    "dequantise: levels reach to their upper neighbour",
    f"{DEQUANTISE}::test_the_uniform_bound_is_its_integral",
)
def _(patch):
    patch.attribute(dequantise, "dequantise_with", lambda x, u, levels: x + u * levels.scale(x)[1])


@mutation(
    "dequantise: q's density without its slope",
    f"{DEQUANTISE}::test_the_logistic_density_is_that_of_its_draws",
)
def _(patch):
    def wrong(found, self, x, noise):
        u, log_q = found
        _, log_size = (self.level + self.slope * x[:, None]).unbind(1)
        return u, log_q + log_size.flatten(1).sum(1)

    patch.result(dequantise.AffineLogistic, "forward", wrong)


@mutation("bits: natural logarithms", f"{DEQUANTISE}::test_bits_of_a_model_count_a_level_as_one")
def _(patch):
    patch.attribute(value.Likelihood, "bits_per_dim", lambda self: -self.nats / self.dimensions)
