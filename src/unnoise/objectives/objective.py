"""What an objective is: from a model, a batch and the batch's noise to a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..fields import Condition
from ..randomness import Streams, moved


@dataclass(frozen=True)
class Batch:
    """Data to learn from: x0 (batch, *event), and the conditions of each sample by name.

    condition: a `Condition`, or name → tensor (batch, …), from which one is made. source: x1
    (batch, *event), the other end of the path where it is not fresh noise: the partners of x0, or
    samples of another data set for a coupling to rearrange. start, whole: where this is a part of a
    larger batch, the position of its first sample there and that batch's size; None for a batch
    that is whole.
    """

    x0: Tensor
    condition: Condition | None = None
    source: Tensor | None = None
    start: int = 0
    whole: int | None = None

    def __post_init__(self) -> None:
        if self.condition is not None:
            condition = Condition.of(self.condition, len(self.x0)) if self.condition else None
            object.__setattr__(self, "condition", condition)

    def to(self, device: torch.device | str, conditional: bool = True) -> Batch:
        """Return the batch on a device, without its condition unless `conditional`."""
        condition = self.condition if conditional else None
        return replace(
            self,
            x0=moved(self.x0, torch.device(device)),
            condition=None if condition is None else condition.to(device),
            source=None if self.source is None else moved(self.source, torch.device(device)),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; a DataLoader calls this."""
        return replace(
            self,
            x0=self.x0.pin_memory(),
            condition=self.condition and self.condition.map(torch.Tensor.pin_memory),
        )

    @property
    def place(self) -> tuple[int, int]:
        """(start, whole): which part of which batch this is."""
        return self.start, len(self.x0) if self.whole is None else self.whole


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, with each sample's part (batch,) and the time it was taken at."""

    value: Tensor
    per_sample: Tensor
    t: Tensor


class Objective(ABC):
    """A loss of a model on a batch.

    needs: names of further models, which training passes as keyword arguments: "ema" is the model
    itself with its averaged weights, "teacher" a frozen model given to training, and the name of
    another player is that player's model. No gradient reaches the weights of any of them.
    derivatives: how often the network is differentiated in an update, the gradient in its weights
    included: 2 where the loss holds a derivative of the network in its input.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    derivatives: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, model: Any, batch: Batch, noise: Streams) -> Loss:
        """Return the loss of `model` on `batch`. noise: a stream for each sample of the batch.

        An objective with `needs` takes each as a keyword argument of its name.
        """

    def held_out(self) -> Objective:
        """Return this loss as it is measured on data not trained on."""
        return self

    def baseline_loss(self, model: Any, t: Tensor) -> Tensor | None:
        """Return the loss at times t (n,) of the best linear predictor of white data of the model's
        deviation, (n,); None where the loss of that predictor is not known."""
        return None

    def mean_baseline_loss(self, model: Any, seed: int = 0) -> float | None:
        """Return the mean of `baseline_loss` over times that the objective draws; None where that
        is not known or not finite."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, by name, on which later losses depend; a checkpoint holds them."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; raise DataError for tensors that are not of this loss."""
        if state:
            raise DataError(
                f"{type(self).__name__} has no state, and the saved one holds {sorted(state)}; go "
                "on with the objective that wrote it, or start a new run"
            )
