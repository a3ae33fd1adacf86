"""Bugs in adaptive and composite solvers, and in the Markov chains beside them."""

import math

from unnoise.fields import derivatives
from unnoise.solvers.adaptive import ode
from unnoise.solvers.composite import parallel, predictor_corrector, restart

from .planting import module, mutation

ADAPTIVE, COMPOSITE = "tests/solvers/test_adaptive.py", "tests/solvers/test_composite.py"
CORRECTOR, PARALLEL = "tests/solvers/test_predictor_corrector.py", "tests/solvers/test_parallel.py"
LANGEVIN = "tests/mcmc/test_langevin.py"
LIKELIHOOD = "tests/objectives/test_maximum_likelihood.py"


@mutation(
    "adaptive: one error for the whole batch",
    f"{ADAPTIVE}::test_no_sample_depends_on_its_batch",
)
def _(patch):
    def wrap(right):
        def wrong(atol, rtol):
            norm = right(atol, rtol)
            return lambda *given: norm(*given).max().expand(len(given[1]))

        return wrong

    patch.around(ode, "mean_square", wrap)


@mutation(
    "adaptive: the last piece into σ = 0 is left out",
    f"{ADAPTIVE}::test_every_path_reaches_the_exact_flow",
)
def _(patch):
    def wrap(right):
        def wrong(y, start, end, blind):
            return (yield from right(y, start, end, blind)) if blind else y

        return wrong

    patch.around(ode, "cross", wrap)


@mutation(
    "restart: a restart is numbered by the step after it",
    f"{COMPOSITE}::test_a_restart_belongs_to_the_step_before_it",
)
def _(patch):
    patch.around(restart, "as_stages", lambda right: lambda steps, k: right(steps, k + 1))


@mutation(
    "predictor–corrector: Langevin's noise without its √2",
    f"{CORRECTOR}::test_one_step_of_annealed_langevin_as_published",
)
def _(patch):
    def wrong(x, score, size, draw, level=math.inf):
        return x + size * score + (size * (1 - size / level)) ** 0.5 * draw

    patch.attribute(predictor_corrector, "langevin_step", wrong)


@mutation(
    "parallel: the variance of a step's noise for its deviation",
    f"{PARALLEL}::test_algorithm_1_sample_by_sample",
)
def _(patch):
    patch.result(parallel, "_full_noise", lambda full, *_: full**2)


@mutation(
    "MALA: the proposal's asymmetry is left out",
    f"{LANGEVIN}::test_the_metropolis_step_is_in_detailed_balance",
)
def _(patch):
    def wrong(x, y, log_p_x, log_p_y, s_x, s_y, h):
        return log_p_y - log_p_x

    patch.attribute(module("mcmc.langevin"), "log_acceptance", wrong)


@mutation(
    "maximum likelihood: no gradient through the trace",
    f"{LIKELIHOOD}::test_gradients_are_those_of_finite_differences",
)
def _(patch):
    def wrap(right):
        def wrong(function, x, tangents):
            value, products = right(function, x, tangents)
            return value, products.detach()

        return wrong

    patch.around(derivatives, "curvatures", wrap)
