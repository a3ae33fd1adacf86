"""Steps of several looks: the state of the next look, and the step's end as it comes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Prediction
from .terms import Mark, Rows, Terms, combine, factor, marked

Row = tuple[float, Sequence[float]]  # base, and the share of the g of each look so far


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a look adds to a step: to the state of the next look, and to the step's end.

    state: the next look's state from the start and the earlier looks that are kept, and
    (on value, on x_t) of this one; None after the last. begin: what the end begins with, times
    the start, at the first look; end: (on value, on x_t). mark: where later looks need this one.
    """

    state: Terms | None
    now: tuple[float, float]
    begin: Tensor | None
    end: tuple[float, float]
    mark: Mark | None


def add(out: Tensor, prediction: Prediction, weights: tuple[float, float]) -> None:
    """out += on_value·value + on_x·x_t."""
    on_value, on_x = weights
    if on_value:
        out.add_(prediction.value, alpha=on_value)
    if on_x:
        out.add_(prediction.x_t, alpha=on_x)


def advance(
    look: Look,
    prediction: Prediction,
    start: Tensor,
    end: Tensor | None,
    kept: list[Tensor],
    free: bool = False,
) -> tuple[Tensor, Tensor]:
    """(the next look's state, or after the last the end; the end so far).

    The end begins in the memory of the start where that is `free`.
    """
    state = None
    if look.state is not None:
        state = combine(start, look.state, kept)
        add(state, prediction, look.now)
    if look.begin is not None:
        end = start.mul_(look.begin) if free else torch.mul(start, look.begin)
    assert end is not None
    add(end, prediction, look.end)
    if look.mark is not None:
        kept.append(marked(prediction, look.mark))
    return end if state is None else state, end


def plan_looks(rows: Rows, states: Sequence[Row]) -> tuple[Look, ...]:
    """The looks of a step: states are base·start + Σ share·g, the last one the step's end.

    rows: of g at each look.
    """
    looks, kept = [], dict[int, int]()  # which looks are kept, and where
    last, ending = len(states) - 1, states[-1]

    def share(row: Row, i: int) -> float:
        return row[1][i] if i < len(row[1]) else 0.0

    def parts(row: Row, i: int) -> tuple[float, tuple[float, float]]:
        """The base, and what look i weighs: at the start its x_t is the start itself."""
        on_x, on_value = (share(row, i) * part[i] for part in (rows.on_x, rows.on_value))
        if i == 0:
            return row[0] + on_x, (on_value, 0.0)
        return row[0] + share(row, 0) * rows.on_x[0], (on_value, on_x)

    for i in range(last + 1):
        state, now, mark = None, (0.0, 0.0), None
        if i < last:
            base, now = parts(states[i], i)
            past = [
                (kept[j], share(states[i], j) * (rows.unit(j) if j else rows.on_value[0]))
                for j in range(i)
                if share(states[i], j)
            ]
            state = Terms(factor(base, rows.dtype), tuple(past))
        if any(share(states[j], i) for j in range(i + 1, last)):
            kept[i] = len(kept)
            mark = rows.mark(i) if i else Mark(False, 0.0)  # of the first, the start has the rest
        base, end = parts(ending, i)
        looks.append(Look(state, now, None if i else factor(base, rows.dtype), end, mark))
    return tuple(looks)
