"""What a call of `Model.sample` asks for, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, RecipeError
from ..fields import Field
from ..guidance import classifier_free
from ..paths import GaussianPath, grids
from ..recipes import SampleConfig, plan_grid, validate
from ..solvers import Solver, Tuned, names, own_grid
from .facts import ModelFacts


@dataclass(frozen=True)
class Plan:
    """A solver, its grid with what it is called, and the guidance."""

    solver: Solver
    grid: Tensor
    config: SampleConfig
    spacing: str

    def guide(self, denoiser: Field) -> Field:
        if self.config.guidance == 1:
            return denoiser
        return classifier_free(
            denoiser, self.config.guidance, self.config.interval, self.config.rescale
        )


def make_plan(
    facts: ModelFacts,
    solver: str | Solver | None,
    steps: int | None,
    grid: Mapping[str, Any] | Sequence[float] | Tensor | str | None,
    guidance: float | None,
    interval: tuple[float, float] | None,
    rescale: float | None,
) -> Plan:
    """The plan of a call; what is not given is as the model's recipe says.

    A solver that is named here and has a grid of its own walks that, unless a grid is named too;
    so does one with the name of another program ("DPM++ 2M Karras"), where that says a grid.
    Raises InvalidArgument for what cannot be, Unsupported for what is no solver here.
    """
    listed = brought = None
    if isinstance(solver, str) and solver != "tuned":
        meant = names.ask(solver)
        if meant.grid is not None and grid is None:
            grid, brought = {"kind": meant.grid.name, **meant.grid.options}, solver
        solver = meant.solver
    if grid is not None and not isinstance(grid, str | Mapping):
        listed, grid = grids.check(grid), None
        if steps not in (None, len(listed) - 1):
            raise InvalidArgument(
                f"steps is {steps}, and the grid has {len(listed)} times: leave steps out"
            )
        steps = len(listed) - 1
    given: dict[str, Any] = {
        "steps": steps, "guidance": guidance, "interval": interval, "rescale": rescale,
        "grid": {"kind": grid} if isinstance(grid, str) else grid,
    }  # fmt: skip
    tree = facts.sample.model_dump() | {k: v for k, v in given.items() if v is not None}
    try:
        config = validate(SampleConfig, tree, "sampling")
    except RecipeError as error:
        raise InvalidArgument(str(error)) from error
    asked = guidance is not None and guidance != 1
    if not facts.classes and (asked or interval is not None or rescale):
        raise InvalidArgument(
            "guidance was asked for, and this model has no condition to be guided by; leave it "
            "out, or train on labelled data"
        )
    if config.guidance == 1 and (interval is not None or rescale):
        raise InvalidArgument(
            "an interval or a rescale was given, and guidance is 1, so that nothing is guided; "
            "leave it out, or give a guidance such as 1.5"
        )
    if facts.classes and config.guidance != 1 and not facts.null:
        raise InvalidArgument(
            "guidance needs the null condition, and this model was trained with "
            "objective.condition_dropout=0; sample with guidance 1, or train with "
            "objective.condition_dropout=0.1"
        )
    path = facts.denoiser.path
    chosen = _solver(facts, config, solver)
    own = solver is not None and grid is None and chosen.own_grid(path, config.steps) is not None
    if listed is not None:
        times, spacing = listed, f"{len(listed)} given times"
    elif own:
        times, spacing = own_grid(chosen, path, config.steps), "own"
    else:
        times, spacing = _planned(config, path, chosen, brought), _text(config)
    if isinstance(chosen, Tuned):
        chosen.weights(path, tuple(times.tolist()))
    reason = chosen.why_refused(path, float(times[0]), float(times[-1]))
    if chosen.needs_learned_variance and not facts.denoiser.learned_variance:
        reason = "this model learned no variance; use ddpm or ddpm:variance=transition"
    if reason:
        raise InvalidArgument(f"solver {chosen} on {path}: {reason}")
    return Plan(chosen, times, config, spacing)


def _planned(
    config: SampleConfig, path: GaussianPath, solver: Solver, brought: str | None
) -> Tensor:
    try:
        return plan_grid(config, path, solver)
    except InvalidArgument as error:
        if brought is None:
            raise
        raise InvalidArgument(f"solver {brought!r} brings its grid: {error}") from error


def _text(config: SampleConfig) -> str:
    """karras(sigma_min=0.01, rho=5): the spacing with its options."""
    tree = config.grid.model_dump(exclude_none=True)
    options = ", ".join(f"{name}={value}" for name, value in tree.items() if name != "kind")
    return f"{config.grid.kind}({options})" if options else config.grid.kind


def _solver(facts: ModelFacts, config: SampleConfig, solver: str | Solver | None) -> Solver:
    name = config.solver if solver is None else solver
    if name != "tuned":
        return names.ask(name).solver.for_data(facts.denoiser.data_std)
    if config.steps not in facts.tuned:
        known = ", ".join(map(str, sorted(facts.tuned))) or "none"
        raise InvalidArgument(
            f"this model is not tuned for {config.steps} steps (tuned for: {known}); run "
            f"`unnoise tune MODEL --steps {config.steps}`, or take solver 'auto'"
        )
    return facts.tuned[config.steps].for_guidance(config)
