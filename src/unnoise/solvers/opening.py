"""One step of a one-step solver inside another solver's walk, its first look being known."""

from __future__ import annotations

from torch import Tensor

from ..fields.field import Conditions, Field, Prediction
from .solver import OnStep, Solution, Solver, TimeGrid


class Known(Field):
    """A field that answers its first question with a prediction made before, at no cost."""

    def __init__(self, field: Field, prediction: Prediction) -> None:
        self.field, self.path = field, field.path
        self._said: Prediction | None = Prediction(
            prediction.x_t, prediction.t, prediction.path, prediction.lens, prediction.value, 0
        )

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        if self._said is not None:
            prediction, self._said = self._said, None
            return prediction
        return self.field(x_t, t, condition)


def open_step(
    solver: Solver,
    field: Field,
    prediction: Prediction,
    times: TimeGrid,
    on_step: OnStep | None,
    k: int,
) -> Solution:
    """Step k of a walk taken by `solver` from said.x_t over `times`; `passes` leaves out `said`.

    on_step sees the stages, as of step k, and not `said` again.
    """
    first = True

    def look(_: int, prediction: Prediction) -> bool | None:
        nonlocal first
        if first or on_step is None:
            first = False
            return None
        return on_step(k, prediction)

    return solver.walk(
        Known(field, prediction), prediction.x_t, times, None, look if on_step else None
    )
