"""A network small enough to be trained inside a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unnoise.randomness import Streams


class Small(nn.Module):
    """Two tanh layers on x (batch, size) and the noise level; weights depend on `seed` alone."""

    def __init__(self, size: int = 2, width: int = 24, seed: int = 0) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(size + 1, width), nn.Linear(width, width)
        self.last = nn.Linear(width, size)
        with torch.no_grad():
            for k, p in enumerate(self.parameters()):
                p.copy_(p[0].numel() ** -0.5 * Streams(seed, [k]).normal(*p.shape)[0])

    def forward(self, x: Tensor, level: Tensor, condition: object = None) -> Tensor:
        h = torch.tanh(self.first(torch.cat([x, level[:, None]], 1)))
        return self.last(h + torch.tanh(self.middle(h)))


class Drawn:
    """Noise of a whole batch from one generator: for training in tests, where per-sample streams
    would take longer than the network."""

    def __init__(self, seed: int, batch: int) -> None:
        self.batch, self.generator = batch, torch.Generator().manual_seed(seed)

    def purpose(self, name: str) -> Drawn:
        return self

    def normal(self, *event: int) -> Tensor:
        return torch.randn(self.batch, *event, generator=self.generator)

    def uniform(self, *event: int) -> Tensor:
        return torch.rand(self.batch, *event, generator=self.generator)
