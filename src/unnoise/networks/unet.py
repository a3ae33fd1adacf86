"""One U-Net for signals, images and volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InvalidArgument, need_count, unknown
from ..fields.condition import Condition
from .blocks import CONVOLUTIONS, NORMS, Attention, ResidualBlock
from .embeddings import Embedding, resolve_conditions
from .network import Network, check_input, seeded, zero_
from .resampling import from_patches, to_patches

SKIPS = ("add", "concat")
MEMORY = {2: torch.channels_last, 3: torch.channels_last_3d}


class UNet(Network):
    """A U-Net of residual blocks for (batch, channels, *size) of any size.

    Level l has `blocks[l]` residual blocks of width `widths[l]` on the way down and as many on the
    way up, each of which receives the output of its partner; the lowest level has its blocks once.
    Sizes halve between levels, an odd size rounding up and cropped again on the way back, so that
    5 pixels and four levels are 5, 3, 2, 1. The output of a new network is exactly zero.

    channels: of the data. dimensions: 1, 2 or 3. widths: channels of each level. blocks: a number
    for all levels or one per level. attention: levels (0 is the full size) whose blocks are each
    followed by self-attention with heads of at least `head` channels. patch: side of the cells
    moved into channels before the first level. skips: "add" or "concat". norm: "channel" (each
    position alone) or "group". embedding: width of the noise and condition embedding, by default
    four times the first width. conditions: see `resolve_conditions`; classes=10 is short for one
    class condition called "class". channels_out: of the output, by default `channels`. seed: of
    the initial weights. Raises InvalidArgument.

    Source: Ronneberger et al. 2015; Dhariwal & Nichol 2021 for the blocks.
    """

    casts = True

    def __init__(
        self,
        channels: int,
        dimensions: int = 2,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int | Sequence[int] = 2,
        attention: Sequence[int] = (),
        head: int = 64,
        patch: int = 1,
        skips: str = "add",
        norm: str = "channel",
        embedding: int | None = None,
        classes: int | None = None,
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
        channels_out: int | None = None,
        seed: int = 0,
    ) -> None:
        if dimensions not in CONVOLUTIONS:
            raise InvalidArgument(f"dimensions is {dimensions!r}; known: 1, 2, 3")
        if skips not in SKIPS:
            raise unknown("skips", skips, SKIPS)
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        need_count("channels", channels)
        need_count("patch", patch)
        need_count("head", head)
        channels_out = need_count(
            "channels_out", channels if channels_out is None else channels_out
        )
        widths = [need_count("widths", width) for width in widths]
        need_count("number of widths", len(widths))
        blocks = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        if len(blocks) != len(widths):
            raise InvalidArgument(
                f"blocks is {blocks!r} for {len(widths)} widths; give one number per width or one"
            )
        for count in blocks:
            need_count("blocks", count)
        for level in attention:
            if level not in range(len(widths)):
                raise InvalidArgument(
                    f"attention names level {level!r}; the levels are 0 to {len(widths) - 1}"
                )
        embedding = need_count("embedding", 4 * widths[0] if embedding is None else embedding)
        conditions = resolve_conditions(conditions, classes)
        super().__init__(
            dict(
                channels=channels,
                dimensions=dimensions,
                widths=widths,
                blocks=blocks,
                attention=sorted(attention),
                head=head,
                patch=patch,
                skips=skips,
                norm=norm,
                embedding=embedding,
                conditions=conditions,
                channels_out=channels_out,
                seed=seed,
            )
        )
        self.channels, self.dimensions, self.patch, self.skips = channels, dimensions, patch, skips
        conv = CONVOLUTIONS[dimensions]
        cell = patch**dimensions

        def block(before: int, after: int, resample: str | None = None) -> ResidualBlock:
            return ResidualBlock(dimensions, before, after, embedding, norm, resample)

        def stage(level: int, widen: int = 1) -> nn.ModuleList:
            width = widths[level]
            attend = level in attention
            return nn.ModuleList(
                nn.ModuleList(
                    [block(widen * width, width)]
                    + ([Attention(dimensions, width, norm, head)] if attend else [])
                )
                for _ in range(blocks[level])
            )

        with seeded(seed):
            self.embed = Embedding(embedding, conditions)
            self.enter = conv(channels * cell, widths[0], 3, padding=1)
            last = len(widths) - 1
            self.down = nn.ModuleList(stage(level) for level in range(last))
            self.shrink = nn.ModuleList(
                block(widths[level], widths[level + 1], "down") for level in range(last)
            )
            self.bottom = stage(last)
            self.grow = nn.ModuleList(
                block(widths[level + 1], widths[level], "up") for level in range(last)
            )
            widen = 2 if skips == "concat" else 1
            self.up = nn.ModuleList(stage(level, widen) for level in range(last))
            self.leave = nn.ModuleList(
                [
                    NORMS[norm](widths[0]),
                    zero_(conv(widths[0], channels_out * cell, 3, padding=1)),
                ]
            )

    def blocks(self) -> list[nn.Module]:
        """Return residual blocks and attention, in the order of evaluation."""
        found = [
            part
            for stage, shrink in zip(self.down, self.shrink, strict=True)
            for part in (*parts_of(stage), shrink)
        ]
        found += parts_of(self.bottom)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            found += [grow, *parts_of(stage)]
        return found

    def modulation(
        self, noise_level: Float[Tensor, " rows"], condition: Condition | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return gain and shift of every residual block, in their order."""
        embedding, dtype = self.embed(noise_level, condition), self.enter.weight.dtype
        if torch.is_autocast_enabled(noise_level.device.type):
            dtype = torch.get_autocast_dtype(noise_level.device.type)
        return [
            block.modulation(embedding, dtype)
            for block in self.blocks()
            if isinstance(block, ResidualBlock)
        ]

    def forward(
        self,
        x: Float[Tensor, "batch channels *size"],
        noise_level: Float[Tensor, " batch"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "batch channels_out *size"]:
        check_input(x, noise_level, condition, (self.channels, *[None] * self.dimensions))
        dtype, size = x.dtype, tuple(x.shape[2:])
        modulations = iter(self.batch_modulation(noise_level, condition))
        h = to_patches(x, self.patch).to(self.enter.weight.dtype)
        if self.dimensions in MEMORY:
            h = h.contiguous(memory_format=MEMORY[self.dimensions])
        h = self.enter(h)
        kept: list[list[Tensor]] = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            kept.append([])
            for parts in stage:  # type: ignore[attr-defined]
                h = self._run(parts, h, modulations)
                kept[-1].append(h)
            h = self.through(shrink, h, *next(modulations))
        for parts in self.bottom:
            h = self._run(parts, h, modulations)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            skips = kept.pop()
            h = self.through(grow, h, *next(modulations), tuple(skips[-1].shape[2:]))
            for parts in stage:  # type: ignore[attr-defined]
                skip = skips.pop()
                h = h + skip if self.skips == "add" else torch.cat([h, skip], dim=1)
                h = self._run(parts, h, modulations)
        norm, last = self.leave
        h = last(nn.functional.silu(norm(h)))
        return from_patches(h.to(dtype), self.patch, size)

    def _run(
        self, parts: nn.Module, h: Tensor, modulations: Iterator[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Evaluate a residual block and the attention that may follow it."""
        block, *attention = parts.children()
        h = self.through(block, h, *next(modulations))
        return self.through(attention[0], h) if attention else h


def parts_of(stage: nn.Module) -> list[nn.Module]:
    """Return the residual blocks of a stage, each followed by its attention."""
    return [part for parts in stage.children() for part in parts.children()]
