"""The embedding of noise level and condition: one vector that modulates every block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InvalidArgument, need_count, unknown
from ..fields.condition import Condition
from .network import float_linear

NULLS = ("learned", "zero")
KINDS = ("class", "vector")


def fourier_features(
    level: Float[Tensor, " batch"], count: int, lowest: float = 0.1, highest: float = 100.0
) -> Float[Tensor, "batch count"]:
    """Return sines and cosines of a number: sin(ω_k·level), cos(ω_k·level), in float32.

    ω is geometric from `lowest` to `highest` radians per unit, which resolves a time in [0, 1] to
    1e-3 and spans a log-SNR of ±15. `count` is even and at least 4.
    """
    half = count // 2
    ratio = math.log(highest / lowest) / (half - 1)
    steps = torch.arange(half, dtype=torch.float32, device=level.device)
    angles = level.float()[:, None] * (lowest * torch.exp(steps * ratio))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def resolve_conditions(
    conditions: Mapping[str, Mapping[str, Any]] | None, classes: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return the declared conditions with their defaults written out, after checking them.

    conditions: name -> {"kind": "class", "count": 10, "null": "learned" | "zero"} or
    {"kind": "vector", "width": 8, "null": …}; `classes=10` is short for a class condition called
    "class". Raises InvalidArgument for unknown kinds, keys, nulls and counts below 1.
    """
    declared: dict[str, Mapping[str, Any]] = dict(conditions or {})
    if classes is not None:
        if "class" in declared:
            raise InvalidArgument(
                f"classes is {classes!r} and conditions declares 'class' too; give one of them"
            )
        declared["class"] = {"kind": "class", "count": classes}
    resolved: dict[str, dict[str, Any]] = {}
    for name, given in declared.items():
        if not isinstance(given, Mapping):
            raise InvalidArgument(
                f"condition {name!r} is declared as {given!r}; give a mapping such as "
                '{"kind": "class", "count": 10}'
            )
        kind = given.get("kind")
        if kind not in KINDS:
            raise unknown(f"kind of condition {name!r}:", kind, KINDS)
        size = "count" if kind == "class" else "width"
        for key in given:
            if key not in ("kind", size, "null"):
                raise unknown(f"key of condition {name!r}:", key, ("kind", size, "null"))
        null = given.get("null", "learned")
        if null not in NULLS:
            raise unknown(f"null of condition {name!r}:", null, NULLS)
        count = need_count(f"{size} of condition {name!r}", given.get(size))
        resolved[name] = {"kind": kind, size: count, "null": null}
    return resolved


class NoiseEmbedding(nn.Module):
    """Noise level -> vector: Fourier features, linear, SiLU, linear; all of it in float32."""

    def __init__(self, width: int, features: int = 64) -> None:
        super().__init__()
        self.features = features
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)

    def forward(self, noise_level: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        hidden = float_linear(self.first, fourier_features(noise_level, self.features))
        return float_linear(self.second, nn.functional.silu(hidden))


class ClassEmbedding(nn.Module):
    """Class number -> vector; a learned or a zero vector if `keep` is False."""

    def __init__(self, name: str, count: int, width: int, null: str) -> None:
        super().__init__()
        self.name, self.count, self.null = name, count, null
        self.table = nn.Embedding(count + (null == "learned"), width)

    def forward(self, ids: Tensor, keep: Tensor) -> Float[Tensor, "batch width"]:
        if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex():
            raise InvalidArgument(
                f"condition {self.name!r} has dtype {ids.dtype} and shape {tuple(ids.shape)}; "
                "give one whole number per sample, shape (batch,)"
            )
        ids = ids.long()
        seen = (
            self.training and ids.device.type != "cpu"
        )  # labels of a data set: checking them would wait
        if not torch.compiler.is_compiling() and not seen:
            wrong = keep & ((ids < 0) | (ids >= self.count))
            if bool(wrong.any()):
                raise InvalidArgument(
                    f"condition {self.name!r} holds class {int(ids[wrong][0])}; the network knows "
                    f"0 to {self.count - 1}"
                )
        table = self.table.weight.float()
        if self.null == "learned":
            return table[torch.where(keep, ids, self.count)]
        return table[torch.where(keep, ids, 0)] * keep[:, None]

    def absent(self, batch: int) -> Float[Tensor, "batch width"]:
        """Return the null for every sample."""
        table = self.table.weight.float()
        if self.null == "learned":
            return table[self.count].expand(batch, -1)
        return table.new_zeros(batch, table.shape[1])


class VectorEmbedding(nn.Module):
    """Vector of numbers -> vector by two linear layers with SiLU between.

    A learned or a zero vector if `keep` is False. The data's description scales the numbers to
    about unit variance.
    """

    def __init__(self, name: str, size: int, width: int, null: str) -> None:
        super().__init__()
        self.name, self.size, self.width = name, size, width
        self.first, self.second = nn.Linear(size, width), nn.Linear(width, width)
        self.null = nn.Parameter(torch.randn(width)) if null == "learned" else None

    def forward(self, vector: Tensor, keep: Tensor) -> Float[Tensor, "batch width"]:
        if vector.ndim != 2 or vector.shape[1] != self.size or not vector.is_floating_point():
            raise InvalidArgument(
                f"condition {self.name!r} has dtype {vector.dtype} and shape "
                f"{tuple(vector.shape)}; give floats of shape (batch, {self.size})"
            )
        hidden = nn.functional.silu(float_linear(self.first, vector))
        value = float_linear(self.second, hidden)
        return torch.where(keep[:, None], value, self.absent(len(vector)))

    def absent(self, batch: int) -> Float[Tensor, "batch width"]:
        """Return the null for every sample."""
        if self.null is None:
            return self.second.weight.new_zeros(batch, self.width, dtype=torch.float32)
        return self.null.float().expand(batch, -1)


class Embedding(nn.Module):
    """Noise level and conditions -> one vector per sample, computed in float32.

    SiLU(noise embedding + Σ condition embeddings); a condition of None is the null of every name.
    `conditions` is the result of `resolve_conditions`. Raises InvalidArgument if a condition names
    something undeclared, lacks something declared, or has the wrong shape or range.
    """

    def __init__(self, width: int, conditions: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.noise = NoiseEmbedding(width)
        self.conditions = nn.ModuleDict()
        for name, declared in conditions.items():
            null = declared["null"]
            self.conditions._modules[name] = (  # some names are those of a ModuleDict's methods
                ClassEmbedding(name, declared["count"], width, null)
                if declared["kind"] == "class"
                else VectorEmbedding(name, declared["width"], width, null)
            )

    def forward(
        self, noise_level: Float[Tensor, " batch"], condition: Condition | None
    ) -> Float[Tensor, "batch width"]:
        if condition is not None:
            self._check_names(condition.values)
        with torch.autocast(noise_level.device.type, enabled=False):
            out = self.noise(noise_level)
            for name, part in self.conditions.items():
                if condition is None:
                    out = out + part.absent(len(out))  # type: ignore[operator]
                else:
                    out = out + part(condition.values[name], condition.keep[name])
            return nn.functional.silu(out)

    def _check_names(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                raise InvalidArgument(
                    f"condition {name!r} is a tree of {sorted(value)}; this network takes tensors"
                )
            if name not in self.conditions:
                if not self.conditions:
                    raise InvalidArgument(
                        f"condition {name!r} was given to a network built without conditions; "
                        "drop it or build the network with it"
                    )
                raise unknown("condition", name, self.conditions)
        for name in self.conditions:
            if name not in values:
                raise InvalidArgument(
                    f"condition {name!r} is missing; give every declared condition "
                    f"({', '.join(self.conditions)}), or None for the null of all"
                )
