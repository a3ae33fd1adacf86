"""Claims about straight paths."""

from __future__ import annotations

import torch

from unnoise.fields import Gaussian
from unnoise.paths import Cosine, Flow, GaussianPath, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get

from .claim import FAILS, HOLDS, WHEN, Finding, Value
from .registry import claim
from .worlds import F64, field_error, mean, ring, spectrum, spectrum_error

NAMED: dict[str, GaussianPath] = {"flow": Flow(), "cosine": Cosine(0.0), "VP": VPLinear()}
LAST = 1e-3  # VP's velocity is infinite at t = 0, and grows like 1/√t


@claim(
    "flow",
    "Liu et al. 2023; Lipman et al. 2023; introductions",
    "Flow matching's trajectories are straighter than diffusion's.",
)
def flows_are_straighter() -> Finding:
    from unnoise.transport import straightness

    found: dict[str, Value] = {}
    bent = {}
    for name, path in NAMED.items():
        wide = Gaussian(torch.zeros(9, dtype=F64), 1.0, path)
        for data, field in (("as wide as the noise", wide), ("a spectrum", spectrum(path))):
            x = Streams(0, range(400)).normal(9).double()
            made = straightness(field, x, grids.uniform(200, 0.999, LAST))
            bent[data, name] = mean(made.deviation / 9)
            found[f"data {data}, {name}: E∫‖Δ − v‖²dt/E‖ε‖²"] = bent[data, name]

    def straightest(data: str) -> bool:
        others = (bent[data, name].low for name in NAMED if name != "flow")
        return bent[data, "flow"].high < min(others)

    right = straightest("a spectrum")
    always = right and straightest("as wide as the noise")
    return Finding(
        found,
        HOLDS if always else WHEN if right else FAILS,
        "the data are narrow in most directions, as pictures are" if right and not always else "",
        "Where the data are as wide as the noise, a variance-preserving path does not move at all, "
        "and the flow's goes in and out again, for its variance dips in the middle.",
    )


@claim(
    "flow",
    "introductions; Esser et al. 2024",
    "Flow paths need fewer sampling steps than diffusion paths.",
)
def flows_need_fewer_steps() -> Finding:
    found: dict[str, Value] = {}
    least = {}
    for label, scale in (("wide data (deviations 1 … 0.01)", 1.0), ("data a tenth of that", 0.1)):
        for n in (10, 50):
            own = {
                name: field_error(
                    spectrum(path, scale),
                    get("euler", coordinate="t"),
                    grids.uniform(n, 0.999, 1e-5),
                )
                for name, path in NAMED.items()
            }
            least[scale, n] = min(own, key=own.__getitem__)
            found[f"{label}, Euler in the path's time, {n} steps, W₂/rms: {', '.join(own)}"] = (
                ", ".join(f"{e:.3f}" for e in own.values())
            )
    level = grids.uniform(10, 0.99, 1e-5)  # levels of σ/(σ + α), the same on every path
    shared = [
        spectrum_error("ddim", path.time(torch.log1p(-level) - level.log()), path)
        for path in NAMED.values()
    ]
    found["wide data, DDIM on the same 10 noise levels"] = ", ".join(f"{e:.4f}" for e in shared)
    narrow = least[0.1, 10] == least[0.1, 50] == "flow"
    wide = least[1.0, 10] == least[1.0, 50] == "flow"
    return Finding(
        found,
        HOLDS if narrow and wide else WHEN if narrow else FAILS,
        "the data are narrow against the noise and Euler walks the path's own time"
        if narrow and not wide
        else "",
        "Every Gaussian path is another's, stretched: on the same noise levels DDIM makes the "
        "same samples on all three. What helps is the grid and the coordinate, not the path.",
    )


@claim(
    "flow",
    "Liu et al. 2023",
    "The trajectories of rectified flow are straight lines.",
)
def rectified_is_straight() -> Finding:
    from unnoise.transport import straightness

    path, found, bent = Flow(), {}, {}
    laws = {
        "one point": Gaussian(torch.tensor([1.0, 2.0], dtype=F64), 0.0, path),
        "one Gaussian": Gaussian(
            torch.zeros(2, dtype=F64), torch.tensor([1.0, 0.01]).double(), path
        ),
        "the ring": ring(path),
    }
    for name, field in laws.items():
        x = Streams(0, range(400)).normal(2).double()
        made = straightness(field, x, grids.uniform(200, 1.0, LAST))
        bent[name] = float(made.deviation.mean() / 2)
        found[f"{name}: E∫‖Δ − v‖²dt/E‖ε‖²"] = bent[name]
    right = bent["one point"] < 1e-9 and bent["the ring"] > 1e-3
    return Finding(
        found,
        WHEN if right else FAILS,
        "the data are one point" if right else "",
        "The conditional paths are straight; the flow that averages over them is not, before any "
        "reflow.",
    )
