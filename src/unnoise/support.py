"""The table of path × lens × solver × weight: the combinations that work, and why others cannot.

Nothing is stated twice: every reason is the message of the part that refuses. Paths run from
t = 1 to t = 0 unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch

from .errors import InvalidArgument, Unsupported
from .fields import LENSES
from .fields import refusal as lens_refusal
from .objectives import TIMES, WEIGHTS, Denoising, weight
from .paths import (
    EDM,
    VE,
    Chain,
    Cosine,
    Flow,
    GaussianPath,
    SubVP,
    Trigonometric,
    VPLinear,
)
from .solvers import PRESETS, Multistep, RungeKutta, Solver, StochasticMultistep

PATHS: dict[str, GaussianPath] = {
    "vp_linear": VPLinear(),
    "sub_vp": SubVP(),
    "cosine": Cosine(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
    "trigonometric": Trigonometric(),
    "vp_linear shifted": VPLinear().shifted(4.0),
    "sub_vp shifted": SubVP().shifted(0.25),
    "cosine shifted": Cosine().shifted(0.25),
    "ve shifted": VE().shifted(4.0),
    "edm shifted": EDM().shifted(0.25),
    "flow shifted": Flow().shifted(1 / 9),
    "trigonometric shifted": Trigonometric().shifted(4.0),
    "cosine restricted": Cosine().restricted(last=0.999),
    "flow restricted": Flow().restricted(last=0.999),
    "chain linear": Chain.linear().as_path(),
    "chain cosine": Chain.cosine().as_path(),
    "chain scaled_linear": Chain.scaled_linear().as_path(),
    "chain sigmoid": Chain.sigmoid().as_path(),
    "chain zero terminal": Chain.linear().with_zero_terminal_snr().as_path(),
    "chain shifted": Chain.linear().as_path().shifted(0.25),
}

SOLVERS: dict[str, Solver] = {
    **{name: make() for name, make in PRESETS.items()},
    "ddim eta=0.5": PRESETS["ddim"](eta=0.5),
    "ddpm transition": PRESETS["ddpm"](variance="transition"),
    "dpmpp_2m_sde eta=0.5": PRESETS["dpmpp_2m_sde"](eta=0.5),
    "sde 3 points": StochasticMultistep(3),
    "deis sigma": PRESETS["deis"](coordinate="sigma"),
    "adams 3": PRESETS["adams"](order=3),
    "adams scaled": Multistep(points=2, direction=(1.0, 0.3), coordinate="angle"),
    "unipc bh1": PRESETS["unipc"](rule="bh1"),
    "unipc 3": PRESETS["unipc"](order=3),
    "unipc eps": PRESETS["unipc"](lens="eps"),
    "euler_maruyama eta=0.5": PRESETS["euler_maruyama"](eta=0.5),
    "predictor_corrector consistent": PRESETS["predictor_corrector"]("ddpm", consistent=True),
    "annealed_langevin consistent": PRESETS["annealed_langevin"](consistent=True),
    **{f"heun {c}": RungeKutta("heun", c) for c in ("t", "log_snr", "sigma", "signal")},
    "ralston": RungeKutta("ralston", "flow"),
    "kutta3": RungeKutta("kutta3", "flow"),
}


class Cell(NamedTuple):
    """One combination of a path, a lens, a solver and a weight; `reason` is None if it works."""

    path: str
    lens: str
    solver: str
    weight: str
    reason: str | None


def why_unsupported(
    path: GaussianPath,
    lens: str,
    solver: Solver,
    weight_name: str = "simple",
    start: float = 1.0,
    end: float = 0.0,
) -> str | None:
    """Return why `solver` cannot sample such a network from `start` to `end`, or None.

    The network predicts `lens` on `path` and was trained with the weight `weight_name`.
    """
    return (
        lens_refusal(path, lens)
        or solver.why_refused(path, start, end)
        or why_untrainable(path, weight_name)
    )


@lru_cache(maxsize=1024)
def why_untrainable(
    path: GaussianPath, weight_name: str, times_name: str = "uniform"
) -> str | None:
    """Return why a weight cannot be trained with this distribution of times on `path`, or None."""
    try:
        times = TIMES[times_name]()
        Denoising(weight=weight(weight_name), times=times)
        times.quantile(path, torch.tensor([0.5], dtype=torch.float64))
    except (InvalidArgument, Unsupported) as error:
        return str(error)
    return None


def cells() -> Iterator[Cell]:
    """Yield every cell of the table, from t = 1 to t = 0."""
    for path_name, path in PATHS.items():
        untrainable = {name: why_untrainable(path, name) for name in WEIGHTS}
        for solver_name, solver in SOLVERS.items():
            for lens in LENSES:
                reason = why_unsupported(
                    path, lens, solver
                )  # "simple", which every path can be trained by
                for name in WEIGHTS:
                    yield Cell(path_name, lens, solver_name, name, reason or untrainable[name])


def training_cells() -> Iterator[tuple[str, str, str, str | None]]:
    """Yield (path, weight, times, reason or None) of every objective."""
    for path_name, path in PATHS.items():
        for name in WEIGHTS:
            for times in TIMES:
                yield path_name, name, times, why_untrainable(path, name, times)


def default_start(path: GaussianPath, solver: Solver | None = None, lens: str = "v") -> float:
    """Return the latest of 1 and 0.999 from which sampling works.

    It is 1 unless the path's last signal is zero and the solver or the lens needs some.
    """
    refused = lens_refusal(path, lens) or (solver and solver.why_unsupported(path, 1.0, 0.0))
    return 0.999 if refused else 1.0
