"""What the loop says of each update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .guard import Fault
from .outcome import Outcome


@dataclass(frozen=True)
class Update:
    """One update: its number, the samples seen so far, what it came to, the learning rate's share,
    the share of the run that is done.

    note: what else happened that the reader should know. `settle` makes the run judge its last
    update, where that has not been done.
    """

    step: int
    seen: int
    outcome: Outcome
    rate: float
    progress: float
    settle: Callable[[], None]
    note: str | None = None

    @property
    def loss(self) -> Tensor:
        """The mean over the batch, (); on the device until the update is settled."""
        return self.outcome.loss

    @property
    def per_sample(self) -> Tensor:
        """Each sample's loss, (batch,); on the device until the update is settled."""
        return self.outcome.per_sample

    @property
    def t(self) -> Tensor:
        """Each sample's time, (batch,); on the device until the update is settled."""
        return self.outcome.t

    @property
    def gradient_norm(self) -> Tensor:
        """The norm of the gradient before clipping, (); on the device until it is settled."""
        return self.outcome.norm

    @property
    def settled(self) -> bool:
        """Whether it has been judged: where the device is waited for at once, always."""
        return self.outcome.settled

    @property
    def fault(self) -> Fault | None:
        """What went wrong, if anything did; where fault.skipped the update was not made. Waits for
        the device where the update is not settled. None of one that was undone before it was."""
        if not self.settled:
            self.settle()
        return self.outcome.fault
