"""What a request means for one model, checked before any work."""

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
        """Return the options in force as plain values, what the samples depend on among them."""
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
    """Return the plan of a request; what is not given is as the model's recipe says.

    A solver that is named in the request and has a grid of its own follows that, unless a grid is
    given too; so does one with the name of another program ("DPM++ 2M Karras") that implies a
    grid. Raises InvalidArgument for what cannot be, Unsupported for what is no solver here.
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
    """Raise InvalidArgument where a request is for another precision or device than the model's."""
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
    asked = config.solver if request.solver is None else request.solver
    if asked != "tuned":
        return names.ask(asked).solver.for_data(facts.denoiser.data_std)
    if config.steps not in facts.tuned:
        known = ", ".join(map(str, sorted(facts.tuned))) or "none"
        raise InvalidArgument(
            f"this model is not tuned for {config.steps} steps (tuned for: {known}); run "
            f"`unnoise tune MODEL --steps {config.steps}`, or take solver 'auto'"
        )
    return facts.tuned[config.steps].for_guidance(config.guidance)
