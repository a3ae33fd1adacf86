"""Flow matching against maximum likelihood of the same flow, at equal CPU time.

    python benchmarks/flow_training.py [seconds]

A three-part mixture in the plane, one small network as the velocity of a flow. Contestants: flow
matching with independent pairs and with minibatch optimal transport; the likelihood of the ODE's
own solution in 4 RK4 steps (FFJORD's objective, exact trace), gradients through every step. Each
trains on one thread for the same CPU time. Measured on held-out data: −log p minus the data's
entropy (nats; 64 RK4 steps, exact trace), and the sliced W2 of samples in 20 and in 2 Heun steps,
beside that of two exact sample sets.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from unnoise.fields import Denoiser, Mixture
from unnoise.objectives import Batch, Denoising, MaximumLikelihood, Objective, weight
from unnoise.paths import Coupled, Flow, Optimal
from unnoise.randomness import Streams
from unnoise.transport import straightness, translate

BATCH, POOL, HELD = 256, 50_000, 2000
RESULT = Path(__file__).parent / "results" / "flow_training.json"
CONTESTANTS: dict[str, Objective] = {
    "flow matching": Denoising(weight("velocity")),
    "flow matching, optimal transport": Denoising(weight("velocity"), coupling=Optimal()),
    "maximum likelihood": MaximumLikelihood(4),
}


class Velocity(nn.Module):
    """A network of three tanh layers on x and t."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers = [nn.Linear(3, width), nn.Linear(width, width), nn.Linear(width, 2)]
        self.layers = nn.ModuleList(layers)
        with torch.no_grad():
            for k, p in enumerate(self.parameters()):
                p.copy_(p[0].numel() ** -0.5 * Streams(0, [k]).normal(*p.shape)[0])

    def forward(self, x: Tensor, level: Tensor, condition: object) -> Tensor:
        h = torch.cat([x, level[:, None]], 1)
        for layer in list(self.layers)[:-1]:
            h = torch.tanh(layer(h))
        return self.layers[-1](h)


class Drawn:
    """A batch's noise from one generator: per-sample streams cost more than this small network."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def purpose(self, name: str) -> Drawn:
        return self

    def normal(self, *event: int) -> Tensor:
        return torch.randn(BATCH, *event, generator=self.generator)

    def uniform(self, *event: int) -> Tensor:
        return torch.rand(BATCH, *event, generator=self.generator)

    def rows(self) -> Tensor:
        return torch.randint(POOL, (BATCH,), generator=self.generator)


def data() -> Mixture:
    """Return the three-part mixture in the plane."""
    return Mixture(
        torch.tensor([0.2, 0.5, 0.3]),
        torch.tensor([[-1.0, 0.5], [1.2, 1.0], [0.3, -1.4]]),
        torch.tensor(
            [[[0.2, 0.1], [0.1, 0.3]], [[0.05, 0.0], [0.0, 0.1]], [[0.3, -0.2], [-0.2, 0.25]]]
        ),
        Flow(),
    )


def sliced_w2(x: Tensor, y: Tensor) -> float:
    """Return the sliced W₂ of two sets of points."""
    angle = torch.arange(32) * torch.pi / 32
    directions = torch.stack([angle.cos(), angle.sin()])
    gaps = (x @ directions).sort(0).values - (y @ directions).sort(0).values
    return float(gaps.square().mean().sqrt())


def train(objective: Objective, seconds: float) -> tuple[Denoiser, int]:
    """Return a model after `seconds` of CPU time and its number of updates.

    The drawing of data does not count.
    """
    model, field = Denoiser(Velocity(), Coupled(Flow()), "velocity"), data()
    pool = field.sample(Streams(1, range(POOL)))
    noise = Drawn()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    spent, updates = 0.0, 0
    while spent < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - 0.98 * spent / seconds)
        begun = time.process_time()
        loss = objective(model, Batch(pool[noise.rows()]), noise)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        spent += time.process_time() - begun
        updates += 1
    return model.requires_grad_(False), updates


def measure(model: Denoiser) -> dict[str, float]:
    """Return a model's negative log-likelihood above the entropy, and its samples' distances."""
    field = data()
    held = field.sample(Streams(3, range(HELD)))
    nats = MaximumLikelihood(64)(model, Batch(held), Streams(0, range(HELD))).per_sample
    gap = nats + field.log_density(held, 0.0)
    x1 = Streams(4, range(HELD)).normal(2)
    row = {"gap": float(gap.mean()), "error": float(gap.std()) / HELD**0.5}
    for steps in (20, 2):
        grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        row[f"w2_{steps}"] = sliced_w2(translate(model, x1, grid, "heun"), held)
    row["straightness"] = straightness(model, x1, torch.linspace(1, 0, 33)).value
    return row


def main() -> None:
    """Train all contestants, print the table, write the result."""
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    field = data()
    floor = sliced_w2(*(field.sample(Streams(k, range(HELD))) for k in (3, 5)))
    rows = {}
    print(f"{seconds:g} s of CPU time each; sliced W2 of two exact sets: {floor:.3f}")
    print(f"{'':34}{'updates':>9}{'KL nats':>10}{'± se':>8}{'W2 20':>8}{'W2 2':>8}{'S':>8}")
    for name, objective in CONTESTANTS.items():
        model, updates = train(objective, seconds)
        row = {"updates": updates, **measure(model)}
        rows[name] = row
        print(
            f"{name:34}{updates:9d}{row['gap']:10.4f}{row['error']:8.4f}{row['w2_20']:8.3f}"
            f"{row['w2_2']:8.3f}{row['straightness']:8.3f}",
            flush=True,
        )
    result = {"torch": torch.__version__, "seconds": seconds, "w2_floor": floor, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
