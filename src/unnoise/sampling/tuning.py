"""Tuning a solver for one model and one number of steps."""

from __future__ import annotations

import torch

from ..errors import need_count
from ..fields import Condition, Field
from ..randomness import Streams
from ..solvers import Calibration, tune
from ..solvers.fitted.calibration import Progress
from .facts import ModelFacts
from .plan import make_plan
from .tuned_solver import TunedSolver


def calibrate(
    facts: ModelFacts,
    steps: int,
    guidance: float | None = None,
    starts: int = 96,
    tries: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[TunedSolver, Calibration]:
    """Tune a solver of `steps` steps for a model.

    starts: how many trajectories, a third of them held out; classes in turn; their noise is that
    of purpose "tune", which no sample has. guidance: the recipe's where not given; its interval
    and rescale stay. The denoiser is evaluated in float32, whatever the model's precision.
    """
    need_count("starts", starts, 16)
    facts.check_affordable(starts)
    plan = make_plan(facts, "auto", steps, None, guidance, None, None)
    noise = Streams(seed, range(starts)).purpose("tune")
    device, std = facts.inference.device, facts.denoiser.data_std
    field_: Field = facts.denoiser
    if facts.classes:
        labels = (torch.arange(starts) % facts.classes).to(device)
        field_ = plan.guide(field_).conditioned(Condition.of({"class": labels}, starts))
    x = field_.path.prior(noise, facts.spec.shape, 1.0, std).to(device)
    with torch.no_grad():
        found = tune(field_, x, steps, std, tries=tries, progress=progress)
    config = plan.config
    kept = TunedSolver(
        found.solver,
        config.guidance,
        config.interval,
        config.rescale,
        {
            "starts": starts, "seed": seed, "tries": found.tries,
            "auto": list(found.before), "tuned": list(found.after),
        },
    )  # fmt: skip
    return kept, found
