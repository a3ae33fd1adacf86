"""Coefficients of steps of several stages: each next stage's state, and the step's end."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .direction import Direction
from .executor import DRAW, Combination, StepCoefficients
from .one_step import factor
from .registers import Registers

Row = tuple[float, Sequence[float]]  # base, and the share of the g of each stage so far
Place = tuple[int, Tensor | None]  # grid step and time of an evaluation, None: time k of the grid


def stage_coefficients(
    g: Direction,
    states: Sequence[Row],
    places: Sequence[Place],
    dtype: torch.dtype,
    noise: Sequence[tuple[float, float]] = (),
) -> list[StepCoefficients]:
    """Return the coefficients of one step: states base·start + Σ share·g, the last its end.

    g: at each stage; noise: of each state, (share of the noise before that stays, deviation of the
    fresh noise). Kept between stages: the next state, the end so far; where they are needed, the
    start, the noise and the stored evaluations (of the first its value: the start has the rest).
    """
    out, last = list[StepCoefficients](), len(states) - 1
    kept: list[Hashable] = ["x"]

    def share(i: int, j: int) -> float:
        return states[i][1][j] if j < len(states[i][1]) else 0.0

    def base(i: int) -> Tensor:
        return factor(states[i][0] + share(i, 0) * g.on_x[0], dtype)

    for i in range(last + 1):
        at = Registers(kept)
        start = 0 if not i else at["start"] if "start" in kept else -1

        def now(state: int, i: int = i, at: Registers = at) -> tuple[tuple[int, float], ...]:
            weights = (share(state, i) * part for part in (g.on_value[i], g.on_x[i] if i else 0.0))
            return tuple(t for t in zip((at["value"], 0), weights, strict=True) if t[1])

        spared, fresh = noise[i] if noise else (0.0, 0.0)
        onward = noise and i < last and noise[i + 1][0] != 0  # a later state has a share of it
        if i < last:
            past = tuple(
                (at[j], share(i, j) * (g.unit(j) if j else g.on_value[0]))
                for j in range(i)
                if share(i, j)
            )
            at.push("x", Combination(start, base(i), past + now(i)))
        if i:
            at.push("end", Combination(at["end"], None, now(last), reuse=True))
        else:
            at.push("end", Combination(0, base(last), now(last)))
        spared = spared if "noise" in kept else 0.0
        if fresh or spared:
            _share_noise(at, spared, fresh, dtype)
            state = "x" if i < last else "end"
            at.push(state, Combination(at[state], None, ((at["noise"], 1.0),), reuse=True))
        needed = [j for j in range(i + 1) if any(share(s, j) for s in range(i + 1, last))]
        if i in needed and not i:
            at.alias(0, at["value"])
        elif i in needed:
            g.store(at, i, 0)
        at.alias("start", start)
        k, t = places[i]
        kept = ["end"]
        if i < last:
            kept = ["x", "end", *(["start"] if i + 1 < last else [])]
            kept += [*(["noise"] if onward else []), *needed]
        out.append(at.coefficients(k, kept, t))
    return out


def _share_noise(at: Registers, spared: float, fresh: float, dtype: torch.dtype) -> None:
    """Name "noise" the sum of a share of the noise before and fresh noise of a deviation."""
    if not fresh:
        at.push("noise", Combination(at["noise"], factor(spared, dtype), reuse=True))
        return
    before = ((at["noise"], spared),) if spared else ()
    drawn = at.push("noise", DRAW)
    at.push("noise", Combination(drawn, factor(fresh, dtype), before, reuse=True))
