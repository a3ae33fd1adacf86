"""What a solver's step costs beside the tensor arithmetic it cannot do without.

    python benchmarks/overhead.py

A 1×3×32×32 float32 state, a field that says one constant tensor in the eps lens, a warm plan.
The unit is two in-place operations on such a tensor, x·a + b·v: one DDIM step written by hand.
CPU time of this process on one thread; the contestants take turns, and a ratio is the median of
each round's own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from unnoise.fields import Field, Prediction
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

STEPS, ROUNDS = 100, 200
WANTED = {"ddim": 2.0, "dpmpp_2m": 3.0}
SOLVERS = ("ddim", "dpmpp_2m", "dpmpp_3m", "lms", "unipc", "heun", "ddpm", "dpmpp_2m_sde")
RESULT = Path(__file__).parent / "results" / "overhead.json"


class Constant(Field):
    """Says the same tensor everywhere, in the eps lens."""

    def __init__(self, value: torch.Tensor) -> None:
        self.path, self.value = VPLinear(), value

    def __call__(self, x_t, t, condition=None):
        return Prediction(x_t, t, self.path, "eps", self.value)


def contestants() -> dict[str, Callable[[], object]]:
    streams = Streams(0, [0])
    x, value = streams.normal(3, 32, 32), streams.normal(3, 32, 32)
    field, grid = Constant(value), grids.log_snr(VPLinear(), STEPS, 1.0, 0.01)

    def by_hand() -> None:
        y = x.clone()
        for _ in range(STEPS):
            y.mul_(0.99).add_(value, alpha=0.01)

    runs: dict[str, Callable[[], object]] = {"two operations": by_hand}
    for name in SOLVERS:
        solver = get(name)
        if solver.stochastic:
            runs[name] = lambda s=solver: s.solve(field, x, grid, Streams(0, [0]))
        else:
            runs[name] = lambda s=solver: s.solve(field, x, grid)
    return runs


def main() -> None:
    torch.set_num_threads(1)
    runs = contestants()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # compile the plans
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begun = time.process_time()
            run()
            times[name].append((time.process_time() - begun) / STEPS * 1e6)
    unit = times["two operations"]
    rows = {}
    print(f"{'':16}{'µs a step':>10}{'ratio':>8}{'wanted':>8}")
    for name, spent in times.items():
        middle, wanted = statistics.median(spent), WANTED.get(name)
        ratio = statistics.median(mine / two for mine, two in zip(spent, unit, strict=True))
        rows[name] = {
            "microseconds_a_step": round(middle, 3),
            "ratio": round(ratio, 3),
            "wanted": wanted,
        }
        limit = "" if wanted is None else f"≤ {wanted:g}"
        print(f"{name:16}{middle:10.2f}{ratio:8.2f}{limit:>8}")
    print("heun looks twice a step; ddpm and dpmpp_2m_sde draw 3072 normal numbers a step")
    result = {"torch": torch.__version__, "steps": STEPS, "rounds": ROUNDS, "solvers": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
