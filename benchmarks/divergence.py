"""What the exact divergence of a network costs beside one backward pass a dimension.

    python benchmarks/divergence.py

Networks of 64 dimensions in float32: two perceptrons and a small U-Net with attention on 1×8×8.
`likelihood.trace` (one backward pass that carries many dimensions) and batched forward mode,
against a loop of torch.autograd.grad, one call a dimension: with the graph kept as it is (the best
such loop), and with create_graph=True (as common code has it).
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
from torch import Tensor

from unnoise.fields import Denoiser
from unnoise.likelihood import trace
from unnoise.networks import Mlp, UNet
from unnoise.paths import Cosine
from unnoise.randomness import Streams

ROUNDS, WANTED = 7, 2.0
BATCHES = (1, 4, 16, 64)
NETWORKS = {
    "mlp": (lambda: Mlp(64, 64, 3), (64,)),
    "wide mlp": (lambda: Mlp(64, 256, 4), (64,)),
    "unet": (lambda: UNet(1, 2, (16, 32), 1, attention=(1,)), (1, 8, 8)),
}
RESULT = Path(__file__).parent / "results" / "divergence.json"


def one_at_a_time(function: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool) -> Tensor:
    """Return tr ∂function/∂x, by one backward pass a dimension."""
    x = x.detach().requires_grad_()
    value = function(x).flatten(1)
    total = torch.zeros(len(x))
    for i in range(value.shape[1]):
        (row,) = torch.autograd.grad(
            value[:, i].sum(), x, retain_graph=True, create_graph=create_graph
        )
        total += row.flatten(1)[:, i].detach()
    return total


def contestants(network: torch.nn.Module, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the ways to compute the trace of a network's Jacobian, by name."""
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():  # weights of zero would hide the network
        if not bool(p.any()):
            p.data.normal_(0, 0.05, generator=generator)
    denoiser = Denoiser(network.eval().requires_grad_(False), Cosine(), "v")
    t = torch.full((len(x),), 0.4, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return denoiser(x, t).value

    return {
        "trace": lambda: trace(function, x)[1],
        "forward": lambda: trace(function, x, "forward")[1],
        "one at a time": lambda: one_at_a_time(function, x, False),
        "one at a time, create_graph": lambda: one_at_a_time(function, x, True),
    }


def main() -> None:
    """Measure all networks, print the table, write the result."""
    torch.set_num_threads(1)
    rows = []
    print(f"{'':10}{'batch':>6}{'trace ms':>10}{'forward':>9}{'loop':>9}{'ratio':>7}{'graph':>7}")
    for name, (make, event) in NETWORKS.items():
        for batch in BATCHES:
            runs = contestants(make(), Streams(0, range(batch)).normal(*event))
            answers = [run() for run in runs.values()]
            assert all(torch.allclose(a, answers[0], rtol=1e-3, atol=1e-4) for a in answers)
            times: dict[str, list[float]] = {key: [] for key in runs}
            for _ in range(ROUNDS):
                for key, run in runs.items():
                    begun = time.process_time()
                    run()
                    times[key].append((time.process_time() - begun) * 1e3)
            ours, _, *loops = times.values()
            ratios = [
                statistics.median(b / f for b, f in zip(loop, ours, strict=True)) for loop in loops
            ]
            middle = [statistics.median(spent) for spent in times.values()]
            print(
                f"{name:10}{batch:6}{middle[0]:10.2f}{middle[1]:9.2f}{middle[2]:9.2f}"
                f"{ratios[0]:7.2f}{ratios[1]:7.2f}"
            )
            rows.append(
                {
                    "network": name,
                    "batch": batch,
                    "milliseconds": dict(zip(times, (round(m, 3) for m in middle), strict=True)),
                    "ratio": round(ratios[0], 3),
                    "ratio_create_graph": round(ratios[1], 3),
                    "wanted": WANTED,
                }
            )
    print("a large batch fills the matrix products of either way, and the ratio falls to theirs")
    result = {"torch": torch.__version__, "rounds": ROUNDS, "dimensions": 64, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
