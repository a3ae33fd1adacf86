"""Bugs in paths, chains and grids."""

import math
from dataclasses import replace

import torch

from unnoise.paths import chains, grids, path, schedules

from .planting import mutation

CHAINS, GRIDS = "tests/paths/test_chains.py", "tests/paths/test_grids.py"
SCHEDULES, PATH = "tests/paths/test_schedules.py", "tests/paths/test_path.py"


@mutation(
    "posterior: coefficients of x0 and x_t swapped",
    f"{CHAINS}::test_single_step_posterior_is_bayes_rule",
    f"{CHAINS}::test_posterior_coefficients_in_the_middle_of_the_linear_chain",
)
def _(patch):
    patch.result(chains.Chain, "posterior", lambda p, *_: replace(p, on_x0=p.on_x, on_x=p.on_x0))


@mutation(
    "posterior: β of one step where the stride's belongs",
    f"{CHAINS}::test_strided_posterior_is_bayes_rule",
)
def _(patch):
    def wrong(p, chain, n, m=None):
        return p if m is None else replace(p, variance=p.variance * chain.beta(n))

    patch.result(chains.Chain, "posterior", wrong)


@mutation(
    "chain: ᾱ of step n − 1 for that of step n",
    f"{CHAINS}::test_alpha_bar_is_the_product_of_the_steps",
)
def _(patch):
    patch.around(
        chains.Chain, "alpha_bar", lambda right: lambda chain, n: right(chain, max(n - 1, 0))
    )


@mutation(
    "chain: its path reads t·(T − 1) for t·T",
    f"{CHAINS}::test_the_path_is_exact_at_whole_steps",
)
def _(patch):
    def wrap(right):
        def wrong(self, t):
            return right(self, path.as_time(t) * ((self.chain.steps - 1) / self.chain.steps))

        return wrong

    patch.around(chains.ChainPath, "_locate", wrap)


@mutation("chain: β̃ is β", f"{CHAINS}::test_single_step_posterior_is_bayes_rule")
def _(patch):
    patch.attribute(chains.Chain, "beta_tilde", chains.Chain.beta)


@mutation("chain: the last steps keep a little signal", f"{CHAINS}::test_zero_terminal_snr")
def _(patch):
    patch.around(chains.Chain, "with_zero_terminal_snr", lambda _: lambda chain: chain)


@mutation(
    "grid: t − T//n for the previous time",
    f"{GRIDS}::test_chain_grids_at_any_number_of_steps",
)
def _(patch):
    def wrong(of, steps):
        length = grids.chain_length(of, steps)
        return grids.on_chain([length - i * (length // steps) for i in range(steps)], length)

    patch.attribute(grids, "trailing", wrong)


@mutation("grid: leading starts at T", f"{GRIDS}::test_chain_grids_as_published")
def _(patch):
    def wrong(of, steps, offset=0):
        return grids.trailing(of, steps)

    patch.attribute(grids, "leading", wrong)


@mutation("grid: Karras' levels without their power", f"{GRIDS}::test_karras_levels_as_published")
def _(patch):
    right = grids.karras

    def wrong(*given, **options):
        return right(*given, **{**options, "rho": 1.0})

    patch.attribute(grids, "karras", wrong)


@mutation("grid: an end is rounded away", f"{GRIDS}::test_plain_grids_have_exact_ends")
def _(patch):
    patch.result(grids, "_even", lambda grid, *_: grid.float().double())


@mutation("diffusion: a factor 2 lost", f"{SCHEDULES}::test_the_sde_has_the_marginals_of_the_path")
def _(patch):
    patch.result(path.GaussianPath, "diffusion", lambda g, *_: g / math.sqrt(2))


@mutation("drift: a factor ½ lost", f"{SCHEDULES}::test_published_drift_and_diffusion")
def _(patch):
    patch.attribute(schedules.VPLinear, "drift", lambda self, t: -self.beta(t))


@mutation(
    "shift: of the half log-SNR by the whole logarithm",
    f"{PATH}::test_a_shift_multiplies_the_snr",
)
def _(patch):
    patch.result(
        path.Shifted, "log_snr", lambda lam, shifted, t: lam + 0.5 * math.log(shifted.factor)
    )


@mutation(
    "restricted: rates of the base's own clock",
    f"{SCHEDULES}::test_rates_are_the_exact_derivatives",
)
def _(patch):
    patch.attribute(
        path.Restricted, "alpha_rate", lambda self, t: self.base.alpha_rate(self._base_time(t))
    )


@mutation(
    "cosine: the noise end is the cosine of a rounded π/2",
    f"{SCHEDULES}::test_the_noise_end_is_exactly_pure_noise",
)
def _(patch):
    patch.attribute(
        schedules.Cosine,
        "alpha",
        lambda self, t: (math.pi / 2 * path.as_time(t)).cos(),
    )


@mutation("sub-VP: σ of the VP path", f"{SCHEDULES}::test_published_signal_and_noise")
def _(patch):
    patch.attribute(schedules.SubVP, "sigma", schedules.VPLinear.sigma)


@mutation(
    "path: times in half precision are used as they are",
    f"{SCHEDULES}::test_low_precision_times_are_raised_not_used",
)
def _(patch):
    right = path.as_time
    patch.attribute(path, "as_time", lambda t: t if isinstance(t, torch.Tensor) else right(t))


@mutation(
    "prior: the signal's variance is left out", f"{PATH}::test_the_prior_has_the_moments_it_claims"
)
def _(patch):
    patch.around(
        path.GaussianPath,
        "prior",
        lambda right: lambda self, noise, event, t=1.0, data_std=0.0: right(self, noise, event, t),
    )


@mutation("diffuse: σ² for σ", f"{PATH}::test_diffuse_is_the_forward_process")
def _(patch):
    def wrong(self, x0, eps, t):
        t = path.as_time(t)
        return path.expand(self.alpha(t), x0) * x0 + path.expand(self.sigma(t) ** 2, x0) * eps

    patch.attribute(path.GaussianPath, "diffuse", wrong)
