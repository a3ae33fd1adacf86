"""The base of every network: its configuration, its seed and the checks of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InvalidArgument
from ..fields.condition import Condition
from .modulation_cache import ModulationCache

# names of layers, in saved weights too; "steer" computes the modulation
OUTER = frozenset({"embed", "enter", "leave", "steer"})

M = TypeVar("M", bound=nn.Module)


class Network(nn.Module):
    """A module called `network(x, noise_level, condition)` that can be rebuilt from `config()`.

    x is (batch, *event) of unit variance, noise_level (batch,) describes the noise (a time in
    [0, 1] or a log-SNR), condition is a Condition or None, which is the null for every sample.
    The output has x's dtype and size.

    recompute: whether the blocks' inner values are dropped and computed again in the backward
    pass: less memory, about a third more time, the same gradients (Chen et al. 2016). casts:
    whether a class casts its input to its weights' dtype, which may then be bfloat16 for sampling;
    others run under autocast.
    """

    casts: bool = False
    recompute: bool = False
    compiled_call: Callable[..., Any] | None = None  # the caller of blocks: see `compiled`
    modulation_cache: ModulationCache | None = None  # the cache of a frozen copy: see `frozen`

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._config = deepcopy(dict(config))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: plain numbers, strings, lists and dicts."""
        return deepcopy(self._config)

    def blocks(self) -> list[nn.Module]:
        """Return the repeated heavy modules, which are compiled one by one or recomputed."""
        return []

    def modulation(self, noise_level: Float[Tensor, " rows"], condition: Condition | None) -> Any:
        """Return the blocks' modulation by noise level and condition, for one or more samples."""
        raise NotImplementedError

    def batch_modulation(
        self, noise_level: Float[Tensor, " batch"], condition: Condition | None
    ) -> Any:
        """Return `modulation` of a batch.

        It is of one row if all samples share a level and there is no condition.
        """
        if condition is None and noise_level.stride(0) == 0:
            noise_level = noise_level[:1]
        if self.modulation_cache is None:
            return self.modulation(noise_level, condition)
        return self.modulation_cache.recall(self.modulation, noise_level, condition)

    def through(self, block: nn.Module, *args: Any) -> Any:
        """Return block(*args), compiled and recomputed in the backward pass if so set."""
        call = block if self.compiled_call is None else partial(self.compiled_call, block)
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(call, *args, use_reentrant=False, preserve_rng_state=False)
        return call(*args)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return matrices and convolutions between the first layer and the last, which Muon trains.

        Not the layers that enter, leave, embed or modulate (parts of those names), whose rows are
        inputs, outputs or gains of their own.
        """
        return [
            p
            for name, p in self.named_parameters()
            if p.ndim >= 2 and not OUTER.intersection(name.split("."))
        ]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make initial weights depend on `seed` alone; the global generator is left unchanged.

    Raises InvalidArgument for a seed outside [0, 2⁶³).
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InvalidArgument(f"seed is {seed!r}; give a whole number from 0 to 2**63 - 1")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def check_input(
    x: Tensor, noise_level: Tensor, condition: Condition | None, event: tuple[int | None, ...]
) -> None:
    """Raise InvalidArgument unless x is float (batch, *event) and noise_level is (batch,).

    None in `event` stands for any size of at least 1.
    """
    wanted = "(" + ", ".join(["batch", *("any" if n is None else str(n) for n in event)]) + ")"
    shape = tuple(x.shape)
    fits = len(shape) == len(event) + 1 and all(
        got == n if n is not None else got >= 1 for got, n in zip(shape[1:], event, strict=True)
    )
    if not fits:
        raise InvalidArgument(
            f"the network was given x of shape {shape}; it takes {wanted}: "
            "reshape the data or build the network for this shape"
        )
    if not x.is_floating_point():
        raise InvalidArgument(
            f"the network was given x of dtype {x.dtype}; normalise the data to floats first"
        )
    if tuple(noise_level.shape) != (len(x),):
        raise InvalidArgument(
            f"noise_level has shape {tuple(noise_level.shape)}; give one number per sample, "
            f"shape ({len(x)},)"
        )
    if condition is not None and condition.keep and len(condition) != len(x):
        raise InvalidArgument(
            f"the condition describes {len(condition)} samples and x holds {len(x)}; "
            "give one condition per sample"
        )


def zero_(layer: M) -> M:
    """Set a layer's weight and bias to zero, so that its branch adds nothing at the start."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def float_linear(layer: nn.Linear, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
    """Return a linear layer's output in float32, whatever the dtype of its weights."""
    bias = None if layer.bias is None else layer.bias.float()
    return nn.functional.linear(x.float(), layer.weight.float(), bias)
