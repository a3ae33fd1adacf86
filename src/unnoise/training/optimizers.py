"""Optimizers: AdamW alone, or Muon on matrices with AdamW on the rest; learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..networks import Network
from ..recipes.train_section import AdamWConfig, MuonConfig, TrainConfig
from .loss_scale import LossScale
from .muon import Muon


class Optimizers:
    """One or two torch optimizers stepped as one, their rates scaled together.

    Rates are `scale` × their configured value; the state is what each holds, in order, and last
    that of `loss_scale`, which training in float16 has.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        self.loss_scale: LossScale | None = None
        self.rates = [[group["lr"] for group in part.param_groups] for part in parts]

    def scale(self, factor: float) -> None:
        """Set every learning rate to `factor` of its configured value."""
        for part, rates in zip(self.parts, self.rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def step(self, bad: Tensor | None = None) -> None:
        """Update all parameters, or none if `bad` is 1.

        bad: () float32 on the parameters' device, which the host does not read; it is passed to the
        optimizers as `found_inf`, as torch's GradScaler does for its fused ones.
        """
        for part in self.parts:
            if bad is not None:
                part.found_inf = bad  # type: ignore[attr-defined]
            part.step()
            if bad is not None:
                del part.found_inf  # type: ignore[attr-defined]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of each optimizer, and last that of the loss scale if there is one."""
        return [part.state_dict() for part in self._holders()]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore a state of `state_dict`."""
        for part, state in zip(self._holders(), states, strict=True):
            part.load_state_dict(state)

    def _holders(self) -> list[Any]:
        return [*self.parts, *([] if self.loss_scale is None else [self.loss_scale])]


def build_optimizers(network: nn.Module, config: AdamWConfig | MuonConfig) -> Optimizers:
    """Return the optimizers of a network; build them after the network is on its device.

    Muon (Jordan et al. 2024) updates the hidden matrices and the convolutions, flattened to
    matrices; AdamW without weight decay updates the rest. AdamW alone decays all matrices except
    embeddings.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    lookup = {
        id(p) for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in lookup]
    if isinstance(config, MuonConfig) and isinstance(network, Network):
        matrices = [p for p in network.hidden_matrices() if p.requires_grad]
    taken = {id(p) for p in matrices}
    rest = [p for p in trained if id(p) not in taken]
    if isinstance(config, MuonConfig):
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(
                Muon(
                    matrices,
                    lr=config.rate,
                    momentum=config.momentum,
                    weight_decay=config.weight_decay,
                )
            )
        if rest:
            parts.append(
                torch.optim.AdamW(
                    rest, lr=config.adam_rate, betas=config.adam_betas, weight_decay=0.0, fused=True
                )
            )
        return Optimizers(parts)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return Optimizers([torch.optim.AdamW(groups, lr=config.rate, betas=config.betas, fused=True)])


def rate_at(progress: float, config: TrainConfig) -> float:
    """Return the factor of the learning rate at a share `progress` of the run.

    During warm-up it grows linearly from 0 to 1; then, with s the share of the rest, it is
    ½(1 + cos πs) (cosine), 1 − s (linear) or 1 (constant).
    """
    if config.warmup and progress < config.warmup:
        return progress / config.warmup
    s = min(1.0, (progress - config.warmup) / max(1 - config.warmup, 1e-9))
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * s))
    return 1 - s if config.schedule == "linear" else 1.0
