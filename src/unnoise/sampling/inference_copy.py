"""The copy of a trained denoiser that is evaluated for samples."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..fields import Denoiser
from ..networks import Network, frozen
from .precision import NARROW, autocast


@dataclass(frozen=True)
class InferenceCopy:
    """A denoiser to be evaluated without gradients of its weights, in one arithmetic.

    denoiser: around a `frozen` copy of a Network, whose weights are bfloat16 or float16 if
    `precision` is bf16 or fp16, so that nothing is cast at each evaluation; later changes of the
    original's weights do not reach the copy. A network of another kind, or one in these precisions
    that does not declare `casts`, is evaluated itself, under autocast (`copied` is False).
    """

    denoiser: Denoiser
    precision: str
    device: torch.device
    copied: bool

    @classmethod
    def of(cls, denoiser: Denoiser, precision: str) -> InferenceCopy:
        """Return the copy of a denoiser, on the device of its weights."""
        device = next(denoiser.parameters()).device
        network, narrow = denoiser.network, NARROW.get(precision)
        if type(denoiser) is not Denoiser or not isinstance(network, Network):
            return cls(denoiser, precision, device, False)
        if narrow and not network.casts:
            return cls(denoiser, precision, device, False)
        copy = frozen(network, narrow)
        return cls(denoiser.around(copy), precision, device, True)

    def context(self) -> AbstractContextManager[object]:
        """Return the context in which to evaluate the denoiser."""
        return nullcontext() if self.copied else autocast(self.precision, self.device)
