"""torchcfm: its U-Net and conditional flow matching, sampled from noise (t = 0) to data (t = 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from .task import EVALUATIONS


class Torchcfm:
    """The training of torchcfm's `images/conditional_mnist.ipynb` or `train_cifar10.py`.

    options: `width`, `mult`, `blocks`, `head` (channels of an attention head), `attention` (its
    attention_resolutions; by default the lowest level), `dropout`, `conditional`, `matcher`
    ("icfm": independent pairs, "otcfm": optimal transport in the batch).
    Sampled by Euler's method, or Heun's on half the steps.
    """

    samplers = ("euler", "heun")

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        width: int = 32,
        mult: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        head: int = -1,
        dropout: float = 0.0,
        conditional: bool = True,
        attention: int | None = None,
        matcher: str = "icfm",
    ) -> None:
        from torchcfm import conditional_flow_matching as cfm
        from torchcfm.models.unet.unet import UNetModelWrapper

        self.conditional = conditional
        lowest = shape[-1] // 2 ** (len(mult) - 1)
        self.module = UNetModelWrapper(
            dim=shape,
            num_channels=width,
            num_res_blocks=blocks,
            channel_mult=list(mult),
            num_heads=1,
            num_head_channels=head,
            attention_resolutions=str(attention or lowest),
            dropout=dropout,
            class_cond=conditional,
            num_classes=classes,
        )
        matchers = {
            "icfm": cfm.ConditionalFlowMatcher,
            "otcfm": cfm.ExactOptimalTransportConditionalFlowMatcher,
        }
        self.paired, self.matcher = matcher == "otcfm", matchers[matcher](sigma=0.0)

    def _velocity(self, t: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        return self.module(t, x, labels if self.conditional else None)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        if self.paired and self.conditional:
            matched = self.matcher.guided_sample_location_and_conditional_flow(noise, x, y1=labels)
            t, x_t, velocity, _, labels = matched
        else:
            t, x_t, velocity = self.matcher.sample_location_and_conditional_flow(noise, x)
        return (self._velocity(t, x_t, labels).float() - velocity).square().mean()

    @torch.no_grad()
    def sample(self, noise: Tensor, labels: Tensor, sampler: str) -> Tensor:
        steps = EVALUATIONS if sampler == "euler" else EVALUATIONS // 2
        x, size = noise, 1 / steps
        for k in range(steps):
            t = torch.full((len(x),), k * size)
            rate = self._velocity(t, x, labels)
            if sampler == "heun":
                rate = (rate + self._velocity(t + size, x + size * rate, labels)) / 2
            x = x + size * rate
        return x
