"""Pairs of networks of equal parameters and equal arithmetic: a peer's, and ours.

A peer's network is its default settings at the width that gives the size. Ours was searched for
with `equal` among its own settings, attention at the peer's resolutions where that is possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

EQUAL = 0.05  # parameters and arithmetic of a pair agree to this share
CLASSES = 10  # classes of the transformers, whose peer always has classes
Event = tuple[int, int, int]


@dataclass(frozen=True)
class Contestant:
    """A network: its library, its constructor, and its call on (x, t), t a time in [0, 1].

    `about` names the settings in the words of its own library.
    """

    maker: str
    about: str
    make: Callable[[], nn.Module]
    call: Callable[[nn.Module, Tensor, Tensor], Tensor]

    @property
    def ours(self) -> bool:
        return self.maker == "unnoise"


@dataclass(frozen=True)
class Pair:
    """A peer's network and ours for the same event."""

    name: str
    event: Event
    peer: Contestant
    ours: Contestant


@cache
def cost(contestant: Contestant, event: Event) -> tuple[int, int]:
    """Return (parameters, floating-point operations of one sample's forward pass).

    The counter does not count the fused attention of a CPU, so attention is written out for it.
    """
    network = contestant.make()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        contestant.call(network, torch.zeros(1, *event), torch.ones(1))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops()


def equal(pair: Pair) -> tuple[float, float]:
    """Return ours over the peer's: (parameters, arithmetic of a forward pass)."""
    mine, other = cost(pair.ours, pair.event), cost(pair.peer, pair.event)
    return mine[0] / other[0], mine[1] / other[1]


def labels(x: Tensor) -> Tensor:
    """Return class 0, 1, …, 9, 0, … for the networks that take classes."""
    return torch.arange(len(x), device=x.device) % CLASSES


def diffusers_unet(event: Event, widths: tuple[int, ...], groups: int = 32) -> Contestant:
    """Return UNet2DModel with its defaults: two layers a block, attention below the first level.

    groups: of its norms, 32 by default, which must divide the widths.
    """

    def make() -> nn.Module:
        from diffusers import UNet2DModel

        deep = len(widths) - 1
        return UNet2DModel(
            sample_size=event[-1],
            in_channels=event[0],
            out_channels=event[0],
            block_out_channels=widths,
            down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * deep),
            up_block_types=(*["AttnUpBlock2D"] * deep, "UpBlock2D"),
            norm_num_groups=groups,
        )

    more = "" if groups == 32 else f", norm_num_groups={groups}"
    return Contestant(
        "diffusers",
        f"UNet2DModel(block_out_channels={widths}{more})",
        make,
        lambda network, x, t: network(x, t * 1000).sample,
    )


def torchcfm_unet(event: Event, channels: int, blocks: int, **more: object) -> Contestant:
    """Return the U-Net of torchcfm's examples (Dhariwal & Nichol's), without dropout."""

    def make() -> nn.Module:
        from torchcfm.models.unet import UNetModel

        return UNetModel(event, channels, blocks, **more)

    settings = "".join(f", {key}={value!r}" for key, value in more.items())
    return Contestant(
        "torchcfm",
        f"UNetModel(num_channels={channels}, num_res_blocks={blocks}{settings})",
        make,
        lambda network, x, t: network(t, x),
    )


def diffusers_dit(event: Event, heads: int, head: int, layers: int, patch: int = 2) -> Contestant:
    """Return DiTTransformer2DModel with its defaults; it always has classes."""

    def make() -> nn.Module:
        from diffusers import DiTTransformer2DModel

        return DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=head,
            in_channels=event[0],
            num_layers=layers,
            sample_size=event[-1],
            patch_size=patch,
            num_embeds_ada_norm=CLASSES,
        )

    return Contestant(
        "diffusers",
        f"DiTTransformer2DModel({heads} heads of {head}, {layers} layers, patch {patch})",
        make,
        lambda network, x, t: network(x, timestep=(t * 999).long(), class_labels=labels(x)).sample,
    )


def our_unet(event: Event, widths: tuple[int, ...], **more: object) -> Contestant:
    """Return unnoise's U-Net."""

    def make() -> nn.Module:
        from unnoise.networks import UNet

        return UNet(event[0], 2, widths, **more)  # type: ignore[arg-type]

    settings = "".join(f", {key}={value}" for key, value in more.items())
    return Contestant(
        "unnoise",
        f"UNet(widths={widths}{settings})",
        make,
        lambda network, x, t: network(x, t, None),
    )


def our_dit(event: Event, **more: object) -> Contestant:
    """Return unnoise's transformer, with as many classes as the peer's."""

    def make() -> nn.Module:
        from unnoise.networks import DiT

        return DiT(event[0], 2, classes=CLASSES, **more)  # type: ignore[arg-type]

    def call(network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        from unnoise.fields import Condition

        return network(x, t, Condition.of({"class": labels(x)}, len(x)))

    settings = ", ".join(f"{key}={value}" for key, value in more.items())
    return Contestant("unnoise", f"DiT({settings})", make, call)


LARGE, SMALL = (3, 32, 32), (1, 28, 28)
PAIRS = (
    Pair(
        "U-Net 32×32, diffusers",
        LARGE,
        diffusers_unet(LARGE, (64, 128, 128, 128)),
        our_unet(
            LARGE,
            (128, 160, 160, 160),
            blocks=(1, 1, 3, 1),
            attention=(1, 2, 3),
            embedding=256,
        ),
    ),
    Pair(
        "U-Net 32×32, torchcfm",
        LARGE,
        torchcfm_unet(LARGE, 64, 2, num_heads=4, num_head_channels=64),
        our_unet(LARGE, (96, 160, 256), blocks=(2, 1, 3), attention=(1,), embedding=256),
    ),
    Pair(
        "DiT 32×32, diffusers",
        LARGE,
        diffusers_dit(LARGE, 4, 64, 7),
        our_dit(LARGE, width=256, depth=7, patch=2, embedding=320),
    ),
    Pair(
        "U-Net 28×28, diffusers",
        SMALL,
        diffusers_unet(SMALL, (32, 64, 64)),
        our_unet(SMALL, (48, 64, 96), blocks=(3, 1, 2), attention=(1, 2), embedding=256),
    ),
    Pair(
        "U-Net 28×28, torchcfm",
        SMALL,
        torchcfm_unet(SMALL, 32, 1),
        our_unet(SMALL, (64, 80), blocks=(1, 4), attention=(1,), embedding=128),
    ),
    Pair(
        "DiT 28×28, diffusers",
        SMALL,
        diffusers_dit(SMALL, 2, 64, 4),
        our_dit(SMALL, width=128, depth=4, patch=2, embedding=160),
    ),
)


def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw weights for parameters that start at zero, so that no shortcut of zeros is taken."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            if not bool(p.any()):
                fan = math.prod(p.shape[1:]) or 1
                p.normal_(0, 0.1 * fan**-0.5, generator=generator)
    return network
