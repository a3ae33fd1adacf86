"""log p(x) through the probability flow: the change of variables along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, need_count, unknown
from ..fields import Field, Prediction
from ..fields.derivatives import Products, basis, draw_probes
from ..fields.exact import LOG_2PI
from ..paths import GaussianPath, expand
from ..randomness import Streams
from ..solvers import Adaptive, RungeKutta, Solver, get
from ..solvers.adaptive.ode import (
    Broken,
    Norm,
    controlled,
    cross,
    evaluated,
    integrate,
    mean_square,
)
from ..solvers.adaptive.runge_kutta import check_tolerance
from ..solvers.adaptive.scaled import Scaled, gap_for, why_unsupported
from ..solvers.tableaux import TABLEAUX, embedded_pair
from .value import Likelihood

LogDensity = Callable[[Tensor], Tensor]
DIVERGENCES = ("exact", "hutchinson")
FIXED_GAP = 1e-5  # distance from σ = 0 in the coordinate, for fixed steps


@torch.no_grad()
def log_likelihood(
    field: Field,
    x: Tensor,
    *,
    method: str | Solver = "rk45",
    tol: float | None = None,
    steps: int | None = None,
    divergence: str = "exact",
    noise: Streams | None = None,
    probe: str = "rademacher",
    probes: int = 1,
    start: float = 1.0,
    end: float = 0.0,
    prior: str | LogDensity = "path",
    data_std: float = 1.0,
    derivatives: str = "auto",
) -> Likelihood:
    """Return log p(x) of x (batch, *event) at time `end`, in nats over the event, by the ODE.

    With y = x/s and dy/dc = k (`solvers.coordinates`, the flow coordinate s = α + σ,
    c = σ/(α + σ), k = ε − x0 by default), the x it starts from at `start` and D = numbers in x:

        log p_end(x) = log p_start(x_start) + D·log(s_start/s_end) + ∫ s·tr(∂k/∂x) dc

    over c from end to start (Chen et al. 2018, eq. 8; Song et al. 2021, eq. 39). Everything in the
    integral stays finite where σ = 0 (where dx/dt of a VP path does not) as long as the data have a
    density, and `end` may be 0; where σ(end) > 0, as on VE, it is the density of data with that
    noise. The nearest 1e-2·tol^(1/3) of c to σ = 0 is one midpoint step, in which the field is
    evaluated at σ > 0 only. States are kept in float64, the network computes in x's dtype.

    method: "rk45", "rk23", "rk12", "dop853" or an `Adaptive`, with `tol` (1e-5) for x/s, and in
    nats, times √D, for the integral; or a tableau of `RungeKutta` such as "rk4", with `steps` even
    steps of c. divergence: "exact", D derivatives an evaluation, or "hutchinson", with
    `probes` random vectors a sample ("rademacher" or "gaussian") from `noise`, the same all along
    a walk, so that the estimate of log p(x) is unbiased; two or more give its standard error.
    prior: the density at `start`: "path", N(0, σ² + α²·data_std²), which leaves out what is left
    of the data there (exact where α = 0); "field", the field's own log_density; or any function
    (batch, *event) → (batch,). derivatives: see `fields.derivatives.Products`.

    The result is "exact" (up to the integrator and the prior) or an "estimate"; `nfe` counts
    evaluations of the field, not their derivatives. Conditions are bound by field.conditioned.
    Raises Unsupported for solvers that cannot carry a density and paths that have no prior,
    InvalidArgument for other bad options, NonFinite where the numbers break down.
    """
    solver = _method(method, tol, steps)
    if divergence not in DIVERGENCES:
        raise unknown("divergence", divergence, DIVERGENCES)
    if divergence == "exact" and (noise is not None or probes != 1 or probe != "rademacher"):
        raise InvalidArgument(
            "noise, probe and probes are for divergence='hutchinson'; leave them out, or give it"
        )
    if not 0 <= end < start <= 1:
        raise InvalidArgument(f"from end = {end!r} to start = {start!r}; need 0 ≤ end < start ≤ 1")
    if x.ndim < 2 or not x.is_floating_point():
        raise InvalidArgument(
            f"x has shape {tuple(x.shape)} and dtype {x.dtype}; give floats (batch, *event)"
        )
    reason = why_unsupported(field.path, solver.coordinate, start, end)
    if reason:
        raise Unsupported(f"{solver} on {field.path}: {reason}")
    if isinstance(solver, Adaptive):
        check_tolerance(solver.tol, x.dtype)
    log_prior = _prior(field, prior, start, data_std)
    event, size = tuple(x.shape[1:]), x[0].numel()
    vectors = None
    if divergence == "hutchinson":
        if noise is None or len(noise) != len(x):
            raise InvalidArgument(
                f"hutchinson needs a stream a sample: noise=Streams(seed, range({len(x)}))"
            )
        vectors = draw_probes(noise, probes, event, probe).to(x)

    wide = torch.float32 if x.device.type == "mps" else torch.float64
    flow = Scaled(field.path, solver.coordinate, end, start, event, x.dtype)
    motion = _Motion(field, flow, vectors, data_std, Products(derivatives))
    begin = flow.flat(x.to(wide))
    count = 1 if vectors is None else probes
    state = torch.cat([begin, begin.new_zeros(len(x), count)], 1)
    try:
        state = _carry(motion, state, solver, steps)
    except Broken as broken:
        raise flow.explain(broken, "the walk to the noise") from None
    reached, gained = flow.unflat(state[:, :size]), state[:, size:]
    level = size * math.log(flow.scales[1] / flow.scales[0])
    nats = log_prior(reached).to(wide) + level + gained.mean(1)
    error = gained.std(1) / math.sqrt(count) if count > 1 else None
    kind = "exact" if vectors is None else "estimate"
    return Likelihood(nats, kind, size, error, nfe=motion.nfe)  # type: ignore[arg-type]


class _Motion:
    """The rates d(y, ℓ)/dc = (k, s·tr ∂k/∂x), one ℓ a probe; exact if `vectors` is None."""

    def __init__(
        self,
        field: Field,
        flow: Scaled,
        vectors: Tensor | None,
        data_std: float,
        products: Products,
    ) -> None:
        self.field, self.flow, self.vectors = field, flow, vectors
        self.data_std, self.products = data_std, products
        self.size, self.nfe = math.prod(flow.event), 0

    def rate(self, c: Tensor, state: Tensor) -> Tensor:
        flow, wide = self.flow, state.dtype
        t, x, s = flow.seen(c, state[:, : self.size])
        last: list[Prediction] = []

        def value(x: Tensor) -> Tensor:
            last[:] = [self.field(x, t)]
            return last[0].value

        vectors = basis(x) if self.vectors is None else self.vectors
        value_at, products = self.products(value, x, vectors)
        self.nfe += last[0].nfe  # one evaluation, in however many pieces its derivatives came
        on_x, on_value = flow.row(last[0].lens, t)
        x, on_x, on_value = x.to(wide), on_x.to(wide), on_value.to(wide)
        k = expand(on_x, x) * x + expand(on_value, x) * value_at
        slope = on_value * products.to(wide)
        if self.vectors is None:
            slope = on_x * self.size + slope.sum(0, keepdim=True)
        else:
            square = self.vectors.flatten(2).square().sum(2).to(wide)
            # if |v|² is not D, the linear flow of N(m, s²) data replaces the missing part
            slope = on_x * square + slope + self._linear(t).to(wide) * (self.size - square)
        return torch.cat([k.flatten(1), (s.to(wide) * slope).T], 1)

    def _linear(self, t: Tensor) -> Tensor:
        path, variance = self.flow.path, self.data_std**2
        alpha, sigma = path.alpha(t), path.sigma(t)
        on_x, on_x0 = self.flow.row("x0", t)
        return on_x + on_x0 * alpha * variance / (alpha**2 * variance + sigma**2)


def _carry(
    motion: _Motion, state: Tensor, solver: Adaptive | RungeKutta, steps: int | None
) -> Tensor:
    """Return the state at the flow's end from that at its start."""
    flow, rate = motion.flow, motion.rate
    gap = gap_for(solver.tol) if isinstance(solver, Adaptive) else FIXED_GAP
    first, last = flow.inner(gap)
    if flow.clean[0]:
        state = evaluated(cross(state, flow.start, first, blind=True), rate)
    if isinstance(solver, Adaptive):
        norm, method = _norm(solver.tol, motion.size), embedded_pair(solver.tableau)
        steps_of = controlled(state, first, last, method, norm, solver.max_passes)
        return evaluated(steps_of, rate).y
    places = torch.linspace(first, last, need_count("steps", steps) + 1, dtype=torch.float64)
    fixed = lambda states, c: (rate(c.to(state.device).expand(len(state)), states[0]),)  # noqa: E731
    return integrate(fixed, (state,), places, solver.tableau)[0]


def _norm(tol: float, size: int) -> Norm:
    """Return the larger of the states' error and of the integral's, against tol·√D nats."""
    of_state, of_log = mean_square(tol, tol), mean_square(tol * math.sqrt(size), 0.0)

    def norm(errors: list[Tensor], before: Tensor, after: Tensor) -> Tensor:
        left, right = (
            [value[:, part] for value in (*errors, before, after)]
            for part in (slice(size), slice(size, None))
        )
        return torch.maximum(
            of_state(left[:-2], *left[-2:]),  # type: ignore[call-arg]
            of_log(right[:-2], *right[-2:]),  # type: ignore[call-arg]
        )

    return norm


def _method(method: str | Solver, tol: float | None, steps: int | None) -> Adaptive | RungeKutta:
    """Return the solver that `method` names; raise for those that cannot carry a density."""
    solver: Solver
    if isinstance(method, str) and method in TABLEAUX:
        solver = RungeKutta(method, "flow")
    else:
        solver = get(method)
    if solver.stochastic:
        raise Unsupported(
            f"{solver} draws noise, and a likelihood follows one deterministic flow; use 'rk45', "
            "or 'rk4' with steps"
        )
    if isinstance(solver, Adaptive):
        if steps is not None:
            raise InvalidArgument(f"steps is {steps!r}, and {method!r} chooses its own; give tol")
        return solver if tol is None else replace(solver, tol=tol)
    if not isinstance(solver, RungeKutta):
        raise Unsupported(
            f"{solver} cannot carry a density along; use 'rk45', or a Runge–Kutta tableau with "
            f"steps: {', '.join(TABLEAUX)}"
        )
    if tol is not None:
        raise InvalidArgument(f"tol is {tol!r}, and {method!r} has fixed steps; give steps")
    if steps is None:
        raise InvalidArgument(f"{method!r} has fixed steps; give steps, or use 'rk45' with tol")
    need_count("steps", steps)
    return solver


def _prior(field: Field, prior: str | LogDensity, start: float, data_std: float) -> LogDensity:
    path = field.path
    if callable(prior):
        return prior
    if prior not in ("path", "field"):
        raise unknown("prior", prior, ("path", "field"))
    if prior == "field":
        if not hasattr(field, "log_density"):
            raise Unsupported(f"{type(field).__name__} has no log_density; use prior='path'")
        return lambda x: field.log_density(x, start)  # type: ignore[attr-defined]
    if getattr(path, "source", "gaussian") != "gaussian":
        raise Unsupported(
            f"{path} starts from data, whose density is not known; give prior=, a function of x"
        )
    return lambda x: gaussian_log_density(x, path, start, data_std)


def gaussian_log_density(x: Tensor, path: GaussianPath, t: float, data_std: float) -> Tensor:
    """Return log N(x; 0, σ(t)² + α(t)²·data_std²) over the event, (batch,).

    It is the density of `GaussianPath.prior`.
    """
    variance = float(path.sigma(t)) ** 2 + (float(path.alpha(t)) * data_std) ** 2
    return -0.5 * (x.square() / variance + math.log(variance) + LOG_2PI).flatten(1).sum(1)
