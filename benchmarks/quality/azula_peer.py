"""azula: its U-Net, a preconditioned denoiser on the VP schedule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .task import EVALUATIONS


class Backbone(nn.Module):
    """A U-Net modulated by the sum of a class embedding and one of the noise level."""

    def __init__(
        self, channels: int, classes: int, widths: list[int], blocks: list[int], width: int
    ) -> None:
        from azula.nn.unet import UNet

        super().__init__()
        self.unet = UNet(
            channels, channels, hid_channels=widths, hid_blocks=blocks, mod_features=width
        )
        self.classes = nn.Embedding(classes, width)
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, level: Tensor, label: Tensor) -> Tensor:
        return self.unet(x, self.classes(label) + self.level(level[..., None]))


class Azula:
    """azula's training by `docs/tutorials/mnist.ipynb`: KarrasDenoiser, VPSchedule, uniform times.

    options: `widths`, `blocks`, `width` of the embedding, `schedule`. Sampled by DDIM or by the
    third-order Adams-Bashforth sampler in z.
    """

    samplers = ("ddim", "zab3")
    conditional = True

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        widths: tuple[int, ...] = (24, 40, 64),
        blocks: tuple[int, ...] = (2, 2, 2),
        width: int = 64,
        schedule: str = "VPSchedule",
    ) -> None:
        from azula import noise
        from azula.denoise import KarrasDenoiser

        backbone = Backbone(shape[0], classes, list(widths), list(blocks), width)
        self.module = KarrasDenoiser(backbone, getattr(noise, schedule)())

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.module.loss(x, torch.rand(len(x)), label=labels)

    @torch.no_grad()
    def sample(self, noise: Tensor, labels: Tensor, sampler: str) -> Tensor:
        from azula.sample import DDIMSampler, zABSampler

        kind = DDIMSampler if sampler == "ddim" else zABSampler
        order = {} if sampler == "ddim" else {"order": 3}
        walk = kind(self.module, steps=EVALUATIONS, silent=True, **order)
        alpha, sigma = self.module.schedule(torch.tensor(1.0))
        return walk((alpha**2 + sigma**2).sqrt() * noise, label=labels)
