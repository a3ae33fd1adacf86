"""The training of a peer's network: its documented settings and tuned ones are points of one space.

One loop serves all peers, so that they differ in the computations of their code and in these
settings.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unnoise.training import Ema


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    rate: learning rate after the warm-up; warmup: updates (a whole number) or share of the run;
    cosine: to zero at the end of the run; ema: None, {"decay": d}, {"gamma": γ} (an average over a
    constant share of the run) or {"power": p, "decay": d} (diffusers' EMAModel). loader: batches
    come from a DataLoader, as in the peers' examples; else rows are taken from one tensor.
    options: of the peer's adapter.
    """

    rate: float
    batch: int
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int | float = 0
    cosine: bool = False
    clip: float | None = None
    ema: dict[str, float] | None = None
    bf16: bool = False
    channels_last: bool = False
    fused: bool = False
    loader: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self) | {"betas": list(self.betas)}


class Peer(Protocol):
    """A peer's network with its loss and samplers, on values in [−1, 1]."""

    module: nn.Module
    conditional: bool
    samplers: tuple[str, ...]

    def loss(self, x: Tensor, labels: Tensor) -> Tensor: ...
    def sample(self, noise: Tensor, labels: Tensor, sampler: str) -> Tensor: ...


def spent() -> float:
    """Return the CPU seconds of this process and of its finished children (compilers)."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


class Averages:
    """An average of the weights, by `Settings.ema`."""

    def __init__(self, module: nn.Module, ema: dict[str, float] | None) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.average: Any = None
        if ema is not None and "power" in ema:
            from diffusers.training_utils import EMAModel

            self.average = EMAModel(self.parameters, use_ema_warmup=True, **ema)
        elif ema is not None:
            constant = {"warmup": 1.0} if "decay" in ema else {}
            self.average = Ema(self.parameters, **ema, **constant)

    def update(self) -> None:
        """Take the present weights in."""
        if isinstance(self.average, Ema):
            self.average.update()
        elif self.average is not None:
            self.average.step(self.parameters)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the average into the network."""
        if isinstance(self.average, Ema):
            for p, kept in zip(self.parameters, self.average.averages, strict=True):
                p.copy_(kept)
        elif self.average is not None:
            self.average.copy_to(self.parameters)


def batches(x: Tensor, labels: Tensor, settings: Settings):
    """Yield endless epochs, in a new order each, whole batches only."""
    if settings.loader:
        data = torch.utils.data.TensorDataset(x, labels)
        loader = torch.utils.data.DataLoader(data, settings.batch, shuffle=True, drop_last=True)
        while True:
            yield from loader
    while True:
        order = torch.randperm(len(x))
        for at in range(0, len(x) - settings.batch + 1, settings.batch):
            rows = order[at : at + settings.batch]
            yield x[rows], labels[rows]


def optimizer_of(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Return the optimizer of the settings."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(
        module.parameters(),
        lr=settings.rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=settings.fused or None,
    )


def train(
    peer: Peer, x: Tensor, labels: Tensor, settings: Settings, seconds: float
) -> dict[str, float]:
    """Train for this many CPU seconds, drawing and loading included; the average is applied.

    The cosine and a warm-up given as a share follow the share of the time that is spent.
    """
    if settings.channels_last:
        peer.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = optimizer_of(peer.module, settings)
    averages = Averages(peer.module, settings.ema)
    drawn = batches(x, labels, settings)
    peer.module.train()
    began, updates = spent(), 0
    while (share := (spent() - began) / seconds) < 1:
        factor = 0.5 * (1 + math.cos(math.pi * share)) if settings.cosine else 1.0
        if settings.warmup:
            whole = isinstance(settings.warmup, int)
            factor *= min(1.0, (updates + 1 if whole else share + 1e-3) / settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * factor
        batch, classes = next(drawn)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = peer.loss(batch, classes)
        loss.backward()
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(peer.module.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        averages.update()
        updates += 1
    took = spent() - began
    averages.apply()
    peer.module.eval()
    return {"updates": updates, "seen": updates * settings.batch, "cpu_seconds": took}
