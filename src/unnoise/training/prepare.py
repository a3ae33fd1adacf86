"""Preparing a network for training: recomputing and compiling its blocks."""

from __future__ import annotations

import torch
from torch import nn

from ..data import Dataset
from ..data.cache import cache_dir
from ..errors import InvalidArgument, Unsupported
from ..networks import Network
from ..networks.compiled import compile_blocks
from ..objectives import Objective
from ..recipes import Recipe
from ..recipes.train_section import TrainConfig

LONG = 600.0  # seconds of a run on a GPU that win the compiler's time back
MANY = 10_000  # updates of one


def prepare(
    network: nn.Module, config: TrainConfig, objective: Objective, device: torch.device
) -> None:
    """Recompute and compile the blocks as `train.recompute` and `train.compile` are set.

    Compiled code stays in the folder `compiled` of the cache. objective: the one that takes most
    derivatives of the network. Raises Unsupported for a network without blocks where one of the
    two is set, and for second derivatives through compiled blocks.
    """
    second = objective.derivatives > 1
    blocks = isinstance(network, Network) and bool(network.blocks())
    for name, asked in (("recompute", config.recompute), ("compile", config.compile is True)):
        if asked and not blocks:
            raise Unsupported(
                f"train.{name} is on, and {type(network).__name__} has no blocks; turn it off"
            )
    if config.compile is True and second:
        raise Unsupported(
            f"train.compile is on, and {type(objective).__name__} takes second derivatives, "
            "which cannot pass through compiled blocks; use train.compile=off"
        )
    if not isinstance(network, Network):
        return
    network.recompute, network.compiled_call = config.recompute, None
    if blocks and not second and worth_compiling(config, device):
        compile_blocks(network, cache_dir() / "compiled")


@torch.no_grad()
def check_network(network: nn.Module, recipe: Recipe, data: Dataset) -> None:
    """Raise InvalidArgument unless a network of the caller's own takes two samples and returns
    their shape, with twice the channels where the variance is learned."""
    batch = data.batch([0, 1])
    x = batch.x0
    wanted = tuple(x.shape)
    if recipe.model.learned_variance:
        wanted = (wanted[0], 2 * wanted[1], *wanted[2:])
    given = f"network(x, noise_level, condition) with x of shape {tuple(x.shape)}"
    training, name = network.training, type(network).__name__
    device, dtype = next(((p.device, p.dtype) for p in network.parameters()), (x.device, x.dtype))
    level = torch.full((2,), 0.5, device=device)
    condition = batch.to(device, recipe.model.conditional).condition
    try:
        made = network.eval()(x.to(device, dtype), level, condition)
    except Exception as error:
        raise InvalidArgument(
            f"{name} fails when called as {given}: {error!s:.300}; give a network that takes "
            f"these three arguments and data of shape {tuple(x.shape[1:])}"
        ) from error
    finally:
        network.train(training)
    shape = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
    if shape != wanted:
        raise InvalidArgument(
            f"{name}, called as {given}, returns {shape}; return a tensor of shape {wanted}"
        )


def worth_compiling(config: TrainConfig, device: torch.device) -> bool:
    """Return whether `train.compile` is on for this device: auto is on for long runs on a GPU.

    On a CPU auto is off whatever the length: convolutions and products are the same, and what is
    fused between them was measured to gain nothing in training (0.98 to 1.00 × eager, bfloat16
    U-Net, torch 2.13), so there is no run that wins the compiler's minutes back. The lengths for a
    GPU are a guess.
    """
    if config.compile != "auto":
        return config.compile
    long = (config.budget or 0) >= LONG or (config.steps or 0) >= MANY
    return device.type == "cuda" and long
