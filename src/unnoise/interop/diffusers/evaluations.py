"""What a pipeline's loop must have before it begins: the times of every evaluation, and its noise."""

from __future__ import annotations

from collections.abc import Iterator
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

    Raises Unsupported where the solver cannot take the path, or where its times depend on the
    network: two networks of one number are evaluated at different times.
    """
    reason = solver.why_refused(convention.path, times[0], times[-1])
    if reason:
        raise Unsupported(f"{solver} on {convention.path}: {reason}")
    found, other = (list(_times(solver, convention, times, size)) for size in (0.0, 10.0))
    if found != other:
        raise Unsupported(
            f"{solver} asks the network at times that depend on its answers; a pipeline's list of "
            "timesteps cannot hold them: use a solver of fixed steps"
        )
    begins = [k == 0 or step != found[k - 1][1] for k, (_, step) in enumerate(found)]
    return tuple(Visit(*place, first) for place, first in zip(found, begins, strict=True))


def _times(
    solver: Solver, convention: Convention, times: tuple[float, ...], size: float
) -> Iterator[tuple[float, int]]:
    """Yield (time, step) of every evaluation of a network that is size·sin(40·t) everywhere."""
    grid, x = TimeGrid.of(times), torch.ones(1, 1, dtype=torch.float64)
    steps = steps_to_data(solver, convention, x, grid, _NoNoise())
    prediction: Prediction | None = None
    while True:
        try:
            x, t, *stage = steps.send(prediction)  # type: ignore[arg-type]  # None starts it
        except StopIteration:
            return
        if t.ndim or len(x) != 1:
            raise Unsupported(
                f"{solver} asks at several times in one pass; a pipeline asks at one: use a solver "
                "that is not parallel"
            )
        yield float(t), stage[0] if stage else grid.step_at(float(t))
        output = torch.full_like(x, size) * (40 * t).sin()
        prediction = convention.read(output, x, t)
