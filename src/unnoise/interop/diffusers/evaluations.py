"""The times of a solver's evaluations, before a pipeline's loop begins, and the loop's noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidArgument, Unsupported
from ...fields import Prediction
from ...solvers import Noise, Solver
from ...solvers.solver import Outcome, Steps, TimeGrid
from .convention import Convention


class Visit(NamedTuple):
    """One evaluation: at time t, in step `step` (the number of steps for a last denoising)."""

    t: float
    step: int
    first: bool  # True where it begins its step


class GeneratorNoise:
    """Noise from the torch.Generator that a pipeline hands to every step."""

    def __init__(self, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        self.batch, self.dtype, self.device, self.generator = batch, dtype, device, None

    def normal(self, *event: int) -> Tensor:
        from diffusers.utils.torch_utils import randn_tensor

        generator: Any = self.generator
        if generator is None:
            raise InvalidArgument(
                "this solver draws noise: call the pipeline with generator=torch.Generator()"
                ".manual_seed(…), or set_timesteps with noise=Streams(seed, range(n))"
            )
        return randn_tensor((self.batch, *event), generator, self.device, self.dtype)

    def mark(self) -> int:
        return 0

    def rewound(self, mark: int = 0) -> GeneratorNoise:
        raise Unsupported("noise of a torch.Generator cannot be drawn again; use noise=Streams")


class _NoNoise:
    def normal(self, *event: int) -> Tensor:
        return torch.zeros(1, *event, dtype=torch.float64)

    def mark(self) -> int:
        return 0

    def rewound(self, mark: int = 0) -> _NoNoise:
        return self


def steps_to_data(
    solver: Solver, convention: Convention, x: Tensor, grid: TimeGrid, noise: Noise
) -> Steps:
    """Yield as the solver does, then once more where noise is left at t = 0: x becomes x0."""
    path = convention.path
    made = yield from solver.steps(path, x, grid, noise)
    x = made.x if isinstance(made, Outcome) else made
    if grid.floats[-1] == 0 and float(path.sigma(0.0)) > 0:
        x = (yield x, grid.tensors[-1], grid.steps).x0
    return x


@lru_cache(maxsize=64)
def visits(solver: Solver, convention: Convention, times: tuple[float, ...]) -> tuple[Visit, ...]:
    """Return every evaluation of a solve down `times`.

    The times come from advancing the solver's generator, its evaluations all zero. Raises
    Unsupported where the solver cannot take the path, or is evaluated at times of each sample's
    own (adaptive) or at several at once (parallel).
    """
    reason = solver.why_refused(convention.path, times[0], times[-1])
    if reason:
        raise Unsupported(f"{solver} on {convention.path}: {reason}")
    grid, x = TimeGrid.of(times), torch.ones(1, 1, dtype=torch.float64)
    steps = steps_to_data(solver, convention, x, grid, _NoNoise())
    found: list[Visit] = []
    prediction: Prediction | None = None
    while True:
        try:
            x, t, *stage = steps.send(prediction)  # type: ignore[arg-type]  # None starts it
        except StopIteration:
            return tuple(found)
        if t.ndim or len(x) != 1:
            raise Unsupported(
                f"{solver} evaluates the network at times that each sample chooses, or at several "
                "at once; a pipeline's list of timesteps cannot hold them: use a solver of fixed "
                "steps that is not parallel"
            )
        step = stage[0] if stage else grid.step_at(float(t))
        found.append(Visit(float(t), step, not found or step != found[-1].step))
        prediction = convention.read(torch.zeros_like(x), x, t)
