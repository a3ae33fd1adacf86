"""One training update and one inference pass of a contestant, as its own library does them.

An update is the same in kind for all: forward on a noisy batch that is there already, mean squared
error, backward, the gradient's norm clipped at 1, the optimizer, the gradients forgotten, one
average of the weights. Ours uses the library's optimizers (AdamW, fused) and `Ema`; diffusers the
default AdamW and the EMAModel of its training script; torchcfm the default Adam and the average of
its examples. bf16 is autocast in training; peers' default is fp32.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from .networks import Contestant, Event, fill

Run = Callable[[], object]


CPU = torch.device("cpu")


def autocast(precision: str, device: torch.device = CPU) -> AbstractContextManager[object]:
    """Return the context in which a network trains: autocast, or none for fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def inputs(event: Event, batch: int, device: torch.device = CPU) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x, t, target), the same for all."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *event, generator=generator)
    t, target = torch.rand(batch, generator=generator), torch.randn(x.shape, generator=generator)
    return x.to(device), t.to(device), target.to(device)


def made(contestant: Contestant, device: torch.device = CPU) -> nn.Module:
    """Return a contestant's network, with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return fill(contestant.make()).to(device)


def training(
    contestant: Contestant,
    event: Event,
    batch: int,
    precision: str,
    prepare: Callable[[nn.Module], object] | None = None,
    device: torch.device = CPU,
) -> Run:
    """Return one update as a function that returns the loss.

    `prepare` is called on the network first.
    """
    network = made(contestant, device).train()
    if prepare is not None:
        prepare(network)
    x, t, target = inputs(event, batch, device)
    parameters = list(network.parameters())
    finish = _FINISH[contestant.maker](network, parameters)

    def update() -> Tensor:
        with autocast(precision, device):
            answer = contestant.call(network, x, t)
        loss = nn.functional.mse_loss(answer.float(), target)
        loss.backward()
        finish()
        return loss.detach()

    return update


def inference(
    contestant: Contestant,
    event: Event,
    batch: int,
    precision: str,
    prepare: Callable[[nn.Module], object] | None = None,
    device: torch.device = CPU,
) -> Run:
    """Return one evaluation at one noise level for the whole batch, as a sampler makes it.

    Every call has a new level, so that no cache of an earlier call helps. Ours is the copy with
    which `unnoise.load` samples. In bf16 diffusers' network has its weights in bf16, as in its
    documentation; torchcfm's cannot, and runs under autocast.
    """
    network = made(contestant, device).eval().requires_grad_(False)
    x = inputs(event, batch, device)[0]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if contestant.ours:
        from unnoise.networks.freezing import frozen

        network = frozen(network, dtype)
    elif contestant.maker == "diffusers":
        from diffusers.utils import logging

        logging.set_verbosity_error()  # it advises to cast while loading a file
        network, x = network.to(dtype), x.to(dtype)
    if prepare is not None:
        prepare(network)
    calls = itertools.count(1)
    casting = precision if contestant.maker == "torchcfm" else "fp32"

    def look() -> Tensor:
        t = torch.full((1,), next(calls) * 0.618034 % 1, device=device).expand(batch)
        with torch.no_grad(), autocast(casting, device):
            return contestant.call(network, x, t)

    return look


def _finish_ours(network: nn.Module, parameters: list[nn.Parameter]) -> Run:
    from unnoise.recipes.train_section import AdamWConfig
    from unnoise.training.ema import Ema
    from unnoise.training.optimizers import build_optimizers

    optimizers = build_optimizers(network, AdamWConfig(kind="adamw"))
    ema = Ema(parameters, gamma=9.0)

    def finish() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizers.step()
        optimizers.zero_grad()
        ema.update()

    return finish


def _finish_diffusers(network: nn.Module, parameters: list[nn.Parameter]) -> Run:
    from diffusers.training_utils import EMAModel

    optimizer = torch.optim.AdamW(parameters, 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    ema = EMAModel(parameters, decay=0.9999, use_ema_warmup=True)

    def finish() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)

    return finish


def _finish_torchcfm(network: nn.Module, parameters: list[nn.Parameter]) -> Run:
    optimizer = torch.optim.Adam(parameters, 2e-4)
    average = copy.deepcopy(network)

    def finish() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        now = network.state_dict()
        for key, kept in average.state_dict().items():
            kept.copy_(kept * 0.9999 + now[key] * (1 - 0.9999))

    return finish


_FINISH = {
    "unnoise": _finish_ours,
    "diffusers": _finish_diffusers,
    "torchcfm": _finish_torchcfm,
}
