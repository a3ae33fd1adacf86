"""Data → noise → data along the probability flow, and interpolation of encodings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..fields import Field
from ..paths import GaussianPath, grids
from ..solvers import Adaptive, Multistep, Solution, Solver, get
from ..solvers.adaptive.ode import Broken, evaluated
from ..solvers.adaptive.scaled import Scaled
from ..solvers.solver import TimeGrid

GAP = 1e-5  # σ/(σ + α) of the first evaluation next to σ = 0


@torch.no_grad()
def encode(
    field: Field, x: Tensor, grid: Tensor | Sequence[float] | int, solver: str | Solver = "rk4"
) -> Solution:
    """Return the latent of x: the probability flow from grid[-1] up to grid[0].

    x (batch, *event) at time grid[-1], the data's end; grid decreases, as in sampling (a number:
    `even_grid`), and is followed from its last time to its first by any deterministic solver, whose
    formula holds in either direction: with "ddim" this is DDIM inversion (Song et al. 2021, eq.
    14; Dhariwal & Nichol 2021, F). Where σ = 0 at the data's end no field is defined there: the
    first 1e-5 of σ/(σ + α) is one midpoint step of two evaluations, which costs no order.

    A latent depends on the field and on x alone, up to the solver's error: any solver, grid or
    path of the same marginals gives the same one (Song et al. 2021, "uniquely identifiable
    encoding"; across paths compare x/√(α² + σ²)). Conditions are bound by field.conditioned. Raises
    Unsupported for a solver that draws noise and for several points in log-SNR out of σ = 0, where
    log-SNR is infinite; InvalidArgument for a bad grid.
    """
    solver, times = get(solver), _times(field.path, grid).floats[::-1]
    if _in_log_snr(solver) and float(field.path.sigma(times[0])) == 0:
        raise Unsupported(
            f"{solver} fits its points in log-SNR, which is infinite at t = {times[0]:g} where "
            "σ = 0; use 'rk4', 'adams' or 'ddim', or end the grid above that"
        )
    return _walk(field, x, times, solver)


@torch.no_grad()
def decode(
    field: Field,
    latent: Tensor,
    grid: Tensor | Sequence[float] | int,
    solver: str | Solver = "rk4",
) -> Solution:
    """Return the data of a latent: the probability flow from grid[0] down to grid[-1].

    As `Solver.solve`, but into σ = 0 the last 1e-5 of σ/(σ + α) is a midpoint step of its own,
    which preserves the solver's order on the last step (unless it fits points in log-SNR); the
    inverse of `encode` on the same grid, up to the solver's error. Raises the errors of `encode`.
    """
    solver, times = get(solver), _times(field.path, grid)
    if _in_log_snr(solver) and not solver.stochastic:
        return solver.solve(field, latent, times.floats)
    return _walk(field, latent, times.floats, solver)


def even_grid(path: GaussianPath, steps: int, start: float = 1.0, end: float = 0.0) -> Tensor:
    """Return decreasing times, even in σ/(σ + α), in which the flow is smooth on any path."""
    ends = torch.tensor([start, end], dtype=torch.float64)
    grids.uniform(steps, start, end)  # raises InvalidArgument for wrong ends or steps
    sigma, alpha = path.sigma(ends), path.alpha(ends)
    first, last = (sigma / (sigma + alpha)).tolist()
    ratio = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    grid = path.time(torch.log1p(-ratio) - ratio.log()).clamp(end, start)
    grid[0], grid[-1] = start, end
    return grids.check(grid)


def _times(path: GaussianPath, grid: Tensor | Sequence[float] | int) -> TimeGrid:
    return TimeGrid.of(even_grid(path, grid) if isinstance(grid, int) else grid)


def _in_log_snr(solver: Solver) -> bool:
    return (
        isinstance(solver, Multistep)
        and solver.coordinate == "log_snr"
        and (solver.points > 1 or solver.corrector)
    )


def _walk(field: Field, x: Tensor, times: tuple[float, ...], solver: Solver) -> Solution:
    """Solve along `times`, rising or falling; `solver` meets no time at which σ = 0."""
    if solver.stochastic:
        raise Unsupported(
            f"{solver} draws noise, and an encoding follows one deterministic flow; use 'rk4', or "
            "eta=0"
        )
    if isinstance(solver, Adaptive):  # has its own steps beside σ = 0
        return solver.solve(field, x, _unchecked(times))  # type: ignore[arg-type]
    clean = [float(field.path.sigma(t)) == 0 for t in (times[0], times[-1])]
    inner, nfe = list(times), 0
    for end, beside in ((0, 1), (-1, -2)):
        if clean[end]:
            inner[end] = _beside(field, times[end], times[beside])
    if clean[0]:
        x, nfe = _across(field, x, times[0], inner[0])
    walked = solver.solve(field, x, _unchecked(tuple(inner)))  # type: ignore[arg-type]
    x, nfe = walked.x, nfe + walked.nfe
    if clean[-1]:
        x, more = _across(field, x, inner[-1], times[-1])
        nfe += more
    return Solution(x, times[-1], walked.steps, nfe, True)


def _unchecked(times: tuple[float, ...]) -> TimeGrid:
    """Return a grid in either direction: `Solver.solve` does not check a TimeGrid."""
    return TimeGrid(times, torch.tensor(times, dtype=torch.float64).unbind())


def _beside(field: Field, clean: float, following: float) -> float:
    """Return the time at which σ/(σ + α) is GAP, or a tenth of what it is at the time after."""
    least = math.exp(-float(field.path.log_snr(following)))
    ratio = min(GAP, 0.1 * least / (1 + least))
    return float(field.path.time(math.log1p(-ratio) - math.log(ratio)))


def _across(field: Field, x: Tensor, start: float, end: float) -> tuple[Tensor, int]:
    """Return (the state, nfe) of one midpoint step between σ = 0 and a time beside it."""
    flow = Scaled(field.path, "flow", start, end, tuple(x.shape[1:]), x.dtype)
    nfe = 0

    def rate(c: Tensor, y: Tensor) -> Tensor:
        nonlocal nfe
        t, at, _ = flow.seen(c, y)
        prediction = field(at, t)
        nfe += prediction.nfe
        return flow.rate(prediction, y.dtype)

    try:
        y = evaluated(flow.across(flow.flat(x)), rate)
    except Broken as broken:
        raise flow.explain(broken, "the step next to σ = 0") from None
    return flow.unflat(y), nfe


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Return the spherical interpolation of two encodings.

    sin((1−w)θ)/sin θ·a + sin(wθ)/sin θ·b. a, b: (batch, *event), θ the angle between a sample's two
    events; w = `weight`: a number or (batch,). Points between two draws of N(0, I) have the norm of
    such draws (Shoemake 1985; Song et al. 2021, D.3). Raises InvalidArgument for different shapes,
    for events of norm 0 and for opposite ones.
    """
    w, flat_a, flat_b = _weights(a, b, weight), a.flatten(1), b.flatten(1)
    size_a, size_b = flat_a.norm(dim=1), flat_b.norm(dim=1)
    if bool((size_a * size_b == 0).any()):
        raise InvalidArgument("an event of norm 0 has no direction; use lerp")
    unit_a, unit_b = flat_a / size_a[:, None], flat_b / size_b[:, None]
    # twice the half angle: no digits are lost near 0 and near π
    theta = 2 * torch.atan2((unit_a - unit_b).norm(dim=1), (unit_a + unit_b).norm(dim=1))
    if bool((theta > math.pi * (1 - 1e-6)).any()):
        raise InvalidArgument(
            "two events point opposite ways, and no great circle between them is the shortest; "
            "use lerp, or another encoding"
        )
    near = theta < 1e-4
    sine = torch.where(near, 1.0, theta.sin())
    on_a = torch.where(near, 1 - w, ((1 - w) * theta).sin() / sine)
    on_b = torch.where(near, w, (w * theta).sin() / sine)
    return (on_a[:, None] * flat_a + on_b[:, None] * flat_b).reshape(a.shape)


def lerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Return a + weight·(b − a); weight a number or (batch,).

    Between two draws of N(0, I) its norm falls, by √2 half way; that of `slerp` does not.
    """
    shaped = _weights(a, b, weight).reshape(-1, *(1,) * (a.ndim - 1))
    return a + shaped * (b - a)


def _weights(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    if a.shape != b.shape or a.ndim < 2:
        raise InvalidArgument(
            f"encodings of shapes {tuple(a.shape)} and {tuple(b.shape)}; give two (batch, *event) "
            "of one shape"
        )
    w = torch.as_tensor(weight, dtype=a.dtype, device=a.device)
    if w.ndim > 1 or (w.ndim == 1 and len(w) not in (1, len(a))):
        raise InvalidArgument(
            f"weight has shape {tuple(w.shape)} for {len(a)} samples; give one, or one a sample"
        )
    return w.expand(len(a))
