"""What the loop says of each update."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .guard import Fault


@dataclass(frozen=True)
class Update:
    """One update: its number, the samples seen so far, the mean loss over its batch, the norm of
    the gradient before clipping, the learning rate's share, the share of the run that is done.

    loss, per_sample, t and gradient_norm are tensors still on the device. fault: what went wrong,
    if anything did; where fault.skipped the update was not made. note: what else happened that the
    reader should know.
    """

    step: int
    seen: int
    loss: Tensor
    per_sample: Tensor
    t: Tensor
    gradient_norm: Tensor
    rate: float
    progress: float
    fault: Fault | None = None
    note: str | None = None
