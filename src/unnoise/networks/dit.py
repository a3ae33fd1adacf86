"""One transformer for signals, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InvalidArgument, need_count, unknown
from ..fields.condition import Condition
from .blocks import attend
from .embeddings import Embedding, resolve_conditions
from .network import Network, check_input, seeded, zero_
from .positions import POSITIONS, LearnedPositions, Turn, rotate, rotation, sincos
from .resampling import from_patches, to_patches

MOST_TOKENS = 2**16
EPSILON = 1e-6


class TransformerBlock(nn.Module):
    """h + g₁·attention(m₁(h)), then h + g₂·W₂ GELU(W₁ m₂(h)), with mᵢ(h) = scaleᵢ·norm(h) + shiftᵢ.

    shift, scale and gate are arguments, in this order for the attention and for the perceptron
    (adaLN-Zero). Queries and keys are normalised per head, so that logits stay bounded in bfloat16,
    and then rotated by their positions.
    """

    def __init__(self, width: int, heads: int, expand: float, normalise: bool) -> None:
        super().__init__()
        self.heads, self.normalise = heads, normalise
        inner = round(expand * width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        for layer in (self.project, self.out, self.widen, self.narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        h: Float[Tensor, "batch tokens width"],
        modulation: tuple[Tensor, ...],
        turn: Turn | None,
    ) -> Float[Tensor, "batch tokens width"]:
        shift, scale, gate, shift_2, scale_2, gate_2 = modulation
        h = torch.addcmul(h, gate, self.attention(modulate(h, shift, scale), turn))
        inner = nn.functional.gelu(self.widen(modulate(h, shift_2, scale_2)))
        return torch.addcmul(h, gate_2, self.narrow(inner))

    def attention(
        self, h: Float[Tensor, "batch tokens width"], turn: Turn | None
    ) -> Float[Tensor, "batch tokens width"]:
        """Return W·softmax(QKᵀ/√d)V, every token with every other."""
        tokens = self.project(h).unflatten(-1, (3, self.heads, -1))
        both, v = tokens[:, :, :2], tokens[:, :, 2]
        if self.normalise:
            both = nn.functional.layer_norm(both, both.shape[-1:])
        if turn is not None:
            both = rotate(both, turn)
        q, k = both.unbind(2)
        made = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.out(made.transpose(1, 2).flatten(2))


def modulate(
    h: Float[Tensor, "batch tokens width"],
    shift: Float[Tensor, "rows 1 width"],
    scale: Float[Tensor, "rows 1 width"],
) -> Float[Tensor, "batch tokens width"]:
    """Return scale·norm(h) + shift; in one pass if all samples share one row."""
    width = h.shape[-1:]
    if len(scale) == 1:
        return nn.functional.layer_norm(h, width, scale[0, 0], shift[0, 0], EPSILON)
    return torch.addcmul(shift, nn.functional.layer_norm(h, width, eps=EPSILON), scale)


class DiT(Network):
    """A diffusion transformer with adaLN-Zero, for (batch, channels, *size).

    The data are cut into cells of `patch` along every axis (a size that it does not divide is
    filled up and cropped again), each a token of `width` channels; `depth` blocks of attention and
    perceptron follow, shifted, scaled and gated by the noise level and the condition: see
    `modulation`. A new network's output is exactly zero.

    channels: of the data. dimensions: 1, 2 or 3. patch: side of a cell. head: channels of an
    attention head, which divide width; by default as many up to 128 as do. expand: width of the
    perceptrons' inner layer, in widths. positions: "rotary" (queries and keys rotated by their
    place along every axis, any size), "sincos" (added to the tokens, any size), "learned" (for data
    of one `size`) or "none". normalise: queries and keys. embedding: width of the noise and
    condition embedding, by default `width`. conditions: see `resolve_conditions`; classes=10 is
    short for one class condition called "class". channels_out: of the output, by default
    `channels`. seed: of the initial weights. Raises InvalidArgument, for data too: of more than
    65,536 cells, smaller than a cell, or of another size than the learned positions.

    Source: Peebles & Xie 2023, sec. 3.2; queries and keys normalised as Dehghani et al. 2023. The
    noise embedding is `Embedding`'s; 1 + scale is learned as one number that starts at 1.
    """

    casts = True

    def __init__(
        self,
        channels: int,
        dimensions: int = 2,
        width: int = 256,
        depth: int = 6,
        patch: int = 2,
        head: int | None = None,
        expand: float = 4.0,
        positions: str = "rotary",
        size: Sequence[int] | None = None,
        normalise: bool = True,
        embedding: int | None = None,
        classes: int | None = None,
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
        channels_out: int | None = None,
        seed: int = 0,
    ) -> None:
        if dimensions not in (1, 2, 3):
            raise InvalidArgument(f"dimensions is {dimensions!r}; known: 1, 2, 3")
        for name, value in (
            ("channels", channels), ("width", width), ("depth", depth), ("patch", patch),
        ):  # fmt: skip
            need_count(name, value)
        head = widest_head(width) if head is None else need_count("head", head)
        check_shape(width, head, expand, positions, dimensions)
        size = _size(size, dimensions, patch, positions)
        embedding = need_count("embedding", width if embedding is None else embedding)
        channels_out = need_count(
            "channels_out", channels if channels_out is None else channels_out
        )
        conditions = resolve_conditions(conditions, classes)
        super().__init__(
            dict(
                channels=channels,
                dimensions=dimensions,
                width=width,
                depth=depth,
                patch=patch,
                head=head,
                expand=expand,
                positions=positions,
                size=size,
                normalise=bool(normalise),
                embedding=embedding,
                conditions=conditions,
                channels_out=channels_out,
                seed=seed,
            )
        )
        self.channels, self.dimensions, self.patch = channels, dimensions, patch
        self.width, self.head, self.positions = width, head, positions
        cell = patch**dimensions
        with seeded(seed):
            self.embed = Embedding(embedding, conditions)
            self.steer = zero_(nn.Linear(embedding, (6 * depth + 2) * width))
            self.enter = nn.Linear(channels * cell, width)
            nn.init.xavier_uniform_(self.enter.weight)
            nn.init.zeros_(self.enter.bias)
            self.place = None if size is None else LearnedPositions(tuple(size), patch, width)
            self.layers = nn.ModuleList(
                TransformerBlock(width, width // head, expand, normalise) for _ in range(depth)
            )
            self.leave = zero_(nn.Linear(width, channels_out * cell))
        with torch.no_grad():
            rows = self.steer.bias.view(-1, width)
            rows[1:-2:3] = 1  # scales
            rows[-1] = 1

    def blocks(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.layers)

    def modulation(
        self, noise_level: Float[Tensor, " rows"], condition: Condition | None
    ) -> list[tuple[Tensor, ...]]:
        """Return shift, scale and gate of every block, twice each, and the last shift and scale.

        All are of shape (rows, 1, width), from one product.
        """
        embedding, dtype = self.embed(noise_level, condition), self.enter.weight.dtype
        if torch.is_autocast_enabled(noise_level.device.type):
            dtype = torch.get_autocast_dtype(noise_level.device.type)
        numbers = self.steer(embedding.to(self.steer.weight.dtype)).to(dtype)
        parts = numbers.unflatten(1, (-1, 1, self.width)).unbind(1)
        return [tuple(parts[at : at + 6]) for at in range(0, len(parts), 6)]

    def forward(
        self,
        x: Float[Tensor, "batch channels *size"],
        noise_level: Float[Tensor, " batch"],
        condition: Condition | None = None,
    ) -> Float[Tensor, "batch channels_out *size"]:
        check_input(x, noise_level, condition, (self.channels, *[None] * self.dimensions))
        size = tuple(x.shape[2:])
        check_cells(size, self.patch)
        cells = tuple(-(-n // self.patch) for n in size)
        *modulations, (shift, scale) = self.batch_modulation(noise_level, condition)
        tokens = to_patches(x, self.patch).flatten(2).transpose(1, 2)
        h = self.enter(tokens.to(self.enter.weight.dtype))
        h, turn = self._placed(h, cells)
        for block, modulation in zip(self.layers, modulations, strict=True):
            h = self.through(block, h, modulation, turn)
        out = self.leave(modulate(h, shift, scale)).to(x.dtype)
        return from_patches(out.transpose(1, 2).unflatten(2, cells), self.patch, size)

    def _placed(self, h: Tensor, cells: tuple[int, ...]) -> tuple[Tensor, Turn | None]:
        """Return the tokens with their positions added, and the rotation of queries and keys.

        The rotation is None unless positions are rotary.
        """
        if self.positions == "rotary":
            return h, rotation(cells, self.head, h.dtype, h.device)
        if self.positions == "sincos":
            return h + sincos(cells, self.width, h.dtype, h.device), None
        return (h if self.place is None else self.place(h, cells)), None


def widest_head(width: int) -> int:
    """Return the largest divisor of a width up to 128, an even one if there is any.

    A CPU multiplies heads of 128 in half the time of twice as many of 64, softmax included.
    """
    fits = [n for n in range(1, min(width, 128) + 1) if width % n == 0]
    return max([n for n in fits if n % 2 == 0] or fits)


def check_shape(width: int, head: int, expand: float, positions: str, dimensions: int) -> None:
    """Raise InvalidArgument for heads that do not fit the width or the positions."""
    if positions not in POSITIONS:
        raise unknown("positions", positions, POSITIONS)
    if width % head:
        fits = max(n for n in range(1, min(head, width) + 1) if width % n == 0)
        raise InvalidArgument(
            f"head is {head}, which does not divide width {width}; make the width a multiple of "
            f"{head}, or use head={fits}"
        )
    if positions == "rotary" and (head % 2 or head < 2 * dimensions):
        raise InvalidArgument(
            f"head is {head}; rotary positions turn pairs of channels, at least one for each of "
            f"{dimensions} axes: give an even head of at least {2 * dimensions}, or "
            "positions='sincos'"
        )
    if isinstance(expand, bool) or not (0 < expand < math.inf and round(expand * width) >= 1):
        raise InvalidArgument(f"expand is {expand!r}; give a positive number such as 4")


def check_cells(size: tuple[int, ...], patch: int) -> None:
    """Raise InvalidArgument for data smaller than one cell, or of more than 65,536 cells."""
    if patch > max(size):
        raise InvalidArgument(
            f"patch is {patch} and the data are {' × '.join(map(str, size))}; give a patch of at "
            f"most {max(size)}"
        )
    count = math.prod(-(-n // patch) for n in size)
    if count > MOST_TOKENS:
        raise InvalidArgument(
            f"data of {' × '.join(map(str, size))} in cells of {patch} are {count:,} tokens, and "
            f"attention costs their square; at most {MOST_TOKENS:,}: give a larger patch"
        )


def _size(
    size: Sequence[int] | None, dimensions: int, patch: int, positions: str
) -> list[int] | None:
    """Return the size of learned positions; None for other positions."""
    if positions != "learned":
        if size is not None:
            raise InvalidArgument(
                f"size is {size!r}, which only learned positions need; positions {positions!r} "
                "take any size: leave size out"
            )
        return None
    if size is None or len(size) != dimensions:
        raise InvalidArgument(
            f"size is {size!r}; learned positions need the size of the data along each of "
            f"{dimensions} axes, such as size={[32] * dimensions}"
        )
    sides = [need_count("size", n) for n in size]
    check_cells(tuple(sides), patch)
    return sides
