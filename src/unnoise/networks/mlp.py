"""A residual perceptron for vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import need_count
from ..fields.condition import Condition
from .embeddings import Embedding, resolve_conditions
from .network import Network, check_input, seeded, zero_


class MlpBlock(nn.Module):
    """x + W₂·SiLU(W₁·(scale·norm(x) + shift)), modulated by the embedding, W₂ = 0 at first."""

    def __init__(self, width: int, embedding: int, expand: int = 2) -> None:
        super().__init__()
        self.width = width
        self.steer = nn.Linear(embedding, 2 * width)
        self.first = nn.Linear(width, expand * width)
        self.second = zero_(nn.Linear(expand * width, width))

    def forward(
        self, x: Float[Tensor, "batch width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch width"]:
        modulation = self.steer(embedding.to(self.steer.weight.dtype)).to(x.dtype)
        scale, shift = modulation.chunk(2, dim=1)
        h = torch.addcmul(shift, nn.functional.layer_norm(x, (self.width,)), 1 + scale)
        return x + self.second(nn.functional.silu(self.first(h)))


class Mlp(Network):
    """A residual perceptron for events of any fixed shape, flattened.

    event: shape of one sample, a number or a sequence. width: of the residual stream. depth:
    number of blocks. embedding: width of the noise and condition embedding, by default `width`.
    conditions: see `resolve_conditions`; classes=10 is short for one class condition called
    "class". channels_out: first size of the output, by default that of the event. seed: of the
    initial weights. The output of a new network is exactly zero.
    Raises InvalidArgument.
    """

    casts = True

    def __init__(
        self,
        event: int | Sequence[int],
        width: int = 256,
        depth: int = 4,
        embedding: int | None = None,
        classes: int | None = None,
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
        channels_out: int | None = None,
        seed: int = 0,
    ) -> None:
        event = [event] if isinstance(event, int) else list(event)
        for n in event:
            need_count("event", n)
        need_count("number of dimensions of event", len(event))
        need_count("width", width)
        need_count("depth", depth)
        embedding = need_count("embedding", width if embedding is None else embedding)
        channels_out = need_count(
            "channels_out", event[0] if channels_out is None else channels_out
        )
        conditions = resolve_conditions(conditions, classes)
        super().__init__(
            dict(
                event=event,
                width=width,
                depth=depth,
                embedding=embedding,
                conditions=conditions,
                channels_out=channels_out,
                seed=seed,
            )
        )
        self.event, self.width = tuple(event), width
        self.answer = (channels_out, *event[1:])
        size = math.prod(event)
        with seeded(seed):
            self.embed = Embedding(embedding, conditions)
            self.enter = nn.Linear(size, width)
            # by its old name in the state dict, which is also that of the method
            self._modules["blocks"] = nn.ModuleList(
                MlpBlock(width, embedding) for _ in range(depth)
            )
            self.leave = zero_(nn.Linear(width, math.prod(self.answer)))

    def blocks(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return list(self._modules["blocks"].children())  # type: ignore[union-attr]

    def forward(
        self,
        x: Float[Tensor, " batch *event"],
        noise_level: Float[Tensor, " batch"],
        condition: Condition | None = None,
    ) -> Float[Tensor, " batch channels_out *size"]:
        check_input(x, noise_level, condition, self.event)
        embedding = self.embed(noise_level, condition)
        h = self.enter(x.flatten(1).to(self.enter.weight.dtype))
        for block in self.blocks():
            h = self.through(block, h, embedding)
        h = nn.functional.layer_norm(h, (self.width,))
        return self.leave(h).to(x.dtype).reshape(len(x), *self.answer)
