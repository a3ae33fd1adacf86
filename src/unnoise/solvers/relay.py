"""Steps of one solver inside those of another."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ..fields.field import Prediction
from .solver import Outcome, Request, Steps


def as_stages(
    walk: Steps, k: int, states: int = 0, known: Prediction | None = None
) -> Generator[Request, Prediction, Tensor]:
    """Relay a solver's steps inside step k of another: all but the first `states` requests become
    stages of step k. `known`: the Prediction at the first request, which is then not relayed."""
    try:
        request = next(walk)
        if known is not None:
            request = walk.send(known)
        while True:
            if states:
                prediction, states = (yield request), states - 1
            else:
                prediction = yield request[0], request[1], k
            request = walk.send(prediction)
            del prediction
    except StopIteration as end:
        return state_of(end.value)


def state_of(result: Tensor | Outcome) -> Tensor:
    """Return x of what a solver's `steps` returned."""
    return result.x if isinstance(result, Outcome) else result
