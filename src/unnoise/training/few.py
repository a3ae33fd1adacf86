"""Budgets of time in which hardly an update fits."""

from __future__ import annotations

from ..errors import RecipeError
from .loop import Training

FEW = 5  # updates, with fewer than which nothing at all has been learned


def need_few(training: Training, last: float) -> None:
    """Raise RecipeError once it is clear that the run's budget of time does not hold FEW updates.

    last: the seconds of the last update. The first one, which warms up, is not judged by.
    """
    budget = training.config.budget
    if budget is None or training.step >= FEW or (training.step < 2 and training.progress < 1):
        return
    fits = training.step + max(0.0, budget - training.elapsed) / max(last, 1e-9)
    if fits >= FEW:
        return
    wanted = training.elapsed + (FEW - training.step) * last
    raise RecipeError(
        f"train.budget of {budget:g} s holds {int(fits)} updates of about {last:.3g} s each, and "
        f"fewer than {FEW} teach nothing; give at least {max(2 * budget, 20 * wanted):.0f} s (go "
        "on with --resume and the longer train.budget), a smaller network (network.widths) or a "
        "smaller train.batch"
    )
