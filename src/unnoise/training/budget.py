"""Budgets of time: refuse those that hold fewer than five updates."""

from __future__ import annotations

from ..errors import RecipeError
from .loop import Training

LEAST = 5  # updates: fewer teach nothing


def require_enough_updates(training: Training, last: float) -> None:
    """Raise RecipeError once it is clear that the run's budget of time does not hold LEAST updates.

    last: the seconds of the last update. The first update, which warms up, does not count.
    """
    budget = training.config.budget
    if budget is None or training.step >= LEAST or (training.step < 2 and training.progress < 1):
        return
    fits = training.step + max(0.0, budget - training.elapsed) / max(last, 1e-9)
    if fits >= LEAST:
        return
    wanted = training.elapsed + (LEAST - training.step) * last
    raise RecipeError(
        f"train.budget of {budget:g} s holds {int(fits)} updates of about {last:.3g} s each, and "
        f"fewer than {LEAST} teach nothing; give at least {max(2 * budget, 20 * wanted):.0f} s (go "
        "on with --resume and the longer train.budget), a smaller network (network.widths) or a "
        "smaller train.batch"
    )
