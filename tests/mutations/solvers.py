"""Bugs in solvers: coefficients of steps, their executor, the driver, and the last step."""

import math
from dataclasses import replace

import torch

from unnoise.solvers import coordinates, sampling, solver
from unnoise.solvers.composite import predictor_corrector
from unnoise.solvers.linear import (
    direction,
    executor,
    moves,
    multistep,
    one_step,
    runge_kutta,
    sde,
    weights,
)

from .planting import mutation

ORDER, PAPERS = "tests/solvers/test_order.py", "tests/solvers/test_papers.py"
STOCHASTIC, WEIGHTS = "tests/solvers/test_stochastic.py", "tests/solvers/test_weights.py"
SAMPLING, SOLVER = "tests/solvers/test_sampling.py", "tests/solvers/test_solver.py"
KERNEL = "tests/solvers/test_kernel.py"


@mutation("multistep: σ_t where σ_s belongs", f"{PAPERS}::test_dpmpp_2m_algorithm_2")
def _(patch):
    def wrong(self, way, k, nodes, shares, aim):
        p, q = way
        scale = p * self.sigma[k] + q * self.alpha[k]
        gain = aim * self.alpha[k] - self.alpha[k + 1] * self.sigma[k + 1]
        parts = [(j, w * gain / scale) for j, w in zip(nodes, shares, strict=True)]
        return (p * aim + q * self.alpha[k + 1]) / scale, sorted(parts, reverse=True)

    patch.attribute(moves.Levels, "step", wrong)


@mutation(
    "multistep: curvature term of the exact third order halved",
    f"{WEIGHTS}::test_exact_weights_are_the_integrals",
)
def _(patch):
    def wrap(right):
        def wrong(path, coordinate, nodes, target, way, rule, stretch=1.0):
            halved = rule == "exact" and len(nodes) == 3 and coordinate == "log_snr"
            rule = "half_curvature_only" if halved else rule
            return right(path, coordinate, nodes, target, way, rule, stretch)

        return wrong

    patch.around(weights, "step_weights", wrap)


@mutation(
    "multistep: Lagrange denominators of the wrong sign",
    f"{WEIGHTS}::test_exact_weights_are_the_integrals",
)
def _(patch):
    patch.result(weights, "lagrange", lambda found, points, at: found * (-1) ** (len(points) - 1))


@mutation("multistep: ŵ not normalised", f"{WEIGHTS}::test_every_rule_keeps_a_constant")
def _(patch):
    patch.result(weights, "measure", lambda found, *_: (found[0], found[1] * 1.01))


@mutation(
    "multistep: corrector redoes the step from the state it corrects",
    f"{PAPERS}::test_unipc_by_its_linear_systems",
)
def _(patch):
    def wrong(g, steps, dtype, first=0):
        plan = right(g, steps, dtype, first)
        return tuple(
            replace(step, keep=(step.keep[0], step.keep[0], *step.keep[2:])) for step in plan
        )

    right = moves.corrector_plan
    patch.attribute(moves, "corrector_plan", wrong)


@mutation("multistep: one point fewer than asked for", f"{PAPERS}::test_dpmpp_3m")
def _(patch):
    patch.around(
        multistep.Multistep,
        "moves",
        lambda right: (
            lambda self, *given: right(
                replace(self, points=self.points - 1) if self.points > 2 else self, *given
            )
        ),
    )


@mutation(
    "direction: the state's share of the wrong sign", f"{PAPERS}::test_unipc_by_its_linear_systems"
)
def _(patch):
    def wrong(found, *_):
        return replace(found, on_x=[-part for part in found.on_x])

    right = direction.Direction.of
    patch.attribute(direction.Direction, "of", staticmethod(lambda *given: wrong(right(*given))))


@mutation("DDIM: variance of η's noise", f"{PAPERS}::test_ddim_equation_12")
def _(patch):
    def wrong(found, eta, sigma, h, variance=""):
        if variance == "sde" or not eta:
            return found
        added = eta * sigma * math.sqrt(-math.expm1(-h))
        return math.sqrt(max(sigma**2 - added**2, 0.0)), added

    patch.result(one_step, "noise_added", wrong)


@mutation(
    "DDPM: the larger variance on the last step too", f"{PAPERS}::test_ancestral_ddpm_algorithm_2"
)
def _(patch):
    def wrong(found, self, path, lens, t, s):
        if self.variance != "transition" or float(path.sigma(s)) > 0:
            return found
        return found._replace(std=float(path.sigma(t)))

    patch.result(one_step.DDIM, "transition", wrong)


@mutation(
    "kernel: the variance for the deviation",
    f"{KERNEL}::test_the_step_is_the_mean_and_the_deviation_times_its_noise",
)
def _(patch):
    patch.result(one_step.OneStep, "kernel", lambda found, *_: (found[0], found[1] ** 2))


@mutation(
    "stochastic multistep: weights of the deterministic one",
    f"{STOCHASTIC}::test_a_stochastic_step_integrates_over_its_own_measure",
)
def _(patch):
    patch.around(
        multistep, "step_weights",
        lambda right: lambda path, coordinate, nodes, target, way, rule, stretch=1.0: right(
            path, coordinate, nodes, target, way, rule
        ),
    )  # fmt: skip


@mutation("Euler–Maruyama: noise by Δ for √Δ", f"{PAPERS}::test_euler_maruyama")
def _(patch):
    def wrong(found, self, path, lens, t, s):
        return found._replace(std=found.std * math.sqrt(t - s))

    patch.result(sde.EulerMaruyama, "transition", wrong)


@mutation(
    "reverse diffusion: the kept signal the wrong way up",
    f"{KERNEL}::test_ddim_and_the_reverse_sde_in_closed_form",
)
def _(patch):
    def wrong(found, self, path, lens, t, s):
        return found._replace(on_x=found.on_x - 2 + 2 * float(path.alpha(s) / path.alpha(t)))

    patch.result(sde.ReverseDiffusion, "transition", wrong)


@mutation(
    "Runge–Kutta: stages scaled as the step's start", f"{PAPERS}::test_heun_in_rescaled_coordinates"
)
def _(patch):
    def wrap(right):
        def wrong(g, states, places, dtype, noise=()):
            states = [(1.0, shares) if len(states) > 1 else (base, shares)
                      for base, shares in states]  # fmt: skip
            return right(g, states, places, dtype, noise)

        return wrong

    patch.around(runge_kutta, "stage_coefficients", wrap)


@mutation(
    "coordinates: the flow's time the wrong way", f"{PAPERS}::test_heun_in_rescaled_coordinates"
)
def _(patch):
    def wrong(found, path, coordinate, *given):
        return tuple(-part for part in found) if coordinate == "flow" else found

    patch.result(coordinates, "rates", wrong)


@mutation(
    "executor: coefficients rounded to float32 for every state",
    f"{PAPERS}::test_dpmpp_2m_algorithm_2",
)
def _(patch):
    patch.around(one_step, "factor", lambda right: lambda value, dtype: right(value, torch.float32))


@mutation(
    "executor: the stored evaluation is of the state",
    f"{PAPERS}::test_what_the_network_predicts_does_not_matter",
)
def _(patch):
    def wrong(found, self, j, x, value):
        return None if found is None else executor.Combination(x, None, ((value, 1.0),))

    patch.result(direction.Direction, "stored", wrong)


@mutation(
    "driver: evaluations are counted by requests",
    f"{SAMPLING}::test_guidance_costs_two_passes_where_it_acts",
)
def _(patch):
    def wrap(right):
        def wrong(self, field, x, times, noise, on_step):
            asked = []

            def counted(*given):
                asked.append(field(*given))
                return asked[-1]

            found = right(self, _Same(field, counted), x, times, noise, on_step)
            return replace(found, nfe=len(asked))

        return wrong

    patch.around(solver.Solver, "drive", wrap)


class _Same:
    """A field, evaluated by another function."""

    def __init__(self, field, call):
        self.path, self.call = field.path, call

    def __call__(self, *given):
        return self.call(*given)


@mutation(
    "driver: numbers that break down are not looked for",
    f"{SOLVER}::test_numbers_that_break_name_their_place",
)
def _(patch):
    patch.here(solver, "finite", lambda x: True)


@mutation(
    "predictor-corrector: Langevin's noise without its factor 2",
    "tests/solvers/test_predictor_corrector.py",
)
def _(patch):
    def wrong(x, score, size, draw, level=math.inf):
        return x + size * score + (size * (1 - size / level)) ** 0.5 * draw

    patch.attribute(predictor_corrector, "langevin_step", wrong)


@mutation(
    "no last denoising step where a path ends in noise",
    f"{SAMPLING}::test_a_path_that_ends_in_noise_is_denoised_once_more",
)
def _(patch):
    def wrap(right):
        def wrong(field, noise, event, solve, grid, *given, **options):
            if not isinstance(grid, int):
                grid = torch.as_tensor(grid, dtype=torch.float64).clone()
                grid[-1] = max(float(grid[-1]), 1e-9)
            return right(field, noise, event, solve, grid, *given, **options)

        return wrong

    patch.around(sampling, "sample", wrap)
