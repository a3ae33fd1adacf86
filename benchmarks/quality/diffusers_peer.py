"""diffusers: UNet2DModel, DDPMScheduler, loss on the noise or on its v."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .task import EVALUATIONS

CHAIN = 1000


class Diffusers:
    """diffusers' training by `examples/unconditional_image_generation/train_unconditional.py`.

    options: `widths`, `layers`; `conditional` gives the network its own class embedding; `betas`
    the chain's schedule, `predicts` the scheduler's prediction_type: "epsilon" or "v_prediction".
    Sampled by DDIM or DPM-Solver++ (2M), defaults but for the steps.
    """

    samplers = ("ddim", "dpm++")

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        widths: tuple[int, ...] = (32, 64),
        layers: int = 1,
        conditional: bool = False,
        betas: str = "linear",
        predicts: str = "epsilon",
    ) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        deeper = len(widths) - 1
        self.conditional = conditional
        self.module = UNet2DModel(
            sample_size=shape[-1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=layers,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * deeper + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * deeper,
            num_class_embeds=classes if conditional else None,
        )
        self.scheduler = DDPMScheduler(
            num_train_timesteps=CHAIN, beta_schedule=betas, prediction_type=predicts
        )

    def _answer(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        told = {"class_labels": labels} if self.conditional else {}
        return self.module(x, t, **told).sample

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        t = torch.randint(0, CHAIN, (len(x),))
        found = self._answer(self.scheduler.add_noise(x, noise, t), t, labels)
        if self.scheduler.config.prediction_type == "v_prediction":
            return F.mse_loss(found.float(), self.scheduler.get_velocity(x, noise, t))
        return F.mse_loss(found.float(), noise)

    @torch.no_grad()
    def sample(self, noise: Tensor, labels: Tensor, sampler: str) -> Tensor:
        import diffusers

        name = {"ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler"}[sampler]
        scheduler = getattr(diffusers, name).from_config(self.scheduler.config)
        scheduler.set_timesteps(EVALUATIONS)
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(self._answer(x, t, labels), t, x).prev_sample
        return x
