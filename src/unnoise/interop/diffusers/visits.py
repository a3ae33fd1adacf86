"""Where a solver asks: the times of every pass of a walk, found by walking small known fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidArgument, Unsupported
from ...fields import Field, Gaussian, Prediction
from ...fields.field import Conditions
from ...paths import GaussianPath
from ...solvers import Solver, TimeGrid
from .convention import Convention


class Visit(NamedTuple):
    """One network pass: at time t, in step `step` (the number of steps for a last denoising)."""

    t: float
    tensor: Tensor
    step: int
    first: bool  # whether it begins its step


class Answers(Field):
    """A field that asks somebody else."""

    def __init__(self, path: GaussianPath, ask: Callable[[Tensor, Tensor], Prediction]) -> None:
        self.path, self.ask = path, ask

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        prediction = self.ask(x_t, t)
        return Prediction(x_t, t, self.path, prediction.lens, prediction.value, prediction.nfe)


class Draws:
    """Noise from the generator that a pipeline hands to every step."""

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

    def rewound(self, mark: int = 0) -> Draws:
        raise Unsupported("noise of a torch.Generator cannot be drawn again; use noise=Streams")


class _Silence:
    def normal(self, *event: int) -> Tensor:
        return torch.zeros(1, *event, dtype=torch.float64)

    def mark(self) -> int:
        return 0

    def rewound(self, mark: int = 0) -> _Silence:
        return self


@lru_cache(maxsize=64)
def visits(solver: Solver, convention: Convention, times: tuple[float, ...]) -> tuple[Visit, ...]:
    """Every pass of a walk of `solver` down `times`, and the last denoising where noise is left.

    Raises Unsupported where the solver cannot walk the path, or where its passes depend on what
    the network says.
    """
    path, grid = convention.path, TimeGrid.of(times)
    reason = solver.why_refused(path, times[0], times[-1])
    if reason:
        raise Unsupported(f"{solver} on {path}: {reason}")
    lens = "x0" if convention.sigma_data is not None or convention.clip else convention.predicts
    found = [_walk(solver, path, lens, grid, mean, spread) for mean, spread in ((0.3, 0.5), (9, 2))]
    if found[0] != found[1]:
        raise Unsupported(
            f"{solver} asks the network at times that depend on its answers; a pipeline's list of "
            "timesteps cannot hold them: use a solver of fixed steps"
        )
    asked = found[0]
    if times[-1] == 0 and float(path.sigma(0.0)) > 0:
        asked = [*asked, (times[-1], grid.steps)]
    return tuple(
        Visit(t, torch.tensor(t, dtype=torch.float64), step, i == 0 or step != asked[i - 1][1])
        for i, (t, step) in enumerate(asked)
    )


def _walk(
    solver: Solver, path: GaussianPath, lens: str, grid: TimeGrid, mean: float, spread: float
) -> list[tuple[float, int]]:
    known = Gaussian(torch.full((1,), float(mean), dtype=torch.float64), float(spread), path)
    asked: list[tuple[float, int]] = []

    def answer(x: Tensor, t: Tensor) -> Prediction:
        if t.ndim or len(x) != 1:
            raise Unsupported(
                f"{solver} asks at several times in one pass; a pipeline asks at one: use a solver "
                "that is not parallel"
            )
        prediction = known(x, t)
        return prediction.with_value(lens, prediction.as_lens(lens))

    def note(step: int, prediction: Prediction) -> None:
        asked.append((float(prediction.t), step))

    start = torch.full((1, 1), float(path.sigma(grid.floats[0])), dtype=torch.float64)
    solution = solver.drive(Answers(path, answer), start, grid, _Silence(), note)
    if solution.nfe != len(asked):
        raise Unsupported(f"{solver} does not show every pass of its walk; use another solver")
    return asked
