"""The plan of a request for one model: solver, grid and guidance, checked before any work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Field
from ..guidance import classifier_free, composed
from ..paths import GaussianPath
from ..recipes import (
    Guidance,
    SampleConfig,
    brings_grid,
    plan_grid,
    resolved,
    why_unsupported,
)
from ..solvers import Solver, Tuned, names
from .facts import ModelFacts
from .precision import find_device
from .request import SampleRequest


@dataclass(frozen=True)
class Plan:
    """A solver, its grid with a name for it, and the section in force."""

    solver: Solver
    grid: Tensor
    config: SampleConfig
    spacing: str

    def guide(self, field: Field) -> Field:
        """Return the field under the section's guidances."""
        return guide(field, self.config.guidance)

    def to_dict(self) -> dict[str, Any]:
        """Return the options in force as plain values: all on which the samples depend."""
        times = ",".join(float(t).hex() for t in self.grid)
        to_dict = getattr(self.solver, "to_dict", None)  # of a tuned one
        tree = resolved(self.config) | {"grid": self.spacing, "steps": len(self.grid) - 1}
        tree["times_sha256"] = hashlib.sha256(times.encode()).hexdigest()
        return tree | ({} if to_dict is None else {"tuned": to_dict()})


def guide(field: Field, sections: Guidance) -> Field:
    """Return a field under guidances, the first of them innermost."""
    for section in sections:
        if section.kind == "composed":
            field = composed(field, section.scales)
        else:
            field = classifier_free(field, section.scale, section.interval, section.rescale)
    return field


def make_plan(facts: ModelFacts, request: SampleRequest) -> Plan:
    """Return the plan of a request; the recipe's section `sample` is the default of every option.

    A solver named in the request that has a default grid uses it unless `grid` is given too; names
    of other programs that imply a grid ("DPM++ 2M Karras") are such solvers. Raises InvalidArgument
    for an impossible request, Unsupported for a name of another program without a solver here.
    """
    _check_place(facts, request)
    if request.solver is not None and request.solver != "tuned":
        names.ask(request.solver)
    config, path = request.section(facts.sample), facts.denoiser.path
    solver = _solver(facts, config, request)
    if wrong := why_unsupported(config, solver, facts.able):
        raise InvalidArgument(wrong)
    listed = request.times is not None
    free = request.solver is not None and not listed and request.given("grid") is None
    if request.times is not None:
        times = torch.tensor(request.times, dtype=torch.float64)
        spacing = f"{len(times)} given times"
    elif (
        free
        and not brings_grid(request.solver)
        and (own := solver.own_grid(path, config.steps)) is not None
    ):
        times, spacing = own, "own"
    else:
        brought = request.solver if free and brings_grid(request.solver) else None
        times, spacing = _planned(config, path, solver, brought), str(config.grid)
    if isinstance(solver, Tuned):
        solver.weights(path, tuple(times.tolist()))
    if reason := solver.why_refused(path, float(times[0]), float(times[-1])):
        raise InvalidArgument(f"solver {solver} on {path}: {reason}")
    return Plan(solver, times, config, spacing)


def _check_place(facts: ModelFacts, request: SampleRequest) -> None:
    """Raise InvalidArgument if a request is for another precision or device than the model's."""
    inference = facts.inference
    if request.precision not in ("auto", inference.precision):
        raise InvalidArgument(
            f"precision is {request.precision}, and the model was loaded in {inference.precision}; "
            f"load it with precision={request.precision!r}"
        )
    if request.device != "auto" and find_device(request.device).type != inference.device.type:
        raise InvalidArgument(
            f"device is {request.device}, and the model was loaded on {inference.device}; load it "
            f"with device={request.device!r}"
        )


def _planned(
    config: SampleConfig, path: GaussianPath, solver: Solver, brought: str | None
) -> Tensor:
    try:
        return plan_grid(config, path, solver)
    except InvalidArgument as error:
        if brought is None:
            raise
        raise InvalidArgument(f"solver {brought!r} brings its grid: {error}") from error


def _solver(facts: ModelFacts, config: SampleConfig, request: SampleRequest) -> Solver:
    name = config.solver if request.solver is None else request.solver
    if name != "tuned":
        return names.ask(name).solver.for_data(facts.denoiser.data_std)
    if config.steps not in facts.tuned:
        known = ", ".join(map(str, sorted(facts.tuned))) or "none"
        raise InvalidArgument(
            f"this model is not tuned for {config.steps} steps (tuned for: {known}); run "
            f"`unnoise tune MODEL --steps {config.steps}`, or take solver 'auto'"
        )
    return facts.tuned[config.steps].for_guidance(config.guidance)
