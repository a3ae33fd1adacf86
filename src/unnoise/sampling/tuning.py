"""Tuning a solver for one model and one number of steps."""

from __future__ import annotations

import torch

from ..errors import need_count
from ..fields import Field
from ..randomness import Streams
from ..solvers import Calibration, tune
from ..solvers.fitted.calibration import Progress
from .conditions import conditions_for
from .facts import ModelFacts
from .plan import make_plan
from .request import SampleRequest
from .tuned_solver import TunedSolver


def calibrate(
    facts: ModelFacts,
    request: SampleRequest,
    starts: int = 96,
    tries: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[TunedSolver, Calibration]:
    """Tune a solver for a model: for the steps and the guidance of a request.

    starts: how many trajectories, a third of them held out; classes in turn; their noise is that
    of purpose "tune", which no sample has. The denoiser is evaluated in float32, whatever the
    model's precision.
    """
    need_count("starts", starts, 16)
    facts.check_affordable(starts)
    plan = make_plan(facts, request.but(solver="auto"))
    noise = Streams(seed, range(starts)).purpose("tune")
    device, std = facts.inference.device, facts.denoiser.data_std
    field_: Field = facts.denoiser
    condition = conditions_for(facts, None)[0].condition(range(starts))
    if condition is not None:
        field_ = plan.guide(field_).conditioned(condition.to(device))
    x = field_.path.prior(noise, facts.spec.shape, 1.0, std).to(device)
    with torch.no_grad():
        found = tune(field_, x, plan.config.steps, std, tries=tries, progress=progress)
    kept = TunedSolver(
        found.solver,
        plan.config.guidance,
        {
            "starts": starts, "seed": seed, "tries": found.tries,
            "auto": list(found.before), "tuned": list(found.after),
        },
    )  # fmt: skip
    return kept, found
